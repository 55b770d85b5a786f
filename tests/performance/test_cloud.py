"""The benchmarks of a whole cloud, end to end with few rounds: each figure has its name, bar, samples and spread."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

import wisp
from wisp.assembly.settings import Settings
from wisp.bench.accuracy import accuracy
from wisp.bench.boot import BootSetup
from wisp.bench.fault import QUICK_ROUNDS, run_fault
from wisp.bench.figures import Figure, bar_holds
from wisp.bench.fog import run_fog
from wisp.bench.link import QUICK_REQUESTS, run_link
from wisp.bench.machine import find_command
from wisp.drivers.instance.kvm import tcg


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(Settings.from_environment(), state=tmp_path / "s", cache=tmp_path / "c")


def check(figures: tuple[Figure, ...], bars: dict[str, str]) -> None:
    assert {figure.name: figure.bar for figure in figures} == bars
    for figure in figures:
        assert figure.value is not None
        assert figure.samples >= 1
        assert figure.spread is not None
        assert figure.holds == bar_holds(figure.value, figure.bar)


@pytest.mark.slow  # `wisp bench boot` of `.ci/run` is the same
def test_fog(settings: Settings, tmp_path: Path) -> None:
    qemu = find_command("qemu-system-x86_64")
    assert qemu is not None, "run: make setup-system"
    setup = BootSetup(
        artifacts=settings.artifacts,
        cache=tmp_path / "bench",
        plain_server=None,
        qemu=qemu,
        accelerator=tcg("for a test"),
    )
    description = Path(__file__).parents[2] / "examples/fog/cloud.yaml"
    report = asyncio.run(run_fog(setup, description, lambda file: wisp.Cloud(file, settings=settings), quick=True))
    check(
        report.figures,
        {"fog_up_s": "<= 2.5", "added_ms_per_instance": "<= 15", "idle_cpu_percent": "<= 5"},
    )
    assert "19 microvms" in report.figures[0].note


def test_link(settings: Settings) -> None:
    report = asyncio.run(run_link(lambda file: wisp.Cloud(file, settings=settings), quick=True))
    check(report.figures, {"link_delay_error_ms": "p50 <= 0.3, p95 <= 2"})
    assert report.figures[0].samples == 3 * QUICK_REQUESTS


def test_accuracy(settings: Settings) -> None:
    figures = asyncio.run(accuracy(lambda file: wisp.Cloud(file, settings=settings), quick=True))
    assert {figure.name: figure.bar for figure in figures} == {
        "delay_p99_error_ms": "p50 <= 0.2, p99 <= 2",
        "rate_error_percent": "<= 5",
        "loss_error_percent": "<= 5",
    }
    delay, rate, loss = figures
    assert delay.holds == bar_holds(delay.value, delay.bar)
    # A link that delayed, limited or lost nothing would be off by all of it; other programs may run meanwhile.
    assert isinstance(delay.value, dict) and delay.value["p50"] < 5
    assert isinstance(rate.value, float) and rate.value < 20
    assert isinstance(loss.value, float) and loss.value < 20


def test_fault(settings: Settings) -> None:
    report = asyncio.run(run_fault(lambda file: wisp.Cloud(file, settings=settings), quick=True))
    bars = {"bypass_carrier_ms": "<= 10", "replan_carrier_ms": "", "host_down_to_serving_s": "<= 2"}
    check(report.figures, bars)
    assert all(figure.samples == QUICK_ROUNDS for figure in report.figures)
    served = report.figures[2].spread
    assert served is not None
    assert served[0] >= 1  # nobody is missed before it was silent for as long as declared
