"""Virtual addresses as destination NAT, in the table ``wisp`` of the kernel's ``nf_tables``.

What ``nft`` would do with lines like ``ip daddr 192.168.0.1 numgen inc mod 2 == 0 counter dnat to 10.0.16.2``, without
a process per namespace. Only the first packet of a connection comes by here: the kernel remembers where it went. So who
is no longer among the members keeps the connections that it has. Numbers are those of
``linux/netfilter/nf_tables.h``. Each rule says in its user data what it is for, for whoever reads it back.
"""

import errno
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from socket import AF_INET, IPPROTO_UDP

from wisp.drivers.network.message import Family
from wisp.drivers.network.netlink import (
    CREATE,
    Message,
    NetlinkError,
    NetlinkSocket,
    as_text,
    attribute,
    attributes,
    children,
    nested,
    text,
)
from wisp.primitives.errors import MissingPrerequisite

_NETFILTER = 12
_CONNTRACK, _TABLES = 1 << 8, 10 << 8
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _GET_RULE, _DELETE_RULE = (_TABLES | kind for kind in (0, 3, 6, 7, 8))
_GET_FLOW, _DELETE_FLOW = _CONNTRACK | 1, _CONNTRACK | 2
_BEGIN, _END = 0x10, 0x11
_APPEND = 0x800
_EITHER_FAMILY = 1

_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USER_DATA = 1, 2, 4, 7
_ELEMENT, _NAME, _DATA = 1, 1, 2
_COUNTER_PACKETS = 2
_REGISTER, _NETWORK_HEADER, _EQUAL, _FAMILY_KEY, _ROUND_ROBIN, _DESTINATION_NAT = 1, 1, 0, 15, 0, 1
_DESTINATION_AT = {4: 16, 16: 24}

_WISP = "wisp"
_BEFORE_ROUTING = -100
# Where a new connection's first packet comes by: from outside, and from the host itself.
_CHAINS = {"arriving": 0, "own": 3}

_PURPOSE_WORDS = 3

_FLOW_ORIGINAL, _FLOW_REPLY = 1, 2
_FLOW_ADDRESSES, _FLOW_PORTS = 1, 2
_FLOW_SOURCE, _FLOW_PROTOCOL = 1, 1
_ABSENT = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT)

Members = Mapping[str, Sequence[str]]


def open_netlink() -> NetlinkSocket:
    """Give a socket to the netfilter of the namespace that the calling thread is in.

    Raises:
        MissingPrerequisite: The kernel has none.
        OSError: The kernel refused.
    """
    try:
        return NetlinkSocket(_NETFILTER)
    except OSError as error:
        raise _translated(error) from error


def write_members(netlink: NetlinkSocket, families: Sequence[Family], members: Members) -> None:
    """Have new connections to each of these addresses go to its members in turn; all at once, or not at all.

    Args:
        netlink: Of :func:`open_netlink`.
        families: Address families; everything is named by IPv4 addresses, and is in both.
        members: Virtual address → where it leads; none for nowhere.

    Raises:
        MissingPrerequisite: The kernel lacks NAT.
        NetlinkError: The kernel refused.
    """
    begin = Message(_BEGIN, 0, _header(0, _TABLES >> 8), "beginning to change virtual addresses")
    end = Message(_END, 0, _header(0, _TABLES >> 8), "changing virtual addresses")
    try:
        netlink.transact(begin, [*_chains(), *_rules(families, members)], end)
    except NetlinkError as error:
        raise _translated(error) from error


