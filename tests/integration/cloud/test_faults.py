"""What is broken on purpose stays broken until somebody mends it, and traffic finds its way meanwhile."""

import json
import time
from pathlib import Path
from typing import Any

from tests.integration.cloud.place import Place, wait_until

# Two ways from left to right, the northern one quicker, and a spare host.
DESCRIPTION = """\
cloud: broken
sites: {here: {}, there: {}}
faults: {detection: 500ms}
hosts:
  left: {site: here, cpu: 1, memory: 64MiB}
  right: {site: there, cpu: 1, memory: 64MiB}
  spare: {site: there, cpu: 1, memory: 64MiB}
routers: {north: {}, south: {}}
links:
  a: {between: [left, north], delay: 1ms}
  b: {between: [north, right], delay: 1ms}
  c: {between: [left, south], delay: 3ms}
  d: {between: [south, right], delay: 3ms}
  e: {between: [south, spare], delay: 3ms}
access_points: {wifi: {host: left}}
devices: {phone: {access_point: wifi}}
images: {page: {role: web}}
vnfds: {web: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB, health: {interval: 200ms}}}}}
network_services: {all: {vnfs: {web: {vnfd: web, placement: {sites: [there]}}}}}
"""


def up(place: Place) -> str:
    """Bring the cloud up and give the address of its one instance."""
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION)
    (row,) = place.ok("up", file)
    return str(row["address"])


def row(place: Place) -> dict[str, Any]:
    (found,) = place.ok("ps", "-c", "broken")
    return dict(found)


def way(place: Place, address: str) -> str:
    return place.wisp("exec", "-c", "broken", "left", "--", "ip", "route", "get", address).out


def answers(place: Place, patience_s: str = "2") -> bool:
    fetch = ("curl", "-sS", "-o", "/dev/null", "-m", patience_s, "http://web/health")
    return place.wisp("exec", "-c", "broken", "phone", "--", *fetch).status == 0


def happened(place: Place, what: str) -> list[str]:
    return [event["subject"] for event in place.events("broken") if event["what"] == what]


def test_traffic_goes_around_a_link_that_is_down_and_back(place: Place) -> None:
    address = up(place)
    assert "dev l-a" in way(place, address)
    (fault,) = place.ok("fault", "link", "a", "down", "-c", "broken")
    assert (fault["kind"], fault["name"], fault["action"]) == ("link", "a", "down")
    assert "dev l-c" in way(place, address)
    assert answers(place)
    # It is down, not gone: its interface has no carrier, and nobody mends what shall be broken.
    shown = place.wisp("exec", "-c", "broken", "left", "--", "ip", "-br", "link", "show").out
    assert "DOWN" in next(line for line in shown.splitlines() if line.startswith("l-a"))
    place.kill(place.children("broken")["controller"].pid)
    time.sleep(1)
    assert place.ok("fault", "ls", "-c", "broken") == [fault]
    assert "dev l-c" in way(place, address)
    assert happened(place, "link-down")[0] == "a"
    assert place.ok("fault", "link", "a", "up", "-c", "broken") == []
    wait_until(lambda: "dev l-a" in way(place, address), within_s=5, what="the quick way back")
    assert answers(place)
    assert happened(place, "link-up") == ["a"]


def test_what_nobody_ordered_is_found_and_mended(place: Place) -> None:
    """A cable that somebody else pulls is no fault of ours: it is seen, and plugged in again."""
    address = up(place)
    assert place.wisp("exec", "-c", "broken", "north", "--", "ip", "link", "set", "l-a", "down").status == 0
    wait_until(lambda: happened(place, "link-up"), within_s=20, what="the link is found down, and mended")
    assert happened(place, "link-down") == ["a"]
    assert "dev l-a" in way(place, address)
    assert answers(place)


def test_with_every_way_cut_nothing_arrives_until_up_mends_all(place: Place) -> None:
    up(place)
    place.ok("fault", "link", "a", "down", "-c", "broken")
    place.ok("fault", "link", "c", "down", "-c", "broken")
    assert not answers(place, "1")
    place.ok("up", "cloud.yaml")
    assert place.ok("fault", "ls", "-c", "broken") == []
    assert answers(place)


def test_a_device_loses_its_access_link(place: Place) -> None:
    up(place)
    (fault,) = place.ok("fault", "link", "phone", "down", "-c", "broken")
    assert fault["name"] == "device/phone"
    assert not answers(place, "1")
    place.ok("fault", "link", "phone", "up", "-c", "broken")
    assert answers(place)


