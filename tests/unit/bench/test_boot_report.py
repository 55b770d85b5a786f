"""From the worker's results to figures."""

from pathlib import Path

import pytest

from wisp.bench import boot_plan
from wisp.bench.boot_plan import BootPlan, CaseResult, Images, decode_plan, encode_plan
from wisp.bench.boot_report import report
from wisp.drivers.instance.kvm import tcg


@pytest.fixture
def plan(tmp_path: Path) -> BootPlan:
    files = {name: tmp_path / name for name in ("floor", "microvm", "spt")}
    for size, file in enumerate(files.values(), start=100):
        file.write_bytes(b"x" * size)
    return BootPlan(
        runs=2,
        crowd=2,
        memory_bytes=32 << 20,
        folder=tmp_path,
        qemu="/usr/bin/qemu",
        accelerator=tcg("for a test"),
        images=Images(**files),
        server=None,
        container=None,
        linux=None,
    )


def results(**changes: CaseResult) -> dict[str, CaseResult]:
    return {
        boot_plan.FLOOR: CaseResult(elapsed_ms=[20.0, 20.0]),
        boot_plan.MICROVM: CaseResult(elapsed_ms=[30.0, 40.0], pss_bytes=[9, 9], crowd_pss_bytes=[5, 7]),
        boot_plan.SPT: CaseResult(elapsed_ms=[0.5, 0.7], pss_bytes=[1, 1], crowd_pss_bytes=[600_000, 600_000]),
    } | changes


def test_a_plan_survives_its_way_to_the_worker(plan: BootPlan) -> None:
    assert decode_plan(encode_plan(plan)) == plan


def test_figures_and_their_bars(plan: BootPlan) -> None:
    figures = {
        figure.name: figure
        for figure in report(plan, results(), {boot_plan.PROCESS: "p", boot_plan.LINUX: "l"}).figures
    }
    assert figures["microvm_over_floor"].value == 1.75
    assert figures["microvm_over_floor"].holds is False
    assert figures["spt_ms"].holds is True
    assert figures["spt_pss_bytes"].holds is False
    assert figures["microvm_pss_bytes"].value == 6
    assert figures["web_image_bytes"].value == {"spt": 102, "microvm": 101}


def test_what_could_not_be_measured_is_null_and_says_why(plan: BootPlan) -> None:
    silent = CaseResult(retries=2, failure="silent twice in a row")
    absent = {boot_plan.PROCESS: "the plain server is not built"}
    found = report(plan, results() | {boot_plan.LINUX: silent}, absent)
    figures = {figure.name: figure for figure in found.figures}
    assert figures["spt_over_process"].value is None
    assert figures["spt_over_process"].note == "plain process: the plain server is not built"
    assert figures["linux_vm_over_microvm"].note == "Linux VM: silent twice in a row"
    assert found.raw["cases"][boot_plan.LINUX]["retries"] == 2
