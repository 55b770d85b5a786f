"""What one machine's agent reports, with simulated hands: every way a start, an end and a recovery can go."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from wisp.agent.local import LocalAgent, found_unstarted
from wisp.drivers.clock.system import SystemClock
from wisp.model.action import CreateNamespace, CreateTap, DrainInstance, StartInstance, StopInstance
from wisp.model.description import HealthCheck, Kind
from wisp.model.instance import ImageRef, InstanceSpec, WarmPool
from wisp.model.load import LoadReported
from wisp.model.network import Namespace, Tap
from wisp.model.plan import ElasticGroup, Plan
from wisp.model.report import (
    HealthReported,
    InstanceExited,
    InstanceFound,
    InstanceNotStarted,
    InstanceSlept,
    InstanceStarted,
    InstanceStopped,
    InstanceWoken,
    NetworkObserved,
)
from wisp.model.zone import Zone
from wisp.primitives.errors import TransientDriverError
from wisp.primitives.time import Duration
from wisp.simulation.instance import SimulatedInstances
from wisp.simulation.network import SimulatedNetwork

HOST = Namespace(name="host/h", address="10.0.16.1/32", forwards=True)
TAP = Tap(name="web-1", namespace="host/h", interface="t-web-1", gateway="10.0.16.1/32", address="10.0.16.2")
SPEC = InstanceSpec(
    name="web-1", kind=Kind.SPT, host="h", namespace="host/h", cpu_millicores=100, memory_bytes=1 << 23,
    health=HealthCheck(), boot_deadline=Duration.of_seconds(1),
)  # fmt: skip


class Machine:
    """An agent on simulated hands, and what it reported."""

    def __init__(self) -> None:
        self.instances = SimulatedInstances(Kind.SPT, SystemClock())
        self.network = SimulatedNetwork(self.instances.finish)
        self.reports: list[Any] = []
        self.agent = self.new_agent()

    def new_agent(self) -> LocalAgent:
        return LocalAgent(
            drivers={Kind.SPT: self.instances},
            network=self.network,
            prober=self.instances,
            lives=self.instances,
            budgets=self.instances,
            pools=self.instances,
            names=self.instances,
            secrets=self.no_secrets,
            cpu_seconds=lambda pid: pid / 4,
            clock=SystemClock(),
            report=self.reports.append,
        )

    async def no_secrets(self, _spec: InstanceSpec) -> Mapping[str, str]:
        return {}

    async def reported(self, kind: type[Any]) -> Any:
        """Give the first report of a kind, and forget it and all before."""
        async with asyncio.timeout(5):
            while not any(isinstance(report, kind) for report in self.reports):  # noqa: ASYNC110 - a list cannot call us
                await asyncio.sleep(0.005)
        index = next(i for i, report in enumerate(self.reports) if isinstance(report, kind))
        found = self.reports[index]
        del self.reports[: index + 1]
        return found

    async def start(self) -> Any:
        await self.agent.start(StartInstance(spec=SPEC))
        return (await self.reported(InstanceStarted)).handle


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    machine = Machine()
    watching = asyncio.create_task(machine.agent.watch())
    yield machine
    watching.cancel()
    await machine.agent.close()


async def test_a_start_is_reported_and_then_that_it_answers(machine):
    handle = await machine.start()
    well = await machine.reported(HealthReported)
    assert (well.child, well.problem) == (handle.child, None)


async def test_a_refused_start_is_reported_with_its_reason(machine):
    machine.instances.refuse(SPEC.name, "no room")
    await machine.agent.start(StartInstance(spec=SPEC))
    failed = await machine.reported(InstanceNotStarted)
    assert "no room" in failed.error
    assert (failed.name, failed.spec_digest, failed.is_permanent) == (SPEC.name, SPEC.digest, False)


async def test_a_check_that_fails_unforeseen_is_told(machine, monkeypatch):
    async def broken(*_: object, **__: object) -> str | None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(machine.instances, "probe", broken)
    await machine.start()
    told = await machine.reported(HealthReported)
    assert "RuntimeError: no such thing" in told.problem


async def test_an_end_is_reported_once_and_it_is_asked_no_more(machine):
    handle = await machine.start()
    machine.instances.crash(SPEC.name, "killed by SIGKILL")
    ended = await machine.reported(InstanceExited)
    assert (ended.child, ended.reason) == (handle.child, "killed by SIGKILL")
    await asyncio.sleep(0.1)
    assert machine.reports == []


async def test_one_that_is_told_to_finish_ends_and_is_asked_no_more(machine):
    handle = await machine.start()
    await machine.network.apply([CreateNamespace(namespace=HOST), CreateTap(tap=TAP)])
    await machine.reported(HealthReported)
    await machine.agent.drain(DrainInstance(name=SPEC.name, handle=handle, tap=TAP))
    ended = await machine.reported(InstanceExited)
    assert (ended.child, ended.reason) == (handle.child, "exited with status 0")
    assert not [report for report in machine.reports if isinstance(report, HealthReported)]


async def test_the_load_of_several_is_measured(machine, monkeypatch):
    monkeypatch.setattr("wisp.agent.local.LOAD_EVERY", Duration.of_ms(10))
    handle = await machine.start()
    group = ElasticGroup(name="web", address="192.168.0.1", members=(SPEC.name,), drain=Duration(0), nearest={})
    machine.agent.follow(Plan(instances=(SPEC,), elastic=(group,)))
    measuring = asyncio.create_task(machine.agent.measure_load())
    load = await machine.reported(LoadReported)
    measuring.cancel()
    assert load.cpu_seconds == {SPEC.name: handle.pid / 4}


async def test_a_stop_is_reported_and_is_no_end(machine):
    handle = await machine.start()
    await machine.agent.stop(StopInstance(name=SPEC.name, handle=handle, reason="not wanted"))
    stopped = await machine.reported(InstanceStopped)
    assert (stopped.name, stopped.error) == (SPEC.name, None)
    await asyncio.sleep(0.1)
    assert not [report for report in machine.reports if isinstance(report, InstanceExited)]


async def test_the_next_agent_finds_what_runs_and_watches_it(machine):
    handle = await machine.start()
    second = machine.new_agent()
    await second.observe([found_unstarted(handle)])
    assert await machine.reported(NetworkObserved)
    assert (await machine.reported(InstanceFound)).seen.handle == handle
    second.follow(Plan(instances=(SPEC,)))
    assert (await machine.reported(HealthReported)).problem is None
    await second.close()


@pytest.mark.parametrize("known", [True, False])
async def test_the_next_agent_tells_what_ended_meanwhile(known):
    machine = Machine()
    handle = await machine.start()
    await machine.agent.close()
    if known:
        machine.instances.crash(SPEC.name, "killed by SIGKILL")
    else:
        await machine.instances.stop(handle, grace=Duration(0))
    second = machine.new_agent()
    await second.observe([found_unstarted(handle)])
    ended = await machine.reported(InstanceExited)
    assert ended.reason == ("killed by SIGKILL" if known else "ended while no controller ran")
    await second.close()


async def test_a_summoned_instance_is_asked_only_while_it_is_awake():
    machine = Machine()
    watching = asyncio.create_task(machine.agent.watch())
    spec = replace(SPEC, idle_timeout=Duration.of_seconds(1))
    await machine.agent.start(StartInstance(spec=spec))
    assert (await machine.reported(InstanceStarted)).handle.is_summoned
    await asyncio.sleep(0.2)
    assert machine.reports == []
    machine.instances.wake(spec.name)
    await machine.reported(InstanceWoken)
    assert (await machine.reported(HealthReported)).problem is None
    machine.instances.put_to_sleep(spec.name)
    await machine.reported(InstanceSlept)
    machine.instances.wake(spec.name)
    await machine.reported(InstanceWoken)
    machine.instances.crash(spec.name)
    assert (await machine.reported(InstanceExited)).reason == "killed by SIGKILL"
    watching.cancel()
    await machine.agent.close()


async def test_guests_that_die_while_they_boot_ahead_are_booted_ever_more_rarely(machine, monkeypatch):
    filled: list[float] = []

    async def fill_with_what_dies(pools):
        filled.append(asyncio.get_running_loop().time())
        machine.instances.crash_ahead("edge-page")
        return 1

    monkeypatch.setattr(machine.instances, "keep_warm", fill_with_what_dies)
    warming = asyncio.create_task(machine.agent.keep_warm())
    image = ImageRef(name="page", role="web")
    machine.agent.follow(Plan(pools=(WarmPool(name="edge-page", host="h", image=image, memory_bytes=1 << 24, size=1),)))
    async with asyncio.timeout(10):
        while len(filled) < 6:  # noqa: ASYNC110 - a list cannot call us
            await asyncio.sleep(0.01)
    warming.cancel()
    waits = [later - earlier for earlier, later in pairwise(filled)]
    assert waits[0] < 0.4
    assert waits[-1] > 0.7


async def test_names_that_cannot_be_served_now_are_served_later(machine, monkeypatch):
    served: list[str] = []

    async def serve(zone, _specs):
        served.append(zone.name)
        if len(served) < 3:
            raise TransientDriverError("no room", driver="names", operation="serve")

    monkeypatch.setattr(machine.instances, "serve", serve)
    serving = asyncio.create_task(machine.agent.serve_names())
    machine.agent.follow(Plan(zone=Zone(name="t.internal", ttl_s=5)))
    async with asyncio.timeout(5):
        while len(served) < 3:  # noqa: ASYNC110 - a list cannot call us
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    serving.cancel()
    assert served == ["t.internal"] * 3
