"""A machine of the tests' own: a network namespace whose outside is one more address on its loopback interface."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cloud.place import Place

OUTSIDE, PORT = "198.51.100.1", 8099


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Place]:
    """Give a place in a network where only ``OUTSIDE`` exists; what comes there by UDP is in ``heard``."""
    ordinary = os.getuid() != 0
    program = (sys.executable, str(Path(__file__).with_name("outside.py")))
    words = ["unshare", *(["--map-root-user"] if ordinary else []), "--net", "sh", "-c"]
    words += [f'ip link set lo up && ip addr add {OUTSIDE}/32 dev lo && exec "$@"', "sh", *program]
    with subprocess.Popen([*words, OUTSIDE, str(PORT), str(tmp_path / "heard")], stdout=subprocess.PIPE) as outside:
        assert outside.stdout
        assert outside.stdout.readline() == b"ready\n"
        enter = [f"--net=/proc/{outside.pid}/ns/net"]
        enter += [f"--user=/proc/{outside.pid}/ns/user", "--preserve-credentials"] if ordinary else []
        place = Place(tmp_path, "nsenter", *enter)
        yield place
        done = place.wisp("down", "--all")
        outside.terminate()
        assert done.status == 0, done.err
        assert place.leftovers() == []
