"""Instances as the keeper's children: each life of a child is told from the others."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from wisp.drivers.instance.kept import Command, KeptChildren, child_name, last_words
from wisp.drivers.keeper.client import ChildStatus, Spawned, SpawnOrder
from wisp.model.description import HealthCheck, Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.primitives.errors import PermanentDriverError, TransientDriverError, UnknownInstance
from wisp.primitives.time import Duration

SPEC = InstanceSpec(
    name="web-1", kind=Kind.SPT, host="h", namespace="host/h", cpu_millicores=100, memory_bytes=1 << 23,
    health=HealthCheck(), boot_deadline=Duration.of_seconds(1),
)  # fmt: skip
COMMAND = Command(argv=("/bin/true",))


class FakeKeeper:
    """Children as rows; what a signal does is chosen by ``deadly``."""

    def __init__(self) -> None:
        self.rows: dict[str, ChildStatus] = {}
        self.news: asyncio.Queue[ChildStatus] = asyncio.Queue()
        self.deadly = {9, 15}
        self.signals: list[int] = []
        self.count = 0

    async def children(self) -> tuple[ChildStatus, ...]:
        return tuple(self.rows.values())

    async def child(self, child_id: str) -> ChildStatus | None:
        return self.rows.get(child_id)

    async def spawn(self, order: SpawnOrder) -> Spawned:
        if order.child_id in self.rows:
            raise PermanentDriverError(f"child {order.child_id} is known already")
        self.count += 1
        row = ChildStatus(
            id=order.child_id, pid=100 + self.count, start_ticks=7, spawned_at_ns=5, state="running",
            exit_code=None, signal=None, exited_at_ns=None, log=None,
        )  # fmt: skip
        self.rows[order.child_id] = row
        return Spawned(pid=row.pid, start_ticks=7, spawned_at_ns=5)

    async def signal(self, child_id: str, number: int) -> None:
        self.signals.append(number)
        if self.rows[child_id].state == "exited":
            raise PermanentDriverError(f"child {child_id} has ended already")
        if number in self.deadly:
            self.end(child_id, number)

    async def forget(self, child_id: str) -> None:
        if self.rows.get(child_id, None) and self.rows[child_id].state == "running":
            raise PermanentDriverError(f"child {child_id} still runs")
        self.rows.pop(child_id, None)

    async def watch(self) -> AsyncIterator[ChildStatus]:
        while True:
            yield await self.news.get()

    def end(self, child_id: str, number: int | None = 9, status: int | None = None) -> None:
        row = self.rows[child_id]
        ended = ChildStatus(
            id=row.id, pid=row.pid, start_ticks=7, spawned_at_ns=5, state="exited",
            exit_code=status, signal=None if status else number, exited_at_ns=9, log=None,
        )  # fmt: skip
        self.rows[child_id] = ended
        self.news.put_nowait(ended)


@pytest.fixture
def keeper() -> FakeKeeper:
    return FakeKeeper()


@pytest.fixture
async def children(keeper: FakeKeeper, tmp_path: Path) -> AsyncIterator[KeptChildren]:
    kept = KeptChildren(keeper, tmp_path, epoch_offset_ns=1_000)  # type: ignore[arg-type]
    watching = asyncio.create_task(watch(kept))
    yield kept
    watching.cancel()


async def watch(kept: KeptChildren) -> None:
    async for _ in kept.signs():
        pass


async def test_news_of_an_earlier_life_does_not_end_the_present_one(keeper, children):
    first = await children.spawn(SPEC, COMMAND)
    keeper.end(first.child)  # the news is on its way, and somebody looks first
    assert await children.ended(first)
    await children.stop(first, grace=Duration(0))
    second = await children.spawn(SPEC, COMMAND)
    await asyncio.sleep(0.01)  # now the news has come
    assert second.child == first.child
    assert await children.ended(second) is None
    await children.stop(second, grace=Duration(0))
    with pytest.raises(UnknownInstance):
        await children.ended(second)


async def test_one_that_ends_while_it_is_being_stopped_is_no_error(keeper, children):
    handle = await children.spawn(SPEC, COMMAND)
    stopping = asyncio.create_task(children.stop(handle, grace=Duration.of_seconds(1)))
    keeper.deadly = set()
    send = keeper.signal

    async def too_late(child_id: str, number: int) -> None:
        keeper.end(child_id)
        await send(child_id, number)

    keeper.signal = too_late
    await stopping
    assert keeper.rows == {}


async def test_first_kindly_then_by_force(keeper, children):
    keeper.deadly = {9}
    handle = await children.spawn(SPEC, COMMAND)
    await children.stop(handle, grace=Duration.of_ms(10))
    assert keeper.signals == [15, 9]


async def test_without_grace_by_force_at_once(keeper, children):
    handle = await children.spawn(SPEC, COMMAND)
    await children.stop(handle, grace=Duration(0))
    assert keeper.signals == [9]


async def test_one_that_survives_force_is_an_error_with_its_process(keeper, children, monkeypatch):
    keeper.deadly = set()
    monkeypatch.setattr("wisp.drivers.instance.kept.FORCE_PATIENCE_S", 0.01)
    handle = await children.spawn(SPEC, COMMAND)
    with pytest.raises(TransientDriverError, match=f"web-1: process {handle.pid} does not end"):
        await children.stop(handle, grace=Duration(0))


async def test_every_child_that_is_an_instance_is_found_again(keeper, children):
    started = await children.spawn(SPEC, COMMAND)
    await keeper.spawn(SpawnOrder(child_id="controller", argv=("/bin/true",)))
    (found,) = await children.handles()
    assert found == started
    assert (found.instance, found.spec_digest, found.driver) == ("web-1", SPEC.digest, Kind.SPT)
    assert found.spawned_at.ns == 1_005


async def test_a_handle_of_another_process_finds_nothing(children):
    handle = await children.spawn(SPEC, COMMAND)
    other: Handle = replace(handle, start_ticks=8)
    with pytest.raises(UnknownInstance):
        await children.ended(other)
    await children.stop(other, grace=Duration(0))
    assert await children.ended(handle) is None


async def test_the_reason_has_the_guests_last_words(keeper, children, tmp_path):
    (tmp_path / "web-1.log").write_text("hello\nwisp-exit: panic: no way\nqemu: bye\n")
    handle = await children.spawn(SPEC, COMMAND)
    keeper.end(handle.child, status=1)
    ended = await children.ended(handle)
    assert ended is not None
    assert ended.reason == "exited with status 1: panic: no way"


async def test_a_killed_guest_is_not_blamed_for_what_an_earlier_one_said(keeper, children, tmp_path):
    (tmp_path / "web-1.log").write_text("wisp-exit: panic: no way\n")
    handle = await children.spawn(SPEC, COMMAND)
    keeper.end(handle.child)
    ended = await children.ended(handle)
    assert ended is not None
    assert ended.reason == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("log", "words"),
    [("", ""), ("one\ntwo\n", "two"), ("wisp-exit: halt\r\n", "halt"), ("x" * 9000, "x" * 300), ("\xff\n", "\xff")],
)
def test_last_words(tmp_path, log, words):
    path = tmp_path / "x.log"
    path.write_text(log)
    assert last_words(path, by_itself=True) == words
    assert last_words(tmp_path / "none.log", by_itself=True) == ""


def test_names_hold_kind_name_and_digest():
    assert child_name(SPEC) == f"instance/unikernel-spt/web-1@{SPEC.digest}"
