"""Instances without a machine: records with the start time of their kind, in whatever time the clock tells."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec, WarmPool
from wisp.model.zone import Zone
from wisp.ports.instance import POOL_PREFIX, Capabilities, Exit, Fingerprint, Life, Sign
from wisp.primitives.errors import TransientDriverError, UnknownInstance
from wisp.primitives.time import Clock, Duration, Instant

# From spawn to the first answer, as measured by `wisp bench boot` on the reference machine.
START_TIME = {
    Kind.MICROVM: Duration.of_ms(40),
    Kind.SPT: Duration.of_ms(0.5),
    Kind.IMAGE: Duration.of_ms(210),
    Kind.VM: Duration.of_ms(2080),
    Kind.CONTAINER: Duration.of_ms(36),
    Kind.PROCESS: Duration.of_ms(1.5),
}


@dataclass(slots=True)
class _Record:
    handle: Handle
    answers_at: Instant
    is_asleep: bool = False
    exit: Exit | None = None


class SimulatedInstances:
    """Implements :class:`wisp.ports.instance.InstanceDriver` and ``LifeWatch``, and the health prober beside it.

    Args:
        kind: The kind it stands for.
        clock: Tells the time.
    """

    def __init__(self, kind: Kind, clock: Clock) -> None:
        self._kind, self._clock = kind, clock
        self._records: dict[str, _Record] = {}
        self._names: dict[str, str] = {}
        self._next_pid = 1
        self._signs: asyncio.Queue[Sign] = asyncio.Queue()
        self._refusals: dict[str, str] = {}

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(kind=self._kind, isolation="none", memory_limit_enforced=True)

    async def fingerprint(self) -> Fingerprint:
        """Say that it works everywhere."""
        return Fingerprint(healthy=True, sentence=f"{self._kind} is simulated")

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Make a record; see the port."""
        del secrets  # nothing reads them here
        if reason := self._refusals.get(spec.name):
            raise TransientDriverError(
                f"{spec.name}: {reason}", driver=self._kind, operation="start", subject=spec.name
            )
        child = f"{spec.name}@{spec.digest}"
        record = self._records.get(child)
        if record and record.exit is None:
            return record.handle
        handle = self._new_handle(spec, child)
        answers_at = handle.spawned_at + START_TIME[self._kind]
        self._records[child] = _Record(handle=handle, answers_at=answers_at, is_asleep=spec.is_summoned)
        self._names[spec.name] = child
        return handle

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        record = self._records.get(handle.child)
        if record is None or record.handle.start_ticks != handle.start_ticks:
            raise UnknownInstance(f"{handle.instance}: there is no record {handle.child}")
        return record.exit

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """Drop the record; an unknown one is fine."""
        del grace  # a record needs no time to end
        self._records.pop(handle.child, None)

    async def signs(self) -> AsyncIterator[Sign]:
        """Give what becomes of children."""
        while True:
            yield await self._signs.get()

    async def set_budget(self, host: str, memory_bytes: int) -> None:
        """Take note of nothing: records need no memory."""

    async def keep_warm(self, pools: Sequence[WarmPool]) -> int:
        """Keep nothing warm: records start as quickly as their kind does."""
        del pools
        return 0

    async def serve(self, zone: Zone, specs: Sequence[InstanceSpec]) -> None:
        """Answer nobody: records have no addresses."""

    async def withdraw(self, namespaces: Collection[str]) -> None:
        """Answer nobody."""

    async def probe(self, spec: InstanceSpec, *, within: Duration) -> str | None:
        """Answer once the start time of the kind has passed."""
        del within  # a record answers at once
        record = self._records.get(f"{spec.name}@{spec.digest}")
        if record is None or record.exit:
            return "connection refused"
        if record.is_asleep:
            self.wake(spec.name)
        return None if self._clock.now() >= record.answers_at else "still booting"

    def crash(self, instance: str, reason: str = "killed by SIGKILL") -> None:
        """End an instance as if by itself."""
        child = self._names[instance]
        self._records[child].exit = Exit(code=None, signal=9, reason=reason)
        self._tell(child, Life.EXITED, reason)

    def finish(self, instance: str) -> None:
        """Have an instance be told to finish: it has no connections, and ends at once."""
        child = self._names[instance]
        self._records[child].exit = Exit(code=0, signal=None, reason="exited with status 0")
        self._tell(child, Life.EXITED)

    def crash_ahead(self, pool: str) -> None:
        """Have a guest end that boots ahead for a pool."""
        child = f"{POOL_PREFIX}{pool}#0"
        self._signs.put_nowait(Sign(child=child, life=Life.EXITED, pid=0, since=self._clock.now()))

    def wake(self, instance: str) -> None:
        """Have a summoned instance be wanted."""
        record = self._records[self._names[instance]]
        record.is_asleep, record.answers_at = False, self._clock.now() + START_TIME[self._kind]
        self._tell(record.handle.child, Life.RUNNING)

    def put_to_sleep(self, instance: str) -> None:
        """Have nobody want a summoned instance."""
        record = self._records[self._names[instance]]
        record.is_asleep = True
        self._tell(record.handle.child, Life.ASLEEP)

    def _tell(self, child: str, life: Life, reason: str = "") -> None:
        pid = 0 if life is Life.ASLEEP else self._records[child].handle.pid
        self._signs.put_nowait(Sign(child=child, life=life, pid=pid, since=self._clock.now(), reason=reason))

    def refuse(self, instance: str, reason: str | None) -> None:
        """Have later starts of an instance fail with ``reason``; ``None`` lets them succeed again."""
        if reason is None:
            self._refusals.pop(instance, None)
        else:
            self._refusals[instance] = reason

    def _new_handle(self, spec: InstanceSpec, child: str) -> Handle:
        self._next_pid += 1
        return Handle(
            driver=self._kind,
            instance=spec.name,
            spec_digest=spec.digest,
            child=child,
            pid=0 if spec.is_summoned else self._next_pid,
            start_ticks=0 if spec.is_summoned else self._next_pid,
            spawned_at=self._clock.now(),
            is_summoned=spec.is_summoned,
        )
