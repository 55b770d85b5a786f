"""From what is declared and seen to what shall exist, with reasons: placement, addresses, routes.

Above ``model`` and ``codec``, beside ``reconcile``, which carries a plan out. :func:`plan` chains four steps, each
pure: an *algorithm* places instances (``feasibility`` says what a host is refused for), ``addressing`` gives out
addresses, ``routing`` finds paths, and ``realisation`` writes it all down as a network and instances.
"""

from collections.abc import Mapping
from dataclasses import replace

from wisp.model.description import DesiredState
from wisp.model.observation import ObservedState
from wisp.model.plan import Assignments, Conflict, Decision, Infeasible, Plan
from wisp.planning.addressing import assign
from wisp.planning.algorithms import ALGORITHMS
from wisp.planning.elastic import Expansion, Scale, expand, groups
from wisp.planning.overhead import cost_bytes
from wisp.planning.pool import plan_pools
from wisp.planning.problem import PlacementProblem
from wisp.planning.realisation import Realisation
from wisp.planning.zone import make_zone
from wisp.primitives.chance import Rng
from wisp.primitives.errors import StateError

__all__ = ["Scale", "plan"]


def plan(
    desired: DesiredState,
    observed: ObservedState,
    *,
    rng: Rng,
    scales: Mapping[str, Scale] | None = None,
    algorithm: str = "first-fit",
) -> Plan | Infeasible:
    """Decide what shall exist.

    Args:
        desired: What was declared.
        observed: What was given out before stays where it still fits; hosts that are down are not used, but by those
            that were there and fit nowhere else: they wait.
        rng: Chance, for algorithms that use it.
        scales: How many instances there shall be of what may have several; else as many as before.
        algorithm: A name in :data:`wisp.planning.algorithms.ALGORITHMS`.
    """
    expansion = expand(desired, observed, scales or {})
    observed = replace(observed, assignments=_with_those_that_run(observed))
    decisions = _placed(expansion, observed, rng, algorithm)
    if isinstance(decisions, Infeasible):
        return decisions
    try:
        assignments = _assignments(desired, expansion, observed, decisions)
    except StateError as error:
        return Infeasible(conflicts=(Conflict(instance=desired.name, constraints=(str(error),), refused=()),))
    realised = Realisation(desired, expansion.desired, assignments, observed.links_down)
    instances, left_bytes = realised.instances(), _memory_left(expansion.desired, assignments)
    return Plan(
        decisions=decisions,
        assignments=assignments,
        network=realised.network(),
        instances=instances,
        pools=plan_pools(desired, instances, left_bytes),
        memory_left_bytes=left_bytes,
        zone=make_zone(desired, expansion.desired, assignments, observed.hosts_down) if desired.hosts else None,
        elastic=tuple(groups(desired, assignments)),
    )


def _placed(
    expansion: Expansion, observed: ObservedState, rng: Rng, algorithm: str
) -> tuple[Decision, ...] | Infeasible:
    """Place all, as many rounds as more must wait for a host that is down: two, mostly, once one is."""
    waiting: frozenset[str] = frozenset()
    while True:
        problem = PlacementProblem(expansion.desired, observed, expansion.near, waiting)
        placed = ALGORITHMS[algorithm](problem, rng=rng)
        conflicts = tuple(each for each in placed if isinstance(each, Conflict))
        if not conflicts:
            return tuple(each for each in placed if isinstance(each, Decision))
        was_on = observed.assignments.hosts
        stranded = {each.instance for each in conflicts if was_on.get(each.instance) in observed.hosts_down} - waiting
        if not stranded:
            return Infeasible(conflicts=conflicts)
        waiting |= stranded


def _with_those_that_run(observed: ObservedState) -> Assignments:
    """Give what was given out before, with the places of guests that were to go and still run."""
    before, taps = observed.assignments, observed.network.taps
    return replace(
        before,
        hosts={tap.name: tap.namespace.removeprefix("host/") for tap in taps} | dict(before.hosts),
        addresses={tap.name: tap.address for tap in taps} | dict(before.addresses),
    )


def _memory_left(desired: DesiredState, assignments: Assignments) -> dict[str, int]:
    left = {host.name: host.memory_bytes for host in desired.hosts}
    for instance in desired.instances:
        if not instance.gives_back:
            left[assignments.hosts[instance.name]] -= cost_bytes(instance.vdu)
    return left


def _assignments(
    desired: DesiredState, expansion: Expansion, observed: ObservedState, decisions: tuple[Decision, ...]
) -> Assignments:
    placement = {decision.instance: decision.host for decision in decisions}
    return assign(
        hosts=[host.name for host in desired.hosts],
        routers=[router.name for router in desired.routers],
        links=[link.name for link in desired.links],
        devices=[device.name for device in desired.devices],
        virtual=[each.name for each in desired.instances if each.elasticity is not None],
        placement=placement,
        versions=expansion.versions,
        previous=observed.assignments,
        in_use={tap.address for tap in observed.network.taps if tap.name not in placement},
    )
