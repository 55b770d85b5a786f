"""Echo requests from inside a namespace: ``python -m wisp.drivers.network.icmp``, a program of its own.

Reads an :class:`EchoOrder` as JSON and writes an :class:`EchoAnswer` a line, each as soon as it is known.
"""

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from wisp.codec import stored
from wisp.model.echo import EchoAnswer, EchoOrder, EchoOutcome

_HEADER = struct.Struct("!BBHHH")
_FILLING = bytes(48)
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("=qq")
_NANOSECONDS = 1_000_000_000
_MOST_BYTES = 2048


class _Protocol(NamedTuple):
    """ICMP of one family.

    Attributes:
        header_bytes: Of the IP header that an answer comes with; ``None`` where the header itself says it.
        quoted_header_bytes: The same of the request that an error quotes.
    """

    family: socket.AddressFamily
    protocol: int
    hops_option: tuple[int, int]
    request: int
    outcomes: dict[int, EchoOutcome]
    header_bytes: int | None
    quoted_header_bytes: int | None


_ICMP = _Protocol(
    socket.AF_INET,
    socket.IPPROTO_ICMP,
    (socket.IPPROTO_IP, socket.IP_TTL),
    8,
    {0: EchoOutcome.REPLY, 11: EchoOutcome.EXPIRED, 3: EchoOutcome.UNREACHABLE},
    None,
    None,
)
_ICMPV6 = _Protocol(
    socket.AF_INET6,
    socket.IPPROTO_ICMPV6,
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
    128,
    {129: EchoOutcome.REPLY, 3: EchoOutcome.EXPIRED, 1: EchoOutcome.UNREACHABLE},
    0,
    40,
)


def ask(order: EchoOrder, tell: Callable[[EchoAnswer], None]) -> None:
    """Send what is ordered; tell once what comes of each request.

    Raises:
        OSError: There are no such sockets here.
    """
    protocol = _ICMPV6 if ":" in order.address else _ICMP
    with socket.socket(protocol.family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol.protocol) as asking:
        asking.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _Asker(asking, protocol, order, tell).run()


class _Asker:
    def __init__(
        self, asking: socket.socket, protocol: _Protocol, order: EchoOrder, tell: Callable[[EchoAnswer], None]
    ) -> None:
        self._socket, self._protocol, self._order, self._tell = asking, protocol, order, tell
        self._hops = [hops for _ in range(order.count) for hops in order.hops]
        self._sent_ns: dict[int, int] = {}
        self._way_ends_at: int | None = None

    def run(self) -> None:
        due = time.monotonic()
        for number, hops in enumerate(self._hops):
            if not self._is_beyond(hops):
                self._listen(until=due)
                self._send(number)
                due += self._order.interval.seconds
        self._listen(until=time.monotonic() + self._order.patience.seconds, is_last=True)
        self._give_up_those_before(time.time_ns())

    def _send(self, number: int) -> None:
        if hops := self._hops[number]:
            self._socket.setsockopt(*self._protocol.hops_option, hops)
        packet = _request(self._protocol.request, self._order.identity, number)
        self._sent_ns[number] = time.time_ns()
        try:
            self._socket.sendto(packet, (self._order.address, 0))
        except OSError:  # the namespace itself knows no way
            self._end(number, EchoOutcome.UNREACHABLE)

    def _listen(self, *, until: float, is_last: bool = False) -> None:
        """Take what comes until then; after the last request, only as long as anything may come."""
        while self._sent_ns or not is_last:
            left_s = until - time.monotonic()
            if left_s <= 0 or not select.select([self._socket], [], [], left_s)[0]:
                break
            self._take()
        self._give_up_those_before(time.time_ns() - self._order.patience.ns)

    def _give_up_those_before(self, at_ns: int) -> None:
        for number in [number for number, sent_ns in self._sent_ns.items() if sent_ns <= at_ns]:
            self._end(number, EchoOutcome.LOST)

    def _take(self) -> None:
        """Take one packet; all of the namespace's ICMP comes by here, not only ours."""
        try:
            packet, ancillary, _, source = self._socket.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(_TIMESPEC.size))
        except OSError:  # an error of an earlier request, told to the next call; what quotes it comes as a packet
            return
        found = _meaning(self._protocol, packet, self._order.identity)
        if found is not None and (sent_ns := self._sent_ns.get(found.number)) is not None:
            at_ns = next((_nanoseconds(data) for _, kind, data in ancillary if kind == _SO_TIMESTAMPNS), time.time_ns())
            self._end(found.number, found.outcome, by=source[0], round_trip_ms=(at_ns - sent_ns) / 1e6)

    def _is_beyond(self, hops: int) -> bool:
        """Whether a request that lives so long ends where one that lives less long did; such are not told."""
        return self._way_ends_at is not None and hops > self._way_ends_at

    def _end(
        self, number: int, outcome: EchoOutcome, *, by: str | None = None, round_trip_ms: float | None = None
    ) -> None:
        del self._sent_ns[number]
        hops = self._hops[number]
        self._tell(EchoAnswer(number=number, hops=hops, outcome=outcome, by=by, round_trip_ms=round_trip_ms))
        if outcome in (EchoOutcome.REPLY, EchoOutcome.UNREACHABLE) and not self._is_beyond(hops):
            self._way_ends_at = hops
            self._sent_ns = {each: at for each, at in self._sent_ns.items() if not self._is_beyond(self._hops[each])}


class _Meaning(NamedTuple):
    number: int
    outcome: EchoOutcome


def _meaning(protocol: _Protocol, packet: bytes, identity: int) -> _Meaning | None:
    """Give which request of ours a packet answers; ``None`` for any other packet, cut off ones included."""
    message = packet[_header_bytes(packet, protocol.header_bytes) :]
    outcome = protocol.outcomes.get(message[0]) if message else None
    if outcome in (EchoOutcome.EXPIRED, EchoOutcome.UNREACHABLE):
        quoted = message[_HEADER.size :]
        message = quoted[_header_bytes(quoted, protocol.quoted_header_bytes) :]
        if not message or message[0] != protocol.request:
            return None
    if outcome is None or len(message) < _HEADER.size:
        return None
    _, _, _, whose, number = _HEADER.unpack_from(message)
    return _Meaning(number, outcome) if whose == identity else None


def _header_bytes(packet: bytes, known: int | None) -> int:
    """Give the length of an IP header; of IPv4 it stands in its first byte."""
    if known is not None:
        return known
    return 4 * (packet[0] & 0x0F) if packet else 0


def _request(kind: int, identity: int, number: int) -> bytes:
    """Give an echo request; for IPv6 the kernel writes a checksum over ours."""
    blank = _HEADER.pack(kind, 0, 0, identity, number) + _FILLING
    return _HEADER.pack(kind, 0, _checksum(blank), identity, number) + _FILLING


def _checksum(data: bytes) -> int:
    """Give the internet checksum of an even number of bytes (RFC 1071).

    >>> hex(_checksum(bytes.fromhex("0001f203f4f5f6f7")))
    '0x220d'
    """
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _nanoseconds(timespec: bytes) -> int:
    seconds: int
    nanoseconds: int
    seconds, nanoseconds = _TIMESPEC.unpack(timespec)
    return seconds * _NANOSECONDS + nanoseconds


def main() -> None:
    """Do what standard input orders."""
    order = stored.decode(sys.stdin.buffer.read(), EchoOrder)

    def tell(answer: EchoAnswer) -> None:
        os.write(sys.stdout.fileno(), stored.encode(answer) + b"\n")

    ask(order, tell)


if __name__ == "__main__":
    main()
