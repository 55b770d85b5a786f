"""The summon benchmark: how long it takes to be answered by an instance that sleeps, beside peers started from zero.

One cloud holds sleeping instances of every kind; a program on one of its devices asks them, by name or by address.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wisp.bench import asker, boot_plan
from wisp.bench.asker import Outcome
from wisp.bench.boot import BootSetup, run_cases
from wisp.bench.change import Changed, ask_while_it_changes, failed_requests
from wisp.bench.cloud import BenchCloud, CloudFactory, tree_cpu_seconds
from wisp.bench.figures import Figure, Report, percentile
from wisp.bench.machine import machine_facts, versions
from wisp.bench.worker import OnProgress
from wisp.model.view import Progress
from wisp.primitives.errors import TransientDriverError
from wisp.primitives.values import frozen

ZONE = "bench-summon.internal"
IDLE_MS = 200
SETTLE_S, REST_S, QUICK_REST_S = 4.0, 20.0, 5.0
SPT_NAMES, VM_NAMES, BURST, SLEEPING, RUNNING = 20, 4, 200, 500, 100
FAST_BAR, NEXT_BAR, POOL_BAR = "median <= 2, p99 <= 8", "median <= 1.2, p99 <= 5", "median <= 10, p99 <= 30"
BARS = {
    "dns_to_byte_spt_ms": FAST_BAR,
    "dns_to_byte_pool_ms": POOL_BAR,
    "dns_to_byte_cold_over_boot": "<= 1.5",
    "packet_to_byte_spt_ms": NEXT_BAR,
    "packet_to_byte_pool_ms": POOL_BAR,
    "worst_of_1000_ms": "<= 200",
    "burst_200_s": "spt <= 0.3, microvm <= 6",
    "idle_cpu_percent": "<= 5",
}
HEAD = """\
cloud: bench-summon
sites: {edge: {pool_memory: 256MiB}}
hosts: {h1: {site: edge, cpu: 1000, memory: 64GiB}}
access_points: {ap: {host: h1}}
devices: {client: {access_point: ap}}
images:
  page: {role: web}
  warm: {role: web, pool_size: 4}
vnfds:
  spt: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB, cpu: 10m}}}
  cold: {vdus: {main: {kind: unikernel/microvm, image: page, memory: 16MiB, cpu: 10m}}}
  warm: {vdus: {main: {kind: unikernel/microvm, image: warm, memory: 16MiB, cpu: 10m}}}
network_services:
  bench:
    vnfs:
"""


@frozen
class Amount:
    """How often each thing is measured."""

    spt: int
    pool: int
    cold: int
    random: int
    bursts: int
    peers: int
    rest_s: float


WHOLE = Amount(spt=400, pool=100, cold=20, random=1000, bursts=5, peers=5, rest_s=REST_S)
QUICK = Amount(spt=40, pool=8, cold=4, random=100, bursts=1, peers=2, rest_s=QUICK_REST_S)


@dataclass
class Found:
    """What came of all requests by case, and what else was found."""

    times: dict[str, list[Outcome]] = field(default_factory=dict)
    bursts_s: dict[str, list[float]] = field(default_factory=dict)
    idle_percent: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)
    changed: Changed = field(default_factory=Changed)


async def run_summon(
    setup: BootSetup, make_cloud: CloudFactory, *, quick: bool, progress: OnProgress = lambda _: None
) -> Report:
    """Ask sleeping instances in every way and report.

    Args:
        setup: Where the peers' programs are.
        make_cloud: Gives the cloud of a description.
        quick: Few requests: good to see that it works, not to judge by.
        progress: Told of each step.

    Raises:
        TransientDriverError: A cloud did not come up.
    """
    found, amount = Found(), QUICK if quick else WHOLE
    found.peers = await run_cases(setup, runs=amount.peers, progress=progress)
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as folder:
        description = Path(folder) / "cloud.yaml"
        description.write_text(HEAD + _lines(_asked_names()))
        await _with(make_cloud(description), _ask_all, found, amount, progress)
        description.write_text(HEAD + _lines(_resting_names()))
        await _with(make_cloud(description), _rest, found, amount, progress)
        found.changed = await ask_while_it_changes(make_cloud, Path(folder), quick=quick, progress=progress)
    return report(found)


def _asked_names() -> dict[str, tuple[str, bool]]:
    """Give VNFD and whether it sleeps, by name."""
    names = {f"spt{number}": ("spt", True) for number in range(BURST)}
    names |= {f"cold{number}": ("cold", True) for number in range(BURST)}
    return names | {f"warm{number}": ("warm", True) for number in range(VM_NAMES)}


def _resting_names() -> dict[str, tuple[str, bool]]:
    kinds = ("spt", "cold")
    names = {f"asleep{number}": (kinds[number % 2], True) for number in range(SLEEPING)}
    return names | {f"awake{number}": (kinds[number % 2], False) for number in range(RUNNING)}


def _lines(names: Mapping[str, tuple[str, bool]]) -> str:
    asleep = f", min_instances: 0, idle_timeout: {IDLE_MS}ms"
    return "".join(
        f"      {name}: {{vnfd: {vnfd}{asleep if sleeps else ''}}}\n" for name, (vnfd, sleeps) in names.items()
    )


async def _with(cloud: BenchCloud, measure: Any, found: Found, amount: Amount, progress: OnProgress) -> None:
    try:
        rows = await cloud.up()
        await measure(cloud, {row.name: str(row.address) for row in rows}, found, amount, progress)
    finally:
        await cloud.down()


async def _ask_all(
    cloud: BenchCloud, addresses: Mapping[str, str], found: Found, amount: Amount, progress: OnProgress
) -> None:
    names = {
        "spt": [f"spt{number}.{ZONE}" for number in range(SPT_NAMES)],
        "pool": [f"warm{number}.{ZONE}" for number in range(VM_NAMES)],
        "cold": [f"cold{number}.{ZONE}" for number in range(VM_NAMES)],
    }
    await asyncio.sleep(SETTLE_S)
    # So that each has slept for a while when its turn comes again, and the pool is full.
    gaps_s = {"spt": 0.025, "pool": 0.6, "cold": 0.3}
    rounds = {"spt": amount.spt, "pool": amount.pool, "cold": amount.cold}
    for number, (kind, targets) in enumerate(names.items()):
        progress(Progress(phase=f"asking for {kind} by name and by address", done=number, total=5))
        by_address = [addresses[target.partition(".")[0]] for target in targets]
        # One round that is not counted: images are read, pages are in the cache.
        await _ask(cloud, "turn", targets, rounds=len(targets), gap_s=gaps_s[kind], by_name=True)
        await asyncio.sleep(1.0)
        for way, asked in (("dns", targets), ("packet", by_address)):
            found.times[f"{way} {kind}"] = await _ask(
                cloud, "turn", asked, rounds=rounds[kind], gap_s=gaps_s[kind], by_name=way == "dns"
            )
            await asyncio.sleep(1.0)
    progress(Progress(phase=f"{amount.random} requests at random moments", done=3, total=5))
    targets = [f"spt{number}.{ZONE}" for number in range(5)] + names["pool"]
    gap_s = IDLE_MS / 1000 / len(targets)
    found.times["random"] = await _ask(cloud, "random", targets, rounds=amount.random, gap_s=gap_s, by_name=True)
    progress(Progress(phase=f"{BURST} names at once", done=4, total=5))
    for kind, count in (("spt", amount.bursts), ("cold", max(1, amount.bursts // 2))):
        for _ in range(count):
            await asyncio.sleep(SETTLE_S)
            times = await _ask(cloud, "burst", [f"{kind}{number}.{ZONE}" for number in range(BURST)])
            found.times.setdefault(f"burst {kind}", []).extend(times)
            answered = _times(times)
            found.bursts_s.setdefault(kind, []).append(max(answered, default=0) / 1000)


async def _ask(
    cloud: BenchCloud, how: str, targets: Sequence[str], *, rounds: int = 0, gap_s: float = 0, by_name: bool = True
) -> list[Outcome]:
    """Have the device ask; give what came of each request."""
    with tempfile.NamedTemporaryFile("w", prefix="wisp-ask-", suffix=".json") as task:
        json.dump({"how": how, "targets": list(targets), "rounds": rounds, "gap_s": gap_s, "by_name": by_name}, task)
        task.flush()
        status, output = await cloud.run("client", [sys.executable, "-I", str(asker.__file__), task.name])
    if status:
        raise TransientDriverError(f"the asking program failed: {output[-400:]}")
    times: list[Outcome] = json.loads(output)
    return times


async def _rest(
    cloud: BenchCloud, addresses: Mapping[str, str], found: Found, amount: Amount, progress: OnProgress
) -> None:
    """Measure what many cost of which most sleep and some run, and nobody asks."""
    del addresses
    progress(Progress(phase=f"{SLEEPING} asleep, {RUNNING} running, all idle", done=4, total=5))
    keeper = (await cloud.status()).keeper_pid
    if keeper is None:
        raise TransientDriverError("the cloud went down while it was measured; run the benchmark again")
    await asyncio.sleep(SETTLE_S)
    before, begin = tree_cpu_seconds(keeper), time.monotonic()
    await asyncio.sleep(amount.rest_s)
    found.idle_percent.append(100 * (tree_cpu_seconds(keeper) - before) / (time.monotonic() - begin))


def report(found: Found) -> Report:
    """Give the report of what was found."""
    boot = found.peers.get(boot_plan.MICROVM, [])
    return Report(
        bench="summon",
        machine=machine_facts(),
        versions=versions({"qemu": ("qemu-system-x86_64", "--version")}),
        figures=(
            _percentiles("dns_to_byte_spt_ms", found.times["dns spt"], "from the DNS query to the first byte"),
            _percentiles("dns_to_byte_pool_ms", found.times["dns pool"], "the same, microvm from the warm pool"),
            _over_boot(found.times["dns cold"], boot),
            _percentiles(
                "packet_to_byte_spt_ms", found.times["packet spt"], "from `connect` to the first byte, no DNS"
            ),
            _percentiles("packet_to_byte_pool_ms", found.times["packet pool"], "the same, microvm from the warm pool"),
            _worst(found.times),
            _burst(found),
            Figure.of_samples(
                "idle_cpu_percent",
                found.idle_percent,
                unit="% of one core",
                bar=BARS["idle_cpu_percent"],
                note=f"{SLEEPING} asleep and {RUNNING} running, half spt and half microvm, all processes of the cloud",
            ),
            failed_requests(found.changed),
            _peers(found),
        ),
        raw={
            "cases": _cases(found),
            "lost": {case: _lost(times) for case, times in found.times.items()},
            "failed": found.changed.why,
        },
    )


def _times(outcomes: Sequence[Outcome]) -> list[float]:
    """Give the times of the requests that were answered [ms]."""
    return [each for each in outcomes if not isinstance(each, str)]


def _lost(outcomes: Sequence[Outcome]) -> list[str]:
    """Say why the others were lost."""
    return [each for each in outcomes if isinstance(each, str)]


def _percentiles(name: str, times: Sequence[Outcome], note: str) -> Figure:
    answered = _times(times)
    if not answered:
        return Figure.missing(name, "no request was answered", unit="ms", bar=BARS[name])
    return Figure(
        name=name,
        value={"median": percentile(answered, 50), "p99": percentile(answered, 99)},
        unit="ms",
        samples=len(answered),
        spread=(min(answered), percentile(answered, 95)),
        bar=BARS[name],
        note=f"{note}; {len(times) - len(answered)} lost",
    )


def _over_boot(times: Sequence[Outcome], boot: Sequence[float]) -> Figure:
    name, answered = "dns_to_byte_cold_over_boot", _times(times)
    if not answered or not boot:
        return Figure.missing(name, "nothing to compare", bar=BARS[name])
    boot_ms = percentile(boot, 50)
    ratios = [each / boot_ms for each in answered]
    note = f"microvm started cold by a DNS query, over a cold boot of the same run ({boot_ms:.1f} ms)"
    return Figure.of_samples(name, ratios, bar=BARS[name], note=note)


def _worst(times: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Give the longest of all requests but cold starts and bursts; one that was lost took for ever."""
    of = [each for case in ("random", "dns spt", "packet spt", "dns pool", "packet pool") for each in times[case]]
    if lost := _lost(of):
        why = f"{len(lost)} of {len(of)} requests were lost, one of them to {lost[0]}"
        return Figure.missing("worst_of_1000_ms", why, bar=BARS["worst_of_1000_ms"])
    answered = _times(of)
    return Figure(
        name="worst_of_1000_ms",
        value=max(answered),
        unit="ms",
        samples=len(answered),
        spread=(min(answered), percentile(answered, 95)),
        bar=BARS["worst_of_1000_ms"],
        note=f"spt and pool, {len(times['random'])} of them at random moments; none lost",
    )