def read_members(netlink: NetlinkSocket, families: Sequence[Family]) -> dict[str, tuple[str, ...]]:
    """Give virtual address → members, where all that belongs to it is there.

    Raises:
        MissingPrerequisite: The kernel lacks NAT.
        NetlinkError: The kernel refused.
    """
    found: defaultdict[str, dict[tuple[str, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for chain, family, address, member, _ in _read_rules(netlink):
        found[address][chain, family].append(member)
    wanted = {(chain, family.number) for chain in _CHAINS for family in families}
    whole = {}
    for address, by_place in found.items():
        first = next(iter(by_place.values()))
        if by_place.keys() == wanted and all(each == first for each in by_place.values()):
            whole[address] = tuple(first)
    return whole


def read_connections(netlink: NetlinkSocket) -> dict[str, int]:
    """Give virtual address → connections that were led to its members since they were last written.

    Raises:
        NetlinkError: The kernel refused.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for _, _, address, _, connections in _read_rules(netlink):
        counts[address] += connections
    return dict(counts)


def forget_datagrams(netlink: NetlinkSocket, members: Iterable[str]) -> None:
    """Have who sends datagrams to a virtual address, and so far had one of ``members``, be led to another.

    A connection has an end; a stream of datagrams goes where it went before as long as it does not pause.

    Raises:
        NetlinkError: The kernel refused.
    """
    doomed = {IPv4Address(member).packed for member in members}
    header = _header(AF_INET, 0)
    flows = [body for body in netlink.dump(_GET_FLOW, header) if _is_datagrams_of(body, doomed)]
    messages = [
        Message(
            _DELETE_FLOW,
            0,
            header + attribute(_FLOW_ORIGINAL | 0x8000, attributes(body, len(header))[_FLOW_ORIGINAL]),
            "leading datagrams elsewhere",
        )
        for body in flows
    ]
    if messages:
        netlink.request(messages, fine=(errno.ENOENT,))


def _is_datagrams_of(body: bytes, members: set[bytes]) -> bool:
    reply = attributes(attributes(body, len(_header(0, 0))).get(_FLOW_REPLY, b""))
    protocol = attributes(reply.get(_FLOW_PORTS, b"")).get(_FLOW_PROTOCOL)
    return protocol == bytes([IPPROTO_UDP]) and attributes(reply.get(_FLOW_ADDRESSES, b"")).get(_FLOW_SOURCE) in members


def _read_rules(netlink: NetlinkSocket) -> Iterator[tuple[str, int, str, str, int]]:
    """Give chain, family, virtual address, member and connections of each of our rules."""
    header = _header(_EITHER_FAMILY, 0)
    try:
        bodies = netlink.dump(_GET_RULE, header + text(_RULE_TABLE, _WISP))
    except NetlinkError as error:
        raise _translated(error) from error
    for body in bodies:
        found = attributes(body, len(header))
        purpose = as_text(found.get(_RULE_USER_DATA, b"")).split(" ")
        if len(purpose) == _PURPOSE_WORDS:  # others are not ours
            family, address, member = purpose
            yield as_text(found[_RULE_CHAIN]), int(family), address, member, _connections(found[_RULE_EXPRESSIONS])


def _connections(expressions: bytes) -> int:
    for expression in children(expressions):
        found = attributes(expression)
        if as_text(found[_NAME]) == "counter":
            return int.from_bytes(attributes(found[_DATA])[_COUNTER_PACKETS])
    return 0


def _chains() -> Iterator[Message]:
    """Give what makes our table and its chains, where they are not there yet, and empties them."""
    header = _header(_EITHER_FAMILY, 0)
    yield Message(_NEW_TABLE, CREATE, header + text(_TABLE_NAME, _WISP), "making the table of virtual addresses")
    for name, number in _CHAINS.items():
        hook = nested(_CHAIN_HOOK, _big(_HOOK_NUMBER, number), _big(_HOOK_PRIORITY, _BEFORE_ROUTING & 0xFFFF_FFFF))
        body = text(_CHAIN_TABLE, _WISP) + text(_CHAIN_NAME, name) + hook + text(_CHAIN_TYPE, "nat")
        yield Message(_NEW_CHAIN, CREATE, header + body, f"making the chain {name} of virtual addresses")
        body = text(_RULE_TABLE, _WISP) + text(_RULE_CHAIN, name)
        yield Message(_DELETE_RULE, 0, header + body, f"emptying the chain {name} of virtual addresses")


def _rules(families: Sequence[Family], members: Members) -> Iterator[Message]:
    for chain in _CHAINS:
        for family in families:
            for address, targets in members.items():
                for place, target in enumerate(targets):
                    yield _rule(chain, family, address, target, len(targets) - place)


def _rule(chain: str, family: Family, address: str, member: str, one_in: int) -> Message:
    """Give the rule that leads one in so many of the connections that come as far as it to a member."""
    wanted, target = (family.packed(IPv4Address(each)) for each in (address, member))
    expressions = [
        _expression("meta", _big(1, _REGISTER), _big(2, _FAMILY_KEY)),
        _is_equal(bytes([family.number])),
        _expression(
            "payload",
            _big(1, _REGISTER),
            _big(2, _NETWORK_HEADER),
            _big(3, _DESTINATION_AT[len(wanted)]),
            _big(4, len(wanted)),
        ),
        _is_equal(wanted),
    ]
    if one_in > 1:
        expressions += [_expression("numgen", _big(1, _REGISTER), _big(2, one_in), _big(3, _ROUND_ROBIN))]
        expressions += [_is_equal(bytes(4))]
    expressions += [
        _expression("counter"),
        _expression("immediate", _big(1, _REGISTER), nested(2, attribute(1, target))),
        _expression("nat", _big(1, _DESTINATION_NAT), _big(2, family.number), _big(3, _REGISTER)),
    ]
    purpose = f"{family.number} {address} {member}"
    body = (
        text(_RULE_TABLE, _WISP)
        + text(_RULE_CHAIN, chain)
        + nested(_RULE_EXPRESSIONS, *expressions)
        + attribute(_RULE_USER_DATA, purpose.encode())
    )
    what = f"leading {address} to {member}"
    return Message(_NEW_RULE, CREATE | _APPEND, _header(_EITHER_FAMILY, 0) + body, what)


def _is_equal(value: bytes) -> bytes:
    return _expression("cmp", _big(1, _REGISTER), _big(2, _EQUAL), nested(3, attribute(1, value)))


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(_ELEMENT, text(_NAME, name), nested(_DATA, *parts))


def _header(family: int, resource: int) -> bytes:
    return struct.pack(">BBH", family, 0, resource)


def _big(kind: int, value: int) -> bytes:
    """Give an attribute of 32 bits, the most significant byte first."""
    return attribute(kind, value.to_bytes(4))


def _translated(error: OSError) -> Exception:
    if error.errno not in _ABSENT:
        return error
    return MissingPrerequisite(
        f"virtual addresses need the kernel's NAT (nf_tables): {error.strerror}",
        remedy="sudo modprobe -a nf_tables nft_chain_nat nft_nat nft_numgen",
        driver="network",
        operation="set virtual address",
    )
