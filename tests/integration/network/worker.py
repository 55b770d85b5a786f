"""Runs inside a cloud, drives its network, and does what tests ask: ``python worker.py DIRECTORY BINARY``.

Tasks come pickled on standard input, answers go pickled to standard output.
"""

import asyncio
import ctypes
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.namespaces import in_network_namespace, join_cloud
from wisp.drivers.network.emulated import EmulatedNetwork

CLONE_NEWNET = 0x4000_0000
PORT = 7
PAYLOAD = bytes(1000)


class Worker:
    """What a test may call; every public method is a task."""

    def __init__(self, keeper: KeeperClient, network: EmulatedNetwork) -> None:
        self._keeper, self._network = keeper, network

    async def apply(self, actions: list[Any]) -> None:
        await self._network.apply(actions)

    async def observe(self) -> Any:
        return await self._network.observe()

    async def counters(self) -> Any:
        return await self._network.counters()

    async def overlapping(self, actions: list[Any], times: int) -> None:
        calls = (self._network.apply(actions) for _ in range(times))
        await asyncio.gather(*calls, self._network.observe())

    async def timed(self, actions: list[Any]) -> float:
        """Give how long it took to carry out ``actions`` [ms]."""
        before = time.perf_counter()
        await self._network.apply(actions)
        return (time.perf_counter() - before) * 1e3

    async def timed_observe(self) -> float:
        before = time.perf_counter()
        await self._network.observe()
        return (time.perf_counter() - before) * 1e3

    async def round_trips(self, near: str, far: str, address: str, count: int) -> list[float]:
        """Give round trips of one packet at a time [ms] from a namespace to an echo in another."""
        with await self._udp(near) as client, await self._udp(far, (address, PORT)) as server:
            thread = threading.Thread(target=_echo, args=(server,))
            thread.start()
            try:
                return await asyncio.to_thread(_ask, client, address, count)
            finally:
                client.sendto(b"end", (address, PORT))
                thread.join()

    async def flood(self, near: str, far: str, address: str, count: int, pause_s: float) -> tuple[int, float]:
        """Send packets of 1000 bytes; give how many arrive, and the time from the first to the last [s]."""
        with await self._udp(near) as client, await self._udp(far, (address, PORT)) as server:
            client.sendto(PAYLOAD, (address, PORT))  # finds the way for the others
            server.recv(2000)
            receiver = asyncio.create_task(asyncio.to_thread(_count, server))
            for number in range(count):
                client.sendto(PAYLOAD, (address, PORT))
                if number % 20 == 19:
                    await asyncio.sleep(pause_s)
            return await receiver

    async def source_to(self, namespace: str, address: str) -> str:
        """Give the own address that a connection from a namespace would have."""
        with await self._udp(namespace) as client:
            client.connect((address, PORT))
            return str(client.getsockname()[0])

    async def frames(self, tap: str, sender: str, address: str, answers: list[bytes]) -> list[bytes]:
        """Write frames to a tap, send a packet to ``address`` from a namespace, and give the frames that come."""
        (descriptor,) = await self._keeper.fetch([f"tap/{tap}"])
        try:
            for frame in answers:
                os.write(descriptor, frame)
            with await self._udp(sender) as client:
                client.sendto(PAYLOAD, (address, PORT))
                await asyncio.sleep(0.08)
            return list(_waiting(descriptor))
        finally:
            os.close(descriptor)

    async def farewell(self, tap: str, namespace: str, interface: str, mac: str) -> list[bytes]:
        """Say farewell to a guest, and give the frames that come to its tap."""
        (descriptor,) = await self._keeper.fetch([f"tap/{tap}"])
        try:
            await self._network.farewell(namespace, interface, mac)
            return list(_waiting(descriptor))
        finally:
            os.close(descriptor)

    async def setting(self, namespace: str, path: str) -> str:
        return await self._inside(namespace, lambda: (Path("/proc/sys/net") / path).read_text().strip())

    async def unprivileged_ping_socket(self, namespace: str) -> bool:
        """Whether ICMP sockets can be made without capabilities."""
        kinds = socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP
        return await self._inside(namespace, lambda: socket.socket(*kinds).close() is None)

    async def command(self, namespace: str, command: list[str]) -> None:
        """Do something to a namespace behind the driver's back."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        await self._inside(namespace, lambda: subprocess.run(command, check=True, env=environment, stdout=2))

    async def _udp(self, namespace: str, bound: tuple[str, int] | None = None) -> socket.socket:
        def make() -> socket.socket:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            one.settimeout(1)
            if bound:
                one.bind(bound)
            return one

        return await self._inside(namespace, make)

    async def _inside(self, namespace: str, call: Callable[[], Any]) -> Any:
        (netns,) = await self._keeper.fetch([f"netns/{namespace}"])
        try:
            return in_network_namespace(netns, call)
        finally:
            os.close(netns)


def _echo(server: socket.socket) -> None:
    server.settimeout(10)
    while True:
        data, peer = server.recvfrom(2048)
        if data == b"end":
            return
        server.sendto(data, peer)


def _ask(client: socket.socket, address: str, count: int) -> list[float]:
    took = []
    for number in range(count):
        before = time.perf_counter()
        client.sendto(b"%d" % number, (address, PORT))
        client.recv(100)
        took.append((time.perf_counter() - before) * 1e3)
        time.sleep(0.003)
    return took


def _count(server: socket.socket) -> tuple[int, float]:
    times: list[float] = []
    try:
        while True:
            server.recv(2000)
            times.append(time.perf_counter())
    except TimeoutError:
        return len(times), times[-1] - times[0] if times else 0.0


def _waiting(descriptor: int) -> Any:
    try:
        while True:
            yield os.read(descriptor, 2000)
    except BlockingIOError:
        return


async def _answer(worker: Worker, task: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, await getattr(worker, task)(*arguments)
    except Exception as error:
        return False, (type(error).__name__, "; ".join([str(error), *getattr(error, "__notes__", ())]))


async def main(directory: Path, binary: Path) -> None:
    async with await KeeperClient.connect(directory) as keeper:
        namespaces = await keeper.namespaces()
        join_cloud(namespaces.user, namespaces.mount)
        # As the controller: in a network namespace of the cloud that is empty.
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        worker = Worker(keeper, EmulatedNetwork(keeper, native=binary, log=directory / "delay.log"))
        answers = os.fdopen(os.dup(1), "wb")
        while True:
            try:
                request = await asyncio.to_thread(pickle.load, sys.stdin.buffer)
            except EOFError:
                return
            pickle.dump(await _answer(worker, *request), answers)
            answers.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
