"""A report as a picture: one bar per case, logarithmic, with minimum and 95th percentile."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wisp.bench.figures import Number, Report
from wisp.primitives.errors import MissingPrerequisite
from wisp.primitives.values import frozen


@frozen
class Bar:
    """One bar of a chart.

    Attributes:
        label: What it stands for.
        value: Height; the median.
        low, high: Ends of the whisker.
    """

    label: str
    value: Number
    low: Number
    high: Number


def bars_of(cases: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """Give one bar per case out of its ``median``, ``min`` and ``p95``; a case without measurements has none."""
    return [
        Bar(label=name, value=case["median"], low=case["min"], high=case["p95"])
        for name, case in cases.items()
        if "median" in case
    ]


def draw_report(report: Report, file: Path) -> None:
    """Write the cases of a report as a PNG picture; see :func:`draw`."""
    cases = report.raw["cases"]
    unit = next(iter(cases.values()))["unit"]
    draw(bars_of(cases), file, title=f"wisp bench {report.bench}", unit=unit)


def draw(bars: Sequence[Bar], file: Path, *, title: str, unit: str) -> None:
    """Write ``bars`` as a PNG picture.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
        OSError: ``file`` cannot be written.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise MissingPrerequisite(
            f"cannot draw {file}: matplotlib is missing", remedy="run: pip install 'wisp-edge[bench]'"
        ) from error
    canvas = Canvas(figsize=(8, 0.6 * len(bars) + 1.6), layout="constrained")
    axes = canvas.add_subplot()
    whiskers = [[bar.value - bar.low for bar in bars], [bar.high - bar.value for bar in bars]]
    rows = range(len(bars))
    axes.barh(rows, [bar.value for bar in bars], xerr=whiskers, capsize=3, color="#3b6ea5", ecolor="#333333")
    axes.set_yticks(rows, [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel(f"{unit}: median, whiskers minimum and 95th percentile (logarithmic)")
    axes.set_title(title)
    for row, bar in zip(rows, bars, strict=True):
        axes.annotate(
            f"{bar.value:.3g} {unit}", (bar.high, row), xytext=(5, 0), textcoords="offset points", va="center"
        )
    canvas.savefig(file, dpi=120, format="png")
