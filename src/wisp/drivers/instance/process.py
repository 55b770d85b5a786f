"""Commands as instances: tools, collectors, traffic generators, and what devices run."""

import shutil
from collections.abc import Mapping

from wisp.drivers.instance.kept import Command, KeptChildren
from wisp.drivers.instance.secret import filled_in
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.ports.instance import Capabilities, Exit, Fingerprint
from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.time import Duration

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OPEN_FILES = 4096
PYTHON_PLACEHOLDER = "${python}"


class ProcessDriver:
    """Runs a command in the instance's own network namespace, without any privilege.

    Args:
        children: Spawns them.
        python: What ``${python}`` stands for in a command.
    """

    def __init__(self, children: KeptChildren, *, python: str) -> None:
        self._children, self._python = children, python

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(kind=Kind.PROCESS, isolation="namespaces", memory_limit_enforced=False)

    async def fingerprint(self) -> Fingerprint:
        """Say that it works: the machine runs programs."""
        return Fingerprint(healthy=True, sentence="processes run in network namespaces, without privileges")

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Spawn the command; see the port."""
        return await self._children.spawn(spec, command(spec, secrets, python=self._python))

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        return await self._children.ended(handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End it: SIGTERM, then SIGKILL after ``grace``."""
        await self._children.stop(handle, grace=grace)


def command(spec: InstanceSpec, secrets: Mapping[str, str], *, python: str) -> Command:
    """Give the process of an instance.

    Raises:
        PermanentDriverError: The program does not exist.
    """
    argv = tuple(filled_in(word.replace(PYTHON_PLACEHOLDER, python), secrets) for word in spec.command)
    program = shutil.which(argv[0], path=SEARCH_PATH)
    if program is None:
        raise PermanentDriverError(
            f"{spec.name}: no program {argv[0]!r} on this machine; install it, or give its whole path",
            driver=Kind.PROCESS,
            operation="start",
            subject=spec.name,
        )
    environment = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "WISP_NAME": spec.name}
    environment |= {key: filled_in(value, secrets) for key, value in spec.config}
    return Command(
        argv=(program, *argv[1:]),
        environment=environment,
        namespace=f"netns/{spec.namespace}",
        open_files=OPEN_FILES,
    )
