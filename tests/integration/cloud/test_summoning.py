"""Instances that sleep until somebody wants them: what starts them, what ends them, what is never lost."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.integration.cloud.place import Place, wait_until

DESCRIPTION = """\
cloud: sleepy
sites: {edge: {}}
hosts:
  h1: {site: edge, cpu: 8, memory: 40MiB}
access_points: {ap: {host: h1}}
devices:
  laptop: {access_point: ap}
images: {page: {role: web}}
vnfds:
  web: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB}}}
  large: {vdus: {main: {kind: unikernel/spt, image: page, memory: 30MiB}}}
network_services:
  s:
    vnfs:
      web: {vnfd: web, min_instances: 0, idle_timeout: 1s}
      large: {vnfd: large, min_instances: 0, idle_timeout: 1s}
      other: {vnfd: large, min_instances: 0, idle_timeout: 1s}
"""
GET = """
import json, socket, sys, time
for address in sys.argv[1:]:
    begin = time.perf_counter()
    with socket.create_connection((address, 80), timeout=10) as s:
        s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        answer = s.recv(4096)
    print(json.dumps([(time.perf_counter() - begin) * 1000, answer[:15].decode()]))
"""


class Cloud:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.file = place.directory / "cloud.yaml"
        self.file.write_text(DESCRIPTION)
        self.addresses = {row["name"]: row["address"] for row in place.ok("up", self.file)}

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.place.ok("ps", "-c", "sleepy")}

    def get(self, *names: str) -> list[tuple[float, str]]:
        words = [self.addresses[name] for name in names]
        done = self.place.wisp("exec", "-c", "sleepy", "laptop", "--", "python3", "-c", GET, *words)
        assert done.status == 0, done.err
        return [tuple(json.loads(line)) for line in done.out.splitlines()]

    def sleep(self) -> None:
        wait_until(lambda: set(self.states().values()) == {"asleep"}, within_s=10, what="all sleep")

    def events(self) -> list[str]:
        return [event["what"] for event in self.place.ok("events", "-c", "sleepy")]


@pytest.fixture
def cloud(place: Place) -> Cloud:
    return Cloud(place)


def processes_of(place: Place) -> list[str]:
    folder = str(place.directory)
    commands = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if folder in command and ".elf" in command:
            commands.append(command)
    return commands


def test_nothing_runs_until_the_first_packet_and_nothing_is_lost(cloud):
    assert set(cloud.states().values()) == {"asleep"}
    assert processes_of(cloud.place) == []
    for _ in range(5):
        ((first_ms, answer),) = cloud.get("web")
        assert answer == "HTTP/1.1 200 OK"
        # A repeated SYN would take a second.
        assert first_ms < 500
        cloud.sleep()
    assert "instance-woken" in cloud.events()


def test_it_stays_awake_while_it_is_wanted_and_keeps_its_health_checks_apart(cloud):
    cloud.get("web")
    begin = time.monotonic()
    while time.monotonic() < begin + 2:
        cloud.get("web")
    assert cloud.events().count("instance-woken") == 1
    cloud.sleep()


def test_a_full_host_says_so_and_serves_as_soon_as_there_is_room(cloud):
    ((_, answer),) = cloud.get("large")
    assert answer == "HTTP/1.1 200 OK"
    # It waits in the tap until the other one has gone to sleep.
    ((waited_ms, answer),) = cloud.get("other")
    assert answer == "HTTP/1.1 200 OK"
    assert waited_ms > 300
    told = [event["message"] for event in cloud.place.ok("events", "-c", "sleepy") if event["subject"] == "other"]
    assert any("h1 has no memory left for it" in message for message in told)


def test_it_can_be_summoned_while_no_controller_runs(cloud):
    # Stopped, so that nobody starts another one meanwhile.
    controller = cloud.place.children("sleepy")["controller"].pid
    os.kill(controller, signal.SIGSTOP)
    ((first_ms, answer),) = cloud.get("web")
    assert answer == "HTTP/1.1 200 OK"
    os.kill(controller, signal.SIGCONT)
    assert first_ms < 500
    cloud.sleep()


def test_a_process_cannot_sleep(place):
    file = place.directory / "cloud.yaml"
    text = DESCRIPTION.replace(
        "kind: unikernel/spt, image: page, memory: 8MiB", 'kind: process, command: ["/bin/true"]'
    )
    file.write_text(text)
    done = place.wisp("validate", file)
    assert done.status == 2
    assert "min_instances" in done.err + done.out
