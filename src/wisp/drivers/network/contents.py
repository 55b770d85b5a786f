"""What the kernel has: read from each namespace, then put together to the network that it is."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from errno import ENOENT
from functools import lru_cache

from wisp.drivers.network import message as m
from wisp.drivers.network.alias import LinkAlias, TapAlias, read_alias
from wisp.drivers.network.netlink import NetlinkError, NetlinkSocket, as_number, as_text, attributes, number
from wisp.model.description import LinkShape
from wisp.model.network import LinkEnd, Namespace, Network, Route, Tap, VirtualAddress, VirtualLink
from wisp.primitives.values import frozen

LOOPBACK = 1
# Queues of a namespace are numbered as its interfaces; those for ICMP from here on.
ICMP_QUEUES = 1 << 15
_HOST_SCOPE = 254
_RP_FILTER = slice(28, 32)
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
        routes: Those of the main table that are ours.
        members: Where each virtual address leads.
    """

    interfaces: Mapping[int, Interface]
    routes: tuple[m.KernelRoute, ...]
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
    return Contents(interfaces=interfaces, routes=_read_routes(netlink, families))


@frozen
class Counters:
    """What went through an interface since it was made.

    Attributes:
        received_packets, sent_packets: As the namespace sees it.
        received_bytes, sent_bytes: Likewise [byte].
        received_dropped, sent_dropped: Packets that found no room.
    """

    received_packets: int
    sent_packets: int
    received_bytes: int
    sent_bytes: int
    received_dropped: int
    sent_dropped: int


def read_counters(netlink: NetlinkSocket) -> dict[str, Counters]:
    """Give the counters of one namespace by interface name.

    Raises:
        NetlinkError: The kernel refused.
    """
    counters = {}
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
            sent_dropped=sent_dropped,
        )
    return counters


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


def _read_routes(netlink: NetlinkSocket, families: Sequence[m.Family]) -> tuple[m.KernelRoute, ...]:
    first, *others = ([*_family_routes(netlink, family)] for family in families)
    everywhere = set(first).intersection(*others)
    return tuple(route for route in first if route in everywhere)


def _family_routes(netlink: NetlinkSocket, family: m.Family) -> Iterator[m.KernelRoute]:
    """Give those of our routes that are in a family's main table."""
    header = m.ROUTE_HEADER.pack(family.number, 0, 0, 0, m.MAIN_TABLE, 0, 0, 0, 0)
    try:
        for body in netlink.dump(m.GET_ROUTE, header):
            route = _route(body, family)
            if route.protocol in (m.ROUTE_OF_PLAN, m.ROUTE_TO_GUEST):
                yield route
    except NetlinkError as error:
        if error.errno != ENOENT:  # a namespace that never had a route has no table for them
            raise


def _route(body: bytes, family: m.Family) -> m.KernelRoute:
    _, prefix_length, _, _, _, protocol, _, _, _ = m.ROUTE_HEADER.unpack_from(body)
    found = attributes(body, m.ROUTE_HEADER.size)
    destination = _address(found.get(m.RTA_DST), family)
    return m.KernelRoute(
        destination=f"{destination}/{prefix_length - family.prefix_bits}" if destination else "default",
        index=as_number(found.get(m.RTA_OIF, b"")),
        via=_address(found.get(m.RTA_GATEWAY), family),
        source=_address(found.get(m.RTA_PREFSRC), family),
        protocol=protocol,
    )


# There are far fewer addresses than routes with them.
@lru_cache(maxsize=1 << 16)
def _address(packed: bytes | None, family: m.Family) -> str | None:
    address = None if packed is None else family.ipv4_of(packed)
    return None if address is None else str(address)


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
        routes=frozenset(
            route
            for name, each in contents.items()
            for route in _routes(name, each)
            if (name, route.interface) in parts
        ),
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


def _routes(namespace: str, contents: Contents) -> Iterator[Route]:
    for route in contents.routes:
        if route.protocol == m.ROUTE_OF_PLAN and route.index in contents.interfaces:
            yield Route(
                namespace=namespace,
                destination=route.destination,
                interface=contents.interfaces[route.index].name,
                via=route.via,
                source=route.source,
            )


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