def test_a_host_that_goes_down_has_its_instances_started_elsewhere(place: Place) -> None:
    address = up(place)
    where = row(place)["host"]
    assert where in ("right", "spare")
    begun = time.monotonic()
    place.ok("fault", "host", where, "down", "-c", "broken")
    moved = wait_until(
        lambda: (found := row(place))["host"] != where and found["state"] == "ready" and found,
        within_s=10,
        what="it answers elsewhere",
    )
    took = time.monotonic() - begun
    assert took <= 5, took  # generous: the machine is shared; the bar is in `wisp bench`
    assert moved["address"] != address
    wait_until(lambda: answers(place), within_s=10, what="the phone finds it")
    assert happened(place, "host-down") == [where]
    assert place.wisp("exec", "-c", "broken", where, "--", "true").status != 0
    place.ok("fault", "host", where, "up", "-c", "broken")
    wait_until(lambda: happened(place, "host-up"), within_s=5, what="the host is back")
    assert answers(place)
    assert row(place)["host"] != where  # it stays where it is


def test_a_site_goes_down_with_all_its_hosts(place: Place) -> None:
    up(place)
    place.ok("fault", "site", "there", "down", "-c", "broken")
    wait_until(lambda: len(happened(place, "host-down")) == 2, within_s=5, what="both hosts are found down")
    assert happened(place, "instance-waits")
    place.ok("fault", "site", "there", "up", "-c", "broken")
    wait_until(lambda: answers(place), within_s=10, what="all is as before")


def test_an_instance_is_killed_and_stays_down(place: Place) -> None:
    up(place)
    place.ok("fault", "process", "web", "down", "-c", "broken")
    wait_until(lambda: row(place)["state"] == "planned", within_s=5, what="it is gone")
    time.sleep(1)
    assert row(place)["state"] == "planned"
    place.ok("fault", "process", "web", "up", "-c", "broken")
    wait_until(lambda: row(place)["state"] == "ready", within_s=10, what="it is back")


def test_a_link_flaps(place: Place) -> None:
    up(place)
    place.ok("fault", "link", "b", "flap", "--period", "300ms", "-c", "broken")
    wait_until(lambda: len(happened(place, "link-up")) >= 2, within_s=10, what="it comes and goes")
    assert len(happened(place, "link-down")) >= 2
    place.ok("fault", "link", "b", "up", "-c", "broken")
    assert answers(place)


def test_a_link_degrades_by_as_much_as_was_said(place: Place) -> None:
    up(place)
    place.ok("fault", "link", "phone", "degrade", "--delay", "40ms", "-c", "broken")
    probe = ("curl", "-sS", "-o", "/dev/null", "-m", "5", "-w", "%{time_connect}", "http://web/health")
    slow = float(place.wisp("exec", "-c", "broken", "phone", "--", *probe).out)
    assert 0.08 <= slow <= 0.6, slow
    place.ok("fault", "link", "phone", "up", "-c", "broken")
    quick = float(place.wisp("exec", "-c", "broken", "phone", "--", *probe).out)
    assert quick <= slow - 0.06, (quick, slow)


def test_what_cannot_break_is_refused_with_what_can(place: Place) -> None:
    up(place)
    for words, said in (
        (("link", "nowhere", "down"), "there are: a, b, c, d, e, device/phone"),
        (("host", "north", "down"), "there are: left, right, spare"),
        (("process", "wob", "down"), "there are: web"),
        (("host", "left", "degrade", "--loss", "1%"), "only a link can degrade"),
        (("link", "a", "degrade"), "--delay, --loss or --rate"),
        (("link", "a", "flap"), "--period 5s"),
        (("link", "a", "down", "--period", "1s"), "needs a period"),
        (("link", "a", "degrade", "--loss", "many"), "is not a ratio"),
    ):
        done = place.wisp("fault", *words, "-c", "broken")
        assert done.status in (1, 2), words
        assert said in done.err, done.err
    assert place.ok("fault", "ls", "-c", "broken") == []


def test_the_file_declares_how_soon_a_host_is_missed(place: Place) -> None:
    file = Path(place.directory / "odd.yaml")
    file.write_text(DESCRIPTION.replace("500ms", "soon"))
    done = place.wisp("validate", file)
    assert done.status == 2
    assert "faults.detection" in done.err
    assert json.dumps(place.ok("schema")).count('"detection"') == 1
