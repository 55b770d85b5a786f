"""Virtual machines that are kept while they sleep: stopped, or put away in a file."""

import json
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.cloud.place import PROC, Place, wait_until

ORIGIN = Path(__file__).parents[1] / "guest" / "origin.py"
DESCRIPTION = f"""\
cloud: kept
sites: {{edge: {{}}}}
hosts:
  h1: {{site: edge, cpu: 8, memory: 400MiB}}
access_points: {{ap: {{host: h1}}}}
devices:
  laptop: {{access_point: ap}}
images: {{proxy: {{role: proxy POOL}}}}
vnfds:
  origin:
    vdus:
      main:
        kind: process
        command: ["${{python}}", {ORIGIN}, "8080"]
        health: {{protocol: tcp, port: 8080}}
  proxy:
    vdus:
      main:
        kind: unikernel/microvm
        image: proxy
        memory: 16MiB
        config: {{origin: "${{address.origin}}:8080", cache: "220000", cache-ttl: 60s}}
network_services:
  s:
    vnfs:
      origin: {{vnfd: origin}}
      near: {{vnfd: proxy, min_instances: 0, idle_timeout: 1s, when_idle: WHEN_IDLE}}
"""
GET = """
import json, socket, sys, time
begin = time.perf_counter()
with socket.create_connection((sys.argv[1], 80), timeout=20) as s:
    s.sendall(f"GET {sys.argv[2]} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
    answer = b""
    while piece := s.recv(65536):
        answer += piece
first, *lines = answer.partition(b"\\r\\n\\r\\n")[0].decode().split("\\r\\n")
headers = dict(line.lower().split(": ", 1) for line in lines)
print(json.dumps([(time.perf_counter() - begin) * 1000, first.split()[1], headers]))
"""
PROBE_AND_LEAD_S = 1.5


class Kept:
    """A cloud with a proxy that is kept while it sleeps."""

    def __init__(self, place: Place, when_idle: str, pool_size: int = 0, disk: str = "") -> None:
        self.place = place
        self.file = place.directory / "cloud.yaml"
        pool = f", pool_size: {pool_size}" if pool_size else ""
        self.file.write_text(DESCRIPTION.replace("WHEN_IDLE", when_idle).replace(" POOL", pool))
        if disk:
            up = f'mkdir -p "$1" && mount -t tmpfs -o size={disk},mode=0700 none "$1" && exec "$0" up "$2"'
            unshare = ("unshare", "--map-root-user", "--mount") if os.getuid() else ("unshare", "--mount")
            done = place.shell(up, self.folder, self.file, before=unshare)
            assert done.status == 0, done.err
        self.addresses = {row["name"]: row["address"] for row in place.ok("up", self.file)}

    @property
    def folder(self) -> Path:
        return self.place.folder("kept").snapshots

    @property
    def snapshot(self) -> Path:
        (path,) = self.folder.iterdir()
        return path

    def ask(self, path: str = "/film", of: str = "near") -> tuple[float, str, dict[str, str]]:
        """Give how long an answer took [ms], its status and its headers."""
        words = ("exec", "-c", "kept", "laptop", "--", "python3", "-c", GET, self.addresses[of], path)
        done = self.place.wisp(*words)
        assert done.status == 0, done.err
        took_ms, status, headers = json.loads(done.out)
        return took_ms, status, headers

    def sleep(self) -> None:
        def sleeps() -> bool:
            states = {row["name"]: row["state"] for row in self.place.ok("ps", "-c", "kept")}
            return states["near"] == "asleep"

        wait_until(sleeps, within_s=10, what="it sleeps")

    def end_origin(self) -> None:
        """Stop it, so that nothing more comes from there, and nobody starts another one."""
        os.kill(self.place.pids("kept")["origin"], signal.SIGSTOP)

    def events(self, what: str) -> list[str]:
        return [event["message"] for event in self.place.ok("events", "-c", "kept") if event["what"] == what]

    def hypervisors(self) -> dict[int, str]:
        """Give the state of each hypervisor of this cloud's instances, as ``T`` for stopped, by process."""
        found = {}
        for entry in PROC.glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            image = str(self.place.directory).encode()
            if b"qemu" in words[0] and any(image in word for word in words) and state not in "ZX":
                found[int(entry.name)] = state
        return found


@pytest.mark.parametrize("pool_size", [0, 1])
def test_one_that_was_put_away_comes_back_with_all_that_it_had(place, pool_size):
    kept = Kept(place, "snapshotted", pool_size)
    assert kept.ask()[2]["x-cache"] == "miss"
    kept.sleep()
    assert len(kept.hypervisors()) == pool_size
    assert stat.S_IMODE(kept.snapshot.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    # What a proxy has kept it serves without its origin, however often it has slept meanwhile.
    kept.end_origin()
    for _ in range(3):
        took_ms, status, headers = kept.ask()
        assert (status, headers["x-cache"]) == ("200", "hit")
        # A repeated SYN would take a second.
        assert took_ms < 900
        assert list(kept.folder.iterdir()) == []
        kept.sleep()
    assert kept.events("instance-snapshot-lost") == []


def test_its_clock_goes_on_while_it_is_away(place):
    kept = Kept(place, "snapshotted")
    kept.ask("/news")
    begin = time.monotonic()
    kept.ask()
    kept.sleep()
    time.sleep(3)
    # Fresh for a second only: it asks again, and its origin says that nothing has changed.
    assert kept.ask("/news")[2]["x-cache"] != "hit"
    _, _, headers = kept.ask()
    passed_s = time.monotonic() - begin
    assert headers["x-cache"] == "hit"
    assert passed_s - 2 <= int(headers["age"]) <= passed_s + 1


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "told"),
    [(flipped, "is damaged: its checksum is wrong"), (cut_off, "is cut off"), (emptied, "is cut off")],
)
def test_a_damaged_one_is_thrown_away_and_told_and_the_client_answered(
    place: Place, damage: Callable[[Path], None], told: str
) -> None:
    kept = Kept(place, "snapshotted")
    kept.ask()
    kept.sleep()
    path = kept.snapshot
    damage(path)
    _, status, headers = kept.ask()
    assert (status, headers["x-cache"]) == ("200", "miss")
    assert not path.exists()
    (message,) = wait_until(lambda: kept.events("instance-snapshot-lost"), within_s=5, what="it is told")
    assert message == f"its snapshot {told}; it was thrown away, and the guest starts anew"
    assert message in (place.folder("kept").logs / "near.log").read_text()
    # The next one is whole again, and nothing more is told.
    kept.sleep()
    assert kept.ask()[2]["x-cache"] == "hit"
    assert len(kept.events("instance-snapshot-lost")) == 1


