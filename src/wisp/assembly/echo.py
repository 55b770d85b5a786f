"""Asking whether, and by which way, a packet gets from one place of a cloud to another."""

import secrets
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from ipaddress import ip_address

from wisp.assembly.inside import lines_inside
from wisp.assembly.settings import CloudFolder
from wisp.codec import stored
from wisp.model.echo import MAX_REQUESTS, EchoAnswer, EchoOrder, EchoOutcome, Hop, way_of
from wisp.model.network import VirtualLink, ipv6_of
from wisp.model.plan import Plan
from wisp.primitives.errors import StateError, UnknownInstance
from wisp.primitives.time import Duration

MOST_HOPS = 64
TRIES = 3
# Closer together, the kernel's limit of ICMP messages would take some away.
_BETWEEN_TRIES = Duration.of_ms(2)


class Directory:
    """Who is who in a plan.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def namespace(self, name: str) -> str:
        """Give the namespace that a host, router, device or instance is in.

        Raises:
            UnknownInstance: There is none of that name.
        """
        if name not in self._namespaces:
            known = ", ".join(sorted(self._namespaces))
            raise UnknownInstance(f"no host, router, device or instance {name!r}; there are: {known}")
        return self._namespaces[name]

    def address(self, name: str, *, ipv6: bool) -> str:
        """Give an address to ask for by a name, or the one that ``name`` itself is.

        Raises:
            UnknownInstance: Nobody of that name has one.
        """
        if name in self._addresses:
            return ipv6_of(self._addresses[name]) if ipv6 else self._addresses[name]
        try:
            return str(ip_address(name))
        except ValueError:
            known = ", ".join(sorted(self._addresses))
            raise UnknownInstance(f"nobody called {name!r} has an address; there are: {known}") from None

    def name(self, address: str | None) -> str | None:
        """Give who has an address, or the address where nobody of ours has."""
        return None if address is None else self._names.get(address, address)

    def links(self, one: str | None, other: str | None) -> tuple[str, ...]:
        """Give the names of the links that join two, in order."""
        ends = (self._namespaces.get(one or ""), self._namespaces.get(other or ""))
        return tuple(sorted(link.name.removeprefix("link/") for link in self._links.get(frozenset(ends), ())))

    @cached_property
    def _namespaces(self) -> dict[str, str]:
        found = {spec.name: spec.namespace for spec in self._plan.instances}
        return found | {each.name.partition("/")[2]: each.name for each in self._plan.network.namespaces}

    @cached_property
    def _addresses(self) -> dict[str, str]:
        found = {each.name: each.address for each in self._plan.elastic}
        found |= {
            each.name.partition("/")[2]: each.address.removesuffix("/32")
            for each in self._plan.network.namespaces
            if each.address
        }
        return found | {spec.name: spec.address for spec in self._plan.instances if spec.address}

    @cached_property
    def _names(self) -> dict[str, str]:
        names = {address: name for name, address in self._addresses.items()}
        return names | {ipv6_of(address): name for address, name in names.items()}

    @cached_property
    def _links(self) -> dict[frozenset[str | None], list[VirtualLink]]:
        found: defaultdict[frozenset[str | None], list[VirtualLink]] = defaultdict(list)
        for link in self._plan.network.links:
            found[frozenset({link.a.namespace, link.b.namespace})].append(link)
        return found


async def echoes(folder: CloudFolder, namespace: str, order: EchoOrder) -> AsyncIterator[EchoAnswer]:
    """Send what is ordered from a namespace; give what comes of each request as soon as it is known.

    Raises:
        StateError: It is more than can be told apart, or the cloud is down.
    """
    if order.count * len(order.hops) > MAX_REQUESTS:
        raise StateError(f"{order.count} requests are more than can be told apart; send at most {MAX_REQUESTS}")
    argv = [sys.executable, "-m", "wisp.drivers.network.icmp"]
    async with aclosing(lines_inside(folder, namespace, argv, stored.encode(order))) as lines:
        async for line in lines:
            yield stored.decode(line, EchoAnswer)


async def way(folder: CloudFolder, directory: Directory, begin: str, address: str, patience: Duration) -> Sequence[Hop]:
    """Give the stations of the way from a place to an address.

    Raises:
        StateError: The cloud is down.
    """
    order = EchoOrder(
        address=address,
        identity=new_identity(),
        count=TRIES,
        interval=_BETWEEN_TRIES,
        patience=patience,
        hops=tuple(range(1, MOST_HOPS + 1)),
    )
    hops = way_of([answer async for answer in echoes(folder, directory.namespace(begin), order)])
    # Where the place itself knows no way, no address says so.
    names = [begin, *(directory.name(hop.address) or _itself(begin, hop) for hop in hops)]
    return [
        replace(hop, name=name, links=directory.links(before, name))
        for hop, before, name in zip(hops, names, names[1:], strict=False)
    ]


def _itself(begin: str, hop: Hop) -> str | None:
    return begin if hop.outcome is EchoOutcome.UNREACHABLE else None


def new_identity() -> int:
    """Give a number that tells one order's requests from those of another."""
    return secrets.randbelow(1 << 16)
