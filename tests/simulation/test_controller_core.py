"""Given a description and what happens to the world, then this state, in virtual time."""

from dataclasses import replace

import pytest

from tests.simulation.harness import NETWORK_TAKES, START, World
from wisp.model.description import (
    DeclaredInstance,
    DesiredState,
    Host,
    ImageSource,
    Kind,
    Link,
    LinkShape,
    Site,
    Vdu,
)
from wisp.model.instance import InstanceState
from wisp.model.network import Network
from wisp.model.observation import Severity
from wisp.primitives.time import Duration

SECOND = Duration.of_seconds(1)
WEB = Vdu(name="web", kind=Kind.MICROVM, image="web")


def desired(*names: str, vdu: Vdu = WEB) -> DesiredState:
    return DesiredState(
        name="t",
        sites=(Site(name="s"),),
        hosts=(
            Host(name="h1", site="s", cpu_millicores=4000, memory_bytes=1 << 30),
            Host(name="h2", site="s", cpu_millicores=4000, memory_bytes=1 << 30),
        ),
        links=(Link(name="l", ends=("h1", "h2"), forward=LinkShape(delay_us=5000), backward=LinkShape(delay_us=5000)),),
        images=(ImageSource(name="web", role="web"),),
        instances=tuple(DeclaredInstance(name=name, network_service="n", vnf=name, vdu=vdu) for name in names),
    )


@pytest.fixture
def world() -> World:
    made = World()
    made.desire(desired("a", "b"))
    made.run(SECOND)
    return made


def states(world: World) -> dict[str, InstanceState]:
    return {name: seen.state for name, seen in world.core.instances.items()}


def test_everything_comes_up_and_settles(world: World) -> None:
    assert states(world) == {"a": InstanceState.READY, "b": InstanceState.READY}
    assert world.core.is_settled
    assert world.core.plan is not None
    assert world.network == world.core.plan.network
    assert len(world.starts) == 2


def test_the_same_description_again_changes_nothing(world: World) -> None:
    world.desire(desired("a", "b"), revision=2)
    world.run(SECOND)
    assert len(world.starts) == 2
    assert world.core.revision == 2


def test_only_what_differs_is_changed(world: World) -> None:
    kept = world.running["a"]
    world.desire(desired("a", "c"), revision=2)
    world.run(SECOND)
    assert set(world.running) == {"a", "c"}
    assert world.running["a"] == kept


def test_an_empty_wish_ends_everything(world: World) -> None:
    world.desire(None, revision=2)
    world.run(SECOND)
    assert world.running == {}
    assert world.network == Network()
    assert states(world) == {}


def test_a_dead_instance_is_back_within_a_second(world: World) -> None:
    world.crash("a")
    world.run(SECOND)
    assert states(world)["a"] is InstanceState.READY
    assert [e.what for e in world.events if e.subject == "a"][-3:] == [
        "instance-exited",
        "instance-started",
        "instance-ready",
    ]


def test_an_instance_that_dies_again_and_again_is_started_ever_more_rarely(world: World) -> None:
    before = len(world.starts)
    for _ in range(600):
        if "a" in world.running:
            world.crash("a")
        world.run(Duration.of_ms(100))
    starts = len(world.starts) - before
    assert 5 <= starts <= 12  # 0, 0.1, 0.2, 0.4 … 30 s apart
    assert world.core.instances["a"].failures >= 5


def test_a_silent_guest_is_retried_after_its_deadline() -> None:
    world = World()
    world.silent.add("a")
    world.desire(desired("a", vdu=replace(WEB, boot_deadline=Duration.of_seconds(2))))
    world.run(Duration.of_seconds(2.5))
    assert [name for _, name in world.starts] == ["a", "a"]
    world.silent.clear()
    world.run(Duration.of_seconds(10))
    assert states(world)["a"] is InstanceState.READY


def test_a_start_that_fails_is_told_and_tried_again() -> None:
    world = World()
    world.refuses.add("a")
    world.desire(desired("a"))
    world.run(SECOND)
    assert any(e.what == "instance-not-started" and "refused" in e.message for e in world.events)
    world.refuses.clear()
    world.run(Duration.of_seconds(5))
    assert states(world)["a"] is InstanceState.READY