def test_one_that_cannot_be_written_is_told_and_it_starts_anew(place):
    kept = Kept(place, "snapshotted")
    kept.ask()
    # A folder in its place refuses to be a file, for whoever may write everywhere, too.
    path = next(kept.folder.parent.glob("snapshots"))
    handle = place.children("kept")
    digest = next(name for name in handle if "/near@" in name).rpartition("@")[2]
    (path / f"near@{digest}.snapshot.partial").mkdir()
    kept.sleep()
    (message,) = wait_until(lambda: kept.events("instance-snapshot-lost"), within_s=5, what="it is told")
    assert message.startswith(f"its snapshot cannot be written to {path}/near@{digest}.snapshot: ")
    assert kept.ask()[2]["x-cache"] == "miss"


def test_a_full_disk_costs_what_it_had_and_nobody_an_answer(place):
    kept = Kept(place, "snapshotted", disk="128k")
    for number in (1, 2):
        _, status, headers = kept.ask()
        assert (status, headers["x-cache"]) == ("200", "miss")
        kept.sleep()
        wait_until(lambda: len(kept.events("instance-snapshot-lost")) == number, within_s=5, what="it is told")  # noqa: B023
        assert "see whether there is room" in kept.events("instance-snapshot-lost")[-1]


def test_one_that_was_killed_while_it_was_put_away_leaves_nothing_that_is_used(place):
    kept = Kept(place, "snapshotted")
    kept.ask()
    kept.sleep()
    kept.ask()
    child = next(child for name, child in place.children("kept").items() if "/near@" in name)
    partial = kept.folder / f"{child.id.rpartition('/')[2]}.snapshot.partial"
    end = time.monotonic() + 10
    while not partial.exists():  # without a pause: it takes 15 ms
        assert time.monotonic() < end
    place.kill(child.pid)
    was_finished = partial.with_suffix("").exists()
    assert was_finished or partial.exists()
    _, status, headers = kept.ask()
    assert (status, headers["x-cache"]) == ("200", "hit" if was_finished else "miss")
    kept.sleep()
    assert kept.ask()[2]["x-cache"] == "hit"
    wait_until(lambda: not partial.exists(), within_s=5, what="the unfinished one is gone")


def test_a_changed_one_does_not_take_up_what_it_was(place):
    kept = Kept(place, "snapshotted")
    kept.ask()
    kept.sleep()
    before = kept.snapshot
    kept.file.write_text(kept.file.read_text().replace('"220000"', '"230000"'))
    place.ok("up", kept.file)
    assert not before.exists()
    assert kept.ask()[2]["x-cache"] == "miss"
    kept.sleep()
    assert kept.snapshot != before
    kept.file.write_text("\n".join(line for line in kept.file.read_text().splitlines() if " near:" not in line))
    place.ok("up", kept.file)
    assert list(kept.folder.iterdir()) == []


def test_a_stopped_one_stands_still_and_goes_on_at_once(place):
    kept = Kept(place, "stopped")
    kept.ask()
    kept.sleep()
    ((hypervisor, state),) = kept.hypervisors().items()
    assert state == "T"
    kept.end_origin()
    woken = len(kept.events("instance-woken"))
    # Nobody asks it whether it is well while it sleeps.
    time.sleep(PROBE_AND_LEAD_S)
    assert kept.hypervisors() == {hypervisor: "T"}
    for _ in range(2):
        took_ms, status, headers = kept.ask()
        assert (status, headers["x-cache"]) == ("200", "hit")
        assert took_ms < 200
        wait_until(lambda: "T" not in kept.hypervisors().values(), within_s=1, what="it goes on")
        kept.sleep()
    assert int(headers["age"]) >= PROBE_AND_LEAD_S
    assert list(kept.hypervisors()) == [hypervisor]
    assert len(kept.events("instance-woken")) == woken + 2
    assert not kept.folder.exists()


def test_a_stopped_one_keeps_nobody_else_from_waking(place):
    # Room for what is reserved, and for one more.
    kept = Kept(place, "stopped")
    text = kept.file.read_text().replace("400MiB", "75MiB").rstrip()
    kept.file.write_text(f"{text}\n      far: {{vnfd: proxy, min_instances: 0, idle_timeout: 1s}}\n")
    kept.addresses = {row["name"]: row["address"] for row in place.ok("up", kept.file)}
    kept.ask()
    kept.sleep()
    assert kept.ask(of="far")[1] == "200"
    assert "T" in kept.hypervisors().values()


def test_a_stopped_one_whose_hypervisor_is_killed_starts_anew(place):
    kept = Kept(place, "stopped")
    kept.ask()
    kept.sleep()
    (hypervisor,) = kept.hypervisors()
    place.kill(hypervisor)
    _, status, headers = kept.ask()
    assert (status, headers["x-cache"]) == ("200", "miss")
