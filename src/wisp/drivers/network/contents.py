"""What the kernel has: read from each namespace, then put together to the network that it is."""

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from errno import ENOENT
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TypeAlias

from wisp.drivers.network import message as m
from wisp.drivers.network import nexthops as nh
from wisp.drivers.network.alias import LinkAlias, TapAlias, read_alias
from wisp.drivers.network.netlink import NetlinkError, NetlinkSocket, as_number, as_text, attributes, number
from wisp.model.counters import Counters
from wisp.model.description import LinkShape
from wisp.model.network import (
    LinkEnd,
    Namespace,
    Network,
    NextHop,
    NextHops,
    RoutingTable,
    Tap,
    VirtualAddress,
    VirtualLink,
)
from wisp.primitives.values import frozen

LOOPBACK = 1
# Queues of a namespace are numbered as its interfaces; those for ICMP from here on.
ICMP_QUEUES = 1 << 15
_HOST_SCOPE = 254
_RP_FILTER = slice(28, 32)
_PROTOCOL = 5
_ATTRIBUTE = struct.Struct("=HH")
_OURS = (m.ROUTE_OF_PLAN, m.ROUTE_TO_GUEST, m.ROUTE_OF_BACKUP)
# Our number of next hops by prefix length and packed address of a destination.
_Numbers: TypeAlias = dict[tuple[int, bytes], int]
_CARRIED = m.IS_UP | m.HAS_CARRIER
_NO_SHAPE = LinkShape(queue_packets=0)


@frozen
class Interface:
    """A network interface.

    Attributes:
        purpose: What its alias says; ``None`` where it is none of ours.
        has_carrier: Whether it is up and so is the other end.
        forwards: Whether what arrives here is routed on.
        strict: Whether what arrives here must come from where the answer would go.
        address: The first address beyond the loopback's own, with prefix length.
        rate_bps: Rate limit of what leaves [bit/s], rounded down to whole bytes; ``None`` for none.
        queue_packets: Packets that may wait for the rate limit; ``None`` without one.
        arrivals_queue: Number of the delay line's queue that takes what arrives, but ICMP; ``None`` for none.
        departures_queue: Number of the one that takes the ICMP that leaves.
    """

    index: int
    name: str
    purpose: LinkAlias | TapAlias | None
    has_carrier: bool
    forwards: bool
    strict: bool = False
    address: str | None = None
    rate_bps: int | None = None
    queue_packets: int | None = None
    arrivals_queue: int | None = None
    departures_queue: int | None = None


@frozen
class Contents:
    """What one namespace has.

    Attributes:
        interfaces: By index.
        routes: Those of the main table that are ours and lead to what is right here.
        table: The planned ones.
        hops: Our number of each next hop.
        idle: Numbers of those that no route has.
        last_hop: The highest number, of these or any other.
        members: Where each virtual address leads.
    """

    interfaces: Mapping[int, Interface]
    routes: tuple[m.KernelRoute, ...] = ()
    table: RoutingTable = field(default_factory=dict)
    hops: Mapping[NextHops, int] = field(default_factory=dict)
    idle: frozenset[int] = frozenset()
    last_hop: int = 0
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_contents(netlink: NetlinkSocket, families: Sequence[m.Family]) -> Contents:
    """Read one namespace; the rules are left out. What is not there in every family is not there.

    Raises:
        NetlinkError: The kernel refused.
    """
    addresses = _read_addresses(netlink, families)
    limits = _read_limits(netlink)
    interfaces = {}
    for body in netlink.dump(m.GET_LINK, m.LINK_HEADER.pack(0, 0, 0, 0, 0) + number(m.IFLA_EXT_MASK, m.SKIP_STATS)):
        one = _interface(body)
        rate_bps, queue_packets = limits.get(one.index, (None, None))
        interfaces[one.index] = replace(
            one, address=addresses.get(one.index), rate_bps=rate_bps, queue_packets=queue_packets
        )
    return _with_routes(Contents(interfaces=interfaces), netlink, families)


