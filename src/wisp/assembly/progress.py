"""Between a controller and whoever waits for it: one line of JSON per step, over a Unix socket.

A line from a client, whatever it says, means: read the desired state again.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from wisp.codec import stored
from wisp.model.fault import Fault
from wisp.model.observation import Event
from wisp.primitives.values import frozen

LISTENER_DESCRIPTOR = 3
LINE_BYTES = 1 << 20
LINES_WAITING = 256
SILENT_CONTROLLERS = 5

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@frozen
class ControllerState:
    """Where a controller is.

    Attributes:
        revision: The desired revision it works on; 0 before the first.
        settled: Whether the world is as planned and everything answers.
        ready, wanted: Instances that answer, and that shall.
        network_done: Whether the network is as planned.
        faults: What is broken on purpose, as it knows of.
        failing: Name and reason of each instance that failed again and again.
        events: What happened since the line before.
    """

    revision: int
    settled: bool
    ready: int
    wanted: int
    network_done: bool
    faults: tuple[Fault, ...] = ()
    failing: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


class ProgressServer:
    """The controller's end.

    Args:
        state: Gives the present state.
        changed: Called when a client says that the desired state changed.
    """

    def __init__(self, state: Callable[[], ControllerState], changed: Callable[[], None]) -> None:
        self._state, self._changed = state, changed
        self._clients: dict[asyncio.Queue[ControllerState], asyncio.StreamWriter] = {}

    async def serve(self, listener: socket.socket) -> None:
        """Serve clients on a bound socket until cancelled."""
        server = await asyncio.start_unix_server(self._client, sock=listener)
        async with server:
            await server.serve_forever()

    def tell(self, events: tuple[Event, ...]) -> None:
        """Tell every client where we are; one that does not keep up is cut off, and connects again by itself."""
        if not self._clients:
            return
        line = replace(self._state(), events=events)
        for client, connection in list(self._clients.items()):
            try:
                client.put_nowait(line)
            except asyncio.QueueFull:
                connection.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines: asyncio.Queue[ControllerState] = asyncio.Queue(LINES_WAITING)
        self._clients[lines] = writer
        lines.put_nowait(self._state())
        listening = asyncio.create_task(self._listen(reader))
        try:
            while not listening.done():
                await _next_or_done(lines, listening, writer)
        except ConnectionError:
            pass
        finally:
            self._clients.pop(lines, None)
            listening.cancel()
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while await reader.readline():
            self._changed()


async def _next_or_done(
    lines: "asyncio.Queue[ControllerState]", listening: "asyncio.Task[None]", writer: asyncio.StreamWriter
) -> None:
    """Write the next line, unless the client goes away first."""
    waiting = asyncio.create_task(lines.get())
    await asyncio.wait({waiting, listening}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        return
    writer.write(stored.encode(waiting.result()) + b"\n")
    await writer.drain()


def listen(path: Path) -> socket.socket:
    """Bind a new socket at ``path``, in place of one that an earlier controller left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    with short_path(path) as short:
        listener.bind(short)
    path.chmod(0o600)
    listener.listen(16)
    return listener


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a name for ``path`` that fits a socket address (108 bytes) however deep the folder is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def follow(path: Path, *, poke: bool) -> AsyncIterator[ControllerState]:
    """Give the states of a cloud's controller as they change, the present one first.

    A controller that ends is soon started again by the keeper, and followed further. This ends when the cloud does,
    or when controller after controller ends before it says where it is.

    Args:
        path: The controllers' socket.
        poke: Whether to say first that the desired state changed.

    Raises:
        OSError: Nobody listens there.
    """
    connection: Connection | None = await _connect(path)
    silent = 0
    while connection is not None:
        silent += 1
        async with aclosing(_states(*connection, poke=poke)) as states:
            async for state in states:
                silent = 0
                yield state
        connection = await _reconnect(path) if silent < SILENT_CONTROLLERS else None


async def _states(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, poke: bool
) -> AsyncGenerator[ControllerState, None]:
    """Give the states of one controller until it ends; one that is only just being started is waited for."""
    try:
        if poke:
            writer.write(b"changed\n")
            await writer.drain()
        while line := await reader.readline():
            yield stored.decode(line, ControllerState)
    except ConnectionError:
        return  # it was killed with something of ours unread
    finally:
        writer.close()


async def _connect(path: Path) -> Connection:
    with short_path(path) as short:
        return await asyncio.open_unix_connection(short, limit=LINE_BYTES)


async def _reconnect(path: Path) -> Connection | None:
    """Connect to the controller's successor; ``None`` when the cloud is gone."""
    with suppress(OSError):
        return await _connect(path)
    return None
