"""The fog benchmark: how long a whole cloud takes to come up, what of that is Wisp's own, and what it costs at rest."""

import asyncio
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from wisp.bench import boot_plan
from wisp.bench.boot import GUEST_MEMORY_BYTES, BootSetup, find_images
from wisp.bench.boot_plan import BootPlan
from wisp.bench.boot_report import VERSIONS
from wisp.bench.cloud import BenchCloud, CloudFactory, tree_cpu_seconds
from wisp.bench.figures import Figure, Report
from wisp.bench.machine import machine_facts, versions
from wisp.bench.worker import OnProgress, run_worker
from wisp.model.description import Kind
from wisp.model.view import InstanceRow, Progress
from wisp.primitives.errors import TransientDriverError
from wisp.primitives.values import frozen

ROUNDS, QUICK_ROUNDS = 10, 3
REST_S, QUICK_REST_S = 30.0, 5.0
SETTLE_S = 2.0
# The kernel takes away namespaces and memory for a while after their users have ended.
CLEARED_AFTER_S = 1.0
UP_BAR, ADDED_BAR, IDLE_BAR = "<= 2.5", "<= 15", "<= 5"


@frozen
class Found:
    """What the rounds gave, one entry each.

    Attributes:
        up_s: From the call of ``up`` to the last microvm's first good answer [s].
        all_s: To the return of ``up``, when devices and processes are well too [s].
        bare_s: The same number of bare guests spawned at once, to the last answer [s].
        microvms: Virtual machines of the cloud.
        idle_percent: Processor time of all its processes at rest [% of one core].
    """

    up_s: list[float] = field(default_factory=list)
    all_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    microvms: list[int] = field(default_factory=list)
    idle_percent: list[float] = field(default_factory=list)


async def run_fog(
    setup: BootSetup,
    description: Path,
    make_cloud: CloudFactory,
    *,
    quick: bool,
    progress: OnProgress = lambda _: None,
) -> Report:
    """Bring the fog scenario up and down several times, beside as many bare guests, and report.

    Args:
        setup: Where images and QEMU are.
        description: The scenario.
        make_cloud: Gives the cloud of a description; no cloud of that name is up.
        quick: Few rounds and a short rest: good to see that it works, not to judge by.
        progress: Told of every round.

    Raises:
        TransientDriverError: The cloud did not come up, or its bare guests stayed silent.
    """
    found, rounds = Found(), QUICK_ROUNDS if quick else ROUNDS
    for number in range(rounds + 1):
        progress(Progress(phase="fog up and down", done=number, total=rounds + 1))
        # The first round builds images and fills the page cache; it is not counted.
        await _round(setup, make_cloud(description), found if number else Found(), rest_s=0.0)
    progress(Progress(phase="fog at rest", done=rounds, total=rounds + 1))
    await _round(setup, make_cloud(description), found, rest_s=QUICK_REST_S if quick else REST_S)
    return report(found)


async def _round(setup: BootSetup, cloud: BenchCloud, found: Found, *, rest_s: float) -> None:
    await asyncio.sleep(CLEARED_AFTER_S)
    started_ns, started = time.time_ns(), time.monotonic()
    try:
        rows = await cloud.up()
        found.all_s.append(time.monotonic() - started)
        names = {row.name for row in rows if row.kind == Kind.MICROVM}
        found.up_s.append((_last_ready_ns(cloud, names) - started_ns) / 1e9)
        found.microvms.append(len(names))
        if rest_s:
            found.idle_percent.append(await _idle_percent(cloud, rows, rest_s))
    finally:
        await cloud.down()
    await asyncio.sleep(CLEARED_AFTER_S)
    found.bare_s.append(await _bare_s(setup, len(names)))


def _last_ready_ns(cloud: BenchCloud, names: set[str]) -> int:
    """Give the instant at which the last of ``names`` first answered [ns since the epoch]."""
    ready = {event.subject: event.at.ns for _, event in cloud.events() if event.what == "instance-ready"}
    return max(ready[name] for name in names)


async def _idle_percent(cloud: BenchCloud, rows: Sequence[InstanceRow], rest_s: float) -> float:
    """Give the processor time of all the cloud's processes while its devices are stopped [% of one core]."""
    keeper = (await cloud.status()).keeper_pid
    if keeper is None:
        raise TransientDriverError("the cloud went down while it was measured; run the benchmark again")
    for row in rows:
        if row.is_workload and row.pid is not None:
            os.kill(row.pid, signal.SIGSTOP)
    await asyncio.sleep(SETTLE_S)
    before, begin = tree_cpu_seconds(keeper), time.monotonic()
    await asyncio.sleep(rest_s)
    return 100 * (tree_cpu_seconds(keeper) - before) / (time.monotonic() - begin)


async def _bare_s(setup: BootSetup, count: int) -> float:
    """Spawn ``count`` bare guests at once; give the time from the first spawn to the last answer [s]."""
    setup.cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fog-", dir=setup.cache))
    try:
        plan = BootPlan(
            runs=0,
            crowd=count,
            memory_bytes=GUEST_MEMORY_BYTES,
            folder=folder,
            qemu=setup.qemu,
            accelerator=setup.accelerator,
            images=find_images(setup.artifacts),
            server=None,
            container=None,
            linux=None,
        )
        results = await run_worker(plan, lambda _: None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    crowd_ms = results[boot_plan.MICROVM].crowd_ms
    if crowd_ms is None:
        raise TransientDriverError(f"not all of {count} bare guests answered; run the benchmark again")
    return crowd_ms / 1000


def report(found: Found) -> Report:
    """Give the report of what the rounds found."""
    added = [
        1000 * (up - bare) / count for up, bare, count in zip(found.up_s, found.bare_s, found.microvms, strict=True)
    ]
    return Report(
        bench="fog",
        machine=machine_facts(),
        versions=versions(VERSIONS),
        figures=(
            Figure.of_samples(
                "fog_up_s",
                found.up_s,
                unit="s",
                bar=UP_BAR,
                note=f"from the call of `up` to the last of {found.microvms[0]} microvms answering; images built",
            ),
            Figure.of_samples(
                "added_ms_per_instance",
                added,
                unit="ms",
                bar=ADDED_BAR,
                note="(fog_up_s - the same number of bare guests spawned at once) / their number, within each round",
            ),
            Figure.of_samples(
                "idle_cpu_percent",
                found.idle_percent,
                unit="% of one core",
                bar=IDLE_BAR,
                note="all processes of the fog cloud, its devices stopped",
            ),
        ),
        raw={"fog": _cases(found)},
    )


def _cases(found: Found) -> dict[str, Any]:
    cases = {"last microvm answers": found.up_s, "all well": found.all_s, "bare guests": found.bare_s}
    return {
        name: {
            "unit": "s",
            "median": statistics.median(times),
            "min": min(times),
            "p95": max(times),
            "samples_s": times,
        }
        for name, times in cases.items()
    }
