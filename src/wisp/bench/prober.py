"""Datagrams from router to router: who arrives, at rest and while the network changes. Inside a cloud."""

import socket
import threading
import time
from collections.abc import Mapping, Sequence

from wisp.drivers.network.place import home, inside

PORT = 9
PATIENCE_S = 10.0
_PAUSE_S = 0.001
_BUFFER_BYTES = 1 << 20


class Prober:
    """A socket in each of some namespaces.

    Args:
        namespaces: Their descriptors, by name; not closed.
    """

    def __init__(self, namespaces: Mapping[str, int]) -> None:
        back_to = home()
        self._sockets: dict[str, socket.socket] = {}
        for name, descriptor in namespaces.items():
            with inside(descriptor, back_to):
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            made.bind(("0.0.0.0", PORT))  # noqa: S104 - inside of the cloud
            self._sockets[name] = made

    def close(self) -> None:
        """Close all of them."""
        for each in self._sockets.values():
            each.close()

    def send(self, number: int, source: str, address: str) -> None:
        """Send a datagram with a number; one that finds no way is lost as any other."""
        try:
            self._sockets[source].sendto(number.to_bytes(4, "big"), (address, PORT))
        except OSError:
            return

    def arrived(self, wanted: int) -> set[int]:
        """Give the numbers that have arrived anywhere, once there are so many or none comes any more."""
        found: set[int] = set()
        end = time.monotonic() + PATIENCE_S
        while len(found) < wanted and time.monotonic() < end:
            for each in self._sockets.values():
                found |= _received(each)
            time.sleep(0.005)
        return found


class Stream:
    """Datagrams between pairs of namespaces, one after another, as long as it is entered.

    Args:
        prober: Who sends.
        pairs: Name of the one that sends, and address of the one that receives.

    Attributes:
        sent: How many were.
    """

    def __init__(self, prober: Prober, pairs: Sequence[tuple[str, str]]) -> None:
        self._prober, self._pairs, self.sent, self._is_over = prober, pairs, 0, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Stream":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            for source, address in self._pairs:
                self._prober.send(self.sent, source, address)
                self.sent += 1
            time.sleep(_PAUSE_S)


def _received(socket_: socket.socket) -> set[int]:
    found = set()
    try:
        while True:
            found.add(int.from_bytes(socket_.recv(16), "big"))
    except BlockingIOError:
        return found
