"""The messages we send to the kernel's network, and nothing more than we need of them.

Numbers are those of ``linux/rtnetlink.h``, ``if_link.h``, ``if_addr.h`` and ``pkt_sched.h``.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

from wisp.drivers.network.netlink import CREATE, EXCLUSIVE, REPLACE, Message, attribute, nested, number, text
from wisp.model.network import IPV6_PREFIX

NEW_LINK, DELETE_LINK, GET_LINK, SET_LINK = 16, 17, 18, 19
NEW_ADDRESS, GET_ADDRESS = 20, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR = 28
NEW_QDISC, DELETE_QDISC, GET_QDISC = 36, 37, 38

LINK_HEADER = struct.Struct("=BxHiII")
ADDRESS_HEADER = struct.Struct("=BBBBI")
ROUTE_HEADER = struct.Struct("=BBBBBBBBI")
QDISC_HEADER = struct.Struct("=BxxxiIII")
QDISC_STATS = struct.Struct("=QII")
NEIGHBOUR_HEADER = struct.Struct("=BxxxiHxx")
TBF_PARAMETERS = struct.Struct("=BBHhHI12xIII")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_STATS64, IFLA_AF_SPEC = 1, 3, 18, 20, 23, 26
IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_TX_QUEUES, IFLA_RX_QUEUES = 27, 28, 29, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_PEER, IFLA_INET_CONF = 1, 2, 1, 1
IFLA_INET6_ADDR_GEN_MODE = 8
CONF_FORWARDING, CONF_PROXY_ARP, CONF_RP_FILTER = 1, 3, 8
SKIP_STATS = 8
IFA_ADDRESS, IFA_LOCAL = 1, 2
SET_NEIGHBOUR_TABLE = 67
NDTA_NAME, NDTA_PARMS, NDTPA_IFINDEX, NDTPA_RETRANS_TIME, NDTPA_MCAST_PROBES, NDTPA_PROXY_DELAY = 1, 6, 1, 5, 11, 13
NDA_DST, NDA_LLADDR = 1, 2
RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 6, 7
TCA_KIND, TCA_OPTIONS, TCA_STATS, TBF_PARMS, TBF_RATE64, TBF_BURST = 1, 2, 3, 1, 4, 6

IS_UP = 0x1
HAS_CARRIER = 0x10000
MAIN_TABLE = 254
ROUTE_OF_PLAN, ROUTE_TO_GUEST, ROUTE_OF_BACKUP = 0x57, 0x58, 0x59
TBF_HANDLE, TBF_CLASS, FIFO_HANDLE = 0x1_0000, 0x1_0001, 0x2_0000
_ROOT = 0xFFFF_FFFF
_UNICAST = 1
_SCOPE_LINK, _SCOPE_ANY = 253, 255
_DOOMED_GROUP = 0x57
_ETHERNET = 1
_FRAME_BYTES = 1514
_BURST_SECONDS = 0.002
_QUESTION_AGAIN_MS, _QUESTIONS = 50, 20
_WITHOUT_DAD = 0x02
_PERMANENT = 0x80
_NO_ADDRESS = 1


class Family(NamedTuple):
    """One of the two families of addresses. Everything is named by IPv4 addresses, and is in both.

    Attributes:
        number: The kernel's for it.
        prefix: What stands before the bytes of the IPv4 address.
        neighbours: Name of the table of hardware addresses.
        address_flags: What its addresses are made with.
    """

    number: int
    prefix: bytes
    neighbours: str
    address_flags: int = 0

    def packed(self, address: IPv4Address) -> bytes:
        """Give the bytes of the address that goes with an IPv4 one."""
        return self.prefix + address.packed

    def ipv4_of(self, packed: bytes) -> IPv4Address | None:
        """Give the IPv4 address that goes with one of this family; ``None`` for one that is none of ours."""
        length = len(self.prefix)
        return IPv4Address(packed[length:]) if packed[:length] == self.prefix else None

    @property
    def prefix_bits(self) -> int:
        """By how much a prefix is longer than that of IPv4."""
        return 8 * len(self.prefix)


IPV4 = Family(2, b"", "arp_cache")
# Nobody else gives addresses out, so there is no duplicate to wait a second for.
IPV6 = Family(10, IPV6_PREFIX.packed[:12], "ndisc_cache", _WITHOUT_DAD)


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a veth pair that shall be.

    Attributes:
        netns: Descriptor of its namespace.
        index: Interface index there, free so far.
        name: Interface name there.
        mac: Hardware address; ``None`` for any.
    """

    netns: int
    index: int
    name: str
    mac: str | None = None

    def attributes(self) -> bytes:
        """Give what both ends are made with. One queue is enough, and many cost time and memory."""
        return b"".join((
            text(IFLA_IFNAME, self.name),
            number(IFLA_NET_NS_FD, self.netns),
            number(IFLA_TX_QUEUES, 1),
            number(IFLA_RX_QUEUES, 1),
            b"" if self.mac is None else attribute(IFLA_ADDRESS, packed_mac(self.mac)),
        ))  # fmt: skip


