"""Delay, jitter and loss of links without netem: the client of ``wisp-native delay``.

A rule in the receiving namespace hands packets over (``mangle PREROUTING -i DEV -j NFQUEUE --queue-num N
--queue-bypass``); the program lets them go on when their time has come. A rule at the sender would work too, but
packets that wait there count against the socket of a local sender, which slows TCP down to a crawl.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from wisp.drivers.keeper.channel import Channel, Packet
from wisp.drivers.keeper.client import KeeperClient, SpawnOrder
from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.values import frozen

CHILD_ID = "delay"
_CONTROL = "delay/control"
_BATCH = 200
_T = TypeVar("_T")


@frozen
class DelayLine:
    """One direction of a link.

    Attributes:
        line_id: Its name, as ``h1>h2``.
        netns: Descriptor of the receiving network namespace; ``None`` is enough for a line that exists.
        queue: NFQUEUE number in that namespace.
        delay_us: How long each packet waits [µs].
        jitter_us: Uniform on both sides of the delay [µs]; packets keep their order.
        loss_ppm: Packets lost of a million.
        limit_packets: How many may wait; more are dropped.
        seed: Of the dice for loss and jitter.
    """

    line_id: str
    netns: int | None
    queue: int
    delay_us: int
    jitter_us: int = 0
    loss_ppm: int = 0
    limit_packets: int = 10_000
    seed: int = 0


class LineStats(msgspec.Struct, frozen=True, kw_only=True):
    """What one line has done since it was made.

    Attributes:
        id: Its name.
        waiting: Packets that wait now.
        delayed: Packets that went on.
        dropped_by_loss: Packets the dice dropped.
        dropped_by_limit: Packets that found the line full.
        late: Packets by how late they went on, in the classes below 50, 100, 200, 500, 1000, 2000, 5000 µs and
            above.
    """

    id: str
    waiting: int
    delayed: int
    dropped_by_loss: int
    dropped_by_limit: int
    late: tuple[int, ...]


class _Answer(msgspec.Struct):
    tag: int
    ok: bool
    error: str = ""


class _Stats(msgspec.Struct):
    queues: list[LineStats]
    more: bool


class DelayLines:
    """The delay lines of one cloud. One controller at a time may have this."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._channel = Channel(connection, "the cloud's delay program")
        self._asking = asyncio.Lock()

    @classmethod
    async def open(cls, keeper: KeeperClient, binary: Path, log: Path) -> "DelayLines":
        """Give the cloud's delay lines, starting the program where it does not run.

        A program that was started has no lines yet, so set all of them after this.

        Raises:
            PermanentDriverError: It could not be started.
        """
        running = any(child.id == CHILD_ID and child.state == "running" for child in await keeper.children())
        if not running:
            await _start(keeper, binary, log)
        (descriptor,) = await keeper.fetch([_CONTROL])
        return cls(socket.socket(fileno=descriptor))

    def close(self) -> None:
        """Let go of the lines; they go on."""
        self._channel.close()

    async def set(self, lines: Sequence[DelayLine]) -> None:
        """Make ``lines`` as they say; those that are so already do not change.

        Raises:
            PermanentDriverError: A line could not be made; those before it were.
        """
        for start in range(0, len(lines), _BATCH):
            batch = lines[start : start + _BATCH]
            descriptors = sorted({line.netns for line in batch if line.netns is not None})
            queues = [_declared(line, descriptors) for line in batch]
            await self._ask("set", msgspec.Raw, descriptors, queues=queues)

    async def remove(self, line_ids: Sequence[str]) -> None:
        """Drop lines; what waits in them goes on at once, unknown ones are ignored.

        A line keeps its namespace alive, so remove it before the namespace is to go.
        """
        for start in range(0, len(line_ids), _BATCH):
            await self._ask("remove", msgspec.Raw, ids=list(line_ids[start : start + _BATCH]))

    async def stats(self) -> tuple[LineStats, ...]:
        """Give what every line has done, in order of name."""
        rows: list[LineStats] = []
        more = True
        while more:
            page = await self._ask("stats", _Stats, after=rows[-1].id if rows else "")
            rows.extend(page.queues)
            more = page.more
        return tuple(rows)

    async def _ask(self, operation: str, kind: type[_T], descriptors: Sequence[int] = (), **fields: Any) -> _T:
        tag = secrets.randbits(53)
        request = Packet(msgspec.json.encode({"op": operation, "tag": tag, **fields}), descriptors)
        async with self._asking:
            answer = (await self._channel.request(request)).body
            # An earlier controller may have been killed before it read the answers it had asked for.
            while (status := msgspec.json.decode(answer, type=_Answer)).tag != tag:
                answer = (await self._channel.receive()).body
        if not status.ok:
            raise PermanentDriverError(status.error, driver="network", operation=f"delay {operation}")
        return msgspec.json.decode(answer, type=kind)


def _declared(line: DelayLine, descriptors: Sequence[int]) -> dict[str, object]:
    return {
        "id": line.line_id,
        "netns": None if line.netns is None else descriptors.index(line.netns),
        "queue": line.queue,
        "delay_us": line.delay_us,
        "jitter_us": line.jitter_us,
        "loss_ppm": line.loss_ppm,
        "limit_packets": line.limit_packets,
        "seed": line.seed,
    }


async def _start(keeper: KeeperClient, binary: Path, log: Path) -> None:
    await keeper.forget(CHILD_ID)
    await keeper.release([_CONTROL])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        await keeper.hold({_CONTROL: ours.fileno()})
        argv = (os.fspath(binary), "delay")
        order = SpawnOrder(child_id=CHILD_ID, argv=argv, passed={3: theirs.fileno()}, log=log, privileged=True)
        await keeper.spawn(order)
