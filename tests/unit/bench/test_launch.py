"""Timed starts, on small programs made of the interpreter itself."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wisp.bench.cloud import tree_cpu_seconds
from wisp.bench.launch import Launch, Silent, timed

SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection = listener.accept()[0]
    connection.recv(1000)
    connection.sendall(sys.argv[2].encode())
"""


def launch(tmp_path: Path, *arguments: str, port: int | None, deadline_s: float = 10.0) -> Launch:
    return Launch(
        argv=(sys.executable, "-S", "-c", *arguments),
        endpoint=None if port is None else ("127.0.0.1", port),
        log=tmp_path / "log",
        deadline_s=deadline_s,
    )


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def test_a_server_is_timed_to_its_first_byte_measured_and_ended(tmp_path: Path, port: int) -> None:
    found = timed(launch(tmp_path, SERVER, str(port), "HTTP/1.1 200 OK\r\n\r\n", port=port))
    assert 1 < found.elapsed_ms < 10_000
    assert found.pss_bytes is not None
    assert found.pss_bytes > 1 << 20
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_another_status_is_not_an_answer(tmp_path: Path, port: int) -> None:
    with pytest.raises(Silent, match="500"):
        timed(launch(tmp_path, SERVER, str(port), "HTTP/1.1 500 Sorry\r\n\r\n", port=port))


def test_silence_ends_at_the_deadline(tmp_path: Path, port: int) -> None:
    with pytest.raises(Silent, match="did not answer within"):
        timed(launch(tmp_path, "", port=port, deadline_s=0.2))


def test_a_program_is_timed_until_it_ends_and_its_words_are_kept(tmp_path: Path) -> None:
    found = timed(launch(tmp_path, "print('done')", port=None))
    assert found.elapsed_ms > 1
    assert found.pss_bytes is None
    assert (tmp_path / "log").read_text() == "done\n"


def test_a_program_that_never_ends_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Silent, match="had not ended"):
        timed(launch(tmp_path, "import time; time.sleep(60)", port=None, deadline_s=0.2))


def test_descriptors_are_inherited_under_the_number_asked_for(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    plain = launch(tmp_path, "import os; os.write(7, b'here')", port=None)
    timed(Launch(argv=plain.argv, endpoint=None, log=plain.log, descriptors={7: writing}))
    os.close(writing)
    assert os.read(reading, 10) == b"here"
    os.close(reading)


def test_processor_time_counts_children_too() -> None:
    busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        before = tree_cpu_seconds(os.getpid())
        while tree_cpu_seconds(os.getpid()) < before + 0.05:
            assert busy.poll() is None
        assert tree_cpu_seconds(busy.pid) > 0
    finally:
        busy.kill()
        busy.wait()
