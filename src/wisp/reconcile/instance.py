"""What each instance needs next: to be started, stopped, waited for, or nothing."""

from collections.abc import Iterator, Mapping

from wisp.model.action import StartInstance, StopInstance
from wisp.model.instance import InstanceSpec, InstanceState, ObservedInstance
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.primitives.backoff import backoff
from wisp.primitives.time import Instant
from wisp.primitives.values import frozen
from wisp.reconcile.elastic import Elastic
from wisp.reconcile.fault import Affliction
from wisp.reconcile.ground import Ground
from wisp.reconcile.rolling import Rolling


@frozen
class InstanceChange:
    """What to stop, what to start, and when something may be due next."""

    stops: tuple[StopInstance, ...]
    starts: tuple[StartInstance, ...]
    due: tuple[Instant, ...]


def changes(
    plan: Plan, observed: ObservedState, elastic: Elastic, affliction: Affliction, *, now: Instant
) -> InstanceChange:
    """Give what every planned and every seen instance needs."""
    specs = {spec.name: spec for spec in plan.instances}
    ground = Ground(plan.network, observed.network)
    rolling = Rolling(plan.instances, observed.instances, ground)
    stops = [*_unplanned(specs, observed, elastic), *elastic.stops]
    starts, due = [], [*elastic.due]
    for spec in plan.instances:
        seen = observed.instances.get(spec.name)
        if reason := affliction.reason_against(spec):
            if seen is not None and seen.handle is not None:
                stops.append(StopInstance(name=spec.name, handle=seen.handle, reason=reason, at_once=True))
        elif seen is not None and seen.state is not InstanceState.EXITED:
            if reason := _reason_to_stop(spec, seen, ground, rolling, now):
                stops.append(StopInstance(name=spec.name, handle=seen.handle, reason=reason))
            elif seen.state is InstanceState.STARTING:
                due.append(_deadline(spec, seen))
        elif _is_turn(spec, specs, plan, observed) and elastic.may_start(spec.name):
            if (at := _start_at(spec, seen)) <= now:
                starts.append(StartInstance(spec=spec))
            else:
                due.append(at)
    return InstanceChange(stops=tuple(stops), starts=tuple(starts), due=tuple(due))


def _unplanned(specs: Mapping[str, InstanceSpec], observed: ObservedState, elastic: Elastic) -> Iterator[StopInstance]:
    """Stop what the plan does not name; also what has ended, so that its record goes."""
    for name, seen in observed.instances.items():
        if name not in specs and name not in elastic.leaving:
            yield StopInstance(name=name, handle=seen.handle, reason="it is not wanted any more")


def _reason_to_stop(spec: InstanceSpec, seen: ObservedInstance, ground: Ground, rolling: Rolling, now: Instant) -> str:
    """Say why a running instance must be stopped; empty when it may go on, or must until others are back."""
    if seen.spec_digest != spec.digest:
        return "its description changed" if rolling.is_turn(spec, seen) else ""
    if missing := ground.lacking(spec):
        return missing
    if seen.state is InstanceState.DRAINING:
        return "it was told to finish, and is wanted again"
    if seen.state is InstanceState.UNHEALTHY:
        return seen.reason or "it does not answer"
    if seen.state is InstanceState.STARTING and _deadline(spec, seen) <= now:
        return f"it did not answer within {spec.boot_deadline.seconds:g} s of its start"
    return ""


def _deadline(spec: InstanceSpec, seen: ObservedInstance) -> Instant:
    return seen.started_at + spec.boot_deadline


def _start_at(spec: InstanceSpec, seen: ObservedInstance | None) -> Instant:
    """Give when to start: at once when new or changed, else after the backoff."""
    if seen is None or seen.spec_digest != spec.digest:
        return Instant(0)
    return seen.changed_at + backoff(seen.failures)


def _is_turn(spec: InstanceSpec, specs: Mapping[str, InstanceSpec], plan: Plan, observed: ObservedState) -> bool:
    """Say whether every instance that ``spec`` comes after has answered, or failed; of several, whether one has."""
    several = {group.name: group.members for group in plan.elastic}
    return all(
        any(_has_had_its_chance(observed.instances.get(each)) for each in several.get(name, (name,)))
        for name in spec.after
        if name in specs or name in several
    )


def _has_had_its_chance(seen: ObservedInstance | None) -> bool:
    return seen is not None and (seen.state.is_well or seen.failures > 0)