def read_counters(netlink: NetlinkSocket) -> dict[str, Counters]:
    """Give the counters of one namespace by interface name.

    Raises:
        NetlinkError: The kernel refused.
    """
    counters, limited = {}, _read_drops(netlink)
    for body in netlink.dump(m.GET_LINK, m.LINK_HEADER.pack(0, 0, 0, 0, 0)):
        found = attributes(body, m.LINK_HEADER.size)
        received, sent, received_bytes, sent_bytes, _, _, received_dropped, sent_dropped = struct.unpack_from(
            "=8Q", found[m.IFLA_STATS64]
        )
        counters[as_text(found[m.IFLA_IFNAME])] = Counters(
            received_packets=received,
            sent_packets=sent,
            received_bytes=received_bytes,
            sent_bytes=sent_bytes,
            received_dropped=received_dropped,
            sent_dropped=sent_dropped + limited.get(m.LINK_HEADER.unpack_from(body)[2], 0),
        )
    return counters


def _read_drops(netlink: NetlinkSocket) -> dict[int, int]:
    """Give how many packets the rate limit has dropped, by interface index."""
    drops = {}
    for body in netlink.dump(m.GET_QDISC, m.QDISC_HEADER.pack(0, 0, 0, 0, 0)):
        _, index, handle, _, _ = m.QDISC_HEADER.unpack_from(body)
        if handle == m.TBF_HANDLE:
            _, _, drops[index] = m.QDISC_STATS.unpack_from(attributes(body, m.QDISC_HEADER.size)[m.TCA_STATS])
    return drops


def _interface(body: bytes) -> Interface:
    _, _, index, flags, _ = m.LINK_HEADER.unpack_from(body)
    found = attributes(body, m.LINK_HEADER.size)
    conf = attributes(attributes(found.get(m.IFLA_AF_SPEC, b"")).get(2, b"")).get(m.IFLA_INET_CONF, bytes(32))
    return Interface(
        index=index,
        name=as_text(found[m.IFLA_IFNAME]),
        purpose=read_alias(as_text(found.get(m.IFLA_IFALIAS, b""))),
        has_carrier=flags & _CARRIED == _CARRIED,
        forwards=bool(as_number(conf[:4])),
        strict=as_number(conf[_RP_FILTER]) == 1,
    )


def _read_addresses(netlink: NetlinkSocket, families: Sequence[m.Family]) -> dict[int, str]:
    """Give the first address by interface index."""
    first, *others = ([*_addresses(netlink, family)] for family in families)
    everywhere = set(first).intersection(*others)
    addresses: dict[int, str] = {}
    for index, address in first:
        if (index, address) in everywhere:
            addresses.setdefault(index, address)
    return addresses


def _addresses(netlink: NetlinkSocket, family: m.Family) -> Iterator[tuple[int, str]]:
    for body in netlink.dump(m.GET_ADDRESS, m.ADDRESS_HEADER.pack(family.number, 0, 0, 0, 0)):
        _, prefix_length, _, scope, index = m.ADDRESS_HEADER.unpack_from(body)
        found = attributes(body, m.ADDRESS_HEADER.size)
        local = family.ipv4_of(found.get(m.IFA_LOCAL) or found[m.IFA_ADDRESS])
        if scope != _HOST_SCOPE and local is not None:
            yield index, f"{local}/{prefix_length - family.prefix_bits}"


def _with_routes(contents: Contents, netlink: NetlinkSocket, families: Sequence[m.Family]) -> Contents:
    interfaces = contents.interfaces
    own = (interfaces[LOOPBACK].address or "").partition("/")[0] or None
    (first, members), *others = (
        _read_hops(netlink, family, place, interfaces) for place, family in enumerate(families)
    )
    hops = {ours: each for ours, each in first.items() if all(each == other.get(ours) for other, _ in others)}
    seen = [_family_routes(netlink, family, place, own) for place, family in enumerate(families)]
    (single, _, _), *rest = seen
    everywhere = set(single).intersection(*(other for other, _, _ in rest))
    table = _with_backups(
        _in_all([planned for _, planned, _ in seen], hops), _in_all([backups for _, _, backups in seen], hops)
    )
    used = {ours for _, planned, backups in seen for each in (planned, backups) for ours in each.values()}
    idle = first.keys() - used.union(*(members[ours] for ours in used & members.keys()))
    return replace(
        contents,
        routes=tuple(route for route in single if route in everywhere),
        table=table,
        hops={each: ours for ours, each in hops.items()},
        idle=frozenset(idle),
        last_hop=max((0, *first, *(ours for other, _ in others for ours in other))),
    )


