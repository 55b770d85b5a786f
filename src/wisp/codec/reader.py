"""From a tree of nodes to bodies, gathering every problem on the way instead of stopping at the first."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from wisp.codec import document
from wisp.codec.document import Node, Scalar
from wisp.codec.form import (
    Amount,
    Body,
    Choice,
    Count,
    Flag,
    Form,
    Items,
    Key,
    Name,
    Real,
    Reference,
    Table,
    Template,
    Text,
    keys,
)
from wisp.primitives.errors import Problem
from wisp.primitives.values import frozen

NAME_LIMIT = 63
TEXT_LIMIT = 4_096
NAME_PATTERN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_NAME = re.compile(NAME_PATTERN, re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_REAL = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)
_FLAGS = {"true": True, "false": False}


class _Invalid:
    """What a value that was refused is read as."""


INVALID: Final = _Invalid()


@frozen
class Mention:
    """A name or template met while reading, to be checked once everything is known."""

    form: Reference | Template
    text: str
    path: str
    line: int


@dataclass(slots=True)
class Reader:
    """Reads one document.

    Attributes:
        problems: What is wrong so far.
        names: Section → names declared in it, also those whose body is wrong.
        mentions: References and templates to check later.
        lines: Path → line.
    """

    file: str
    problems: list[Problem] = field(default_factory=list)
    names: dict[str, set[str]] = field(default_factory=dict)
    mentions: list[Mention] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def complain(self, path: str, what: str, hint: str = "", *, line: int | None = None) -> None:
        """Note a problem at ``path``, at the line it was read from unless told otherwise."""
        at = line if line is not None else self.line_of(path)
        shown = path if path.isprintable() else ascii(path)[1:-1]
        self.problems.append(Problem(file=self.file, line=at, path=shown, what=what, hint=hint))

    def line_of(self, path: str) -> int | None:
        """Give the line of ``path``, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path.rpartition("[" if path.endswith("]") else ".")[0]
        return self.lines.get(path)

    def read_body(self, body: type, node: Node, path: str = "", *, stand_ins: Mapping[str, Any] | None = None) -> Any:
        """Give the body that ``node`` holds, or ``INVALID`` when something it must have is missing or wrong.

        ``stand_ins`` are taken for such things, after complaining, so that the rest can still be checked.
        """
        if isinstance(node, Scalar) and node.is_null:
            node = document.Mapping(node.line)
        if not isinstance(node, document.Mapping):
            self.complain(path, f"expected keys and values, found {_described(node)}", line=node.line)
            return INVALID
        known = {word: each for each in keys(body) for word in (each.name, *each.aliases)}
        values: dict[str, Any] = {}
        for word, line, value in self._entries(node, path):
            if word not in known:
                self.complain(_join(path, word), f"unknown key {quoted(word)}", did_you_mean(word, known), line=line)
            elif known[word].name in values:
                self.complain(_join(path, word), f"says the same as {known[word].name!r} again", line=line)
            else:
                values[known[word].name] = self._read_key(known[word], value, _join(path, word), line)
        required = {each.name for each in keys(body) if each.required}
        for name in sorted(required - values.keys()):
            self.complain(_join(path, name), "is missing", line=node.line)
        good = {name: value for name, value in values.items() if value is not INVALID}
        good = {**(stand_ins or {}), **good}
        return body(**good) if required <= good.keys() else INVALID

    def _read_key(self, key: Key, node: Node, path: str, line: int) -> Any:
        self.lines[path] = line
        if isinstance(node, Scalar) and node.is_null and not isinstance(key.form, Text | Template):
            if key.required:
                self.complain(path, "has no value")
            return INVALID
        return self.read(key.form, node, path)

    def read(self, form: Form, node: Node, path: str) -> Any:
        """Give the value of ``node`` in the given form, or ``INVALID``."""
        match form:
            case Body(of=body):
                return self.read_body(body, node, path)
            case Table():
                return self._read_table(form, node, path)
            case Items():
                return self._read_items(form, node, path)
            case _:
                return self._read_scalar(form, node, path)

    def _read_table(self, form: Table, node: Node, path: str) -> Any:
        if not isinstance(node, document.Mapping):
            self.complain(path, f"expected names and values, found {_described(node)}", line=node.line)
            return INVALID
        table: dict[str, Any] = {}
        for word, line, value in self._entries(node, path):
            here = _join(path, word)
            self.lines[here] = line
            self._check_key(form.keys, word, here)
            if form.section:
                self.names.setdefault(form.section, set()).add(word)
            table[word] = self.read(form.of, value, here)
        if len(table) < form.minimum:
            self.complain(path, "is empty", "give at least one")
        return {word: value for word, value in table.items() if value is not INVALID}

    def _check_key(self, form: Name | Reference | Text, word: str, path: str) -> None:
        if isinstance(form, Name):
            if problem := name_problem(word):
                self.complain(path, *problem)
        elif isinstance(form, Reference):
            self.mentions.append(Mention(form=form, text=word, path=path, line=self.lines[path]))

    def _read_items(self, form: Items, node: Node, path: str) -> Any:
        if form.word and isinstance(node, Scalar) and node.value == form.word:
            return (form.word,)
        if not isinstance(node, document.Sequence):
            hint = f"write [{node.value}]" if isinstance(node, Scalar) and len(node.value) < 40 else ""
            self.complain(path, f"expected a list, found {_described(node)}", hint, line=node.line)
            return INVALID
        read = []
        for index, item in enumerate(node.items):
            here = f"{path}[{index}]"
            self.lines[here] = item.line
            read.append(self.read(form.of, item, here))
        values = tuple(value for value in read if value is not INVALID)
        self._check_items(form, len(node.items), values, path)
        is_short = len(values) < max(form.minimum, len(read) if form.minimum else 0)
        is_long = form.maximum is not None and len(values) > form.maximum
        return INVALID if is_short or is_long else values

    def _check_items(self, form: Items, count: int, values: tuple[Any, ...], path: str) -> None:
        if form.minimum == form.maximum and count != form.minimum:
            self.complain(path, f"must hold {form.minimum} entries, holds {count}")
        elif count < form.minimum:
            self.complain(path, f"must hold at least {form.minimum}, holds {count}")
        if form.distinct and len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            self.complain(path, f"holds {quoted(twice)} twice")

    def _read_scalar(self, form: Form, node: Node, path: str) -> Any:
        if not isinstance(node, Scalar):
            self.complain(path, f"expected one value, found {_described(node)}", line=node.line)
            return INVALID
        if len(node.value) > TEXT_LIMIT:
            self.complain(path, f"is longer than {TEXT_LIMIT} characters")
            return INVALID
        if isinstance(form, Reference | Template):
            self.mentions.append(Mention(form=form, text=node.value, path=path, line=node.line))
        value, what, hint = scalar(form, node.value)
        if what:
            self.complain(path, what, hint, line=node.line)
            return INVALID
        return value

    def _entries(self, node: document.Mapping, path: str) -> Iterable[tuple[str, int, Node]]:
        """Give key, line and value of each entry; keys that are no text or come twice are complained of."""
        seen: dict[str, int] = {}
        for key, value in document.entries(node):
            if not isinstance(key, Scalar):
                self.complain(path, f"a key must be a word, found {_described(key)}", line=key.line)
            elif key.value in seen:
                here = _join(path, key.value)
                self.complain(here, f"is given twice, first in line {seen[key.value]}", line=key.line)
            else:
                seen[key.value] = key.line
                yield key.value, key.line, value


