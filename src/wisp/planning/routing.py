"""Shortest paths by delay over the graph of hosts.

Dijkstra's algorithm, once per source: O(hosts · links · log hosts) for all. Ties go to fewer links, then to the
host declared first, so that the same description always gives the same routes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

from wisp.model.description import Link


@dataclass(frozen=True, slots=True)
class Hop:
    """One link as seen from one of its ends: to ``host`` (index), over ``link``, in ``delay_us``."""

    host: int
    delay_us: int
    link: Link


class Topology:
    """The graph of hosts.

    Args:
        hosts: Names, in the order that breaks ties.
        links: Links between them; those to other hosts are left out.
    """

    def __init__(self, hosts: Iterable[str], links: Iterable[Link]) -> None:
        self.hosts = tuple(hosts)
        self.index: Mapping[str, int] = {host: index for index, host in enumerate(self.hosts)}
        self._links = tuple(link for link in links if set(link.ends) <= self.index.keys())

    @cached_property
    def _out(self) -> list[list[Hop]]:
        """Give for each host its hops away, the quickest link to each neighbour first."""
        out: list[list[Hop]] = [[] for _ in self.hosts]
        for link in self._links:
            first, second = (self.index[end] for end in link.ends)
            out[first].append(Hop(second, link.forward.delay_us, link))
            out[second].append(Hop(first, link.backward.delay_us, link))
        for hops in out:
            hops.sort(key=lambda hop: (hop.delay_us, hop.host))
        return out

    @cached_property
    def _reverse(self) -> list[list[Hop]]:
        into: list[list[Hop]] = [[] for _ in self.hosts]
        for host, hops in enumerate(self._out):
            for hop in hops:
                into[hop.host].append(Hop(host, hop.delay_us, hop.link))
        return into

    def links_of(self, host: str) -> tuple[Link, ...]:
        """Give the links of a host."""
        return tuple(hop.link for hop in self._out[self.index[host]])

    def first_hops(self, source: str) -> dict[str, Hop]:
        """Give for each host that can be reached from ``source`` the first hop of the quickest path there."""
        _, first = self._search(self.index[source], self._out)
        return {self.hosts[host]: hop for host, hop in first.items()}

    def delays_from(self, source: str) -> dict[str, int]:
        """Give the delay [µs] of the quickest path from ``source`` to each host that can be reached."""
        delays, _ = self._search(self.index[source], self._out)
        return {self.hosts[host]: delay for host, delay in delays.items()}

    def delays_to(self, target: str) -> dict[str, int]:
        """Give the delay [µs] of the quickest path to ``target`` from each host that reaches it."""
        delays, _ = self._search(self.index[target], self._reverse)
        return {self.hosts[host]: delay for host, delay in delays.items()}

    @staticmethod
    def _search(source: int, graph: list[list[Hop]]) -> tuple[dict[int, int], dict[int, Hop]]:
        delays: dict[int, int] = {}
        first: dict[int, Hop] = {}
        queue: list[tuple[int, int, int, int]] = [(0, 0, source, -1)]
        while queue:
            delay, links, host, way = heappop(queue)
            if host in delays:
                continue
            delays[host] = delay
            if way >= 0:
                first[host] = graph[source][way]
            for index, hop in enumerate(graph[host]):
                if hop.host not in delays:
                    heappush(queue, (delay + hop.delay_us, links + 1, hop.host, index if way < 0 else way))
        return delays, first
