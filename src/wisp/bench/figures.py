"""Figures, their bars, and the one report format of every benchmark."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from wisp.primitives.values import frozen

Number = int | float
Value = Number | Mapping[str, Number] | None

_CLAUSE = re.compile(r"(?:(?P<case>[\w-]+)\s+)?(?P<relation><=|>=)\s*(?P<limit>-?\d+(?:\.\d+)?)")


@frozen
class Clause:
    """One condition of a bar.

    Attributes:
        case: Which case of an object value it speaks of; ``None`` means the value itself, or every case.
        relation: ``<=`` or ``>=``.
        limit: In the figure's own unit.
    """

    case: str | None
    relation: str
    limit: float

    def holds(self, value: Number) -> bool:
        """Say whether ``value`` is on the right side of the limit; the limit itself is."""
        return value <= self.limit if self.relation == "<=" else value >= self.limit


def parse_bar(text: str) -> tuple[Clause, ...]:
    """Read a bar: clauses such as ``<= 1.6``, or ``spt <= 131072, microvm <= 262144``; empty text is no bar.

    Raises:
        ValueError: ``text`` is not of that form.
    """
    return tuple(_parse_clause(part) for part in text.split(",")) if text else ()


def _parse_clause(text: str) -> Clause:
    match = _CLAUSE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"bar {text.strip()!r} is not '<= number' or '>= number', with or without a case")
    return Clause(case=match["case"], relation=match["relation"], limit=float(match["limit"]))


def bar_holds(value: Value, bar: str) -> bool | None:
    """Say whether ``value`` keeps ``bar``; ``None`` when there is no value or no bar.

    Raises:
        ValueError: The bar is malformed or names a case the value lacks.
    """
    clauses = parse_bar(bar)
    if value is None or not clauses:
        return None
    return all(clause.holds(number) for clause in clauses for number in _numbers_of(value, clause))


def _numbers_of(value: Number | Mapping[str, Number], clause: Clause) -> list[Number]:
    if not isinstance(value, Mapping):
        if clause.case is not None:
            raise ValueError(f"bar names case {clause.case!r}, but the value is a single number")
        return [value]
    if clause.case is None:
        return list(value.values())
    if clause.case not in value:
        raise ValueError(f"bar names case {clause.case!r}; the value has {', '.join(value)}")
    return [value[clause.case]]


def percentile(samples: Sequence[Number], percent: float) -> Number:
    """Give the nearest-rank percentile: the smallest sample that ``percent`` % of them do not exceed.

    Raises:
        ValueError: There are no samples.
    """
    if not samples:
        raise ValueError("no samples, no percentile")
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def spread_of(samples: Sequence[Number]) -> tuple[Number, Number]:
    """Give minimum and 95th percentile."""
    return min(samples), percentile(samples, 95)


@frozen
class Figure:
    """One measured number, beside its promise.

    Attributes:
        name: Stable name; ``docs/specification.md`` lists it.
        value: The number, one number per case, or ``None`` when it could not be measured here.
        unit: Of ``value`` and ``bar``; empty for ratios.
        samples: How many measurements are behind it.
        spread: Minimum and 95th percentile of them; ``None`` without a value.
        bar: The promise, as :func:`parse_bar` reads it; empty for none.
        note: What a reader must know; without a value, why there is none.
    """

    name: str
    value: Value
    unit: str = ""
    samples: int = 0
    spread: tuple[Number, Number] | None = None
    bar: str = ""
    note: str = ""

    @classmethod
    def of_samples(
        cls, name: str, samples: Sequence[Number], *, unit: str = "", bar: str = "", note: str = ""
    ) -> "Figure":
        """Give the figure whose value is the median of ``samples``, of which there is at least one."""
        return cls(
            name=name,
            value=statistics.median(samples),
            unit=unit,
            samples=len(samples),
            spread=spread_of(samples),
            bar=bar,
            note=note,
        )

    @classmethod
    def of_ratio(
        cls, name: str, above: Sequence[Number], below: Sequence[Number], *, bar: str = "", note: str = ""
    ) -> "Figure":
        """Give the ratio of two medians; the spread is that of the ratios within each interleaved round."""
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        value = statistics.median(above) / statistics.median(below)
        return cls(name=name, value=value, samples=len(ratios), spread=spread_of(ratios), bar=bar, note=note)

    @classmethod
    def missing(cls, name: str, why: str, *, unit: str = "", bar: str = "") -> "Figure":
        """Give the figure that could not be measured here, with the reason."""
        return cls(name=name, value=None, unit=unit, bar=bar, note=why)

    @property
    def holds(self) -> bool | None:
        """Whether the bar is kept; ``None`` without a value or without a bar."""
        return bar_holds(self.value, self.bar)

    def to_json(self) -> dict[str, Any]:
        """Give the figure as plain JSON values."""
        return {
            "name": self.name,
            "value": dict(self.value) if isinstance(self.value, Mapping) else self.value,
            "unit": self.unit,
            "samples": self.samples,
            "spread": None if self.spread is None else list(self.spread),
            "bar": self.bar,
            "holds": self.holds,
            "note": self.note,
        }


@frozen
class Report:
    """What one benchmark run found.

    Attributes:
        bench: Name of the benchmark.
        machine: Facts about the machine.
        versions: Versions of what took part.
        figures: The figures, in the order a reader wants them.
        raw: The measurements behind them.
    """

    bench: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    figures: tuple[Figure, ...]
    raw: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values, in the documented order of keys."""
        return {
            "bench": self.bench,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "figures": [figure.to_json() for figure in self.figures],
            "raw": dict(self.raw),
        }
