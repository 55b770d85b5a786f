"""Where guests that nobody wants are put away, and what their snapshots belong to.

A tender writes and reads them (see ``native``); here they get their names, and are removed.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from wisp.drivers.keeper.client import SnapshotPlace
from wisp.model.instance import Handle, InstanceSpec
from wisp.primitives.errors import TransientDriverError

KEY_CHARACTERS = 32
SUFFIX = ".snapshot"


class Snapshots:
    """The snapshots of a cloud: at most one file for each instance, which only its owner can read.

    Args:
        folder: The cloud's own; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, spec: InstanceSpec, command: Sequence[str], identity: str) -> SnapshotPlace:
        """Give an instance's place, after removing what it left when it was another.

        Args:
            spec: Whose snapshot; its digest changes with image, configuration and secrets.
            command: The hypervisor and its words; a changed program counts as another one.
            identity: What the guest is told.

        Raises:
            TransientDriverError: The folder cannot be made.
        """
        path = self._path(spec.name, spec.digest)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in self._folder.glob(f"{spec.name}@*"):
                if other != path:
                    other.unlink(missing_ok=True)
            key = _key(command, identity)
        except OSError as error:
            raise TransientDriverError(
                f"{spec.name}: {self._folder} cannot be prepared for its snapshot: {error.strerror}; make room there",
                driver=spec.kind,
                operation="start",
                subject=spec.name,
            ) from error
        return SnapshotPlace(path=path, key=key)

    def remove(self, handle: Handle) -> None:
        """Remove an instance's snapshot, finished or not; none is fine."""
        path = self._path(handle.instance, handle.spec_digest)
        for each in (path, path.with_name(f"{path.name}.partial")):
            with suppress(OSError):
                each.unlink(missing_ok=True)

    def _path(self, instance: str, spec_digest: str) -> Path:
        return self._folder / f"{instance}@{spec_digest}{SUFFIX}"


def _key(command: Sequence[str], identity: str) -> str:
    status = Path(command[0]).stat()
    text = repr((status.st_size, status.st_mtime_ns, status.st_ino, list(command), identity))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARACTERS]
