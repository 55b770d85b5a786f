"""What benchmarks of a whole cloud ask of it, and how they look at its processes from outside."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from wisp.model.observation import Event
from wisp.model.view import CloudStatus, InstanceRow


class BenchFolder(Protocol):
    """A cloud's folder."""

    @property
    def path(self) -> Path:
        """Where its keeper is."""
        ...


class BenchCloud(Protocol):
    """The verbs of :class:`wisp.Cloud` that are measured or measured with."""

    @property
    def folder(self) -> "BenchFolder":
        """What it keeps on disk."""
        ...

    async def up(self) -> list[InstanceRow]:
        """Bring it to what its description says; return when everything answers."""
        ...

    async def down(self) -> None:
        """End it and remove everything of it."""
        ...

    async def ps(self) -> list[InstanceRow]:
        """Give its instances."""
        ...

    async def status(self) -> CloudStatus:
        """Sum it up."""
        ...

    def events(self) -> list[tuple[int, Event]]:
        """Give what happened, oldest first."""
        ...

    async def run(self, where: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a command inside a host or device; give its exit status and all it wrote."""
        ...


CloudFactory = Callable[[Path], BenchCloud]


def tree_cpu_seconds(root: int) -> float:
    """Give the processor time that a process and all its living descendants have used so far [s].

    Read from the processes' own clocks: the clock ticks in ``/proc`` are sampled, and at rest, when all work is short
    and begins with a timer, they show several times what was used.
    """
    parents = {pid: _parent(pid) for pid in _pids()}
    family = {root}
    # Parents may have larger numbers than their children, so one pass over the numbers is not enough.
    while added := {pid for pid, parent in parents.items() if parent in family and pid not in family}:
        family |= added
    return sum(_cpu_ns(pid) for pid in family) / 1e9


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    """Give the parent, or ``None`` for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _cpu_ns(pid: int) -> int:
    """Give what a process and its threads have used so far [ns]; nothing for one that is gone."""
    try:
        # The kernel's number for "processor clock of process pid" (clock_getcpuclockid(3)).
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0
