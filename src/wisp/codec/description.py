"""The YAML description of a cloud: text to :class:`DesiredState`, or everything that is wrong with it.

>>> from pathlib import PurePath
>>> parse("cloud: tiny\\nhost: {}", file="cloud.yaml", base=PurePath("/clouds"))
[Problem(file='cloud.yaml', line=2, path='host', what="unknown key 'host'", hint="did you mean 'hosts'?")]
"""

from pathlib import PurePath

from wisp.codec import checks, document
from wisp.codec.build import build
from wisp.codec.declared import Document
from wisp.codec.reader import INVALID, Reader
from wisp.model.description import DesiredState
from wisp.primitives.errors import Problem

PROBLEM_LIMIT = 200


def parse(text: str, *, file: str, base: PurePath) -> DesiredState | list[Problem]:
    """Read a description.

    Args:
        text: YAML.
        file: Name of the text as its author knows it, for problems.
        base: Folder that relative paths in it start from, absolute.

    Returns:
        The desired state, or all problems in order of their lines.
    """
    root = document.read(text, file=file)
    if isinstance(root, Problem):
        return [root]
    reader = Reader(file)
    body = reader.read_body(Document, root, stand_ins={"cloud": "cloud"})
    if body is INVALID:
        return _sorted(reader)
    desired = build(body, reader, base)
    checks.check(body, desired, reader)
    return _sorted(reader) if reader.problems else desired


def _sorted(reader: Reader) -> list[Problem]:
    """Give the problems by line, each once, and say how many more than a person reads there are."""
    once = list(dict.fromkeys(reader.problems))
    once.sort(key=lambda problem: problem.line or 0)
    more = len(once) - PROBLEM_LIMIT
    if more > 0:
        rest = Problem(file=reader.file, line=None, path="", what=f"and {more} more problems")
        return [*once[:PROBLEM_LIMIT], rest]
    return once
