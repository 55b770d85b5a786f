"""The machine's own clock."""

import time

from wisp.primitives.time import Instant


class SystemClock:
    """Wall-clock time; steps when the administrator steps it."""

    def now(self) -> Instant:
        """Give the present instant."""
        return Instant(time.time_ns())


def monotonic_offset_ns() -> int:
    """Give what to add to CLOCK_MONOTONIC to get time since the epoch [ns]; good for one short run."""
    return time.time_ns() - time.monotonic_ns()
