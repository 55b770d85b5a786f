"""What benchmarks of a whole cloud ask of it, and how they look at its processes from outside."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from wisp.model.observation import Event
from wisp.model.view import CloudStatus, InstanceRow


class BenchCloud(Protocol):
    """The verbs of :class:`wisp.Cloud` that are measured or measured with."""

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
    """Give the processor time that a process and all its living descendants have used so far [s]."""
    ticks = {pid: _ticks_and_parent(pid) for pid in _pids()}
    used, family = 0, {root}
    # Parents may have larger numbers than their children, so one pass over the numbers is not enough.
    while added := {pid for pid, found in ticks.items() if found and found[1] in family and pid not in family}:
        family |= added
    used = sum(found[0] for pid, found in ticks.items() if found and pid in family)
    return used / os.sysconf("SC_CLK_TCK")


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _ticks_and_parent(pid: int) -> tuple[int, int] | None:
    """Give used clock ticks and parent, or ``None`` for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[11]) + int(fields[12]), int(fields[1])
