"""The picture beside the JSON."""

import sys
from pathlib import Path

import pytest

from wisp.bench.figures import Report
from wisp.bench.plot import bars_of, draw_report
from wisp.primitives.errors import MissingPrerequisite

CASES = {
    "floor": {"unit": "ms", "median": 25.0, "min": 24.0, "p95": 28.0},
    "silent": {"unit": "ms"},
    "Linux VM": {"unit": "ms", "median": 2300.0, "min": 2200.0, "p95": 2500.0},
}
REPORT = Report(bench="boot", machine={}, versions={}, figures=(), raw={"cases": CASES})


def test_a_report_becomes_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_report(REPORT, tmp_path / "boot.png")
    assert (tmp_path / "boot.png").read_bytes().startswith(b"\x89PNG")


def test_a_case_without_measurements_has_no_bar() -> None:
    assert [bar.label for bar in bars_of(CASES)] == ["floor", "Linux VM"]


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPrerequisite, match=r"pip install 'wisp-edge\[bench\]'"):
        draw_report(REPORT, tmp_path / "boot.png")
