"""Several instances behind one virtual address: asked without a pause while they come, go, die and are replaced."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.integration.cloud.place import Place, wait_until

from wisp.bench import crowd

DESCRIPTION = """\
cloud: many
sites: {near: {}, far: {}}
hosts:
  h1: {site: near, cpu: 8, memory: 512MiB}
  h2: {site: far, cpu: 8, memory: 512MiB}
links: {l: {between: [h1, h2], delay: 5ms}}
access_points: {a1: {host: h1}, a2: {host: h2}}
devices: {here: {access_point: a1}, there: {access_point: a2}}
images: {page: {role: web, content: ./site}}
vnfds:
  web: {vdus: {main: {kind: KIND, image: page, memory: 16MiB, boot_deadline: 5s}}}
network_services:
  s:
    vnfs:
      web: {vnfd: web, drain: 5s, MORE}
"""
TWO = "min_instances: 2"


class Cloud:
    def __init__(self, place: Place) -> None:
        self.place = place
        (place.directory / "site").mkdir()
        self.file = place.directory / "cloud.yaml"

    def up(self, page: str, more: str = TWO, kind: str = "unikernel/spt") -> list[str]:
        """Bring it up with this page; give the instances that run then."""
        (self.place.directory / "site" / "index.html").write_text(page)
        self.file.write_text(DESCRIPTION.replace("KIND", kind).replace("MORE", more))
        return [row["name"] for row in self.place.ok("up", self.file) if row["name"].startswith("web-")]

    def rows(self) -> dict[str, dict]:
        return {row["name"]: row for row in self.place.ok("ps", "-c", "many")}

    def happened(self, what: str) -> list[str]:
        return [each["subject"] for each in self.place.ok("events", "-c", "many") if each["what"] == what]

    def begin_asking(self, seconds: float, where: str = "here", address: str = "192.168.0.1") -> subprocess.Popen:
        task = {"address": address, "beginners": 2, "keepers": 2, "busy_s": seconds, "calm_s": 0, "pause_s": 0}
        file = self.place.directory / f"crowd-{where}.json"
        file.write_text(json.dumps(task))
        return self.place.begin("exec", "-c", "many", where, "--", sys.executable, "-I", crowd.__file__, file)

    def fetched(self, address: str, where: str = "here") -> str:
        done = self.place.wisp("exec", "-c", "many", where, "--", "curl", "-sS", "-g", "-m", "5", f"http://{address}/")
        assert done.status == 0, done.err
        return done.out


@pytest.fixture
def cloud(place: Place) -> Cloud:
    return Cloud(place)


def busy(cloud: Cloud, asking: subprocess.Popen) -> bool:
    """Whether instances use processor time: somebody asks them."""
    assert asking.poll() is None
    return any((row["cpu_seconds"] or 0) > 0.02 for row in cloud.rows().values())


def said_of(asking: subprocess.Popen) -> dict:
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    return json.loads(out)


@pytest.mark.parametrize("kind", ["unikernel/spt", "unikernel/microvm"])
def test_no_request_fails_while_all_are_replaced(cloud, kind):
    assert cloud.up("one", kind=kind) == ["web-1", "web-2"]
    asking = cloud.begin_asking(5)
    wait_until(lambda: busy(cloud, asking), within_s=5, what="they ask")
    assert cloud.up("two", kind=kind) == ["web-3", "web-4"]
    cloud.place.ok("rollback", "-c", "many")
    said = said_of(asking)
    assert said["failed"] == 0, said
    assert said["answers"].keys() == {"one", "two"}
    assert sorted(cloud.happened("instance-drained")) == ["web-1", "web-2", "web-3", "web-4"]
    done = [(each["kind"], each["state"]) for each in cloud.place.ok("operations", "-c", "many")]
    assert done == [("instantiate", "completed"), ("update", "completed"), ("rollback", "completed")]


def test_more_come_where_the_load_is_and_go_when_it_is_over(cloud):
    cloud.up("one", "min_instances: 1, max_instances: 3, scaling: {rate: 30, calm: 2s}")
    assert cloud.rows()["web-1"]["host"] == "h1"
    said = said_of(cloud.begin_asking(4, where="there"))
    assert said["failed"] == 0, said
    wait_until(lambda: len(cloud.rows()) == 1, within_s=10, what="those that nobody needs have gone")
    assert cloud.happened("scaling") == ["web"] * 3, "to two, to three, and back to one"
    plan = [each["message"] for each in cloud.place.ok("events", "-c", "many") if each["what"] == "scaling"]
    assert "30 for one" in plan[0]
    kinds = [each["kind"] for each in cloud.place.ok("operations", "-c", "many")]
    assert kinds == ["instantiate", "scale", "scale", "scale"]


def test_each_is_led_to_the_nearest(cloud):
    cloud.up("one", "min_instances: 2, placement: {anti_affinity: [web]}")
    rows = cloud.rows()
    assert {row["host"] for row in rows.values()} == {"h1", "h2"}
    for host in ("h1", "h2"):
        rules = cloud.place.wisp("exec", "-c", "many", host, "--", "nft", "list", "table", "inet", "wisp")
        if rules.status == 0:  # a person's tool; it may not be here
            near = next(row["address"] for row in rows.values() if row["host"] == host)
            far = next(row["address"] for row in rows.values() if row["host"] != host)
            assert near in rules.out
            assert far not in rules.out


def test_plan_says_what_would_come_and_go(cloud):
    cloud.up("one")
    assert cloud.place.ok("plan", cloud.file)["changes"] == []
    changed = cloud.place.ok("plan", written(cloud, "two"))["changes"]
    told = {(each["sign"], each["subject"]) for each in changed if each["subject"].startswith("instance")}
    assert told == {("+", "instance web-3"), ("+", "instance web-4"), ("-", "instance web-1"), ("-", "instance web-2")}


def test_it_is_found_by_name_by_its_ipv6_address_and_through_a_published_port(cloud):
    cloud.up("one", f"{TWO}, publish: ['127.0.0.1:0:80']".replace(":0:", f":{free_port()}:"))
    door = next(row for name, row in cloud.rows().items() if row["kind"].startswith("door"))
    assert urllib.request.urlopen(f"http://{door['address']}/", timeout=5).read() == b"one"
    for where in ("here", "there"):
        assert cloud.fetched("web.many.internal", where) == "one"
        assert cloud.fetched("[fd57:6973:70::c0a8:1]", where) == "one"
    assert cloud.fetched("web-2.many.internal") == "one"
    cloud.up("two", f"{TWO}, publish: ['{door['address']}:80']")
    assert urllib.request.urlopen(f"http://{door['address']}/", timeout=5).read() == b"two"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_one_that_dies_is_led_to_no_longer_until_it_is_back(cloud):
    cloud.up("one")
    os.kill(cloud.rows()["web-1"]["pid"], signal.SIGKILL)
    wait_until(lambda: cloud.happened("instance-exited") == ["web-1"], within_s=5, what="it was noticed")
    said = said_of(cloud.begin_asking(1))
    assert said["failed"] == 0, said
    assert cloud.rows()["web-1"]["state"] == "ready"


@pytest.mark.parametrize("kind", ["unikernel/spt", "unikernel/microvm"])
def test_they_sleep_and_the_first_packet_to_the_virtual_address_wakes_one(cloud, kind):
    cloud.up("one", "min_instances: 0, max_instances: 3, idle_timeout: 1s", kind)
    assert [row["state"] for row in cloud.rows().values()] == ["asleep"]
    assert cloud.fetched("web.many.internal", "there") == "one"
    wait_until(lambda: cloud.rows()["web-1"]["state"] == "asleep", within_s=10, what="it sleeps again")
    before = len(cloud.happened("instance-woken"))
    asking = cloud.begin_asking(4)
    wait_until(lambda: len(cloud.happened("instance-woken")) > before, within_s=5, what="they ask")
    cloud.up("two", "min_instances: 0, max_instances: 3, idle_timeout: 1s", kind)
    said = said_of(asking)
    assert said["failed"] == 0, said
    assert said["answers"].keys() == {"one", "two"}


def test_a_controller_that_is_killed_while_some_finish_goes_on_with_it(cloud):
    cloud.up("one")
    asking = cloud.begin_asking(5)
    wait_until(lambda: busy(cloud, asking), within_s=5, what="they ask")
    update = cloud.place.begin("up", written(cloud, "two"))
    wait_until(lambda: cloud.happened("instance-draining"), within_s=10, what="the first is told to finish")
    os.kill(cloud.place.ok("status")[0]["controller_pid"], signal.SIGKILL)
    update.communicate(timeout=60)
    said = said_of(asking)
    assert said["failed"] == 0, said
    wait_until(lambda: sorted(cloud.rows()) == ["web-3", "web-4"], within_s=10, what="the update is done")
    assert cloud.fetched("192.168.0.1") == "two"


def written(cloud: Cloud, page: str) -> Path:
    (cloud.place.directory / "site" / "index.html").write_text(page)
    return cloud.file
