"""Echo requests (RFC 792, RFC 4443) and what comes of them."""

from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from statistics import median

from wisp.primitives.time import Duration
from wisp.primitives.values import frozen

# How far the numbers of the requests of one order go: 16 bits on the wire.
MAX_REQUESTS = 1 << 16


class EchoOutcome(StrEnum):
    """What came of one request."""

    REPLY = "reply"
    EXPIRED = "expired"
    UNREACHABLE = "unreachable"
    LOST = "lost"


@frozen
class EchoOrder:
    """What to send.

    Attributes:
        address: To whom, IPv4 or IPv6.
        identity: What tells these requests from those of others; 16 bits.
        count: How many for each of ``hops``; at most ``MAX_REQUESTS`` altogether.
        interval: From one to the next.
        patience: How long the last ones are waited for.
        hops: How many hops they live; 0 for as many as usual.
    """

    address: str
    identity: int
    count: int
    interval: Duration
    patience: Duration
    hops: tuple[int, ...] = (0,)


@frozen
class EchoAnswer:
    """What came of one request.

    Attributes:
        number: Of the request, from 0.
        hops: How many it was to live; 0 for as many as usual.
        by: Who answered; ``None`` for nobody.
        round_trip_ms: From sending to the kernel's receiving [ms].
    """

    number: int
    hops: int
    outcome: EchoOutcome
    by: str | None = None
    round_trip_ms: float | None = None


@frozen
class PingSummary:
    """What came of all requests.

    Attributes:
        lost_percent: Of those sent, without a reply [%].
        shortest_ms, median_ms, longest_ms: Round trips [ms]; ``None`` without any.
    """

    sent: int
    received: int
    lost_percent: float
    shortest_ms: float | None = None
    median_ms: float | None = None
    longest_ms: float | None = None


@frozen
class Hop:
    """One station on the way of a packet.

    Attributes:
        number: From 1.
        name: Its name in the cloud, or its address where it has none; ``None`` where nobody answered.
        address: Where the answers come from.
        links: The links that may have led there; more than one where several join the same two.
        round_trip_ms: The shortest [ms]; ``None`` where nobody answered.
        added_ms: How much longer that is than to the last one before that answered [ms].
        outcome: Whether it is the one asked for, one on the way, or one that knows no way.
    """

    number: int
    name: str | None
    address: str | None
    links: tuple[str, ...]
    round_trip_ms: float | None
    added_ms: float | None
    outcome: EchoOutcome


def summary(answers: Iterable[EchoAnswer]) -> PingSummary:
    """Sum answers up.

    >>> summary([EchoAnswer(number=0, hops=0, outcome=EchoOutcome.LOST)]).lost_percent
    100.0
    """
    every = list(answers)
    times = [
        each.round_trip_ms for each in every if each.outcome is EchoOutcome.REPLY and each.round_trip_ms is not None
    ]
    lost = 100 * (len(every) - len(times)) / len(every) if every else 0.0
    if not times:
        return PingSummary(sent=len(every), received=0, lost_percent=lost)
    return PingSummary(
        sent=len(every),
        received=len(times),
        lost_percent=lost,
        shortest_ms=min(times),
        median_ms=median(times),
        longest_ms=max(times),
    )


def way_of(answers: Iterable[EchoAnswer]) -> list[Hop]:
    """Give the stations on the way, nearest first, by the shortest round trip to each; without names and links.

    It ends with the first that is asked for, or says that there is no way; what nobody answered after the last that
    did is left out.
    """
    by_hops: defaultdict[int, list[EchoAnswer]] = defaultdict(list)
    for answer in answers:
        by_hops[answer.hops].append(answer)
    way: list[Hop] = []
    before_ms = 0.0
    for number in sorted(by_hops):
        best = min(by_hops[number], key=_quickness)
        added_ms = None if best.round_trip_ms is None else best.round_trip_ms - before_ms
        way.append(
            Hop(
                number=number,
                name=best.by,
                address=best.by,
                links=(),
                round_trip_ms=best.round_trip_ms,
                added_ms=added_ms,
                outcome=best.outcome,
            )
        )
        before_ms = before_ms if best.round_trip_ms is None else best.round_trip_ms
        if best.outcome in (EchoOutcome.REPLY, EchoOutcome.UNREACHABLE):
            return way
    while way and way[-1].outcome is EchoOutcome.LOST:
        way.pop()
    return way


def _quickness(answer: EchoAnswer) -> tuple[bool, float]:
    return answer.outcome is EchoOutcome.LOST, answer.round_trip_ms or 0.0
