"""Writing down what shall be broken, once it is sure that it can be."""

from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.description import DesiredState
from wisp.model.fault import Degradation, Fault, FaultAction, FaultKind
from wisp.model.plan import Plan
from wisp.planning.fault import breakable
from wisp.primitives.errors import StateError
from wisp.primitives.time import Duration, Instant
from wisp.primitives.values import frozen

UP = "up"
SHORTEST_PERIOD_S = 0.1


@frozen
class FaultOrder:
    """What somebody asks for, unchecked; see :meth:`wisp.Cloud.fault`."""

    kind: str
    name: str
    action: str
    period_s: float | None = None
    degradation: Degradation | None = None


def store_fault(store: SqliteStore, order: FaultOrder, *, now: Instant) -> None:
    """Write a fault down, or forget the one that there is.

    Raises:
        StateError: There is no such thing, or the action does not fit it.
    """
    kind = _kind(order.kind)
    desired, plan = store.desired(), store.plan()
    if desired is None or plan is None:
        raise StateError("the cloud has no plan yet; run `wisp up FILE`")
    name = _known(kind, order.name, desired[1], plan[1])
    if order.action == UP:
        store.remove_fault(kind, name)
        return
    action = _action(order, kind)
    period = None if order.period_s is None else Duration.of_seconds(order.period_s)
    degradation = order.degradation
    store.put_fault(Fault(kind=kind, name=name, action=action, since=now, period=period, degradation=degradation))


def _kind(text: str) -> FaultKind:
    if text not in set(FaultKind):
        raise StateError(f"nothing of kind {text!r} can break; these can: {', '.join(FaultKind)}")
    return FaultKind(text)


def _known(kind: FaultKind, name: str, desired: DesiredState, plan: Plan) -> str:
    """Give the name that a fault goes by."""
    names = breakable(desired, (spec.name for spec in plan.instances))[kind]
    for each in (name, f"device/{name}"):
        if each in names:
            return each
    raise StateError(f"no {kind} {name!r} in cloud {desired.name}; there are: {', '.join(names) or 'none'}")


def _action(order: FaultOrder, kind: FaultKind) -> FaultAction:
    """Give the action, once it is sure that it fits.

    Raises:
        StateError: It does not.
    """
    what = f"{kind} {order.name}"
    if order.action not in set(FaultAction):
        raise StateError(f"{what}: no action {order.action!r}; there are: {', '.join((UP, *FaultAction))}")
    action = FaultAction(order.action)
    if (order.period_s is not None) != (action is FaultAction.FLAP):
        raise StateError(f"{what}: `flap`, and nothing else, needs a period; give one, as --period 5s")
    if order.period_s is not None and order.period_s < SHORTEST_PERIOD_S:
        raise StateError(f"{what}: a period of {order.period_s:g} s is too short; give {SHORTEST_PERIOD_S:g} s or more")
    if action is FaultAction.DEGRADE and kind is not FaultKind.LINK:
        raise StateError(f"{what}: only a link can degrade; a {kind} can go down or flap")
    if (order.degradation is not None) != (action is FaultAction.DEGRADE):
        raise StateError(f"{what}: `degrade`, and nothing else, needs how; give --delay, --loss or --rate")
    return action
