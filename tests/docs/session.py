"""Reads what a page tells its reader to do, and does it.

A fenced block counts when the line before it is a comment for us:

``<!-- check -->``         a ``console`` block is typed command by command and its output compared;
                           a ``python`` block is run
``<!-- file: NAME -->``    the block is written to that file

In expected output ``...`` stands for anything, on a line of its own also for any number of lines. A command without
output below it may say what it likes. Every command must end with status 0.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"<!-- (check|file: \S+) -->\n```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a terminal shows for a moment only.
PASSING = {"starting the keeper", "making the network", "booting instances", "stopping"}
COMMAND_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        what: A program's name to hand ``text`` to (``bash``, ``python``), or ``file: NAME`` to write it.
        expected: Output as on the page; empty when nothing is said.
        line: Where on the page.
    """

    what: str
    text: str
    expected: str
    line: int


def steps_of(page: str) -> list[Step]:
    """Give everything to do, in order."""
    found: list[Step] = []
    for fence in FENCE.finditer(page):
        marker, language, text = fence.groups()
        line = page.count("\n", 0, fence.start()) + 3
        if marker != "check":
            found.append(Step(marker, text, "", line))
        elif language == "console":
            found += _commands(text, line)
        else:
            found.append(Step("python", text, "", line))
    return found


def _commands(text: str, line: int) -> list[Step]:
    found: list[Step] = []
    for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = block.partition("\n")
        found.append(Step("bash", command, expected.strip("\n"), line))
    return found


def as_expected(expected: str, output: str) -> bool:
    """Say whether an output is what the page shows."""
    if not expected:
        return True
    pattern = "\n".join(_line_pattern(line) for line in expected.splitlines())
    # A line of dots takes its own line end with it, so that it may stand for no line at all.
    pattern = pattern.replace("\0\n", r"(?:.*\n)*").replace("\n\0", r"(?:\n.*)*").replace("\0", r"(?:.*\n?)*")
    return re.fullmatch(pattern, output.strip("\n")) is not None


def _line_pattern(line: str) -> str:
    if line.strip() == "...":
        return "\0"
    # Columns of a table are as wide as their content, which differs from run to run.
    words = [r"\S*".join(map(re.escape, word.split("..."))) for word in line.split()]
    indent = re.escape(line[: len(line) - len(line.lstrip())])
    return indent + r"[ \t]+".join(words).replace(r"\S*", r".*") + r"[ \t]*"


def run(step: Step, folder: Path, environment: dict[str, str]) -> str:
    """Do one step in ``folder`` and give what went wrong; nothing when it went as the page says."""
    if step.what.startswith("file: "):
        path = folder / step.what.removeprefix("file: ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text)
        return ""
    program = ["bash", "-c"] if step.what == "bash" else [sys.executable, "-c"]
    done = subprocess.run(
        [*program, step.text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    output = "\n".join(line for line in done.stdout.splitlines() if line not in PASSING)
    if done.returncode == 0 and as_expected(step.expected, output):
        return ""
    wanted = f"--- expected (status 0)\n{step.expected}"
    return f"line {step.line}: {step.text}\n{wanted}\n--- got (status {done.returncode})\n{output}"


def environment_in(folder: Path) -> dict[str, str]:
    """Give an environment in which ``wisp`` is this one and keeps everything in ``folder``."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
