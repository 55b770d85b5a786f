"""The fault benchmark: how long traffic stops when a link breaks, and until what ran on a lost host answers."""

import asyncio
import re
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from wisp.bench.cloud import BenchCloud
from wisp.bench.figures import Figure, Report
from wisp.bench.machine import machine_facts, versions
from wisp.bench.worker import OnProgress
from wisp.model.fault import Fault
from wisp.model.view import InstanceRow, Progress
from wisp.primitives.errors import TransientDriverError

ROUNDS, QUICK_ROUNDS = 20, 3
DETECTION_S = 1
PING_EVERY_S = 0.002
LED_AROUND_WITHIN_S, SERVED_WITHIN_S, LOOK_EVERY_S = 1.5, 20.0, 0.05
LINK_BAR, HOST_BAR = "<= 10", f"<= {DETECTION_S + 1}"
# Of a triangle, both ends of a side have a neighbour that leads around it; of a ring of four only one of them.
SIDE, RING = "side-1", "ring-1"
DESCRIPTION = f"""\
cloud: bench-fault
sites: {{here: {{}}, there: {{}}}}
faults: {{detection: {DETECTION_S}s}}
hosts:
  near: {{site: here, cpu: 1, memory: 1GiB}}
  far: {{site: there, cpu: 1, memory: 1GiB}}
  spare: {{site: there, cpu: 1, memory: 1GiB}}
routing: {{backups: true}}
routers: {{aside: {{}}, middle: {{}}, north: {{}}, south: {{}}, end: {{}}}}
links:
  {SIDE}: {{between: [near, middle]}}
  side-2: {{between: [near, aside], delay: 10us}}
  side-3: {{between: [aside, middle], delay: 10us}}
  {RING}: {{between: [middle, north]}}
  ring-2: {{between: [north, end]}}
  ring-3: {{between: [middle, south], delay: 10us}}
  ring-4: {{between: [south, end], delay: 10us}}
  far: {{between: [end, far]}}
  spare: {{between: [end, spare]}}
images: {{page: {{role: web}}}}
vnfds: {{web: {{vdus: {{main: {{kind: unikernel/spt, image: page, memory: 8MiB}}}}}}}}
network_services: {{all: {{vnfs: {{web: {{vnfd: web, placement: {{sites: [there]}}}}}}}}}}
"""
_AT = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes", re.MULTILINE)


class BreakableCloud(BenchCloud, Protocol):
    """A cloud that can be broken on purpose."""

    async def fault(self, kind: str, name: str, action: str) -> list[Fault]:
        """Break something or mend it; return once the network shows it."""
        ...


class BreakableFactory(Protocol):
    """Gives the cloud of a description."""

    def __call__(self, description: Path, /) -> BreakableCloud:
        """Give it."""
        ...


async def run_fault(make_cloud: BreakableFactory, *, quick: bool, progress: OnProgress = lambda _: None) -> Report:
    """Break a link under a stream of packets and a host under an instance, again and again, and report.

    Args:
        make_cloud: Gives the cloud of a description.
        quick: Fewer rounds.
        progress: Told of each step.

    Raises:
        TransientDriverError: The cloud did not come up, or what broke was not made good.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as folder:
        description = Path(folder) / "cloud.yaml"
        description.write_text(DESCRIPTION)
        cloud = make_cloud(description)
        gaps_ms: dict[str, list[float]] = {SIDE: [], RING: []}
        hosts_s = []
        try:
            await cloud.up()
            for number in range(rounds):
                progress(Progress(phase="links", done=number, total=rounds))
                for link, gaps in gaps_ms.items():
                    gaps.append(await _gap_ms(link, cloud))
            for number in range(rounds):
                progress(Progress(phase="hosts", done=number, total=rounds))
                hosts_s.append(await _served_again_s(cloud))
        finally:
            await cloud.down()
    return report(gaps_ms[SIDE], gaps_ms[RING], hosts_s)


async def _gap_ms(link: str, cloud: BreakableCloud) -> float:
    """Break a link that packets take, and give the longest time without an answer [ms]."""
    address = str((await _row(cloud)).address)
    ping = ["ping", "-n", "-D", "-i", str(PING_EVERY_S), "-w", "3", address]
    pinging = asyncio.create_task(cloud.run("near", ping))
    await asyncio.sleep(LED_AROUND_WITHIN_S)
    await cloud.fault("link", link, "down")
    _, output = await pinging
    await cloud.fault("link", link, "up")
    times_s = [float(text) for text in _AT.findall(output)]
    if len(times_s) < LED_AROUND_WITHIN_S / PING_EVERY_S / 2:
        raise TransientDriverError(f"only {len(times_s)} answers while a link broke: {output[-400:]}")
    return 1000 * max(after - before for before, after in pairwise(times_s))


async def _served_again_s(cloud: BreakableCloud) -> float:
    """Take the power of the instance's host, and give how long it took until it answered elsewhere [s]."""
    host, newest = (await _row(cloud)).host, cloud.events()[-1][0]
    await cloud.fault("host", host, "down")
    await _until_served_without(host, cloud)
    events = [event for number, event in cloud.events() if number > newest]
    begun = next(event.at for event in events if event.what == "fault")
    answers = next(event.at for event in reversed(events) if event.what == "instance-ready")
    await cloud.fault("host", host, "up")
    return (answers - begun).seconds


async def _until_served_without(host: str, cloud: BenchCloud) -> None:
    for _ in range(int(SERVED_WITHIN_S / LOOK_EVERY_S)):
        row = await _row(cloud)
        if row.host != host and row.is_well:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    raise TransientDriverError(f"what ran on {host} does not answer elsewhere after {SERVED_WITHIN_S:g} s")


async def _row(cloud: BenchCloud) -> InstanceRow:
    (row,) = await cloud.ps()
    return row


def report(gaps_ms: list[float], planned_ms: list[float], hosts_s: list[float]) -> Report:
    """Give the report.

    Args:
        gaps_ms: Without an answer after a link broke that both ends have a backup for [ms].
        planned_ms: After one that only one end has a backup for [ms].
        hosts_s: Until a lost host's instance answered elsewhere [s].
    """
    gap = f"longest time without an answer to a ping every {1000 * PING_EVERY_S:g} ms while a link loses its carrier"
    return Report(
        bench="fault",
        machine=machine_facts(),
        versions=versions({"ping": ("ping", "-V")}),
        figures=(
            Figure.of_samples(
                "bypass_carrier_ms",
                gaps_ms,
                unit="ms",
                bar=LINK_BAR,
                note=f"{gap}; both of its ends have a backup",
            ),
            Figure.of_samples(
                "replan_carrier_ms", planned_ms, unit="ms", note=f"{gap}; one of its ends waits for a new plan"
            ),
            Figure.of_samples(
                "host_down_to_serving_s",
                hosts_s,
                unit="s",
                bar=HOST_BAR,
                note=f"detection after {DETECTION_S} s is in it; until an spt `web` elsewhere answers its health check",
            ),
        ),
        raw={"fault": {"gaps_ms": gaps_ms, "planned_ms": planned_ms, "host_down_to_serving_s": hosts_s}},
    )
