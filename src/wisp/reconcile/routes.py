"""The difference between routing tables, in an order in which no packet ever runs in a circle or into nothing.

To each destination, a namespace is given its new next hops once everybody on the new way there has theirs. What is
new then leads only to what is new, and what is old to what is old until it meets something new; neither goes round.
Routes that nobody shall have any more go last.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from wisp.model.action import SetRoutes
from wisp.model.network import NextHops, RoutingTable, VirtualLink, taken

Tables = Mapping[str, RoutingTable]
Peers = Mapping[tuple[str, str], str]
_Change = dict[str, dict[str, NextHops]]


def peers_of(links: Iterable[VirtualLink]) -> dict[tuple[str, str], str]:
    """Give the namespace at the other end, by namespace and interface."""
    peers = {}
    for link in links:
        peers[link.a.namespace, link.a.interface] = link.b.namespace
        peers[link.b.namespace, link.b.interface] = link.a.namespace
    return peers


def without(tables: Tables, gone: Iterable[tuple[str, str]]) -> Tables:
    """Give the tables that are left when the interfaces ``gone``, given by namespace and name, have gone."""
    by_namespace: defaultdict[str, set[str]] = defaultdict(set)
    for namespace, interface in gone:
        by_namespace[namespace].add(interface)
    left = {
        namespace: _left(table, by_namespace[namespace]) if namespace in by_namespace else table
        for namespace, table in tables.items()
    }
    return {namespace: table for namespace, table in left.items() if table}


def _left(table: RoutingTable, gone: set[str]) -> RoutingTable:
    kept = {to: tuple(hop for hop in hops if hop.interface not in gone) for to, hops in table.items()}
    return {to: hops for to, hops in kept.items() if hops}


def route_changes(wanted: Tables, seen: Tables, before: Tables, peers: Peers) -> list[SetRoutes]:
    """Give what brings the tables ``seen`` to ``wanted``. O(size of both + changes · next hops).

    Args:
        wanted: The tables that shall be, without a circle.
        seen: Those that are.
        before: Those that were, before what had to go first.
        peers: Who is at the other end of each interface of ``wanted``.
    """
    puts: _Change = {}
    ends: _Change = {}
    for namespace in sorted(wanted.keys() | seen.keys()):
        there, now = wanted.get(namespace, {}), seen.get(namespace, {})
        if there == now:
            continue
        if put := {to: hops for to, hops in there.items() if now.get(to) != hops}:
            puts[namespace] = put
        if end := dict.fromkeys(now.keys() - there.keys(), ()):
            ends[namespace] = {to: end[to] for to in sorted(end)}
    steps = [*_in_rounds(puts, wanted, before, peers), ends]
    return [
        SetRoutes(namespace=namespace, routes=routes, turn=turn)
        for turn, step in enumerate(steps)
        for namespace, routes in step.items()
    ]


def _in_rounds(puts: _Change, wanted: Tables, before: Tables, peers: Peers) -> Iterator[_Change]:
    """Give changes by when they may be made; those of one round in any order."""
    new = {to for put in puts.values() for to in put}
    known = {to for table in before.values() for to in new & table.keys()}
    rounds: defaultdict[int, _Change] = defaultdict(lambda: defaultdict(dict))
    changing: defaultdict[str, list[str]] = defaultdict(list)
    for namespace, put in puts.items():
        # Nobody has sent anything to a new destination: all of its routes come first, in any order.
        if first := {to: hops for to, hops in put.items() if to not in known}:
            rounds[0][namespace] = first
        for to in known & put.keys():
            changing[to].append(namespace)
    for to, namespaces in changing.items():
        for namespace, number in _changes_ahead(to, namespaces, wanted, peers).items():
            rounds[number][namespace][to] = puts[namespace][to]
    for number in sorted(rounds):
        yield {namespace: rounds[number][namespace] for namespace in sorted(rounds[number])}


def _changes_ahead(to: str, changing: Collection[str], wanted: Tables, peers: Peers) -> dict[str, int]:
    """Give, for each namespace that changes, how many others on its new way do, at most."""
    members = frozenset(changing)
    # Of a namespace's whole way from itself on; those that stay as they are only lead from one change to the next.
    changes: dict[str, int] = {}
    for start in changing:
        path = dict.fromkeys(() if start in changes else (start,))
        while path:
            here = next(reversed(path))
            after = _next(here, wanted.get(here, {}).get(to, ()), peers)
            first = next((each for each in after if each not in changes and each not in path), None)
            if first is not None:
                path[first] = None
            else:
                del path[here]
                changes[here] = (here in members) + max((changes.get(each, 0) for each in after), default=0)
    return {namespace: changes[namespace] - 1 for namespace in changing}


def _next(namespace: str, hops: NextHops, peers: Peers) -> list[str]:
    return [peers[namespace, hop.interface] for hop in taken(hops) if (namespace, hop.interface) in peers]
