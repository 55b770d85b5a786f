"""Round trips of a datagram and of a message on an open connection; a program of its own, without the rest of Wisp.

``python -I echo.py serve PORT`` sends everything back, over UDP and TCP, IPv4 and IPv6, until it is ended.
``python -I echo.py (udp|tcp) ADDRESS PORT COUNT`` prints the times [ms] of COUNT round trips, one a line.
"""

import selectors
import socket
import sys
import time
from collections.abc import Iterator

MESSAGE = b"wisp" * 16
PATIENCE_S = 2.0
PAUSE_S = 0.02


def serve(port: int) -> None:
    """Send back what comes to ``port``, until the process is ended."""
    with (
        selectors.DefaultSelector() as ready,
        _bound(socket.SOCK_DGRAM, port) as datagrams,
        _bound(socket.SOCK_STREAM, port) as listener,
    ):
        listener.listen()
        for each in (datagrams, listener):
            ready.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                _answer(key.fileobj, datagrams, listener, ready)


def _answer(one: object, datagrams: socket.socket, listener: socket.socket, ready: selectors.DefaultSelector) -> None:
    if one is datagrams:
        data, sender = datagrams.recvfrom(2048)
        datagrams.sendto(data, sender)
    elif one is listener:
        connection, _ = listener.accept()
        _at_once(connection)
        ready.register(connection, selectors.EVENT_READ)
    elif isinstance(one, socket.socket):
        if data := one.recv(2048):
            one.sendall(data)
        else:
            ready.unregister(one)
            one.close()


def round_trips_ms(protocol: str, address: str, port: int, count: int) -> Iterator[float]:
    """Give the times of so many round trips [ms], one after another.

    Raises:
        OSError: Nobody answered in time.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect((address, port))
        if protocol == "tcp":
            _at_once(connection)
        # The first lets both ends learn each other's hardware addresses.
        _ask(connection)
        for _ in range(count):
            time.sleep(PAUSE_S)
            begin_ns = time.perf_counter_ns()
            _ask(connection)
            yield (time.perf_counter_ns() - begin_ns) / 1e6


def _ask(connection: socket.socket) -> None:
    connection.sendall(MESSAGE)
    missing = len(MESSAGE)
    while missing:
        missing -= len(connection.recv(missing)) or _ended()


def _ended() -> int:
    raise ConnectionError("the other side closed the connection")


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6, kind)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind(("::", port))
    return one


def _at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    """Do what the arguments say."""
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve(int(rest[0]))
    address, port, count = rest
    for time_ms in round_trips_ms(what, address, int(port), int(count)):
        print(f"{time_ms:.6f}")


if __name__ == "__main__":
    main()
