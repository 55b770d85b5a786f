"""Runs inside a cloud, drives its network, and does what tests ask: ``python worker.py DIRECTORY BINARY``.

Tasks come pickled on standard input, answers go pickled to standard output.
"""

import asyncio
import ctypes
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.namespaces import join_cloud
from wisp.drivers.network.emulated import EmulatedNetwork

CLONE_NEWNET = 0x4000_0000


class Worker:
    def __init__(self, keeper: KeeperClient, network: EmulatedNetwork) -> None:
        self.keeper, self.network = keeper, network

    async def apply(self, actions: list[Any]) -> None:
        await self.network.apply(actions)

    async def observe(self) -> Any:
        return await self.network.observe()

    async def run(self, task: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        try:
            return True, await getattr(self, task)(*arguments)
        except Exception as error:
            return False, (type(error).__name__, "; ".join([str(error), *getattr(error, "__notes__", ())]))


async def main(directory: Path, binary: Path) -> None:
    async with await KeeperClient.connect(directory) as keeper:
        namespaces = await keeper.namespaces()
        join_cloud(namespaces.user, namespaces.mount)
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0  # as the controller: in a network that is empty
        worker = Worker(keeper, EmulatedNetwork(keeper, native=binary, log=directory / "delay.log"))
        answers = os.fdopen(os.dup(1), "wb")
        while True:
            try:
                request = await asyncio.to_thread(pickle.load, sys.stdin.buffer)
            except EOFError:
                return
            pickle.dump(await worker.run(*request), answers)
            answers.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
