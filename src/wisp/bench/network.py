"""The network benchmark: how long networks of routers take to come and go, what they cost, and how true links are."""

import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wisp.bench import network_worker
from wisp.bench.accuracy import accuracy
from wisp.bench.churn import unsafe_sequences
from wisp.bench.cloud import CloudFactory
from wisp.bench.figures import Figure, Report
from wisp.bench.inside import done_inside
from wisp.bench.machine import machine_facts, versions
from wisp.bench.network_worker import Result, Task
from wisp.bench.worker import OnProgress
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.process import kill_keeper, start_keeper
from wisp.model.view import Progress
from wisp.primitives.errors import StateError
from wisp.primitives.values import frozen

BARS = {
    "routers_1000_s": "creation <= 2, removal <= 3",
    "router_memory_bytes": "<= 838860",
    "all_pairs_1000_s": "<= 12",
    "zoo_190_s": "<= 2",
    "unsafe_steps": "<= 0",
}
PAIRS = 1_000
Importer = Callable[[Path], Mapping[str, Any]]


@frozen
class Size:
    """How large and how often."""

    routers: int
    links: int
    routes: int
    rounds: int
    sequences: int
    changes: int


FULL = Size(routers=1000, links=2000, routes=20, rounds=5, sequences=1000, changes=50)
QUICK = Size(routers=100, links=200, routes=20, rounds=2, sequences=100, changes=5)
SEED, CHANGES_EACH = 7, 6


async def run_network(
    native: Path,
    make_cloud: CloudFactory,
    zoo: Path,
    import_topology: Importer,
    *,
    quick: bool,
    progress: OnProgress = lambda _: None,
) -> Report:
    """Make and take away networks, and report.

    Args:
        native: ``wisp-native``.
        make_cloud: Gives a cloud of a description.
        zoo: A network of about 190 routers, as the Topology Zoo has it.
        import_topology: Gives the description of such a file, and how large it is.
        quick: Small networks, few times: good to see that it works, not to judge by.
        progress: Told of each step.

    Raises:
        TransientDriverError: A network could not be made.
    """
    size = QUICK if quick else FULL
    results = []
    for number in range(size.rounds):
        progress(Progress(phase=f"{size.routers} routers", done=number, total=size.rounds + 1))
        results.append(await _graph(native, size))
    figures = []
    for name, measure in (
        ("every pair", _all_pairs(native, size)),
        (zoo.name, _zoo(native, make_cloud, zoo, import_topology, rounds=size.rounds)),
        ("changes", _unsafe_steps(native, size)),
    ):
        progress(Progress(phase=name, done=size.rounds, total=size.rounds + 1))
        figures.append(await measure)
    progress(Progress(phase="accuracy of links", done=size.rounds, total=size.rounds + 1))
    figures += await accuracy(make_cloud, quick=quick)
    return report(size, results, figures)


async def _graph(native: Path, size: Size) -> Result:
    return await _done(native, routers=size.routers, links=size.links, routes=size.routes)


async def _all_pairs(native: Path, size: Size) -> Figure:
    name, samples = "all_pairs_1000_s", []
    for _ in range(max(1, size.rounds // 2)):
        result = await _done(native, routers=size.routers, links=size.links, pairs=PAIRS)
        if result.arrived < PAIRS:
            return Figure.missing(name, f"only {result.arrived} of {PAIRS} probes arrived", bar=BARS[name])
        samples.append(result.creation_s)
    note = (
        f"{size.routers} routers, {size.links} links, every pair over all quickest paths, IPv4 and IPv6, from the graph"
        f" to its network; then {PAIRS} probes all arrived"
    )
    return Figure.of_samples(name, samples, unit="s", bar=BARS[name], note=note)


async def _unsafe_steps(native: Path, size: Size) -> Figure:
    rng = random.Random(SEED)  # noqa: S311 - not for secrets
    unsafe = await asyncio.to_thread(unsafe_sequences, size.sequences, CHANGES_EACH, rng)
    result = await _done(native, changes=size.changes)
    return Figure(
        name="unsafe_steps",
        value={"model": unsafe, "lost probes": result.sent - result.arrived},
        unit="",
        samples=size.sequences,
        bar=BARS["unsafe_steps"],
        note=f"{size.sequences} sequences of {CHANGES_EACH} random changes on the model, every step looked at;"
        f" {size.changes} real ones of 10 routers, {result.sent} probes between those always joined",
    )


async def _done(native: Path, **what: int) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="wisp-network-"))
    identity = await start_keeper(native, folder)
    task = Task(keeper=str(folder), native=str(native), **what)
    try:
        async with await KeeperClient.connect(folder) as keeper:
            return await done_inside(keeper, folder, network_worker, task, Result)
    finally:
        await kill_keeper(identity)
        shutil.rmtree(folder, ignore_errors=True)


