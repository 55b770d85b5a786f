"""The guest's configuration line against the golden file that the guest reads too."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisp.codec import guest_config

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "guest_config.json").read_text("utf-8"))


@pytest.mark.parametrize("case", GOLDEN["lines"], ids=lambda case: case["line"][:40])
def test_golden_lines_are_read(case):
    assert list(guest_config.decode(case["line"]).items()) == [tuple(pair) for pair in case["entries"]]


WRITTEN = [case for case in GOLDEN["lines"] if "decode_only" not in case]


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case["line"][:40])
def test_golden_lines_are_written(case):
    assert guest_config.encode(dict(case["entries"])) == case["line"]


@pytest.mark.parametrize("line", GOLDEN["refused"])
def test_broken_escapes_are_refused(line):
    with pytest.raises(ValueError):
        guest_config.decode(line)


@pytest.mark.parametrize("key", ["", "Name", "a b", "a=b", "1a", "é"])
def test_keys_that_would_break_the_line_are_refused(key):
    with pytest.raises(ValueError, match="configuration key"):
        guest_config.encode({key: "x"})


KEYS = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)


@given(st.dictionaries(KEYS, st.text(st.characters(codec="utf-8"))))
def test_any_values_come_back(config):
    line = guest_config.encode(config)
    assert line.isascii()
    assert guest_config.decode(line) == config
