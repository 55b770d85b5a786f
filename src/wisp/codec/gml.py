"""Reads GML, the form in which the Internet Topology Zoo keeps its networks.

Source: M. Himsolt, *GML: A portable graph file format*, University of Passau 1997. A document is a list of keys with
values: numbers, texts, and such lists again. Bounded in size and depth, and without recursion.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from wisp.primitives.errors import Problem

TEXT_LIMIT = 32 << 20
DEPTH_LIMIT = 32
# What cannot begin anything stops the reader with its line.
_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*
    (?:(?P<key>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<text>"[^"]*")|(?P<open>\[)|(?P<close>\]))""",
    re.VERBOSE | re.ASCII,
)
_REST = re.compile(r"\s*(?:#[^\n]*(?:\n\s*|$))*")


@dataclass(slots=True)
class Entry:
    """A key with its value: a text, a number as it is written, or entries."""

    line: int
    key: str
    value: "str | list[Entry]"


@dataclass(slots=True)
class Entries:
    """The entries of one list, by key; of several with one key :meth:`text` gives the last."""

    line: int
    items: list[Entry] = field(default_factory=list)

    def text(self, key: str) -> str | None:
        """Give a value that is no list, ``None`` for none."""
        found = [item.value for item in self.items if item.key == key and isinstance(item.value, str)]
        return found[-1] if found else None

    def lists(self, key: str) -> "Iterator[Entries]":
        """Give every list under a key."""
        for item in self.items:
            if item.key == key and isinstance(item.value, list):
                yield Entries(item.line, item.value)


def read(text: str, *, file: str) -> Entries | Problem:
    """Give the entries of a document, or the first thing that is wrong with it."""
    if len(text) > TEXT_LIMIT:
        return Problem(file=file, line=None, path="", what=f"is longer than {TEXT_LIMIT >> 20} MiB")
    open_lists: list[list[Entry]] = [[]]
    key, at, line, counted = "", 0, 1, 0
    end = _last(text)
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            return Problem(file=file, line=_line(text, at), path="", what="is no GML: a key, a value or ] was expected")
        kind = token.lastgroup or ""
        line, counted = line + text.count("\n", counted, token.start(kind)), token.start(kind)
        at = token.end()
        if (what := _misplaced(kind, key, len(open_lists))) is not None:
            return Problem(file=file, line=line, path=key, what=what)
        if kind == "key":
            key = token[kind]
        elif kind == "close":
            open_lists.pop()
        else:
            inner: list[Entry] = []
            open_lists[-1].append(Entry(line, key, inner if kind == "open" else token[kind].strip('"')))
            key = ""
            if kind == "open":
                open_lists.append(inner)
    if key or len(open_lists) > 1:
        return Problem(file=file, line=line, path=key, what="ends in the middle: a value or ] is missing")
    return Entries(1, open_lists[0])


def _misplaced(kind: str, key: str, depth: int) -> str | None:
    """Say what is wrong with a token of this kind behind a key (empty for none), ``None`` for nothing."""
    if kind in ("key", "close") and key:
        return "has no value"
    if kind in ("number", "text", "open") and not key:
        return "a value without a key"
    if kind == "close" and depth == 1:
        return "a ] without its ["
    if kind == "open" and depth >= DEPTH_LIMIT:
        return f"lists are nested more than {DEPTH_LIMIT} deep"
    return None


def _last(text: str) -> int:
    """Give where nothing but space and comments is left; they may begin only with a line of their own."""
    stripped = text.rstrip()
    while (begin := stripped.rfind("\n") + 1) or stripped:
        if not stripped[begin:].lstrip().startswith("#"):
            return len(stripped)
        stripped = stripped[:begin].rstrip()
    return 0


def _line(text: str, at: int) -> int:
    rest = _REST.match(text, at)
    return text.count("\n", 0, rest.end() if rest else at) + 1
