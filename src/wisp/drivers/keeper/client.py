"""The keeper's protocol: one method per request."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import msgspec

from wisp.drivers.keeper.channel import Channel, KeeperGone, Packet, open_socket, peer_of
from wisp.drivers.keeper.namespaces import Namespaces
from wisp.drivers.keeper.process import KeeperIdentity, wait_for_end
from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.values import frozen

__all__ = ["ChildStatus", "KeeperClient", "KeeperGone", "SnapshotPlace", "SpawnOrder", "Spawned", "Summons", "Tended"]

_T = TypeVar("_T")
_BATCH = 200


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """A child that has just reached its program.

    Attributes:
        pid: As seen from outside the cloud.
        start_ticks: Start time [clock ticks since boot]; names the process together with ``pid``.
        spawned_at_ns: ``CLOCK_MONOTONIC`` read just before the fork [ns].
    """

    pid: int
    start_ticks: int
    spawned_at_ns: int


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A child: running, ended and not yet forgotten, or asleep until it is wanted.

    Attributes:
        id: The name it was spawned under.
        pid: As seen from outside the cloud.
        start_ticks: Start time [clock ticks since boot].
        spawned_at_ns: ``CLOCK_MONOTONIC`` just before the fork [ns].
        state: ``running``, ``exited``, or ``asleep`` for one that is summoned.
        exit_code: What it returned; ``None`` while it runs or when a signal ended it.
        signal: The signal that ended it, if one did.
        exited_at_ns: ``CLOCK_MONOTONIC`` when the keeper saw it end [ns].
        log: Where its output is; ``None`` where it is discarded.
        summoned: Whether it is started when it is wanted; then it may live many times.
        trouble: Why it could not be started when it was wanted last, or what else went wrong with it since it was.
    """

    id: str
    pid: int
    start_ticks: int
    spawned_at_ns: int
    state: Literal["asleep", "running", "exited"]
    exit_code: int | None
    signal: int | None
    exited_at_ns: int | None
    log: str | None
    summoned: bool = False
    trouble: str | None = None


@frozen
class Summons:
    """What a child that sleeps is started by, beside :meth:`KeeperClient.wake`.

    Attributes:
        held: Held descriptor; as soon as it can be read, the child is started.
        idle_status: Exit status that says "nobody wants me now"; every other end is a failure, after which it rests.
        budget: Budget its memory comes from (see :meth:`KeeperClient.set_budget`); empty where it is not counted.
        memory_bytes: How much that is [byte].
    """

    held: str
    idle_status: int
    budget: str
    memory_bytes: int


@frozen
class SnapshotPlace:
    """Where a guest is put away.

    Attributes:
        path: The file.
        key: What the snapshot belongs to: only a guest with the same key takes it up.
    """

    path: Path
    key: str


@frozen
class Tended:
    """Who the guest of a tender is, and what becomes of it when nobody wants it.

    Attributes:
        identity: The line that the guest is told; nobody else sees it.
        tap: Held name of its tap.
        pool: Pool that it may come from; empty for none.
        is_stopped: Whether its hypervisor then stands still; else the guest ends.
        snapshot: Where it is put away then, if it is.
    """

    identity: str
    tap: str
    pool: str = ""
    is_stopped: bool = False
    snapshot: SnapshotPlace | None = None


