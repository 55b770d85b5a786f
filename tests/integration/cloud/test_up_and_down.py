"""Whole clouds, from the file to answers and to nothing."""

import json
import re
import time
from pathlib import Path

import pytest
from tests.integration.cloud.place import FOG, HELLO, THREE_HOSTS, Place, namespaces, users_of, wait_until

FAILING = """\
cloud: failing
sites: {here: {}}
hosts: {host: {site: here, cpu: 1, memory: 1GiB}}
vnfds:
  broken: {vdus: {main: {kind: process, command: [sh, -c, exit 7], cpu: 10m, memory: 16MiB}}}
network_services: {all: {vnfs: {broken: {vnfd: broken}}}}
"""


def fetched(place: Place, cloud: str, where: str, address: str) -> str:
    """Give what curl, an independent client, gets from an instance."""
    done = place.wisp("exec", "-c", cloud, where, "--", "curl", "-sS", "-m", "5", f"http://{address}/")
    assert done.status == 0, done.err
    return done.out


def all_ready(rows: list[dict[str, object]]) -> bool:
    return all(row["state"] == "ready" and row["pid"] for row in rows)


def test_hello_answers_and_goes_without_a_trace(place):
    rows = place.ok("up", HELLO)
    assert [row["name"] for row in rows] == ["web"]
    assert all_ready(rows)
    assert "<html" in fetched(place, "hello", "laptop", rows[0]["address"])
    keeper = place.keeper_pid("hello")
    children = place.children("hello")
    inodes = namespaces(keeper)
    assert len(inodes) >= 4
    assert users_of(inodes)
    assert place.ok("down", "hello") == {"down": ["hello"]}
    assert users_of(inodes) == []
    assert place.leftovers() == []
    assert children.keys() >= {"controller"}


def test_up_again_changes_nothing(place):
    before = place.ok("up", THREE_HOSTS)
    assert place.ok("plan", THREE_HOSTS)["changes"] == []
    after = place.ok("up", THREE_HOSTS)
    same = ("name", "pid", "address", "start_ms")
    assert [[row[key] for key in same] for row in after] == [[row[key] for key in same] for row in before]


def test_the_file_is_changed_and_only_what_differs_changes(place):
    file = place.directory / "cloud.yaml"
    file.write_text(THREE_HOSTS.read_text().replace("content: web/", f"content: {THREE_HOSTS.parent}/web/"))
    before = {row["name"]: row for row in place.ok("up", file)}
    file.write_text(file.read_text().replace("memory: 8MiB", "memory: 12MiB").replace("delay: 3ms", "delay: 4ms"))
    changes = json.dumps(place.ok("plan", file)["changes"])
    assert "web-spt" in changes
    assert "web-vm" not in changes
    after = {row["name"]: row for row in place.ok("up", file)}
    assert after["web-vm"]["pid"] == before["web-vm"]["pid"]
    assert after["web-spt"]["pid"] != before["web-spt"]["pid"]
    assert after["web-spt"]["address"] == before["web-spt"]["address"]
    assert "<html" in fetched(place, "three-hosts", "mini-pc-1", after["web-spt"]["address"])


def test_a_function_that_is_taken_out_of_the_file_goes(place):
    file = place.directory / "cloud.yaml"
    text = THREE_HOSTS.read_text().replace("content: web/", f"content: {THREE_HOSTS.parent}/web/")
    file.write_text(text)
    before = place.pids_of(place.ok("up", file))
    file.write_text(text[: text.index("      web-spt:\n")])
    assert place.pids_of(place.ok("up", file)) == {"web-vm": before["web-vm"]}
    assert not [child for child in place.children("three-hosts") if "web-spt" in child]


def test_two_clouds_with_the_same_addresses_do_not_meet(place):
    own = place.directory / "own"
    (own / "web").mkdir(parents=True)
    (own / "web" / "index.html").write_text("<html>another page</html>")
    (own / "cloud.yaml").write_text(HELLO.read_text().replace("cloud: hello", "cloud: other"))
    hello, other = place.ok("up", HELLO), place.ok("up", own / "cloud.yaml")
    assert hello[0]["address"] == other[0]["address"]
    pages = [fetched(place, cloud, "laptop", hello[0]["address"]) for cloud in ("hello", "other")]
    assert ["another page" in page for page in pages] == [False, True]
    assert {row["name"] for row in place.ok("status")} == {"hello", "other"}
    assert place.wisp("ps").status == 2
    place.ok("down", "other")
    assert place.pids("hello") == place.pids_of(hello)
    assert "<html" in fetched(place, "hello", "laptop", hello[0]["address"])


