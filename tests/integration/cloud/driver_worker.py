"""Has a cloud's instance drivers and does what tests ask: ``python driver_worker.py DIRECTORY BINARY``.

Tasks come pickled on standard input, answers go pickled to standard output.
"""

import asyncio
import ctypes
import os
import pickle
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from wisp.assembly.drivers import instance_drivers, machine_accelerator, microvm_driver
from wisp.assembly.settings import Settings
from wisp.drivers.clock.system import monotonic_offset_ns
from wisp.drivers.instance.kept import KeptChildren
from wisp.drivers.instance.snapshot import Snapshots
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.namespaces import join_cloud
from wisp.drivers.network.emulated import EmulatedNetwork
from wisp.drivers.prober import NamespaceProber
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.ports.instance import Capabilities, Exit, Fingerprint, Life
from wisp.primitives.time import Duration

CLONE_NEWNET = 0x4000_0000


class Worker:
    """What a test may call; every public method is a task."""

    def __init__(self, keeper: KeeperClient, directory: Path, binary: Path) -> None:
        self._network = EmulatedNetwork(keeper, native=binary, log=directory / "delay.log")
        self._children = KeptChildren(keeper, directory / "logs", epoch_offset_ns=monotonic_offset_ns())
        self._snapshots = Snapshots(directory / "snapshots")
        self._prober = NamespaceProber(self._network.socket_in)
        self._settings = replace(Settings.from_environment(), cache=directory / "cache")
        self._ends: dict[str, asyncio.Event] = {}
        self._watching = asyncio.create_task(self._watch())

    async def find_drivers(self) -> None:
        accelerator = await machine_accelerator(self._settings)
        microvm = microvm_driver(self._children, self._settings, accelerator, self._snapshots)
        self._drivers = instance_drivers(self._children, self._settings, microvm, accelerator)

    async def make_network(self, actions: list[Any]) -> None:
        await self._network.apply(actions)

    async def capabilities(self, kind: Kind) -> Capabilities:
        return self._drivers[kind].capabilities()

    async def fingerprint(self, kind: Kind) -> Fingerprint:
        return await self._drivers[kind].fingerprint()

    async def start(self, kind: Kind, spec: InstanceSpec, secrets: dict[str, str]) -> Handle:
        return await self._drivers[kind].start(spec, secrets)

    async def recover(self, kind: Kind, handle: Handle) -> Exit | None:
        return await self._drivers[kind].recover(handle)

    async def stop(self, kind: Kind, handle: Handle, grace: Duration) -> None:
        await self._drivers[kind].stop(handle, grace=grace)

    async def probe(self, spec: InstanceSpec) -> str | None:
        return await self._prober.probe(spec, within=spec.health.timeout)

    async def kill(self, handle: Handle) -> None:
        self._end_of(handle.child).clear()
        os.kill(handle.pid, signal.SIGKILL)
        await self.wait_for_end(handle)

    async def wait_for_end(self, handle: Handle) -> None:
        """Return once the keeper has told that the process ended."""
        async with asyncio.timeout(10):
            await self._end_of(handle.child).wait()

    async def _watch(self) -> None:
        async for sign in self._children.signs():
            if sign.life is Life.EXITED:
                self._end_of(sign.child).set()

    def _end_of(self, child: str) -> asyncio.Event:
        return self._ends.setdefault(child, asyncio.Event())


async def _answer(worker: Worker, task: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, await getattr(worker, task)(*arguments)
    except Exception as error:
        return False, (type(error).__name__, str(error))


async def main(directory: Path, binary: Path) -> None:
    async with await KeeperClient.connect(directory) as keeper:
        namespaces = await keeper.namespaces()
        join_cloud(namespaces.user, namespaces.mount)
        # As the controller: in a network namespace of the cloud that is empty.
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        (directory / "logs").mkdir(exist_ok=True)
        worker = Worker(keeper, directory, binary)
        await worker.find_drivers()
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
