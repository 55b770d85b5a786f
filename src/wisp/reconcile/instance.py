"""What each instance needs next: to be started, stopped, waited for, or nothing."""

from collections.abc import Iterator, Mapping

from wisp.model.action import StartInstance, StopInstance
from wisp.model.instance import InstanceSpec, InstanceState, ObservedInstance
from wisp.model.network import Network
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.primitives.backoff import backoff
from wisp.primitives.time import Instant
from wisp.primitives.values import frozen


@frozen
class InstanceChange:
    """What to stop, what to start, and when something may be due next."""

    stops: tuple[StopInstance, ...]
    starts: tuple[StartInstance, ...]
    due: tuple[Instant, ...]


def changes(plan: Plan, observed: ObservedState, *, now: Instant) -> InstanceChange:
    """Give what every planned and every seen instance needs."""
    specs = {spec.name: spec for spec in plan.instances}
    ground = Ground(plan.network, observed.network)
    stops = [*_unplanned(specs, observed)]
    starts, due = [], []
    for spec in plan.instances:
        seen = observed.instances.get(spec.name)
        if seen is not None and seen.state is not InstanceState.EXITED:
            if reason := _reason_to_stop(spec, seen, ground, now):
                stops.append(StopInstance(name=spec.name, handle=seen.handle, reason=reason))
            elif seen.state is InstanceState.STARTING:
                due.append(_deadline(spec, seen))
        elif _is_turn(spec, specs, observed):
            if (at := _start_at(spec, seen)) <= now:
                starts.append(StartInstance(spec=spec))
            else:
                due.append(at)
    return InstanceChange(stops=tuple(stops), starts=tuple(starts), due=tuple(due))


def _unplanned(specs: Mapping[str, InstanceSpec], observed: ObservedState) -> Iterator[StopInstance]:
    """Stop what the plan does not name; also what has ended, so that its record goes."""
    for name, seen in observed.instances.items():
        if name not in specs:
            yield StopInstance(name=name, handle=seen.handle, reason="it is not wanted any more")


def _reason_to_stop(spec: InstanceSpec, seen: ObservedInstance, ground: "Ground", now: Instant) -> str:
    """Say why a running instance must be stopped; empty when it may go on."""
    if seen.spec_digest != spec.digest:
        return "its description changed"
    if missing := ground.lacking(spec):
        return missing
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


def _is_turn(spec: InstanceSpec, specs: Mapping[str, InstanceSpec], observed: ObservedState) -> bool:
    """Say whether every instance that ``spec`` comes after has answered, or failed."""
    return all(_has_had_its_chance(observed.instances.get(name)) for name in spec.after if name in specs)


def _has_had_its_chance(seen: ObservedInstance | None) -> bool:
    return seen is not None and (seen.state.is_well or seen.failures > 0)


class Ground:
    """Which taps and namespaces exist as planned: what an instance stands on.

    Args:
        wanted: The planned network.
        seen: The one that is.
    """

    def __init__(self, wanted: Network, seen: Network) -> None:
        self._taps = {tap.name for tap in wanted.taps & seen.taps}
        self._namespaces = {each.name for each in wanted.namespaces & seen.namespaces}

    def lacking(self, spec: InstanceSpec) -> str:
        """Say what has gone from under an instance; empty when all is there."""
        if spec.namespace not in self._namespaces:
            return f"its namespace {spec.namespace} is gone or changed"
        if spec.kind.owns_tap and spec.name not in self._taps:
            return "its tap is gone or changed"
        return ""
