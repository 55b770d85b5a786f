"""Starts as many instances at once as it is told, inside a cloud: ``python -m wisp.bench.density_worker FOLDER``.

FOLDER holds a keeper and ``task.json``, a :class:`Task`; ``result.json`` is written there, a :class:`Result`. It runs
as the keeper's privileged child, as a controller does, and uses the same planner and drivers.
"""

import asyncio
import os
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from wisp.bench.inside import reporting
from wisp.drivers.clock.system import monotonic_offset_ns
from wisp.drivers.instance.kept import KeptChildren
from wisp.drivers.instance.kvm import Accelerator
from wisp.drivers.instance.microvm import MicrovmDriver
from wisp.drivers.instance.snapshot import Snapshots
from wisp.drivers.instance.spt import SptDriver
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.network.emulated import EmulatedNetwork
from wisp.drivers.network.place import home, inside
from wisp.model.description import DeclaredInstance, DesiredState, Host, ImageSource, Kind, Site, Vdu
from wisp.model.instance import ImageRef, InstanceSpec
from wisp.model.network import Network
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.planning import plan
from wisp.planning.overhead import cost_bytes
from wisp.ports.instance import InstanceDriver
from wisp.reconcile.network import difference

# A subnet has 4,093 addresses.
PER_HOST = 2_500
ASKED_AT_ONCE = 500
PATIENCE_S = 60.0
SETTLE_S = 2.0
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
MEMORY_BYTES = {Kind.SPT: 8 << 20, Kind.MICROVM: 16 << 20}
STARTS_AT_ONCE = {Kind.SPT: 32, Kind.MICROVM: 4}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    kind: str
    count: int
    native: str
    artifacts: str
    accelerator: Accelerator
    search_path: str


class Result(msgspec.Struct, kw_only=True):
    """What came of it.

    Attributes:
        answering: Instances that answered at the end, all asked once more.
        start_s: From nothing to the first answer of the last [s].
        network_s: What of it the network took [s].
        memory_bytes: What the machine has less of than before, kernel and taps included [byte].
    """

    answering: int
    start_s: float
    network_s: float
    memory_bytes: int


