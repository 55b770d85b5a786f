"""What went over each link and through each router."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing

from wisp.assembly.inside import connect, lines_inside
from wisp.assembly.settings import CloudFolder
from wisp.codec import stored
from wisp.model.counters import Counters
from wisp.model.network import LinkEnd, VirtualLink
from wisp.model.view import DirectionCounters, RouterCounters

# As many descriptors as a program may be handed anywhere.
_AT_ONCE = 200
_Counted = Mapping[str, Mapping[str, Counters]]


async def counted(folder: CloudFolder, namespaces: Iterable[str]) -> _Counted:
    """Give the counters of every interface, by namespace and name.

    Raises:
        StateError: The cloud is down.
    """
    found: dict[str, Mapping[str, Counters]] = {}
    every = sorted(namespaces)
    for names in (every[begin : begin + _AT_ONCE] for begin in range(0, len(every), _AT_ONCE)):
        async with await connect(folder) as keeper:
            descriptors = await keeper.fetch([f"netns/{name}" for name in names])
        try:
            asked = stored.encode(dict(zip(names, descriptors, strict=True)))
            argv = [sys.executable, "-m", "wisp.drivers.network.counting"]
            async with aclosing(lines_inside(folder, names[0], argv, asked, tuple(descriptors))) as lines:
                async for line in lines:
                    found |= stored.decode(line, dict[str, dict[str, Counters]])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    return found


def by_direction(links: Iterable[VirtualLink], counters: _Counted) -> Iterator[DirectionCounters]:
    """Give what went over links, two rows each."""
    for link in sorted(links, key=lambda each: each.name):
        for first, second in ((link.a, link.b), (link.b, link.a)):
            sent, received = _of(first, counters), _of(second, counters)
            if sent is not None and received is not None:
                yield DirectionCounters(
                    link=link.name.removeprefix("link/"),
                    begin=_name(first),
                    end=_name(second),
                    sent_packets=sent.sent_packets,
                    sent_bytes=sent.sent_bytes,
                    dropped_packets=sent.sent_dropped,
                    arrived_packets=received.received_packets,
                    arrived_bytes=received.received_bytes,
                )


def by_router(routers: Iterable[str], directions: Sequence[DirectionCounters]) -> Iterator[RouterCounters]:
    """Give what went into and out of routers."""
    for router in routers:
        into = [each for each in directions if each.end == router]
        out = [each for each in directions if each.begin == router]
        yield RouterCounters(
            router=router,
            received_packets=sum(each.arrived_packets for each in into),
            received_bytes=sum(each.arrived_bytes for each in into),
            sent_packets=sum(each.sent_packets for each in out),
            sent_bytes=sum(each.sent_bytes for each in out),
            dropped_packets=sum(each.dropped_packets for each in out),
        )


def _of(end: LinkEnd, counters: _Counted) -> Counters | None:
    return counters.get(end.namespace, {}).get(end.interface)


def _name(end: LinkEnd) -> str:
    return end.namespace.partition("/")[2]
