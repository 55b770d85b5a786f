"""The link benchmark: how near a link's delay comes to what was declared."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wisp.bench.cloud import BenchCloud, CloudFactory
from wisp.bench.figures import Figure, Report, percentile
from wisp.bench.machine import machine_facts, versions
from wisp.bench.worker import OnProgress
from wisp.model.view import Progress
from wisp.primitives.errors import TransientDriverError

REQUESTS, QUICK_REQUESTS = 100, 20
DELAY_MS = 10
BAR = "p50 <= 0.3, p95 <= 2"
DESCRIPTION = f"""\
cloud: bench-link
sites: {{here: {{}}, there: {{}}}}
hosts:
  near: {{site: here, cpu: 1, memory: 1GiB}}
  far: {{site: there, cpu: 1, memory: 1GiB}}
links:
  between: {{between: [near, far], delay: {DELAY_MS}ms}}
vnfds:
  target:
    vdus:
      main: {{kind: process, command: [sleep, infinity], cpu: 10m, memory: 16MiB, health: {{protocol: alive}}}}
network_services:
  link:
    vnfs:
      target: {{vnfd: target, placement: {{sites: [there]}}}}
"""
_TIME = re.compile(r"time=([\d.]+) ms")


async def run_link(make_cloud: CloudFactory, *, quick: bool, progress: OnProgress = lambda _: None) -> Report:
    """Ping across a declared link and report the error of the round trips.

    Args:
        make_cloud: Gives the cloud of a description.
        quick: Fewer requests.
        progress: Told of each step.

    Raises:
        TransientDriverError: The cloud did not come up, or pings were lost.
    """
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as folder:
        description = Path(folder) / "cloud.yaml"
        description.write_text(DESCRIPTION)
        cloud = make_cloud(description)
        progress(Progress(phase="two hosts and a link", done=0, total=2))
        try:
            rows = await cloud.up()
            progress(Progress(phase="pings", done=1, total=2))
            times = await _round_trips_ms(cloud, str(rows[0].address), QUICK_REQUESTS if quick else REQUESTS)
        finally:
            await cloud.down()
    return report(times)


async def _round_trips_ms(cloud: BenchCloud, address: str, count: int) -> list[float]:
    # Two of them, unmeasured, let both ends learn each other's hardware addresses.
    await cloud.run("near", ["ping", "-n", "-c", "2", "-i", "0.1", address])
    status, output = await cloud.run("near", ["ping", "-n", "-c", str(count), "-i", "0.05", address])
    times = [float(text) for text in _TIME.findall(output)]
    if status or len(times) != count:
        raise TransientDriverError(f"only {len(times)} of {count} pings to {address} came back: {output[-400:]}")
    return times


def report(times_ms: Sequence[float]) -> Report:
    """Give the report of some round trips [ms]."""
    declared_ms = 2 * DELAY_MS
    errors = [abs(time_ms - declared_ms) for time_ms in times_ms]
    p50, p95 = percentile(errors, 50), percentile(errors, 95)
    figure = Figure(
        name="link_delay_error_ms",
        value={"p50": p50, "p95": p95},
        unit="ms",
        samples=len(errors),
        spread=(min(errors), p95),
        bar=BAR,
        note=f"absolute difference of a ping's round trip from {declared_ms} ms (declared: {DELAY_MS} ms each way)",
    )
    case = {"unit": "ms", "median": percentile(times_ms, 50), "min": min(times_ms), "p95": percentile(times_ms, 95)}
    return Report(
        bench="link",
        machine=machine_facts(),
        versions=versions({"ping": ("ping", "-V")}),
        figures=(figure,),
        raw={"link": {f"ping over a link of {DELAY_MS} ms": case | {"samples_ms": list(times_ms)}}},
    )
