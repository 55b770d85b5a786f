"""The guests spoken to by independent clients: curl for HTTP, aiocoap for CoAP, raw sockets for bad manners."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

import wisp
from wisp.assembly.settings import Settings
from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.network import mac_of

HERE = Path(__file__).parent
PAGE = b"0123456789" * 2000
DESCRIPTION = """\
cloud: guests
sites: {s: {}}
hosts: {h: {site: s, cpu: 4, memory: 2GiB}}
images:
  web: {role: web, content: content/}
  aggregator: {role: aggregator, options: {sensors: "3", alarm.co2.high: "1000"}}
vnfds:
  web-microvm: {vdus: {main: {kind: unikernel/microvm, image: web, memory: 16MiB}}}
  web-spt: {vdus: {main: {kind: unikernel/spt, image: web, memory: 4MiB}}}
  aggregator-microvm: {vdus: {main: {kind: unikernel/microvm, image: aggregator, memory: 16MiB}}}
  aggregator-spt: {vdus: {main: {kind: unikernel/spt, image: aggregator, memory: 4MiB}}}
network_services:
  n:
    vnfs:
      web-microvm: {vnfd: web-microvm}
      web-spt: {vnfd: web-spt}
      aggregator-microvm: {vnfd: aggregator-microvm}
      aggregator-spt: {vnfd: aggregator-spt}
"""
TARGETS = ("microvm", "spt")


class Guests:
    """A cloud with both roles on both targets."""

    def __init__(self, cloud: wisp.Cloud, addresses: dict[str, str]) -> None:
        self._cloud, self._addresses = cloud, addresses

    async def curl(self, instance: str, path: str, *options: str) -> str:
        url = f"http://{self._addresses[instance]}{path}"
        status, output = await self._cloud.run("h", ["curl", "-sS", "-m", "10", *options, url])
        assert status == 0, output
        return output

    async def python(self, instance: str, script: str, *arguments: str) -> str:
        argv = [sys.executable, str(HERE / script), self._addresses[instance], *arguments]
        status, output = await self._cloud.run("h", argv)
        assert status == 0, output
        return output

    def wire(self, instance: str) -> tuple[str, str]:
        """Give the host's end of an instance's tap, and the hardware address at the other."""
        store = SqliteStore(self._cloud.folder.database)
        try:
            newest = store.plan()
        finally:
            store.close()
        assert newest is not None
        (tap,) = (tap for tap in newest[1].network.taps if tap.name == instance)
        return tap.interface, mac_of(tap.address)

    async def end_of(self, instance: str) -> tuple[float, str]:
        """Give when an instance ended by itself [s since the epoch], and how."""
        async with asyncio.timeout(10):
            while True:
                for _, event in self._cloud.events():
                    if (event.what, event.subject) == ("instance-exited", instance):
                        return event.at.seconds, event.message
                await asyncio.sleep(0.1)


@pytest.fixture
async def guests(tmp_path: Path) -> AsyncIterator[Guests]:
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "index.html").write_bytes(PAGE)
    (tmp_path / "cloud.yaml").write_text(DESCRIPTION)
    settings = replace(Settings.from_environment(), state=tmp_path / "state", cache=tmp_path / "cache")
    async with wisp.Cloud(tmp_path / "cloud.yaml", settings=settings) as cloud:
        yield Guests(cloud, {row.name: str(row.address) for row in await cloud.ps()})


async def test_http_as_curl_sees_it(guests: Guests) -> None:
    for target in TARGETS:
        web = f"web-{target}"
        assert (await guests.curl(web, "/")).encode() == PAGE
        head = await guests.curl(web, "/", "-I")
        assert "HTTP/1.1 200" in head
        assert f"Content-Length: {len(PAGE)}" in head
        assert "Content-Type: text/html; charset=utf-8" in head
        etag = next(line.split(": ")[1].strip() for line in head.splitlines() if line.startswith("ETag"))
        assert "HTTP/1.1 304" in await guests.curl(web, "/", "-i", "-H", f"If-None-Match: {etag}")
        part = await guests.curl(web, "/index.html", "-i", "-r", "5-14")
        assert "HTTP/1.1 206" in part
        assert part.endswith("5678901234")
        assert "HTTP/1.1 416" in await guests.curl(web, "/", "-i", "-r", "99999-")
        assert "HTTP/1.1 404" in await guests.curl(web, "/none", "-i")
        assert "Allow: GET, HEAD" in await guests.curl(web, "/", "-i", "-X", "DELETE")
        assert "HTTP/1.1 405" in await guests.curl(web, "/", "-i", "-d", "x" * 5000)
        kept = await guests.curl(web, "/?n=[1-3]", "-o", "/dev/null", "-w", "%{num_connects} ")
        assert kept == "1 0 0 ", "one connection is kept for all three"


async def test_many_clients_and_bad_manners(guests: Guests) -> None:
    for target in TARGETS:
        assert await guests.python(f"web-{target}", "manners.py") == "well\n"


async def test_who_is_told_to_leave_finishes_and_ends_by_itself(guests: Guests) -> None:
    for target, status in (("spt", 0), ("microvm", 1)):  # isa-debug-exit has QEMU end with (0 << 1) | 1
        web = f"web-{target}"
        seen = json.loads(await guests.python(web, "farewell.py", *guests.wire(web)))
        assert seen["problems"] == []
        assert min(seen["answers"]) >= 3
        assert seen["first"] == ["keep-alive"]
        assert seen["last"] == ["close"]
        assert seen["idle"] == "", "closed, not reset"
        ended_at, reason = await guests.end_of(web)
        assert f"status {status}" in reason
        assert -0.1 <= ended_at - seen["done_at"] <= 2


async def test_who_is_told_to_leave_does_not_wait_for_sensors(guests: Guests) -> None:
    for target in TARGETS:
        aggregator = f"aggregator-{target}"
        told_at = float(await guests.python(aggregator, "farewell_to_sensors.py", *guests.wire(aggregator)))
        ended_at, _ = await guests.end_of(aggregator)
        assert 0.15 <= ended_at - told_at <= 1


async def test_coap_as_aiocoap_sees_it(guests: Guests) -> None:
    pytest.importorskip("aiocoap", reason="the independent client is not installed: pip install 'wisp-edge[examples]'")
    for target in TARGETS:
        aggregator = f"aggregator-{target}"
        codes = json.loads(await guests.python(aggregator, "coap.py"))
        assert codes == {
            "m/a 21.5": "2.04",
            "m/b 1": "2.04",
            "m/co2-1 1500": "2.04",
            "m/one-too-many 1": "5.03",
            "m/a hot": "4.00",
            "nowhere 1": "4.04",
        }
        stats = json.loads(await guests.curl(aggregator, "/stats"))
        assert stats["sensors"]["a"]["value"] == 21.5
        assert stats["uptime_ms"] < 600_000
        alarms = json.loads(await guests.curl(aggregator, "/alarms"))
        assert [alarm["sensor"] for alarm in alarms["alarms"]] == ["co2-1"]
