"""Asks one address without a pause, as many clients; run inside a cloud: ``python -m wisp.bench.crowd FILE``.

FILE says what in JSON (see :func:`main`); the answer is JSON too. Some clients begin a connection for each request,
some keep theirs as long as they may, as browsers do. A request has failed when its connection was refused, reset, cut
or silent, or when the answer was not whole or not a good one. Nothing is asked twice.
"""

import json
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

PORT = 80
PATIENCE_S = 5.0
LINE = b"GET / HTTP/1.1\r\nHost: bench\r\n"
SHOWN = 10


def received(connection: socket.socket) -> tuple[bytes, bool]:
    """Give the body of a whole good answer, and whether the connection may be kept.

    Raises:
        OSError: It was cut, or not a good one.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line.lower() for line in head.split(b"\r\n")]
    if not lines[0].startswith(b"http/1.1 200"):
        raise OSError(f"answered {lines[0].decode()}")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _more(connection)
    return body, b"connection: close" not in lines


def _more(connection: socket.socket) -> bytes:
    if chunk := connection.recv(65536):
        return chunk
    raise OSError("the connection was closed in the middle")


class Crowd:
    """Clients of one address.

    Args:
        address: Whom to ask.
        busy_s: How long without a pause [s].
        calm_s: How long with a pause between requests after that [s].
        pause_s: That pause [s].
    """

    def __init__(self, address: str, *, busy_s: float, calm_s: float, pause_s: float) -> None:
        self._address, self._pause_s = address, pause_s
        self._calm_at = time.monotonic() + busy_s
        self._end_at = self._calm_at + calm_s
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.longest_s = 0.0

    def run(self, beginners: int, keepers: int) -> None:
        """Have so many clients ask until it is time.

        Args:
            beginners: Those that begin a connection for each request.
            keepers: Those that keep theirs.
        """
        kinds = [False] * beginners + [True] * keepers
        threads = [threading.Thread(target=self._ask_on, args=(keeps,)) for keeps in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask_on(self, keeps: bool) -> None:
        connection: socket.socket | None = None
        while (begin := time.monotonic()) < self._end_at:
            try:
                connection = connection or socket.create_connection((self._address, PORT), timeout=PATIENCE_S)
                connection.sendall(LINE + (b"\r\n" if keeps else b"Connection: close\r\n\r\n"))
                body, may_keep = received(connection)
            except OSError as error:
                self._note(begin, None, f"{'kept' if keeps else 'new'} connection: {error}")
                may_keep = False
            else:
                self._note(begin, body.decode(errors="replace").strip(), "")
            if connection is not None and not (keeps and may_keep):
                connection.close()
                connection = None
            if begin >= self._calm_at:
                time.sleep(self._pause_s)

    def _note(self, begin: float, body: str | None, failure: str) -> None:
        with self._lock:
            self.longest_s = max(self.longest_s, time.monotonic() - begin)
            if body is None:
                self.failures.append(failure)
            else:
                self.answers[body] += 1


def main() -> None:
    """Do what the file says.

    Keys: ``address``, ``beginners``, ``keepers``, ``busy_s``, ``calm_s``, ``pause_s``.
    """
    task = json.loads(Path(sys.argv[1]).read_text())
    crowd = Crowd(task["address"], busy_s=task["busy_s"], calm_s=task["calm_s"], pause_s=task["pause_s"])
    crowd.run(task["beginners"], task["keepers"])
    found = {"answers": crowd.answers, "failed": len(crowd.failures), "failures": crowd.failures[:SHOWN]}
    print(json.dumps(found | {"longest_ms": crowd.longest_s * 1000}))


if __name__ == "__main__":
    main()
