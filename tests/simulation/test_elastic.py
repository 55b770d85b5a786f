"""Several instances behind one virtual address: they come, go and are replaced, and who asks is always answered."""

from dataclasses import replace

import pytest

from tests.simulation.harness import DRAIN_TAKES, World
from tests.simulation.test_controller_core import SECOND, WEB, desired
from wisp.model.description import DesiredState, Elasticity, Vdu
from wisp.model.instance import InstanceState
from wisp.primitives.time import Duration

NEWER = replace(WEB, config={"greeting": "hello"})


def cloud(least: int, vdu: Vdu = WEB, most: int = 8, drain_s: float = 5) -> DesiredState:
    """Give a cloud whose `web` has so many instances."""
    made = desired("web", vdu=vdu)
    elasticity = Elasticity(minimum=least, maximum=most, drain=Duration.of_seconds(drain_s))
    return replace(made, instances=tuple(replace(each, elasticity=elasticity) for each in made.instances))


def up(least: int) -> World:
    world = World()
    world.desire(cloud(least))
    world.run(SECOND)
    assert world.core.is_settled
    return world


def served_throughout(world: World, length: Duration) -> None:
    """Let time pass; at every moment whoever asks is led to somebody who runs and answers."""
    for _ in range(int(length.ns // 1_000_000)):
        world.run(Duration.of_ms(1))
        names = {tap.address: tap.name for tap in world.network.taps}
        assert world.network.virtual_addresses
        for each in world.network.virtual_addresses:
            for member in each.members:
                name = names[member]
                assert name in world.running, f"{name} is led to and does not run"
                assert world.core.instances[name].state is InstanceState.READY, name


def names(world: World) -> list[str]:
    return sorted(world.running)


def test_each_host_leads_to_its_nearest() -> None:
    world = up(3)
    assert names(world) == ["web-1", "web-2", "web-3"]
    assert {each.address for each in world.network.virtual_addresses} == {"192.168.0.1"}
    namespaces = {each.name for each in world.network.namespaces if each.name.startswith("host/")}
    assert {each.namespace for each in world.network.virtual_addresses} == namespaces


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_an_update_leaves_nobody_without_an_answer(count: int) -> None:
    world = up(count)
    before = names(world)
    world.desire(cloud(count, NEWER), revision=2)
    served_throughout(world, SECOND * 5)
    assert world.core.is_settled
    assert not set(names(world)) & set(before)
    assert len(world.running) == count
    assert sorted(world.drained) == before
    assert not world.cut, "nobody was stopped before it had finished"
    world.desire(cloud(count), revision=3)
    served_throughout(world, SECOND * 5)
    assert world.core.is_settled
    assert names(world) == before, "numbers that are free are used again"


def test_more_and_fewer() -> None:
    world = up(2)
    world.desire(cloud(5), revision=2)
    served_throughout(world, SECOND)
    assert len(world.running) == 5
    world.desire(cloud(1, most=3), revision=3)
    served_throughout(world, SECOND)
    assert names(world) == ["web-1", "web-2", "web-3"], "as many as before, as far as they are allowed"
    assert sorted(world.drained) == ["web-4", "web-5"]
    assert world.core.is_settled


def test_who_never_finishes_is_stopped_when_its_time_is_up() -> None:
    world = up(2)
    world.busy = {"web-1"}
    world.desire(cloud(2, NEWER), revision=2)
    served_throughout(world, SECOND * 4)
    assert "web-1" in world.running
    assert not world.core.is_settled
    served_throughout(world, SECOND * 2)
    assert world.cut == ["web-1"]
    assert world.core.is_settled


def test_a_version_that_does_not_come_up_leaves_the_old_one_serving() -> None:
    world = up(4)
    world.silent = {f"web-{number}" for number in range(5, 20)}
    world.desire(cloud(4, replace(NEWER, boot_deadline=Duration.of_ms(200))), revision=2)
    served_throughout(world, SECOND * 5)
    assert not world.core.is_settled
    assert not world.drained
    world.silent = set()
    world.desire(cloud(4), revision=3)
    served_throughout(world, SECOND * 5)
    assert world.core.is_settled
    assert names(world) == ["web-1", "web-2", "web-3", "web-4"]


def test_who_dies_is_led_to_no_longer_and_comes_back() -> None:
    world = up(3)
    world.crash("web-2")
    world.run(Duration.of_ms(30))
    served_throughout(world, SECOND)
    assert names(world) == ["web-1", "web-2", "web-3"]
    assert all(len(each.members) == 3 for each in world.network.virtual_addresses if each.members)


def test_one_that_is_woken_serves_and_the_old_one_is_not_asked_again() -> None:
    """It answers whoever wanted it, though nobody has asked whether it is well."""

    def sleepy(vdu: Vdu) -> DesiredState:
        made = cloud(1, vdu)
        return replace(made, instances=tuple(replace(each, idle_timeout=SECOND) for each in made.instances))

    world = World()
    world.desire(sleepy(WEB))
    world.run(SECOND)
    world.wake("web-1")
    world.run(Duration.of_ms(1))
    world.silent = {"web-2"}
    world.desire(sleepy(NEWER), revision=2)
    world.run(Duration.of_ms(100))
    assert world.drained == ["web-1"], "it was woken, so somebody may be there"
    world.wake("web-2")
    world.run(SECOND)
    names = {tap.address: tap.name for tap in world.network.taps}
    assert {names[each] for va in world.network.virtual_addresses for each in va.members} == {"web-2"}
    assert world.drained == ["web-1"]


def test_addresses_of_those_that_still_run_are_not_given_out() -> None:
    world = up(2)
    world.busy = {"web-1", "web-2"}
    world.desire(cloud(2, NEWER), revision=2)
    world.run(SECOND + DRAIN_TAKES)
    assert len(world.running) == 4
    taps = [tap.address for tap in world.network.taps]
    assert len(set(taps)) == len(taps) == 4
