"""Next hops as objects of the kernel's own (Linux 5.3 and later), which its routes name by number.

A route that names one takes half the time and memory of one that spells it out, and several at once (a *group*) cost
no more. When a link loses its carrier, the kernel takes its next hops away, with the routes that have no other.

A number of ours stands for the same next hops in every family; the kernel's is twice that, and one more for IPv6.
Numbers are those of ``linux/nexthop.h``.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from wisp.drivers.network import message as m
from wisp.drivers.network.netlink import CREATE, REPLACE, Message, attribute, number

NEW_NEXTHOP, DELETE_NEXTHOP, GET_NEXTHOP = 104, 105, 106
HEADER = struct.Struct("=BBBBI")
NHA_ID, NHA_GROUP, NHA_OIF, NHA_GATEWAY = 1, 2, 5, 6
RTA_NH_ID = 30
MEMBER = struct.Struct("=IBBH")
# Above what routes have that are told none: 0, in IPv6 1024.
BACKUP_METRIC = 4096
_UNICAST, _ANY_SCOPE, _ON_LINK = 1, 255, 4


def new_hop(families: Sequence[m.Family], ours: int, index: int, via: str | None, what: str) -> list[Message]:
    """Make a next hop, given by interface index and address, in every family."""
    return [_single(family, kernel, index, via, what) for family, kernel in _kernels(families, ours)]


def new_group(families: Sequence[m.Family], ours: int, members: Iterable[int], what: str) -> list[Message]:
    """Have several next hops, given by our numbers, take turns; in every family."""
    members, made = tuple(members), []
    for place, (_, kernel) in enumerate(_kernels(families, ours)):
        entries = b"".join(MEMBER.pack(2 * member + place, 0, 0, 0) for member in members)
        body = HEADER.pack(0, 0, m.ROUTE_OF_PLAN, 0, 0) + number(NHA_ID, kernel) + attribute(NHA_GROUP, entries)
        made.append(Message(NEW_NEXTHOP, CREATE | REPLACE, body, what))
    return made


def delete_hops(families: Sequence[m.Family], ours: int, what: str) -> list[Message]:
    """Take next hops away that no route names."""
    header = HEADER.pack(0, 0, 0, 0, 0)
    return [Message(DELETE_NEXTHOP, 0, header + number(NHA_ID, kernel), what) for _, kernel in _kernels(families, ours)]


def _single(family: m.Family, kernel: int, index: int, via: str | None, what: str) -> Message:
    header = HEADER.pack(family.number, 0, m.ROUTE_OF_PLAN, 0, _ON_LINK if via else 0)
    body = header + number(NHA_ID, kernel) + number(NHA_OIF, index)
    if via:
        body += attribute(NHA_GATEWAY, family.packed(IPv4Address(via)))
    return Message(NEW_NEXTHOP, CREATE | REPLACE, body, what)


def _kernels(families: Sequence[m.Family], ours: int) -> Iterator[tuple[m.Family, int]]:
    return ((family, 2 * ours + place) for place, family in enumerate(families))


def route_tail(family: m.Family, place: int, ours: int, source: str, *, is_backup: bool = False) -> bytes:
    """Give what routes over the same next hops end with.

    Args:
        family: Of addresses.
        place: Its place among the families.
        ours: Number of the next hops.
        source: Address to send from; empty leaves the choice to the kernel.
        is_backup: Whether they are taken only while there is no other.
    """
    tail = number(RTA_NH_ID, 2 * ours + place)
    if is_backup:
        tail += number(m.RTA_PRIORITY, BACKUP_METRIC)
    return tail + attribute(m.RTA_PREFSRC, family.packed(IPv4Address(source))) if source else tail


@lru_cache(maxsize=1 << 16)
def route_head(family: m.Family, destination: str, scope: int = 0, protocol: int = m.ROUTE_OF_PLAN) -> bytes:
    """Give what routes to the same destination begin with: their header and where they lead."""
    length, to = 0, b""
    if destination != "default":
        network = IPv4Network(destination)
        length = network.prefixlen + family.prefix_bits
        to = attribute(m.RTA_DST, family.packed(network.network_address))
    header = m.ROUTE_HEADER.pack(family.number, length, 0, 0, m.MAIN_TABLE, protocol, scope, _UNICAST, 0)
    return header + to


def delete_route(family: m.Family, destination: str, what: str, protocol: int = m.ROUTE_OF_PLAN) -> Message:
    """Take a route away, whatever it leads over; not the backup beside it, which is of another protocol."""
    return Message(m.DELETE_ROUTE, 0, route_head(family, destination, _ANY_SCOPE, protocol), what)
