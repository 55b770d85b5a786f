"""An update replaces the instances of a VNF a few at a time, and stops where the new version does not come up."""

from dataclasses import replace

import pytest

from tests.simulation.harness import World
from tests.simulation.test_controller_core import SECOND, WEB, desired
from wisp.model.description import DesiredState, Vdu
from wisp.model.instance import InstanceState
from wisp.primitives.time import Duration

NEWER = replace(WEB, config={"greeting": "hello"})


def crowd(count: int, vdu: Vdu = WEB) -> DesiredState:
    """Give a cloud with so many instances of one VNF."""
    made = desired(*(f"w{number}" for number in range(count)), vdu=vdu)
    return replace(made, instances=tuple(replace(each, vnf="web") for each in made.instances))


def up(count: int) -> World:
    world = World()
    world.desire(crowd(count))
    world.run(SECOND)
    assert world.core.is_settled
    return world


def least_ready(world: World, length: Duration) -> int:
    """Let time pass; give how many answered at the worst moment."""
    least = len(world.core.instances)
    for _ in range(int(length.ns // 1_000_000)):
        world.run(Duration.of_ms(1))
        ready = [seen for seen in world.core.instances.values() if seen.state is InstanceState.READY]
        least = min(least, len(ready))
    return least


@pytest.mark.parametrize(("count", "stay"), [(1, 0), (2, 1), (4, 3), (8, 6)])
def test_at_most_a_quarter_and_at_least_one_is_away_at_a_time(count: int, stay: int) -> None:
    world = up(count)
    before = dict(world.running)
    world.desire(crowd(count, NEWER), revision=2)
    assert least_ready(world, SECOND) == stay
    assert world.core.is_settled
    assert all(world.running[name].spec_digest != handle.spec_digest for name, handle in before.items())


def test_a_version_that_does_not_come_up_stops_the_update_and_going_back_mends_it() -> None:
    world = up(8)
    world.silent = {f"w{number}" for number in range(8)}
    world.desire(crowd(8, replace(NEWER, boot_deadline=Duration.of_ms(200))), revision=2)
    assert least_ready(world, SECOND * 5) == 6
    assert not world.core.is_settled
    world.silent = set()
    world.desire(crowd(8), revision=3)
    assert least_ready(world, SECOND * 5) == 6
    assert world.core.is_settled


def test_one_that_does_not_answer_anyhow_does_not_wait_for_its_turn() -> None:
    world = up(2)
    world.refuses = {"w1"}
    world.crash("w1")
    world.run(SECOND)
    world.refuses = set()
    world.desire(crowd(2, NEWER), revision=2)
    assert least_ready(world, SECOND) == 1
    assert world.core.is_settled


def test_an_instance_whose_place_goes_does_not_wait_for_its_turn() -> None:
    world = up(4)
    moved = crowd(4)
    world.desire(replace(moved, hosts=moved.hosts[1:], links=()), revision=2)
    world.run(SECOND)
    assert world.core.is_settled
