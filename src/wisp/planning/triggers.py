"""When a plan no longer fits the world and has to be made anew."""

from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.primitives.time import Instant
from wisp.primitives.values import frozen


@frozen
class Reason:
    """Why to plan again.

    Attributes:
        what: Short stable word, as ``host-down``.
        subject: Host it is about.
        message: A sentence.
    """

    what: str
    subject: str
    message: str


def replan_reason(
    plan: Plan,
    observed: ObservedState,
    *,
    now: Instant,  # noqa: ARG001 - part of the room's signature; no trigger waits for time yet
) -> Reason | None:
    """Give the first reason to plan again, or ``None`` while the plan fits."""
    used = {decision.host for decision in plan.decisions}
    lost = sorted(used & observed.hosts_down)
    if not lost:
        return None
    stranded = [decision.instance for decision in plan.decisions if decision.host == lost[0]]
    return Reason(what="host-down", subject=lost[0], message=f"{lost[0]} is down and ran {', '.join(stranded)}")
