"""Namespaces, links, taps and routes: the same values whether planned or observed.

A plan and an observation can so be compared by set difference. Addresses are text in the usual notation, and IPv4
ones; beside each stands the IPv6 address that :func:`ipv6_of` gives, and beside each route the one between those.
"""

from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from wisp.model.description import LinkShape
from wisp.primitives.values import frozen

# A unique local prefix (RFC 4193). Its number is not drawn by lot, "Wisp" in ASCII: the networks of clouds never meet.
IPV6_PREFIX = IPv6Address("fd57:6973:70::")


def ipv6_of(address: str) -> str:
    """Give the IPv6 address that goes with an IPv4 address: the same 32 bits, behind a prefix of 96.

    >>> ipv6_of("10.0.16.2")
    'fd57:6973:70::a00:1002'
    """
    return str(IPv6Address(int(IPV6_PREFIX) + int(IPv4Address(address))))


def mac_of(address: str) -> str:
    """Give the locally administered MAC address that belongs to an IPv4 address.

    >>> mac_of("10.0.16.2")
    '02:00:0a:00:10:02'
    """
    return "02:00:" + ":".join(f"{byte:02x}" for byte in IPv4Address(address).packed)


@frozen
class Namespace:
    """A network namespace: an emulated host's virtual router, a device, a process instance, or the way out.

    Attributes:
        name: As ``host/edge-1``, ``device/co2-1``, ``process/collector``.
        address: Its own address, kept on the loopback interface, as ``10.0.16.1/32``; ``None`` for none.
        forwards: Whether it routes for others.
        strict: Whether it takes a packet only from where it would send the answer (RFC 3704, strict).
    """

    name: str
    address: str | None = None
    forwards: bool = False
    strict: bool = False


@frozen
class LinkEnd:
    """One end of a veth pair.

    Attributes:
        interface: Name inside the namespace, at most 15 characters.
        address: With prefix length, as ``172.16.0.0/31``; ``None`` for unnumbered.
    """

    namespace: str
    interface: str
    address: str | None = None


@frozen
class VirtualLink:
    """A veth pair between two namespaces, shaped in each direction.

    Attributes:
        is_down: Whether its carrier is lost, as a pulled cable's; no route leads over it then.
    """

    name: str
    a: LinkEnd
    b: LinkEnd
    a_to_b: LinkShape = LinkShape()
    b_to_a: LinkShape = LinkShape()
    is_down: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it only carries packets: without rate, delay or loss."""
        return all(shape.rate_bps is None and not shape.is_delayed for shape in (self.a_to_b, self.b_to_a))


@frozen
class Tap:
    """A unikernel's joint: a tap held open in its host's namespace, with a route to the guest.

    The host's hardware address on it is the one that belongs to ``gateway``.

    Attributes:
        name: Name of the instance.
        namespace: Namespace of its host.
        interface: Name inside the namespace, at most 15 characters.
        gateway: The host's address, answered on the tap, as ``10.0.16.1/32``.
        address: The guest's address, without prefix.
        mac: The guest's hardware address, for one that never misses a frame: nobody needs to ask for it then.
    """

    name: str
    namespace: str
    interface: str
    gateway: str
    address: str
    mac: str | None = None


class NextHop(NamedTuple):
    """Where a packet goes next.

    Attributes:
        interface: What it leaves by.
        via: Address at the other end, reached on-link; ``None`` where the destination itself is there.
        is_backup: Whether it is taken only while there is no other; the kernel then leads there by itself.
    """

    interface: str
    via: str | None = None
    is_backup: bool = False


# Several take turns, flow by flow (equal-cost multipath). In order, a backup, of which there is one at most, last.
NextHops: TypeAlias = tuple[NextHop, ...]
# By destination, as ``10.0.32.0/20`` or ``default``. What a namespace sends so comes from its own address.
RoutingTable: TypeAlias = Mapping[str, NextHops]


def taken(hops: NextHops) -> NextHops:
    """Give those that packets take: all but the backup, or else that.

    >>> taken((NextHop("l-a"), NextHop("l-b", None, True)))
    (NextHop(interface='l-a', via=None, is_backup=False),)
    """
    return hops[:-1] if len(hops) > 1 and hops[-1].is_backup else hops


@frozen
class VirtualAddress:
    """An address that no instance has: each new connection to it is led to one of its members, in turn.

    Every namespace leads those that come from its own devices and instances, so each may have other members.

    Attributes:
        namespace: Namespace of a host.
        address: Without prefix.
        members: Addresses of instances; at least one.
    """

    namespace: str
    address: str
    members: tuple[str, ...]


@frozen
class Network:
    """All of a cloud's network, planned or observed.

    Attributes:
        routes: Of each namespace that has any.
    """

    namespaces: frozenset[Namespace] = frozenset()
    links: frozenset[VirtualLink] = frozenset()
    taps: frozenset[Tap] = frozenset()
    routes: Mapping[str, RoutingTable] = field(default_factory=dict)
    virtual_addresses: frozenset[VirtualAddress] = frozenset()
