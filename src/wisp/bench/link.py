"""The link benchmark: how near a link's delay comes to what was declared."""

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from wisp.bench import echo
from wisp.bench.cloud import BenchCloud, CloudFactory
from wisp.bench.figures import Figure, Report, percentile
from wisp.bench.machine import machine_facts, versions
from wisp.bench.worker import OnProgress
from wisp.model.view import Progress
from wisp.primitives.errors import TransientDriverError

REQUESTS, QUICK_REQUESTS = 100, 20
DELAY_MS = 10
ECHO_PORT = 7007
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
      main:
        kind: process
        command: ["${{python}}", "-I", "{echo.__file__}", serve, "{ECHO_PORT}"]
        cpu: 10m
        memory: 16MiB
        health: {{protocol: tcp, port: {ECHO_PORT}}}
network_services:
  link:
    vnfs:
      target: {{vnfd: target, placement: {{sites: [there]}}}}
"""
_TIME = re.compile(r"time=([\d.]+) ms")


async def run_link(make_cloud: CloudFactory, *, quick: bool, progress: OnProgress = lambda _: None) -> Report:
    """Send requests across a declared link in three ways and report the error of the round trips.

    Args:
        make_cloud: Gives the cloud of a description.
        quick: Fewer requests.
        progress: Told of each step.

    Raises:
        TransientDriverError: The cloud did not come up, or answers were lost.
    """
    count = QUICK_REQUESTS if quick else REQUESTS
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as folder:
        description = Path(folder) / "cloud.yaml"
        description.write_text(DESCRIPTION)
        cloud = make_cloud(description)
        steps = ("two hosts and a link", "pings", "datagrams", "messages on a connection")
        progress(Progress(phase=steps[0], done=0, total=len(steps)))
        try:
            address = str((await cloud.up())[0].address)
            progress(Progress(phase=steps[1], done=1, total=len(steps)))
            times = {"ping": await _pings_ms(cloud, address, count)}
            for number, protocol in enumerate(("udp", "tcp"), 2):
                progress(Progress(phase=steps[number], done=number, total=len(steps)))
                times[protocol] = await _echoes_ms(cloud, protocol, address, count)
        finally:
            await cloud.down()
    return report(times)


async def _pings_ms(cloud: BenchCloud, address: str, count: int) -> list[float]:
    # Two of them, unmeasured, let both ends learn each other's hardware addresses.
    await cloud.run("near", ["ping", "-n", "-c", "2", "-i", "0.1", address])
    status, output = await cloud.run("near", ["ping", "-n", "-c", str(count), "-i", "0.05", address])
    return _all(count, status, _TIME.findall(output), output)


async def _echoes_ms(cloud: BenchCloud, protocol: str, address: str, count: int) -> list[float]:
    words = [sys.executable, "-I", str(echo.__file__), protocol, address, str(ECHO_PORT), str(count)]
    status, output = await cloud.run("near", words)
    return _all(count, status, [] if status else output.split(), output)


def _all(count: int, status: int, times: Sequence[str], output: str) -> list[float]:
    if status or len(times) != count:
        raise TransientDriverError(f"only {len(times)} of {count} requests were answered: {output[-400:]}")
    return [float(time) for time in times]


def report(times_ms: Mapping[str, Sequence[float]]) -> Report:
    """Give the report of the round trips [ms] of each way to ask; the figure is that of the worst way."""
    declared_ms = 2 * DELAY_MS
    errors = {way: [abs(time_ms - declared_ms) for time_ms in times] for way, times in times_ms.items()}
    p50 = max(percentile(each, 50) for each in errors.values())
    p95 = max(percentile(each, 95) for each in errors.values())
    figure = Figure(
        name="link_delay_error_ms",
        value={"p50": p50, "p95": p95},
        unit="ms",
        samples=sum(map(len, errors.values())),
        spread=(min(map(min, errors.values())), p95),
        bar=BAR,
        note=f"absolute difference of a round trip from {declared_ms} ms (declared: {DELAY_MS} ms each way), "
        f"the largest of {', '.join(errors)}",
    )
    return Report(
        bench="link",
        machine=machine_facts(),
        versions=versions({"ping": ("ping", "-V")}),
        figures=(figure,),
        raw={"link": {f"{way} over a link of {DELAY_MS} ms": _case(times) for way, times in times_ms.items()}},
    )


def _case(times_ms: Sequence[float]) -> dict[str, object]:
    return {
        "unit": "ms",
        "median": percentile(times_ms, 50),
        "min": min(times_ms),
        "p95": percentile(times_ms, 95),
        "samples_ms": list(times_ms),
    }
