"""An update is rolling, can be rolled back while it stalls, and everything done is written down."""

import json
import os
import signal

import pytest
from tests.integration.cloud.place import Place, wait_until

DESCRIPTION = """\
cloud: rolls
sites: {s1: {}, s2: {}}
hosts:
  h1: {site: s1, cpu: 4, memory: 256MiB}
  h2: {site: s2, cpu: 4, memory: 256MiB}
links:
  l: {between: [h1, h2], delay: 0ms}
images: {page: {role: web, content: ./site}}
vnfds:
  web: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB, boot_deadline: 300ms, health: HEALTH}}}
network_services:
  s:
    vnfs:
      web: {vnfd: web, sites: all}
"""
WELL, NEVER = "{port: 80}", "{port: 80, path: /absent}"


class Cloud:
    def __init__(self, place: Place) -> None:
        self.place = place
        (place.directory / "site").mkdir()
        self.file = place.directory / "cloud.yaml"
        self.write("one")
        place.ok("up", self.file)

    def write(self, page: str, health: str = WELL) -> None:
        (self.place.directory / "site" / "index.html").write_text(page)
        self.file.write_text(DESCRIPTION.replace("HEALTH", health))

    def pages(self) -> list[str]:
        """Give what each instance serves."""
        addresses = [row["address"] for row in self.place.ok("ps", "-c", "rolls")]
        fetch = (
            "import sys, urllib.request as u; [print(u.urlopen(f'http://{a}/').read().decode()) for a in sys.argv[1:]]"
        )
        done = self.place.wisp("exec", "-c", "rolls", "h1", "--", "python3", "-c", fetch, *addresses)
        assert done.status == 0, done.err
        return done.out.split()

    def operations(self) -> list[tuple[str, str, str]]:
        found = self.place.ok("operations", "-c", "rolls")
        return [(each["kind"], each["subject"], each["state"]) for each in found]


@pytest.fixture
def cloud(place: Place) -> Cloud:
    return Cloud(place)


def test_an_update_and_the_way_back(cloud):
    cloud.write("two")
    cloud.place.ok("up", cloud.file)
    assert cloud.pages() == ["two", "two"]
    cloud.place.ok("rollback", "-c", "rolls")
    assert cloud.pages() == ["one", "one"]
    cloud.place.ok("rollback", "-c", "rolls", "--to", "2")
    assert cloud.pages() == ["two", "two"]
    assert cloud.operations() == [
        ("instantiate", "revision 1", "completed"),
        ("update", "revision 2", "completed"),
        ("rollback", "revision 3", "completed"),
        ("rollback", "revision 4", "completed"),
    ]
    first = cloud.place.ok("operations", "-c", "rolls")[0]
    assert [phase["name"] for phase in first["phases"]] == ["network", "instances"]
    assert all(phase["ended_at"]["ns"] > phase["started_at"]["ns"] for phase in first["phases"])


def test_a_version_that_does_not_answer_leaves_the_others_alone_and_is_cancelled(cloud):
    cloud.write("two", NEVER)
    assert cloud.place.wisp("up", cloud.file, "--timeout", "3").status != 0
    rows = {row["name"]: row["state"] for row in cloud.place.ok("ps", "-c", "rolls")}
    assert rows["web-s1"] != "ready"
    assert rows["web-s2"] == "ready"
    wait_until(lambda: cloud.operations()[1][2] == "failed_temp", within_s=10, what="the update has failed for now")
    (operation,) = (each for each in cloud.place.ok("operations", "-c", "rolls") if each["kind"] == "update")
    assert "web-s1" in operation["reason"]
    cloud.place.ok("rollback", "-c", "rolls")
    assert cloud.pages() == ["one", "one"]
    assert [state for _, _, state in cloud.operations()] == ["completed", "rolled_back", "completed"]


def test_what_was_killed_was_healed(cloud):
    row = cloud.place.ok("ps", "-c", "rolls")[0]
    os.kill(row["pid"], signal.SIGKILL)
    wait_until(lambda: len(cloud.operations()) == 2, within_s=5, what="its healing is written down")
    wait_until(lambda: cloud.operations()[1] == ("heal", row["name"], "completed"), within_s=5, what="it is healed")


def test_retry_does_at_once_what_would_be_tried_ever_more_rarely(cloud):
    image = next((cloud.place.directory / "cache" / "wisp" / "images").glob("*.elf"))
    image.rename(image.with_suffix(".kept"))
    image.write_bytes(b"broken")
    os.kill(cloud.place.ok("ps", "-c", "rolls")[0]["pid"], signal.SIGKILL)
    wait_until(lambda: cloud.place.ok("ps", "-c", "rolls")[0]["failures"] >= 5, within_s=20, what="it fails and fails")
    image.with_suffix(".kept").rename(image)
    cloud.place.ok("retry", "-c", "rolls")
    assert cloud.operations()[-1] == ("heal", "web-s1", "completed")


def test_there_must_be_something_to_go_back_to(cloud):
    for words in (("rollback",), ("rollback", "--to", "7")):
        done = cloud.place.wisp(*words, "-c", "rolls")
        assert done.status == 1
        assert "wisp operations" in done.err
    cloud.place.ok("down", "rolls")
    assert cloud.place.wisp("retry", "-c", "rolls").status == 1
    assert json.loads(cloud.place.wisp("status", "--json").out) == []
