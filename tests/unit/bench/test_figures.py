"""A bar that does not hold is said not to hold."""

import json

import pytest

from wisp.bench.figures import Figure, Report, bar_holds, parse_bar, percentile


@pytest.mark.parametrize(
    ("value", "bar", "holds"),
    [
        (1.6, "<= 1.6", True),
        (1.61, "<= 1.6", False),
        (30, ">= 30", True),
        (29.9, ">= 30", False),
        (5, "", None),
        (None, "<= 1", None),
        ({"spt": 1, "microvm": 9}, "spt <= 1, microvm <= 8", False),
        ({"spt": 1, "microvm": 8}, "spt <= 1, microvm <= 8", True),
        ({"p50": -0.4, "p95": 1}, "p50 >= -0.3, p50 <= 0.3", False),
        ({"a": 1, "b": 3}, "<= 2", False),
    ],
)
def test_bars(value: object, bar: str, holds: bool | None) -> None:
    assert bar_holds(value, bar) is holds  # type: ignore[arg-type]


@pytest.mark.parametrize("bar", ["< 3", "about 3", "<= 3,", "<= x", "a b <= 3"])
def test_a_malformed_bar_is_refused(bar: str) -> None:
    with pytest.raises(ValueError, match="is not '<= number'"):
        parse_bar(bar)


@pytest.mark.parametrize(("value", "bar"), [(1.0, "spt <= 1"), ({"a": 1}, "b <= 1")])
def test_a_bar_about_another_case_is_refused(value: object, bar: str) -> None:
    with pytest.raises(ValueError, match="bar names case"):
        bar_holds(value, bar)  # type: ignore[arg-type]


def test_percentile_is_nearest_rank() -> None:
    samples = list(range(1, 21))
    assert percentile(samples, 95) == 19
    assert percentile(samples, 100) == 20
    assert percentile([7], 95) == 7
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 95)


def test_a_figure_is_the_median_with_minimum_and_95th_percentile() -> None:
    figure = Figure.of_samples("spt_ms", [3.0, 1.0, 2.0], unit="ms", bar="<= 1")
    assert (figure.value, figure.samples, figure.spread, figure.holds) == (2.0, 3, (1.0, 3.0), False)


def test_a_ratio_is_of_medians_and_its_spread_is_of_rounds() -> None:
    figure = Figure.of_ratio("r", [2.0, 4.0, 9.0], [1.0, 2.0, 3.0], bar="<= 2")
    assert (figure.value, figure.spread, figure.holds) == (2.0, (2.0, 3.0), True)


def test_a_figure_without_value_says_why() -> None:
    figure = Figure.missing("linux_vm_over_microvm", "no kernel", bar=">= 30")
    assert figure.to_json() == {
        "name": "linux_vm_over_microvm",
        "value": None,
        "unit": "",
        "samples": 0,
        "spread": None,
        "bar": ">= 30",
        "holds": None,
        "note": "no kernel",
    }


def test_a_report_is_plain_json_in_the_documented_form() -> None:
    figure = Figure.of_samples("spt_ms", [0.5], unit="ms")
    report = Report(bench="boot", machine={"cores": 2}, versions={"wisp": "1"}, figures=(figure,))
    written = json.loads(json.dumps(report.to_json()))
    assert list(written) == ["bench", "machine", "versions", "figures", "raw"]
    assert list(written["figures"][0]) == ["name", "value", "unit", "samples", "spread", "bar", "holds", "note"]
