"""Where guests are kept while they sleep: one file for each, which its tender writes and takes up."""

from hashlib import sha256
from pathlib import Path

from wisp.model.instance import InstanceSpec


class Snapshots:
    """The snapshots of one cloud.

    Args:
        directory: Folder for them, made when missing; nobody else may read there, as guests may know secrets.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def place(self, spec: InstanceSpec, program: str, words: tuple[str, ...]) -> Path:
        """Give where an instance is kept; snapshots of what it was before are removed.

        Args:
            spec: What it is now, with the digest of its image and the fingerprints of its secrets.
            program: The hypervisor; the state of another version is nothing for it.
            words: Its whole command line: the state of one machine is nothing for another.
        """
        place = self._directory / f"{spec.name}@{spec.digest}-{_digest(program, words)}"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.remove(spec.name, but=place)
        return place

    def remove(self, instance: str, *, but: Path | None = None) -> None:
        """Remove the snapshots of an instance; none is fine."""
        for file in self._directory.glob(f"{instance}@*"):
            if file != but:
                file.unlink(missing_ok=True)


def _digest(program: str, words: tuple[str, ...]) -> str:
    status = Path(program).stat()
    told = (*words, str(status.st_size), str(status.st_mtime_ns))
    return sha256("\0".join(told).encode()).hexdigest()[:16]
