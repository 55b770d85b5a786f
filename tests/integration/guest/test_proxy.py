"""The content-proxy between curl and an origin that is an ordinary program."""

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import wisp
from wisp.assembly.settings import Settings
from wisp.model.view import InstanceRow

HERE = Path(__file__).parent
TARGETS = ("microvm", "spt")
FILM = bytes(range(256)) * 400
STREAM_SHA256 = hashlib.sha256(bytes(range(256)) * 32768).hexdigest()
DESCRIPTION = f"""\
cloud: proxies
sites: {{s: {{}}}}
hosts: {{h: {{site: s, cpu: 4, memory: 2GiB}}}}
images:
  proxy: {{role: proxy, content: content/}}
vnfds:
  origin:
    vdus:
      main:
        kind: process
        command: ["${{python}}", {HERE / "origin.py"}, "8080"]
        health: {{protocol: tcp, port: 8080}}
  proxy-microvm:
    vdus:
      main:
        kind: unikernel/microvm
        image: proxy
        memory: 16MiB
        config: {{origin: "${{address.origin}}:8080", origin-host: films.example, cache: "1048576"}}
  proxy-spt:
    vdus:
      main:
        kind: unikernel/spt
        image: proxy
        memory: 4MiB
        config: {{origin: "${{address.origin}}:8080", cache: "220000", cache-ttl: 30s}}
network_services:
  n:
    vnfs:
      origin: {{vnfd: origin}}
      proxy-microvm: {{vnfd: proxy-microvm}}
      proxy-spt: {{vnfd: proxy-spt}}
"""

SUMMONED = f"""\
cloud: summoned
sites: {{street: {{}}, center: {{}}}}
hosts:
  h: {{site: street, cpu: 4, memory: 1GiB}}
  core: {{site: center, cpu: 4, memory: 1GiB}}
links: {{backhaul: {{between: [h, core], delay: 20ms}}}}
images: {{proxy: {{role: proxy}}}}
vnfds:
  origin:
    vdus:
      main:
        kind: process
        command: ["${{python}}", {HERE / "origin.py"}, "8080"]
        health: {{protocol: tcp, port: 8080}}
  proxy:
    vdus:
      main:
        kind: unikernel/spt
        image: proxy
        memory: 4MiB
        config: {{origin: "${{address.origin}}:8080", cache: "220000"}}
network_services:
  n:
    vnfs:
      origin: {{vnfd: origin, placement: {{sites: [center]}}}}
      near: {{vnfd: proxy, placement: {{sites: [street]}}, min_instances: 0, idle_timeout: 1s}}
"""
ROUND_TRIP_MS = 40


@dataclass
class Told:
    """An answer as curl saw it."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def how(self) -> str:
        return self.headers.get("x-cache", "")


class Proxies:
    """A cloud with an origin, and proxies."""

    def __init__(self, cloud: wisp.Cloud, rows: list[InstanceRow]) -> None:
        self._cloud, self.addresses = cloud, {row.name: str(row.address) for row in rows}
        self._pids = {row.name: row.pid for row in rows}

    @contextmanager
    def silent_origin(self) -> Iterator[None]:
        """An origin that still takes connections, and says nothing."""
        pid = self._pids["origin"]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def state(self, instance: str) -> tuple[str, str]:
        """Give an instance's host and state."""
        return next((row.host, row.state) for row in await self._cloud.ps() if row.name == instance)

    async def gone(self, instance: str) -> None:
        """Wait until it sleeps again."""
        for _ in range(100):
            if (await self.state(instance))[1] == "asleep":
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"{instance} does not go")

    async def shell(self, script: str) -> str:
        status, output = await self._cloud.run("h", ["sh", "-c", script])
        assert status == 0, output
        return output

    async def get(self, instance: str, path: str, *options: str) -> Told:
        url = f"http://{self.addresses[instance]}{path}"
        status, output = await self._cloud.run("h", ["curl", "-sS", "-i", "-m", "20", *options, url])
        assert status == 0, output
        head, body = output.replace("\r\n", "\n").split("\n\n", 1)
        line, *rest = head.split("\n")
        return Told(
            int(line.split()[1]), {key.lower(): value for key, value in (one.split(": ") for one in rest)}, body
        )

    async def digest(self, instance: str, path: str) -> str:
        return (await self.shell(f"curl -sSf -m 60 http://{self.addresses[instance]}{path} | sha256sum")).split()[0]

    async def asked(self) -> list[str]:
        seen: list[str] = json.loads((await self.get("origin", ":8080/asked")).body)
        return [line for line in seen if not line.startswith("/asked")]