def scalar(form: Form, text: str) -> tuple[Any, str, str]:
    """Give the value of a scalar, or what is wrong with it and a hint."""
    match form:
        case Amount(quantity=quantity):
            try:
                return quantity.parse(_shown(text)), "", ""
            except ValueError as error:
                return None, str(error), ""
        case Choice(words=words):
            return text, *(("", "") if text in words else _not_one_of(text, words))
        case Flag():
            return _FLAGS.get(text), *(("", "") if text in _FLAGS else _not_one_of(text, _FLAGS))
        case Count(minimum=low, maximum=high):
            return _number(int, _WHOLE, "whole number", text, low, high)
        case Real(minimum=low, maximum=high):
            return _number(float, _REAL, "number", text, low, high)
        case Name():
            return text, *(name_problem(text) or ("", ""))
        case Text() | Template() if _CONTROL.search(text):
            return None, "holds control characters", "only line breaks and tabs are allowed"
        case _:
            return text, "", ""


def _number(
    kind: type[int] | type[float], form: re.Pattern[str], name: str, text: str, low: float, high: float
) -> tuple[Any, str, str]:
    if not form.fullmatch(text):
        return None, f"{quoted(text)} is not a {name}", ""
    if not low <= kind(text) <= high:
        return None, f"{text} is out of range", f"{low} to {high}"
    return kind(text), "", ""


def _not_one_of(text: str, words: Iterable[str]) -> tuple[str, str]:
    choice = ", ".join(words)
    return f"{quoted(text)} is not one of {choice}", did_you_mean(text, words)


def name_problem(text: str) -> tuple[str, str] | None:
    """Say what keeps ``text`` from being a name and what to do, or ``None``."""
    if _NAME.fullmatch(text) and len(text) <= NAME_LIMIT:
        return None
    rule = f"a name has at most {NAME_LIMIT} of a-z, 0-9 and - inside"
    return f"{quoted(text)} cannot be a name", rule


def did_you_mean(word: str, known: Iterable[str] | Mapping[str, Any]) -> str:
    """Give a hint naming the nearest known word; all of them where they are few and none is near."""
    words = sorted(known)
    near = get_close_matches(word[:NAME_LIMIT], words, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 12 else ""


def _join(path: str, word: str) -> str:
    return f"{path}.{_shown(word)}" if path else _shown(word)


def _shown(text: str) -> str:
    return text if len(text) <= 60 and text.isprintable() else ascii(text[:60])[1:-1] + "…" * (len(text) > 60)


def quoted(text: str) -> str:
    """Give a text as a message may hold it: in quotes, cut, and on one line."""
    return f"'{_shown(text)}'"


def _described(node: Node) -> str:
    if isinstance(node, Scalar):
        return "nothing" if node.is_null else quoted(node.value)
    return "a list" if isinstance(node, document.Sequence) else "keys and values"
