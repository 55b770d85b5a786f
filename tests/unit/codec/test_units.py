"""Quantities: as people write them, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisp.codec.units import CPU, DELAY, MEMORY, POWER, PRICE, RATE, RATIO, TIME


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        (MEMORY, "128MiB", 128 << 20),
        (MEMORY, "1.5 GiB", 3 << 29),
        (MEMORY, "10kB", 10_000),
        (MEMORY, "10KB", 10_000),
        (CPU, "500m", 500),
        (CPU, "0.5", 500),
        (CPU, "2", 2_000),
        (RATE, "20Mbit", 20_000_000),
        (RATE, "20Mbit/s", 20_000_000),
        (RATE, "250kbps", 250_000),
        (DELAY, "5ms", 5_000),
        (DELAY, "0.25ms", 250),
        (DELAY, "10µs", 10),
        (TIME, "2min", 120_000_000),
        (RATIO, "1%", 10_000),
        (RATIO, "0.01%", 100),
        (POWER, "6.5W", 6_500),
        (PRICE, "0.012/h", 12_000),
    ],
)
def test_what_people_write(quantity, text, value):
    assert quantity.parse(text) == value


@pytest.mark.parametrize("quantity", [MEMORY, CPU, RATE, DELAY, TIME, RATIO, POWER, PRICE], ids=lambda q: q.name)
@given(data=st.data())
def test_what_is_rendered_is_parsed_back(quantity, data):
    value = data.draw(st.integers(quantity.minimum, quantity.maximum))
    assert quantity.parse(quantity.render(value)) == value


@pytest.mark.parametrize("text", ["", "5", "ms", "-5ms", "5 m s", "1e3ms", "5ms5", "١ms", "9" * 30 + "ms", "0.0001ms"])
def test_what_is_no_delay(text):
    with pytest.raises(ValueError):
        DELAY.parse(text)
