"""When a fault is down, and what a degraded link still does."""

import pytest

from wisp.model.description import LinkShape
from wisp.model.fault import Degradation, Fault, FaultAction, FaultKind
from wisp.primitives.time import Duration, Instant

SINCE = Instant(1_000)


def fault(action: FaultAction, period: Duration | None = None) -> Fault:
    return Fault(kind=FaultKind.LINK, name="a", action=action, since=SINCE, period=period)


def test_down_lasts_and_degraded_is_not_down():
    assert fault(FaultAction.DOWN).is_down(now=Instant(10**18))
    assert fault(FaultAction.DOWN).changes_at(now=SINCE) is None
    assert not fault(FaultAction.DEGRADE).is_down(now=SINCE)


@pytest.mark.parametrize(("at", "down", "next_at"), [(1_000, True, 1_010), (1_009, True, 1_010), (1_010, False, 1_020),
                                                     (1_019, False, 1_020), (1_020, True, 1_030)])  # fmt: skip
def test_one_that_flaps_is_down_first_and_says_when_it_changes(at, down, next_at):
    flaps = fault(FaultAction.FLAP, Duration(10))
    assert flaps.is_down(now=Instant(at)) == down
    assert flaps.changes_at(now=Instant(at)) == Instant(next_at)


def test_a_clock_that_was_set_back_leaves_it_down():
    assert fault(FaultAction.FLAP, Duration(10)).is_down(now=Instant(5))


def test_a_degraded_link_is_never_better_than_declared():
    declared = LinkShape(rate_bps=1_000_000, delay_us=5, jitter_us=3, loss_ppm=500_000, queue_packets=7)
    worse = Degradation(delay_us=10, loss_ppm=500_000, rate_bps=2_000_000)
    assert worse.of(declared) == LinkShape(
        rate_bps=1_000_000, delay_us=15, jitter_us=3, loss_ppm=750_000, queue_packets=7
    )
    assert Degradation(rate_bps=9_000).of(LinkShape()) == LinkShape(rate_bps=9_000)
    assert Degradation(loss_ppm=1_000_000).of(declared).loss_ppm == 1_000_000
