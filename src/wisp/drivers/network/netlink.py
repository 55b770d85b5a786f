"""Netlink: messages as bytes, and a socket that sends many of them and waits once.

The kernel answers every message of a datagram that fails, and the last one in any case because it asks to be
acknowledged; so a whole batch costs two system calls.
"""

import os
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_ACK_HAS_TEXT = 0x200
_TEXT = 1
_NESTED, _KIND_MASK = 0x8000, 0x3FFF
_SOL_NETLINK, _CAP_ACK, _EXTENDED_ACK, _STRICT_CHECK = 270, 10, 11, 12
_BATCH = 64
_MANY = 2048
_RECEIVE_BYTES = 256 * 1024
_ECHOED_HEADER_BYTES = 20


class Message(NamedTuple):
    """One request.

    Attributes:
        kind: As ``RTM_NEWLINK``.
        flags: Besides ``REQUEST``.
        body: What follows the header.
        what: What it does, for the error if it fails.
    """

    kind: int
    flags: int
    body: bytes
    what: str


class NetlinkError(OSError):
    """The kernel refused a message.

    Args:
        number: Error number.
        what: What the message was to do.
        reason: The kernel's own sentence; empty for none.
    """

    def __init__(self, number: int, what: str, reason: str) -> None:
        text = os.strerror(number)
        super().__init__(number, f"{what}: {text} ({reason})" if reason else f"{what}: {text}")


def attribute(kind: int, body: bytes) -> bytes:
    """Give one attribute, padded."""
    length = _ATTRIBUTE.size + len(body)
    return _ATTRIBUTE.pack(length, kind) + body + bytes(-length % 4)


def number(kind: int, value: int) -> bytes:
    """Give an attribute of 32 bits."""
    return attribute(kind, value.to_bytes(4, sys.byteorder))


def text(kind: int, value: str) -> bytes:
    """Give an attribute of zero-terminated text."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *children: bytes) -> bytes:
    """Give an attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(children))