def test_a_guest_that_dies_is_seen_and_back_within_a_second(place):
    (row,) = place.ok("up", HELLO)
    killed_ns = time.time_ns()
    place.kill(row["pid"])
    wait_until(lambda: place.pids("hello")["web"] not in (None, row["pid"]), within_s=5, what="it is started again")
    wait_until(lambda: all_ready(place.ok("ps", "-c", "hello")), within_s=5, what="it answers again")
    after = {event["what"]: event for event in place.events("hello") if event["at"]["ns"] > killed_ns}
    assert after["instance-exited"]["message"] == "killed by SIGKILL"
    assert (after["instance-exited"]["at"]["ns"] - killed_ns) / 1e9 < 1
    assert (after["instance-ready"]["at"]["ns"] - killed_ns) / 1e9 < 1


def hello_with_content(place: Place) -> Path:
    folder = place.directory / "web"
    folder.mkdir()
    (folder / "index.html").write_text("first")
    file = place.directory / "cloud.yaml"
    file.write_text(HELLO.read_text())
    return file


def test_changed_content_is_a_change_and_waits_for_up(place):
    file = hello_with_content(place)
    (row,) = place.ok("up", file)
    assert fetched(place, "hello", "laptop", row["address"]) == "first"
    (place.directory / "web" / "index.html").write_text("second")
    assert place.ok("plan", file)["changes"] != []
    place.kill(row["pid"])
    wait_until(lambda: place.pids("hello")["web"] not in (None, row["pid"]), within_s=5, what="it is started again")
    wait_until(lambda: all_ready(place.ok("ps", "-c", "hello")), within_s=5, what="it answers again")
    assert fetched(place, "hello", "laptop", row["address"]) == "first"
    (after,) = place.ok("up", file)
    assert fetched(place, "hello", "laptop", after["address"]) == "second"
    assert place.ok("plan", file)["changes"] == []


def test_an_instance_that_always_fails_ends_the_wait(place):
    file = place.directory / "cloud.yaml"
    file.write_text(FAILING)
    begin = time.monotonic()
    done = place.wisp("up", file)
    assert done.status == 1
    assert time.monotonic() - begin < 20
    assert "1 of 1 instances fail again and again" in done.err
    assert "broken: exited with status 7" in done.err
    assert "wisp logs" in done.err
    file.write_text(
        FAILING.replace("[sh, -c, exit 7]", '["${python}", -m, http.server, "8080"]').replace(
            "memory: 16MiB", "memory: 16MiB, health: {port: 8080, path: /}"
        )
    )
    assert all_ready(place.ok("up", file))


@pytest.mark.parametrize(("right", "wrong"), [("memory: 32MiB", "memory: 3GiB"), ("content: web/", "content: none/")])
def test_a_first_up_that_fails_leaves_nothing(place, right, wrong):
    file = hello_with_content(place)
    file.write_text(HELLO.read_text().replace(right, wrong))
    done = place.wisp("up", file)
    assert done.status not in (0, 130), done.err
    assert place.leftovers() == []


def test_a_later_up_that_fails_leaves_all_as_it_was(place):
    file = hello_with_content(place)
    before = place.pids_of(place.ok("up", file))
    (place.directory / "web" / "index.html").unlink()
    (place.directory / "web").rmdir()
    done = place.wisp("up", file)
    assert done.status not in (0, 130)
    assert "no such folder of content" in done.err
    assert place.pids("hello") == before


@pytest.fixture
def fog(place):
    rows = place.ok("up", FOG)
    assert len([row for row in rows if row["kind"] == "unikernel/microvm"]) == 19
    assert all_ready(rows)
    return place


def test_fog_from_the_devices_to_the_core_and_back_to_nothing(fog):
    rows = {row["name"]: row for row in fog.ok("ps")}
    edge, core = rows["web-edge-1"]["address"], rows["web-core"]["address"]
    assert "<html" in fetched(fog, "fog", "heartbeat-1", edge)
    assert "<html" in fetched(fog, "fog", "heartbeat-1", core)
    mean = round_trip_ms(fog, "mini-pc-1", core)
    assert 16 <= mean < 26, "8 ms each way by the uplink"
    inodes = namespaces(fog.keeper_pid("fog"))
    assert len(inodes) > 20, "a namespace for each host and device"
    fog.ok("down", "fog")
    assert users_of(inodes) == []
    assert fog.leftovers() == []


def round_trip_ms(place: Place, where: str, address: str) -> float:
    done = place.wisp("exec", where, "--", "ping", "-U", "-q", "-i", "0.02", "-c", "20", address)
    found = re.search(r"= [\d.]+/([\d.]+)/", done.out)
    assert found, done.out + done.err
    return float(found[1])
