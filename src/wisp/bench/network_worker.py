"""Makes networks of routers and probes them, inside a cloud; see ``inside``."""

import asyncio
import ctypes
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from wisp.bench.churn import RoutersAtRandom
from wisp.bench.density_worker import available_bytes
from wisp.bench.inside import reporting
from wisp.bench.prober import Prober, Stream
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.network.contents import LOOPBACK, read_contents
from wisp.drivers.network.emulated import EmulatedNetwork
from wisp.drivers.network.message import IPV4
from wisp.drivers.network.place import home, open_place
from wisp.model.description import DesiredState, Link, Router
from wisp.model.network import LinkEnd, Namespace, Network, NextHop, NextHops, VirtualLink
from wisp.model.observation import ObservedState
from wisp.model.plan import Infeasible
from wisp.planning import addressing, plan
from wisp.reconcile.network import difference

SETTLE_S = 2.0
GONE_WITHIN_S = 60.0
LIMIT = Path("/proc/sys/user/max_net_namespaces")
# Those of a cloud without any router are fewer.
LEFT = 10
CLONE_NEWNET = 0x4000_0000
SEED = 7

libc = ctypes.CDLL(None, use_errno=True)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        keeper: Folder of the cloud's keeper.
        routers, links, routes: Size of a random graph to make and take away: all of it, and routes of each router.
        pairs: So many random pairs of routers to probe: of those that are there with ``routers`` 0, else of a random
            graph where each router has a route to every other.
        changes: Of a small network, one after another, while its routers send to each other.
    """

    keeper: str
    native: str
    routers: int = 0
    links: int = 0
    routes: int = 0
    pairs: int = 0
    changes: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        creation_s, removal_s: Time from the call until it is there, and until the kernel has taken all of it away [s].
        memory_bytes: What the machine had less of meanwhile [byte].
        sent, arrived: Probes that one router sent to another, and those of them that came there.
    """

    creation_s: float = 0
    removal_s: float = 0
    memory_bytes: int = 0
    sent: int = 0
    arrived: int = 0


def edges_at_random(routers: int, links: int, rng: random.Random) -> list[tuple[int, int]]:
    """Give the pairs of routers that a connected random graph joins."""
    edges = {(rng.randrange(number), number) for number in range(1, routers)}
    while len(edges) < links:
        first, second = sorted(rng.sample(range(routers), 2))
        edges.add((first, second))
    return sorted(edges)


def all_pairs(routers: int, links: int, rng: random.Random) -> Network:
    """Plan a connected random graph where every router reaches every other over its quickest paths."""
    names = [str(number) for number in range(routers)]
    made = plan(
        DesiredState(
            name="bench",
            routers=tuple(Router(name=name) for name in names),
            links=tuple(
                Link(name=str(number), ends=(names[first], names[second]))
                for number, (first, second) in enumerate(edges_at_random(routers, links, rng))
            ),
        ),
        ObservedState(),
        rng=rng,
    )
    if isinstance(made, Infeasible):
        raise ValueError(str(made))
    return made.network


def graph(routers: int, links: int, routes: int, rng: random.Random) -> Network:
    """Give a connected random graph of routers; each has routes to the next ones by number, over any of its links."""
    addresses = [str(addressing.ROUTERS[number + 1]) for number in range(routers)]
    ways: list[list[NextHops]] = [[] for _ in range(routers)]
    made = []
    for number, (first, second) in enumerate(edges_at_random(routers, links, rng)):
        here, there = addressing.transit(number)
        a = LinkEnd(namespace=_name(first), interface=f"l{len(ways[first])}", address=here)
        b = LinkEnd(namespace=_name(second), interface=f"l{len(ways[second])}", address=there)
        ways[first].append((NextHop(a.interface, there.partition("/")[0]),))
        ways[second].append((NextHop(b.interface, here.partition("/")[0]),))
        made.append(VirtualLink(name=f"link/{number}", a=a, b=b))
    tables = {
        _name(router): {
            f"{addresses[(router + 1 + step) % routers]}/32": ways[router][step % len(ways[router])]
            for step in range(routes)
        }
        for router in range(routers)
    }
    return Network(
        namespaces=frozenset(
            Namespace(name=_name(number), address=f"{address}/32", forwards=True)
            for number, address in enumerate(addresses)
        ),
        links=frozenset(made),
        routes=tables,
    )


def _name(router: int) -> str:
    return f"router/{router}"


