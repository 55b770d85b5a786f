"""What the planner decides, and how it says why."""

from dataclasses import replace
from pathlib import Path, PurePath
from random import Random

import pytest

from wisp.codec.description import parse
from wisp.model.description import DesiredState, Kind
from wisp.model.instance import Door
from wisp.model.network import NextHop
from wisp.model.observation import ObservedState
from wisp.model.plan import Assignments, Conflict, Infeasible, Plan
from wisp.planning import plan
from wisp.planning.addressing import assign
from wisp.planning.interface import interface
from wisp.planning.triggers import replan_reason
from wisp.primitives.errors import StateError
from wisp.primitives.time import Instant

EXAMPLES = Path(__file__).parents[3] / "examples"
GROUND = """\
cloud: test
sites: {north: {}, south: {}}
hosts:
  big: {site: north, cpu: 4, memory: 1GiB}
  small: {site: south, cpu: 1, memory: 64MiB}
  plain: {site: south, cpu: 4, memory: 1GiB, kinds: [process]}
links:
  slow: {between: [big, small], delay: 10ms}
  quick: {between: [small, plain], delay: 1ms, backward: {delay: 3ms}}
access_points:
  radio: {host: plain, up: {delay: 5ms}, down: {delay: 2ms}}
devices:
  sensor: {access_point: radio, workload: {command: [post, "${address.a}"], environment: {AT: "${host.a}"}}}
images: {web: {role: web}}
vnfds:
  web: {vdus: {main: {kind: unikernel/spt, image: web, memory: 48MiB}}}
  tool: {vdus: {main: {kind: process, command: [run, "${address.sensor}"], config: {KEY: "${secret.key}"}}}}
secrets: {key: {environment: KEY}}
network_services:
  ns:
    vnfs:
"""


def declared(*vnfs: str) -> DesiredState:
    text = GROUND + "".join(f"      {vnf}\n" for vnf in vnfs)
    state = parse(text, file="test.yaml", base=PurePath("/"))
    assert isinstance(state, DesiredState), state
    return state


def made(*vnfs: str, **observed) -> Plan:
    result = plan(declared(*vnfs), ObservedState(**observed), rng=Random(0))
    assert isinstance(result, Plan), result
    return result


def conflicts(*vnfs: str, **observed) -> dict[str, Conflict]:
    result = plan(declared(*vnfs), ObservedState(**observed), rng=Random(0))
    assert isinstance(result, Infeasible), result
    return {conflict.instance: conflict for conflict in result.conflicts}


def test_the_first_host_with_room_is_taken_and_the_refused_are_named():
    decision = made("a: {vnfd: web, placement: {sites: [south]}}").decisions[0]
    assert decision.host == "small"
    assert decision.reason == "the only host that its constraints allow; 64MiB and 1 cores free before"
    assert [(each.host, each.reason) for each in decision.refused] == [
        ("big", "stands at north"),
        ("plain", "does not run unikernel/spt"),
    ]


def test_the_most_constrained_choose_first():
    hosts = made("a: {vnfd: web, placement: {hosts: [small, big]}}", "b: {vnfd: web, placement: {hosts: [small]}}")
    assert hosts.assignments.hosts == {"a": "big", "b": "small"}


def test_affinity_joins_and_anti_affinity_parts():
    joined = made("a: {vnfd: web}", "b: {vnfd: web, placement: {affinity: [a], sites: [north]}}")
    assert set(joined.assignments.hosts.values()) == {"big"}
    parted = made("a: {vnfd: web}", "b: {vnfd: web, placement: {anti_affinity: [a]}}")
    assert parted.assignments.hosts == {"a": "big", "b": "small"}
    assert parted.decisions[1].refused[-1].reason == "runs a"


def test_latency_counts_the_path_and_the_access_in_the_slower_direction():
    tight = "a: {vnfd: tool, placement: {latency: {sensor: %s}}}"
    assert made(tight % "7ms").assignments.hosts["a"] == "plain"
    assert made(tight % "8ms").assignments.hosts["a"] == "small"
    assert made(tight % "18ms").assignments.hosts["a"] == "big"


@pytest.mark.parametrize(
    ("vnf", "named", "refused"),
    [
        ("{vnfd: web, placement: {hosts: [plain]}}", ("hosts: [plain]", "kind: unikernel/spt"), "does not run"),
        (
            "{vnfd: web, placement: {sites: [north], latency: {sensor: 4ms}}}",
            ("latency: {sensor: 4ms}",),
            "is 18ms from",
        ),
        (
            "{vnfd: web, placement: {sites: [north], latency: {south: 1ms}}}",
            ("sites: [north]", "latency: {south: 1ms}"),
            "is 10ms from south",
        ),
        ("{vnfd: web, placement: {sites: [south], hosts: [big]}}", ("sites: [south]", "hosts: [big]"), "stands at"),
    ],
)
def test_a_conflict_names_the_constraints_as_written(vnf, named, refused):
    conflict = conflicts(f"a: {vnf}")["a"]
    assert conflict.constraints == named
    assert len(conflict.refused) == 3
    assert any(refused in each.reason for each in conflict.refused)