def attributes(body: bytes, start: int = 0) -> dict[int, bytes]:
    """Take attributes apart, by kind; the last of a kind wins."""
    found = {}
    while start + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _KIND_MASK] = body[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
    return found


def as_number(body: bytes) -> int:
    """Give the number in an attribute."""
    return int.from_bytes(body, sys.byteorder)


def as_text(body: bytes) -> str:
    """Give the text in an attribute."""
    return body.rstrip(b"\0").decode(errors="replace")


def children(body: bytes) -> Iterator[bytes]:
    """Give the bodies of the attributes of a list, in order."""
    start = 0
    while start + _ATTRIBUTE.size <= len(body):
        length, _ = _ATTRIBUTE.unpack_from(body, start)
        if length < _ATTRIBUTE.size:
            return
        yield body[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3


def encode(messages: Sequence[Message], first: int, asks: int = -1) -> bytes:
    """Give a datagram; sequence numbers count from ``first``, and one message asks to be acknowledged, the last one."""
    parts = []
    asking = first + asks % len(messages)
    for sequence, message in enumerate(messages, first):
        flags = REQUEST | message.flags | (ACK if sequence == asking else 0)
        parts.append(_HEADER.pack(_HEADER.size + len(message.body), message.kind, flags, sequence, 0))
        parts.append(message.body + bytes(-len(message.body) % 4))
    return b"".join(parts)


class NetlinkSocket:
    """A netlink socket of the network namespace that the calling thread is in. One request at a time.

    Args:
        protocol: The kernel's part that it speaks to.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for option in (_CAP_ACK, _EXTENDED_ACK, _STRICT_CHECK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 1

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def request(self, messages: Sequence[Message], *, fine: Collection[int] = ()) -> None:
        """Send ``messages``; all are tried.

        Args:
            messages: What to send.
            fine: Error numbers that are no failure.

        Raises:
            NetlinkError: The first that the kernel refused.
        """
        failures: list[NetlinkError] = []
        for start in range(0, len(messages), _BATCH):
            failures += self._exchange(messages[start : start + _BATCH])
        for failure in failures:
            if failure.errno not in fine:
                raise failure

    def request_all(self, kind: int, flags: int, bodies: Sequence[bytes], what: Callable[[int], str]) -> None:
        """Send as many messages of one kind as you like; all are tried.

        Args:
            kind: As ``RTM_NEWROUTE``.
            flags: Besides ``REQUEST``.
            bodies: What follows each header; lengths are multiples of 4.
            what: Says what the message at a place does, for the error if it fails.

        Raises:
            NetlinkError: The first that the kernel refused.
        """
        failure: NetlinkError | None = None
        for start in range(0, len(bodies), _MANY):
            some = bodies[start : start + _MANY]
            first = self._sequence
            self._sequence = (first + len(some)) & 0x7FFF_FFFF
            asks = [*[REQUEST | flags] * (len(some) - 1), REQUEST | flags | ACK]
            parts = [
                _HEADER.pack(_HEADER.size + len(body), kind, asking, sequence, 0) + body
                for sequence, (body, asking) in enumerate(zip(some, asks, strict=True), first)
            ]
            self._socket.send(b"".join(parts))
            for place, body, said in self._answers_to(first, len(some)):
                failure = failure or _failure(body, said, what(start + place))
        if failure:
            raise failure

    def _answers_to(self, first: int, count: int) -> Iterator[tuple[int, bytes, int]]:
        """Give place, body and flags of each answer to ``count`` messages, the last of which is always answered."""
        place = -1
        while place < count - 1:
            for kind, flags, sequence, body in self._receive():
                if kind == _ERROR and first <= sequence < first + count:
                    place = sequence - first
                    yield place, body, flags

    def transact(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """Send messages that the kernel carries out together, or none of them.

        Raises:
            NetlinkError: The kernel refused.
        """
        # Not every kernel acknowledges what stands at the end.
        whole = [begin, *messages, end]
        failures = self._answers(self._send(whole, asks=-2), whole, last=len(messages), is_one=True)
        if failures:
            raise failures[0]

    def dump(self, kind: int, header: bytes) -> list[bytes]:
        """Give the bodies of all answers to a dump request.

        Raises:
            NetlinkError: The kernel refused.
        """
        while True:
            message = Message(kind, DUMP, header, "reading the network")
            first = self._send([message])
            found, is_whole = self._collect(first, message)
            if is_whole:
                return found

    def _send(self, messages: Sequence[Message], asks: int = -1) -> int:
        first = self._sequence
        self._sequence = (first + len(messages)) & 0x7FFF_FFFF
        self._socket.send(encode(messages, first, asks))
        return first

    def _exchange(self, messages: Sequence[Message]) -> list[NetlinkError]:
        """Send one datagram and give what the kernel refused of it, in order."""
        return self._answers(self._send(messages), messages, last=len(messages) - 1)

    def _answers(
        self, first: int, messages: Sequence[Message], *, last: int, is_one: bool = False
    ) -> list[NetlinkError]:
        """Give what was refused, up to the answer to the message at place ``last``; where all are one, also up to a
        refusal of the first.
        """
        failures: list[NetlinkError] = []
        while True:
            for kind, flags, sequence, body in self._receive():
                if kind != _ERROR or not first <= sequence < first + len(messages):
                    continue
                if failure := _failure(body, flags, messages[sequence - first].what):
                    failures.append(failure)
                if sequence == first + last or (is_one and sequence == first):
                    return failures

    def _collect(self, sequence: int, message: Message) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        is_whole = True
        while True:
            for kind, flags, answered, body in self._receive():
                if answered != sequence:
                    continue
                is_whole = is_whole and not flags & _DUMP_INTERRUPTED
                if kind == _DONE:
                    return found, is_whole
                if kind == _ERROR and (failure := _failure(body, flags, message.what)):
                    raise failure
                found.append(body)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Give kind, flags, sequence number and body of each message of the next datagram."""
        datagram = self._socket.recv(_RECEIVE_BYTES)
        start = 0
        while start + _HEADER.size <= len(datagram):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, start)
            yield kind, flags, sequence, datagram[start + _HEADER.size : start + length]
            start += (length + 3) & ~3


def _failure(body: bytes, flags: int, what: str) -> NetlinkError | None:
    code = -struct.unpack_from("=i", body)[0]
    if code == 0:
        return None
    reason = attributes(body, _ECHOED_HEADER_BYTES).get(_TEXT, b"") if flags & _ACK_HAS_TEXT else b""
    return NetlinkError(code, what, as_text(reason))
