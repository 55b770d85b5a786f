"""Every network driver keeps the port's promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.network.cloud import CloudNetwork, cloud_network

from wisp.simulation.network import SimulatedNetwork
from wisp.testing.network import NetworkDriverContract


class TestSimulatedNetwork(NetworkDriverContract):
    @pytest.fixture
    def network(self) -> SimulatedNetwork:
        return SimulatedNetwork()


class TestEmulatedNetwork(NetworkDriverContract):
    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[CloudNetwork]:
        async with cloud_network(tmp_path / "cloud") as network:
            yield network
