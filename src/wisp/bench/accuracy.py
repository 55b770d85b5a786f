"""How near a link's delay, rate and loss come to what was declared, under load."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from wisp.bench import stream
from wisp.bench.cloud import BenchCloud, CloudFactory
from wisp.bench.figures import Figure, percentile
from wisp.primitives.errors import TransientDriverError

DELAY_MS, RATE_MBIT, LOSS_PERCENT = 10, 100, 1
DELAY_BAR, RATIO_BAR = "p50 <= 0.2, p99 <= 2", "<= 5"
PER_SECOND = 10_000
PORT = 7008
SMALL_BYTES, LARGE_BYTES = 64, 1400
# Ethernet, IPv4 and UDP, which the rate counts.
HEADER_BYTES = 14 + 20 + 8
# The receiver is there by then.
READY_S = 0.5
_FROM = "near"
_ADDRESSES = {"delayed": "172.24.0.2", "limited": "172.24.0.3", "lossy": "172.24.0.4", "plain": "172.24.0.5"}
DESCRIPTION = f"""\
cloud: bench-accuracy
routers: {{{_FROM}: {{}}, {", ".join(f"{name}: {{}}" for name in _ADDRESSES)}}}
links:
  delayed: {{between: [{_FROM}, delayed], delay: {DELAY_MS}ms}}
  limited: {{between: [{_FROM}, limited], rate: {RATE_MBIT}Mbit}}
  lossy: {{between: [{_FROM}, lossy], loss: {LOSS_PERCENT}%}}
  plain: {{between: [{_FROM}, plain]}}
"""


class Load(NamedTuple):
    """How many datagrams are sent over each link."""

    delayed: int
    limited: int
    lossy: int


FULL = Load(delayed=100_000, limited=30_000, lossy=300_000)
QUICK = Load(delayed=10_000, limited=10_000, lossy=30_000)


class _Got(NamedTuple):
    delays_us: list[float]
    received: int
    overflowed: int
    first_ns: int
    last_ns: int


async def accuracy(make_cloud: CloudFactory, *, quick: bool) -> tuple[Figure, ...]:
    """Send streams over declared links and give the figures.

    Args:
        make_cloud: Gives the cloud of a description.
        quick: Fewer packets.

    Raises:
        TransientDriverError: The cloud did not come up, or nothing arrived.
    """
    load = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as folder:
        description = Path(folder) / "cloud.yaml"
        description.write_text(DESCRIPTION)
        cloud = make_cloud(description)
        try:
            await cloud.up()
            plain = await _stream(cloud, "plain", load.delayed, PER_SECOND, SMALL_BYTES)
            delayed = await _stream(cloud, "delayed", load.delayed, PER_SECOND, SMALL_BYTES)
            # A third more than fits.
            pace = int(RATE_MBIT * 1e6 / 8 / (LARGE_BYTES + HEADER_BYTES) * 4 / 3)
            limited = await _stream(cloud, "limited", load.limited, pace, LARGE_BYTES)
            lossy = await _stream(cloud, "lossy", load.lossy, PER_SECOND, SMALL_BYTES)
        finally:
            await cloud.down()
    return _delay(delayed, plain), _rate(limited), _loss(lossy, load.lossy)


async def _stream(cloud: BenchCloud, to: str, count: int, per_second: int, length_bytes: int) -> _Got:
    program = [sys.executable, "-I", str(stream.__file__)]
    receiving = asyncio.create_task(cloud.run(to, [*program, "receive", str(PORT)]))
    await asyncio.sleep(READY_S)
    sending = [*program, "send", _ADDRESSES[to], *map(str, (PORT, count, per_second, length_bytes))]
    status, said = await cloud.run(_FROM, sending)
    _, output = await receiving
    if status:
        raise TransientDriverError(f"sending over link {to} failed: {said[-400:]}")
    got = _Got(**json.loads(output))
    if not got.received:
        raise TransientDriverError(f"nothing of {count} datagrams arrived over link {to}")
    return got


def _delay(got: _Got, floor: _Got) -> Figure:
    errors_ms = [abs(delay_us / 1000 - DELAY_MS) for delay_us in got.delays_us]
    floors_ms = [delay_us / 1000 for delay_us in floor.delays_us]
    return Figure(
        name="delay_p99_error_ms",
        value={"p50": percentile(errors_ms, 50), "p99": percentile(errors_ms, 99)},
        unit="ms",
        samples=len(errors_ms),
        spread=(min(errors_ms), percentile(errors_ms, 95)),
        bar=DELAY_BAR,
        note=f"one way, declared {DELAY_MS} ms, {PER_SECOND} datagrams a second, from one program's sending to the"
        f" other's receiving; over a link without delay that takes {percentile(floors_ms, 50):.3f} ms,"
        f" p99 {percentile(floors_ms, 99):.3f}",
    )


def _rate(got: _Got) -> Figure:
    seconds = (got.last_ns - got.first_ns) / 1e9
    mbit = (got.received + got.overflowed - 1) * (LARGE_BYTES + HEADER_BYTES) * 8 / 1e6 / seconds
    return Figure(
        name="rate_error_percent",
        value=abs(100 * (mbit / RATE_MBIT - 1)),
        unit="%",
        samples=got.received,
        bar=RATIO_BAR,
        note=f"{mbit:.2f} Mbit/s of frames arrived over {RATE_MBIT} Mbit/s, with a third more sent",
    )


def _loss(got: _Got, sent: int) -> Figure:
    lost_percent = 100 * (sent - got.received - got.overflowed) / sent
    return Figure(
        name="loss_error_percent",
        value=abs(100 * (lost_percent / LOSS_PERCENT - 1)),
        unit="%",
        samples=sent,
        bar=RATIO_BAR,
        note=f"{lost_percent:.3f} % of {sent} were lost where {LOSS_PERCENT} % was declared",
    )
