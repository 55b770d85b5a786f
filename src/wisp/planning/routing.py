"""Shortest paths by delay or weight over the graph of hosts and routers, all of equal cost (equal-cost multipath,
RFC 2992), and where to send what a broken link cannot take (loop-free alternates, RFC 5286).

Dijkstra's algorithm, once per source or target: O(hosts · links · log hosts) for all. Of equally short paths those of
fewest links count.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from heapq import heappop, heappush

from wisp.model.description import DesiredState, Link, LinkShape, RoutingCost

# A cost is a delay [µs] or weight and, below it, a number of links, so that both are compared and added up at once.
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
        by: What a path shall have the least of.
    """

    def __init__(self, hosts: Iterable[str], links: Iterable[Link], by: RoutingCost = RoutingCost.DELAY) -> None:
        self._by = by
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
            yield number, first, second, self._cost(link, link.forward), self._cost(link, link.backward)

    def _cost(self, link: Link, shape: LinkShape) -> int:
        return ((shape.delay_us if self._by is RoutingCost.DELAY else link.weight) << _LINKS_BITS) + 1

    def links_of(self, host: str) -> list[tuple[int, Link]]:
        """Give the links of a host, each with its number in ``links``."""
        return [(number, self.links[number]) for _, _, (number,) in self._out[self.index[host]]]

    def ways_to(self, target: str) -> dict[str, tuple[int, ...]]:
        """Give for each host from which ``target`` can be reached the links that a shortest path there begins with.

        Links go by their number in ``links``, in order; there are at most ``MAX_WAYS``.
        """
        costs, ways = _search(self.index[target], self._into)
        return {
            self.hosts[host]: found if len(found) == 1 else tuple(sorted(found)[:MAX_WAYS])
            for host, found in enumerate(ways)
            if found and costs[host] is not None
        }

    def backups_to(self, target: str, ways: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Give for each host that has only one way to ``target`` the link to a neighbour that goes there without it.

        That neighbour's own shortest paths do not lead back: inequality 1 of RFC 5286. Where no neighbour is such, and
        in rings of four and more there is not always one, the host is left out. Of several the nearest one is taken.

        Args:
            target: Where to.
            ways: What :meth:`ways_to` gives for it.
        """
        to_target = self._costs_to[self.index[target]]
        backups = {}
        for host, links in ways.items():
            if len(links) > 1:
                continue  # the others are there already
            here = self.index[host]
            back = self._costs_to[here]
            best: tuple[int, int] | None = None
            for step, other, (number,) in self._out[here]:
                onward, returned = to_target[other], back[other]
                if number == links[0] or onward is None:
                    continue
                leads_back = returned is not None and onward >= returned + (to_target[here] or 0)
                if not leads_back and (best is None or (step + onward, number) < best):
                    best = step + onward, number
            if best is not None:
                backups[host] = best[1]
        return backups

    @cached_property
    def _costs_to(self) -> list[list[int | None]]:
        """Give the least cost to each host, by that, from every host."""
        return [_search(target, self._into)[0] for target in range(len(self.hosts))]

    def delays_from(self, source: str) -> dict[str, int]:
        """Give the delay [µs] of the shortest path from ``source`` to each host that can be reached.

        Of several that are equally short, but not as quick, the slowest counts.
        """
        return self._delays(source, self._out)

    def delays_to(self, target: str) -> dict[str, int]:
        """Give the delay [µs] of the shortest path to ``target`` from each host that reaches it; as above."""
        return self._delays(target, self._into)

    def _delays(self, start: str, edges: list[list[_Edge]]) -> dict[str, int]:
        costs, ways = _search(self.index[start], edges)
        if self._by is RoutingCost.DELAY:
            return {self.hosts[host]: cost >> _LINKS_BITS for host, cost in enumerate(costs) if cost is not None}
        delays = {self.index[start]: 0}
        for _, host in sorted((cost, host) for host, cost in enumerate(costs) if cost):
            delays[host] = max(self._delay_over(number, host, delays, edges is self._out) for number in ways[host])
        return {self.hosts[host]: delay for host, delay in delays.items()}

    def _delay_over(self, number: int, host: int, delays: Mapping[int, int], is_from_start: bool) -> int:
        """Give the delay between the start and a host whose path ends, or begins, with a link."""
        link = self.links[number]
        is_second = self.index[link.ends[1]] == host
        before = self.index[link.ends[0] if is_second else link.ends[1]]
        shape = link.forward if is_second == is_from_start else link.backward
        return delays[before] + shape.delay_us


def topology_of(desired: DesiredState, links_down: Collection[str] = ()) -> Topology:
    """Give the graph of a cloud's hosts and routers, without the links that are down."""
    links = (link for link in desired.links if link.name not in links_down)
    return Topology(desired.nodes, links, desired.routing.by)


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