@pytest.fixture
async def proxies(tmp_path: Path) -> AsyncIterator[Proxies]:
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "baked.txt").write_bytes(b"baked in\n")
    (tmp_path / "cloud.yaml").write_text(DESCRIPTION)
    settings = replace(Settings.from_environment(), state=tmp_path / "state", cache=tmp_path / "cache")
    async with wisp.Cloud(tmp_path / "cloud.yaml", settings=settings) as cloud:
        yield Proxies(cloud, await cloud.ps())


@pytest.fixture
async def summoned(tmp_path: Path) -> AsyncIterator[Proxies]:
    (tmp_path / "cloud.yaml").write_text(SUMMONED)
    settings = replace(Settings.from_environment(), state=tmp_path / "state", cache=tmp_path / "cache")
    async with wisp.Cloud(tmp_path / "cloud.yaml", settings=settings) as cloud:
        yield Proxies(cloud, await cloud.ps())


@pytest.mark.parametrize("target", TARGETS)
async def test_a_proxy_as_curl_sees_it(proxies: Proxies, target: str) -> None:
    web = f"proxy-{target}"
    baked = await proxies.get(web, "/baked.txt")
    assert (baked.body, baked.how) == ("baked in\n", "")
    film = await proxies.digest(web, "/film?q=1")
    assert film == hashlib.sha256(FILM).hexdigest() == await proxies.digest(web, "/film?q=1")
    hit = await proxies.get(web, "/film?q=1", "-I")
    assert (hit.status, hit.how, hit.headers["etag"]) == (200, "hit", '"film"')
    assert hit.headers["content-length"] == str(len(FILM))
    part = await proxies.get(web, "/film?q=1", "-r", "304-308")
    assert (part.status, part.headers["content-range"]) == (206, f"bytes 304-308/{len(FILM)}")
    assert part.body == "01234"
    assert (await proxies.get(web, "/film?q=1", "-r", "9999999-")).status == 416
    assert (await proxies.get(web, "/film?q=1", "-H", 'If-None-Match: "film"')).status == 304
    host = "films.example" if target == "microvm" else f"{proxies.addresses['origin']}:8080"
    assert await proxies.asked() == [f"/film?q=1 {host}"]

    first = await proxies.get(web, "/news")
    assert (first.how, first.body) == ("miss", "news\n")
    await asyncio.sleep(1.1)
    again = await proxies.get(web, "/news")
    assert (again.how, again.body) == ("revalidated", "news\n")
    assert (await proxies.asked())[-1] == f'/news {host} "news"'
    gone = await proxies.get(web, "/nowhere")
    assert (gone.status, gone.how) == (404, "miss")

    for path in ("/stream", "/live"):
        assert await proxies.digest(web, path) == STREAM_SHA256, path
    together = " & ".join([f"curl -sS -m 60 http://{proxies.addresses[web]}/stream | sha256sum"] * 6)
    assert set((await proxies.shell(f"{together} & wait")).split()) == {STREAM_SHA256, "-"}

    together = " & ".join([f"curl -sS -m 60 http://{proxies.addresses[web]}/slow"] * 6)
    assert (await proxies.shell(f"{together} & wait")).split() == ["slow"] * 6
    assert (await proxies.asked()).count(f"/slow {host}") == 1

    with proxies.silent_origin():
        stale, late = await asyncio.gather(proxies.get(web, "/news"), proxies.get(web, "/unknown"))
    assert (stale.status, stale.how, stale.body) == (200, "stale", "news\n")
    assert (late.status, late.body) == (504, "504 Gateway Timeout: the origin takes too long\n")

    await proxies.get("origin", ":8080/away")
    await asyncio.sleep(1.1)
    stale = await proxies.get(web, "/news")
    assert (stale.status, stale.how, stale.body) == (200, "stale", "news\n")
    assert (await proxies.get(web, "/film?q=1", "-I")).how == "hit"
    lost = await proxies.get(web, "/unknown")
    assert (lost.status, lost.body) == (502, "502 Bad Gateway: the origin refuses the connection\n")


async def test_a_proxy_appears_near_its_viewers_serves_and_goes(summoned: Proxies) -> None:
    url = "http://near.summoned.internal/film"
    how = f"curl -sSf -m 20 -o /dev/null -w '%header{{x-cache}}' {url}"
    for visit in (1, 2):
        assert await summoned.state("near") == ("h", "asleep")
        assert await summoned.shell(how) == "miss"
        host, state = await summoned.state("near")
        assert (host, state) in {("h", "starting"), ("h", "ready")}, "it answers before its first health check"
        begun_ms = [
            float(await summoned.shell(f"curl -sSf -m 20 -o /dev/null -w '%{{time_starttransfer}}' {url}")) * 1000
            for _ in range(3)
        ]
        assert min(begun_ms) < ROUND_TRIP_MS, "a hit does not wait for the core"
        assert await summoned.shell(how) == "hit"
        # What it kept went with it.
        assert len(await summoned.asked()) == visit
        await summoned.gone("near")
