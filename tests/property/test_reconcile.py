"""Reconciling settles from anywhere, repeats to nothing, and orders what the kernel would accept."""

from dataclasses import replace
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.property.test_planning import feasible_clouds, planned
from tests.property.world import World, observed_instance
from wisp.model.action import ShapeLink
from wisp.model.description import LinkShape
from wisp.model.fault import Fault, FaultAction, FaultKind
from wisp.model.instance import InstanceState
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.planning.fault import breakable, taken_apart
from wisp.primitives.time import Duration
from wisp.reconcile import reconcile, wake_at
from wisp.reconcile.elastic import Elastic
from wisp.reconcile.fault import Affliction

ROUNDS = 40  # of several instances one is replaced after another
LONG = Duration.of_seconds(60)


def settle(world: World, plan: Plan) -> None:
    """Reconcile until nothing is left to do."""
    for _ in range(ROUNDS):
        actions = reconcile(plan, world.observed(), now=world.now)
        world.apply(actions)
        world.answer()
        due = wake_at(plan, world.observed(), now=world.now)
        if not actions and due is None:
            return
        if due is not None:
            assert due > world.now
            world.now = due
    raise AssertionError(f"not settled after {ROUNDS} rounds: {reconcile(plan, world.observed(), now=world.now)}")


def assert_agrees(world: World, plan: Plan) -> None:
    seen = world.observed()
    assert reconcile(plan, seen, now=world.now) == ()
    assert seen.network == Elastic(plan, seen, now=world.now).network
    for name in ("namespaces", "links", "taps", "routes"):
        assert getattr(seen.network, name) == getattr(plan.network, name)
    for group in plan.elastic:
        led = {
            member
            for each in seen.network.virtual_addresses
            if each.address == group.address
            for member in each.members
        }
        assert led
        assert led <= {spec.address for spec in plan.instances if spec.name in group.members}
    assert set(seen.instances) == {spec.name for spec in plan.instances}
    for spec in plan.instances:
        assert seen.instances[spec.name].state.is_well
        assert seen.instances[spec.name].spec_digest == spec.digest


@given(feasible_clouds())
def test_from_nothing_it_settles_and_repeats_to_nothing(desired):
    plan, world = planned(desired), World()
    settle(world, plan)
    assert_agrees(world, plan)
    world.advance(LONG)
    assert reconcile(plan, world.observed(), now=world.now) == ()


@given(feasible_clouds(), feasible_clouds())
def test_from_one_plan_to_another_and_to_nothing(first, second):
    world = World()
    before = planned(first)
    settle(world, before)
    after = planned(second, replace(world.observed(), assignments=before.assignments))
    settle(world, after)
    assert_agrees(world, after)
    settle(world, Plan())
    assert_agrees(world, Plan())


@given(feasible_clouds(), feasible_clouds(), st.randoms(use_true_random=False))
def test_from_any_world_it_settles(desired, other, chance):
    plan, world = planned(desired), World()
    settle(world, planned(other) if chance.random() < 0.5 else plan)
    damage(world, chance, plan)
    settle(world, plan)
    assert_agrees(world, plan)


@given(feasible_clouds(), st.data())
def test_a_link_that_changes_shape_disturbs_nothing_else(desired, data):
    plan, world = planned(desired), World()
    settle(world, plan)
    assume(plan.network.links)
    old = data.draw(st.sampled_from(sorted(plan.network.links, key=lambda link: link.name)))
    new = replace(old, a_to_b=LinkShape(rate_bps=99_999))
    network = replace(plan.network, links=plan.network.links - {old} | {new})
    changed = replace(plan, network=network)
    assert reconcile(changed, world.observed(), now=world.now) == (ShapeLink(link=new),)


@given(feasible_clouds(), st.data())
def test_under_faults_it_settles_at_what_they_leave_and_comes_back_without_them(desired, data):
    plan, world = planned(desired), World()
    settle(world, plan)
    names = breakable(desired, (spec.name for spec in plan.instances))
    things = [(kind, name) for kind in FaultKind for name in names[kind]]
    broken = data.draw(st.sets(st.sampled_from(things), max_size=4))
    faults = tuple(
        Fault(kind=kind, name=name, action=FaultAction.DOWN, since=world.now) for kind, name in sorted(broken)
    )
    faulty = replace(plan, faults=taken_apart(faults, desired))
    settle(world, faulty)
    seen = world.observed()
    affliction = Affliction(faulty.faults, now=world.now)
    assert seen.network == affliction.network(Elastic(faulty, seen, now=world.now).network)
    assert {name for kind, name in broken if kind is FaultKind.LINK} == {
        link.name.removeprefix("link/") for link in seen.network.links if link.is_down
    } | {name for name in names[FaultKind.LINK] if (FaultKind.LINK, name) in broken and not _is_there(name, seen)}
    running = {name for name, each in seen.instances.items() if each.state.is_well}
    assert not running & {spec.name for spec in plan.instances if affliction.reason_against(spec)}
    settle(world, plan)
    assert_agrees(world, plan)


def _is_there(name: str, seen: ObservedState) -> bool:
    return bool({name, f"link/{name}"} & {link.name for link in seen.network.links})


def damage(world: World, chance: Random, plan: Plan) -> None:
    """Take away and change some of everything."""
    for name in list(world.namespaces):
        if chance.random() < 0.1:
            world.remove_namespace(name)
    for name in list(world.links):
        if chance.random() < 0.2:
            world.remove_link(name)
    for name in list(world.taps):
        if chance.random() < 0.2:
            world.remove_tap(name)
    for key in list(world.virtual_addresses):
        if chance.random() < 0.3:
            del world.virtual_addresses[key]
    for table in world.routes.values():
        for destination in list(table):
            if chance.random() < 0.2:
                del table[destination]
    for spec in plan.instances:
        if chance.random() < 0.5:
            state = chance.choice(
                [each for each in InstanceState if spec.is_summoned or each is not InstanceState.ASLEEP]
            )
            failures = chance.choice([0, 1, 2, 7, 1000])
            world.instances[spec.name] = observed_instance(spec, state, now=world.now, failures=failures)
    for name in list(world.instances):
        if chance.random() < 0.2:
            del world.instances[name]
    world.advance(chance.choice([Duration(0), Duration.of_ms(50), Duration.of_seconds(20)]))