def _burst(found: Found) -> Figure:
    if lost := [each for kind in found.bursts_s for each in _lost(found.times[f"burst {kind}"])]:
        why = f"{len(lost)} requests were lost, one of them to {lost[0]}"
        return Figure.missing("burst_200_s", why, unit="s", bar=BARS["burst_200_s"])
    spt, cold = found.bursts_s["spt"], found.bursts_s["cold"]
    return Figure(
        name="burst_200_s",
        value={"spt": percentile(spt, 50), "microvm": percentile(cold, 50)},
        unit="s",
        samples=len(spt) + len(cold),
        spread=(min(spt), max(cold)),
        bar=BARS["burst_200_s"],
        note=f"{BURST} sleeping names asked at once, until the last first byte; all answered",
    )


def _peers(found: Found) -> Figure:
    if not found.peers:
        return Figure.missing("from_zero_ms", "no peer could be started here", unit="ms")
    value = {name.replace(" ", "_"): percentile(times, 50) for name, times in found.peers.items()}
    note = "what a user would pick instead, from spawn to first byte, names already known"
    return Figure(name="from_zero_ms", value=value, unit="ms", samples=sum(map(len, found.peers.values())), note=note)


def _cases(found: Found) -> dict[str, Any]:
    measured = {case: _times(times) for case, times in found.times.items()}
    measured |= {f"{name}, from zero": times for name, times in found.peers.items()}
    return {
        name: {
            "unit": "ms",
            "median": percentile(times, 50),
            "min": min(times),
            "p95": percentile(times, 95),
            "samples_ms": times,
        }
        for name, times in measured.items()
        if times
    }
