"""Secrets reach those who need them, and are seen nowhere else."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cloud.place import PROC, Place

HERE = Path(__file__).parent
ORDINARY = 54321
# What a guest takes as a threshold, and nobody writes by chance.
NUMBER = "61803.399"
TOKEN = "correct horse %41 battery=staple"  # noqa: S105 - it is the test's own
CLOUD = """\
cloud: secretive
sites: {home: {}}
hosts: {laptop: {site: home, cpu: 4, memory: 2GiB}}
access_points: {radio: {host: laptop}}
devices:
  sensor: {access_point: radio, workload: {command: [sleep, "3600"], environment: {KEY: "${secret.token}"}}}
images: {aggregator: {role: aggregator}}
vnfds:
  vm: {vdus: {main: {kind: unikernel/microvm, image: aggregator, memory: 32MiB,
    config: {alarm.co2.high: "${secret.limit}"}}}}
  spt: {vdus: {main: {kind: unikernel/spt, image: aggregator, config: {alarm.co2.high: "${secret.limit}"}}}}
  tool: {vdus: {main: {kind: process, command: [sleep, "3600"], config: {KEY: "${secret.token}"},
    health: {protocol: alive}}}}
  open: {vdus: {main: {kind: unikernel/spt, image: aggregator}}}
secrets:
  token: {environment: WISP_TEST_TOKEN}
  limit: {file: limit.txt}
network_services:
  all: {vnfs: {vm: {vnfd: vm}, spt: {vnfd: spt}, tool: {vnfd: tool}, open: {vnfd: open}}}
"""

MEASURE = """\
import asyncio, sys, aiocoap
async def measure(uri, value):
    client = await aiocoap.Context.create_client_context(transports=["simple6"])
    await client.request(aiocoap.Message(code=aiocoap.POST, uri=uri, payload=value.encode())).response
    await client.shutdown()
asyncio.run(measure(*sys.argv[1:]))
"""


def described(place: Place, limit: str | None = NUMBER) -> Path:
    if limit is not None:
        (place.directory / "limit.txt").write_text(limit + "\n")
    file = place.directory / "cloud.yaml"
    file.write_text(CLOUD)
    return file


def seen_by_everybody(place: Place) -> Iterator[tuple[str, bytes]]:
    """Give every file of the cloud, and the command line of every process."""
    for path in place.folder("secretive").path.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    for path in PROC.glob("[0-9]*/cmdline"):
        try:
            yield str(path), path.read_bytes()
        except OSError:
            continue


def environment_of(pid: int) -> bytes:
    return (PROC / str(pid) / "environ").read_bytes()


def alarms(place: Place, address: str, value: str) -> str:
    """Measure a value and give the alarms."""
    there = f"coap://{address}/m/co2"
    sent = place.wisp("exec", "-c", "secretive", "laptop", "--", sys.executable, "-c", MEASURE, there, value)
    assert sent.status == 0, sent.err
    done = place.wisp("exec", "-c", "secretive", "laptop", "--", "curl", "-sS", "-m", "5", f"http://{address}/alarms")
    assert done.status == 0, done.err
    return done.out


def test_secrets_reach_processes_and_devices_in_their_environment(place):
    pids = place.pids_of(place.ok("up", described(place), WISP_TEST_TOKEN=TOKEN))
    for name in ("tool", "sensor"):
        assert b"KEY=" + TOKEN.encode() + b"\0" in environment_of(pids[name])
    assert b"KEY=" not in environment_of(pids["open"])


@pytest.mark.parametrize("guest", ["vm", "spt"])
def test_secrets_reach_guests(place, guest):
    rows = {row["name"]: row for row in place.ok("up", described(place, "500"), WISP_TEST_TOKEN=TOKEN)}
    assert "co2" not in alarms(place, rows[guest]["address"], "499.5")
    assert "co2" in alarms(place, rows[guest]["address"], "500.5")


def test_secrets_are_nowhere_to_be_seen(place):
    place.ok("up", described(place), WISP_TEST_TOKEN=TOKEN)
    place.ok("ps", "-c", "secretive")
    told = place.wisp("events", "-c", "secretive", "--json").out + place.wisp("ps", "-c", "secretive", "--json").out
    looked = [*seen_by_everybody(place), ("events and ps", told.encode())]
    assert any(where.endswith("state.db") for where, _ in looked)
    assert any(b"qemu" in content for _, content in looked)
    for where, content in looked:
        assert NUMBER.encode() not in content, where
        assert b"horse" not in content, where


def test_a_changed_secret_restarts_who_uses_it_and_nobody_else(place):
    file = described(place)
    before = place.pids_of(place.ok("up", file, WISP_TEST_TOKEN=TOKEN))
    assert place.ok("plan", file, WISP_TEST_TOKEN=TOKEN)["changes"] == []
    assert place.pids_of(place.ok("up", file, WISP_TEST_TOKEN=TOKEN)) == before
    after = place.pids_of(place.ok("up", file, WISP_TEST_TOKEN=TOKEN[::-1]))
    assert {name for name in before if after[name] != before[name]} == {"tool", "sensor"}
    assert b"KEY=" + TOKEN[::-1].encode() in environment_of(after["tool"])


def test_a_restart_and_a_new_controller_find_the_secret(place):
    pids = place.pids_of(place.ok("up", described(place), WISP_TEST_TOKEN=TOKEN))
    place.kill(place.children("secretive")["controller"].pid)
    place.kill(pids["tool"])
    again = place.pids_of(place.ok("up", described(place), WISP_TEST_TOKEN=TOKEN))
    assert again["tool"] != pids["tool"]
    assert again["vm"] == pids["vm"]
    assert TOKEN.encode() in environment_of(again["tool"])


def test_a_missing_secret_is_named_before_anything_is_begun(place):
    done = place.wisp("up", described(place))
    assert (done.status, "secret token: the variable WISP_TEST_TOKEN is not set" in done.err) == (1, True)
    (place.directory / "limit.txt").unlink()
    done = place.wisp("up", described(place, None), WISP_TEST_TOKEN=TOKEN)
    assert done.status == 1
    assert "secret limit: cannot read" in done.err
    assert not place.folder("secretive").path.exists()


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