async def measure(task: Task, folder: Path) -> Result:
    """Do the task."""
    keeper = await KeeperClient.connect(Path(task.keeper))
    if task.routers == task.changes == 0:
        return Result(arrived=await _probe(keeper, task.pairs))
    network = EmulatedNetwork(keeper, native=Path(task.native), log=folder / "delay.log")
    if task.changes:
        return await _changes(keeper, network, task.changes)
    rng = random.Random(SEED)  # noqa: S311 - not for secrets
    if task.pairs:
        begin = time.monotonic()
        await network.apply(difference(all_pairs(task.routers, task.links, rng), Network()))
        return Result(creation_s=time.monotonic() - begin, arrived=await _probe(keeper, task.pairs))
    wanted = graph(task.routers, task.links, task.routes, rng)
    before_bytes = available_bytes()
    begin = time.monotonic()
    await network.apply(difference(wanted, Network()))
    creation_s = time.monotonic() - begin
    if await network.observe() != wanted:
        raise ValueError("what was made is not what was wanted")
    await asyncio.sleep(SETTLE_S)
    memory_bytes = before_bytes - available_bytes()
    removals = difference(Network(), wanted)
    begin = time.monotonic()
    await network.apply(removals)
    await asyncio.to_thread(_until_gone)
    return Result(creation_s=creation_s, removal_s=time.monotonic() - begin, memory_bytes=memory_bytes)


def _until_gone() -> None:
    """Wait until the kernel has taken away what nobody holds any more, which it does some time later.

    It counts a cloud's network namespaces against a limit of the cloud's own until they are gone, so a new one can only
    be made then.
    """
    LIMIT.write_text(str(LEFT))
    end = time.monotonic() + GONE_WITHIN_S
    with ThreadPoolExecutor(max_workers=1) as thread:
        while not thread.submit(_may_make_one).result():
            if time.monotonic() > end:
                raise TimeoutError(f"the kernel has not taken them away after {GONE_WITHIN_S:g} s")
            time.sleep(0.01)


def _may_make_one() -> bool:
    back_to = home()
    try:
        made: bool = libc.unshare(CLONE_NEWNET) == 0
        if made:
            libc.setns(back_to, CLONE_NEWNET)
        return made
    finally:
        os.close(back_to)


async def _probe(keeper: KeeperClient, pairs: int) -> int:
    """Send a datagram from one router to another, for so many random pairs; give how many arrive."""
    names = sorted(name for name in await keeper.held() if name.startswith("netns/router/"))
    descriptors = await keeper.fetch(names)
    rng = random.Random(SEED)  # noqa: S311 - not for secrets
    chosen = [tuple(rng.sample(names, 2)) for _ in range(pairs)]
    arrived = await asyncio.to_thread(_arrivals, dict(zip(names, descriptors, strict=True)), chosen)
    for descriptor in descriptors:
        os.close(descriptor)
    return arrived


def _arrivals(namespaces: dict[str, int], chosen: list[tuple[str, ...]]) -> int:
    addresses, back_to = {}, home()
    for name, descriptor in namespaces.items():
        place = open_place(os.dup(descriptor), back_to)
        addresses[name] = str(read_contents(place.netlink, (IPV4,)).interfaces[LOOPBACK].address).partition("/")[0]
        place.close()
    prober = Prober(namespaces)
    for number, (source, target) in enumerate(chosen):
        prober.send(number, source, addresses[target])
    arrived = prober.arrived(len(chosen))
    prober.close()
    return len(arrived)


async def _changes(keeper: KeeperClient, network: EmulatedNetwork, changes: int) -> Result:
    """Change a small network again and again while every router sends to every other that it can always reach."""
    rng = random.Random(SEED)  # noqa: S311 - not for secrets
    routers = RoutersAtRandom(10, rng, delays_us=(0,))
    seen, sent, arrived = routers.planned(), 0, 0
    await network.apply(difference(seen, Network()))
    for _ in range(changes):
        routers.change()
        wanted = routers.planned()
        namespaces = [each.name for each in sorted(seen.namespaces & wanted.namespaces, key=lambda each: each.name)]
        descriptors = await keeper.fetch([f"netns/{name}" for name in namespaces])
        prober = Prober(dict(zip(namespaces, descriptors, strict=True)))
        try:
            with Stream(prober, _always_reached(namespaces, seen, wanted)) as stream:
                await network.apply(difference(wanted, seen))
            sent += stream.sent
            arrived += len(await asyncio.to_thread(prober.arrived, stream.sent))
        finally:
            prober.close()
            for descriptor in descriptors:
                os.close(descriptor)
        seen = wanted
    return Result(sent=sent, arrived=arrived)


def _always_reached(names: list[str], seen: Network, wanted: Network) -> list[tuple[str, str]]:
    """Give every one that sends and the address of each that it reaches before and after."""
    addresses = {each.name: str(each.address) for each in wanted.namespaces}
    return [
        (source, addresses[target].partition("/")[0])
        for source in names
        for target in names
        if all(addresses[target] in each.routes.get(source, {}) for each in (seen, wanted))
    ]


def main() -> None:
    """Do the task of the folder."""
    folder = Path(sys.argv[1])
    with reporting(folder):
        task = msgspec.json.decode((folder / "task.json").read_bytes(), type=Task)
        result = asyncio.run(measure(task, folder))
        (folder / "result.json").write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
