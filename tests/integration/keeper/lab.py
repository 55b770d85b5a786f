"""Two hosts and a link inside a cloud, measured from inside; prints its figures as JSON.

A process of its own, because joining a cloud cannot be taken back: ``python lab.py DIRECTORY BINARY TASK``.
"""

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from wisp.drivers.keeper.client import KeeperClient, SpawnOrder
from wisp.drivers.keeper.delay import DelayLine, DelayLines
from wisp.drivers.keeper.namespaces import Namespaces, enter_cloud, in_network_namespace, join_cloud
from wisp.drivers.keeper.process import living_keeper

CLONE_NEWNET = 0x4000_0000
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
RULES = "*mangle\n-A PREROUTING -i wire -j NFQUEUE --queue-num 1 --queue-bypass\nCOMMIT\n"


def new_network_namespace() -> int:
    made: list[int] = []

    def make() -> None:
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Lab:
    def __init__(self, directory: Path, binary: Path, keeper: KeeperClient) -> None:
        self.directory, self.binary, self.keeper = directory, binary, keeper
        self.left, self.right = new_network_namespace(), new_network_namespace()
        self.count = 0

    async def build(self) -> None:
        await self.keeper.hold({"netns/left": self.left, "netns/right": self.right})
        await self.run("left", "ip link add wire type veth peer name wire netns /proc/self/fd/9", {9: "netns/right"})
        for side, address in (("left", "10.9.0.1/24"), ("right", "10.9.0.2/24")):
            script = f"ip addr add {address} dev wire && ip link set wire up && ip link set lo up"
            await self.run(side, f"{script} && printf '{RULES}' | iptables-legacy-restore")
        self.lines = await DelayLines.open(self.keeper, self.binary, self.directory / "delay.log")

    async def shape(self, **shape: int) -> None:
        for _ in range(2):  # saying it again changes nothing
            await self.lines.set([
                DelayLine(line_id="left>right", netns=self.right, queue=1, seed=1, **shape),
                DelayLine(line_id="right>left", netns=self.left, queue=1, seed=2, **shape),
            ])  # fmt: skip

    async def run(self, side: str, script: str, held: dict[int, str] | None = None) -> str:
        """Run a shell script in a namespace and give its output."""
        child_id = await self.start(side, script, held)
        async for status in self.keeper.watch():
            if status.id == child_id:
                output = Path(status.log or "").read_text()
                assert status.exit_code == 0, f"{script}: {status}: {output}"
                return output
        raise AssertionError

    async def start(self, side: str, script: str, held: dict[int, str] | None = None) -> str:
        self.count += 1
        child_id = f"task-{self.count}"
        await self.keeper.spawn(
            SpawnOrder(
                child_id=child_id,
                argv=("/bin/sh", "-c", script),
                env=PATH,
                netns=f"netns/{side}",
                held=held or {},
                log=self.directory / f"{child_id}.log",
                privileged=True,
            )
        )
        return child_id

    def udp(self, side: str) -> socket.socket:
        def make() -> socket.socket:
            connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            if side == "right":
                connection.bind(("10.9.0.2", 7))
            else:
                connection.connect(("10.9.0.2", 7))
            return connection

        return in_network_namespace(self.left if side == "left" else self.right, make)


def echo(server: socket.socket) -> None:
    while True:
        data, peer = server.recvfrom(2048)
        if data == b"end":
            return
        server.sendto(data, peer)


def round_trips(client: socket.socket, count: int) -> list[float]:
    """Round trips [ms], one request at a time."""
    client.settimeout(2)
    took = []
    for number in range(count):
        before = time.perf_counter()
        client.send(b"%d" % number)
        client.recv(100)
        took.append((time.perf_counter() - before) * 1e3)
        time.sleep(0.003)
    return took[5:]


