"""A model of routing tables that a change is tried on before it is carried out.

It knows nothing of how the order of a change was found: it follows every packet, after every step.
"""

from collections.abc import Iterable

from wisp.model.action import NetworkAction, RemoveLink, SetRoutes, SwitchLink
from wisp.model.network import Network, NextHops, VirtualLink, taken
from wisp.reconcile.routes import peers_of


def unsafe_step(actions: Iterable[NetworkAction], *, seen: Network, wanted: Network) -> str:
    """Say which step of a change of routes would make a circle or lead into nothing; empty for none.

    A destination's packets may end where they ended before, or where they shall end. What links that must go first
    take with them is lost already and no step's fault; to destinations that nobody has had a route to, nobody sends.
    O(routes + changes · length of a path).
    """
    model = _Model(seen, wanted)
    for action in actions:
        if isinstance(action, SetRoutes):
            if fault := model.set_routes(action):
                return fault
        elif isinstance(action, RemoveLink) and (fault := model.remove_link(action)):
            return fault
        elif isinstance(action, SwitchLink) and action.link.is_down:
            model.drop_routes(action.link)
    return ""


class _Model:
    def __init__(self, seen: Network, wanted: Network) -> None:
        self._tables = {namespace: dict(table) for namespace, table in seen.routes.items()}
        self._wanted = wanted.routes
        self._seen = seen.routes
        self._in_use = {destination for table in seen.routes.values() for destination in table}
        self._peers = peers_of(seen.links) | peers_of(wanted.links)
        self._going = {each.name for each in seen.namespaces} - {each.name for each in wanted.namespaces}
        self._has_begun = False

    def set_routes(self, action: SetRoutes) -> str:
        self._has_begun = True
        table = self._tables.setdefault(action.namespace, {})
        for destination, hops in action.routes.items():
            if hops:
                table[destination] = hops
            else:
                table.pop(destination, None)
        faults = (self._fault(action.namespace, to) for to in action.routes if to in self._in_use)
        return next((fault for fault in faults if fault), "")

    def remove_link(self, action: RemoveLink) -> str:
        lost = self.drop_routes(action.link)
        senders = (name for name in lost if self._has_begun and name not in self._going)
        return next(
            (f"{action.link.name} goes while {name} still sends over it to {lost[name]}" for name in senders), ""
        )

    def drop_routes(self, link: VirtualLink) -> dict[str, str]:
        """Have a link carry nothing any more; give who sent over it, and to where."""
        lost = {}
        for end in (link.a, link.b):
            table = self._tables.get(end.namespace, {})
            for to, hops in list(table.items()):
                left = tuple(hop for hop in hops if hop.interface != end.interface)
                if left != hops:
                    lost[end.namespace] = to
                    table[to] = left
                if not left:
                    del table[to]
        return lost

    def _fault(self, start: str, destination: str) -> str:
        """Follow the packets to a destination from one namespace on, over all of its next hops."""
        on_the_way: dict[str, bool] = {}
        stack = [(start, False)]
        while stack:
            here, is_left = stack.pop()
            if is_left:
                on_the_way[here] = False
                continue
            if on_the_way.get(here):
                return f"packets to {destination} would run in a circle at {here}"
            if here in on_the_way:
                continue
            hops = self._tables.get(here, {}).get(destination, ())
            if not hops and here != start and self._is_hole(here, destination):
                return f"packets to {destination} would end at {here}"
            on_the_way[here] = True
            stack.append((here, True))
            stack += [(self._peers[here, hop.interface], False) for hop in self._over_links(here, hops)]
        return ""

    def _over_links(self, namespace: str, hops: NextHops) -> NextHops:
        return tuple(hop for hop in taken(hops) if (namespace, hop.interface) in self._peers)

    def _is_hole(self, namespace: str, destination: str) -> bool:
        """Whether packets end here that neither ended here before nor shall."""
        return destination in self._wanted.get(namespace, {}) and destination in self._seen.get(namespace, {})
