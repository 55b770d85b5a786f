"""Asks sleeping instances as a device would; run inside a cloud: ``python -m wisp.bench.asker FILE``.

FILE says what in JSON (see :func:`main`); the answer is a JSON list with an :data:`Outcome` for each request. Imports
nothing that takes long, so that many can be started.
"""

import json
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path

SERVER = ("169.254.53.53", 53)
PORT = 80
PATIENCE_S = 20.0
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200"
DNS_HEADER = struct.Struct(">6H")
# What came of a request: its time [ms], or why it was lost.
Outcome = float | str


def query(name: str, number: int) -> bytes:
    """Give the bytes of a query for the IPv4 address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return DNS_HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)


def address_in(answer: bytes) -> str | None:
    """Give the address of an answer with one record; ``None`` for any other."""
    _, flags, _, answers, *_ = DNS_HEADER.unpack_from(answer)
    return socket.inet_ntoa(answer[-4:]) if answers == 1 and not flags & 15 else None


def resolved(name: str) -> str:
    """Give the address of a name.

    Raises:
        OSError: There was none, or no answer.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(query(name, 7), SERVER)
        if address := address_in(client.recv(512)):
            return address
    raise OSError(f"{name} has no address")


def asked(address: str) -> tuple[float, bool]:
    """Ask an address for its page; give when the first byte came [s] and whether it was a good one."""
    with socket.create_connection((address, PORT), timeout=PATIENCE_S) as client:
        client.sendall(REQUEST)
        first = client.recv(65536)
        at = time.perf_counter()
        while client.recv(65536):
            pass
    return at, first.startswith(ANSWER)


def one(target: str, *, by_name: bool) -> Outcome:
    """Give the time from the query, or from the first packet, to the first byte."""
    begin = time.perf_counter()
    try:
        at, is_good = asked(resolved(target) if by_name else target)
    except OSError as error:
        return f"{target}: {type(error).__name__}: {error}, after {(time.perf_counter() - begin) * 1000:.1f} ms"
    return (at - begin) * 1000 if is_good else f"{target}: its answer was no good page"


def in_turn(targets: list[str], rounds: int, gap_s: float, *, by_name: bool) -> list[Outcome]:
    """Ask one after the other, with a pause after each."""
    times = []
    for number in range(rounds):
        times.append(one(targets[number % len(targets)], by_name=by_name))
        time.sleep(gap_s)
    return times


def at_random(targets: list[str], rounds: int, gap_s: float, *, by_name: bool) -> list[Outcome]:
    """Ask whomever whenever: often just when an instance is about to fall asleep."""
    chance = random.Random(7)  # noqa: S311 - not for secrets
    times = []
    for _ in range(rounds):
        times.append(one(chance.choice(targets), by_name=by_name))
        time.sleep(chance.uniform(0, 2 * gap_s))
    return times


class Burst:
    """Asks for all names at once, and every address for its page as soon as it is known."""

    def __init__(self, targets: list[str]) -> None:
        self.times: list[Outcome] = [f"{target}: no good answer" for target in targets]
        self._left, self._begin = len(targets), time.perf_counter()
        self._clients: dict[int, tuple[socket.socket, int]] = {}
        self._asked: set[int] = set()
        self._poller = select.epoll()
        self._names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._names.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._names.setblocking(False)
        self._poller.register(self._names, select.EPOLLIN)
        for number, target in enumerate(targets):
            self._names.sendto(query(target, number), SERVER)

    def run(self) -> list[Outcome]:
        """Give what came of each."""
        while self._left and time.perf_counter() < self._begin + PATIENCE_S:
            for descriptor, _ in self._poller.poll(1.0):
                if descriptor == self._names.fileno():
                    self._connect()
                elif descriptor in self._asked:
                    self._read(descriptor)
                else:
                    self._send(descriptor)
        return self.times

    def _connect(self) -> None:
        """Connect to every address that has come."""
        while True:
            try:
                answer = self._names.recv(512)
            except BlockingIOError:
                return
            address = address_in(answer)
            if address is None:
                self._left -= 1
                continue
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.setblocking(False)
            client.connect_ex((address, PORT))
            self._clients[client.fileno()] = client, int.from_bytes(answer[:2], "big")
            self._poller.register(client, select.EPOLLOUT)

    def _send(self, descriptor: int) -> None:
        client, _ = self._clients[descriptor]
        self._asked.add(descriptor)
        try:
            client.sendall(REQUEST)
        except OSError:
            self._end(descriptor)
        else:
            self._poller.modify(client, select.EPOLLIN)

    def _read(self, descriptor: int) -> None:
        client, number = self._clients[descriptor]
        try:
            if client.recv(65536).startswith(ANSWER):
                self.times[number] = (time.perf_counter() - self._begin) * 1000
        except OSError:
            pass
        self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        client, _ = self._clients.pop(descriptor)
        self._asked.discard(descriptor)
        self._poller.unregister(client)
        client.close()
        self._left -= 1


def main() -> None:
    """Do the task of the file and print the times [ms]."""
    task = json.loads(Path(sys.argv[1]).read_text())
    how, targets = task["how"], task["targets"]
    if how == "burst":
        times = Burst(targets).run()
    else:
        ask = at_random if how == "random" else in_turn
        times = ask(targets, task["rounds"], task["gap_s"], by_name=task["by_name"])
    print(json.dumps(times))


if __name__ == "__main__":
    main()
