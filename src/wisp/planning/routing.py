"""Shortest paths by delay over the graph of hosts and routers, all of equal cost (equal-cost multipath, RFC 2992).

Dijkstra's algorithm, once per source or target: O(hosts · links · log hosts) for all. Of equally quick paths those of
fewest links count.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from heapq import heappop, heappush

from wisp.model.description import Link

# A cost is a delay [µs] and, below it, a number of links, so that both are compared and added up at once.
_LINKS_BITS = 20
_NODE_BITS = 20
# More ways of equal cost than this do not spread traffic any better.
MAX_WAYS = 32

_Edge = tuple[int, int, tuple[int, ...]]


class Topology:
    """The graph of hosts and routers.

    Args:
        hosts: Names of both.
        links: Links between them; those to others are left out.
    """

    def __init__(self, hosts: Iterable[str], links: Iterable[Link]) -> None:
        self.hosts = tuple(hosts)
        self.index: Mapping[str, int] = {host: index for index, host in enumerate(self.hosts)}
        self.links = tuple(link for link in links if set(link.ends) <= self.index.keys())

    @cached_property
    def _out(self) -> list[list[_Edge]]:
        """Give for each host what leaves it: cost, the other end, and the link as the only one of a tuple."""
        out: list[list[_Edge]] = [[] for _ in self.hosts]
        for number, first, second, there, back in self._costs():
            out[first].append((there, second, (number,)))
            out[second].append((back, first, (number,)))
        return out

    @cached_property
    def _into(self) -> list[list[_Edge]]:
        """Give the same of what comes to each host."""
        into: list[list[_Edge]] = [[] for _ in self.hosts]
        for number, first, second, there, back in self._costs():
            into[second].append((there, first, (number,)))
            into[first].append((back, second, (number,)))
        return into

    def _costs(self) -> Iterator[tuple[int, int, int, int, int]]:
        for number, link in enumerate(self.links):
            first, second = (self.index[end] for end in link.ends)
            yield number, first, second, _cost(link.forward.delay_us), _cost(link.backward.delay_us)

    def links_of(self, host: str) -> list[tuple[int, Link]]:
        """Give the links of a host, each with its number in ``links``."""
        return [(number, self.links[number]) for _, _, (number,) in self._out[self.index[host]]]

    def ways_to(self, target: str) -> dict[str, tuple[int, ...]]:
        """Give for each host from which ``target`` can be reached the links that a quickest path there begins with.

        Links go by their number in ``links``, in order; there are at most ``MAX_WAYS``.
        """
        costs, ways = _search(self.index[target], self._into)
        return {
            self.hosts[host]: found if len(found) == 1 else tuple(sorted(found)[:MAX_WAYS])
            for host, found in enumerate(ways)
            if found and costs[host] is not None
        }

    def delays_from(self, source: str) -> dict[str, int]:
        """Give the delay [µs] of the quickest path from ``source`` to each host that can be reached."""
        return self._delays(_search(self.index[source], self._out)[0])

    def delays_to(self, target: str) -> dict[str, int]:
        """Give the delay [µs] of the quickest path to ``target`` from each host that reaches it."""
        return self._delays(_search(self.index[target], self._into)[0])

    def _delays(self, costs: list[int | None]) -> dict[str, int]:
        return {self.hosts[host]: cost >> _LINKS_BITS for host, cost in enumerate(costs) if cost is not None}


def _cost(delay_us: int) -> int:
    return (delay_us << _LINKS_BITS) + 1


def _search(start: int, edges: list[list[_Edge]]) -> tuple[list[int | None], list[tuple[int, ...]]]:
    """Give the least cost between ``start`` and each host, and the links that reach the host at that cost."""
    costs: list[int | None] = [None] * len(edges)
    ways: list[tuple[int, ...]] = [()] * len(edges)
    costs[start] = 0
    # Cost and host in one number: to compare numbers is quicker than to compare pairs.
    queue, mask = [start], (1 << _NODE_BITS) - 1
    while queue:
        nearest = heappop(queue)
        here, cost = nearest & mask, nearest >> _NODE_BITS
        if cost != costs[here]:
            continue
        for step, host, link in edges[here]:
            there, known = cost + step, costs[host]
            if known is None or there < known:
                costs[host], ways[host] = there, link
                heappush(queue, there << _NODE_BITS | host)
            elif there == known:
                ways[host] += link
    return costs, ways