async def _zoo(native: Path, make_cloud: CloudFactory, zoo: Path, import_topology: Importer, *, rounds: int) -> Figure:
    if not zoo.is_file():
        return Figure.missing(
            "zoo_190_s", f"no {zoo.name} of the Topology Zoo beside this checkout", bar=BARS["zoo_190_s"]
        )
    samples = [await _zoo_round(native, make_cloud, zoo, import_topology) for _ in range(rounds)]
    times_s = [seconds for seconds, _ in samples]
    worst = min(arrived for _, arrived in samples)
    if worst < PAIRS:
        return Figure.missing("zoo_190_s", f"only {worst} of {PAIRS} probes arrived", bar=BARS["zoo_190_s"])
    note = f"{zoo.name}, from the file to a cloud that is up, delays and IPv6 included; then {PAIRS} probes all arrived"
    return Figure.of_samples("zoo_190_s", times_s, unit="s", bar=BARS["zoo_190_s"], note=note)


async def _zoo_round(native: Path, make_cloud: CloudFactory, zoo: Path, import_topology: Importer) -> tuple[float, int]:
    """Give how long it took [s], and how many probes of random pairs arrived."""
    folder = Path(tempfile.mkdtemp(prefix="wisp-network-"))
    try:
        begin = time.monotonic()
        description = folder / "zoo.yaml"
        description.write_text(import_topology(zoo)["description"])
        cloud = make_cloud(description)
        try:
            await cloud.up()
            took_s = time.monotonic() - begin
            keeper_folder = cloud.folder.path
            task = Task(keeper=str(keeper_folder), native=str(native), pairs=PAIRS)
            async with await KeeperClient.connect(keeper_folder) as keeper:
                result = await done_inside(keeper, folder, network_worker, task, Result)
        finally:
            await cloud.down()
        return took_s, result.arrived
    except OSError as error:
        raise StateError(f"the benchmark of {zoo}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(size: Size, results: list[Result], more: Sequence[Figure]) -> Report:
    """Give the report of what was found."""
    creation = statistics.median(result.creation_s for result in results)
    removal = statistics.median(result.removal_s for result in results)
    memory = [round(result.memory_bytes / size.routers) for result in results]
    what = f"{size.routers} routers, {size.links} links of a random graph, {size.routes} routes each, IPv4 and IPv6"
    return Report(
        bench="network",
        machine=machine_facts(),
        versions=versions({}),
        figures=(
            Figure(
                name="routers_1000_s",
                value={"creation": creation, "removal": removal},
                unit="s",
                samples=len(results),
                bar=BARS["routers_1000_s"],
                note=f"{what}; removal until the kernel has taken all away",
            ),
            Figure.of_samples(
                "router_memory_bytes",
                memory,
                unit="byte",
                bar=BARS["router_memory_bytes"],
                note="what the machine has less of, by router, links and routes included",
            ),
            *more,
        ),
        raw={
            "cases": {
                name: {"unit": "s", "median": statistics.median(values), "min": min(values), "p95": max(values)}
                for name, values in (
                    (f"{size.routers} routers made", [result.creation_s for result in results]),
                    (f"{size.routers} routers taken away", [result.removal_s for result in results]),
                )
            }
        },
    )
