"""Who may reach the outside does, and nobody else."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.integration.cloud.place import PROC, Place, wait_until
from tests.integration.egress.conftest import OUTSIDE, PORT

from wisp.drivers.keeper.client import KeeperClient

HERE = Path(__file__).parent
ORDINARY = 54321
CLOUD = """\
cloud: out
sites: {home: {}}
hosts: {laptop: {site: home, cpu: 4, memory: 2GiB}, other: {site: home, cpu: 4, memory: 2GiB}}
links: {wire: {between: [laptop, other]}}
access_points: {radio: {host: laptop}}
devices: {phone: {access_point: radio}}
images: {web: {role: web}}
vnfds:
  web: {vdus: {main: {kind: unikernel/spt, image: web}}}
  tool: {vdus: {main: {kind: process, command: [sleep, "3600"], health: {protocol: alive}}}}
network_services:
  all:
    vnfs:
      free: {vnfd: tool, egress: %s, placement: {hosts: [laptop]}}
      bound: {vnfd: tool, placement: {hosts: [laptop]}}
      far: {vnfd: tool, placement: {hosts: [other]}}
      guest: {vnfd: web, placement: {hosts: [laptop]}}
      let-out: {vnfd: web, egress: %s, placement: {hosts: [laptop]}}
"""
SEND = (
    "import socket, sys\n"
    "try: socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (sys.argv[2], int(sys.argv[3])))\n"
    "except OSError: pass\n"
)


def up(place: Place, *, egress: bool = True) -> dict[str, int]:
    file = place.directory / "cloud.yaml"
    allowed = str(egress).lower()
    file.write_text(CLOUD % (allowed, allowed))
    return place.pids_of(place.ok("up", file))


def fetched(place: Place, where: str, address: str = OUTSIDE) -> str:
    url = f"http://{address}:{PORT}/"
    return place.wisp("exec", "-c", "out", where, "--", "curl", "-sS", "-m", "2", url).out


def sent_by_guest(place: Place, name: str, source: str, text: bytes) -> None:
    """Send a datagram to the outside as a guest would that writes any source address it likes."""
    shown = place.wisp("exec", "-c", "out", "laptop", "--", "ip", "-j", "link", "show", f"t-{name}")
    mac = bytes.fromhex(json.loads(shown.out)[0]["address"].replace(":", ""))
    udp = struct.pack("!HHHH", 9, PORT, 8 + len(text), 0) + text
    ends = socket.inet_aton(source) + socket.inet_aton(OUTSIDE)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    total = sum(struct.unpack("!10H", head))
    checksum = ~(total + (total >> 16)) & 0xFFFF
    packet = head[:10] + struct.pack("!H", checksum) + head[12:] + udp
    asyncio.run(written_to_tap(place, name, mac + bytes.fromhex("020000000099") + b"\x08\x00" + packet))


async def written_to_tap(place: Place, name: str, frame: bytes) -> None:
    async with await KeeperClient.connect(place.folder("out").path) as keeper:
        (tap,) = await keeper.fetch([f"tap/{name}"])
        os.write(tap, frame)
        os.close(tap)


def nats() -> list[str]:
    found = []
    for process in PROC.glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and (process / "comm").read_text() == "slirp4netns\n":
                found.append(process.name)
        except OSError:
            continue
    return found


def test_who_may_go_out_does_and_others_do_not(machine):
    up(machine)
    assert fetched(machine, "free") == "hello from outside\n"
    for other in ("bound", "far", "phone", "other"):
        assert fetched(machine, other) == "", other


def test_no_single_datagram_of_others_gets_out(machine):
    up(machine)
    for where in ("bound", "far", "phone", "free"):
        send = (sys.executable, "-c", SEND, f"from {where}", OUTSIDE, PORT)
        assert machine.wisp("exec", "-c", "out", where, "--", *map(str, send)).status == 0
    heard = machine.directory / "heard"
    wait_until(heard.exists, within_s=5, what="a datagram outside")
    assert heard.read_text() == "from free\n"


def test_a_guest_cannot_get_out_under_its_neighbours_address(machine):
    up(machine)
    addresses = {row["name"]: row["address"] for row in machine.ok("ps", "-c", "out")}
    sent_by_guest(machine, "guest", addresses["guest"], b"as itself")
    sent_by_guest(machine, "guest", addresses["let-out"], b"as its neighbour")
    sent_by_guest(machine, "let-out", addresses["let-out"], b"let out")
    heard = machine.directory / "heard"
    wait_until(heard.exists, within_s=5, what="a datagram outside")
    assert heard.read_text() == "let out\n"


def test_the_machines_own_loopback_stays_closed(machine):
    up(machine)
    assert fetched(machine, "free", "10.0.2.2") == ""


def test_the_way_out_closes_when_nobody_may_go_out_any_more(machine):
    before = nats()
    pids = up(machine)
    assert len(set(nats()) - set(before)) == 1
    assert up(machine, egress=False) == pids
    wait_until(lambda: not set(nats()) - set(before), within_s=5, what="the NAT ends")
    assert fetched(machine, "free") == ""
    up(machine)
    assert fetched(machine, "free") == "hello from outside\n"


def test_the_nat_ends_with_a_killed_keeper(machine):
    before = nats()
    up(machine)
    machine.kill(machine.keeper_pid("out"))
    wait_until(lambda: not set(nats()) - set(before), within_s=5, what="the NAT ends")


def test_up_again_keeps_the_nat_and_brings_back_a_killed_one(machine):
    before = nats()
    up(machine)
    (nat,) = set(nats()) - set(before)
    up(machine)
    assert set(nats()) - set(before) == {nat}
    machine.kill(int(nat))
    up(machine)
    assert fetched(machine, "free") == "hello from outside\n"


def test_a_missing_nat_is_named_before_anything_is_begun(machine):
    file = machine.directory / "cloud.yaml"
    file.write_text(CLOUD % ("true", "true"))
    if any(Path(folder, "slirp4netns").exists() for folder in ("/usr/sbin", "/sbin")):
        pytest.skip("the NAT is in a folder that is always searched")
    done = machine.wisp("up", file, before=("/usr/bin/env", "PATH=/nowhere"))
    assert done.status == 3
    assert "apt-get install -y --no-install-recommends slirp4netns" in done.err
    assert not machine.folder("out").path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="the tests run as an ordinary user already")
def test_the_same_without_root():
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        user = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")
        tests = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={directory}/t", HERE)
        command = (*user, "--inh-caps=-all", "--bounding-set=-all", *map(str, tests))
        env = {"PATH": os.environ["PATH"], "HOME": directory, "TMPDIR": directory, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=env, cwd=HERE.parents[2], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
