"""Given a fault, then the world shows it, and the controller leads around what it sees, in virtual time."""

from dataclasses import replace

import pytest

from tests.simulation.harness import World
from tests.simulation.test_controller_core import SECOND, desired, states
from wisp.model.description import DesiredState, Link, LinkShape, PlacementConstraints, Router
from wisp.model.fault import Degradation, Fault, FaultAction, FaultKind
from wisp.model.instance import InstanceState
from wisp.model.network import Network
from wisp.model.report import NetworkObserved
from wisp.primitives.time import Duration
from wisp.reconcile.routes import without

SLOW = LinkShape(delay_us=9_000)


def two_ways(*names: str) -> DesiredState:
    """Give two hosts with a quick link and a detour over a router."""
    made = desired(*names)
    detour = [
        Link(name=f"d{end}", ends=(end, "r"), forward=SLOW, backward=SLOW) for end in (host.name for host in made.hosts)
    ]
    return replace(made, routers=(Router(name="r"),), links=(*made.links, *detour))


@pytest.fixture
def world() -> World:
    made = World()
    made.desire(two_ways("a", "b"))
    made.run(SECOND)
    return made


def broken(world: World, kind: FaultKind, name: str, action: FaultAction = FaultAction.DOWN, **more) -> Fault:
    return Fault(kind=kind, name=name, action=action, since=world.now, **more)


def have(world: World, *faults: Fault, of: DesiredState | None = None) -> None:
    world.desire(of or two_ways("a", "b"), faults=faults)


def ways(network: Network) -> set[str]:
    """Give the interfaces that lead from the first host."""
    return {hop.interface for hops in network.routes["host/h1"].values() for hop in hops if hop.via}


def what(world: World) -> list[tuple[str, str]]:
    return [(event.what, event.subject) for event in world.events]


def test_a_link_that_is_down_is_led_around_and_taken_again(world: World) -> None:
    assert ways(world.network) == {"l-l", "l-dh1"}
    have(world, broken(world, FaultKind.LINK, "l"))
    world.run(SECOND)
    assert {link.name for link in world.network.links if link.is_down} == {"link/l"}
    assert ways(world.network) == {"l-dh1"}
    assert world.core.is_settled
    have(world)
    world.run(SECOND)
    assert ways(world.network) == {"l-l", "l-dh1"}
    assert [each for each in what(world) if each[0].startswith(("link", "fault"))] == [
        ("fault", "link l"),
        ("link-down", "l"),
        ("fault-ended", "link l"),
        ("link-up", "l"),
    ]


def test_what_was_not_ordered_is_mended(world: World) -> None:
    links = frozenset(replace(link, is_down=link.name == "link/l") for link in world.network.links)
    gone = [(name, "l-l") for name in world.network.routes]
    world.network = replace(world.network, links=links, routes=without(world.network.routes, gone))
    world.later(Duration(0), NetworkObserved(network=world.network))
    world.run(SECOND)
    assert world.core.plan is not None
    assert world.network == world.core.plan.network
    assert ("link-up", "l") in what(world)


def test_a_host_is_left_when_it_was_silent_for_as_long_as_declared(world: World) -> None:
    starts = len(world.starts)
    lost = world.core.plan.assignments.hosts["a"]  # type: ignore[union-attr]
    have(world, broken(world, FaultKind.HOST, lost))
    begun = world.now
    world.run(Duration.of_ms(900))
    assert len(world.starts) == starts  # not yet missed
    assert all(namespace.name != f"host/{lost}" for namespace in world.network.namespaces)
    world.run(SECOND)
    assert states(world) == {"a": InstanceState.READY, "b": InstanceState.READY}
    assert set(world.core.plan.assignments.hosts.values()) == {"h1", "h2"} - {lost}  # type: ignore[union-attr]
    (first, _), *_ = world.starts[starts:]
    assert Duration.of_seconds(1) <= first - begun <= Duration.of_ms(1_100)
    have(world)
    world.run(SECOND)
    assert what(world)[-1][0] != "plan-infeasible"
    assert ("host-up", lost) in what(world)
    assert world.core.is_settled


def test_who_fits_nowhere_else_waits_for_its_host_and_others_move() -> None:
    world, wanted = World(), two_ways("a", "b")
    first, second = wanted.instances
    at = PlacementConstraints(hosts=("h1",))
    wanted = replace(wanted, instances=(replace(first, constraints=at), second))
    world.desire(wanted)
    world.run(SECOND)
    assert world.core.plan is not None
    assert world.core.plan.assignments.hosts == {"a": "h1", "b": "h1"}
    have(world, broken(world, FaultKind.HOST, "h1"), of=wanted)
    world.run(Duration.of_seconds(3))
    assert world.core.plan.assignments.hosts == {"a": "h1", "b": "h2"}
    assert ("instance-waits", "a") in what(world)
    assert set(world.running) == {"b"}
    have(world, of=wanted)
    world.run(Duration.of_seconds(3))
    assert states(world) == {"a": InstanceState.READY, "b": InstanceState.READY}


def test_with_all_hosts_gone_everything_waits_and_comes_back(world: World) -> None:
    have(world, broken(world, FaultKind.SITE, "s"))
    world.run(Duration.of_seconds(3))
    assert not world.running
    have(world)
    world.run(Duration.of_seconds(3))
    assert states(world) == {"a": InstanceState.READY, "b": InstanceState.READY}


def test_a_process_stays_dead_and_is_stopped_without_grace(world: World) -> None:
    have(world, broken(world, FaultKind.PROCESS, "a"))
    world.run(Duration.of_seconds(20))
    assert list(world.running) == ["b"]
    have(world)
    world.run(SECOND)
    assert states(world) == {"a": InstanceState.READY, "b": InstanceState.READY}


def test_a_link_flaps_by_itself(world: World) -> None:
    have(world, broken(world, FaultKind.LINK, "l", FaultAction.FLAP, period=SECOND))
    world.run(Duration.of_ms(3_500))
    assert [each for each in what(world) if each[0].startswith("link")] == [
        ("link-down", "l"),
        ("link-up", "l"),
        ("link-down", "l"),
        ("link-up", "l"),
    ]


def test_a_degraded_link_is_shaped_and_nobody_is_led_around(world: World) -> None:
    degraded = Degradation(delay_us=50_000)
    have(world, broken(world, FaultKind.LINK, "l", FaultAction.DEGRADE, degradation=degraded))
    world.run(SECOND)
    (link,) = [link for link in world.network.links if link.name == "link/l"]
    assert (link.a_to_b.delay_us, link.b_to_a.delay_us, link.is_down) == (55_000, 55_000, False)
    assert ways(world.network) == {"l-l", "l-dh1"}
