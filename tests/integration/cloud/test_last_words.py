"""However a guest ends, it leaves its reason; and the seal of an spt guest holds."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.cloud.drivers import CloudDrivers, cloud_drivers
from tests.integration.cloud.place import HELLO, THREE_HOSTS, wait_until

from wisp.model.description import Kind
from wisp.model.instance import ImageRef, InstanceSpec
from wisp.ports.instance import Exit
from wisp.primitives.errors import PermanentDriverError

MIB = 1 << 20


@pytest.fixture
async def drivers(tmp_path: Path) -> AsyncIterator[CloudDrivers]:
    async with cloud_drivers(tmp_path / "cloud") as drivers:
        yield drivers


async def end_of(drivers: CloudDrivers, spec: InstanceSpec) -> Exit:
    """Start an instance that ends by itself and give how."""
    handle = await drivers.call("start", spec.kind, spec, {})
    async with asyncio.timeout(20):
        await drivers.call("wait_for_end", handle)
    ended = await drivers.call("recover", spec.kind, handle)
    assert ended is not None
    return ended


def probe(drivers: CloudDrivers, call: str) -> InstanceSpec:
    image = ImageRef(name="probe", role="probe")
    return replace(drivers.specs[Kind.SPT], image=image, config=(("try", call),))


@pytest.mark.parametrize("call", ["open", "socket", "execve", "clone", "mmap"])
async def test_a_sealed_guest_dies_when_it_tries(drivers, call):
    ended = await end_of(drivers, probe(drivers, call))
    assert ended.signal == signal.SIGSYS, ended
    assert "SIGSYS" in ended.reason
    assert "let through" not in ended.reason


@pytest.mark.parametrize(
    ("fault", "words"),
    [("fault", "page-fault addr=0x10 rip="), ("overflow", "stack-overflow"), ("illegal", "signal 4")],
)
async def test_a_sealed_guest_tells_what_the_processor_refused(drivers, fault, words):
    ended = await end_of(drivers, probe(drivers, fault))
    assert ended.signal is None
    assert words in ended.reason
    assert f"wisp-exit: {words}" in drivers.log(str(drivers.specs[Kind.SPT].name))


async def test_a_guest_that_is_done_says_so(drivers):
    ended = await end_of(drivers, probe(drivers, "nothing"))
    assert ended.signal is None
    assert ended.reason.endswith("halt")


@pytest.mark.parametrize("kind", [Kind.SPT, Kind.MICROVM])
async def test_a_configuration_that_cannot_be_used(drivers, kind):
    ended = await end_of(drivers, replace(drivers.specs[kind], address6="nowhere"))
    assert "bad-config: ip6" in ended.reason
    assert "wisp-exit: bad-config" in drivers.log(str(drivers.specs[kind].name))


def with_content(folder: Path, size_bytes: int) -> ImageRef:
    folder.mkdir()
    (folder / "large").write_bytes(b"x" * size_bytes)
    return ImageRef(name="web", role="web", content=str(folder))


async def test_content_larger_than_the_virtual_machine(drivers, tmp_path):
    image = with_content(tmp_path / "content", 16 * MIB)
    ended = await end_of(drivers, replace(drivers.specs[Kind.MICROVM], image=image, memory_bytes=8 * MIB))
    assert "memory" in ended.reason, ended


async def test_an_image_larger_than_the_address_space(drivers, tmp_path):
    """The kernel would only say SIGSEGV, so it is not even tried; what just fits runs."""
    spec = replace(drivers.specs[Kind.SPT], image=with_content(tmp_path / "content", 6 * MIB), memory_bytes=4 * MIB)
    with pytest.raises(PermanentDriverError, match=r"out of memory: .* bytes and it has 4194304") as no:
        await drivers.call("start", spec.kind, spec, {})
    needed_bytes = next(int(word) for word in str(no.value).split() if word.isdigit())
    just_enough = replace(spec, memory_bytes=needed_bytes)
    handle = await drivers.call("start", spec.kind, just_enough, {})
    async with asyncio.timeout(5):
        while await drivers.call("probe", just_enough) is not None:
            assert await drivers.call("recover", spec.kind, handle) is None


def test_the_reason_is_in_events_logs_and_the_error(place):
    file = place.directory / "cloud.yaml"
    text = THREE_HOSTS.read_text().replace("content: web/", f"content: {HELLO.parent}/web/")
    file.write_text(
        text.replace("        vnfd: web-spt\n", "        vnfd: web-spt\n        config: {connections: many}\n")
    )
    done = place.wisp("up", file, "--timeout", "3")
    assert done.status == 1
    assert "bad-config: connections" in done.err
    told = [event["message"] for event in place.events("three-hosts") if event["subject"] == "web-spt"]
    assert any("bad-config: connections" in message for message in told)
    assert any(line.startswith("wisp-exit: bad-config: connections") for line in place.ok("logs", "web-spt")["lines"])
    rows = {row["name"]: row for row in place.ok("ps")}
    assert "bad-config: connections" in rows["web-spt"]["reason"]
    assert rows["web-vm"]["state"] == "ready"
    wait_until(lambda: place.ok("up", THREE_HOSTS), within_s=10, what="the mended file comes up")
