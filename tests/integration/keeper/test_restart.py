"""Children that are started again when they end."""

import asyncio
import itertools
import os
import signal
import time

import pytest

from wisp.drivers.keeper.client import ChildStatus, SpawnOrder
from wisp.primitives.errors import PermanentDriverError


def lasting(keeper, script: str = "echo started; exec sleep 100", **fields: object) -> SpawnOrder:
    argv = ("/bin/sh", "-c", script)
    return SpawnOrder(child_id="lasting", argv=argv, log=keeper.log("lasting"), restart=True, **fields)  # type: ignore[arg-type]


async def row(keeper) -> ChildStatus | None:
    return next((child for child in await keeper.client.children() if child.id == "lasting"), None)


async def other_than(keeper, pid: int) -> ChildStatus:
    async with asyncio.timeout(5):
        while True:
            child = await row(keeper)
            if child and child.state == "running" and child.pid != pid:
                return child
            await asyncio.sleep(0.01)


async def test_a_killed_child_is_back_with_what_it_had(keeper):
    reader, writer = os.pipe()
    await keeper.client.hold({"pipe": writer})
    os.close(writer)
    first = await keeper.client.spawn(lasting(keeper, "echo $PPID >&7; exec sleep 100", held={7: "pipe"}))
    assert await asyncio.to_thread(os.read, reader, 10) == b"1\n"
    before = time.monotonic()
    os.kill(first.pid, signal.SIGKILL)
    second = await other_than(keeper, first.pid)
    assert 0.1 <= time.monotonic() - before < 1
    assert second.spawned_at_ns > first.spawned_at_ns
    assert await asyncio.to_thread(os.read, reader, 10) == b"1\n"
    os.close(reader)


async def test_its_end_is_told_each_time(keeper):
    ends = keeper.client.watch()
    await keeper.client.spawn(lasting(keeper, "exit 3"))
    async with asyncio.timeout(5):
        told = [await anext(ends) for _ in range(3)]
    await ends.aclose()
    assert [child.exit_code for child in told] == [3, 3, 3]
    waits = [later.spawned_at_ns - (earlier.exited_at_ns or 0) for earlier, later in itertools.pairwise(told)]
    assert waits[0] >= 0.1e9
    assert waits[1] >= 0.2e9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_through_the_keeper_ends_it_for_good(keeper, number):
    await keeper.client.spawn(lasting(keeper))
    await keeper.client.signal("lasting", number)
    await asyncio.sleep(0.3)
    ended = await row(keeper)
    assert ended and (ended.state, ended.signal) == ("exited", number)


async def test_between_two_lives_it_can_be_ended_or_forgotten(keeper):
    await keeper.client.spawn(lasting(keeper, "echo once; exit 1"))
    await asyncio.sleep(0.05)
    await keeper.client.signal("lasting", signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert keeper.output("lasting") == "once\n"
    await keeper.client.forget("lasting")
    await keeper.client.spawn(lasting(keeper, "echo twice; exit 1"))
    await asyncio.sleep(0.05)
    await keeper.client.forget("lasting")
    await asyncio.sleep(0.2)
    assert await row(keeper) is None
    assert keeper.output("lasting") == "once\ntwice\n"


async def test_what_is_no_longer_held_is_said_and_tried_again(keeper):
    descriptor = os.open("/dev/null", os.O_RDONLY)
    await keeper.client.hold({"thing": descriptor})
    first = await keeper.client.spawn(lasting(keeper, held={5: "thing"}))
    await keeper.client.release(["thing"])
    os.kill(first.pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert "not started again: nothing is held as" in keeper.output("lasting")
    await keeper.client.hold({"thing": descriptor})
    os.close(descriptor)
    await other_than(keeper, first.pid)


async def test_a_passed_descriptor_is_refused(keeper):
    with pytest.raises(PermanentDriverError, match="held descriptors only"):
        await keeper.client.spawn(lasting(keeper, passed={4: 0}))
    assert await row(keeper) is None
