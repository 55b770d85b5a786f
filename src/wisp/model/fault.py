"""What is broken on purpose, and for how long: a record that whoever keeps the cloud as planned must respect."""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from wisp.model.description import LinkShape
from wisp.primitives.time import Duration, Instant
from wisp.primitives.values import frozen

MILLION = 1_000_000


class FaultKind(StrEnum):
    """What breaks."""

    LINK = "link"
    HOST = "host"
    SITE = "site"
    PROCESS = "process"


class FaultAction(StrEnum):
    """How it breaks; ``up`` is no fault but its end."""

    DOWN = "down"
    FLAP = "flap"
    DEGRADE = "degrade"


@frozen
class Degradation:
    """What a degraded link does beyond what it was declared to do, in each direction.

    Attributes:
        delay_us: Added to its delay [µs].
        loss_ppm: Random loss of what it would have delivered [1/1,000,000].
        rate_bps: Upper bound of its rate [bit/s]; ``None`` leaves it.
    """

    delay_us: int = 0
    loss_ppm: int = 0
    rate_bps: int | None = None

    def of(self, shape: LinkShape) -> LinkShape:
        """Give what is left of a shape; independent losses multiply."""
        delivered = (MILLION - shape.loss_ppm) * (MILLION - self.loss_ppm) // MILLION
        rates = [rate for rate in (shape.rate_bps, self.rate_bps) if rate is not None]
        return replace(
            shape,
            delay_us=shape.delay_us + self.delay_us,
            loss_ppm=MILLION - delivered,
            rate_bps=min(rates, default=None),
        )


@frozen
class Fault:
    """One thing that is broken.

    Attributes:
        kind, name: What; there is one fault of it at most. A device's access link goes by ``device/NAME``.
        since: When it began.
        period: Of one that flaps: down for this long, then up for as long, and so on.
        degradation: Of one that degrades.
    """

    kind: FaultKind
    name: str
    action: FaultAction
    since: Instant
    period: Duration | None = None
    degradation: Degradation | None = None

    @property
    def subject(self) -> str:
        """What is broken, as ``link a--b``."""
        return f"{self.kind} {self.name}"

    def is_down(self, *, now: Instant) -> bool:
        """Whether it is down at ``now``; one that is only degraded never is."""
        match self.action:
            case FaultAction.DOWN:
                return True
            case FaultAction.FLAP:
                return self._half_periods(now) % 2 == 0
            case FaultAction.DEGRADE:
                return False

    def changes_at(self, *, now: Instant) -> Instant | None:
        """Give when, after ``now``, it goes down or up by itself; ``None`` for never."""
        if self.period is None:
            return None
        return self.since + self.period * (self._half_periods(now) + 1)

    def _half_periods(self, now: Instant) -> int:
        assert self.period is not None  # noqa: S101 - whoever flaps has one
        return max(0, (now - self.since).ns) // self.period.ns


def names_down(faults: Iterable[Fault], kind: FaultKind, *, now: Instant) -> set[str]:
    """Give the names of one kind that are down at ``now``."""
    return {fault.name for fault in faults if fault.kind is kind and fault.is_down(now=now)}
