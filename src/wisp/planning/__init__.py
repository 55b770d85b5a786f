"""From what is declared and seen to what shall exist, with reasons: placement, addresses, routes.

Above ``model`` and ``codec``, beside ``reconcile``, which carries a plan out. :func:`plan` chains four steps, each
pure: an *algorithm* places instances (``feasibility`` says what a host is refused for), ``addressing`` gives out
addresses, ``routing`` finds paths, and ``realisation`` writes it all down as a network and instances.
"""

from wisp.model.description import DesiredState
from wisp.model.observation import ObservedState
from wisp.model.plan import Assignments, Conflict, Decision, Infeasible, Plan
from wisp.planning.addressing import assign
from wisp.planning.algorithms import ALGORITHMS
from wisp.planning.pool import plan_pools
from wisp.planning.problem import PlacementProblem
from wisp.planning.realisation import Realisation
from wisp.planning.zone import make_zone
from wisp.primitives.chance import Rng
from wisp.primitives.errors import StateError


def plan(
    desired: DesiredState, observed: ObservedState, *, rng: Rng, algorithm: str = "first-fit"
) -> Plan | Infeasible:
    """Decide what shall exist.

    Args:
        desired: What was declared.
        observed: What was given out before stays where it still fits; hosts that are down are not used.
        rng: Chance, for algorithms that use it.
        algorithm: A name in :data:`wisp.planning.algorithms.ALGORITHMS`.
    """
    placed = ALGORITHMS[algorithm](PlacementProblem(desired, observed), rng=rng)
    conflicts = tuple(each for each in placed if isinstance(each, Conflict))
    if conflicts:
        return Infeasible(conflicts=conflicts)
    decisions = tuple(each for each in placed if isinstance(each, Decision))
    try:
        assignments = _assignments(desired, observed, decisions)
    except StateError as error:
        return Infeasible(conflicts=(Conflict(instance=desired.name, constraints=(str(error),), refused=()),))
    realised = Realisation(desired, assignments)
    instances, left_bytes = realised.instances(), _memory_left(desired, assignments)
    return Plan(
        decisions=decisions,
        assignments=assignments,
        network=realised.network(),
        instances=instances,
        pools=plan_pools(desired, instances, left_bytes),
        memory_left_bytes=left_bytes,
        zone=make_zone(desired, assignments) if desired.hosts else None,
    )


def _memory_left(desired: DesiredState, assignments: Assignments) -> dict[str, int]:
    left = {host.name: host.memory_bytes for host in desired.hosts}
    for instance in desired.instances:
        if instance.idle_timeout is None:
            left[assignments.hosts[instance.name]] -= instance.vdu.memory_bytes
    return left


def _assignments(desired: DesiredState, observed: ObservedState, decisions: tuple[Decision, ...]) -> Assignments:
    return assign(
        hosts=[host.name for host in desired.hosts],
        links=[link.name for link in desired.links],
        devices=[device.name for device in desired.devices],
        placement={decision.instance: decision.host for decision in decisions},
        previous=observed.assignments,
    )
