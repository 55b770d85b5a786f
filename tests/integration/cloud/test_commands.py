"""The ``wisp`` program on real clouds: what it prints, its exit statuses, and what a mistake leaves alone."""

import re
import signal
import subprocess
import urllib.request

import pytest
from tests.integration.cloud.place import HELLO, Place, wait_until

WRONG = """
cloud: hello
sites: {home: {}}
hosts: {laptop: {sit: home, cpu: 2, memory: 2GiBB}}
network_services: {hello: {vnfs: {web: {vnfd: wbe}}}}
"""


def test_every_command_prints_json(place):
    place.ok("up", HELLO)
    assert place.ok("validate", HELLO) == {"cloud": "hello", "problems": []}
    assert place.ok("plan", HELLO)["decisions"]
    assert place.ok("schema")["properties"]
    (row,) = place.ok("ps")
    assert (row["name"], row["state"]) == ("web", "ready")
    (used,) = place.ok("top", "--count", "1", "--interval", "0.2")
    assert used["memory_bytes"] > 1 << 20
    (status,) = place.ok("status")
    assert (status["state"], status["ready"], status["wanted"]) == ("up", 1, 1)
    assert place.ok("logs", "controller")["lines"]
    assert {"planned", "instance-started", "instance-ready"} <= {event["what"] for event in place.events("hello")}
    assert {finding["subject"] for finding in place.ok("doctor")} >= {"link shaping"}
    assert place.ok("down", "hello") == {"down": ["hello"]}
    assert place.ok("status") == []
    assert place.ok("down", "hello") == {"down": ["hello"]}


def test_images_are_built_listed_and_inspected(place):
    built = place.ok("image", "build", "web", "--content", HELLO.parent / "web", "-o", "port=8080")
    assert place.ok("image", "ls") == [built]
    inspected = place.ok("image", "inspect", built["digest"])
    assert inspected["options"] == {"port": "8080"}
    assert inspected["path"].endswith(".elf")


def test_words_for_people(place):
    done = place.wisp("up", HELLO)
    assert done.status == 0
    assert re.search(r"web +unikernel/microvm +laptop +[\d.]+ +ready", done.out)
    assert "hello: up: all 1 instances answer" in place.wisp("status").out
    assert "instance-ready" in place.wisp("events").out
    assert place.wisp("down").out == "hello: down, nothing left\n"
    assert "no cloud here" in place.wisp("status").out


def test_exec_gives_the_status_of_the_command(place):
    place.ok("up", HELLO)
    assert place.wisp("exec", "laptop", "--", "sh", "-c", "exit 7").status == 7
    wrong = place.wisp("exec", "desktop", "--", "true")
    assert wrong.status == 1
    assert "laptop" in wrong.err


def test_forward_leads_a_port_of_the_machine_to_an_instance(place):
    place.ok("up", HELLO)
    with place.begin("forward", "0:web:80") as forward:
        assert forward.stdout
        where = forward.stdout.readline().decode().strip()
        page = urllib.request.urlopen(where, timeout=5).read()  # noqa: S310 - it is ours
        assert b"<html" in page
        taken = place.wisp("forward", f"{where.rpartition(':')[2].strip('/')}:web:80")
        assert taken.status == 1
        assert "in use" in taken.err
        forward.send_signal(signal.SIGINT)
        assert forward.wait(5) == 130
    wait_until(lambda: not relays(place), within_s=2, what="the relay ended")


def relays(place: Place) -> list[str]:
    children = place.children("hello").values()
    return [child.id for child in children if child.id.startswith("relay/") and child.state == "running"]


def test_a_wrong_file_tells_all_and_leaves_the_cloud(place):
    before = place.pids_of(place.ok("up", HELLO))
    wrong = place.directory / "cloud.yaml"
    wrong.write_text(WRONG)
    for command in ("up", "plan", "validate"):
        done = place.wisp(command, wrong)
        assert done.status == 2
        for problem in ("sit", "2GiBB", "wbe"):
            assert re.search(rf"cloud.yaml:\d.*{problem}", done.err), problem
    assert place.pids("hello") == before
    assert place.ok("status")[0]["revision"] == 1


@pytest.mark.parametrize("command", ["up", "plan", "validate"])
def test_what_has_no_placement_names_its_constraints_and_leaves_the_cloud(place, command):
    before = place.pids_of(place.ok("up", HELLO))
    large = place.directory / "cloud.yaml"
    text = HELLO.read_text().replace("content: web/", f"content: {HELLO.parent}/web/")
    large.write_text(text.replace("memory: 32MiB", "memory: 3GiB"))
    done = place.wisp(command, large)
    assert done.status == 4
    assert "memory" in done.err
    assert "laptop" in done.err
    assert place.pids("hello") == before


@pytest.mark.parametrize("words", [("ps",), ("logs", "web"), ("up",), ("up", "--colour"), ("dance",), ("bench", "x")])
def test_a_wrong_call_is_status_2(place, words):
    assert place.wisp(*words).status == 2


def test_a_file_that_is_not_there(place):
    done = place.wisp("up", place.directory / "nothing.yaml")
    assert done.status in (1, 2)
    assert "nothing.yaml" in done.err
    assert place.leftovers() == []


def test_an_interrupted_up_says_so_and_what_began_goes_on(place):
    with place.begin("up", HELLO) as up:
        wait_until(lambda: place.folder("hello").database.exists(), within_s=5, what="the cloud begins")
        up.send_signal(signal.SIGINT)
        assert up.wait(5) == 130
    place.ok("up", HELLO)


def test_the_reader_of_a_list_may_leave_early(place):
    place.ok("up", HELLO)
    command = [*place.before, "sh", "-c", '"$0" events | head -n 1', *place.program]
    done = subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=20)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
