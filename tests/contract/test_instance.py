"""Every instance driver keeps the port's promises."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.cloud import rootfs
from tests.integration.cloud.drivers import CloudDrivers, RealWorld, RemoteDriver, cloud_drivers, planned

from wisp.assembly.settings import Settings
from wisp.drivers.clock.system import SystemClock
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.simulation.instance import SimulatedInstances
from wisp.testing.instance import InstanceDriverContract

GUEST = Settings.from_environment().artifacts / "web.microvm.elf"


@dataclass(frozen=True)
class SimulatedWorld:
    driver: SimulatedInstances

    def spec(self) -> InstanceSpec:
        return planned()[0][Kind.MICROVM]

    def broken_spec(self) -> InstanceSpec:
        self.driver.refuse("microvm", "it is broken")
        return self.spec()

    async def kill(self, handle: Handle) -> None:
        self.driver.crash(handle.instance)

    async def answers(self, spec: InstanceSpec) -> bool:
        return await self.driver.probe(spec, within=spec.health.timeout) is None


class TestSimulatedInstances(InstanceDriverContract):
    @pytest.fixture
    def driver(self) -> SimulatedInstances:
        return SimulatedInstances(Kind.MICROVM, SystemClock())

    @pytest.fixture
    def world(self, driver: SimulatedInstances) -> SimulatedWorld:
        return SimulatedWorld(driver)


@pytest.fixture
async def drivers(tmp_path: Path) -> AsyncIterator[CloudDrivers]:
    async with cloud_drivers(tmp_path / "cloud") as drivers:
        yield drivers


class RealDriver(InstanceDriverContract):
    kind: Kind

    @pytest.fixture
    async def driver(self, drivers: CloudDrivers) -> RemoteDriver:
        return RemoteDriver(drivers, self.kind, await drivers.call("capabilities", self.kind))

    @pytest.fixture
    def world(self, drivers: CloudDrivers) -> RealWorld:
        return RealWorld(drivers, self.kind)


class TestMicrovmDriver(RealDriver):
    kind = Kind.MICROVM


class TestSptDriver(RealDriver):
    kind = Kind.SPT


class ForeignDriver(RealDriver):
    """Wisp's own guest as somebody else's image: any PVH image will do."""

    @pytest.fixture(autouse=True)
    def files(self, drivers: CloudDrivers) -> None:
        (drivers.directory / "foreign.elf").symlink_to(GUEST)


class TestImageDriver(ForeignDriver):
    kind = Kind.IMAGE


class TestVmDriver(ForeignDriver):
    kind = Kind.VM


class TestContainerDriver(RealDriver):
    kind = Kind.CONTAINER

    @pytest.fixture(autouse=True)
    def files(self, drivers: CloudDrivers) -> None:
        rootfs.prepare(drivers.directory / "rootfs")


class TestProcessDriver(RealDriver):
    kind = Kind.PROCESS
