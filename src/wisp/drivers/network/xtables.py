"""Rules that hand packets to delay lines, written straight into the kernel's ``mangle`` tables, of IPv4 and of IPv6.

What ``iptables-legacy-restore`` would do with lines like ``-A PREROUTING -i DEV ! -p icmp -j NFQUEUE --queue-num N
--queue-bypass`` and ``-A POSTROUTING -o DEV -p icmp -j NFQUEUE --queue-num M --queue-bypass``, without a process per
namespace. A table is replaced as a whole. The structures are those of ``linux/netfilter_ipv4/ip_tables.h`` and
``linux/netfilter_ipv6/ip6_tables.h`` on a 64-bit machine. Both tables lead to the same queues.

Packets are delayed where they arrive, since waiting ones would count against their sender's socket there. ICMP is
delayed where it leaves: ``ping`` takes the kernel's arrival time, which would be that before the delay. The questions
for hardware addresses, which are ICMP in IPv6, are not delayed, as those of IPv4 (ARP) are not.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from wisp.primitives.errors import MissingPrerequisite

_TABLE = b"mangle"
_HOOKS = 5
_SET_REPLACE, _GET_INFO, _GET_ENTRIES = 64, 64, 65

_INFO = struct.Struct("=32sI5I5III")
_REPLACE = struct.Struct("=32sIII5I5IIQ")
_GET = struct.Struct("=32sI4x")
_ENTRY = struct.Struct("=16x16s16s16s16sHBBIHHI16x")
_ENTRY6 = struct.Struct("=64x16s16s16s16sHxBB3xIHHI20x")
_TARGET = struct.Struct("=H29sB")
_COUNTER_BYTES = 16
_ACCEPT = -2
_HAS_PROTOCOL, _INVERTED_PROTOCOL = 0x01, 0x40
# Neighbour discovery (RFC 4861): what asks and answers for routers and hardware addresses.
_NEIGHBOUR_DISCOVERY = range(133, 138)
_BYPASS = 1
_NFQUEUE, _NFQUEUE_REVISION = b"NFQUEUE", 3
_ABSENT = (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.ENOENT)
_libc = ctypes.CDLL(None, use_errno=True)


class Passage(NamedTuple):
    """Where packets are caught.

    Attributes:
        interface: Name of the interface.
        leaving: ICMP that leaves there; otherwise everything else that arrives there.
    """

    interface: str
    leaving: bool


class Table:
    """The ``mangle`` table of one family.

    Args:
        family: As ``socket.AF_INET``.
        level: Where its options are.
        entry: Layout of a rule's fixed part.
        icmp: Number of the family's ICMP.
        free: Types of it that are never delayed.
    """

    def __init__(
        self,
        family: socket.AddressFamily,
        level: int,
        entry: struct.Struct,
        icmp: int,
        free: Sequence[int] = (),
    ) -> None:
        self._family, self._level, self._layout, self._icmp, self._free = family, level, entry, icmp, free

    def open_socket(self) -> socket.socket:
        """Give a socket to reach the table of the namespace that the calling thread is in."""
        return socket.socket(self._family, socket.SOCK_DGRAM)

    def write(self, inside: socket.socket, queues: Mapping[Passage, int]) -> None:
        """Have what comes through each of these passages go through its queue, and everything else pass.

        Args:
            inside: Any socket of the namespace and of this family.
            queues: Queue number by passage. Where nobody listens to a queue, its packets pass.

        Raises:
            MissingPrerequisite: The kernel lacks the table or the target.
            OSError: The kernel refused.
        """
        count = self._info(inside)[-2]
        replaced = ctypes.create_string_buffer(max(1, count) * _COUNTER_BYTES)
        try:
            inside.setsockopt(self._level, _SET_REPLACE, self.packed(queues, count, ctypes.addressof(replaced)))
        except OSError as error:
            raise _translated(error) from error

    def read(self, inside: socket.socket) -> dict[Passage, int]:
        """Give the queue number by passage.

        Raises:
            MissingPrerequisite: The kernel lacks the table.
            OSError: The kernel refused.
        """
        size = self._info(inside)[-1]
        answer = self._ask(inside, _GET_ENTRIES, _GET.pack(_TABLE, size) + bytes(size))
        return dict(self.queues_of(answer[_GET.size :]))

    def packed(self, queues: Mapping[Passage, int], replaced_count: int, counters_place: int) -> bytes:
        """Give a whole table: the rules, then the policy of each hook, then the end mark.

        Args:
            queues: Queue number by passage.
            replaced_count: Rules in the table that this one replaces.
            counters_place: Address where the kernel puts the counters of those.
        """
        accept = _target(b"", 0, struct.pack("=i4x", _ACCEPT))
        rules = [(passage, self._rule(passage, number)) for passage, number in queues.items()]
        arriving = [rule for passage, rule in rules if not passage.leaving]
        leaving = [rule for passage, rule in rules if passage.leaving]
        if leaving:
            leaving = [*(self._entry(accept, of_type=each) for each in self._free), *leaving]
        policy = self._entry(accept)
        end = self._entry(_target(b"ERROR", 0, struct.pack("=30s2x", b"ERROR")))
        # The first hook is PREROUTING, the last POSTROUTING.
        first, last = b"".join(arriving), b"".join(leaving)
        body = first + (_HOOKS - 1) * policy + last + policy + end
        policies = [len(first) + hook * len(policy) for hook in range(_HOOKS)]
        policies[-1] += len(last)
        starts = [0, *policies[1:-1], policies[-1] - len(last)]
        count = len(arriving) + len(leaving) + _HOOKS + 1
        valid_hooks = (1 << _HOOKS) - 1
        head = (_TABLE, valid_hooks, count, len(body), *starts, *policies, replaced_count, counters_place)
        return _REPLACE.pack(*head) + body

    def queues_of(self, entries: bytes) -> Iterator[tuple[Passage, int]]:
        """Give passage and queue number of each rule that names both."""
        start = 0
        while start + self._layout.size <= len(entries):
            arriving, leaving, _, _, _, _, _, _, target, length, _ = self._layout.unpack_from(entries, start)
            _, name, _ = _TARGET.unpack_from(entries, start + target)
            if name.rstrip(b"\0") == _NFQUEUE:
                names = [name.rstrip(b"\0").decode() for name in (arriving, leaving)]
                passage = Passage(names[0] or names[1], leaving=not names[0])
                yield passage, struct.unpack_from("=H", entries, start + target + _TARGET.size)[0]
            start += length

    def _rule(self, passage: Passage, number: int) -> bytes:
        data = struct.pack("=HHHxx", number, 1, _BYPASS)
        return self._entry(_target(_NFQUEUE, _NFQUEUE_REVISION, data), passage)

    def _entry(self, target: bytes, passage: Passage | None = None, of_type: int | None = None) -> bytes:
        """Give one rule: for a passage, for an ICMP type, or for everything."""
        name = passage.interface.encode() if passage else b""
        mask = b"\xff" * (len(name) + 1) if passage else b""
        is_arriving = passage is not None and not passage.leaving
        names = (name, b"", mask, b"") if is_arriving else (b"", name, b"", mask)
        match = b"" if of_type is None else _target(b"icmp6", 0, struct.pack("=4B4x", of_type, 0, 255, 0))
        protocol = 0 if passage is None and of_type is None else self._icmp
        flags = (_HAS_PROTOCOL if protocol and self._family == socket.AF_INET6 else 0, _INVERTED_PROTOCOL * is_arriving)
        to_target = self._layout.size + len(match)
        fixed = self._layout.pack(*names, protocol, *flags, 0, to_target, to_target + len(target), 0)
        return fixed + match + target

    def _info(self, inside: socket.socket) -> tuple[int, ...]:
        """Give what the kernel says of the table; last come the number of rules and their size [byte]."""
        return _INFO.unpack(self._ask(inside, _GET_INFO, _INFO.pack(_TABLE, *(0,) * 13)))

    def _ask(self, inside: socket.socket, option: int, request: bytes) -> bytes:
        """Read an option whose buffer says what is wanted, which the standard library cannot."""
        buffer = ctypes.create_string_buffer(request, len(request))
        size = ctypes.c_uint(len(request))
        if _libc.getsockopt(inside.fileno(), self._level, option, buffer, ctypes.byref(size)) != 0:
            number = ctypes.get_errno()
            raise _translated(OSError(number, os.strerror(number)))
        return buffer.raw


IPV4_TABLE = Table(socket.AF_INET, socket.SOL_IP, _ENTRY, socket.IPPROTO_ICMP)
IPV6_TABLE = Table(socket.AF_INET6, socket.IPPROTO_IPV6, _ENTRY6, socket.IPPROTO_ICMPV6, _NEIGHBOUR_DISCOVERY)


def _target(name: bytes, revision: int, data: bytes) -> bytes:
    """Give a target, or a match, which looks the same."""
    return _TARGET.pack(_TARGET.size + len(data), name, revision) + data


def _translated(error: OSError) -> OSError | MissingPrerequisite:
    if error.errno not in _ABSENT:
        return OSError(error.errno, f"changing the table {_TABLE.decode()}: {error.strerror}")
    return MissingPrerequisite(
        f"links cannot be delayed: the kernel has no table {_TABLE.decode()} with target NFQUEUE ({error.strerror})",
        remedy="sudo modprobe -a iptable_mangle ip6table_mangle xt_NFQUEUE nfnetlink_queue",
        driver="network",
        operation="shape link",
    )
