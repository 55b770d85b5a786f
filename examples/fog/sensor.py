"""A sensor: posts a plausible signal over CoAP, once a second, confirmable.

Usage: sensor.py {heartbeat,temperature,co2} coap://ADDRESS/m/NAME
"""

import argparse
import asyncio
import math
import random
from collections.abc import Callable, Iterator

import aiocoap

PERIOD_S = 1.0
DAY_S = 600.0  # A day passes in ten minutes, so that its rhythm shows in a demonstration.


def heartbeat(rng: random.Random) -> Iterator[float]:
    """Give beats per minute: about 65, with effort every now and then and a slow recovery."""
    effort = 0.0
    while True:
        effort = max(effort * 0.95, 45.0 if rng.random() < 0.01 else 0.0)
        yield 65 + effort + rng.gauss(0, 1.5)


def temperature(rng: random.Random) -> Iterator[float]:
    """Give degrees Celsius: the rhythm of a day, and a slow drift."""
    second, drift = rng.uniform(0, DAY_S), 0.0
    while True:
        second += PERIOD_S
        drift = drift * 0.999 + rng.gauss(0, 0.02)
        yield 19 + 4 * math.sin(2 * math.pi * second / DAY_S) + drift


def co2(rng: random.Random) -> Iterator[float]:
    """Give parts per million: a room that fills while somebody is in it and is aired from time to time."""
    level, occupied = 450.0, False
    while True:
        occupied ^= rng.random() < 0.02
        level += 6 if occupied else (420 - level) * 0.02
        yield max(400.0, level + rng.gauss(0, 3))


SIGNALS: dict[str, Callable[[random.Random], Iterator[float]]] = {
    "heartbeat": heartbeat,
    "temperature": temperature,
    "co2": co2,
}


async def post(context: aiocoap.Context, uri: str, value: float) -> None:
    """Post one value; say so when it was not taken."""
    request = aiocoap.Message(code=aiocoap.POST, uri=uri, payload=f"{value:.2f}".encode("ascii"))
    try:
        response = await context.request(request).response
    except (aiocoap.error.Error, OSError) as error:
        print(f"{uri}: {type(error).__name__} {error}", flush=True)
        return
    if not response.code.is_successful():
        print(f"{uri}: {response.code} {response.payload!r}", flush=True)


async def run(signal: str, uri: str) -> None:
    """Post until ended; what could not be posted in time is not made up for."""
    context = await aiocoap.Context.create_client_context()
    loop = asyncio.get_running_loop()
    due = loop.time()
    for value in SIGNALS[signal](random.Random(uri)):
        await post(context, uri, value)
        due = max(due + PERIOD_S, loop.time())
        await asyncio.sleep(due - loop.time())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("signal", choices=SIGNALS)
    parser.add_argument("uri")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.signal, arguments.uri))


if __name__ == "__main__":
    main()
