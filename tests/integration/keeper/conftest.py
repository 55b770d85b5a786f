"""A real keeper per test."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import wisp
from wisp.drivers.keeper.client import ChildStatus, KeeperClient, SpawnOrder
from wisp.drivers.keeper.process import KeeperIdentity, kill_keeper, start_keeper

LAB = Path(__file__).with_name("lab.py")
BINARY = Path(wisp.__file__).parent / "_artifacts" / "wisp-native"


@dataclass
class Keeper:
    directory: Path
    identity: KeeperIdentity
    client: KeeperClient

    async def run(self, script: str, **fields: object) -> ChildStatus:
        """Run a shell script to its end; its output is in ``output()``."""
        child_id = str(fields.pop("child_id", "script"))
        watch = self.client.watch()
        argv = ("/bin/sh", "-c", script)
        fields.setdefault("log", self.log(child_id))
        order = SpawnOrder(child_id=child_id, argv=argv, **fields)  # type: ignore[arg-type]
        await self.client.spawn(order)
        async with asyncio.timeout(20):
            async for status in watch:
                if status.id == child_id:
                    await watch.aclose()  # type: ignore[attr-defined]
                    return status
        raise AssertionError("the watch ended")

    @staticmethod
    def status_of(pid: int, name: str) -> int:
        """Sum the numbers of all lines of ``/proc/PID/status`` that have ``name`` in them."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if name in line)

    def log(self, child_id: str = "script") -> Path:
        return self.directory / f"{child_id}.log"

    def output(self, child_id: str = "script") -> str:
        return self.log(child_id).read_text()


@pytest.fixture
def binary() -> Path:
    return BINARY


StartKeeper = Callable[..., Awaitable[Keeper]]


@pytest.fixture
async def new_keeper(tmp_path: Path) -> AsyncIterator[StartKeeper]:
    keepers: list[Keeper] = []

    async def start(name: str = "cloud") -> Keeper:
        directory = tmp_path / name
        identity = await start_keeper(BINARY, directory)
        keepers.append(Keeper(directory, identity, await KeeperClient.connect(directory)))
        return keepers[-1]

    yield start
    for one in keepers:
        one.client.close()
        await kill_keeper(one.identity)


@pytest.fixture
async def keeper(new_keeper: StartKeeper) -> Keeper:
    return await new_keeper()


@pytest.fixture
def lab(keeper, binary):
    async def run(task: str) -> Any:
        program = await asyncio.create_subprocess_exec(
            sys.executable, LAB, keeper.directory, binary, task,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            output, errors = await program.communicate()
        assert program.returncode == 0, errors.decode()
        print(f"{task}: {output.decode()}")
        return json.loads(output)

    return run
