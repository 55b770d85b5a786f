"""The way out: one namespace per cloud, joined to every host that runs somebody who may reach the outside.

It is strict: it knows the way back to those who may go out and to their hosts, and drops what comes from anybody
else. A user-space NAT outside of the cloud takes from it what leaves (see ``docs/decisions``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from wisp.model.description import DeclaredInstance
from wisp.model.network import LinkEnd, Namespace, NextHop, VirtualLink
from wisp.planning.interface import interface

EGRESS = "egress/nat"
# The subnet of index 0 is no host's; the NAT itself is 10.0.2.0/24.
ADDRESS = "10.0.0.1"
_OUT = "egress"


class Egress:
    """What the way out is made of; nothing where nobody may go out.

    Args:
        instances: All that are declared.
        hosts: Host of each instance.
        addresses: Address of each instance.
        gateways: Address of each host.
    """

    def __init__(
        self,
        instances: Iterable[DeclaredInstance],
        hosts: Mapping[str, str],
        addresses: Mapping[str, str],
        gateways: Mapping[str, str],
    ) -> None:
        self._by_host: dict[str, list[str]] = {}
        for instance in instances:
            if instance.egress:
                self._by_host.setdefault(hosts[instance.name], []).append(addresses[instance.name])
        self._gateways = gateways

    def namespaces(self) -> Sequence[Namespace]:
        """Give the namespace."""
        if not self._by_host:
            return ()
        return (Namespace(name=EGRESS, address=f"{ADDRESS}/32", forwards=True, strict=True),)

    def links(self) -> Iterator[VirtualLink]:
        """Give its links to the hosts."""
        for host in self._by_host:
            yield VirtualLink(
                name=f"egress/{host}",
                a=LinkEnd(namespace=f"host/{host}", interface=_OUT, address=f"{self._gateways[host]}/32"),
                b=LinkEnd(namespace=EGRESS, interface=interface("link", host), address=f"{ADDRESS}/32"),
            )

    def routes(self) -> Iterator[tuple[str, str, NextHop]]:
        """Give the ways out of the hosts, and the ways back: namespace, destination, next hop."""
        for host, addresses in self._by_host.items():
            gateway, back = self._gateways[host], interface("link", host)
            yield f"host/{host}", "default", NextHop(_OUT, ADDRESS)
            yield EGRESS, f"{gateway}/32", NextHop(back)
            for address in addresses:
                yield EGRESS, f"{address}/32", NextHop(back, gateway)
