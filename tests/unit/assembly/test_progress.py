"""Waiting for a controller: through its end and its successor's beginning, and no longer than the cloud lives."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from wisp.assembly.progress import SILENT_CONTROLLERS, ControllerState, ProgressServer, follow, listen
from wisp.model.observation import Event, Severity
from wisp.primitives.time import Instant


def state(revision: int) -> ControllerState:
    return ControllerState(revision=revision, settled=False, ready=0, wanted=1, network_done=False)


class Controllers:
    """One after the other on the same listening socket, as under a keeper."""

    def __init__(self, path: Path) -> None:
        self.listener = listen(path)
        self.pokes = 0
        self.running: asyncio.Task[None] | None = None

    def begin(self, revision: int) -> ProgressServer:
        server = ProgressServer(lambda: state(revision), self.poked)
        self.running = asyncio.create_task(server.serve(self.listener.dup()))
        return server

    def poked(self) -> None:
        self.pokes += 1

    async def end(self) -> None:
        assert self.running
        await asyncio.sleep(0.05)  # until it has seen its clients go
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.listener.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    return deep / "controller.sock"


async def serve(listener: socket.socket, answer: Callable[[], bytes]) -> None:
    """Take connections and close them after an answer, as a controller that is killed does."""
    while True:
        client, _ = await asyncio.get_running_loop().sock_accept(listener)
        with client:
            client.sendall(answer())


async def test_the_present_state_comes_first_then_each_change(path):
    controllers = Controllers(path)
    server = controllers.begin(1)
    states = follow(path, poke=True)
    assert (await anext(states)).revision == 1
    event = Event(at=Instant(1), severity=Severity.INFO, what="x", subject="y", message="z")
    server.tell((event,))
    assert (await anext(states)).events == (event,)
    assert controllers.pokes == 1
    await states.aclose()
    await controllers.end()


async def test_a_successor_is_followed(path):
    answers = iter([b'{"revision":1,"settled":false,"ready":0,"wanted":1,"network_done":false}\n', b""])
    second = b'{"revision":2,"settled":true,"ready":1,"wanted":1,"network_done":true}\n'
    with listen(path) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(serve(listener, lambda: next(answers, second)))
        async with asyncio.timeout(5):
            states = follow(path, poke=False)
            assert [(await anext(states)).revision for _ in range(2)] == [1, 2]
            await states.aclose()
        serving.cancel()


async def test_controllers_that_end_without_a_word_are_given_up(path):
    starts = []
    with listen(path) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(serve(listener, lambda: starts.append(1) or b""))
        async with asyncio.timeout(5):
            assert [each async for each in follow(path, poke=False)] == []
        serving.cancel()
    assert len(starts) == SILENT_CONTROLLERS


async def test_it_ends_with_the_cloud(path):
    line = b'{"revision":1,"settled":false,"ready":0,"wanted":1,"network_done":false}\n'
    listener = listen(path)
    listener.setblocking(False)

    def once() -> bytes:
        listener.close()
        path.unlink()
        return line

    serving = asyncio.create_task(serve(listener, once))
    async with asyncio.timeout(5):
        assert len([each async for each in follow(path, poke=False)]) == 1
    await asyncio.gather(serving, return_exceptions=True)


async def test_nobody_there_is_an_error(path):
    with pytest.raises(OSError):
        await anext(follow(path, poke=False))


async def test_a_client_that_does_not_read_is_dropped_and_harms_nobody(path):
    controllers = Controllers(path)
    server = controllers.begin(1)
    lazy = follow(path, poke=False)
    await anext(lazy)
    event = Event(at=Instant(1), severity=Severity.INFO, what="x", subject="y", message="z" * 100_000)
    for _ in range(600):
        server.tell((event,))
    eager = follow(path, poke=False)
    async with asyncio.timeout(5):
        assert (await anext(eager)).revision == 1
    await lazy.aclose()
    await eager.aclose()
    await controllers.end()


def test_a_socket_that_was_left_is_replaced(path):
    listen(path).close()
    with listen(path) as listener:
        assert listener.getsockname()
    assert path.stat().st_mode & 0o777 == 0o600
