"""From a plan and an observation to the actions that bring the one to the other.

Above ``model``, beside ``planning``. Pure: what is due by time follows from ``now``, and :func:`wake_at` says when
to ask again though nothing happened. On a world that agrees, :func:`reconcile` gives ``()``.

>>> from wisp.model.observation import ObservedState
>>> from wisp.model.plan import Plan
>>> reconcile(Plan(), ObservedState(), now=Instant(0))
()
"""

from wisp.model.action import Action
from wisp.model.network import Network
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.primitives.time import Instant
from wisp.reconcile.elastic import Elastic
from wisp.reconcile.fault import Affliction
from wisp.reconcile.ground import Ground
from wisp.reconcile.instance import changes
from wisp.reconcile.network import difference

__all__ = ["Ground", "network_of", "reconcile", "wake_at"]


def reconcile(plan: Plan, observed: ObservedState, *, now: Instant) -> tuple[Action, ...]:
    """Give what to do now, in an order that works.

    First instances are stopped, then the network is changed (see :func:`~wisp.reconcile.network.difference`), and at
    last instances are started. Some of it may have to wait for a later call: an instance that changed is stopped now
    and started once it is gone. One of several that goes is told to finish first.
    """
    elastic, affliction = Elastic(plan, observed, now=now), Affliction(plan.faults, now=now)
    instances = changes(plan, observed, elastic, affliction, now=now)
    network = difference(affliction.network(elastic.network), observed.network)
    return (*instances.stops, *network, *instances.starts, *elastic.drains)


def network_of(plan: Plan, observed: ObservedState, *, now: Instant) -> Network:
    """Give the network that shall be now: as planned but for faults, with who is led where, and what those that go
    still need.
    """
    return Affliction(plan.faults, now=now).network(Elastic(plan, observed, now=now).network)


def wake_at(plan: Plan, observed: ObservedState, *, now: Instant) -> Instant | None:
    """Give when, after ``now``, time alone will make something due; ``None`` when nothing waits for time."""
    elastic, affliction = Elastic(plan, observed, now=now), Affliction(plan.faults, now=now)
    due = (*changes(plan, observed, elastic, affliction, now=now).due, *affliction.due)
    return min((at for at in due if at > now), default=None)