def test_lack_of_room_is_a_conflict_of_those_left_over():
    crowd = [f"{name}: {{vnfd: web, placement: {{hosts: [small]}}}}" for name in "abc"]
    found = conflicts(*crowd)
    assert set(found) == {"b", "c"}
    assert found["b"].constraints == ("hosts: [small]", "memory: 48MiB, and 256KiB to run it")
    assert found["b"].refused[-1].reason == "has 16128KiB of 64MiB memory left"


def test_what_runs_an_instance_takes_room_too():
    """Of 64 MiB a sealed process may have 60, a virtual machine not: its hypervisor needs more than four."""
    desired = declared("a: {vnfd: web, placement: {hosts: [small]}}")
    placed = {}
    for kind in (Kind.SPT, Kind.MICROVM):
        vdu = replace(desired.instances[0].vdu, kind=kind, memory_bytes=60 << 20)
        wanted = replace(desired, instances=(replace(desired.instances[0], vdu=vdu),))
        placed[kind] = isinstance(plan(wanted, ObservedState(), rng=Random(0)), Plan)
    assert placed == {Kind.SPT: True, Kind.MICROVM: False}


@pytest.mark.parametrize(
    ("when_idle", "left_mib"), [("deleted", 1024), ("snapshotted", 1024), ("stopped", 1024 - 2 * (16 + 13))]
)
def test_what_is_stopped_while_it_sleeps_keeps_its_room(when_idle, left_mib):
    sleeper = f"{{vnfd: machine, min_instances: 0, when_idle: {when_idle}}}"
    text = GROUND.replace(
        "  tool:", "  machine: {vdus: {main: {kind: unikernel/microvm, image: web, memory: 16MiB}}}\n  tool:"
    )
    state = parse(f"{text}      a: {sleeper}\n      b: {sleeper}\n", file="test.yaml", base=PurePath("/"))
    assert isinstance(state, DesiredState), state
    result = plan(state, ObservedState(), rng=Random(0))
    assert isinstance(result, Plan)
    assert result.memory_left_bytes["big"] == left_mib << 20


def test_hosts_that_are_down_are_part_of_a_conflict():
    found = conflicts("a: {vnfd: web, placement: {hosts: [small]}}", hosts_down=frozenset({"small"}))
    assert found["a"].constraints == ("hosts that are down: [small]", "hosts: [small]")


def test_what_fits_stays_where_it_was():
    kept = made("a: {vnfd: web}", assignments=Assignments(hosts={"a": "small"}))
    assert kept.assignments.hosts == {"a": "small"}
    assert kept.decisions[0].reason.startswith("stays where it was")
    moved = made("a: {vnfd: web}", assignments=Assignments(hosts={"a": "small"}), hosts_down=frozenset({"small"}))
    assert moved.assignments.hosts == {"a": "big"}


def test_room_is_found_by_moving_what_came_first():
    """The second group fits nowhere in the first round; put in front, all fit."""
    result = made(
        "a: {vnfd: tool, placement: {hosts: [small, big]}}",
        "b: {vnfd: web, placement: {hosts: [small, big]}}",
        "c: {vnfd: web, placement: {hosts: [big, small], anti_affinity: [a, b]}}",
    )
    assert result.assignments.hosts["c"] not in (result.assignments.hosts["a"], result.assignments.hosts["b"])


def test_placeholders_are_filled_but_secrets_and_python_stay():
    specs = {spec.name: spec for spec in made("a: {vnfd: tool}").instances}
    assert specs["a"].command == ("run", "100.64.0.1")
    assert specs["a"].config == (("KEY", "${secret.key}"),)
    assert specs["sensor"].command == ("post", specs["a"].address)
    assert specs["sensor"].config == (("AT", "big"),)


def test_workloads_come_after_those_they_talk_to():
    specs = {spec.name: spec for spec in made("a: {vnfd: tool}", "b: {vnfd: tool}").instances}
    assert specs["sensor"].after == ("a",)
    assert specs["sensor"].is_workload
    assert specs["sensor"].namespace == "device/sensor"
    assert specs["a"].after == ()


def test_a_guest_knows_its_subnet_and_a_process_its_gateway():
    specs = {spec.name: spec for spec in made("a: {vnfd: web}", "b: {vnfd: tool}").instances}
    guest, process = specs["a"], specs["b"]
    assert (guest.address, guest.prefix_length, guest.gateway) == ("10.0.16.2", 20, "10.0.16.1")
    assert guest.mac == "02:00:0a:00:10:02"
    assert (process.address, process.prefix_length, process.mac) == ("10.0.16.3", 32, None)
    assert process.namespace == "process/b"


def test_devices_are_reached_over_the_quickest_way():
    routes = made("a: {vnfd: web}").network.routes
    assert routes["host/big"]["100.64.0.1/32"] == (NextHop("l-slow", "172.16.0.1"),)
    assert routes["device/sensor"] == {"default": (NextHop("eth0", "10.0.48.1"),)}


