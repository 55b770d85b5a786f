"""Quantities as people write them, to whole numbers in one unit each, and back.

>>> MEMORY.parse("128MiB")
134217728
>>> MEMORY.render(134217728)
'128MiB'
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from wisp.primitives.values import frozen

_NUMBER = re.compile(r"(\d{1,18}(?:\.\d{1,12})?)\s*([^\s\d.]*)", re.ASCII)


@frozen
class Quantity:
    """A kind of number that people write with a unit.

    Attributes:
        name: What it measures, for messages.
        stored: Unit of the whole number that it becomes, for the reference.
        units: Unit as written → how many stored units it is. The first is told in hints, ``""`` means none.
        example: How a person writes one.
        minimum, maximum: Allowed range [stored unit].
        spelled: Other spellings of a unit → the one in ``units``.
    """

    name: str
    stored: str
    units: Mapping[str, int]
    example: str
    minimum: int
    maximum: int
    spelled: Mapping[str, str]

    def parse(self, text: str) -> int:
        """Give the whole number [stored unit] that ``text`` says.

        Raises:
            ValueError: With a sentence saying what is wrong and what to write.
        """
        match = _NUMBER.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a {self.name}; write for example {self.example}")
        exact = Fraction(match[1]) * self._factor(match[2], text)
        if exact.denominator != 1:
            raise ValueError(f"{text!r} is finer than Wisp keeps ({self.stored})")
        if not self.minimum <= exact <= self.maximum:
            bounds = f"{self.render(self.minimum)} to {self.render(self.maximum)}"
            raise ValueError(f"{text!r} is out of range; a {self.name} is {bounds}")
        return int(exact)

    def render(self, value: int) -> str:
        """Give the shortest form that :meth:`parse` reads back as ``value``."""
        whole = [(factor, unit) for unit, factor in self.units.items() if value and value % factor == 0]
        factor, unit = max(whole) if whole else min((factor, unit) for unit, factor in self.units.items())
        return f"{_decimal(Fraction(value, factor))}{unit}"

    @property
    def pattern(self) -> str:
        """A regular expression for editors."""
        units = [re.escape(unit) for unit in (*self.units, *self.spelled) if unit]
        optional = "?" if "" in self.units else ""
        return rf"^\d+(\.\d+)?\s*({'|'.join(units)}){optional}$"

    def _factor(self, unit: str, text: str) -> int:
        known = self.spelled.get(unit, unit)
        if known in self.units:
            return self.units[known]
        choice = ", ".join(u for u in self.units if u)
        if not unit:
            raise ValueError(f"{text!r} says no unit; write for example {self.example} (units: {choice})")
        raise ValueError(f"{text!r} has unknown unit {unit!r}; units are {choice}")


def _decimal(value: Fraction) -> str:
    """Write an exact value without exponent; only called for values that end."""
    if value.denominator == 1:
        return str(value.numerator)
    whole, rest = divmod(value, 1)
    digits = ""
    while rest:
        digit, rest = divmod(rest * 10, 1)
        digits += str(digit)
    return f"{whole}.{digits}"


def _quantity(
    name: str,
    stored: str,
    units: Mapping[str, int],
    example: str,
    *,
    minimum: int = 0,
    maximum: int,
    spelled: Mapping[str, str] | None = None,
) -> Quantity:
    return Quantity(
        name=name,
        stored=stored,
        units=units,
        example=example,
        minimum=minimum,
        maximum=maximum,
        spelled=spelled or {},
    )


_BYTES = {
    "MiB": 1 << 20, "B": 1, "KiB": 1 << 10, "GiB": 1 << 30, "TiB": 1 << 40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_YEAR_US = 366 * 86_400 * 10**6

MEMORY = _quantity("memory size", "byte", _BYTES, "128MiB", minimum=1, maximum=1 << 50, spelled={"KB": "kB"})
CPU = _quantity("CPU share", "1/1000 core", {"": 1000, "m": 1}, "500m or 0.5", minimum=1, maximum=10**9)
RATE = _quantity(
    "rate",
    "bit/s",
    {"Mbit": 10**6, "bit": 1, "kbit": 10**3, "Gbit": 10**9},
    "20Mbit",
    minimum=8_000,
    maximum=10**13,
    spelled={
        "bit/s": "bit",
        "kbit/s": "kbit",
        "Mbit/s": "Mbit",
        "Gbit/s": "Gbit",
        "bps": "bit",
        "kbps": "kbit",
        "Mbps": "Mbit",
        "Gbps": "Gbit",
    },
)
_TIME = {"ms": 1_000, "us": 1, "s": 10**6, "min": 60 * 10**6, "h": 3_600 * 10**6}
DELAY = _quantity("delay", "µs", _TIME, "5ms", maximum=3_600 * 10**6, spelled={"µs": "us", "μs": "us"})
TIME = _quantity("time", "µs", _TIME, "5s", minimum=1_000, maximum=_YEAR_US, spelled={"µs": "us", "μs": "us"})
RATIO = _quantity("ratio", "1/1,000,000", {"%": 10_000, "ppm": 1}, "1%", maximum=10**6)
POWER = _quantity("power", "mW", {"W": 1_000, "mW": 1, "kW": 10**6}, "6W", maximum=10**9)
PRICE = _quantity("price", "1/1,000,000 per hour", {"/h": 10**6}, "0.012/h", maximum=10**12)
