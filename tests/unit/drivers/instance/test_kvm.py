"""The verdict about KVM: proved by a guest that leaves as it should, kept until the machine starts again."""

import json
import time
from pathlib import Path

import pytest

from wisp.drivers.instance.kvm import PROBE_DEADLINE_S, Accelerator, find_accelerator


class Lab:
    """A stand-in for QEMU that notes each start, and a device that may be opened."""

    def __init__(self, folder: Path) -> None:
        self.qemu, self.guest = folder / "qemu", folder / "guest.elf"
        self.device, self.cache, self.starts = folder / "kvm", folder / "cache" / "accelerator.json", folder / "starts"
        self.device.touch()
        self.starts.touch()

    def does(self, script: str) -> None:
        self.qemu.write_text(f'#!/bin/sh\necho "$@" >> {self.starts}\n{script}\n')
        self.qemu.chmod(0o755)

    async def verdict(self) -> Accelerator:
        return await find_accelerator(str(self.qemu), self.guest, self.cache, device=self.device)

    @property
    def count(self) -> int:
        return len(self.starts.read_text().splitlines())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def test_a_guest_that_leaves_as_it_should_proves_it(lab):
    lab.does("exit 1")
    found = await lab.verdict()
    assert (found.name, found.cpu) == ("kvm", "host")
    assert "-accel kvm" in lab.starts.read_text()
    assert str(lab.guest) in lab.starts.read_text()


@pytest.mark.parametrize("status", [0, 2, 134])
async def test_any_other_end_means_tcg(lab, status):
    lab.does(f"exit {status}")
    found = await lab.verdict()
    assert (found.name, found.cpu) == ("tcg", "max")
    assert f"status {status}" in found.sentence


async def test_one_that_hangs_is_ended_at_the_deadline(lab):
    lab.does("exec sleep 60")
    before = time.monotonic()
    found = await lab.verdict()
    assert PROBE_DEADLINE_S <= time.monotonic() - before < PROBE_DEADLINE_S + 1.5
    assert found.name == "tcg"
    assert "did not finish" in found.sentence


async def test_without_the_device_nothing_is_started(lab):
    lab.does("exit 1")
    lab.device.unlink()
    found = await lab.verdict()
    assert found.name == "tcg"
    assert str(lab.device) in found.sentence
    assert lab.count == 0


async def test_the_verdict_is_kept(lab):
    lab.does("exit 1")
    first = await lab.verdict()
    lab.does("exit 0")
    assert await lab.verdict() == first
    assert lab.count == 1


async def test_the_next_start_of_the_machine_asks_again(lab):
    lab.does("exit 1")
    await lab.verdict()
    boot, verdict = json.loads(lab.cache.read_text())
    lab.cache.write_text(json.dumps([boot[::-1], verdict]))
    lab.does("exit 0")
    assert (await lab.verdict()).name == "tcg"
    assert lab.count == 2


@pytest.mark.parametrize("text", ["", "{}", '["x"]', '["x", {"name": 7}]', "\0"])
async def test_a_cache_that_cannot_be_read_is_replaced(lab, text):
    lab.does("exit 1")
    lab.cache.parent.mkdir()
    lab.cache.write_text(text)
    assert (await lab.verdict()).name == "kvm"
    assert (await lab.verdict()).name == "kvm"
    assert lab.count == 1


async def test_a_cache_that_cannot_be_written_only_costs_time(lab):
    lab.does("exit 1")
    lab.cache.parent.touch()
    assert (await lab.verdict()).name == "kvm"
    assert (await lab.verdict()).name == "kvm"
    assert lab.count == 2