def test_guests_boot_while_links_are_made_and_programs_wait_for_all_of_the_network() -> None:
    world = World()
    program = replace(WEB, name="program", kind=Kind.PROCESS, image=None, command=("sleep", "9"))
    wished = desired("a")
    world.desire(replace(wished, instances=(*wished.instances, *desired("b", vdu=program).instances)))
    world.run(SECOND)
    assert [(at - START, name) for at, name in world.starts] == [(NETWORK_TAKES, "a"), (NETWORK_TAKES * 2, "b")]
    assert world.core.is_settled


def test_a_network_that_cannot_be_made_is_told_and_tried_again() -> None:
    world = World()
    world.network_error = "link l: no"
    world.desire(desired("a"))
    world.run(Duration.of_seconds(5))
    failures = [e for e in world.events if e.what == "network-failed"]
    assert 2 <= len(failures) <= 4
    assert world.starts == []
    world.network_error = None
    world.run(Duration.of_seconds(5))
    assert world.core.is_settled


def test_an_infeasible_wish_leaves_the_cloud_as_it_is(world: World) -> None:
    huge = replace(WEB, memory_bytes=1 << 40)
    world.desire(desired("a", "b", vdu=huge), revision=2)
    world.run(SECOND)
    assert set(world.running) == {"a", "b"}
    assert any(e.what == "plan-infeasible" for e in world.events)
    assert world.core.is_settled


def test_a_torn_network_is_mended(world: World) -> None:
    assert world.core.plan is not None
    from wisp.model.report import NetworkObserved

    world.network = replace(world.network, links=frozenset())
    world.later(Duration(0), NetworkObserved(network=world.network))
    world.run(SECOND)
    assert world.network == world.core.plan.network


def summoned(*names: str) -> DesiredState:
    wanted = desired(*names)
    asleep = (replace(each, idle_timeout=SECOND) for each in wanted.instances)
    return replace(wanted, instances=tuple(asleep))


@pytest.fixture
def sleepy() -> World:
    made = World()
    made.desire(summoned("a"))
    made.run(SECOND)
    return made


def test_what_is_summoned_sleeps_and_the_cloud_is_settled(sleepy: World) -> None:
    assert states(sleepy) == {"a": InstanceState.ASLEEP}
    assert sleepy.core.is_settled
    assert len(sleepy.starts) == 1


def test_it_wakes_answers_and_sleeps_again(sleepy: World) -> None:
    sleepy.wake("a")
    sleepy.run(SECOND)
    assert states(sleepy) == {"a": InstanceState.READY}
    sleepy.put_to_sleep("a")
    sleepy.run(SECOND)
    assert states(sleepy) == {"a": InstanceState.ASLEEP}
    assert [event.what for event in sleepy.events][-3:] == ["instance-woken", "instance-ready", "instance-asleep"]
    assert len(sleepy.starts) == 1


def test_what_went_wrong_with_its_snapshot_is_told_once(sleepy: World) -> None:
    sleepy.silent.add("a")
    sleepy.wake("a")
    sleepy.run(Duration.of_ms(1))
    sleepy.trouble("a", "its snapshot is cut off")
    sleepy.run(SECOND)
    told = [event for event in sleepy.events if event.what == "instance-snapshot-lost"]
    assert [event.message for event in told] == ["its snapshot is cut off"]
    assert told[0].severity is Severity.WARNING
    sleepy.put_to_sleep("a", "its snapshot cannot be written")
    sleepy.put_to_sleep("a", "its snapshot cannot be written")
    sleepy.run(SECOND)
    assert states(sleepy) == {"a": InstanceState.ASLEEP}
    told = [event for event in sleepy.events if event.what == "instance-snapshot-lost"]
    assert [event.message for event in told[1:]] == ["its snapshot cannot be written"]


def test_one_that_is_woken_and_never_answers_is_stopped_at_its_deadline(sleepy: World) -> None:
    sleepy.silent.add("a")
    sleepy.wake("a")
    sleepy.run(Duration.of_seconds(9))
    assert states(sleepy) == {"a": InstanceState.STARTING}
    sleepy.run(Duration.of_seconds(3))
    assert any("did not answer within" in event.message for event in sleepy.events)
    assert states(sleepy) == {"a": InstanceState.ASLEEP}
    assert len(sleepy.starts) == 2


def test_one_that_dies_awake_sleeps_again_and_its_failures_count(sleepy: World) -> None:
    sleepy.wake("a")
    sleepy.run(SECOND)
    sleepy.crash("a")
    sleepy.run(SECOND)
    assert states(sleepy) == {"a": InstanceState.ASLEEP}
    assert sleepy.core.instances["a"].failures == 1
