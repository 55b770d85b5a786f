"""Makes networks of routers and probes them, inside a cloud; see ``inside``."""

import asyncio
import ctypes
import os
import random
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from wisp.bench.density_worker import available_bytes
from wisp.bench.inside import reporting
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.network.contents import LOOPBACK, read_contents
from wisp.drivers.network.emulated import EmulatedNetwork
from wisp.drivers.network.message import IPV4
from wisp.drivers.network.place import home, inside, open_place
from wisp.model.network import LinkEnd, Namespace, Network, NextHop, NextHops, VirtualLink
from wisp.planning import addressing
from wisp.reconcile.network import difference

PORT = 9
SETTLE_S = 2.0
PATIENCE_S = 10.0
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
        pairs: With ``routers`` 0: so many random pairs of the routers that are there to probe.
    """

    keeper: str
    native: str
    routers: int = 0
    links: int = 0
    routes: int = 0
    pairs: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        creation_s, removal_s: Time from the call until it is there, and until the kernel has taken all of it away [s].
        memory_bytes: What the machine had less of meanwhile [byte].
        arrived: Probes that came from one router of a pair to the other.
    """

    creation_s: float = 0
    removal_s: float = 0
    memory_bytes: int = 0
    arrived: int = 0


def graph(routers: int, links: int, routes: int, rng: random.Random) -> Network:
    """Give a connected random graph of routers; each has routes to the next ones by number, over any of its links."""
    addresses = [str(addressing.ROUTERS[number + 1]) for number in range(routers)]
    edges = {(rng.randrange(number), number) for number in range(1, routers)}
    while len(edges) < links:
        first, second = sorted(rng.sample(range(routers), 2))
        edges.add((first, second))
    ways: list[list[NextHops]] = [[] for _ in range(routers)]
    made = []
    for number, (first, second) in enumerate(sorted(edges)):
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
    if task.routers == 0:
        return Result(arrived=await _probe(keeper, task.pairs))
    network = EmulatedNetwork(keeper, native=Path(task.native), log=folder / "delay.log")
    wanted = graph(task.routers, task.links, task.routes, random.Random(SEED))  # noqa: S311 - not for secrets
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
    chosen = [tuple(rng.sample(range(len(names)), 2)) for _ in range(pairs)]
    return await asyncio.to_thread(_arrivals, descriptors, chosen)


def _arrivals(descriptors: list[int], chosen: list[tuple[int, ...]]) -> int:
    back_to, sockets, addresses = home(), [], []
    for descriptor in descriptors:
        place = open_place(descriptor, back_to)
        addresses.append(str(read_contents(place.netlink, (IPV4,)).interfaces[LOOPBACK].address).partition("/")[0])
        with inside(descriptor, back_to):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        place.close()
        made.bind(("0.0.0.0", PORT))  # noqa: S104 - inside of the cloud
        sockets.append(made)
    for number, (source, target) in enumerate(chosen):
        sockets[source].sendto(number.to_bytes(4, "big"), (addresses[target], PORT))
    arrived: set[int] = set()
    end = time.monotonic() + PATIENCE_S
    while len(arrived) < len(chosen) and time.monotonic() < end:
        for number, (_, target) in enumerate(chosen):
            if number not in arrived:
                arrived |= _received(sockets[target])
        time.sleep(0.005)
    for made in sockets:
        made.close()
    os.close(back_to)
    return len(arrived)


def _received(socket_: socket.socket) -> set[int]:
    found = set()
    try:
        while True:
            found.add(int.from_bytes(socket_.recv(16), "big"))
    except BlockingIOError:
        return found


def main() -> None:
    """Do the task of the folder."""
    folder = Path(sys.argv[1])
    with reporting(folder):
        task = msgspec.json.decode((folder / "task.json").read_bytes(), type=Task)
        result = asyncio.run(measure(task, folder))
        (folder / "result.json").write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
