"""What the controller decides: events in, a step out, through one door. No input or output, no clock.

The same core runs under asyncio (``runner``) and under a simulator's heap. An outcome comes back as an event.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from wisp.controller.discovery import Discovery
from wisp.controller.operations import Operations, kind_of
from wisp.controller.records import Records
from wisp.controller.scaling import Decision, Scaling
from wisp.model.action import (
    Action,
    CreateNamespace,
    CreateTap,
    DrainInstance,
    NetworkAction,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    SetVirtualAddress,
    StartInstance,
    StopInstance,
)
from wisp.model.description import DesiredState
from wisp.model.fault import Fault
from wisp.model.instance import InstanceState, ObservedInstance
from wisp.model.load import LoadReported
from wisp.model.network import Network
from wisp.model.observation import Event, ObservedState, Severity
from wisp.model.operation import Cause, Operation, OperationKind
from wisp.model.plan import Infeasible, Plan
from wisp.model.report import (
    HealthReported,
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
from wisp.planning import plan as make_plan
from wisp.planning.fault import taken_apart
from wisp.primitives.chance import Rng
from wisp.primitives.time import Duration, Instant
from wisp.primitives.values import frozen
from wisp.reconcile import Ground, network_of, reconcile, wake_at
from wisp.reconcile.safety import unsafe_step

WELL_AFTER = Duration.of_seconds(10)
NETWORK_RETRY = Duration.of_seconds(2)
NETWORK = "network"
# An operation has failed for the time being when an instance of it has, so many times in a row.
STUCK_AFTER = 3


@frozen
class DesiredChanged:
    """A new desired state or other faults were stored; ``None`` asks for an empty cloud."""

    revision: int
    desired: DesiredState | None
    cause: Cause = Cause.WISH
    faults: tuple[Fault, ...] = ()


@frozen
class Woken:
    """The time came that a step asked for."""


Input = DesiredChanged | Report | Woken


@frozen
class Step:
    """What follows from an event.

    Attributes:
        network: Network actions to carry out together, in order.
        starts, stops, drains: Each to carry out on its own.
        wake_at: When to come back at the latest, or ``None``.
        planned: A new plan with its revision, to be stored before anything else.
        seen: Instances whose record changed.
        gone: Instances whose record ended.
        operations: Life cycle operations that began, came on or ended.
        events: For people.
    """

    network: tuple[NetworkAction, ...] = ()
    starts: tuple[StartInstance, ...] = ()
    stops: tuple[StopInstance, ...] = ()
    drains: tuple[DrainInstance, ...] = ()
    wake_at: Instant | None = None
    planned: tuple[int, Plan] | None = None
    seen: tuple[ObservedInstance, ...] = ()
    gone: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(slots=True)
class _Notes:
    """What one call of :meth:`ControllerCore.handle` gathers for its step."""

    planned: tuple[int, Plan] | None = None
    events: list[Event] = field(default_factory=list)


class ControllerCore:
    """Holds what is wanted and what was seen, and says what to do next.

    Args:
        observed: The world as found at the start.
        rng: Gives fresh chance for each plan; equally seeded, equal wishes give equal plans.
        operations: Those that an earlier controller did not close, and the newest one.
        before: What an earlier controller had planned.
    """

    def __init__(
        self,
        observed: ObservedState,
        *,
        rng: Callable[[], Rng],
        operations: Sequence[Operation] = (),
        before: Plan | None = None,
    ) -> None:
        self.plan: Plan | None = None
        self.revision = 0
        self._rng = rng
        self._records = Records(observed.instances)
        self.observed = replace(observed, instances=self._records.by_name)
        self._busy: dict[str, str] = {}
        self._network_retry_at = Instant(0)
        self._settled = False
        self._due_at: Instant | None = None
        self._notes = _Notes()
        self._operations, self._before = Operations(operations), before
        self._desired, self._scaling = DesiredState(name=""), Scaling()
        self._has_network = False
        self._discovery = Discovery()
        self.faults: tuple[Fault, ...] = ()

    @property
    def instances(self) -> Mapping[str, ObservedInstance]:
        """What was last seen of each instance, by name; a live view."""
        return self.observed.instances

    def handle(self, events: Sequence[Input], *, now: Instant) -> Step:
        """Take a batch of events in, in order, and give what follows from them all."""
        decisions = [each for event in events if isinstance(event, LoadReported) for each in self._decisions(event)]
        if not decisions and all(self._is_no_news(event) for event in events):
            return Step(wake_at=self._due_at)
        self._notes = _Notes()
        for event in events:
            self._take_in(event, now)
        if decisions:
            self._scale(decisions, now)
        self._discover(now)
        step = self._next_step(now)
        self._due_at = step.wake_at
        return step

    def _is_no_news(self, event: Input) -> bool:
        """Whether an event says that all is still well with an instance, as most do, or only how much is asked."""
        if isinstance(event, LoadReported):
            return True
        if not isinstance(event, HealthReported) or event.problem is not None:
            return False
        seen = self._records.by_child(event.child)
        return seen is not None and seen.state is InstanceState.READY and not seen.failures

    @property
    def is_settled(self) -> bool:
        """Whether the world was as planned, with every instance answering, at the end of the last step."""
        return self._settled

    @property
    def has_network(self) -> bool:
        """Whether the network was as planned at the end of the last step."""
        return self._has_network

    def check_state(self) -> None:
        """Assert what must hold between events; tests call it after every event."""
        for name, seen in self.instances.items():
            assert seen.name == name, f"{name} is filed under another name"  # noqa: S101
            running = seen.state in (InstanceState.STARTING, InstanceState.READY, InstanceState.UNHEALTHY)
            assert not running or seen.handle, f"{name} is {seen.state} without a handle"  # noqa: S101

    def _take_in(self, event: Input, now: Instant) -> None:
        match event:
            case DesiredChanged():
                self._replan(event, now)
                self._take_faults(event.faults, now)
            case NetworkObserved(network=network):
                self._saw_network(network)
            case InstanceFound(seen=seen):
                self._records.put(seen)
            case NetworkChanged():
                self._network_changed(event, now)
            case InstanceStarted():
                self._started(event, now)
            case InstanceWoken():
                self._woken(event, now)
            case InstanceSlept():
                self._slept(event, now)
            case InstanceNotStarted():
                self._not_started(event, now)
            case InstanceStopped():
                self._stopped(event, now)
            case InstanceExited():
                self._exited(event, now)
            case HealthReported():
                self._health(event, now)
            case LoadReported() | Woken():
                pass
            case _:
                assert_never(event)

    def _replan(self, event: DesiredChanged, now: Instant) -> None:
        if self.plan is not None and event.revision == self.revision:
            return
        desired = event.desired or DesiredState(name="")
        decided = make_plan(desired, self.observed, rng=self._rng())
        if isinstance(decided, Infeasible):
            names = ", ".join(conflict.instance for conflict in decided.conflicts)
            self._operations.refuse(OperationKind.UPDATE, event.revision, f"no placement exists for {names}", now)
            self._tell(now, "plan-infeasible", names, "no placement exists; the running cloud stays", Severity.ERROR)
            return
        self._begin(event, decided, now)
        self._desired, self.revision = desired, event.revision
        self._follow_plan(decided)
        self._tell(now, "planned", f"revision {event.revision}", f"{len(decided.instances)} instances placed")

    def _follow_plan(self, decided: Plan) -> None:
        self.plan = decided = replace(decided, faults=taken_apart(self.faults, self._desired))
        self.observed = replace(self.observed, assignments=decided.assignments)
        self._notes.planned = (self.revision, decided)

    def _take_faults(self, faults: tuple[Fault, ...], now: Instant) -> None:
        """Have these faults and no others, and say which came and went."""
        if self.plan is None or faults == self.faults:
            return
        for fault in self.faults:
            if fault not in faults:
                self._tell(now, "fault-ended", fault.subject, f"{fault.action} no more")
        for fault in faults:
            if fault not in self.faults:
                self._tell(now, "fault", fault.subject, str(fault.action), Severity.WARNING)
        self.faults = faults
        self._follow_plan(self.plan)

    def _discover(self, now: Instant) -> None:
        """Lead around what is seen to be down, and have what ran there started elsewhere."""
        if self.plan is None:
            return
        if self._before is not None and self.observed.network.namespaces:
            self._discovery.meet(self._before.network)
            self._before = None
        self._discovery.look(self.observed.network, self.plan, now=now)
        links = self._discovery.links_down
        hosts = self._discovery.hosts_down(self._desired.detection, now=now)
        if (links, hosts) == (self.observed.links_down, self.observed.hosts_down):
            return
        silence = f"silent for {self._desired.detection.seconds:g} s"
        self._tell_all("link-down", links - self.observed.links_down, "no carrier", Severity.WARNING, now)
        self._tell_all("link-up", self.observed.links_down - links, "it is back", Severity.INFO, now)
        self._tell_all("host-down", hosts - self.observed.hosts_down, silence, Severity.WARNING, now)
        self._tell_all("host-up", self.observed.hosts_down - hosts, "it is back", Severity.INFO, now)
        self.observed = replace(self.observed, links_down=links, hosts_down=hosts)
        decided = make_plan(self._desired, self.observed, rng=self._rng())
        if isinstance(decided, Infeasible):
            names = ", ".join(conflict.instance for conflict in decided.conflicts)
            self._tell(now, "plan-infeasible", names, "no placement exists without those hosts", Severity.ERROR)
            decided = make_plan(self._desired, replace(self.observed, hosts_down=frozenset()), rng=self._rng())
        if not isinstance(decided, Infeasible):
            self._follow_plan(decided)
            self._tell_who_waits(decided, now)

    def _tell_who_waits(self, decided: Plan, now: Instant) -> None:
        for each in decided.decisions:
            if each.host in self.observed.hosts_down:
                message = f"{each.host} is down, and no other host can take it"
                self._tell(now, "instance-waits", each.instance, message, Severity.WARNING)

    def _tell_all(self, what: str, subjects: Iterable[str], message: str, severity: Severity, now: Instant) -> None:
        for subject in sorted(subjects):
            self._tell(now, what, subject, message, severity)

    def _decisions(self, load: LoadReported) -> Sequence[Decision]:
        """Say what the load asks for; nothing while anything else is under way."""
        if self.plan is None:
            return ()
        decisions = self._scaling.decide(self._desired.instances, self.plan, load)
        return decisions if self._settled and not self._operations.is_following else ()

    def _scale(self, decisions: Sequence[Decision], now: Instant) -> None:
        """Have as many instances as the load needs."""
        scales = {each.name: each.scale for each in decisions}
        decided = make_plan(self._desired, self.observed, rng=self._rng(), scales=scales)
        what = ", ".join(f"{each.name} to {each.scale.count} ({each.why})" for each in decisions)
        if isinstance(decided, Infeasible):
            self._tell(now, "scaling-infeasible", what, "no host has room; it stays as it is", Severity.WARNING)
            return
        self._follow_plan(decided)
        self._operations.scale(", ".join(scales), what, now)
        self._tell(now, "scaling", ", ".join(scales), what)

    def _begin(self, event: DesiredChanged, decided: Plan, now: Instant) -> None:
        """Open the operation that the new plan is."""
        if event.cause is Cause.RETRY:
            self._operations.retry(event.revision)
            for seen in tuple(self.instances.values()):
                if not seen.state.is_well:
                    self._records.put(replace(seen, failures=0))
        elif kind := kind_of(self.plan or (self._before if self.instances else None), decided):
            kind = OperationKind.ROLLBACK if event.cause is Cause.ROLLBACK else kind
            self._operations.wish(kind, event.revision, now)

    def _network_changed(self, event: NetworkChanged, now: Instant) -> None:
        self._busy.pop(NETWORK, None)
        self._saw_network(event.network)
        if event.error:
            self._tell(now, "network-failed", NETWORK, event.error, Severity.ERROR)
            self._network_retry_at = now + NETWORK_RETRY

    def _started(self, event: InstanceStarted, now: Instant) -> None:
        handle = event.handle
        self._busy.pop(handle.instance, None)
        failures = self._records.failures(handle.instance, handle.spec_digest)
        self._records.put(
            ObservedInstance(
                name=handle.instance,
                spec_digest=handle.spec_digest,
                state=InstanceState.ASLEEP if handle.is_summoned else InstanceState.STARTING,
                handle=handle,
                changed_at=now,
                started_at=event.started_at,
                failures=failures,
                pid=handle.pid,
            )
        )
        if handle.is_summoned:
            self._tell(now, "instance-asleep", handle.instance, "starts when it is wanted")
        else:
            self._tell(now, "instance-started", handle.instance, f"process {handle.pid}")

    def _woken(self, event: InstanceWoken, now: Instant) -> None:
        seen = self._records.by_child(event.child)
        if seen is None:
            return
        if seen.started_at == event.started_at and seen.state is not InstanceState.ASLEEP:
            # Told again: it may have had trouble since.
            if seen.state is InstanceState.STARTING and event.trouble != seen.reason:
                self._records.put(replace(seen, reason=event.trouble))
                self._tell_trouble(seen.name, event.trouble, now)
            return
        self._records.put(
            replace(
                seen,
                state=InstanceState.STARTING,
                changed_at=now,
                started_at=event.started_at,
                start_ms=None,
                pid=event.pid,
                reason=event.trouble,
            )
        )
        self._tell(now, "instance-woken", seen.name, f"it is wanted; process {event.pid}")
        self._tell_trouble(seen.name, event.trouble, now)

    def _slept(self, event: InstanceSlept, now: Instant) -> None:
        seen = self._records.by_child(event.child)
        if seen is None or seen.state is InstanceState.ASLEEP:
            return
        failures = seen.failures if seen.state is InstanceState.EXITED else 0
        self._operations.healed(seen.name, now)
        self._records.put(
            replace(seen, state=InstanceState.ASLEEP, changed_at=now, failures=failures, reason="", pid=0)
        )
        self._tell(now, "instance-asleep", seen.name, "nobody wants it now")
        self._tell_trouble(seen.name, event.trouble, now)

    def _tell_trouble(self, name: str, trouble: str, now: Instant) -> None:
        """Tell what went wrong with the snapshot of a summoned instance, if anything did."""
        if trouble:
            self._tell(now, "instance-snapshot-lost", name, trouble, Severity.WARNING)

    def _not_started(self, event: InstanceNotStarted, now: Instant) -> None:
        self._busy.pop(event.name, None)
        failures = self._records.failures(event.name, event.spec_digest) + 1
        self._records.put(
            ObservedInstance(
                name=event.name,
                spec_digest=event.spec_digest,
                state=InstanceState.EXITED,
                handle=None,
                changed_at=now,
                started_at=now,
                failures=failures,
                reason=event.error,
            )
        )
        what = "instance-refused" if event.is_permanent else "instance-not-started"
        self._tell(now, what, event.name, event.error, Severity.ERROR)

    def _stopped(self, event: InstanceStopped, now: Instant) -> None:
        reason = self._busy.pop(event.name, "")
        if event.error:
            self._tell(now, "instance-not-stopped", event.name, event.error, Severity.ERROR)
            return
        seen = self.instances.get(event.name)
        if seen is None:
            return
        self._tell(now, "instance-stopped", event.name, reason)
        if seen.state is InstanceState.READY or not self._is_planned(seen):
            self._records.forget(seen)
            if not self._is_planned(seen):
                self._operations.gone(seen.name, now)
            return
        failures = seen.failures + (seen.state is InstanceState.STARTING)
        self._records.put(
            replace(
                seen,
                state=InstanceState.EXITED,
                handle=None,
                changed_at=now,
                failures=failures,
                reason=reason,
                pid=0,
            )
        )

    def _exited(self, event: InstanceExited, now: Instant) -> None:
        seen = self._records.by_child(event.child)
        if seen is None or seen.name in self._busy:
            return
        if seen.state is InstanceState.DRAINING:
            self._records.put(replace(seen, state=InstanceState.EXITED, handle=None, changed_at=now, pid=0))
            self._tell(now, "instance-drained", seen.name, "it has finished")
            return
        failures = seen.failures + 1
        self._records.put(
            replace(
                seen,
                state=InstanceState.EXITED,
                handle=seen.handle if seen.handle and seen.handle.is_summoned else None,
                changed_at=now,
                failures=failures,
                reason=event.reason,
                pid=0,
            )
        )
        self._operations.heal(seen.name, event.reason, now)
        self._tell(now, "instance-exited", seen.name, event.reason, Severity.WARNING)

    def _health(self, event: HealthReported, now: Instant) -> None:
        seen = self._records.by_child(event.child)
        if seen is None or seen.state in (InstanceState.EXITED, InstanceState.DRAINING):
            return
        if event.problem is not None:
            self._unhealthy(seen, event.problem, now)
        elif seen.state is not InstanceState.READY:
            self._ready(seen, event.at, now)
        elif seen.failures and (now - seen.changed_at) > WELL_AFTER:
            self._records.put(replace(seen, failures=0))

    def _unhealthy(self, seen: ObservedInstance, problem: str, now: Instant) -> None:
        failed = replace(
            seen, state=InstanceState.UNHEALTHY, changed_at=now, failures=seen.failures + 1, reason=problem
        )
        self._records.put(failed)
        self._operations.heal(seen.name, problem, now)
        self._tell(now, "instance-unhealthy", seen.name, problem, Severity.WARNING)

    def _ready(self, seen: ObservedInstance, at: Instant, now: Instant) -> None:
        ready = replace(seen, state=InstanceState.READY, changed_at=now, reason="")
        self._operations.healed(seen.name, now)
        if seen.handle and seen.handle.is_summoned:
            # It answers whoever wanted it long before we ask.
            self._records.put(ready)
            self._tell(now, "instance-ready", seen.name, "answers")
            return
        start_ms = seen.start_ms if seen.start_ms is not None else (at - seen.started_at).ms
        self._records.put(replace(ready, start_ms=start_ms))
        self._tell(now, "instance-ready", seen.name, f"answers after {start_ms:.1f} ms")

    def _next_step(self, now: Instant) -> Step:
        actions = () if self.plan is None else reconcile(self.plan, self.observed, now=now)
        self._settled = self._is_settled(actions)
        self._has_network = self.plan is not None and not any(isinstance(action, NetworkAction) for action in actions)
        stops = tuple(a for a in actions if isinstance(a, StopInstance) and a.name not in self._busy)
        self._busy |= {stop.name: stop.reason for stop in stops}
        drains = tuple(a for a in actions if isinstance(a, DrainInstance))
        for drain in drains:
            self._draining(drain, now)
        network = self._safe(self._network_batch(actions, now), now)
        starts = self._starts(actions)
        if network:
            self._busy[NETWORK] = "changing"
            self._tell(now, "network-changing", NETWORK, f"{len(network)} steps to what is planned")
        self._busy |= {start.spec.name: "starting" for start in starts}
        self._follow_operation(actions, now)
        seen, gone = self._records.take_changed()
        return Step(
            network=network,
            starts=starts,
            stops=stops,
            drains=drains,
            wake_at=self._wake_at(now),
            planned=self._notes.planned,
            seen=seen,
            gone=gone,
            operations=self._operations.take_changed(),
            events=tuple(self._notes.events),
        )

    def _draining(self, drain: DrainInstance, now: Instant) -> None:
        seen = self.instances[drain.name]
        self._records.put(replace(seen, state=InstanceState.DRAINING, changed_at=now))
        self._tell(now, "instance-draining", drain.name, "nobody new is led to it; it finishes what it has")

    def _follow_operation(self, actions: Sequence[Action], now: Instant) -> None:
        if self._operations.is_following:
            network = NETWORK in self._busy or any(isinstance(action, NetworkAction) for action in actions)
            self._operations.follow(network=network, settled=self._settled, stuck=self._stuck(), now=now)

    def _stuck(self) -> str:
        """Say what fails again and again; empty for nothing."""
        stuck = (seen for seen in self.instances.values() if seen.failures >= STUCK_AFTER and not seen.state.is_well)
        return next((f"{seen.name}: {seen.reason}" for seen in stuck), "")

    def _is_settled(self, actions: Sequence[Action]) -> bool:
        ready = all(seen.state.is_well for seen in self.instances.values())
        return self.plan is not None and not actions and not self._busy and ready

    def _saw_network(self, network: Network) -> None:
        """Take in an observed network; one that is as planned becomes the planned one, which is quick to compare."""
        as_planned = self.plan is not None and network == self.plan.network
        self.observed = replace(self.observed, network=self.plan.network if self.plan and as_planned else network)

    def _network_batch(self, actions: Iterable[Action], now: Instant) -> tuple[NetworkAction, ...]:
        """Give the network actions to carry out now; removals, and all after them, wait while an instance is stopped.

        New taps and all before them come as a batch of their own, so that guests boot while the rest is made.
        """
        if NETWORK in self._busy or now < self._network_retry_at:
            return ()
        batch = [a for a in actions if not isinstance(a, StartInstance | StopInstance | DrainInstance)]
        urgent = [action for action in batch if isinstance(action, SetVirtualAddress)]
        if urgent and not any(isinstance(action, CreateNamespace) for action in batch):
            return tuple(urgent)  # whoever asks meanwhile would be led to one that goes
        is_stopping = any(reason != "starting" for reason in self._busy.values())
        if is_stopping and any(isinstance(action, RemoveLink | RemoveNamespace | RemoveTap) for action in batch):
            return ()
        last_tap = max((place for place, action in enumerate(batch) if isinstance(action, CreateTap)), default=-1)
        return tuple(batch[: last_tap + 1] or batch)

    def _safe(self, batch: tuple[NetworkAction, ...], now: Instant) -> tuple[NetworkAction, ...]:
        """Give a batch, or none of it and say why if a step of it would mislead packets."""
        if not batch or self.plan is None:
            return batch
        wanted = network_of(self.plan, self.observed, now=now)
        fault = unsafe_step(batch, seen=self.observed.network, wanted=wanted)
        if not fault:
            return batch
        self._tell(now, "network-refused", NETWORK, f"{fault}; nothing is changed", Severity.ERROR)
        self._network_retry_at = now + NETWORK_RETRY
        return ()

    def _starts(self, actions: Iterable[Action]) -> tuple[StartInstance, ...]:
        """Give what to start now: a guest once its tap is there, a program once all of the network is.

        Guests come first: they need little time, a program may need much.
        """
        starts = [a for a in actions if isinstance(a, StartInstance) and a.spec.name not in self._busy]
        if not starts or self.plan is None:
            return ()
        ground = Ground(self.plan.network, self.observed.network)
        is_whole = not any(isinstance(action, NetworkAction) for action in actions)
        guests = [start for start in starts if start.spec.kind.owns_tap and not ground.lacking(start.spec)]
        programs = [start for start in starts if not start.spec.kind.owns_tap and is_whole]
        return (*guests, *programs)

    def _wake_at(self, now: Instant) -> Instant | None:
        if self.plan is None:
            return None
        wake = wake_at(self.plan, self.observed, now=now)
        due = [*self._discovery.due(self._desired.detection, now=now), *((wake,) if wake else ())]
        if now < self._network_retry_at:
            due.append(self._network_retry_at)
        return min(due, default=None)

    def _is_planned(self, seen: ObservedInstance) -> bool:
        specs = () if self.plan is None else self.plan.instances
        return any(spec.name == seen.name and spec.digest == seen.spec_digest for spec in specs)

    def _tell(self, now: Instant, what: str, subject: str, message: str, severity: Severity = Severity.INFO) -> None:
        self._notes.events.append(Event(at=now, severity=severity, what=what, subject=subject, message=message))
