"""Has a module of the benchmarks do a task inside a cloud, as its keeper's privileged child, as a controller is.

The module is started as ``python -m MODULE FOLDER``; FOLDER holds ``task.json``, and it writes ``result.json`` there.
"""

import asyncio
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import msgspec

from wisp.drivers.keeper.client import KeeperClient, SpawnOrder
from wisp.primitives.errors import TransientDriverError

CHILD = "bench"
PATIENCE_S = 300.0
_Result = TypeVar("_Result")


async def done_inside(
    keeper: KeeperClient, folder: Path, module: ModuleType, task: msgspec.Struct, form: type[_Result]
) -> _Result:
    """Have a task done and give its result.

    Args:
        keeper: Of the cloud.
        folder: For what goes to and fro.
        module: Whose ``main`` does it.
        task: What to do.
        form: What comes of it.

    Raises:
        TransientDriverError: It failed; with its reason.
    """
    (folder / "task.json").write_bytes(msgspec.json.encode(task))
    await keeper.spawn(
        SpawnOrder(
            child_id=CHILD,
            argv=(sys.executable, "-m", module.__name__, str(folder)),
            env={key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ},
            log=folder / "worker.log",
            privileged=True,
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )
    )
    async with asyncio.timeout(PATIENCE_S):
        async for child in keeper.watch():
            if child.id == CHILD and child.state == "exited":
                break
    await keeper.forget(CHILD)
    if child.exit_code != 0:
        why = folder / "failed"
        raise TransientDriverError(f"{module.__name__} failed: {why.read_text() if why.exists() else child}")
    return msgspec.json.decode((folder / "result.json").read_bytes(), type=form)


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Leave the reason in ``failed`` when a task does not work."""
    try:
        yield
    except Exception as error:
        (folder / "failed").write_text(f"{type(error).__name__}: {error}")
        raise