@frozen
class SpawnOrder:
    """What to run, and with what.

    Attributes:
        child_id: A name that no known child has.
        argv: Program (absolute path) and arguments.
        env: The whole environment.
        cwd: Working directory; ``None`` for ``/``.
        netns: Name of a held network namespace; ``None`` for the keeper's own empty one.
        held: Held names by descriptor number in the child (3 to 255).
        passed: Own descriptors by descriptor number in the child.
        log: Absolute path for standard output and error, capped at 1 MiB with one predecessor ``.1``;
            ``None`` to discard them.
        privileged: Keep the capabilities of the cloud's user namespace; without it the child has none.
        address_space_bytes: Limit of address space [byte].
        open_files: Limit of open files.
        nice: Scheduling niceness.
        small_pages: Without transparent huge pages; saves memory where little of each is touched.
        restart: Start it again whenever it ends by itself, first after 0.1 s; until it is forgotten, or sent
            SIGTERM or SIGKILL through the keeper. It cannot inherit ``passed`` descriptors.
        summons: Start it only when it is wanted, again and again; it cannot inherit ``passed`` descriptors.
        own_log: It writes ``log`` itself; the keeper then holds nothing open for it. For those that print little.
        waker: Number of a socket the child gets, on which it may ask for ``wake`` and nothing else.
        tended: It tends a guest, and is told who that is.
        pool: It tends a guest that boots ahead and waits, in the pool of this name.
    """

    child_id: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    netns: str | None = None
    held: Mapping[int, str] = field(default_factory=dict)
    passed: Mapping[int, int] = field(default_factory=dict)
    log: Path | None = None
    privileged: bool = False
    address_space_bytes: int | None = None
    open_files: int | None = None
    nice: int = 0
    small_pages: bool = False
    restart: bool = False
    summons: Summons | None = None
    own_log: bool = False
    waker: int | None = None
    tended: Tended | None = None
    pool: str | None = None

    def packet(self) -> Packet:
        """Give the request as the keeper reads it."""
        held: list[dict[str, object]] = [{"target": target, "held": name} for target, name in self.held.items()]
        passed = [{"target": target, "passed": index} for index, target in enumerate(self.passed)]
        limits = {"address_space_bytes": self.address_space_bytes, "open_files": self.open_files}
        return _packet(
            "spawn",
            list(self.passed.values()),
            id=self.child_id,
            argv=list(self.argv),
            env=dict(self.env),
            cwd=self.cwd,
            netns=self.netns,
            fds=[*held, *passed],
            log=None if self.log is None else str(self.log),
            privileged=self.privileged,
            limits=limits,
            nice=self.nice,
            small_pages=self.small_pages,
            restart=self.restart,
            summons=None if self.summons is None else _summons(self.summons),
            own_log=self.own_log,
            waker=self.waker,
            tender=None if self.tended is None else _tended(self.tended),
            pool=self.pool,
        )


def _tended(tended: Tended) -> dict[str, object]:
    when_idle: object = "stopped" if tended.is_stopped else "deleted"
    if place := tended.snapshot:
        when_idle = {"snapshotted": {"path": str(place.path), "key": place.key}}
    return {"identity": tended.identity, "tap": tended.tap, "pool": tended.pool or None, "when_idle": when_idle}


def _summons(summons: Summons) -> dict[str, object]:
    memory = {"budget": summons.budget, "bytes": summons.memory_bytes} if summons.budget else None
    return {"held": summons.held, "idle_status": summons.idle_status, "memory": memory}


class _Answer(msgspec.Struct):
    ok: bool
    error: str = ""


class _Names(msgspec.Struct):
    names: list[str]
    more: bool = False


class _Children(msgspec.Struct):
    children: list[ChildStatus]
    more: bool = False


