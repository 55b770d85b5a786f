"""What faults make of the network and the instances that were planned."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from wisp.model.fault import Fault, FaultAction, FaultKind, names_down
from wisp.model.instance import InstanceSpec
from wisp.model.network import LinkEnd, Network, VirtualLink
from wisp.primitives.time import Instant
from wisp.reconcile.routes import without


class Affliction:
    """Faults as they are at one moment.

    A host that is down has lost its namespace and all in it, as a machine without power; a device beside it has not.

    Args:
        faults: Sites already taken apart into hosts.
        now: The time.
    """

    def __init__(self, faults: Sequence[Fault], *, now: Instant) -> None:
        self._hosts = names_down(faults, FaultKind.HOST, now=now)
        self._processes = names_down(faults, FaultKind.PROCESS, now=now)
        self._links = names_down(faults, FaultKind.LINK, now=now)
        self._degraded = {
            fault.name: fault.degradation
            for fault in faults
            if fault.action is FaultAction.DEGRADE and fault.degradation is not None
        }
        self._any = bool(faults)
        self.due = tuple(at for fault in faults if (at := fault.changes_at(now=now)) is not None)

    def reason_against(self, spec: InstanceSpec) -> str:
        """Say why an instance cannot run; empty when nothing is against it."""
        if spec.name in self._processes:
            return f"a fault holds {spec.name} down"
        if spec.host in self._hosts and not spec.namespace.startswith("device/"):
            return f"a fault holds {spec.host} down"
        return ""

    def network(self, planned: Network) -> Network:
        """Give what is left of a planned network. O(size of the network), nothing without a fault."""
        if not self._any:
            return planned
        gone = {f"host/{host}" for host in self._hosts}
        cut = [link for link in planned.links if gone & {link.a.namespace, link.b.namespace}]
        links = [self._link(link) for link in planned.links.difference(cut)]
        dead = _places([*cut, *(link for link in links if link.is_down)])
        return replace(
            planned,
            namespaces=frozenset(each for each in planned.namespaces if each.name not in gone),
            links=frozenset(links),
            taps=frozenset(tap for tap in planned.taps if tap.namespace not in gone),
            routes=without({name: table for name, table in planned.routes.items() if name not in gone}, dead),
            virtual_addresses=frozenset(each for each in planned.virtual_addresses if each.namespace not in gone),
        )

    def _link(self, link: VirtualLink) -> VirtualLink:
        name = link.name.removeprefix("link/")
        if name in self._links:
            return replace(link, is_down=True)
        if worse := self._degraded.get(name):
            return replace(link, a_to_b=worse.of(link.a_to_b), b_to_a=worse.of(link.b_to_a))
        return link


def _places(links: Iterable[VirtualLink]) -> set[tuple[str, str]]:
    ends: list[LinkEnd] = [end for link in links for end in (link.a, link.b)]
    return {(end.namespace, end.interface) for end in ends}
