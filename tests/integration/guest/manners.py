"""Asks a web guest the wrong way, then the right way: says ``well`` when it still answers at once."""

import contextlib
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ADDRESS = (sys.argv[1], 80)
REQUEST = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"


def ask(data: bytes = REQUEST, count: int = 1) -> bytes:
    """Send bytes and give what comes back."""
    with socket.create_connection(ADDRESS, timeout=5) as connection:
        connection.sendall(data)
        answer = b""
        while answer.count(b"HTTP/1.1 ") < count or not answer.endswith(b"\n"):
            chunk = connection.recv(65536)
            if not chunk:
                break
            answer += chunk
        return answer


def leave_in_the_middle() -> None:
    """Send half a request and go."""
    with socket.create_connection(ADDRESS, timeout=5) as connection:
        connection.sendall(b"GET /health HT")


def reset_at_once() -> None:
    """Connect and reset."""
    with socket.create_connection(ADDRESS, timeout=5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def begin_anew_from_the_same_port() -> None:
    """Have the guest close first, so that its end of the connection lingers, and connect again from that port."""
    with socket.create_connection(ADDRESS, timeout=5) as connection:
        port = connection.getsockname()[1]
        connection.sendall(b"nonsense\r\n\r\n")
        while connection.recv(65536):
            pass
    time.sleep(0.1)
    with socket.create_connection(ADDRESS, timeout=0.9, source_address=("", port)) as connection:
        connection.sendall(REQUEST)
        assert b"HTTP/1.1 200" in connection.recv(65536)


def main() -> None:
    """Misbehave, then ask properly, many at once."""
    assert ask(REQUEST * 10, 10).count(b"HTTP/1.1 200") == 10, "pipelined requests are answered in turn"
    assert b"HTTP/1.1 400" in ask(b"nonsense\r\n\r\n")
    assert b"HTTP/1.1 431" in ask(b"GET / HTTP/1.1\r\nX: " + b"a" * 6000)
    assert b"HTTP/1.1 505" in ask(b"GET / HTTP/3.0\r\n\r\n")
    begin_anew_from_the_same_port()
    for _ in range(40):
        leave_in_the_middle()
        with contextlib.suppress(OSError):
            reset_at_once()
    time.sleep(0.2)
    begin = time.monotonic()
    assert b"HTTP/1.1 200" in ask()
    assert time.monotonic() - begin < 2, "half-sent requests hold no place"
    with ThreadPoolExecutor(12) as pool:
        assert all(b"HTTP/1.1 200" in answer for answer in pool.map(lambda _: ask(), range(300)))
    print("well")


main()
