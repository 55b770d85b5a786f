"""Instants and durations as integers of nanoseconds, so that adding never loses anything."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time.

    Attributes:
        ns: Length [ns]; may be negative.
    """

    ns: int

    @classmethod
    def of_us(cls, us: float) -> "Duration":
        """Give the duration of so many microseconds."""
        return cls(round(us * 1_000))

    @classmethod
    def of_ms(cls, ms: float) -> "Duration":
        """Give the duration of so many milliseconds."""
        return cls(round(ms * 1_000_000))

    @classmethod
    def of_seconds(cls, seconds: float) -> "Duration":
        """Give the duration of so many seconds."""
        return cls(round(seconds * 1_000_000_000))

    @property
    def ms(self) -> float:
        """Length [ms]."""
        return self.ns / 1_000_000

    @property
    def seconds(self) -> float:
        """Length [s]."""
        return self.ns / 1_000_000_000

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(self.ns + other.ns)

    def __mul__(self, factor: float) -> "Duration":
        return Duration(round(self.ns * factor))


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time, counted from the Unix epoch by whichever clock was handed in.

    Attributes:
        ns: Nanoseconds since the epoch.
    """

    ns: int

    @property
    def seconds(self) -> float:
        """Seconds since the epoch."""
        return self.ns / 1_000_000_000

    def __add__(self, other: Duration) -> "Instant":
        return Instant(self.ns + other.ns)

    def __sub__(self, other: "Instant") -> Duration:
        return Duration(self.ns - other.ns)


class Clock(Protocol):
    """Whoever knows what time it is: the system's clock, or a test's that can jump."""

    def now(self) -> Instant:
        """Give the present instant."""
        ...
