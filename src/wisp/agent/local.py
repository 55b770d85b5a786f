"""Carries out actions on this machine through its drivers, and reports what becomes of them and what it sees.

Reports go one way, through the ``report`` callable; nothing is asked back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import nullcontext

from wisp.agent.health import HealthMonitor
from wisp.model.action import DrainInstance, NetworkAction, RemoveNamespace, StartInstance, StopInstance
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec, InstanceState, ObservedInstance, WarmPool
from wisp.model.load import LoadReported
from wisp.model.network import mac_of
from wisp.model.plan import Plan
from wisp.model.report import (
    InstanceExited,
    InstanceFound,
    InstanceNotStarted,
    InstanceSlept,
    InstanceStarted,
    InstanceStopped,
    InstanceWoken,
    NetworkChanged,
    NetworkObserved,
    Report,
)
from wisp.ports.health import HealthProber
from wisp.ports.instance import (
    POOL_PREFIX,
    InstanceDriver,
    Life,
    LifeWatch,
    MemoryBudgets,
    Sign,
    WarmPools,
)
from wisp.ports.names import NameService
from wisp.ports.network import NetworkDriver
from wisp.primitives.backoff import backoff
from wisp.primitives.errors import PermanentDriverError, UnknownInstance, WispError
from wisp.primitives.time import Clock, Duration

log = logging.getLogger(__name__)

STOP_GRACE = Duration.of_seconds(3)
STARTS_AT_ONCE = 8
LOOK_EVERY = Duration.of_seconds(10)
LOAD_EVERY = Duration.of_seconds(1)
# The program behind links that delay; while it does not run, they do not.
DELAY_CHILD = "delay"
POOL_LAG = Duration.of_ms(200)


class LocalAgent:
    """One machine's hands and eyes.

    Args:
        drivers: One per kind that this machine runs.
        network: Makes the network.
        prober: Asks instances whether they answer.
        lives: Tells when a process ends, wakes up or falls asleep.
        budgets: Holds those that are woken to their memory.
        pools: Has guests boot ahead.
        names: Answers for the cloud's names.
        secrets: Gives the values of the secrets that a spec names, at the moment they are needed.
        cpu_seconds: Gives the processor time that a process and its children have used; ``None`` for one that is gone.
        clock: Tells the time of what is reported.
        report: Takes every report.
    """

    def __init__(
        self,
        *,
        drivers: Mapping[Kind, InstanceDriver],
        network: NetworkDriver,
        prober: HealthProber,
        lives: LifeWatch,
        budgets: MemoryBudgets,
        pools: WarmPools,
        names: NameService,
        secrets: Callable[[InstanceSpec], Awaitable[Mapping[str, str]]],
        cpu_seconds: Callable[[int], float | None],
        clock: Clock,
        report: Callable[[Report], None],
    ) -> None:
        self._cpu_seconds = cpu_seconds
        self._drivers, self._network, self._lives = drivers, network, lives
        self._secrets, self._clock, self._report = secrets, clock, report
        self._monitor = HealthMonitor(prober, clock, report)
        self._running: dict[str, Handle] = {}
        self._specs: dict[str, InstanceSpec] = {}
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._sharing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sharing.set_result(None)
        self._budgets, self._pools = budgets, pools
        self._wanted_pools: tuple[WarmPool, ...] | None = None
        self._pool_news = asyncio.Event()
        self._pool_failures = 0
        self._names = names
        self._plan: Plan | None = None
        self._zone_news = asyncio.Event()
        self._naming = asyncio.Lock()

    async def observe(self, seen: Sequence[ObservedInstance]) -> None:
        """Report the network as it is, and what became of instances that an earlier controller left."""
        self._report(NetworkObserved(network=await self._network.observe()))
        await asyncio.gather(*(self._find(instance) for instance in seen))

    async def watch(self) -> None:
        """Report processes that end, wake up or fall asleep, until cancelled."""
        async for sign in self._lives.signs():
            handle = self._running.get(sign.child)
            if handle and handle.is_summoned:
                self._report_summoned(handle, sign)
            elif handle:
                await self._report_if_ended(handle)
            elif sign.child == DELAY_CHILD:
                await self._look_at_network()
            elif self._wanted_pools and sign.child.startswith(POOL_PREFIX):
                self._pool_failures += sign.life is Life.EXITED
                self._pool_news.set()

    async def look_around(self) -> None:
        """Report the network from time to time until cancelled, so that what others did to it is mended."""
        while True:
            await asyncio.sleep(LOOK_EVERY.seconds)
            await self._look_at_network()

    async def keep_warm(self) -> None:
        """Fill warm pools in the background until cancelled."""
        while True:
            await self._pool_news.wait()
            # Whoever woke a guest comes first, and so do those who follow at once; guests that die booting get rest.
            await asyncio.sleep(max(POOL_LAG, backoff(self._pool_failures)).seconds)
            self._pool_news.clear()
            try:
                await self._pools.keep_warm(self._wanted_pools or ())
            except WispError as failure:
                log.warning("warm pools cannot be filled: %s", failure)

    async def measure_load(self) -> None:
        """Report the load of what may have several instances from time to time, until cancelled."""
        while True:
            await asyncio.sleep(LOAD_EVERY.seconds)
            if self._plan is not None and self._plan.elastic:
                try:
                    self._report(await self._load({name for group in self._plan.elastic for name in group.members}))
                except WispError as failure:
                    log.warning("the load cannot be measured: %s", failure)

    async def _load(self, names: Collection[str]) -> LoadReported:
        handles = [handle for handle in self._running.values() if handle.instance in names]
        used = {handle.instance: self._cpu_seconds(handle.pid) for handle in handles if handle.pid}
        took = {handle.instance: self._monitor.answer_ms(handle) for handle in handles}
        return LoadReported(
            connections=await self._network.connections(),
            cpu_seconds={name: seconds for name, seconds in used.items() if seconds is not None},
            answer_ms={name: ms for name, ms in took.items() if ms is not None},
            at=self._clock.now(),
        )

    async def _look_at_network(self) -> None:
        """Report the network as it is; one that cannot be looked at now is looked at again later."""
        try:
            self._report(NetworkObserved(network=await self._network.observe()))
        except WispError as failure:
            log.warning("the network cannot be looked at: %s", failure)

    async def change_network(self, actions: Sequence[NetworkAction]) -> None:
        """Carry out a batch of network actions and report what came of it."""
        error = None
        doomed = [action.name for action in actions if isinstance(action, RemoveNamespace)]
        try:
            async with self._naming if doomed else nullcontext():
                if doomed:
                    # Its sockets would keep a namespace alive, with all that is in it.
                    await self._names.withdraw(doomed)
                await self._network.apply(actions)
        except WispError as failure:
            error = str(failure)
        # Beside what goes on now, not before it: a name is there long before an instance that always runs answers.
        self._zone_news.set()
        self._report(NetworkChanged(network=await self._network.observe(), error=error))

    async def serve_names(self) -> None:
        """Have each new plan's names answered, until cancelled."""
        failures = 0
        while True:
            await self._zone_news.wait()
            self._zone_news.clear()
            try:
                await self._serve_names()
                failures = 0
            except WispError as failure:
                log.warning("names are not answered: %s", failure)
                failures += 1
                self._zone_news.set()
                await asyncio.sleep(backoff(failures + 1).seconds)

    async def _serve_names(self) -> None:
        """Have the plan's names answered, once all of its hosts exist."""
        async with self._naming:
            plan = self._plan
            if plan is None or plan.zone is None:
                return
            namespaces = {namespace.name for namespace in (await self._network.observe()).namespaces}
            if namespaces.issuperset(plan.zone.servers.values()):
                await self._names.serve(plan.zone, plan.instances)

    async def start(self, action: StartInstance) -> None:
        """Start an instance, report it, and watch its health from then on."""
        spec = action.spec
        try:
            async with self._starting:
                await self._sharing
                handle = await self._driver(spec.kind).start(spec, await self._secrets(spec))
        except WispError as failure:
            permanent = isinstance(failure, PermanentDriverError)
            self._report(
                InstanceNotStarted(name=spec.name, spec_digest=spec.digest, error=str(failure), is_permanent=permanent)
            )
            return
        self._running[handle.child], self._specs[handle.child] = handle, spec
        self._report(InstanceStarted(handle=handle, started_at=handle.spawned_at))
        if handle.is_summoned:
            return
        self._monitor.add(spec, handle)
        await self._report_if_ended(handle)

    async def drain(self, action: DrainInstance) -> None:
        """Tell an instance to finish and to end; one that cannot be told is stopped when its time is up."""
        if action.handle:
            self._monitor.remove(action.handle)
        try:
            await self._network.farewell(action.tap.namespace, action.tap.interface, mac_of(action.tap.address))
        except WispError as failure:
            log.warning("%s cannot be told to finish: %s", action.name, failure)

    async def stop(self, action: StopInstance) -> None:
        """Stop an instance and report it."""
        error = None
        if action.handle:
            self._forget(action.handle)
            try:
                await self._driver(Kind(action.handle.driver)).stop(
                    action.handle, grace=Duration(0) if action.at_once else STOP_GRACE
                )
            except WispError as failure:
                error = str(failure)
        self._report(InstanceStopped(name=action.name, error=error))

    def follow(self, plan: Plan) -> None:
        """Watch the health of instances found running, now that their specs are known, and share out memory."""
        by_digest = {(spec.name, spec.digest): spec for spec in plan.instances}
        self._sharing = asyncio.create_task(self._share_memory(plan.memory_left_bytes), name="share memory")
        self._wanted_pools = plan.pools
        self._pool_news.set()
        self._plan = plan
        self._zone_news.set()
        for handle in self._running.values():
            spec = by_digest.get((handle.instance, handle.spec_digest))
            if spec and not self._monitor.has(handle):
                self._specs[handle.child] = spec
                if not handle.is_summoned:
                    self._monitor.add(spec, handle)

    async def _share_memory(self, left_bytes: Mapping[str, int]) -> None:
        for host, memory_bytes in left_bytes.items():
            await self._budgets.set_budget(host, memory_bytes)

    async def close(self) -> None:
        """Stop watching; what runs goes on running."""
        await self._monitor.close()

    def _driver(self, kind: Kind) -> InstanceDriver:
        return self._drivers[kind]

    async def _find(self, seen: ObservedInstance) -> None:
        """Report an instance as it was written down, and whether it ended since."""
        self._report(InstanceFound(seen=seen))
        if seen.handle is None:
            return
        try:
            ended = await self._driver(Kind(seen.handle.driver)).recover(seen.handle)
        except UnknownInstance:
            reason = "ended while no controller ran"
        else:
            reason = ended.reason if ended else ""
        if reason:
            self._report(InstanceExited(child=seen.handle.child, reason=reason))
        else:
            self._running[seen.handle.child] = seen.handle

    async def _report_if_ended(self, handle: Handle) -> None:
        """Report the instance's end with its reason, once; nothing while it runs."""
        try:
            ended = await self._driver(Kind(handle.driver)).recover(handle)
        except UnknownInstance:
            return
        if ended and handle.child in self._running:
            self._forget(handle)
            await self._driver(Kind(handle.driver)).stop(handle, grace=Duration(0))
            self._report(InstanceExited(child=handle.child, reason=ended.reason))

    def _report_summoned(self, handle: Handle, sign: Sign) -> None:
        """Report what became of a summoned instance; only while it is awake is it asked whether it is well."""
        self._monitor.remove(handle)
        match sign.life:
            case Life.ASLEEP:
                self._report(InstanceSlept(child=handle.child, trouble=sign.reason))
            case Life.RUNNING:
                if self._wanted_pools:
                    self._pool_failures = 0
                    self._pool_news.set()
                self._report(
                    InstanceWoken(child=handle.child, pid=sign.pid, started_at=sign.since, trouble=sign.reason)
                )
                if spec := self._specs.get(handle.child):
                    self._monitor.add(spec, handle)
            case Life.EXITED:
                self._report(InstanceExited(child=handle.child, reason=sign.reason))

    def _forget(self, handle: Handle) -> None:
        self._running.pop(handle.child, None)
        self._specs.pop(handle.child, None)
        self._monitor.remove(handle)


def found_unstarted(handle: Handle) -> ObservedInstance:
    """Give the record of an instance whose start was not written down before the controller was killed."""
    return ObservedInstance(
        name=handle.instance,
        spec_digest=handle.spec_digest,
        state=InstanceState.STARTING,
        handle=handle,
        changed_at=handle.spawned_at,
        started_at=handle.spawned_at,
        pid=handle.pid,
    )
