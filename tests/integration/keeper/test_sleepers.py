"""Children that sleep until something waits for them."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from wisp.drivers.keeper.client import ChildStatus, SpawnOrder, Summons, Tended
from wisp.primitives.errors import PermanentDriverError

IDLE = 5
SUMMONS = Summons(held="pipe", idle_status=IDLE, budget="h1", memory_bytes=100)


@pytest.fixture
async def pipe(keeper):
    """The writing end of what the child sleeps on."""
    reader, writer = os.pipe()
    await keeper.client.hold({"pipe": reader})
    os.close(reader)
    await keeper.client.set_budget("h1", 150)
    yield writer
    os.close(writer)


def sleeper(keeper, script: str, name: str = "sleeper", **fields: object) -> SpawnOrder:
    argv = ("/bin/sh", "-c", script)
    return SpawnOrder(child_id=name, argv=argv, held={3: "pipe"}, log=keeper.log(name), summons=SUMMONS, **fields)  # type: ignore[arg-type]


async def row(keeper, name: str = "sleeper") -> ChildStatus:
    return next(child for child in await keeper.client.children() if child.id == name)


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - a file cannot call us
            await asyncio.sleep(0.005)


async def until(keeper, state: str, name: str = "sleeper") -> ChildStatus:
    async with asyncio.timeout(5):
        while (child := await row(keeper, name)).state != state:  # noqa: ASYNC110 - asked, not told
            await asyncio.sleep(0.005)
    return child


async def test_it_starts_when_something_waits_and_the_first_word_is_not_lost(keeper, pipe):
    spawned = await keeper.client.spawn(sleeper(keeper, f"read word <&3; echo got $word; exit {IDLE}"))
    assert spawned.pid == 0
    assert (await row(keeper)).state == "asleep"
    for word in ("one", "two", "three"):
        os.write(pipe, f"{word}\n".encode())
        await eventually(lambda word=word: keeper.log("sleeper").exists() and f"got {word}" in keeper.output("sleeper"))
    assert (await until(keeper, "asleep")).summoned


async def test_wake_starts_it_once_however_often_it_is_asked(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, "echo woken; exec sleep 100"))
    await asyncio.gather(*(keeper.client.wake("sleeper") for _ in range(20)))
    child = await until(keeper, "running")
    await keeper.client.wake("sleeper")
    assert (await row(keeper)).pid == child.pid
    await asyncio.sleep(0.05)
    assert keeper.output("sleeper") == "woken\n"


async def test_it_can_be_woken_at_any_moment_also_while_it_falls_asleep(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, f"exit {IDLE}"))
    for _ in range(2000):
        await keeper.client.wake("sleeper")


async def test_watchers_hear_of_every_change(keeper, pipe):
    watch = keeper.client.watch()
    await keeper.client.spawn(sleeper(keeper, f"read word <&3; sleep 0.1; exit {IDLE}"))
    told = [await anext(watch)]
    os.write(pipe, b"x\n")
    async with asyncio.timeout(5):
        while len(told) < 3 or told[-1].state != "asleep":
            told.append(await anext(watch))
    await watch.aclose()
    assert [child.state for child in told if child.state != "exited"][:2] == ["asleep", "running"]


async def test_one_that_fails_rests_before_it_can_be_woken_again(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, "exit 3"))
    await keeper.client.wake("sleeper")
    assert (await until(keeper, "exited")).exit_code == 3
    with pytest.raises(PermanentDriverError, match="rests"):
        await keeper.client.wake("sleeper")
    await until(keeper, "asleep")
    await keeper.client.wake("sleeper")


async def test_one_that_cannot_be_started_says_why(keeper, pipe):
    order = replace(sleeper(keeper, ""), argv=("/nowhere/program",))
    await keeper.client.spawn(order)
    with pytest.raises(PermanentDriverError, match="/nowhere/program"):
        await keeper.client.wake("sleeper")
    child = await row(keeper)
    assert child.state == "exited"
    assert "/nowhere/program" in (child.trouble or "")


async def test_memory_is_refused_when_it_is_used_up_and_given_back(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, "exec sleep 100"))
    other_reader, other_writer = os.pipe()
    await keeper.client.hold({"other": other_reader})
    await keeper.client.spawn(
        replace(sleeper(keeper, "exec sleep 100", "second"), summons=replace(SUMMONS, held="other"))
    )
    await keeper.client.wake("sleeper")
    with pytest.raises(PermanentDriverError, match="no memory left for it: 100 of 150 bytes are in use, it needs 100"):
        await keeper.client.wake("second")
    await keeper.client.signal("sleeper", signal.SIGKILL)
    await until(keeper, "exited")
    await until(keeper, "asleep", "second")
    await keeper.client.wake("second")
    os.close(other_reader)
    os.close(other_writer)


async def test_a_signal_ends_one_that_sleeps_for_good(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, "exec sleep 100"))
    watch = keeper.client.watch()
    await keeper.client.signal("sleeper", signal.SIGTERM)
    async with asyncio.timeout(5):
        while (await anext(watch)).state != "exited":
            pass
    await watch.aclose()
    os.write(pipe, b"x\n")
    with pytest.raises(PermanentDriverError):
        await keeper.client.wake("sleeper")
    await keeper.client.forget("sleeper")
    assert not [child for child in await keeper.client.children() if child.id == "sleeper"]


async def test_a_forgotten_sleeper_is_not_woken(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, "echo woken"))
    await keeper.client.forget("sleeper")
    os.write(pipe, b"x\n")
    await asyncio.sleep(0.1)
    assert not keeper.log("sleeper").exists() or keeper.output("sleeper") == ""


async def test_it_may_write_its_own_log_up_to_a_limit(keeper, pipe):
    script = "head -c 3000000 /dev/zero; exec sleep 100"
    await keeper.client.spawn(sleeper(keeper, script, own_log=True))
    await keeper.client.wake("sleeper")
    await eventually(lambda: keeper.log("sleeper").exists() and keeper.log("sleeper").stat().st_size >= 1 << 20)
    await asyncio.sleep(0.1)
    assert keeper.log("sleeper").stat().st_size == 1 << 20


async def test_a_waker_may_wake_and_nothing_else(keeper, pipe):
    await keeper.client.spawn(sleeper(keeper, "echo woken; exec sleep 100"))
    talk = "import socket, sys; s = socket.socket(fileno=5); s.setblocking(True)\n"
    talk += "for r in sys.argv[1:]: s.send(r.encode()); print(s.recv(999).decode(), flush=True)"
    requests = ('{"op":"shutdown"}', '{"op":"wake","id":"sleeper"}', '{"op":"wake","id":"nobody"}')
    order = SpawnOrder(child_id="dns", argv=("/usr/bin/python3", "-c", talk, *requests), waker=5, log=keeper.log("dns"))
    await keeper.client.spawn(order)
    await until(keeper, "exited", "dns")
    refused, woken, unknown = keeper.output("dns").splitlines()
    assert "only" in refused
    assert woken == '{"ok":true}'
    assert "no child" in unknown
    assert (await row(keeper)).state == "running"


async def test_one_that_cannot_be_started_lets_the_others_have_their_turn(keeper, pipe):
    """More are wanted than may boot at a time; the first whose turn comes finds no memory."""
    booting = 2 * len(os.sched_getaffinity(0))
    names = [f"boots{number}" for number in range(booting)] + ["poor", "patient"]
    pipes = {name: os.pipe() for name in names}
    await keeper.client.hold({name: reader for name, (reader, _) in pipes.items()})
    await keeper.client.set_budget("h1", 100 * len(names))
    for name in names:
        summons = replace(SUMMONS, held=name, budget="nothing" if name == "poor" else "h1")
        tended = Tended(identity="who=it", tap=name)
        order = replace(sleeper(keeper, "exec sleep 100", name), held={}, summons=summons, tended=tended)
        await keeper.client.spawn(order)
    for name in names:
        await keeper.client.wake(name)
    assert [(await row(keeper, name)).state for name in names] == ["running"] * booting + ["asleep"] * 2
    await keeper.client.signal("boots0", signal.SIGKILL)
    await until(keeper, "running", "patient")
    assert "no memory left" in ((await row(keeper, "poor")).trouble or "")
    for reader, writer in pipes.values():
        os.close(reader)
        os.close(writer)
