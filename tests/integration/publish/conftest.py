"""The same empty place as for whole clouds, and ports that nobody uses."""

import socket
from collections.abc import Callable

import pytest
from tests.integration.cloud.conftest import place

__all__ = ["free_port", "place"]


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give ports that were free a moment ago, each once."""
    given: set[int] = set()

    def one() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return one