class KeeperClient:
    """A connection to one cloud's keeper. Requests may overlap and may be cancelled.

    Every method raises ``KeeperGone`` when the keeper has ended, and ``PermanentDriverError`` with the
    keeper's own sentence when it refuses.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._channel = Channel(open_socket(directory), peer_of(directory))

    @classmethod
    async def connect(cls, directory: Path) -> "KeeperClient":
        """Connect to the keeper of ``directory``.

        Raises:
            KeeperGone: Nobody answers there.
        """
        return cls(directory)

    async def __aenter__(self) -> "KeeperClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the keeper and its children go on."""
        self._channel.close()

    async def hello(self) -> tuple[KeeperIdentity, Namespaces]:
        """Give who the keeper is, and its namespaces; the caller closes them."""
        answer = await self._request(_packet("hello"))
        user, mount, pid, inner_mount = answer.descriptors
        namespaces = Namespaces(user=user, mount=mount, pid=pid, inner_mount=inner_mount)
        return msgspec.json.decode(answer.body, type=KeeperIdentity), namespaces

    async def namespaces(self) -> Namespaces:
        """Give the cloud's user, mount and pid namespace; the caller closes them."""
        return (await self.hello())[1]

    async def hold(self, descriptors: Mapping[str, int]) -> None:
        """Have the keeper hold copies of ``descriptors`` by name; a name it holds already is refused."""
        for batch in _batches(list(descriptors.items())):
            names = [name for name, _ in batch]
            await self._request(_packet("hold", [number for _, number in batch], names=names))

    async def fetch(self, names: Sequence[str]) -> list[int]:
        """Give copies of held descriptors in the order of ``names``; the caller closes them."""
        found: list[int] = []
        for batch in _batches(names):
            found.extend((await self._request(_packet("fetch", names=list(batch)))).descriptors)
        return found

    async def release(self, names: Sequence[str]) -> None:
        """Have the keeper let go of ``names``; those it does not hold are ignored."""
        for batch in _batches(names):
            await self._request(_packet("release", names=list(batch)))

    async def held(self) -> tuple[str, ...]:
        """Give the names of everything held, in order."""
        names: list[str] = []
        more = True
        while more:
            page = await self._ask(_packet("held", after=names[-1] if names else ""), _Names)
            names.extend(page.names)
            more = page.more
        return tuple(names)

    async def spawn(self, order: SpawnOrder) -> Spawned:
        """Start a child; returns once its program runs, or at once for one that sleeps until it is wanted."""
        return await self._ask(order.packet(), Spawned, subject=order.child_id)

    async def signal(self, child_id: str, number: int) -> None:
        """Send a signal to a running child and its process group."""
        await self._request(_packet("signal", id=child_id, signal=int(number)), subject=child_id)

    async def forget(self, child_id: str) -> None:
        """Drop what is known of an ended child; an unknown one is ignored."""
        await self._request(_packet("forget", id=child_id), subject=child_id)

    async def wake(self, child_id: str) -> None:
        """Start a child that sleeps; one that runs is fine."""
        await self._request(_packet("wake", id=child_id), subject=child_id)

    async def set_budget(self, name: str, memory_bytes: int) -> None:
        """Let the summoned children of a budget take so much memory together [byte]."""
        await self._request(_packet("budget", name=name, bytes=memory_bytes))

    async def children(self) -> tuple[ChildStatus, ...]:
        """Give every child that is known, in order of id."""
        rows: list[ChildStatus] = []
        more = True
        while more:
            page = await self._ask(_packet("children", after=rows[-1].id if rows else ""), _Children)
            rows.extend(page.children)
            more = page.more
        return tuple(rows)

    async def child(self, child_id: str) -> ChildStatus | None:
        """Give one child; ``None`` for one that is not known."""
        rows = (await self._ask(_packet("child", id=child_id), _Children)).children
        return rows[0] if rows else None

    async def watch(self) -> AsyncIterator[ChildStatus]:
        """Give each child as it ends, wakes or falls asleep, first those that ended before, and all that are summoned.

        Uses a connection of its own. A watcher that does not keep up is cut off by the keeper and connects
        again by itself, so the same may be given twice; what changed back meanwhile may be left out.
        """
        while True:
            channel = Channel(open_socket(self._directory), peer_of(self._directory))
            try:
                await _request(channel, _packet("watch"))
                while True:
                    yield msgspec.json.decode((await channel.receive()).body, type=ChildStatus)
            except KeeperGone:
                continue  # a new connection tells a keeper that cut us off from one that is gone
            finally:
                channel.close()

    async def shutdown(self) -> None:
        """End the keeper and everything in the cloud; returns once all of its processes are gone."""
        identity, namespaces = await self.hello()
        namespaces.close()
        await self._request(_packet("shutdown"))
        await wait_for_end(identity)
        self.close()

    async def _ask(self, packet: Packet, kind: type[_T], subject: str = "") -> _T:
        return msgspec.json.decode((await self._request(packet, subject)).body, type=kind)

    async def _request(self, packet: Packet, subject: str = "") -> Packet:
        return await _request(self._channel, packet, subject)


async def _request(channel: Channel, packet: Packet, subject: str = "") -> Packet:
    answer = await channel.request(packet)
    status = msgspec.json.decode(answer.body, type=_Answer)
    if not status.ok:
        operation = msgspec.json.decode(packet.body)["op"]
        raise PermanentDriverError(status.error, driver="keeper", operation=operation, subject=subject)
    return answer


def _packet(operation: str, descriptors: Sequence[int] = (), **fields: Any) -> Packet:
    return Packet(msgspec.json.encode({"op": operation, **fields}), descriptors)


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
