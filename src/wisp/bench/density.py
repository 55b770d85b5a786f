"""The density benchmark: how many instances one machine holds, what each costs it, how long all take to come and go."""

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wisp.bench import density_worker
from wisp.bench.boot import BootSetup
from wisp.bench.density_worker import Result, Task, reckoned_bytes
from wisp.bench.figures import Figure, Report
from wisp.bench.inside import done_inside
from wisp.bench.machine import machine_facts, versions
from wisp.bench.worker import OnProgress
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.process import kill_keeper, start_keeper
from wisp.model.description import Kind
from wisp.model.view import Progress
from wisp.primitives.values import frozen

COUNTS = {Kind.SPT: 10_000, Kind.MICROVM: 500}
QUICK_COUNTS = {Kind.SPT: 500, Kind.MICROVM: 20}
NAMES = {"spt": Kind.SPT, "microvm": Kind.MICROVM}
BARS = {
    "instances_spt": ">= 10000",
    "instances_microvm": ">= 500",
    "memory_bytes_each": "spt <= 500000, microvm <= 20000000",
    "reckoned_over_real_memory": ">= 1",
    "spt_start_10000_s": "start <= 15, removal <= 60",
}


@frozen
class Crowd:
    """What came of one kind."""

    result: Result
    removal_s: float
    count: int


async def run_density(
    setup: BootSetup, native: Path, search_path: str, *, quick: bool, progress: OnProgress = lambda _: None
) -> Report:
    """Start as many as shall fit of each kind, and report.

    Args:
        setup: Where images are.
        native: ``wisp-native``.
        search_path: Where QEMU is looked for.
        quick: Few instances: good to see that it works, not to judge by.
        progress: Told of each step.

    Raises:
        TransientDriverError: They could not be started at all.
    """
    crowds = {}
    for number, (kind, count) in enumerate((QUICK_COUNTS if quick else COUNTS).items()):
        progress(Progress(phase=f"{count} of {kind} at once", done=number, total=2))
        task = Task(
            kind=str(kind),
            count=count,
            native=str(native),
            artifacts=str(setup.artifacts),
            accelerator=setup.accelerator,
            search_path=search_path,
        )
        crowds[kind] = await _crowd(task)
    return report(crowds)


async def _crowd(task: Task) -> Crowd:
    folder = Path(tempfile.mkdtemp(prefix="wisp-density-"))
    identity = await start_keeper(Path(task.native), folder)
    try:
        async with await KeeperClient.connect(folder) as keeper:
            result = await done_inside(keeper, folder, density_worker, task, Result)
            begin = time.monotonic()
            await keeper.shutdown()
        return Crowd(result=result, removal_s=time.monotonic() - begin, count=task.count)
    finally:
        await kill_keeper(identity)
        shutil.rmtree(folder, ignore_errors=True)


def report(crowds: Mapping[Kind, Crowd]) -> Report:
    """Give the report of what was found."""
    spt, microvm = crowds[Kind.SPT], crowds[Kind.MICROVM]
    each = {name: round(crowds[kind].result.memory_bytes / crowds[kind].count) for name, kind in NAMES.items()}
    return Report(
        bench="density",
        machine=machine_facts(),
        versions=versions({"qemu": ("qemu-system-x86_64", "--version")}),
        figures=(
            _answering("instances_spt", spt),
            _answering("instances_microvm", microvm),
            Figure(
                name="memory_bytes_each",
                value=each,
                unit="byte",
                samples=2,
                bar=BARS["memory_bytes_each"],
                note="what the machine has less of, by instance: processes, kernel and taps included",
            ),
            Figure(
                name="reckoned_over_real_memory",
                value={name: reckoned_bytes(kind) / each[name] for name, kind in NAMES.items()},
                samples=2,
                bar=BARS["reckoned_over_real_memory"],
                note="what the planner reckons with, memory and hypervisor, over what one really takes at rest",
            ),
            Figure(
                name="spt_start_10000_s",
                value={"start": spt.result.start_s, "removal": spt.removal_s},
                unit="s",
                samples=1,
                bar=BARS["spt_start_10000_s"],
                note=f"{spt.count} of them: from nothing to all answering, {spt.result.network_s:.1f} s of it network",
            ),
        ),
        raw={
            "cases": {
                f"memory of one {name} of {crowd.count}": {
                    "unit": "byte",
                    "median": each[name],
                    "min": each[name],
                    "p95": each[name],
                }
                for name, crowd in (("spt", spt), ("microvm", microvm))
            },
            "crowds": {
                str(kind): msgspec.to_builtins(crowd.result) | {"removal_s": crowd.removal_s, "count": crowd.count}
                for kind, crowd in crowds.items()
            },
        },
    )


def _answering(name: str, crowd: Crowd) -> Figure:
    return Figure(
        name=name,
        value=crowd.result.answering,
        samples=1,
        bar=BARS[name],
        note=f"of {crowd.count} started, each with its own NIC, asked at the end while all run",
    )