class Artifacts:
    """Images as they were built, for drivers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sealed(self, image: ImageRef, target: str) -> Path:
        """Give the file of a role."""
        return self._folder / f"{image.role}.{target}.elf"


def wanted(task: Task) -> Plan:
    """Give the plan of so many equal instances on as few hosts as have the addresses.

    Raises:
        ValueError: They cannot be placed.
    """
    vdu = _vdu(Kind(task.kind))
    hosts = -(-task.count // PER_HOST)
    desired = DesiredState(
        name="bench-density",
        sites=(Site(name="edge"),),
        hosts=tuple(
            Host(name=f"h{number}", site="edge", cpu_millicores=1000, memory_bytes=PER_HOST * cost_bytes(vdu))
            for number in range(hosts)
        ),
        images=(ImageSource(name="page", role="web"),),
        instances=tuple(
            DeclaredInstance(name=f"web-{number}", network_service="bench", vnf=f"web-{number}", vdu=vdu)
            for number in range(task.count)
        ),
    )
    made = plan(desired, ObservedState(), rng=random.Random(0))  # noqa: S311 - not for secrets
    if not isinstance(made, Plan):
        raise ValueError(f"{task.count} instances cannot be placed: {made.conflicts[:1]}")
    return made


def reckoned_bytes(kind: Kind) -> int:
    """Give the memory that the planner reckons with for one of them [byte]."""
    return cost_bytes(_vdu(kind))


def _vdu(kind: Kind) -> Vdu:
    return Vdu(name="main", kind=kind, image="page", cpu_millicores=0, memory_bytes=MEMORY_BYTES[kind])


async def measure(folder: Path, task: Task) -> Result:
    """Start them all, ask them all, and look at the memory."""
    keeper = await KeeperClient.connect(folder)
    network = EmulatedNetwork(keeper, native=Path(task.native), log=folder / "delay.log")
    children = KeptChildren(keeper, folder, epoch_offset_ns=monotonic_offset_ns())
    driver, made = _driver(task, children, folder), wanted(task)
    before_bytes, begin = available_bytes(), time.monotonic()
    await network.apply(difference(made.network, Network()))
    network_s = time.monotonic() - begin
    namespaces = await _namespaces(keeper, made)
    asking = asyncio.to_thread(ask_all, namespaces, made.instances)
    _, answered = await asyncio.gather(_start(driver, made.instances), asking)
    start_s = time.monotonic() - begin
    if answered != task.count:
        start_s = float("inf")
    await asyncio.sleep(SETTLE_S)
    memory_bytes = before_bytes - available_bytes()
    answering = await asyncio.to_thread(ask_all, namespaces, made.instances)
    return Result(answering=answering, start_s=start_s, network_s=network_s, memory_bytes=memory_bytes)


def _driver(task: Task, children: KeptChildren, folder: Path) -> InstanceDriver:
    images = Artifacts(Path(task.artifacts))
    if Kind(task.kind) is Kind.SPT:
        return SptDriver(children, images)
    return MicrovmDriver(
        children,
        images,
        task.accelerator,
        search_path=task.search_path,
        native=Path(task.native),
        snapshots=Snapshots(folder / "snapshots"),
    )


async def _start(driver: InstanceDriver, specs: Sequence[InstanceSpec]) -> None:
    turns = asyncio.Semaphore(STARTS_AT_ONCE[specs[0].kind])

    async def start(spec: InstanceSpec) -> None:
        async with turns:
            await driver.start(spec, {})

    await asyncio.gather(*(start(spec) for spec in specs))


async def _namespaces(keeper: KeeperClient, made: Plan) -> dict[str, int]:
    names = sorted({spec.namespace for spec in made.instances})
    return dict(zip(names, await keeper.fetch([f"netns/{name}" for name in names]), strict=True))


def available_bytes() -> int:
    """Give the memory that the machine has left, caches included [byte]."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def ask_all(namespaces: dict[str, int], specs: Sequence[InstanceSpec]) -> int:
    """Ask every instance for its page from its own host, until it answers; give how many did in time."""
    end, answered, back_to = time.monotonic() + PATIENCE_S, 0, home()
    for name, netns in namespaces.items():
        with inside(netns, back_to):
            crowd = Crowd([str(spec.address) for spec in specs if spec.namespace == name])
            answered += crowd.ask(end)
    os.close(back_to)
    return answered


class Crowd:
    """Asks many addresses, some at a time; one that refuses or says nothing is asked again."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._waiting = list(reversed(addresses))
        self._clients: dict[int, tuple[socket.socket, str]] = {}
        self._asked: set[int] = set()
        self._poller = select.epoll()

    def ask(self, end: float) -> int:
        """Give how many answered until ``end`` (monotonic time [s])."""
        answered = 0
        while (self._waiting or self._clients) and time.monotonic() < end:
            while self._waiting and len(self._clients) < ASKED_AT_ONCE:
                self._connect(self._waiting.pop())
            for descriptor, event in self._poller.poll(0.5):
                answered += self._turn(descriptor, event)
        return answered

    def _connect(self, address: str) -> None:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        client.connect_ex((address, 80))
        self._clients[client.fileno()] = client, address
        self._poller.register(client, select.EPOLLOUT)

    def _turn(self, descriptor: int, event: int) -> bool:
        client, address = self._clients[descriptor]
        try:
            if descriptor not in self._asked and not event & (select.EPOLLERR | select.EPOLLHUP):
                client.sendall(REQUEST)
                self._asked.add(descriptor)
                self._poller.modify(client, select.EPOLLIN)
                return False
            is_good = client.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            is_good = False
        self._poller.unregister(client)
        self._asked.discard(descriptor)
        self._clients.pop(descriptor)[0].close()
        if not is_good:
            self._waiting.insert(0, address)
        return is_good


def main() -> None:
    """Do the task of the folder."""
    folder = Path(sys.argv[1])
    threading.stack_size(256 * 1024)
    with reporting(folder):
        task = msgspec.json.decode((folder / "task.json").read_bytes(), type=Task)
        result = asyncio.run(measure(folder, task))
        (folder / "result.json").write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
