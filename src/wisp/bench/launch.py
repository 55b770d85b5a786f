"""One start, timed: the clock is read, the process is spawned, and the first byte of an HTTP answer ends it.

The client is this same process. It connects right after the spawn. On a tap the kernel keeps that connection's first
packet until somebody owns the address; where a refusal can come back instead (a process or a container that does not
listen yet) the client sleeps for 0.1 ms, or for 1 % of the time gone where that is longer, and tries again. Trying
without a pause would keep a processor busy that the process itself could use, and doubles its time on two cores.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from wisp.primitives.values import frozen

REQUEST = b"GET /health HTTP/1.1\r\nHost: wisp-bench\r\n\r\n"
SHORTEST_PAUSE_S = 0.0001
PAUSE_SHARE = 0.01
CLIENT = (
    "same process, one TCP connection opened right after the spawn; a refused one is tried again after 0.1 ms, or "
    "after 1 % of the time gone where that is longer"
)


class Silent(Exception):
    """A start whose answer did not come, or was not what was asked for; its text says which."""


@frozen
class Launch:
    """Everything one timed start needs; nothing is looked up any more.

    Attributes:
        argv: Program, by its path, and arguments.
        endpoint: Where the answer comes from; ``None`` times until the process has ended.
        log: File that takes what the process prints.
        descriptors: Own descriptors the process inherits, by number there.
        pid_file: Where ``argv`` leaves the process id of the server, when that is another one.
        cleanup: Ends the server, when killing the spawned process does not.
        deadline_s: When to give up [s].
    """

    argv: tuple[str, ...]
    endpoint: tuple[str, int] | None
    log: Path
    descriptors: Mapping[int, int] = field(default_factory=dict)
    pid_file: Path | None = None
    cleanup: Callable[[], None] | None = None
    deadline_s: float = 5.0


@frozen
class Timed:
    """What one start gave.

    Attributes:
        elapsed_ms: From just before the spawn to the first byte, or to the exit [ms].
        pss_bytes: Proportional set size after the answer [byte]; ``None`` when nothing is left to look at.
    """

    elapsed_ms: float
    pss_bytes: int | None


class Started:
    """A process that runs because of a launch; ends with the ``with`` block."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._waited = False
        self.started_ns = time.monotonic_ns()
        self.pid = spawn(launch)

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._waited:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._launch.cleanup is not None:
            self._launch.cleanup()

    def answered_ns(self) -> int:
        """Wait for the first byte of the answer and give its instant (CLOCK_MONOTONIC) [ns].

        Raises:
            Silent: None came in time.
        """
        if self._launch.endpoint is None:
            raise ValueError("a launch without an endpoint has no answer")
        return first_byte_ns(self._launch.endpoint, self.started_ns, self._launch.deadline_s)

    def pss_bytes(self) -> int:
        """Give the server's proportional set size [byte]."""
        if self._launch.pid_file is None:
            return pss_bytes(self.pid)
        # The program that leaves the file may write it after the server answers, but surely before it ends.
        os.waitpid(self.pid, 0)
        self._waited = True
        return pss_bytes(int(self._launch.pid_file.read_text()))


def spawn(launch: Launch) -> int:
    """Start the process (vfork and exec, so the size of this one does not matter) and give its id."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(launch.log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    actions += [(os.POSIX_SPAWN_DUP2, own, there) for there, own in launch.descriptors.items()]
    return os.posix_spawn(launch.argv[0], launch.argv, dict(os.environ), file_actions=actions)


def timed(launch: Launch) -> Timed:
    """Start, wait for the end that the launch names, look at the memory, and end it.

    Raises:
        Silent: The end did not come in time.
    """
    if launch.endpoint is None:
        return Timed(elapsed_ms=_until_exit_ns(launch) / 1e6, pss_bytes=None)
    with Started(launch) as server:
        elapsed_ns = server.answered_ns() - server.started_ns
        return Timed(elapsed_ms=elapsed_ns / 1e6, pss_bytes=server.pss_bytes())


def _until_exit_ns(launch: Launch) -> int:
    started_ns = time.monotonic_ns()
    pid = spawn(launch)
    descriptor = os.pidfd_open(pid)
    try:
        ended = select.select([descriptor], [], [], launch.deadline_s)[0]
        elapsed_ns = time.monotonic_ns() - started_ns
    finally:
        os.close(descriptor)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not ended:
        raise Silent(f"{launch.argv[0]} had not ended after {launch.deadline_s:g} s")
    return elapsed_ns


def first_byte_ns(endpoint: tuple[str, int], started_ns: int, deadline_s: float) -> int:
    """Ask ``endpoint`` until it answers and give the instant of the first byte (CLOCK_MONOTONIC) [ns].

    Raises:
        Silent: No answer within ``deadline_s`` of ``started_ns``, or not a 200.
    """
    deadline_ns = started_ns + round(deadline_s * 1e9)
    while (now_ns := time.monotonic_ns()) < deadline_ns:
        answer = _ask(endpoint, deadline_ns)
        answered_ns = time.monotonic_ns()
        if answer is not None:
            if answer.split(b" ", 2)[1:2] != [b"200"]:
                raise Silent(f"{endpoint[0]}:{endpoint[1]} answered {answer[:60]!r}")
            return answered_ns
        time.sleep(max(SHORTEST_PAUSE_S, (now_ns - started_ns) / 1e9 * PAUSE_SHARE))
    raise Silent(f"{endpoint[0]}:{endpoint[1]} did not answer within {deadline_s:g} s")


def _ask(endpoint: tuple[str, int], deadline_ns: int) -> bytes | None:
    """Give the first bytes of the answer, or ``None`` when the connection was refused or broke."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        poller = select.poll()
        try:
            with suppress(BlockingIOError):
                connection.connect(endpoint)
            poller.register(connection, select.POLLOUT)
            if not _ready(poller, deadline_ns):
                return None
            connection.send(REQUEST)
            poller.modify(connection, select.POLLIN)
            return (connection.recv(4096) or None) if _ready(poller, deadline_ns) else None
        except OSError:
            return None


def _ready(poller: select.poll, deadline_ns: int) -> bool:
    left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
    return left_ms > 0 and bool(poller.poll(left_ms))


def pss_bytes(pid: int) -> int:
    """Give a process's proportional set size [byte]: its own pages, and its share of those it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss line")
