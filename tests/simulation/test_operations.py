"""Life cycle operations as they are written down: begun, followed, closed."""

from dataclasses import replace
from random import Random

from tests.simulation.harness import World
from tests.simulation.test_controller_core import SECOND, WEB, desired
from tests.simulation.test_rolling import NEWER, crowd, up
from wisp.controller.core import ControllerCore, DesiredChanged
from wisp.model.observation import ObservedState
from wisp.model.operation import Cause, Operation, OperationKind, OperationState
from wisp.primitives.time import Duration

COMPLETED, PROCESSING = OperationState.COMPLETED, OperationState.PROCESSING


def told(world: World) -> list[tuple[OperationKind, OperationState, str]]:
    return [(each.kind, each.state, each.subject) for each in world.operations.values()]


def newest(world: World) -> Operation:
    return world.operations[max(world.operations)]


def test_coming_up_is_one_operation_with_its_phases_and_times() -> None:
    world = up(2)
    assert told(world) == [(OperationKind.INSTANTIATE, COMPLETED, "revision 1")]
    operation = newest(world)
    assert [phase.name for phase in operation.phases] == ["network", "instances"]
    network, instances = operation.phases
    assert network.ended_at is not None
    assert network.started_at == operation.started_at < network.ended_at < instances.ended_at == operation.ended_at


def test_the_same_again_is_none() -> None:
    world = up(2)
    world.desire(crowd(2), revision=2)
    world.run(SECOND)
    assert len(world.operations) == 1


def test_more_or_fewer_instances_of_a_vnf_are_scaling_other_options_an_update() -> None:
    world = up(2)
    world.desire(crowd(3), revision=2)
    world.run(SECOND)
    world.desire(crowd(3, NEWER), revision=3)
    world.run(SECOND)
    world.desire(crowd(1, NEWER), revision=4)
    world.run(SECOND)
    kinds = [kind for kind, state, _ in told(world) if state is COMPLETED]
    update, scale = OperationKind.UPDATE, OperationKind.SCALE
    assert kinds == [OperationKind.INSTANTIATE, scale, update, scale]


def test_what_dies_is_healed() -> None:
    world = up(2)
    world.crash("w1")
    world.run(SECOND)
    assert told(world)[1:] == [(OperationKind.HEAL, COMPLETED, "w1")]
    assert newest(world).reason == "killed by SIGKILL"


def test_healing_ends_when_the_instance_is_not_wanted_any_more() -> None:
    world = up(2)
    world.refuses = {"w1"}
    world.crash("w1")
    world.run(SECOND)
    assert newest(world).state is PROCESSING
    world.desire(crowd(1), revision=2)
    world.run(SECOND)
    assert told(world)[1:] == [
        (OperationKind.HEAL, OperationState.FAILED, "w1"),
        (OperationKind.SCALE, COMPLETED, "revision 2"),
    ]


def stalled() -> World:
    """Give a cloud whose new version does not come up."""
    world = up(8)
    world.silent = {f"w{number}" for number in range(8)}
    world.desire(crowd(8, replace(NEWER, boot_deadline=Duration.of_ms(200))), revision=2)
    world.run(SECOND * 5)
    return world


def test_a_stalled_update_has_failed_for_the_time_being_and_says_where() -> None:
    operation = newest(stalled())
    assert (operation.kind, operation.state) == (OperationKind.UPDATE, OperationState.FAILED_TEMP)
    assert "w0: it did not answer within 0.2 s" in operation.reason


def test_it_can_be_rolled_back() -> None:
    world = stalled()
    world.silent = set()
    world.desire(crowd(8), revision=3, cause=Cause.ROLLBACK)
    world.run(SECOND * 2)
    assert told(world)[1:] == [
        (OperationKind.UPDATE, OperationState.ROLLED_BACK, "revision 2"),
        (OperationKind.ROLLBACK, COMPLETED, "revision 3"),
    ]
    assert world.core.is_settled


def test_it_can_be_tried_again_at_once() -> None:
    world = stalled()
    world.run(SECOND * 20)  # now it would be tried again only much later
    world.silent = set()
    world.desire(crowd(8, replace(NEWER, boot_deadline=Duration.of_ms(200))), revision=3, cause=Cause.RETRY)
    world.run(SECOND)
    assert told(world)[1:] == [(OperationKind.UPDATE, COMPLETED, "revision 2")]
    assert (newest(world).revision, newest(world).reason) == (3, "")


def test_another_wish_takes_the_place_of_one_that_is_not_fulfilled() -> None:
    world = stalled()
    world.silent = set()
    world.desire(crowd(7), revision=3)
    world.run(SECOND * 2)
    assert [state for _, state, _ in told(world)[1:]] == [OperationState.FAILED, COMPLETED]
    assert world.operations[2].reason == "revision 3 took its place"


def test_a_wish_without_a_placement_has_failed_at_once() -> None:
    world = up(1)
    world.desire(desired("big", vdu=replace(WEB, memory_bytes=1 << 40)), revision=2)
    world.run(SECOND)
    operation = newest(world)
    assert operation.state is OperationState.FAILED
    assert "no placement exists for big" in operation.reason


def test_the_next_controller_goes_on_with_what_is_open() -> None:
    world = stalled()
    open_ones = list(world.operations.values())
    core = ControllerCore(ObservedState(), rng=lambda: Random(0), operations=open_ones)
    wish = DesiredChanged(revision=2, desired=crowd(8, NEWER))
    begun = core.handle([wish], now=world.now).operations
    assert [(each.number, each.state) for each in begun] == [(2, PROCESSING)]