def new_veth(a: VethEnd, b: VethEnd, what: str) -> Message:
    """Make a veth pair between two namespaces; both ends are down."""
    peer = attribute(VETH_PEER | 0x8000, LINK_HEADER.pack(0, 0, b.index, 0, 0) + b.attributes())
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, peer))
    body = LINK_HEADER.pack(0, 0, a.index, 0, 0) + a.attributes() + info
    return Message(NEW_LINK, CREATE | EXCLUSIVE, body, what)


def set_up(
    index: int, alias: str, what: str, *, to_guest_from: str | None = None, without_addresses: bool = False
) -> Message:
    """Bring an interface up under an alias.

    Towards a guest, with the hardware address ``to_guest_from``, it answers ARP for what is behind the host, and takes
    no packet with another's source address. ``without_addresses`` it gets no IPv6 address of its own either.
    """
    to_guest = to_guest_from is not None
    settings = (CONF_PROXY_ARP, CONF_RP_FILTER) if to_guest else (CONF_PROXY_ARP,)
    conf = nested(IFLA_INET_CONF, b"".join(number(setting, int(to_guest)) for setting in settings))
    body = LINK_HEADER.pack(0, 0, index, IS_UP, IS_UP) + attribute(IFLA_IFALIAS, alias.encode())
    if to_guest_from is not None:
        body += attribute(IFLA_ADDRESS, packed_mac(to_guest_from))
    ipv6 = nested(IPV6.number, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([_NO_ADDRESS]))) if without_addresses else b""
    return Message(SET_LINK, 0, body + nested(IFLA_AF_SPEC, nested(2, conf) + ipv6), what)


def ask_often(family: Family, index: int, what: str) -> Message:
    """Have an interface ask for a guest's hardware address often, as one that boots misses the first question.

    Answers for others are given at once: by default they come up to 0.8 s late.
    """
    parameters = nested(
        NDTA_PARMS,
        number(NDTPA_IFINDEX, index),
        attribute(NDTPA_RETRANS_TIME, struct.pack("=Q", _QUESTION_AGAIN_MS)),
        number(NDTPA_MCAST_PROBES, _QUESTIONS),
        attribute(NDTPA_PROXY_DELAY, bytes(8)),
    )
    table = struct.pack("=Bxxx", family.number) + text(NDTA_NAME, family.neighbours)
    return Message(SET_NEIGHBOUR_TABLE, 0, table + parameters, what)


def packed_mac(mac: str) -> bytes:
    """Give the bytes of a hardware address."""
    return bytes.fromhex(mac.replace(":", ""))


def switch(index: int, *, on: bool, what: str) -> Message:
    """Bring an interface up or down; the other end of a veth pair loses its carrier with it."""
    return Message(SET_LINK, 0, LINK_HEADER.pack(0, 0, index, IS_UP if on else 0, IS_UP), what)


def set_alias(index: int, alias: str, what: str) -> Message:
    """Rename what an interface is for."""
    return Message(SET_LINK, 0, LINK_HEADER.pack(0, 0, index, 0, 0) + attribute(IFLA_IFALIAS, alias.encode()), what)


def delete_links(indexes: list[int], what: str) -> list[Message]:
    """Take interfaces away, as a group: the kernel then waits for its readers once and not once each."""
    group = number(IFLA_GROUP, _DOOMED_GROUP)
    marks = [Message(SET_LINK, 0, LINK_HEADER.pack(0, 0, index, 0, 0) + group, what) for index in indexes]
    return [*marks, Message(DELETE_LINK, 0, LINK_HEADER.pack(0, 0, 0, 0, 0) + group, what)]


