"""Rules that hand packets to delay lines, written straight into the kernel's IPv4 ``mangle`` table.

What ``iptables-legacy-restore`` would do with lines like ``-A PREROUTING -i DEV ! -p icmp -j NFQUEUE --queue-num N
--queue-bypass`` and ``-A POSTROUTING -o DEV -p icmp -j NFQUEUE --queue-num M --queue-bypass``, without a process per
namespace. A table is replaced as a whole. The structures are those of ``linux/netfilter_ipv4/ip_tables.h`` on a
64-bit machine.

Packets are delayed where they arrive, since waiting ones would count against their sender's socket there. ICMP is
delayed where it leaves: ``ping`` takes the kernel's arrival time, which would be that before the delay.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from wisp.primitives.errors import MissingPrerequisite

_TABLE = b"mangle"
_HOOKS = 5
_SET_REPLACE, _GET_INFO, _GET_ENTRIES = 64, 64, 65

_INFO = struct.Struct("=32sI5I5III")
_REPLACE = struct.Struct("=32sIII5I5IIQ")
_GET = struct.Struct("=32sI4x")
_ENTRY = struct.Struct("=16x16s16s16s16sHBBIHHI16x")
_TARGET = struct.Struct("=H29sB")
_COUNTER_BYTES = 16
_ACCEPT = -2
_INVERTED_PROTOCOL = 0x40
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


def write_rules(inside: socket.socket, queues: Mapping[Passage, int]) -> None:
    """Have what comes through each of these passages go through its queue, and everything else pass.

    Args:
        inside: Any IPv4 socket of the namespace.
        queues: Queue number by passage. Where nobody listens to a queue, its packets pass.

    Raises:
        MissingPrerequisite: The kernel lacks the table or the target.
        OSError: The kernel refused.
    """
    count = _info(inside)[-2]
    replaced = ctypes.create_string_buffer(max(1, count) * _COUNTER_BYTES)
    try:
        inside.setsockopt(socket.SOL_IP, _SET_REPLACE, table(queues, count, ctypes.addressof(replaced)))
    except OSError as error:
        raise _translated(error) from error


def read_rules(inside: socket.socket) -> dict[Passage, int]:
    """Give the queue number by passage.

    Raises:
        MissingPrerequisite: The kernel lacks the table.
        OSError: The kernel refused.
    """
    size = _info(inside)[-1]
    answer = _ask(inside, _GET_ENTRIES, _GET.pack(_TABLE, size) + bytes(size))
    return dict(queues_of(answer[_GET.size :]))


def table(queues: Mapping[Passage, int], replaced_count: int, counters_place: int) -> bytes:
    """Give a whole table: the rules, then the policy of each hook, then the end mark.

    Args:
        queues: Queue number by passage.
        replaced_count: Rules in the table that this one replaces.
        counters_place: Address where the kernel puts the counters of those.
    """
    arriving = b"".join(_rule(passage, number) for passage, number in queues.items() if not passage.leaving)
    leaving = b"".join(_rule(passage, number) for passage, number in queues.items() if passage.leaving)
    policy = _entry(_target(b"", 0, struct.pack("=i4x", _ACCEPT)))
    end = _entry(_target(b"ERROR", 0, struct.pack("=30s2x", b"ERROR")))
    # The first hook is PREROUTING, the last POSTROUTING.
    body = arriving + (_HOOKS - 1) * policy + leaving + policy + end
    policies = [len(arriving) + hook * len(policy) for hook in range(_HOOKS)]
    policies[-1] += len(leaving)
    starts = [0, *policies[1:-1], policies[-1] - len(leaving)]
    count = len(queues) + _HOOKS + 1
    valid_hooks = (1 << _HOOKS) - 1
    head = (_TABLE, valid_hooks, count, len(body), *starts, *policies, replaced_count, counters_place)
    return _REPLACE.pack(*head) + body


def queues_of(entries: bytes) -> Iterator[tuple[Passage, int]]:
    """Give passage and queue number of each rule that names both."""
    start = 0
    while start + _ENTRY.size <= len(entries):
        arriving, leaving, _, _, _, _, _, _, target, length, _ = _ENTRY.unpack_from(entries, start)
        _, name, _ = _TARGET.unpack_from(entries, start + target)
        if name.rstrip(b"\0") == _NFQUEUE:
            names = [name.rstrip(b"\0").decode() for name in (arriving, leaving)]
            passage = Passage(names[0] or names[1], leaving=not names[0])
            yield passage, struct.unpack_from("=H", entries, start + target + _TARGET.size)[0]
        start += length


def _rule(passage: Passage, number: int) -> bytes:
    data = struct.pack("=HHHxx", number, 1, _BYPASS)
    return _entry(_target(_NFQUEUE, _NFQUEUE_REVISION, data), passage)


def _entry(target: bytes, passage: Passage | None = None) -> bytes:
    name = passage.interface.encode() if passage else b""
    mask = b"\xff" * (len(name) + 1) if passage else b""
    leaving = passage is not None and passage.leaving
    names = (b"", name, b"", mask) if leaving else (name, b"", mask, b"")
    protocol = socket.IPPROTO_ICMP if passage else 0
    inverted = _INVERTED_PROTOCOL if passage and not leaving else 0
    sizes = (_ENTRY.size, _ENTRY.size + len(target))
    return _ENTRY.pack(*names, protocol, 0, inverted, 0, *sizes, 0) + target


def _target(name: bytes, revision: int, data: bytes) -> bytes:
    return _TARGET.pack(_TARGET.size + len(data), name, revision) + data


def _info(inside: socket.socket) -> tuple[int, ...]:
    """Give what the kernel says of the table; last come the number of rules and their size [byte]."""
    return _INFO.unpack(_ask(inside, _GET_INFO, _INFO.pack(_TABLE, *(0,) * 13)))


def _ask(inside: socket.socket, option: int, request: bytes) -> bytes:
    """Read an option whose buffer says what is wanted, which the standard library cannot."""
    buffer = ctypes.create_string_buffer(request, len(request))
    size = ctypes.c_uint(len(request))
    if _libc.getsockopt(inside.fileno(), socket.SOL_IP, option, buffer, ctypes.byref(size)) != 0:
        number = ctypes.get_errno()
        raise _translated(OSError(number, os.strerror(number)))
    return buffer.raw


def _translated(error: OSError) -> OSError | MissingPrerequisite:
    if error.errno not in _ABSENT:
        return OSError(error.errno, f"changing the table {_TABLE.decode()}: {error.strerror}")
    return MissingPrerequisite(
        f"links cannot be delayed: the kernel has no table {_TABLE.decode()} with target NFQUEUE ({error.strerror})",
        remedy="sudo modprobe -a ip_tables iptable_mangle xt_NFQUEUE nfnetlink_queue",
        driver="network",
        operation="shape link",
    )