def _in_all(by_family: Sequence[_Numbers], hops: Mapping[int, NextHops]) -> dict[str, NextHops]:
    """Give the next hops of destinations that have the same in every family."""
    first, *rest = by_family
    return {
        _destination(*where): hops[ours]
        for where, ours in first.items()
        if ours in hops and all(other.get(where) == ours for other in rest)
    }


def _with_backups(table: dict[str, NextHops], backups: Mapping[str, NextHops]) -> dict[str, NextHops]:
    # Values that are alike are the same object, as whoever compares tables relies on.
    joined: dict[tuple[NextHops, NextHops], NextHops] = {}
    for to, hops in backups.items():
        pair = table.get(to, ()), (hops[0]._replace(is_backup=True),)
        table[to] = joined.setdefault(pair, pair[0] + pair[1])
    return table


def _family_routes(
    netlink: NetlinkSocket, family: m.Family, place: int, own: str | None
) -> tuple[list[m.KernelRoute], _Numbers, _Numbers]:
    """Give those of our routes that are in a family's main table: single ones, and next hops by destination, of plain
    routes and of backups.
    """
    single: list[m.KernelRoute] = []
    planned: _Numbers = {}
    backups: _Numbers = {}
    header = m.ROUTE_HEADER.pack(family.number, 0, 0, 0, m.MAIN_TABLE, 0, 0, 0, 0)
    before = len(family.prefix)
    try:
        for body in netlink.dump(m.GET_ROUTE, header):
            if body[_PROTOCOL] not in _OURS:
                continue
            packed, rest = _apart(body)
            if packed[:before] != (family.prefix if packed else b""):
                continue
            where = body[1] - (family.prefix_bits if packed else 0), packed[before:]
            index, kernel, source = _rest(rest, family)
            if kernel == 0:
                single.append(m.KernelRoute(_destination(*where), index, source, body[_PROTOCOL]))
            elif source == own and kernel % 2 == place:
                (backups if body[_PROTOCOL] == m.ROUTE_OF_BACKUP else planned)[where] = kernel // 2
    except NetlinkError as error:
        if error.errno != ENOENT:  # a namespace that never had a route has no table for them
            raise
    return single, planned, backups


def _apart(body: bytes) -> tuple[bytes, bytes]:
    """Give the destination of a route, empty for the default one, and all of its other attributes."""
    start = m.ROUTE_HEADER.size
    while start + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        end = start + ((length + 3) & ~3)
        if kind == m.RTA_DST:
            return body[start + _ATTRIBUTE.size : start + length], body[m.ROUTE_HEADER.size : start] + body[end:]
        start = end if length else len(body)
    return b"", body[m.ROUTE_HEADER.size :]


# There are far fewer next hops than routes with them; and far fewer destinations.
@lru_cache(maxsize=1 << 16)
def _rest(rest: bytes, family: m.Family) -> tuple[int, int, str | None]:
    """Give the index, the number of the next hops (0 for none) and the source of a route."""
    found = attributes(rest)
    source = family.ipv4_of(found[m.RTA_PREFSRC]) if m.RTA_PREFSRC in found else None
    index, kernel = (as_number(found.get(kind, b"")) for kind in (m.RTA_OIF, nh.RTA_NH_ID))
    return index, kernel, None if source is None else str(source)


@lru_cache(maxsize=1 << 16)
def _destination(prefix_length: int, packed: bytes) -> str:
    return f"{IPv4Address(packed)}/{prefix_length}" if packed else "default"


