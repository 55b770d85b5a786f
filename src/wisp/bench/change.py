"""Requests under load while instances come, go and are updated: how many fail."""

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wisp.bench import crowd
from wisp.bench.cloud import BenchCloud, CloudFactory
from wisp.bench.figures import Figure
from wisp.bench.worker import OnProgress
from wisp.model.view import Progress
from wisp.primitives.errors import TransientDriverError
from wisp.primitives.values import frozen

KINDS = {"spt": "unikernel/spt", "microvm": "unikernel/microvm"}
# Where an elastic VNF is asked; it is the only one, so the first virtual address is its.
ADDRESS = "192.168.0.1"
BEGINNERS, KEEPERS, PAUSE_S = 4, 4, 0.25
VERSIONS = ("first", "second", "third", "second")
BAR = "<= 0"
DESCRIPTION = """\
cloud: bench-change
sites: {{edge: {{}}}}
hosts: {{h1: {{site: edge, cpu: 8, memory: 4GiB}}}}
access_points: {{ap: {{host: h1}}}}
devices: {{client: {{access_point: ap}}}}
images: {{page: {{role: web, content: page}}}}
vnfds: {{web: {{vdus: {{main: {{kind: {kind}, image: page, memory: 16MiB, cpu: 100m}}}}}}}}
network_services:
  bench:
    vnfs:
      web: {{vnfd: web, min_instances: 2, max_instances: 4, scaling: {{rate: 50, calm: 2s}}, drain: 20s}}
"""


@frozen
class Length:
    """How long each part takes [s].

    Attributes:
        scale_s: Under load, before the first update: instances come.
        update_s: Under load, with each of the updates.
        calm_s: With few requests: instances go.
    """

    scale_s: float
    update_s: float
    calm_s: float

    @property
    def busy_s(self) -> float:
        """How long the load lasts."""
        return self.scale_s + (len(VERSIONS) - 1) * self.update_s


WHOLE = Length(scale_s=4, update_s=5, calm_s=8)
QUICK = Length(scale_s=3, update_s=2.5, calm_s=5)


@dataclass
class Changed:
    """What came of it, by kind.

    Attributes:
        answers: How many requests were answered, by what the page said.
        failures: How many failed.
        why: Some of the reasons.
        longest_ms: The longest wait for an answer [ms].
        happened: How often each thing happened that the cloud tells of.
    """

    answers: dict[str, Mapping[str, int]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    longest_ms: dict[str, float] = field(default_factory=dict)
    happened: dict[str, Mapping[str, int]] = field(default_factory=dict)


async def ask_while_it_changes(
    make_cloud: CloudFactory, folder: Path, *, quick: bool, progress: OnProgress = lambda _: None
) -> Changed:
    """Have a crowd ask a VNF of two to four instances that is updated three times meanwhile; on each target.

    Args:
        make_cloud: Gives the cloud of a description.
        folder: Where descriptions and pages may be written.
        quick: A short time each: good to see that it works, not to judge by.
        progress: Told of each step.

    Raises:
        TransientDriverError: A cloud did not come up.
    """
    found, length = Changed(), QUICK if quick else WHOLE
    for number, (target, kind) in enumerate(KINDS.items()):
        progress(Progress(phase=f"asking {target} while it changes", done=number, total=len(KINDS)))
        (folder / "change.yaml").write_text(DESCRIPTION.format(kind=kind))
        _write_page(folder, VERSIONS[0])
        cloud = make_cloud(folder / "change.yaml")
        try:
            await cloud.up()
            await _change(cloud, folder, target, found, length)
        finally:
            await cloud.down()
    return found


def _write_page(folder: Path, text: str) -> None:
    (folder / "page").mkdir(exist_ok=True)
    (folder / "page" / "index.html").write_text(text)


async def _change(cloud: BenchCloud, folder: Path, target: str, found: Changed, length: Length) -> None:
    asking = asyncio.create_task(_ask(cloud, length))
    try:
        await asyncio.sleep(length.scale_s)
        for version in VERSIONS[1:]:
            _write_page(folder, version)
            _, _ = await asyncio.gather(cloud.up(), asyncio.sleep(length.update_s))
        said = await asking
    finally:
        asking.cancel()
    found.answers[target], found.failures[target] = said["answers"], said["failed"]
    found.why += [f"{target}: {why}" for why in said["failures"]]
    found.longest_ms[target] = said["longest_ms"]
    found.happened[target] = Counter(event.what for _, event in cloud.events())


async def _ask(cloud: BenchCloud, length: Length) -> dict[str, Any]:
    task = {
        "address": ADDRESS,
        "beginners": BEGINNERS,
        "keepers": KEEPERS,
        "busy_s": length.busy_s,
        "calm_s": length.calm_s,
        "pause_s": PAUSE_S,
    }
    with tempfile.NamedTemporaryFile("w", prefix="wisp-crowd-", suffix=".json") as file:
        json.dump(task, file)
        file.flush()
        status, output = await cloud.run("client", [sys.executable, "-I", str(crowd.__file__), file.name])
    if status:
        raise TransientDriverError(f"the asking program failed: {output[-400:]}")
    said: dict[str, Any] = json.loads(output)
    return said


def failed_requests(found: Changed) -> Figure:
    """Give the figure; it is missing where less happened than was to be survived."""
    for target in KINDS:
        happened = found.happened.get(target, {})
        if set(found.answers.get(target, {})) != set(VERSIONS):
            return Figure.missing("failed_requests", f"{target}: not every version was seen", bar=BAR)
        if not happened.get("scaling") or not happened.get("instance-drained"):
            return Figure.missing("failed_requests", f"{target}: nothing came or went under load", bar=BAR)
    answered = sum(count for answers in found.answers.values() for count in answers.values())
    why = f"; one of them: {found.why[0]}" if found.why else ""
    return Figure(
        name="failed_requests",
        value=found.failures,
        samples=answered,
        spread=(0, max(found.failures.values())),
        bar=BAR,
        note=f"of {answered + sum(found.failures.values())}, new and kept connections, {_events(found.happened)}, "
        f"longest answer {max(found.longest_ms.values()):.0f} ms{why}",
    )


def _events(happened: Mapping[str, Mapping[str, int]]) -> str:
    def total(what: str) -> int:
        return sum(each.get(what, 0) for each in happened.values())

    return (
        f"while {total('instance-started')} instances came and {total('instance-drained')} finished and went, in "
        f"{len(happened) * (len(VERSIONS) - 1)} updates and {total('scaling')} changes of number"
    )
