"""A cloud with an emulated network, and a process inside of it that drives the network for a test.

Joining a cloud cannot be taken back, so the driver runs in a process of its own: ``python -m`` this module.
"""

import asyncio
import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import wisp
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.process import KeeperIdentity, kill_keeper, start_keeper
from wisp.model.action import NetworkAction
from wisp.model.network import Network
from wisp.primitives import errors

BINARY = Path(wisp.__file__).parent / "_artifacts" / "wisp-native"
WORKER = Path(__file__).with_name("worker.py")


class CloudNetwork:
    """The driver inside the cloud, by proxy; any other task of the worker through ``call``."""

    def __init__(self, directory: Path, keeper: KeeperClient, identity: KeeperIdentity) -> None:
        self.directory, self.keeper, self.identity = directory, keeper, identity
        self._turn = threading.Lock()
        self._start()

    def _start(self) -> None:
        command = [sys.executable, WORKER, self.directory, BINARY]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def apply(self, actions: Sequence[NetworkAction]) -> None:
        await self.call("apply", list(actions))

    async def observe(self) -> Network:
        return await self.call("observe")

    async def call(self, task: str, *arguments: Any) -> Any:
        """Give what a task of the worker gives."""
        done, value = await asyncio.to_thread(self._exchange, task, arguments)
        if not done:
            name, message = value
            kind = getattr(errors, name, RuntimeError)
            raise errors.PermanentDriverError(message) if kind is errors.MissingPrerequisite else kind(message)
        return value

    def _exchange(self, task: str, arguments: tuple[Any, ...]) -> Any:
        assert self._worker.stdin and self._worker.stdout
        with self._turn:
            pickle.dump((task, arguments), self._worker.stdin)
            self._worker.stdin.flush()
            return pickle.load(self._worker.stdout)  # noqa: S301 - our own process wrote it

    async def crash(self, going: asyncio.Task[Any] | None = None) -> None:
        """Kill the worker, as a controller may be killed, while it does ``going``; then start another."""
        self._worker.kill()
        if going:
            with contextlib.suppress(EOFError):
                await going
        self.end()
        self._start()

    def end(self) -> None:
        self._worker.kill()
        self._worker.communicate()


@contextlib.asynccontextmanager
async def cloud_network(directory: Path) -> AsyncIterator[CloudNetwork]:
    """Give a network of a fresh cloud in ``directory``, and end the cloud afterwards."""
    identity = await start_keeper(BINARY, directory)
    try:
        async with await KeeperClient.connect(directory) as keeper:
            network = CloudNetwork(directory, keeper, identity)
            try:
                yield network
            finally:
                network.end()
    finally:
        await kill_keeper(identity)
