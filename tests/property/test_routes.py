"""Changes of routes never send a packet round or into nothing, at any step; and the model that says so can say no."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_planning import feasible_clouds, planned
from tests.property.test_reconcile import settle
from tests.property.world import World
from wisp.bench.churn import RoutersAtRandom
from wisp.model.action import SetRoutes
from wisp.model.effect import NetworkState
from wisp.model.network import LinkEnd, Network, NextHop, NextHops, VirtualLink
from wisp.reconcile.network import difference
from wisp.reconcile.safety import unsafe_step


def link(first: str, second: str) -> VirtualLink:
    return VirtualLink(
        name=f"{first}-{second}",
        a=LinkEnd(namespace=first, interface=f"to-{second}"),
        b=LinkEnd(namespace=second, interface=f"to-{first}"),
    )


def over(*nexts: str) -> NextHops:
    return tuple(NextHop(f"to-{each}") for each in nexts)


RING = frozenset({link("a", "b"), link("b", "c"), link("c", "d"), link("a", "d")})


def ring(**ways: NextHops) -> Network:
    """Give a ring in which ``d`` has the destination ``x``."""
    return Network(links=RING, routes={name: {"x": hops} for name, hops in ways.items()})


ONE_WAY, OTHER_WAY = ring(a=over("b"), b=over("c"), c=over("d")), ring(a=over("d"), b=over("a"), c=over("b"))


def test_a_ring_turns_round_without_a_circle():
    steps = difference(OTHER_WAY, ONE_WAY)
    assert [step.namespace for step in steps if isinstance(step, SetRoutes)] == ["a", "b", "c"]
    assert unsafe_step(steps, seen=ONE_WAY, wanted=OTHER_WAY) == ""


@pytest.mark.parametrize("first", ["b", "c"])
def test_the_wrong_order_is_a_circle(first):
    steps = sorted(difference(OTHER_WAY, ONE_WAY), key=lambda step: step.namespace != first)
    assert "run in a circle" in unsafe_step(steps, seen=ONE_WAY, wanted=OTHER_WAY)


def test_to_take_a_route_away_too_early_is_a_hole():
    wanted = ring(a=over("d"), b=over("c"), c=over("d"))
    early = [SetRoutes(namespace="c", routes={"x": ()}), SetRoutes(namespace="a", routes={"x": over("b")})]
    assert "would end at c" in unsafe_step(early, seen=wanted, wanted=ONE_WAY)


def test_a_link_that_goes_before_its_routes_is_told():
    wanted = Network(links=RING - {link("b", "c")}, routes=ring(a=over("d"), b=over("a"), c=over("d")).routes)
    steps = difference(wanted, ONE_WAY)
    assert unsafe_step(steps, seen=ONE_WAY, wanted=wanted) == ""
    early = (steps[0], steps[-1], *steps[1:-1])
    assert "still sends over it" in unsafe_step(early, seen=ONE_WAY, wanted=wanted)


def test_several_ways_at_once_are_all_followed():
    both = ring(a=over("b", "d"), b=over("c"), c=over("d"))
    steps = [SetRoutes(namespace="b", routes={"x": over("a")})]
    assert "run in a circle" in unsafe_step(steps, seen=both, wanted=both)


@given(feasible_clouds(), feasible_clouds())
def test_from_one_cloud_to_another(first, second):
    world = World()
    before = planned(first)
    settle(world, before)
    seen = world.observed()
    wanted = planned(second, seen).network
    assert unsafe_step(difference(wanted, seen.network), seen=seen.network, wanted=wanted) == ""


@given(st.integers(0, 10**9))
def test_links_that_come_go_and_change(seed):
    rng = Random(seed)
    network = RoutersAtRandom(routers=rng.randint(2, 12), rng=rng)
    seen = network.planned()
    for _ in range(6):
        network.change()
        wanted = network.planned()
        steps = difference(wanted, seen)
        assert unsafe_step(steps, seen=seen, wanted=wanted) == ""
        assert carried_out(seen, steps) == wanted
        seen = wanted


def carried_out(seen: Network, steps) -> Network:
    state = NetworkState(seen)
    for step in steps:
        state.apply(step)
    return state.network()
