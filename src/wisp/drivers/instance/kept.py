"""What the drivers have in common: every instance is a child of the keeper.

A child's identity holds the instance's name and the digest of its spec, so that the keeper's own list is enough
to find every instance again, even one whose handle was never written down.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from dataclasses import field
from itertools import count, islice
from pathlib import Path

from wisp.drivers.instance.guest import CONFIDENTIAL_DESCRIPTOR
from wisp.drivers.keeper.client import ChildStatus, KeeperClient, SpawnOrder, Summons, Tended
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec, WarmPool
from wisp.ports.instance import POOL_PREFIX, Exit, Life, Sign
from wisp.primitives.errors import PermanentDriverError, TransientDriverError, UnknownInstance
from wisp.primitives.time import Duration, Instant
from wisp.primitives.values import frozen

INSTANCE_PREFIX = "instance/"
CONFIDENTIAL_PREFIX = "confidential/"
LOG_TAIL_BYTES = 4096
FORCE_PATIENCE_S = 10.0

# A child may be started again under its name; news of an earlier life must not be taken for one of the present.
_LifeId = tuple[str, int, int]


@frozen
class Command:
    """A process to spawn for an instance.

    Attributes:
        argv: Program and arguments.
        environment: All of it.
        namespace: Held network namespace; ``None`` for the keeper's empty one.
        held: Held descriptors it inherits, by number.
        address_space_bytes, open_files: Limits; ``None`` for none.
        small_pages: Without transparent huge pages.
        own_log: Whether it writes its log itself, for one that prints little.
        wakes_on: Held descriptor that starts it when it is summoned: what can be read there is for it.
        idle_status: Exit status that says "nobody wants me now".
        tended: Who the guest is, for a tender.
        privileged: With the capabilities of the cloud, for a program that sets up and then gives them away.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = None
    held: Mapping[int, str] = field(default_factory=dict)
    address_space_bytes: int | None = None
    open_files: int | None = None
    small_pages: bool = False
    own_log: bool = False
    wakes_on: str = ""
    idle_status: int = 0
    tended: Tended | None = None
    privileged: bool = False