def add_address(family: Family, index: int, address: str, what: str) -> Message:
    """Give an interface an address with prefix length; having it already is fine."""
    interface = IPv4Interface(address)
    length = interface.network.prefixlen + family.prefix_bits
    header = ADDRESS_HEADER.pack(family.number, length, family.address_flags, 0, index)
    packed = family.packed(interface.ip)
    body = header + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return Message(NEW_ADDRESS, CREATE | REPLACE, body, what)


def add_neighbour(family: Family, index: int, address: str, mac: str, what: str) -> Message:
    """Enter the hardware address of a neighbour for good; nobody asks for it any more."""
    header = NEIGHBOUR_HEADER.pack(family.number, index, _PERMANENT)
    body = attribute(NDA_DST, family.packed(IPv4Address(address)))
    body += attribute(NDA_LLADDR, packed_mac(mac))
    return Message(NEW_NEIGHBOUR, CREATE | REPLACE, header + body, what)


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route of the main table to what is right behind an interface: a guest, or a virtual address.

    Attributes:
        destination: As ``10.0.32.2/32``.
        index: Index of the interface.
        source: Preferred source address, or ``None``.
        protocol: Whose it is: ``ROUTE_OF_PLAN`` or ``ROUTE_TO_GUEST``.
    """

    destination: str
    index: int
    source: str | None
    protocol: int = ROUTE_OF_PLAN


def add_route(family: Family, route: KernelRoute, what: str) -> Message:
    """Add a route, or replace the one to the same destination."""
    return Message(NEW_ROUTE, CREATE | REPLACE, _route(family, route, _SCOPE_LINK), what)


def delete_route(family: Family, route: KernelRoute, what: str) -> Message:
    """Take a route away."""
    return Message(DELETE_ROUTE, 0, _route(family, route, _SCOPE_ANY), what)


def _route(family: Family, route: KernelRoute, scope: int) -> bytes:
    network = IPv4Network(route.destination)
    length = network.prefixlen + family.prefix_bits
    header = ROUTE_HEADER.pack(family.number, length, 0, 0, MAIN_TABLE, route.protocol, scope, _UNICAST, 0)
    body = header + number(RTA_OIF, route.index) + attribute(RTA_DST, family.packed(network.network_address))
    return body + attribute(RTA_PREFSRC, family.packed(IPv4Address(route.source))) if route.source else body


def limit_rate(index: int, rate_bps: int, queue_packets: int, what: str) -> list[Message]:
    """Limit what leaves an interface: a token bucket over a queue of so many packets.

    The burst is what passes in 2 ms, two full frames at least.
    """
    rate = max(1, rate_bps // 8)
    # The bucket counts bytes; its queue, which counts packets, replaces the one that it comes with.
    queue_bytes = min(queue_packets * _FRAME_BYTES, 0xFFFF_FFFF)
    parameters = TBF_PARAMETERS.pack(0, _ETHERNET, 0, 0, 0, min(rate, 0xFFFF_FFFF), queue_bytes, 0, 0)
    options = attribute(TBF_PARMS, parameters)
    options += number(TBF_BURST, max(2 * _FRAME_BYTES, int(rate * _BURST_SECONDS)))
    if rate > 0xFFFF_FFFF:
        options += attribute(TBF_RATE64, struct.pack("=Q", rate))
    bucket = _qdisc(index, TBF_HANDLE, _ROOT) + text(TCA_KIND, "tbf") + attribute(TCA_OPTIONS, options)
    queue = _qdisc(index, FIFO_HANDLE, TBF_CLASS) + text(TCA_KIND, "pfifo")
    queue += attribute(TCA_OPTIONS, struct.pack("=I", queue_packets))
    return [Message(NEW_QDISC, CREATE | REPLACE, body, what) for body in (bucket, queue)]


def unlimit_rate(index: int, what: str) -> Message:
    """Take the rate limit of an interface away."""
    return Message(DELETE_QDISC, 0, _qdisc(index, 0, _ROOT), what)


def _qdisc(index: int, handle: int, parent: int) -> bytes:
    return QDISC_HEADER.pack(0, index, handle, parent, 0)