def _read_hops(
    netlink: NetlinkSocket, family: m.Family, place: int, interfaces: Mapping[int, Interface]
) -> tuple[dict[int, NextHops], dict[int, set[int]]]:
    """Give the next hops of a family by our number, and the members of groups likewise."""
    singles: dict[int, NextHops] = {}
    groups: dict[int, list[int]] = {}
    for body in netlink.dump(nh.GET_NEXTHOP, nh.HEADER.pack(0, 0, 0, 0, 0)):
        found = attributes(body, nh.HEADER.size)
        kernel = as_number(found[nh.NHA_ID])
        index = as_number(found.get(nh.NHA_OIF, b""))
        if body[2] != m.ROUTE_OF_PLAN or kernel % 2 != place:
            continue
        if nh.NHA_GROUP in found:
            groups[kernel] = [member for member, _, _, _ in nh.MEMBER.iter_unpack(found[nh.NHA_GROUP])]
        elif index in interfaces:
            via = family.ipv4_of(found[nh.NHA_GATEWAY]) if nh.NHA_GATEWAY in found else None
            singles[kernel] = (NextHop(interfaces[index].name, None if via is None else str(via)),)
    hops = {
        kernel: tuple(sorted(singles[member][0] for member in members if member in singles))
        for kernel, members in groups.items()
    }
    # A group that has lost all but one is no single next hop, as it cannot be in another group: those come last.
    by_number = {kernel // 2: each for kernel, each in (hops | singles).items() if each}
    return by_number, {kernel // 2: {member // 2 for member in members} for kernel, members in groups.items()}


def _read_limits(netlink: NetlinkSocket) -> dict[int, tuple[int | None, int | None]]:
    """Give rate [bit/s] and queue length [packet] by interface index."""
    rates: dict[int, int] = {}
    queues: dict[int, int] = {}
    for body in netlink.dump(m.GET_QDISC, m.QDISC_HEADER.pack(0, 0, 0, 0, 0)):
        _, index, handle, _, _ = m.QDISC_HEADER.unpack_from(body)
        found = attributes(body, m.QDISC_HEADER.size)
        if handle == m.TBF_HANDLE and as_text(found[m.TCA_KIND]) == "tbf":
            rates[index] = _rate_bps(attributes(found[m.TCA_OPTIONS]))
        elif handle == m.FIFO_HANDLE:
            queues[index] = struct.unpack_from("=I", found[m.TCA_OPTIONS])[0]
    return {index: (rate, queues.get(index, 0)) for index, rate in rates.items()}


def _rate_bps(options: Mapping[int, bytes]) -> int:
    if m.TBF_RATE64 in options:
        return 8 * as_number(options[m.TBF_RATE64])
    return 8 * int(m.TBF_PARAMETERS.unpack_from(options[m.TBF_PARMS])[5])


def line_id(link: str, end: str) -> str:
    """Give the delay line of what leaves a link's end."""
    return f"{link}>{'b' if end == 'a' else 'a'}"


def icmp_line_id(line: str) -> str:
    """Give the delay line of the ICMP beside another one."""
    return f"{line} icmp"


def queue_number(interface_index: int, *, leaving: bool) -> int:
    """Give the number of the queue that takes what arrives at an interface, or the ICMP that leaves there."""
    return interface_index + (ICMP_QUEUES if leaving else 0)


def assemble(contents: Mapping[str, Contents], *, held_taps: Iterable[str], lines: Iterable[str]) -> Network:
    """Put the network together.

    Args:
        contents: Of each namespace, by its name.
        held_taps: Names of the taps that somebody holds; others go away by themselves.
        lines: Delay lines that run.
    """
    links, taps = _links(contents, frozenset(lines)), _taps(contents, frozenset(held_taps))
    # What is only half there is made anew, so a route over it does not count.
    parts = interfaces_of(links, taps)
    return Network(
        namespaces=frozenset(_namespace(name, each) for name, each in contents.items()),
        links=links,
        taps=taps,
        routes={name: table for name, each in contents.items() if (table := _table(name, each.table, parts))},
        virtual_addresses=frozenset(
            VirtualAddress(namespace=name, address=address, members=members)
            for name, each in contents.items()
            for address, members in each.members.items()
        ),
    )


def interfaces_of(links: Iterable[VirtualLink], taps: Iterable[Tap]) -> frozenset[tuple[str, str]]:
    """Give (namespace, name) of every interface that links and taps are made of."""
    ends = {(end.namespace, end.interface) for link in links for end in (link.a, link.b)}
    return frozenset(ends | {(tap.namespace, tap.interface) for tap in taps})


def _table(namespace: str, table: RoutingTable, parts: Collection[tuple[str, str]]) -> RoutingTable:
    """Give the routes over interfaces that are part of something."""
    lost = {hop.interface for hops in _distinct(table) for hop in hops if (namespace, hop.interface) not in parts}
    if not lost:
        return table
    left = {to: tuple(hop for hop in hops if hop.interface not in lost) for to, hops in table.items()}
    return {to: hops for to, hops in left.items() if hops}


def _distinct(table: RoutingTable) -> Iterable[NextHops]:
    return {id(hops): hops for hops in table.values()}.values()


def _namespace(name: str, contents: Contents) -> Namespace:
    loopback = contents.interfaces[LOOPBACK]
    return Namespace(name=name, address=loopback.address, forwards=loopback.forwards, strict=loopback.strict)


def _links(contents: Mapping[str, Contents], lines: frozenset[str]) -> frozenset[VirtualLink]:
    """Give the links of which both ends are there."""
    ends: dict[tuple[str, str], tuple[str, Interface]] = {}
    for name, each in contents.items():
        for interface in each.interfaces.values():
            if isinstance(interface.purpose, LinkAlias):
                ends[interface.purpose.link, interface.purpose.end] = name, interface
    return frozenset(
        VirtualLink(
            name=link,
            a=_end(*ends[link, "a"]),
            b=_end(*ends[link, "b"]),
            a_to_b=_shape(ends[link, "a"][1], ends[link, "b"][1], _has_lines(line_id(link, "a"), lines)),
            b_to_a=_shape(ends[link, "b"][1], ends[link, "a"][1], _has_lines(line_id(link, "b"), lines)),
            is_down=not all(ends[link, each][1].has_carrier for each in ("a", "b")),
        )
        for link, end in ends
        if end == "a" and (link, "b") in ends
    )


def _has_lines(line: str, lines: frozenset[str]) -> bool:
    return line in lines and icmp_line_id(line) in lines


def _end(namespace: str, interface: Interface) -> LinkEnd:
    return LinkEnd(namespace=namespace, interface=interface.name, address=interface.address)


def _shape(sender: Interface, receiver: Interface, has_lines: bool) -> LinkShape:
    """Give the shape that is really in force, in the words it was declared in where those are true."""
    purpose = sender.purpose
    declared = purpose.shape if isinstance(purpose, LinkAlias) else None
    if declared is None:
        return replace(_NO_SHAPE, rate_bps=sender.rate_bps)
    shape = declared
    if sender.rate_bps != (None if declared.rate_bps is None else kept_rate_bps(declared.rate_bps)):
        shape = replace(shape, rate_bps=sender.rate_bps)
    if sender.queue_packets not in (None, declared.queue_packets):
        shape = replace(shape, queue_packets=sender.queue_packets)
    arrivals, departures = queue_number(receiver.index, leaving=False), queue_number(sender.index, leaving=True)
    caught = receiver.arrivals_queue == arrivals and sender.departures_queue == departures
    if not (has_lines and caught):
        shape = replace(shape, delay_us=0, jitter_us=0, loss_ppm=0)
    return shape


def kept_rate_bps(rate_bps: int) -> int:
    """Give what the kernel makes of a rate: whole bytes, at least one [bit/s]."""
    return max(1, rate_bps // 8) * 8


def _taps(contents: Mapping[str, Contents], held: frozenset[str]) -> frozenset[Tap]:
    """Give the taps that are held and have an address, and a route to their guest."""
    taps = set()
    for name, each in contents.items():
        guests = {route.index: route for route in each.routes if route.protocol == m.ROUTE_TO_GUEST}
        for interface in each.interfaces.values():
            purpose, guest = interface.purpose, guests.get(interface.index)
            if not (isinstance(purpose, TapAlias) and purpose.tap in held and guest):
                continue
            if gateway := purpose.gateway or interface.address:
                taps.add(
                    Tap(
                        name=purpose.tap,
                        namespace=name,
                        interface=interface.name,
                        gateway=gateway,
                        address=guest.destination.removesuffix("/32"),
                        mac=purpose.mac,
                    )
                )
    return frozenset(taps)