class KeptChildren:
    """The keeper's children as instances; shared by all drivers of one cloud.

    Args:
        keeper: Connection for orders.
        logs: Folder of the log files, one per instance.
        epoch_offset_ns: What to add to CLOCK_MONOTONIC to get time since the epoch [ns].
    """

    def __init__(self, keeper: KeeperClient, logs: Path, *, epoch_offset_ns: int) -> None:
        self._keeper, self._logs, self._offset_ns = keeper, logs, epoch_offset_ns
        self._ended: dict[_LifeId, ChildStatus] = {}
        self._waiting: dict[_LifeId, asyncio.Event] = {}

    async def spawn(self, spec: InstanceSpec, command: Command, passed: Mapping[int, int] | None = None) -> Handle:
        """Spawn ``command`` for ``spec``; a child already running from the same spec is taken as it is.

        Args:
            spec: Whose process it is.
            command: What to run.
            passed: Own descriptors that the process inherits, by number there.
        """
        child = child_name(spec)
        held = {**command.held, **(await self._held_for(child, passed) if spec.is_summoned and passed else {})}
        order = SpawnOrder(
            child_id=child,
            argv=command.argv,
            env=command.environment,
            netns=command.namespace,
            held=held,
            passed={} if spec.is_summoned else passed or {},
            log=self.log_of(spec.name),
            address_space_bytes=command.address_space_bytes,
            open_files=command.open_files,
            small_pages=command.small_pages,
            own_log=command.own_log,
            privileged=command.privileged,
            summons=_summons(spec, command) if spec.is_summoned else None,
            tended=command.tended,
        )
        try:
            spawned = await self._keeper.spawn(order)
        except PermanentDriverError:
            # Mostly there is no child of that name yet; only now is it worth looking.
            if living := await self._living(child):
                return self._handle(spec.name, spec.digest, str(spec.kind), living)
            spawned = await self._keeper.spawn(order)
        return Handle(
            driver=spec.kind,
            instance=spec.name,
            spec_digest=spec.digest,
            child=child,
            pid=spawned.pid,
            start_ticks=spawned.start_ticks,
            spawned_at=Instant(spawned.spawned_at_ns + self._offset_ns),
            is_summoned=spec.is_summoned,
        )

    async def _held_for(self, child: str, passed: Mapping[int, int]) -> dict[int, str]:
        """Have the keeper hold what a summoned child inherits at each of its starts; give the names by number."""
        names = {number: _confidential_name(child, number) for number in passed}
        await self._keeper.release(list(names.values()))
        await self._keeper.hold({names[number]: descriptor for number, descriptor in passed.items()})
        return names

    def log_of(self, instance: str) -> Path:
        """Give the log file of an instance."""
        return self._logs / f"{instance}.log"

    async def signs(self) -> AsyncIterator[Sign]:
        """Give what becomes of children; see :class:`wisp.ports.instance.LifeWatch`."""
        async for child in self._keeper.watch():
            if child.id.startswith(INSTANCE_PREFIX) and child.state == "exited":
                if not child.summoned:
                    self._ended[_life_of(child)] = child
                if event := self._waiting.pop(_life_of(child), None):
                    event.set()
            yield self._sign(child)

    async def fill(self, pool: WarmPool, command: Command) -> int:
        """Have as many guests of a pool boot ahead as it wants, no more; give how many are new."""
        prefix = f"{POOL_PREFIX}{pool.name}#"
        rows = [row for row in await self._keeper.children() if row.id.startswith(prefix)]
        for row in rows:
            if row.state == "exited":
                await self._keeper.forget(row.id)
        running = {row.id for row in rows if row.state == "running"}
        free = (name for name in (f"{prefix}{number}" for number in count()) if name not in running)
        wanted = max(0, pool.size - len(running))
        for name in islice(free, wanted):
            await self._keeper.spawn(
                SpawnOrder(
                    child_id=name,
                    argv=command.argv,
                    env=command.environment,
                    log=self._logs / "pool.log",
                    open_files=command.open_files,
                    small_pages=command.small_pages,
                    pool=pool.name,
                )
            )
        return wanted

    async def empty_pools(self, but: Collection[str]) -> None:
        """End the guests of all pools but some."""
        for row in await self._keeper.children():
            if row.id.startswith(POOL_PREFIX) and row.id.removeprefix(POOL_PREFIX).rpartition("#")[0] not in but:
                if row.state == "running":
                    with suppress(PermanentDriverError):  # it has just ended, or was just taken
                        await self._keeper.signal(row.id, signal.SIGKILL)
                else:
                    await self._keeper.forget(row.id)

    async def set_budget(self, host: str, memory_bytes: int) -> None:
        """Let the summoned instances of a host take so much memory together [byte]."""
        await self._keeper.set_budget(host, memory_bytes)

    async def ended(self, handle: Handle) -> Exit | None:
        """Say how a child ended, or ``None`` while it runs.

        Raises:
            UnknownInstance: The keeper does not know it (any more).
        """
        row = self._ended.get(_life(handle)) or await self._row(handle)
        return self._exit(row, handle.instance) if row.state == "exited" else None

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End a child, by force after ``grace``, and forget it."""
        try:
            running = await self.ended(handle) is None
        except UnknownInstance:
            return
        if running:
            await self._end(handle, grace)
        await self._keeper.forget(handle.child)
        if handle.is_summoned:
            await self._keeper.release([_confidential_name(handle.child, CONFIDENTIAL_DESCRIPTOR)])
        self._ended.pop(_life(handle), None)

    async def handles(self) -> list[Handle]:
        """Give a handle for every child that is an instance, running or ended but not forgotten."""
        rows = [row for row in await self._keeper.children() if row.id.startswith(INSTANCE_PREFIX)]
        return [self._handle(*_parse_child(row.id), row) for row in rows]

    async def _end(self, handle: Handle, grace: Duration) -> None:
        for number, patience_s in ((signal.SIGTERM, grace.seconds), (signal.SIGKILL, FORCE_PATIENCE_S)):
            if patience_s <= 0:
                continue
            ended = self._waiting.setdefault(_life(handle), asyncio.Event())
            with suppress(PermanentDriverError):  # it has just ended by itself, and we are about to hear of it
                await self._keeper.signal(handle.child, number)
            try:
                async with asyncio.timeout(patience_s):
                    await ended.wait()
            except TimeoutError:
                continue
            return
        raise TransientDriverError(
            f"{handle.instance}: process {handle.pid} does not end even by force; look at it with `ps {handle.pid}`",
            driver=handle.driver,
            operation="stop",
            subject=handle.instance,
        )

    async def _living(self, child: str) -> ChildStatus | None:
        """Give the child of that name that runs or sleeps; one that ended is forgotten, so that the name is free."""
        row = await self._keeper.child(child)
        if row and row.state == "exited":
            await self._keeper.forget(child)
            self._ended.pop(_life_of(row), None)
            return None
        return row

    async def _row(self, handle: Handle) -> ChildStatus:
        row = await self._keeper.child(handle.child)
        if row and _life_of(row) == _life(handle):
            return row
        raise UnknownInstance(f"{handle.instance}: the keeper knows no child {handle.child}")

    def _handle(self, instance: str, digest: str, driver: str, row: ChildStatus) -> Handle:
        return Handle(
            driver=driver,
            instance=instance,
            spec_digest=digest,
            child=row.id,
            pid=0 if row.summoned else row.pid,
            start_ticks=0 if row.summoned else row.start_ticks,
            spawned_at=Instant(row.spawned_at_ns + self._offset_ns),
            is_summoned=row.summoned,
        )

    def _sign(self, row: ChildStatus) -> Sign:
        is_failure = row.summoned and row.state == "exited"
        why = self._exit(row, _parse_child(row.id)[0]).reason if is_failure and not row.trouble else ""
        return Sign(
            child=row.id,
            life=Life(row.state),
            pid=row.pid,
            since=Instant(row.spawned_at_ns + self._offset_ns),
            reason=row.trouble or why,
        )

    def _exit(self, row: ChildStatus, instance: str) -> Exit:
        how = f"killed by {_signal_name(row.signal)}" if row.signal else f"exited with status {row.exit_code}"
        last = last_words(self.log_of(instance), by_itself=row.signal is None)
        return Exit(code=row.exit_code, signal=row.signal, reason=f"{how}: {last}" if last else how)


def _confidential_name(child: str, number: int) -> str:
    return f"{CONFIDENTIAL_PREFIX}{child}/{number}"


def _summons(spec: InstanceSpec, command: Command) -> Summons:
    # What is reserved for it, it need not share.
    budget = spec.host if spec.gives_back else ""
    return Summons(held=command.wakes_on, idle_status=command.idle_status, budget=budget, memory_bytes=spec.cost_bytes)


def _life_of(row: ChildStatus) -> _LifeId:
    """Give which of the lives of a child a row tells of; a summoned one counts as one for all its lives."""
    return (row.id, 0, 0) if row.summoned else (row.id, row.pid, row.start_ticks)


def _life(handle: Handle) -> _LifeId:
    return handle.child, handle.pid, handle.start_ticks


def child_name(spec: InstanceSpec) -> str:
    """Give the identity under which the keeper knows the instance."""
    return f"{INSTANCE_PREFIX}{spec.kind.replace('/', '-')}/{spec.name}@{spec.digest}"


def _parse_child(child: str) -> tuple[str, str, str]:
    """Take a child's identity apart: instance, digest, kind."""
    kind, _, rest = child.removeprefix(INSTANCE_PREFIX).partition("/")
    name, _, digest = rest.rpartition("@")
    return name, digest, next(str(known) for known in Kind if known.replace("/", "-") == kind)


def last_words(log: Path, *, by_itself: bool) -> str:
    """Give a guest's own exit reason, or else the last line of its log; empty for none.

    One that did not end by itself gave no reason: what stands there was said in an earlier life.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    reasons = [line.removeprefix("wisp-exit:").strip() for line in lines if line.startswith("wisp-exit:")]
    if by_itself and reasons:
        return reasons[-1][:300]
    return "" if not lines or lines[-1].startswith("wisp-exit:") else lines[-1][:300]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
