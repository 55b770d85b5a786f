"""Packets to and from a keeper, each with its descriptors, in order and safe to cancel."""

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wisp.primitives.errors import PermanentDriverError

MAX_PACKET_BYTES = 128 * 1024
MAX_DESCRIPTORS = 253
_CONNECT_TIMEOUT_SECONDS = 5


class KeeperGone(PermanentDriverError):
    """The keeper has ended, and with it everything it held and ran."""


class Packet(NamedTuple):
    """One packet.

    Attributes:
        body: JSON text.
        descriptors: What came with it; the receiver owns them.
    """

    body: bytes
    descriptors: Sequence[int] = ()


def open_socket(directory: Path) -> socket.socket:
    """Connect to the keeper of ``directory``; the path may be longer than a socket address holds.

    Raises:
        KeeperGone: Nobody answers there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # A time limit of the kernel's, which waits for a place in the keeper's queue; Python's own does not.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _CONNECT_TIMEOUT_SECONDS, 0))
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{place}/keeper.sock")
        finally:
            os.close(place)
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        raise _gone(peer_of(directory), error) from error
    return connection


class Channel:
    """A connection whose reader always listens, so that an answer nobody waits for any more is taken off too.

    Must be made inside a running event loop.

    Args:
        connection: Connected and non-blocking; owned from now on.
        peer: Who is on the other side, as in ``the keeper of /some/where``.
    """

    def __init__(self, connection: socket.socket, peer: str) -> None:
        self._peer = peer
        self._socket = connection
        self._sending = asyncio.Lock()
        self._waiting: deque[asyncio.Future[Packet]] = deque()
        self._early: deque[Packet] = deque()
        self._failure: KeeperGone | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._on_readable)

    async def request(self, packet: Packet) -> Packet:
        """Send ``packet`` and give its answer; several requests may be under way.

        Raises:
            KeeperGone: The connection has ended.
        """
        async with self._sending:
            await self._send(packet)
            answer = self._expect()
        return await answer

    async def receive(self) -> Packet:
        """Give the next packet that nobody asked for.

        Raises:
            KeeperGone: The connection has ended.
        """
        return await self._expect()

    def close(self) -> None:
        """End the connection; whoever waits gets ``KeeperGone``. May be repeated."""
        self._end(ConnectionAbortedError("closed by this side"))
        while self._early:
            _close_all(self._early.popleft().descriptors)

    async def _send(self, packet: Packet) -> None:
        rights = array.array("i", packet.descriptors)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if packet.descriptors else []
        while True:
            if self._failure is not None:
                if self._early:
                    return
                raise self._failure
            try:
                self._socket.sendmsg([packet.body], control)
                return
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self._on_readable()  # a keeper that turns us away says why before it hangs up
                self._end(error)

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._socket, settle, ready)
        try:
            await ready
        finally:
            if self._socket.fileno() >= 0:
                self._loop.remove_writer(self._socket)

    def _expect(self) -> asyncio.Future[Packet]:
        future: asyncio.Future[Packet] = self._loop.create_future()
        if self._early:
            future.set_result(self._early.popleft())
        elif self._failure is not None:
            future.set_exception(self._failure)
        else:
            self._waiting.append(future)
        return future

    def _on_readable(self) -> None:
        try:
            body, descriptors, flags = self._receive()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            _close_all(descriptors)
            self._end(OSError("a packet or its descriptors did not fit; raise the limit of open files"))
        elif not body:
            self._end(ConnectionResetError("it closed the connection"))
        else:
            self._deliver(Packet(body, descriptors))

    def _receive(self) -> tuple[bytes, list[int], int]:
        try:
            return _receive(self._socket)
        except ConnectionResetError:
            return _receive(self._socket)  # told once; what the peer said before it hung up comes after it

    def _deliver(self, packet: Packet) -> None:
        if not self._waiting:
            self._early.append(packet)
            return
        future = self._waiting.popleft()
        if future.done():
            _close_all(packet.descriptors)
        else:
            future.set_result(packet)

    def _end(self, error: OSError) -> None:
        if self._failure is not None:
            return
        self._failure = _gone(self._peer, error)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for future in self._waiting:
            if not future.done():
                future.set_exception(self._failure)
        self._waiting.clear()


def settle(future: asyncio.Future[None]) -> None:
    """Mark ``future`` as done, once."""
    if not future.done():
        future.set_result(None)


def peer_of(directory: Path) -> str:
    """Give how a keeper is called in sentences."""
    return f"the keeper of {directory}"


def _gone(peer: str, error: OSError) -> KeeperGone:
    return KeeperGone(f"{peer} does not answer: {error}; start the cloud again", driver="keeper")


def _receive(connection: socket.socket) -> tuple[bytes, list[int], int]:
    """Give one packet, its descriptors, and the flags of ``recvmsg``; ``socket.recv_fds`` would ignore ours."""
    descriptors = array.array("i")
    room = socket.CMSG_LEN(MAX_DESCRIPTORS * descriptors.itemsize)
    body, control, flags, _ = connection.recvmsg(MAX_PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return body, list(descriptors), flags


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
