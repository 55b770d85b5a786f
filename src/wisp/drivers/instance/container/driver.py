"""Runs containers with ``runc`` (or ``crun``), without root, in the instance's own network namespace.

All containers of an image share its files; what one writes goes into memory of its own, and away with it.
"""

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from wisp.drivers.instance.container.bundle import SEARCH_PATH, configuration
from wisp.drivers.instance.container.unpack import Trees, Unpacked
from wisp.drivers.instance.foreign.driver import ForeignFiles
from wisp.drivers.instance.guest import image_of
from wisp.drivers.instance.kept import Command, KeptChildren
from wisp.drivers.keeper.memory import in_memory
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.ports.instance import Capabilities, Exit, Fingerprint
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError
from wisp.primitives.time import Duration

# Options of each runtime, best first: an ordinary user has no cgroup to put a container into.
RUNTIMES = {"runc": ("--rootless", "true"), "crun": ("--cgroup-manager", "disabled")}
INSTALL_RUNC = "sudo apt-get install -y --no-install-recommends runc"
CONFIGURATION_DESCRIPTOR = 3


class ContainerDriver:
    """Starts containers.

    Args:
        children: Spawns them.
        files: Keeps their images.
        trees: Unpacks them.
        native: ``wisp-native``, each container's first process.
        search_path: Where runtimes are looked for.
    """

    def __init__(
        self, children: KeptChildren, files: ForeignFiles, trees: Trees, *, native: Path, search_path: str
    ) -> None:
        self._children, self._files, self._trees = children, files, trees
        self._native, self._search_path = native, search_path

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(kind=Kind.CONTAINER, isolation="namespaces", memory_limit_enforced=False)

    async def fingerprint(self) -> Fingerprint:
        """Say whether there is a runtime."""
        try:
            program, *_ = find_runtime(self._search_path)
        except MissingPrerequisite as missing:
            return Fingerprint(healthy=False, sentence=str(missing), remedy=missing.remedy)
        return Fingerprint(healthy=True, sentence=f"containers run with {program}, without root")

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Unpack the image, if that is not done yet, and spawn the container; see the port."""
        runtime = find_runtime(self._search_path)
        try:
            ready = await asyncio.to_thread(self._unpacked, spec)
            said = json.dumps(configuration(spec, ready.image, secrets)).encode()
        except PermanentDriverError as error:
            raise _about(spec, error) from error
        with in_memory("container", said) as descriptor:
            command = command_of(spec, ready.files, native=self._native, runtime=runtime)
            return await self._children.spawn(spec, command, {CONFIGURATION_DESCRIPTOR: descriptor})

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        return await self._children.ended(handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End it: SIGTERM to its program, then SIGKILL to all of it after ``grace``."""
        await self._children.stop(handle, grace=grace)

    def _unpacked(self, spec: InstanceSpec) -> Unpacked:
        return self._trees.unpacked(self._files.files(image_of(spec))["file"])


def find_runtime(search_path: str) -> tuple[str, ...]:
    """Give the runtime's program with its options.

    Raises:
        MissingPrerequisite: There is none.
    """
    for name, options in RUNTIMES.items():
        if program := shutil.which(name, path=search_path):
            return program, *options
    raise MissingPrerequisite("no runc and no crun on this machine", remedy=INSTALL_RUNC, driver=Kind.CONTAINER)


def command_of(spec: InstanceSpec, files: Path, *, native: Path, runtime: tuple[str, ...]) -> Command:
    """Give the process of a container.

    It sets the container up with the privileges of the cloud, which the container does not get.

    Args:
        spec: What to run; what it writes may take as much memory as it has.
        files: The image's files.
        native: ``wisp-native``.
        runtime: Program and options of the runtime.
    """
    where = ("--tree", str(files), "--room-bytes", str(spec.memory_bytes), "--name", spec.name)
    return Command(
        argv=(str(native), "container", *where, "--", *runtime),
        environment={"PATH": SEARCH_PATH},
        namespace=f"netns/{spec.namespace}",
        privileged=True,
    )


def _about(spec: InstanceSpec, error: PermanentDriverError) -> PermanentDriverError:
    """Give the error with the instance's name in it."""
    if spec.name in str(error):
        return error
    return PermanentDriverError(f"{spec.name}: {error}", driver=spec.kind, operation="start", subject=spec.name)
