"""When instances are started and stopped, and in which order the network changes."""

from dataclasses import replace

import pytest
from tests.property.world import observed_instance

from wisp.model.action import (
    CreateLink,
    CreateNamespace,
    CreateTap,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    SetRoutes,
    ShapeLink,
    StartInstance,
    StopInstance,
)
from wisp.model.description import HealthCheck, Kind, LinkShape
from wisp.model.instance import InstanceSpec, InstanceState, ObservedInstance
from wisp.model.network import LinkEnd, Namespace, Network, NextHop, Tap, VirtualLink
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.primitives.time import Duration, Instant
from wisp.reconcile import reconcile, wake_at
from wisp.reconcile.instance import backoff

NOW = Instant(10**18)
NO_TIME = Duration(0)
SPEC = InstanceSpec(
    name="web",
    kind=Kind.SPT,
    host="h",
    namespace="host/h",
    cpu_millicores=100,
    memory_bytes=1 << 20,
    health=HealthCheck(),
    boot_deadline=Duration.of_seconds(10),
)
LINK = VirtualLink(
    name="cable", a=LinkEnd(namespace="host/h", interface="l"), b=LinkEnd(namespace="host/g", interface="l")
)
NETWORK = Network(
    namespaces=frozenset({Namespace(name="host/h"), Namespace(name="host/g")}),
    links=frozenset({LINK}),
    taps=frozenset({Tap(name="web", namespace="host/h", interface="t", gateway="g", address="a")}),
    routes={"host/h": {"d": (NextHop("l"),)}},
)
PLAN = Plan(network=NETWORK, instances=(SPEC,))


def seen(state: InstanceState, *, failures: int = 0, ago: Duration = NO_TIME) -> ObservedInstance:
    return observed_instance(SPEC, state, now=Instant(NOW.ns - ago.ns), failures=failures)


def world(*instances: ObservedInstance, network: Network = NETWORK) -> ObservedState:
    return ObservedState(network=network, instances={each.name: each for each in instances})


def actions(*instances: ObservedInstance, network: Network = NETWORK, plan: Plan = PLAN):
    return reconcile(plan, world(*instances, network=network), now=NOW)


def kinds(done) -> list[type]:
    return [type(action) for action in done]


def test_from_nothing_everything_is_made_in_order():
    made = kinds(actions(network=Network()))
    assert made == [CreateNamespace, CreateNamespace, CreateTap, CreateLink, SetRoutes, StartInstance]


def test_to_nothing_everything_is_taken_away_in_order():
    taken = kinds(actions(seen(InstanceState.READY), plan=Plan()))
    assert taken == [StopInstance, RemoveTap, RemoveLink, RemoveNamespace, RemoveNamespace]


def test_what_is_ready_or_starting_is_left_alone():
    assert actions(seen(InstanceState.READY)) == ()
    assert actions(seen(InstanceState.STARTING)) == ()


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (1, 0), (2, 0.1), (3, 0.2), (10, 25.6), (11, 30), (10**6, 30)]
)
def test_backoff_doubles_up_to_a_cap(failures, seconds):
    assert backoff(failures) == Duration.of_seconds(seconds)


def test_what_ended_once_is_started_at_once():
    assert kinds(actions(seen(InstanceState.EXITED, failures=1))) == [StartInstance]


def test_what_keeps_ending_waits_its_turn():
    waiting = seen(InstanceState.EXITED, failures=3)
    assert actions(waiting) == ()
    due = wake_at(PLAN, world(waiting), now=NOW)
    assert due == NOW + Duration.of_ms(200)
    assert kinds(reconcile(PLAN, world(waiting), now=due)) == [StartInstance]
    assert wake_at(PLAN, world(waiting), now=due) is None


def test_what_does_not_answer_in_time_is_stopped():
    starting = seen(InstanceState.STARTING, ago=Duration.of_seconds(9))
    assert actions(starting) == ()
    due = wake_at(PLAN, world(starting), now=NOW)
    assert due == NOW + Duration.of_seconds(1)
    (stop,) = reconcile(PLAN, world(starting), now=due)
    assert isinstance(stop, StopInstance)
    assert stop.handle == starting.handle
    assert stop.reason == "it did not answer within 10 s of its start"


def test_what_is_unhealthy_is_stopped():
    (stop,) = actions(replace(seen(InstanceState.UNHEALTHY), reason="GET /health: timed out"))
    assert stop.reason == "GET /health: timed out"


def test_what_changed_is_stopped_and_then_started_without_backoff():
    changed = replace(seen(InstanceState.READY), spec_digest="other")
    assert kinds(actions(changed)) == [StopInstance]
    ended = replace(seen(InstanceState.EXITED, failures=9), spec_digest="other")
    assert kinds(actions(ended)) == [StartInstance]


def test_what_is_not_wanted_is_stopped_even_when_it_has_ended():
    assert kinds(actions(seen(InstanceState.READY), plan=Plan(network=NETWORK))) == [StopInstance]
    assert kinds(actions(seen(InstanceState.EXITED, failures=9), plan=Plan(network=NETWORK))) == [StopInstance]


def test_an_instance_whose_tap_has_gone_is_stopped_first():
    done = actions(seen(InstanceState.READY), network=replace(NETWORK, taps=frozenset()))
    assert kinds(done) == [StopInstance, CreateTap]
    assert done[0].reason == "its tap is gone or changed"


def test_a_workload_waits_for_those_it_talks_to():
    after = replace(SPEC, name="sensor", kind=Kind.PROCESS, after=("web",), is_workload=True)
    plan = Plan(network=NETWORK, instances=(SPEC, after))
    assert [action.spec.name for action in actions(plan=plan)] == ["web"]
    assert actions(seen(InstanceState.STARTING), plan=plan) == ()
    assert [action.spec.name for action in actions(seen(InstanceState.READY), plan=plan)] == ["sensor"]
    failed = seen(InstanceState.STARTING, failures=1)
    assert [action.spec.name for action in actions(failed, plan=plan)] == ["sensor"]


def test_a_link_with_another_shape_is_shaped_and_not_made_again():
    other = replace(LINK, a_to_b=LinkShape(delay_us=5))
    done = actions(seen(InstanceState.READY), network=replace(NETWORK, links=frozenset({other})))
    assert done == (ShapeLink(link=LINK),)


def test_a_link_with_another_end_is_made_again_with_its_routes():
    other = replace(LINK, b=LinkEnd(namespace="host/g", interface="other"))
    done = actions(seen(InstanceState.READY), network=replace(NETWORK, links=frozenset({other})))
    assert kinds(done) == [RemoveLink, CreateLink, SetRoutes]


def test_a_route_is_replaced_in_one_step_and_a_stray_one_removed():
    other = {"d": (NextHop("t"),), "e": (NextHop("l"),)}
    done = actions(seen(InstanceState.READY), network=replace(NETWORK, routes={"host/h": other}))
    assert done == (
        SetRoutes(namespace="host/h", routes={"d": (NextHop("l"),)}),
        SetRoutes(namespace="host/h", routes={"e": ()}, turn=1),
    )


def test_a_namespace_that_changed_is_made_again_with_all_that_is_in_it():
    other = replace(NETWORK, namespaces=frozenset({Namespace(name="host/h", address="x"), Namespace(name="host/g")}))
    done = kinds(actions(seen(InstanceState.READY), network=other))
    assert done == [
        StopInstance, RemoveTap, RemoveLink, RemoveNamespace, CreateNamespace, CreateTap, CreateLink, SetRoutes,
    ]  # fmt: skip