def figures(took: list[float]) -> dict[str, float]:
    took = sorted(took)
    at = {f"p{percent}": took[len(took) * percent // 100] for percent in (50, 95, 99)}
    return {"min": took[0], **at, "max": took[-1]}


def with_echo(lab: Lab, measure: Callable[[socket.socket], list[float]]) -> list[float]:
    with lab.udp("right") as server, lab.udp("left") as client:
        thread = threading.Thread(target=echo, args=(server,))
        thread.start()
        try:
            return measure(client)
        finally:
            client.send(b"end")
            thread.join()


async def accuracy(lab: Lab) -> object:
    found: dict[str, object] = {"bare": figures(with_echo(lab, lambda client: round_trips(client, 205)))}
    for delay_us in (1_000, 10_000):
        await lab.shape(delay_us=delay_us)
        found[f"{delay_us} us"] = figures(with_echo(lab, lambda client: round_trips(client, 205)))
    busy = [await lab.start("left", "while :; do :; done") for _ in range(os.cpu_count() or 1)]
    found["10000 us, every processor busy"] = figures(with_echo(lab, lambda client: round_trips(client, 205)))
    for child_id in busy:
        await lab.keeper.signal(child_id, 9)
    found["late"] = [list(row.late) for row in await lab.lines.stats()]
    return found


def flood(lab: Lab, count: int) -> int:
    """Send ``count`` packets left to right at an even pace and give how many arrive."""
    with lab.udp("right") as server, lab.udp("left") as client:
        arrived: list[int] = []
        reader = threading.Thread(target=lambda: arrived.append(count_until_quiet(server)))
        reader.start()
        for _ in range(0, count, 50):
            for _ in range(50):
                client.send(b"x")
            time.sleep(0.004)
        reader.join()
        return arrived[0]


def count_until_quiet(server: socket.socket) -> int:
    server.settimeout(1)
    count = 0
    try:
        while True:
            server.recv(100)
            count += 1
    except TimeoutError:
        return count


async def loss(lab: Lab) -> object:
    await lab.shape(delay_us=1_000, loss_ppm=10_000)
    sent = 20_000
    arrived = flood(lab, sent)
    stats = {row.id: row for row in await lab.lines.stats()}["left>right"]
    return {"sent": sent, "arrived": arrived, "dropped_by_loss": stats.dropped_by_loss, "delayed": stats.delayed}


async def order(lab: Lab) -> object:
    """Numbers in the order they arrive through a line with much jitter."""
    await lab.shape(delay_us=5_000, jitter_us=4_000)
    with lab.udp("right") as server, lab.udp("left") as client:
        server.settimeout(1)
        send_numbers(client, 500)
        return [int(server.recv(100)) for _ in range(500)]


def send_numbers(client: socket.socket, count: int) -> None:
    for number in range(count):
        client.send(b"%d" % number)
        time.sleep(0.0005)


async def limit(lab: Lab) -> object:
    await lab.shape(delay_us=200_000, limit_packets=10)
    with lab.udp("right") as server, lab.udp("left") as client:
        server.settimeout(1)
        for number in range(50):
            client.send(b"%d" % number)
        await asyncio.sleep(0.4)
        stats = {row.id: row for row in await lab.lines.stats()}["left>right"]
    return {"delayed": stats.delayed, "dropped_by_limit": stats.dropped_by_limit}


async def throughput(lab: Lab) -> object:
    await lab.start("right", "iperf3 -s -1")
    await lab.start("right", "iperf3 -s -1 -p 5202")
    await lab.shape(delay_us=0)
    await asyncio.sleep(0.3)
    found = {"0 us": gbit(await lab.run("left", "iperf3 -J -t 3 -c 10.9.0.2"))}
    await lab.shape(delay_us=10_000)
    found["10000 us"] = gbit(await lab.run("left", "iperf3 -J -t 5 -O 2 -c 10.9.0.2 -p 5202"))
    return found


def gbit(report: str) -> float:
    return float(json.loads(report)["end"]["sum_received"]["bits_per_second"]) / 1e9


async def lifecycle(lab: Lab) -> object:
    """A line that is removed lets its packets go; the program takes whatever it is told and then sleeps."""
    await lab.shape(delay_us=60_000_000)
    with lab.udp("right") as server, lab.udp("left") as client:
        client.send(b"waits")
        await asyncio.sleep(0.05)
        await lab.lines.remove(["left>right", "never-there"])
        server.settimeout(1)
        freed = server.recv(100).decode()
        client.send(b"passes")
        passed = server.recv(100).decode()
    control = socket.socket(fileno=(await lab.keeper.fetch(["delay/control"]))[0])
    lab.lines.close()
    for words in (
        b"{",
        b"[]",
        b"\xff" * 9,
        b'{"op":"set","queues":[{"id":"x"}]}',
        b'{"op":"stats","tag":77}',
        os.urandom(1000),
    ):
        control.send(words)
    control.close()
    lab.lines = await DelayLines.open(lab.keeper, lab.binary, lab.directory / "delay.log")
    left = [row.id for row in await lab.lines.stats()]
    (child,) = [child for child in await lab.keeper.children() if child.id == "delay"]
    await asyncio.sleep(0.2)
    before = switches(child.pid)
    await asyncio.sleep(1)
    return {"freed": freed, "passed": passed, "left": left, "wakeups": switches(child.pid) - before}


async def inside(lab: Lab) -> object:
    """What a controller sees that has joined, and what a person's command sees inside."""
    joined = {
        "keeper_lives": living_keeper(lab.directory) is not None,
        "sees_itself": Path("/proc/self/status").exists(),
        "keeps_directory": str(Path.cwd()),
    }
    return {**joined, **entered(await lab.keeper.namespaces(), lab.left)}


def entered(namespaces: Namespaces, network: int) -> dict[str, object]:
    enter_cloud(namespaces, network)
    script = "ls /proc | grep -c '^[0-9]'; ip -o addr show dev wire | grep -c 10.9.0.1; echo $$"
    command = ("/bin/sh", "-c", script)
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=PATH).stdout
    processes, addresses, pid = map(int, output.split())
    return {"processes": processes, "addresses": addresses, "pid_is_inner": pid < 1000}


def switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


async def main(directory: Path, binary: Path, task: str) -> None:
    async with await KeeperClient.connect(directory) as keeper:
        namespaces = await keeper.namespaces()
        join_cloud(namespaces.user, namespaces.mount)
        lab = Lab(directory, binary, keeper)
        await lab.build()
        print(json.dumps(await globals()[task](lab)))
        lab.lines.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
