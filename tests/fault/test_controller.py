"""The controller is killed at moments of ``up`` and ``down``: nothing is lost, nothing is left."""

import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.integration.cloud.place import FOG, THREE_HOSTS, Place, namespaces, users_of, wait_until

from wisp.primitives.errors import WispError

FEW, MANY = 5, 50
# `up` of three hosts takes 0.4 s, `down` 0.2 s; the moments cover both from end to end.
LATEST_S = {"up": 0.6, "down": 0.3}


def moments(command: str) -> list[object]:
    """Give seeded moments after the command's begin [s]; the later ones only where there is time."""
    chance = random.Random(f"{command} 1")
    times = [round(chance.uniform(0.05, LATEST_S[command]), 3) for _ in range(MANY // 2)]
    few = (FEW + 1) // 2 if command == "up" else FEW // 2
    return [*times[:few], *(pytest.param(moment, marks=pytest.mark.slow) for moment in times[few:])]


@pytest.mark.parametrize("moment_s", moments("up"))
def test_killed_during_up(place, moment_s):
    with place.begin("up", THREE_HOSTS) as up:
        started = before_kill(place, "three-hosts", moment_s)
        killed = kill_controller(place, "three-hosts")
        _, errors = up.communicate(timeout=30)
    assert up.returncode == 0, errors.decode() + place.controller_logs()
    rows = place.ok("ps")
    assert {row["state"] for row in rows} == {"ready"}
    running = place.pids_of(rows)
    assert started.items() <= running.items(), "what ran before the kill runs on"
    children = place.children("three-hosts")
    assert children["controller"].pid != killed
    assert {child.pid for child in children.values() if child.id.startswith("instance/")} == set(running.values())
    assert {child.state for child in children.values()} == {"running"}


@pytest.mark.parametrize("moment_s", moments("down"))
def test_killed_during_down(place, moment_s):
    place.ok("up", THREE_HOSTS)
    inodes = namespaces(place.keeper_pid("three-hosts"))
    with place.begin("down", "three-hosts") as down:
        time.sleep(moment_s)
        kill_controller(place, "three-hosts")
        _, errors = down.communicate(timeout=30)
    assert down.returncode == 0, errors.decode()
    assert users_of(inodes) == []
    assert place.leftovers() == []


def test_back_within_a_second_and_nothing_else_changed(place):
    before = place.ok("up", FOG)
    controller = place.ok("status")[0]["controller_pid"]
    place.kill(controller)
    back = wait_until(lambda: other_controller(place, "fog", controller), within_s=1, what="a new controller")
    assert back != controller
    assert place.ok("up", FOG)
    after = place.ok("ps")
    same = ("name", "pid", "start_ms", "address", "state")
    assert [[row[key] for key in same] for row in after] == [[row[key] for key in same] for row in before]


def test_what_dies_while_no_controller_runs_is_noticed_by_the_next(place):
    before = place.pids_of(place.ok("up", THREE_HOSTS))
    controller = place.ok("status")[0]["controller_pid"]
    place.kill(controller)
    place.kill(before["web-vm"])
    wait_until(lambda: restarted(place, before), within_s=5, what="the dead instance runs again")
    after = place.pids("three-hosts")
    assert after["web-spt"] == before["web-spt"]
    reasons = [event["message"] for event in place.events("three-hosts") if event["what"] == "instance-exited"]
    assert reasons == ["killed by SIGKILL"]


@pytest.mark.parametrize("moment_s", [0.1, 0.15, 0.2, 0.25, 0.3])
def test_the_command_is_killed_during_up(place, moment_s):
    with place.begin("up", THREE_HOSTS) as up:
        time.sleep(moment_s)
        up.kill()
    assert up.returncode == -signal.SIGKILL, "not killed during its work"
    rows = place.ok("up", THREE_HOSTS)
    assert {row["state"] for row in rows} == {"ready"}


@pytest.mark.parametrize("moment_s", [0.12, 0.18])
def test_the_command_is_killed_during_down(place, moment_s):
    place.ok("up", THREE_HOSTS)
    with place.begin("down") as down:
        time.sleep(moment_s)
        down.kill()
    rows = place.ok("up", THREE_HOSTS)
    assert {row["state"] for row in rows} == {"ready"}
    assert place.ok("status")[0]["controller_pid"]


def before_kill(place: Place, cloud: str, moment_s: float) -> dict[str, int]:
    """Wait until ``moment_s`` after the call; give the instances that run then."""
    begun = time.monotonic()
    wait_until(lambda: place.folder(cloud).controller_socket.exists(), within_s=10, what="a controller begins")
    time.sleep(max(0.0, begun + moment_s - time.monotonic()))
    children = place.children(cloud).values()
    return {
        child.id.partition("/")[2].partition("/")[2].partition("@")[0]: child.pid
        for child in children
        if child.id.startswith("instance/") and child.state == "running"
    }


def kill_controller(place: Place, cloud: str) -> int | None:
    """Kill the cloud's controller if there is one; give its process id."""
    pid = controller_of(place, cloud)
    if pid:
        with_no_complaint(lambda: place.kill(pid))
    return pid


def other_controller(place: Place, cloud: str, than: int) -> int | None:
    pid = controller_of(place, cloud)
    return None if pid == than else pid


def controller_of(place: Place, cloud: str) -> int | None:
    try:
        controller = place.children(cloud).get("controller")
    except (WispError, OSError):  # its keeper is gone
        return None
    return controller.pid if controller and controller.state == "running" else None


def with_no_complaint(call: Callable[[], None]) -> None:
    try:
        call()
    except ProcessLookupError:
        return


def restarted(place: Place, before: dict[str, int]) -> bool:
    rows = {row["name"]: row for row in place.ok("ps")}
    return rows["web-vm"]["state"] == "ready" and rows["web-vm"]["pid"] != before["web-vm"]
