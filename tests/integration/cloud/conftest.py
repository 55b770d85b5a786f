"""A place per test, which must be as empty afterwards as before."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cloud.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    done = place.wisp("down", "--all")
    assert done.status == 0, done.err
    assert place.leftovers() == []
