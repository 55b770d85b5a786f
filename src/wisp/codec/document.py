"""YAML text to a tree of nodes that know their line, within bounds; nothing is guessed about scalars.

Built on the parser's events and not on its composer: that one recurses, and knows no bounds on depth or aliases.
A scalar stays the text that was written, so that ``no`` or ``1e3`` never turn into something else unasked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from wisp.primitives.errors import Problem

TEXT_LIMIT = 8 << 20
DEPTH_LIMIT = 32
NODE_LIMIT = 500_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:str")


@dataclass(slots=True, eq=False)
class Scalar:
    """A text; ``plain`` when written without quotes."""

    line: int
    value: str
    plain: bool
    size: int = 1
    depth: int = 1

    @property
    def is_null(self) -> bool:
        """Whether it says nothing: empty, ``~`` or ``null``."""
        return self.plain and self.value in ("", "~", "null")


@dataclass(slots=True, eq=False)
class Sequence:
    """A list; ``size`` and ``depth`` count the nodes below, aliases as often as they are used."""

    line: int
    items: list["Node"] = field(default_factory=list)
    size: int = 1
    depth: int = 1


@dataclass(slots=True, eq=False)
class Mapping:
    """A mapping as written, in order, duplicates and all."""

    line: int
    entries: list[tuple["Node", "Node"]] = field(default_factory=list)
    size: int = 1
    depth: int = 1


Node = Scalar | Sequence | Mapping


class _Refused(Exception):
    """Reading stops here: ``what``, at ``line``."""

    def __init__(self, line: int | None, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.line, self.what, self.hint = line, what, hint


def read(text: str, *, file: str) -> Node | Problem:
    """Give the tree of the only document in ``text``, or why it cannot be read."""
    try:
        return _read(text)
    except _Refused as refused:
        line, what, hint = refused.line, refused.what, refused.hint
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        what = f"not YAML: {error.problem or error.context or 'cannot be read'}"
        hint = _hint(error, _line(text, line))
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        line, what = None, f"not YAML: {' '.join(str(error).split())[:200]}"
        hint = "save the file as plain UTF-8 text"
    return Problem(file=file, line=line, path="", what=what, hint=hint)


def _line(text: str, number: int | None) -> str:
    lines = text.splitlines()
    return lines[number - 1] if number and number <= len(lines) else ""


def _hint(error: yaml.MarkedYAMLError, line: str) -> str:
    if line.lstrip(" ").startswith("\t") or "tab" in (error.problem or ""):
        return "indent with spaces, not tabs"
    if "${" in line:
        return "put quotes around values that hold ${...}"
    return "check the indentation, quotes and brackets around this line"


def _read(text: str) -> Node:
    if len(text) > TEXT_LIMIT:
        raise _Refused(None, f"the text is longer than {TEXT_LIMIT >> 20} MiB", "split the cloud")
    composer = _Composer()
    for event in yaml.parse(text, Loader=_LOADER):
        composer.take(event)
    if composer.root is None:
        raise _Refused(None, "the file is empty", "start with 'cloud: NAME'")
    return composer.root


class _Composer:
    """Builds the tree event by event, with a stack of its own instead of recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[tuple[Sequence | Mapping, str | None, list[Node]]] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event in."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.DocumentStartEvent() if self.root is not None:
                raise _Refused(line, "a second document starts here", "one file describes one cloud")
            case yaml.ScalarEvent():
                self._check_tag(event.tag, line)
                self._add(Scalar(line, event.value, not event.style), event.anchor)
            case yaml.AliasEvent():
                self._add(self._anchored(event.anchor or "", line), None)
            case yaml.SequenceStartEvent():
                self._push(Sequence(line), event)
            case yaml.MappingStartEvent():
                self._push(Mapping(line), event)
            case yaml.CollectionEndEvent():
                self._pop()
            case _:
                pass

    def _push(self, node: Sequence | Mapping, event: yaml.CollectionStartEvent) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            self._check_tag(event.tag, node.line)
        self._check_depth(len(self._open), node.line)
        self._open.append((node, event.anchor, []))

    def _pop(self) -> None:
        node, anchor, children = self._open.pop()
        if isinstance(node, Sequence):
            node.items = children
        else:
            node.entries = list(zip(children[::2], children[1::2], strict=True))
        node.size += sum(child.size for child in children)
        node.depth += max((child.depth for child in children), default=0)
        self._check_depth(node.depth, node.line)
        self._add(node, anchor)

    def _add(self, node: Node, anchor: str | None) -> None:
        self._count += 1
        if node.size > NODE_LIMIT or self._count > NODE_LIMIT:
            raise _Refused(node.line, f"more than {NODE_LIMIT} values, counting aliases", "split the cloud")
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1][2].append(node)
        else:
            self.root = node

    def _anchored(self, name: str, line: int) -> Node:
        if name not in self._anchors:
            raise _Refused(line, f"alias *{name} has no anchor &{name} before it", "an anchor cannot hold itself")
        return self._anchors[name]

    @staticmethod
    def _check_depth(depth: int, line: int) -> None:
        if depth > DEPTH_LIMIT:
            raise _Refused(line, f"nested deeper than {DEPTH_LIMIT} levels", "look for a stray bracket")

    @staticmethod
    def _check_tag(tag: str | None, line: int) -> None:
        if tag not in _PLAIN_TAGS:
            raise _Refused(line, f"tag {tag!r} is not supported", "write the value without a tag")


def entries(node: Mapping) -> Iterator[tuple[Node, Node]]:
    """Give the entries, those of merge keys (``<<: *anchor``) included; what is written here wins."""
    own = {key.value for key, _ in node.entries if isinstance(key, Scalar)}
    for key, value in node.entries:
        if isinstance(key, Scalar) and key.plain and key.value == "<<" and isinstance(value, Mapping):
            for merged_key, merged_value in entries(value):
                if isinstance(merged_key, Scalar) and merged_key.value not in own:
                    own.add(merged_key.value)
                    yield merged_key, merged_value
        else:
            yield key, value
