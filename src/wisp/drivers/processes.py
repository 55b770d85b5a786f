"""What processes of this machine use, as ``/proc`` tells."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> tuple[int, ...]:
    """Give a process and all that it started; a guest's tender is not alone."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return pid, *(each for child in children for each in process_tree(int(child)))
    return ()


def proportional_set_size(pids: Sequence[int]) -> int | None:
    """Give the memory of processes, shared pages split among their users [byte]; ``None`` when they are gone."""
    total_bytes = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_bytes += int(line.split()[1]) * 1024
    return total_bytes or None


def cpu_seconds(pids: Sequence[int]) -> float | None:
    """Give the processor time that processes have used [s]; ``None`` when they are gone."""
    ticks = []
    for pid in pids:
        with suppress(OSError):
            fields = _stat(pid)
            ticks += [int(fields[11]) + int(fields[12])]
    return sum(ticks) / _TICKS_PER_SECOND if ticks else None


def start_ticks(pid: int) -> int:
    """Give when a process was started [clock ticks since boot].

    Raises:
        OSError: There is none.
    """
    return int(_stat(pid)[19])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
