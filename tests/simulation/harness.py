"""A controller core driven through virtual time: a heap of things that will happen, and a world of plain sets."""

import heapq
from random import Random

from wisp.controller.core import ControllerCore, DesiredChanged, Input, Step, Woken
from wisp.model.action import NetworkAction
from wisp.model.description import DesiredState
from wisp.model.effect import NetworkState
from wisp.model.fault import Fault
from wisp.model.instance import Handle, InstanceSpec
from wisp.model.network import Network
from wisp.model.observation import Event, ObservedState
from wisp.model.operation import Cause, Operation
from wisp.model.report import (
    HealthReported,
    InstanceExited,
    InstanceNotStarted,
    InstanceSlept,
    InstanceStarted,
    InstanceStopped,
    InstanceWoken,
    NetworkChanged,
)
from wisp.primitives.time import Duration, Instant

START = Instant(1_000_000_000_000)
NETWORK_TAKES = Duration.of_ms(20)
BOOT_TAKES = Duration.of_ms(40)
STOP_TAKES = Duration.of_ms(1)
DRAIN_TAKES = Duration.of_ms(300)


class World:
    """Hosts, links and instances as records; faults are switches."""

    def __init__(self, observed: ObservedState | None = None) -> None:
        self.core = ControllerCore(observed or ObservedState(), rng=lambda: Random(0))
        self.operations: dict[int, Operation] = {}
        self.now = START
        self.network = Network()
        self.running: dict[str, Handle] = {}
        self.events: list[Event] = []
        self.starts: list[tuple[Instant, str]] = []
        self.refuses: set[str] = set()
        self.silent: set[str] = set()
        self.busy: set[str] = set()
        self.drained: list[str] = []
        self.cut: list[str] = []
        self.network_error: str | None = None
        self._heap: list[tuple[Instant, int, Input]] = []
        self._count = 0

    def desire(
        self,
        desired: DesiredState | None,
        revision: int = 1,
        cause: Cause = Cause.WISH,
        faults: tuple[Fault, ...] = (),
    ) -> None:
        self.later(Duration(0), DesiredChanged(revision=revision, desired=desired, cause=cause, faults=faults))

    def crash(self, instance: str) -> None:
        handle = self.running.pop(instance)
        self.later(Duration(0), InstanceExited(child=handle.child, reason="killed by SIGKILL"))

    def wake(self, instance: str) -> None:
        """Have somebody want a summoned instance."""
        handle = self.running[instance]
        self._count += 1
        self.later(Duration(0), InstanceWoken(child=handle.child, pid=self._count, started_at=self.now))
        self._boot(handle)

    def trouble(self, instance: str, why: str) -> None:
        """Have something go wrong with a summoned instance that has just been woken, and be told again and again."""
        seen = self.core.instances[instance]
        child, told = self.running[instance].child, Duration(0)
        woken = InstanceWoken(child=child, pid=seen.pid or 0, started_at=seen.started_at, trouble=why)
        self.later(told, woken)
        self.later(told, woken)

    def put_to_sleep(self, instance: str, trouble: str = "") -> None:
        self.later(Duration(0), InstanceSlept(child=self.running[instance].child, trouble=trouble))

    def later(self, after: Duration, event: Input) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + after, self._count, event))

    def run(self, length: Duration) -> None:
        """Let this much time pass."""
        end = self.now + length
        while self._heap and self._heap[0][0] <= end:
            at, _, event = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            self._take(self.core.handle([event], now=self.now))
            self.core.check_state()
        self.now = end

    def _take(self, step: Step) -> None:
        self.events += step.events
        self.operations |= {each.number: each for each in step.operations}
        if step.network:
            self._change(step.network)
        for drain in step.drains:
            self._drain(drain.name)
        for stop in step.stops:
            if self.running.pop(stop.name, None):
                self.cut.append(stop.name)
            self.later(STOP_TAKES, InstanceStopped(name=stop.name))
        for start in step.starts:
            self._start(start.spec)
        if step.wake_at is not None:
            self.later(max(step.wake_at - self.now, Duration(0)), Woken())

    def _drain(self, instance: str) -> None:
        """Have an instance finish, but for one whose clients never do."""
        self.drained.append(instance)
        handle = self.running[instance]
        if instance not in self.busy:
            self.later(DRAIN_TAKES, InstanceExited(child=handle.child, reason="exited with status 0"))
            del self.running[instance]

    def _change(self, actions: tuple[NetworkAction, ...]) -> None:
        if self.network_error is None:
            state = NetworkState(self.network)
            for action in actions:
                state.apply(action)
            self.network = state.network()
        self.later(NETWORK_TAKES, NetworkChanged(network=self.network, error=self.network_error))

    def _start(self, spec: InstanceSpec) -> None:
        self.starts.append((self.now, spec.name))
        if spec.name in self.refuses:
            self.later(Duration(0), InstanceNotStarted(name=spec.name, spec_digest=spec.digest, error="refused"))
            return
        self._count += 1
        handle = Handle(
            driver=spec.kind,
            instance=spec.name,
            spec_digest=spec.digest,
            child=f"{spec.name}@{spec.digest}#{self._count}",
            pid=0 if spec.is_summoned else self._count,
            start_ticks=0 if spec.is_summoned else self._count,
            spawned_at=self.now,
            is_summoned=spec.is_summoned,
        )
        self.running[spec.name] = handle
        self.later(Duration(0), InstanceStarted(handle=handle, started_at=self.now))
        if not spec.is_summoned:
            self._boot(handle)

    def _boot(self, handle: Handle) -> None:
        if handle.instance not in self.silent:
            at, name = self.now + BOOT_TAKES, handle.instance
            self.later(BOOT_TAKES, HealthReported(name=name, child=handle.child, problem=None, at=at))