def test_paused_workloads_are_not_started_and_external_devices_have_their_place():
    text = GROUND.replace("AT: ", "A: ").replace("workload: {", "workload: {paused: true, ")
    text = text.replace("images:", "  real: {access_point: radio, external: {listen: '0.0.0.0:1', to: 'a:1'}}\nimages:")
    state = parse(text + "      a: {vnfd: web}\n", file="t", base=PurePath("/"))
    assert isinstance(state, DesiredState), state
    result = plan(state, ObservedState(), rng=Random(0))
    assert isinstance(result, Plan)
    assert [spec.name for spec in result.instances] == ["a", "real"]
    door = result.instances[1]
    assert (door.namespace, door.after) == ("device/real", ("a",))
    assert door.door == Door(listen="0.0.0.0:1", protocol="udp", to=("a", 1))
    assert door.command[-3:] == ("--to", "10.0.16.2:1", "--udp")
    assert "device/real" in {each.name for each in result.network.namespaces}


def test_a_published_port_is_a_relay_on_the_host_of_its_instance():
    result = made('a: {vnfd: web, publish: ["8080:80", "[::1]:53:5353/udp"]}')
    relays = {spec.name: spec for spec in result.instances if spec.door}
    assert set(relays) == {"a:127.0.0.1:8080", "a:[::1]:53:udp"}
    relay = relays["a:127.0.0.1:8080"]
    assert (relay.namespace, relay.after, relay.cpu_millicores) == ("host/big", ("a",), 0)
    assert relay.command[-2:] == ("--to", f"{result.assignments.addresses['a']}:80")
    assert relay.door is not None
    assert relay.door.socket == "door/tcp/127.0.0.1:8080"


def test_addresses_given_out_stay_and_the_lowest_free_one_is_next():
    before = given_out(hosts=["x"], devices=["d"], virtual=["v"], placement={"a": "x", "b": "x"})
    after = given_out(
        hosts=["w", "x"],
        devices=["e", "d"],
        virtual=["u", "v"],
        placement={"c": "x", "b": "x", "d2": "w"},
        previous=before,
        in_use={"10.0.32.2"},
    )
    assert after.subnets == {"x": 1, "w": 2}
    assert after.addresses == {
        "b": "10.0.16.3", "c": "10.0.16.2", "d2": "10.0.32.3", "d": "100.64.0.1", "e": "100.64.0.2",
        "v": "192.168.0.1", "u": "192.168.0.2",
    }  # fmt: skip


def given_out(*, hosts, devices=(), virtual=(), placement=None, previous=None, in_use=()):
    return assign(
        hosts=hosts,
        routers=[],
        links=[],
        devices=devices,
        virtual=virtual,
        placement=placement or {},
        versions={},
        previous=previous or Assignments(),
        in_use=in_use,
    )


def test_too_many_hosts_are_refused():
    with pytest.raises(StateError, match="5000 hosts, at most 4095"):
        given_out(hosts=map(str, range(5000)))


def test_more_hosts_than_addresses_are_infeasible():
    host = declared("a: {vnfd: web}").hosts[0]
    hosts = tuple(replace(host, name=f"h{number}") for number in range(5000))
    result = plan(DesiredState(name="test", hosts=hosts), ObservedState(), rng=Random(0))
    assert isinstance(result, Infeasible)
    assert result.conflicts[0].constraints == ("5000 hosts, at most 4095 have addresses; use fewer",)


def test_names_of_interfaces_stay_readable_while_short():
    assert interface("tap", "aggregator-1") == "t-aggregator-1"
    assert interface("tap", "aggregator-edge-1") != interface("tap", "aggregator-edge-2")


def test_a_lost_host_is_a_reason_to_plan_again():
    result = made("a: {vnfd: web}")
    now = Instant(0)
    assert replan_reason(result, ObservedState(), now=now) is None
    assert replan_reason(result, ObservedState(hosts_down=frozenset({"plain"})), now=now) is None
    reason = replan_reason(result, ObservedState(hosts_down=frozenset({"big"})), now=now)
    assert reason is not None
    assert reason.message == "big is down and ran a"


def test_the_fog_scenario_is_planned():
    folder = EXAMPLES / "fog"
    state = parse((folder / "cloud.yaml").read_text("utf-8"), file="cloud.yaml", base=folder)
    assert isinstance(state, DesiredState)
    result = plan(state, ObservedState(), rng=Random(0))
    assert isinstance(result, Plan)
    hosts = result.assignments.hosts
    guests = [spec.name for spec in result.instances if spec.kind == "unikernel/microvm"]
    assert len(guests) == 19
    for number in range(1, 10):
        assert hosts[f"aggregator-edge-{number}"] == hosts[f"web-edge-{number}"] == f"mini-pc-{number}"
    assert hosts["web-core"] == hosts["collector"] == "server"
    sensors = [spec for spec in result.instances if spec.is_workload]
    assert [spec.after for spec in sensors] == [(f"aggregator-edge-{number}",) for number in range(1, 10)]
    assert not any("${" in value and "${python}" not in value for spec in sensors for value in spec.command)
