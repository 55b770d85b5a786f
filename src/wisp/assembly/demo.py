"""``wisp demo``: the fog scenario, up, looked at, measured, and down again; everything shown was measured."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from wisp.assembly.cloud import Cloud
from wisp.assembly.lifecycle import clouds
from wisp.assembly.settings import Settings
from wisp.model.view import InstanceRow, Progress
from wisp.primitives.errors import StateError, TransientDriverError

DEVICE = "heartbeat-1"
EDGE_WEB, CORE_WEB, COLLECTOR = "web-edge-1", "web-core", "collector"
COLLECTOR_PORT = 8080
EDGES = 9
REQUESTS = 20
FLOW_WITHIN_S = 30.0

OnProgress = Callable[[Progress], None]


async def run_demo(settings: Settings, progress: OnProgress, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the demo and give what it found.

    Raises:
        StateError: A cloud of the same name is here already.
        TransientDriverError: Something did not come up or no measurement arrived.
    """
    cloud = Cloud(settings.examples / "fog/cloud.yaml", settings=settings)
    if cloud.name in [folder.name for folder in clouds(settings)]:
        raise StateError(f"cloud {cloud.name} is here already; `wisp down {cloud.name}` ends it")
    say("Nine edge sites with a mini-PC and a sensor each, and a core: bringing them up ...")
    try:
        return await _show(cloud, progress, say)
    finally:
        await cloud.down()
        say(f"\n{cloud.name}: down, nothing left")


async def _show(cloud: Cloud, progress: OnProgress, say: Callable[[str], None]) -> dict[str, Any]:
    started = time.monotonic()
    rows = await cloud.up(progress)
    up_s = time.monotonic() - started
    say(f"\nup after {up_s:.2f} s: everything answers\n")
    _say_table(rows, say)
    flow = await _flow(cloud, say)
    latency = await _latencies(cloud, {row.name: str(row.address) for row in rows}, say)
    return {"up_s": up_s, "instances": len(rows), "measurements": flow, "latency_ms": latency}


def _say_table(rows: list[InstanceRow], say: Callable[[str], None]) -> None:
    say(f"{'INSTANCE':<20}{'KIND':<20}{'HOST':<12}{'ADDRESS':<14}{'START ms':>9}{'MEMORY':>10}")
    for row in rows:
        memory = f"{(row.memory_bytes or 0) / 2**20:.1f} MiB"
        start = f"{row.start_ms:.1f}" if row.start_ms is not None else "-"
        say(f"{row.name:<20}{row.kind:<20}{row.host:<12}{row.address or '-':<14}{start:>9}{memory:>10}")


async def _flow(cloud: Cloud, say: Callable[[str], None]) -> dict[str, Any]:
    """Wait until a measurement of every device has come through its aggregator to the core, and show them."""
    say("\nMeasurements: device --CoAP--> aggregator at the edge --HTTP--> collector in the core")
    latest: dict[str, Any] = {}
    try:
        async with asyncio.timeout(FLOW_WITHIN_S):
            while len(sensors := _sensors(latest)) < EDGES:
                latest = json.loads(await _fetch(cloud, COLLECTOR, f"http://127.0.0.1:{COLLECTOR_PORT}/latest"))
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise TransientDriverError(
            f"only {len(_sensors(latest))} of {EDGES} devices were heard in the core after {FLOW_WITHIN_S:g} s; "
            "`wisp events` and `wisp logs DEVICE` tell more"
        ) from None
    for edge, name, seen in sensors:
        say(f"  {name:<16} -> {edge:<8} -> core   value {seen['value']:>9}   {seen['total']} taken")
    return {name: seen for _, name, seen in sensors}


def _sensors(latest: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Give edge, sensor and statistics of everything the collector knows."""
    return [
        (edge, name, seen)
        for edge, answer in sorted(latest.get("aggregators", {}).items())
        for name, seen in (answer.get("stats") or {}).get("sensors", {}).items()
    ]


async def _latencies(cloud: Cloud, addresses: dict[str, str], say: Callable[[str], None]) -> dict[str, float]:
    """Compare the same request answered at the edge and in the core, from a device."""
    medians = {
        "edge": await _median_ms(cloud, addresses[EDGE_WEB]),
        "core": await _median_ms(cloud, addresses[CORE_WEB]),
    }
    say(f"\nThe same page for {DEVICE}, {REQUESTS} requests by curl, median:")
    for place, median in medians.items():
        say(f"  answered at the {place}: {median:6.1f} ms")
    return medians


async def _median_ms(cloud: Cloud, address: str) -> float:
    """Give the median time of whole requests, connection included [ms]; each must be answered."""
    urls = [f"http://{address}/"] * REQUESTS
    argv = ["curl", "--silent", "--show-error", "--max-time", "10", "-w", "\\n%{http_code} %{time_total}\\n"]
    status, output = await cloud.run(DEVICE, [*argv, *_discarded(urls)])
    answers = [line.split() for line in output.splitlines() if line.startswith("200 ")]
    if status or len(answers) < REQUESTS:
        said = output.strip()[-200:]
        raise TransientDriverError(f"only {len(answers)} of {REQUESTS} requests to {address} were answered: {said}")
    return statistics.median(float(seconds) * 1000 for _, seconds in answers)


def _discarded(urls: list[str]) -> list[str]:
    """Give curl's words to fetch ``urls``, each over a connection of its own, and drop what they say."""
    return ["-H", "Connection: close", *(word for url in urls for word in ("-o", "/dev/null", url))]


async def _fetch(cloud: Cloud, where: str, url: str) -> str:
    status, output = await cloud.run(where, ["curl", "--silent", "--show-error", "--max-time", "5", url])
    if status:
        raise TransientDriverError(f"curl {url} in {where} failed: {output.strip()[:200]}")
    return output
