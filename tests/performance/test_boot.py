"""The boot benchmark with few rounds: every figure has a value with samples and spread, or says why it has none."""

import asyncio
import json
from pathlib import Path

import pytest

import wisp
from wisp.bench.boot import QUICK_RUNS, BootSetup, run_boot
from wisp.bench.figures import Report, bar_holds
from wisp.bench.machine import find_command
from wisp.drivers.instance.kvm import tcg

ARTIFACTS = Path(wisp.__file__).parent / "_artifacts"
PLAIN_SERVER = Path(__file__).parents[2] / "benchmarks/peers/target/release/plain-server"
BARS = {
    "microvm_over_floor": "<= 1.6",
    "linux_vm_over_microvm": ">= 30",
    "spt_ms": "<= 1",
    "spt_over_process": "<= 2.5",
    "spt_pss_bytes": "<= 500000",
    "microvm_pss_bytes": "<= 20000000",
    "web_image_bytes": "spt <= 131072, microvm <= 262144",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    qemu = find_command("qemu-system-x86_64")
    assert qemu is not None, "run: make setup-system"
    setup = BootSetup(
        artifacts=ARTIFACTS,
        cache=tmp_path_factory.mktemp("bench"),
        plain_server=PLAIN_SERVER if PLAIN_SERVER.exists() else None,
        qemu=qemu,
        accelerator=tcg("for a test"),
    )
    return asyncio.run(run_boot(setup, quick=True))


def test_figures_carry_the_promised_names_and_bars(report: Report) -> None:
    assert {figure.name: figure.bar for figure in report.figures} == BARS


def test_every_figure_has_measurements_or_a_reason(report: Report) -> None:
    for figure in report.figures:
        if figure.value is None:
            assert figure.note, figure.name
            assert figure.holds is None
        else:
            assert figure.samples >= 1, figure.name
            assert figure.spread is not None
            assert figure.holds == bar_holds(figure.value, figure.bar)


def test_our_own_cases_were_measured(report: Report) -> None:
    for name in ("floor", "microvm web", "spt web"):
        case = report.raw["cases"][name]
        assert case["failure"] == ""
        assert len(case["samples_ms"]) == QUICK_RUNS
    assert len(report.raw["cases"]["microvm web"]["crowd_pss_bytes"]) == 20


def test_the_report_is_json(report: Report) -> None:
    assert json.loads(json.dumps(report.to_json()))["bench"] == "boot"
