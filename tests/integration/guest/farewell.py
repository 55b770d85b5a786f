"""Tells a web guest to go while it is busy: says in JSON what became of its clients, and when it last answered.

``farewell.py ADDRESS INTERFACE MAC``, in the namespace of the guest's host.
"""

import http.client
import json
import os
import sys
import threading
import time

from wisp.drivers.network.farewell import say_farewell

ADDRESS, INTERFACE, MAC = sys.argv[1:]
BUSY_S = 0.7


def answer_on(connection: http.client.HTTPConnection) -> str:
    """Give what an answer says of its connection; the whole page must come."""
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read()
    assert (response.status, len(page)) == (200, 20_000), response.status
    return response.headers["Connection"]


def connect() -> http.client.HTTPConnection:
    """Connect at once."""
    connection = http.client.HTTPConnection(ADDRESS, timeout=3)
    connection.connect()
    return connection


class Client(threading.Thread):
    """Asks again and again for a while, and notes what each answer says of its connection, or what went wrong."""

    def __init__(self, keeps: bool, until: float) -> None:
        super().__init__()
        self.keeps, self.until = keeps, until
        self.words: list[str] = []
        self.problem = ""

    def run(self) -> None:
        """Be a client."""
        try:
            connection = connect()
            while time.monotonic() < self.until:
                self.words.append(answer_on(connection))
                if not self.keeps or self.words[-1] == "close":
                    connection.close()
                    connection = connect()
                time.sleep(0.02)
            # It is not to hold the guest: `close` was said, or comes after a second.
            self.words.append(answer_on(connection))
            connection.close()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.problem = f"{type(error).__name__}: {error}"


def main() -> None:
    """Have clients be busy before and after the farewell; one only keeps a connection, and one never closes its end."""
    begin = time.monotonic()
    clients = [Client(keeps, begin + 2 * BUSY_S) for keeps in (True, True, False, False, False)]
    for client in clients:
        client.start()
    idle = connect()
    before = answer_on(idle)
    time.sleep(begin + BUSY_S - time.monotonic())
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    say_farewell(own, own, INTERFACE, MAC)
    for client in clients:
        client.join()
    rest = idle.sock.recv(1)
    result = {
        "problems": [client.problem for client in clients if client.problem],
        "answers": [len(client.words) for client in clients],
        "first": sorted({client.words[0] for client in clients} | {before}),
        "last": sorted({client.words[-1] for client in clients}),
        "idle": rest.decode(),
        "done_at": time.time(),
    }
    print(json.dumps(result))
    time.sleep(1.5)  # with the idle connection open at this end


main()
