"""Performs what the core decides: takes events in, writes down what must last, hands actions to the agent.

A plan is on disk before its first action is carried out.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from wisp.controller.core import ControllerCore, DesiredChanged, Input, Step, Woken
from wisp.model.action import DrainInstance, NetworkAction, StartInstance, StopInstance
from wisp.model.instance import InstanceSpec
from wisp.model.plan import Plan
from wisp.model.report import InstanceNotStarted, InstanceStopped, NetworkChanged
from wisp.ports.store import StateStore
from wisp.primitives.errors import WispError
from wisp.primitives.time import Clock, Duration, Instant

log = logging.getLogger(__name__)

UNWRITTEN_STEPS_KEPT = 10_000
LONG_STEP = Duration.of_ms(2)


class Agent(Protocol):
    """Whoever carries actions out and reports through the runner's :meth:`Runner.put`."""

    async def change_network(self, actions: Sequence[NetworkAction]) -> None:
        """Carry out a batch of network actions."""
        ...

    async def start(self, action: StartInstance) -> None:
        """Start one instance."""
        ...

    async def stop(self, action: StopInstance) -> None:
        """Stop one instance."""
        ...

    async def drain(self, action: DrainInstance) -> None:
        """Tell one instance to finish and to end."""
        ...

    def follow(self, plan: Plan) -> None:
        """Watch instances found running, and let those that sleep share the memory that is left."""
        ...


class Runner:
    """The controller's loop under asyncio.

    Args:
        core: Decides.
        store: Keeps.
        clock: Tells the time.
        on_step: Called after each step was written down, for whoever shows progress.
    """

    def __init__(
        self,
        core: ControllerCore,
        store: StateStore,
        clock: Clock,
        on_step: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._core, self._store, self._clock, self._on_step = core, store, clock, on_step
        self._inbox: asyncio.Queue[Input] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwritten: deque[Step] = deque(maxlen=UNWRITTEN_STEPS_KEPT)

    def put(self, event: Input) -> None:
        """Hand an event in; it is taken up in order."""
        self._inbox.put_nowait(event)

    def desired_changed(self) -> None:
        """Read the newest desired state and hand it in."""
        newest = self._store.desired()
        revision, desired = newest or (0, None)
        faults = self._store.faults()
        self.put(DesiredChanged(revision=revision, desired=desired, cause=self._store.cause(), faults=faults))

    async def run(self, agent: Agent) -> None:
        """Take events and perform steps until cancelled."""
        wake_at: Instant | None = None
        try:
            while True:
                events = await self._gather(wake_at)
                begin = self._clock.now()
                step = self._core.handle(events, now=begin)
                self._write_down(step)
                self._perform(step, agent)
                self._on_step(step)
                wake_at = step.wake_at
                await self._breathe(self._clock.now() - begin)
        finally:
            await self._cancel_tasks()

    async def _breathe(self, took: Duration) -> None:
        """After a long step let others work as long, while more events gather: a step costs as much for many."""
        if took > LONG_STEP:
            await asyncio.sleep(took.seconds)

    async def _gather(self, wake_at: Instant | None) -> list[Input]:
        """Give all waiting events; wait for the first of them, or until ``wake_at``."""
        timeout = None if wake_at is None else max(0.0, (wake_at - self._clock.now()).seconds)
        try:
            async with asyncio.timeout(timeout):
                events = [await self._inbox.get()]
        except TimeoutError:
            return [Woken()]
        while not self._inbox.empty():
            events.append(self._inbox.get_nowait())
        return events

    def _write_down(self, step: Step) -> None:
        """Store what changed; what a full disk refuses now is stored with a later step."""
        self._unwritten.append(step)
        try:
            while self._unwritten:
                self._store_step(self._unwritten[0])
                self._unwritten.popleft()
        except WispError as error:
            log.error("%s", error)

    def _store_step(self, step: Step) -> None:
        if step.planned:
            self._store.put_plan(*step.planned)
        if step.seen or step.gone:
            self._store.put_instances(step.seen, gone=step.gone)
        if step.operations:
            self._store.put_operations(step.operations)
        if step.events:
            self._store.add_events(step.events)

    def _perform(self, step: Step, agent: Agent) -> None:
        if step.planned:
            agent.follow(step.planned[1])
        if step.network:
            self._spawn(agent.change_network(step.network), self._network_broke)
        for stop in step.stops:
            self._spawn(agent.stop(stop), partial(_not_stopped, stop.name))
        for drain in step.drains:
            self._spawn(agent.drain(drain))
        for start in step.starts:
            self._spawn(agent.start(start), partial(_not_started, start.spec))

    def _network_broke(self, error: str) -> Input:
        return NetworkChanged(network=self._core.observed.network, error=error)

    def _spawn(self, work: Coroutine[Any, Any, None], on_failure: Callable[[str], Input] | None = None) -> None:
        task = asyncio.create_task(self._guarded(work, on_failure))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None], on_failure: Callable[[str], Input] | None) -> None:
        """Await ``work``; a failure nobody foresaw is logged with its trace and becomes an event, if it matters."""
        try:
            await work
        except Exception as error:
            log.exception("an action failed in an unforeseen way")
            if on_failure is not None:
                self.put(on_failure(f"{type(error).__name__}: {error}; see the controller's log"))

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _not_started(spec: InstanceSpec, error: str) -> Input:
    return InstanceNotStarted(name=spec.name, spec_digest=spec.digest, error=error)


def _not_stopped(name: str, error: str) -> Input:
    return InstanceStopped(name=name, error=error)
