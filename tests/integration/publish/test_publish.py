"""Ports of this machine that lead into a cloud: published ones, and the doors of real devices."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import aiocoap
import pytest
from tests.integration.cloud.place import Place

HERE = Path(__file__).parent
ORDINARY = 54321
CLOUD = """\
cloud: doors
sites: {home: {}}
hosts: {laptop: {site: home, cpu: 4, memory: 2GiB}}
access_points: {radio: {host: laptop, up: {delay: 30ms}, down: {delay: 30ms}}}
devices: {real: {access_point: radio, external: {listen: "127.0.0.1:%(door)d", to: "sums:5683"}}}
images: {web: {role: web}, aggregator: {role: aggregator}}
vnfds:
  web: {vdus: {main: {kind: unikernel/microvm, image: web, memory: 32MiB}}}
  sums: {vdus: {main: {kind: unikernel/spt, image: aggregator}}}
network_services:
  all:
    vnfs:
      web: {vnfd: web, publish: ["%(port)d:80"]}
      sums: {vnfd: sums}
"""


def described(place: Place, **ports: int) -> Path:
    file = place.directory / "cloud.yaml"
    file.write_text(CLOUD % ports)
    return file


def curl(port: int) -> subprocess.CompletedProcess[str]:
    words = ["curl", "-sS", "-m", "5", f"http://127.0.0.1:{port}/health"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


async def measured(port: int, value: bytes) -> tuple[str, float]:
    """Send a measurement as a device would; give the answer's code and the time it took [s]."""
    client = await aiocoap.Context.create_client_context(transports=["simple6"])
    begin = asyncio.get_running_loop().time()
    message = aiocoap.Message(code=aiocoap.POST, uri=f"coap://127.0.0.1:{port}/m/co2", payload=value)
    answer = await client.request(message).response
    took = asyncio.get_running_loop().time() - begin
    await client.shutdown()
    return str(answer.code), took


def test_a_published_port_answers_curl_from_outside(place, free_port):
    port = free_port()
    rows = {row["name"]: row for row in place.ok("up", described(place, port=port, door=free_port()))}
    door = rows[f"web:127.0.0.1:{port}"]
    assert (door["kind"], door["address"], door["state"]) == ("door/tcp", f"127.0.0.1:{port}", "ready")
    answer = curl(port)
    assert answer.returncode == 0, answer.stderr
    assert "web" in answer.stdout


def test_a_real_device_comes_in_at_the_pace_of_its_link(place, free_port):
    port = free_port()
    place.ok("up", described(place, port=free_port(), door=port))
    code, took = asyncio.run(measured(port, b"412.5"))
    assert code == "2.04 Changed"
    assert took >= 0.06
    address = {row["name"]: row["address"] for row in place.ok("ps", "-c", "doors")}["sums"]
    sums = place.wisp("exec", "-c", "doors", "laptop", "--", "curl", "-sS", "-m", "5", f"http://{address}/stats")
    assert "412.5" in sums.out


def test_a_port_in_use_is_named_and_nothing_is_begun(place, free_port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = place.wisp("up", described(place, port=port, door=free_port()))
    assert done.status == 1
    assert f"127.0.0.1:{port}/tcp cannot be opened for web" in done.err
    assert "in use" in done.err
    assert not place.folder("doors").path.exists()


def test_a_udp_port_in_use_is_noticed_too(place, free_port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        done = place.wisp("up", described(place, port=free_port(), door=port))
    assert done.status == 1
    assert f"127.0.0.1:{port}/udp cannot be opened for sums" in done.err


def test_a_running_cloud_stays_when_a_new_port_is_in_use(place, free_port):
    port, door = free_port(), free_port()
    before = place.pids_of(place.ok("up", described(place, port=port, door=door)))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = place.wisp("up", described(place, port=other.getsockname()[1], door=door))
    assert done.status == 1
    assert place.pids("doors") == before
    assert curl(port).returncode == 0


def test_another_port_moves_only_the_door(place, free_port):
    old, new, door = free_port(), free_port(), free_port()
    before = place.pids_of(place.ok("up", described(place, port=old, door=door)))
    changed = described(place, port=new, door=door)
    subjects = {(change["sign"], change["subject"]) for change in place.ok("plan", changed)["changes"]}
    assert ("+", f"door web:127.0.0.1:{new}") in subjects
    after = place.pids_of(place.ok("up", changed))
    assert {name: after[name] for name in ("web", "sums", "real")} == {
        name: before[name] for name in ("web", "sums", "real")
    }
    assert curl(new).returncode == 0
    assert curl(old).returncode == 7  # nobody listens there any more
    assert place.ok("down", "doors") == {"down": ["doors"]}
    assert curl(new).returncode == 7


def test_a_door_that_ends_is_back_on_the_same_socket(place, free_port):
    port = free_port()
    pids = place.pids_of(place.ok("up", described(place, port=port, door=free_port())))
    place.kill(pids[f"web:127.0.0.1:{port}"])
    assert curl(port).returncode == 0  # waits in the listening queue until the relay is back
    place.kill(place.children("doors")["controller"].pid)
    assert curl(port).returncode == 0


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
