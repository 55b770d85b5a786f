"""A real cloud with a network per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.network.cloud import CloudNetwork, cloud_network


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[CloudNetwork]:
    async with cloud_network(tmp_path / "cloud") as network:
        yield network
