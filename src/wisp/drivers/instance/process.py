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
NATIVE_PLACEHOLDER = "${wisp-native}"
# Where the command of a door finds its bound socket (see planning.door).
DOOR_DESCRIPTOR = 3


class ProcessDriver:
    """Runs a command in the instance's own network namespace, without any privilege.

    Args:
        children: Spawns them.
        python: What ``${python}`` stands for in a command.
        native: What ``${wisp-native}``, the relay of doors, stands for.
    """

    def __init__(self, children: KeptChildren, *, python: str, native: str) -> None:
        self._children = children
        self._programs = {PYTHON_PLACEHOLDER: python, NATIVE_PLACEHOLDER: native}

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(kind=Kind.PROCESS, isolation="namespaces", memory_limit_enforced=False)

    async def fingerprint(self) -> Fingerprint:
        """Say that it works: the machine runs programs."""
        return Fingerprint(healthy=True, sentence="processes run in network namespaces, without privileges")

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Spawn the command; see the port."""
        return await self._children.spawn(spec, command(spec, secrets, self._programs))

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        return await self._children.ended(handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End it: SIGTERM, then SIGKILL after ``grace``."""
        await self._children.stop(handle, grace=grace)


def command(spec: InstanceSpec, secrets: Mapping[str, str], programs: Mapping[str, str]) -> Command:
    """Give the process of an instance.

    Args:
        spec: What to run.
        secrets: Values of the secrets it names.
        programs: What placeholders for programs stand for.

    Raises:
        PermanentDriverError: The program does not exist.
    """
    argv = tuple(_with_programs(word, programs) for word in spec.command)
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
        held={DOOR_DESCRIPTOR: spec.door.socket} if spec.door else {},
        open_files=OPEN_FILES,
    )


def _with_programs(word: str, programs: Mapping[str, str]) -> str:
    for placeholder, program in programs.items():
        word = word.replace(placeholder, program)
    return word
