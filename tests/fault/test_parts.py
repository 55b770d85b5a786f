"""Everything else of a cloud is killed, forged or starved; each time the cloud mends itself or says what to do."""

import json
import os
import signal

import pytest
from tests.integration.cloud.place import HELLO, PROC, THREE_HOSTS, Place, namespaces, users_of, wait_until


def ready(place: Place, cloud: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in place.ok("ps", "-c", cloud) if row["state"] == "ready"}


def test_a_killed_guest_is_seen_within_a_second_and_restarted(place):
    before = place.pids_of(place.ok("up", THREE_HOSTS))
    for name in ("web-vm", "web-spt"):
        place.kill(before[name])
        found = wait_until(lambda: ended(place, name), within_s=1, what=f"the end of {name} is told")  # noqa: B023
        assert found == "killed by SIGKILL"
    wait_until(lambda: len(ready(place, "three-hosts")) == 2, within_s=5, what="both answer again")
    after = place.pids("three-hosts")
    assert not after.items() & before.items()


def ended(place: Place, name: str) -> str | None:
    events = [event for event in place.events("three-hosts") if event["subject"] == name]
    return next((event["message"] for event in events if event["what"] == "instance-exited"), None)


def test_a_guest_that_dies_again_and_again_is_restarted_ever_later(place):
    place.ok("up", HELLO)
    for _ in range(3):
        row = wait_until(lambda: ready(place, "hello").get("web"), within_s=10, what="web answers")
        place.kill(row["pid"])
        wait_until(lambda pid=row["pid"]: place.pids("hello")["web"] != pid, within_s=5, what="its end is seen")
    wait_until(lambda: ready(place, "hello"), within_s=10, what="web answers")
    told = [(event["what"], event["at"]["ns"] / 1e9) for event in place.events("hello")]
    ends = [at for what, at in told if what == "instance-exited"]
    starts = [at for what, at in told if what == "instance-started"][1:]
    waits = [start - end for start, end in zip(starts, ends, strict=True)]
    assert waits == sorted(waits)
    assert waits[-1] > waits[0] + 0.1


def test_a_stopped_guest_is_unhealthy_and_replaced(place):
    file = place.directory / "cloud.yaml"
    health = "health: {interval: 200ms, timeout: 200ms}"
    text = HELLO.read_text().replace("memory: 32MiB}", f"memory: 32MiB, {health}}}")
    file.write_text(text.replace("content: web/", f"content: {HELLO.parent}/web/"))
    before = place.pids_of(place.ok("up", file))
    os.kill(before["web"], signal.SIGSTOP)
    wait_until(
        lambda: ready(place, "hello").get("web", {}).get("pid") not in (None, before["web"]),
        within_s=10,
        what="web is replaced",
    )
    happened = [event["what"] for event in place.events("hello")]
    assert "instance-unhealthy" in happened


def test_a_killed_keeper_takes_all_with_it_and_up_brings_all_back(place):
    before = place.pids_of(place.ok("up", THREE_HOSTS))
    keeper = place.keeper_pid("three-hosts")
    inodes = namespaces(keeper)
    place.kill(keeper)
    wait_until(lambda: users_of(inodes) == [], within_s=5, what="the kernel ends everything")
    status = place.ok("status")[0]
    assert (status["state"], status["ready"]) == ("down", 0)
    assert "wisp up" in status["sentence"]
    addresses = {row["name"]: row["address"] for row in place.ok("ps")}
    after = place.ok("up", THREE_HOSTS)
    assert {row["state"] for row in after} == {"ready"}
    assert {row["name"]: row["address"] for row in after} == addresses
    assert not place.pids_of(after).items() & before.items()
    place.kill(place.keeper_pid("three-hosts"))
    place.ok("down", "three-hosts")
    assert place.leftovers() == []


def test_a_killed_delay_line_is_replaced_and_delays_again(place):
    before = place.pids_of(place.ok("up", THREE_HOSTS))
    delay = place.children("three-hosts")["delay"].pid
    place.kill(delay)
    controller = place.ok("status")[0]["controller_pid"]
    place.kill(controller)  # the next one looks at everything
    wait_until(lambda: replaced(place, delay), within_s=10, what="the delay line is replaced")
    wait_until(lambda: round_trip_ms(place) > 4, within_s=5, what="packets are delayed again")
    assert place.pids("three-hosts") == before


def replaced(place: Place, delay: int) -> bool:
    row = place.children("three-hosts").get("delay")
    return row is not None and row.state == "running" and row.pid != delay


def round_trip_ms(place: Place) -> float:
    command = ("exec", "-c", "three-hosts", "mini-pc-1", "--", "ping", "-U", "-q", "-i", "0.01", "-c", "5")
    # Each way: 2 ms.
    out = place.wisp(*command, "10.0.48.1").out
    return float(out.rpartition("= ")[2].split("/")[1]) if "= " in out else 0.0


@pytest.mark.parametrize("command", ["up", "down"])
def test_after_a_reboot(place, command):
    """The folder says that a keeper runs; its number belongs to somebody else now, or to nobody."""
    place.ok("up", HELLO)
    place.kill(place.keeper_pid("hello"))
    folder = place.folder("hello").path
    wait_until(lambda: place.ok("status")[0]["state"] == "down", within_s=5, what="the keeper is gone")
    identity = json.loads((folder / "keeper.json").read_text())
    (folder / "keeper.json").write_text(json.dumps(identity | {"pid": os.getpid(), "start_ticks": 7}))
    if command == "up":
        rows = place.ok("up", HELLO)
        assert [row["state"] for row in rows] == ["ready"]
        assert rows[0]["pid"] != os.getpid()
    else:
        place.ok("down", "hello")
        assert place.leftovers() == []
    assert (PROC / "self").exists()
