"""Descriptions: what is rendered is read back; no text ever gives a traceback."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.clouds import BASE, clouds, documents, read
from wisp.codec import stored
from wisp.codec.description import parse
from wisp.codec.written import render
from wisp.model.description import DesiredState
from wisp.primitives.errors import Problem

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/cloud.yaml"))
ALPHABET = st.sampled_from(list("abc019 .-_:,[]{}&*!|>'\"%@`#?~$<\n\t\\é\x00\ud800\U0001f600"))


def check(text: str) -> None:
    """Read any text: a state, or problems that say something and can be printed."""
    result = parse(text, file="fuzz.yaml", base=BASE)
    if isinstance(result, DesiredState):
        return
    assert result
    for problem in result:
        assert isinstance(problem, Problem)
        assert problem.what
        assert str(problem).startswith("fuzz.yaml")
        assert "\n" not in str(problem)


@given(clouds())
def test_what_is_rendered_is_read_back(desired):
    text = render(desired)
    assert parse(text, file="rendered.yaml", base=BASE / "elsewhere") == desired, text


@given(clouds())
def test_what_is_stored_is_read_back(desired):
    assert stored.decode(stored.encode(desired), DesiredState) == desired


@given(documents())
def test_documents_are_mostly_accepted(document):
    """Keeps the strategy honest: what it draws is refused only for contradictions between its parts."""
    result = read(document)
    if isinstance(result, list):
        known = ("must not share a host", "jitter")
        assert all(any(word in problem.what for word in known) for problem in result), result


@settings(max_examples=300)
@given(st.text(ALPHABET, max_size=200))
def test_any_text_is_answered(text):
    check(text)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_to_an_example_is_answered(example, data):
    text = example.read_text("utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 30)))
        text = text[:start] + data.draw(st.text(ALPHABET, max_size=8)) + text[end:]
    check(text)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=300)
@given(documents(), st.data())
def test_any_value_anywhere_is_answered(document, data):
    """Replace one value somewhere in a good document by any other."""
    here = document
    while True:
        key = data.draw(st.sampled_from(list(here)))
        inner = here[key]
        if isinstance(inner, dict) and inner and data.draw(st.integers(0, 4)):
            here = inner
            continue
        here[key] = data.draw(VALUES)
        break
    check(yaml.safe_dump(document, allow_unicode=True))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join([f'*{chr(97 + level)}'] * 10)}]\n" for level in range(9)
)
CHAIN = "x0: &x0 {a: b}\n" + "".join(f"x{i}: &x{i} {{<<: *x{i - 1}}}\n" for i in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 100_000, "nested deeper"),
        ("{a: " * 100_000, "nested deeper"),
        ("- " * 100_000, "nested deeper"),
        (BOMB, "more than"),
        (CHAIN, "nested deeper"),
        ("a: &a [*a]", "no anchor"),
        ("a: *b", "no anchor"),
        ("x\n" * 5_000_000, "longer than"),
        ("- x\n" * 1_000_000, "more than"),
        ("cloud: a\n---\ncloud: b", "second document"),
        ("cloud: !!python/object:os.system x", "tag"),
        ("", "empty"),
        ("\t", ""),
        ("cloud: a\0b", "not YAML"),
        ("cloud: \ud800", "not YAML"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_hostile_texts_are_refused_within_bounds(text, what):
    result = parse(text, file="hostile.yaml", base=BASE)
    assert isinstance(result, list)
    assert what in result[0].what
