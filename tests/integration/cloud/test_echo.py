"""``wisp ping`` and ``wisp trace`` tell what packets really meet."""

import asyncio
from typing import Any

import pytest
from tests.integration.cloud.place import Place

import wisp
from wisp.model.echo import EchoOutcome

DESCRIPTION = """\
cloud: asked
sites: {here: {}}
hosts:
  left: {site: here, cpu: 1, memory: 64MiB}
  right: {site: here, cpu: 1, memory: 64MiB}
routers: {north: {}, island: {}}
links:
  a: {between: [left, north], delay: 4ms}
  b: {between: [north, right], delay: 8ms}
access_points: {wifi: {host: left}}
devices: {phone: {access_point: wifi}}
images: {page: {role: web}}
vnfds:
  web: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB, health: {interval: 200ms}}}}
  run: {vdus: {main: {kind: process, command: [sleep, "1000"], memory: 8MiB, health: {protocol: alive}}}}
network_services:
  all:
    vnfs:
      web: {vnfd: web, placement: {hosts: [right]}}
      run: {vnfd: run, placement: {hosts: [right]}}
"""


def up(place: Place) -> None:
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION)
    place.ok("up", file)


def trace(place: Place, *words: str) -> Any:
    return place.wisp("trace", "-c", "asked", "--json", *words)


def test_every_place_is_asked_and_every_hop_is_told(place: Place) -> None:
    up(place)
    for end in ("web", "run", "right", "172.24.0.1", "phone", "north"):
        for family in ((), ("-6",)) if end[0] != "1" else ((),):
            answered = place.ok("ping", "-c", "asked", "phone", end, "-n", "3", "-i", "0.05", *family)
            assert answered["summary"]["received"] == 3, (end, family)
    assert answered["answers"][0]["by"] == "north"

    for end, last_link in (("web", ()), ("run", ("process/run",)), ("web", ())):
        for family in ((), ("-6",)):
            done = trace(place, "phone", end, *family)
            hops = done.json["hops"]
            assert [hop["name"] for hop in hops] == ["left", "north", "right", end]
            assert [hop["links"] for hop in hops] == [["device/phone"], ["a"], ["b"], list(last_link)]
            # There and back; what is beyond is the machine's own, which may be anything but less.
            added_ms = [hop["added_ms"] for hop in hops]
            assert 7.5 < added_ms[1] < 20 and 15.5 < added_ms[2] < 35, added_ms

    shown = place.wisp("trace", "-c", "asked", "phone", "web").out.splitlines()
    assert shown[0].split() == ["HOP", "AT", "OVER", "ROUND", "TRIP", "ms", "ADDED", "ms"]
    assert shown[2].split()[:3] == ["2", "north", "a"]


def test_where_it_ends_is_told_and_is_a_failure(place: Place) -> None:
    up(place)
    done = trace(place, "phone", "island")
    assert done.status == 1 and not done.json["gets_there"]
    assert [(hop["name"], hop["outcome"]) for hop in done.json["hops"]] == [("left", "unreachable")]
    assert "left knows no way to island" in place.wisp("trace", "-c", "asked", "phone", "island").out
    done = place.wisp("ping", "-c", "asked", "phone", "island", "-n", "2")
    assert done.status == 1 and "left knows no way on" in done.out and "100 % lost" in done.out

    # A link that loses everything is silent, not down.
    place.ok("fault", "link", "b", "degrade", "--loss", "100%", "-c", "asked")
    done = place.wisp("trace", "-c", "asked", "phone", "web", "-W", "0.3")
    assert done.status == 1 and "nothing comes back from beyond north" in done.out

    for words in (("ping", "nobody", "web"), ("ping", "phone", "nobody"), ("trace", "phone", "nobody")):
        done = place.wisp(*words, "-c", "asked")
        assert done.status == 1 and "'nobody'" in done.err and "north" in done.err


def test_the_same_from_python(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    up(place)
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, place.environment[name])

    async def ask() -> list[EchoOutcome]:
        cloud = wisp.Cloud(name="asked")
        (first, *_) = await cloud.trace("left", "web")
        assert first.name == "north"
        return [answer.outcome async for answer in cloud.ping("left", "web", count=4, interval_s=0.0)]

    assert asyncio.run(ask()) == [EchoOutcome.REPLY] * 4
