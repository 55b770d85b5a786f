"""A guest that is kept while it sleeps goes on where it was; one whose snapshot is damaged boots, and nobody notices."""

import time
from pathlib import Path

import pytest
from tests.integration.cloud.place import Place, wait_until

DESCRIPTION = """\
cloud: kept
sites: {edge: {}}
hosts: {h1: {site: edge, cpu: 8, memory: 1GiB}}
access_points: {ap: {host: h1}}
devices: {phone: {access_point: ap}}
images: {proxy: {role: proxy, pool_size: POOL}}
vnfds:
  origin:
    vdus:
      main:
        kind: process
        command: ["${python}", -m, http.server, -d, FOLDER, "8080"]
        health: {protocol: tcp, port: 8080}
  proxy:
    vdus:
      main:
        kind: unikernel/microvm
        image: proxy
        memory: 32MiB
        config: {origin: "${address.origin}:8080", cache: "1000000", cache-ttl: TTL}
network_services:
  s:
    vnfs:
      origin: {vnfd: origin}
      near: {vnfd: proxy, min_instances: 0, idle_timeout: 500ms, when_idle: snapshotted}
"""


class Kept:
    def __init__(self, place: Place, *, pool: int = 0, ttl: str = "1h") -> None:
        self.place = place
        self.site = place.directory / "site"
        self.site.mkdir()
        self.publish("first")
        text = DESCRIPTION.replace("POOL", str(pool)).replace("TTL", ttl).replace("FOLDER", str(self.site))
        self.file = place.directory / "cloud.yaml"
        self.file.write_text(text)
        self.address = next(row["address"] for row in place.ok("up", self.file) if row["name"] == "near")

    def publish(self, text: str) -> None:
        (self.site / "page").write_text(text)

    def get(self) -> tuple[str, float]:
        """Give what it serves, and how long that took [ms]."""
        words = ("curl", "-sS", "-m", "10", "-w", " %{time_total}", f"http://{self.address}/page")
        done = self.place.wisp("exec", "-c", "kept", "phone", "--", *words)
        assert done.status == 0, done.err + self.log()
        text, took_s = done.out.split()
        return text, float(took_s) * 1000

    def sleep(self) -> None:
        def is_asleep() -> bool:
            return {row["name"]: row["state"] for row in self.place.ok("ps", "-c", "kept")}["near"] == "asleep"

        wait_until(is_asleep, within_s=10, what="asleep")

    def files(self) -> list[Path]:
        return sorted(self.place.folder("kept").snapshots.iterdir())

    def log(self) -> str:
        return self.place.wisp("logs", "-c", "kept", "near").out


def test_it_goes_on_where_it_was(place: Place) -> None:
    kept = Kept(place)
    assert kept.get()[0] == "first"
    kept.sleep()
    (file,) = kept.files()
    assert file.name.startswith("near@")
    assert file.stat().st_mode & 0o777 == 0o600
    for _ in range(3):
        kept.publish("second")
        # What it fetched before it slept.
        text, took_ms = kept.get()
        assert text == "first", kept.log()
        assert took_ms < 900, "a packet was lost"
        assert kept.files() == []
        kept.sleep()
        assert kept.files() == [file]
    assert "thrown away" not in kept.log()
    place.ok("down", "kept")
    assert not place.folder("kept").path.exists()


def test_time_has_passed_while_it_slept(place: Place) -> None:
    kept = Kept(place, ttl="3s")
    assert kept.get()[0] == "first"
    kept.sleep()
    kept.publish("second")
    time.sleep(3)
    assert kept.get()[0] == "second", kept.log()


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign"])
def test_a_damaged_snapshot_is_thrown_away_and_it_boots(place: Place, damage: str) -> None:
    kept = Kept(place)
    assert kept.get()[0] == "first"
    kept.sleep()
    (file,) = kept.files()
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[:-100], "empty": b"", "foreign": b"QEVM" * 1000}.get(damage, content))
    kept.publish("second")
    text, took_ms = kept.get()
    assert text == "second", kept.log()
    assert took_ms < 900, "a packet was lost"
    assert "its snapshot is thrown away" in kept.log()
    kept.sleep()
    kept.publish("third")
    assert kept.get()[0] == "second"


def test_a_state_that_the_hypervisor_refuses_is_no_harm(place: Place) -> None:
    """The file is whole, and yet QEMU cannot make anything of it: here it is another machine's."""
    kept = Kept(place)
    kept.get()
    kept.sleep()
    (file,) = kept.files()
    content = bytearray(file.read_bytes())
    # The state begins with QEMU's own magic; the sum is made right again.
    content[32:36] = b"XXXX"
    content[16:24] = _sum(bytes(content[32:])).to_bytes(8, "little")
    file.write_bytes(content)
    kept.publish("second")
    assert kept.get()[0] == "second", kept.log()
    assert "its snapshot is thrown away" in kept.log()


def test_a_changed_description_does_not_go_on_from_before(place: Place) -> None:
    kept = Kept(place)
    kept.get()
    kept.sleep()
    (before,) = kept.files()
    kept.file.write_text(kept.file.read_text().replace("1000000", "2000000"))
    kept.publish("second")
    place.ok("up", kept.file)
    assert not before.exists()
    assert kept.get()[0] == "second"


def test_a_snapshot_comes_before_a_guest_of_the_pool(place: Place) -> None:
    kept = Kept(place, pool=1)
    assert kept.get()[0] == "first"
    kept.sleep()
    kept.publish("second")
    assert kept.get()[0] == "first", kept.log()


def test_where_none_can_be_written_it_begins_anew(place: Place) -> None:
    kept = Kept(place)
    folder = place.folder("kept").snapshots
    folder.rmdir()
    folder.write_text("in the way")
    kept.get()
    kept.sleep()
    assert "no snapshot of it could be taken" in kept.log()
    kept.publish("second")
    assert kept.get()[0] == "second"


def _sum(state: bytes) -> int:
    """Give the checksum of a state, as ``native/src/tender/snapshot.rs`` has it."""
    total = 0xCBF29CE484222325
    for start in range(0, len(state), 1 << 16):
        block = state[start : start + (1 << 16)]
        for at in range(0, len(block), 8):
            total = (total ^ int.from_bytes(block[at : at + 8], "little")) * 0x100000001B3 & (1 << 64) - 1
            total ^= total >> 32
    return total
