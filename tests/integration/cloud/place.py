"""A place for clouds of one test: folders of its own, the ``wisp`` program, and what is left when it is done."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wisp.assembly.settings import CloudFolder
from wisp.drivers.keeper.client import ChildStatus, KeeperClient
from wisp.drivers.keeper.process import read_identity

EXAMPLES = Path(__file__).parents[3] / "examples"
HELLO, THREE_HOSTS, FOG = (EXAMPLES / name / "cloud.yaml" for name in ("hello", "three-hosts", "fog"))
WISP = (str(Path(sys.executable).with_name("wisp")),)
PATIENCE_S = 60
PROC = Path("/proc")


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Place:
    """Folders of state and cache, and the program that uses them.

    Args:
        directory: Where the folders are made.
        before: Words to put before the command, as ``unshare`` and its options.
    """

    def __init__(self, directory: Path, *before: str) -> None:
        self.directory, self.before = directory, before
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CACHE_HOME": str(directory / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        }

    @property
    def program(self) -> tuple[str, ...]:
        return WISP

    def wisp(self, *words: str | Path, before: tuple[str, ...] = (), **environment: str) -> Done:
        """Run ``wisp`` to its end."""
        done = subprocess.run(
            [*self.before, *before, *WISP, *map(str, words)],
            env=self.environment | environment, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def shell(self, script: str, *words: str | Path, before: tuple[str, ...] = ()) -> Done:
        """Run a shell script with the program as ``$0`` and ``words`` behind it."""
        command = [*before, "sh", "-c", script, *WISP, *map(str, words)]
        done = subprocess.run(
            command, env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE_S
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str | Path, **environment: str) -> Any:
        """Run ``wisp ... --json`` and give what it prints."""
        done = self.wisp(*words, "--json", **environment)
        assert done.status == 0, f"{words}: {done.err}{done.out}{self.controller_logs()}"
        return done.json

    def begin(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """Start ``wisp`` and do not wait for it."""
        return subprocess.Popen(
            [*self.before, *WISP, *map(str, words)],
            env=self.environment, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=_hears_interrupts,
        )  # fmt: skip

    def folder(self, cloud: str) -> CloudFolder:
        return CloudFolder(self.directory / "state" / "wisp" / "clouds" / cloud)

    def keeper_pid(self, cloud: str) -> int:
        identity = read_identity(self.folder(cloud).path)
        assert identity
        return identity.pid

    def children(self, cloud: str) -> dict[str, ChildStatus]:
        """Give what the keeper knows of its children, by id."""

        async def ask() -> dict[str, ChildStatus]:
            async with await KeeperClient.connect(self.folder(cloud).path) as keeper:
                return {child.id: child for child in await keeper.children()}

        return asyncio.run(ask())

    def pids(self, cloud: str) -> dict[str, int]:
        """Give the process id of every instance."""
        return self.pids_of(self.ok("ps", "-c", cloud))

    @staticmethod
    def pids_of(rows: list[dict[str, Any]]) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in rows}

    def events(self, cloud: str) -> list[Mapping[str, Any]]:
        return list(self.ok("events", "-c", cloud))

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def controller_logs(self) -> str:
        return "".join(log.read_text() for log in self.directory.glob("state/wisp/clouds/*/logs/controller.log"))

    def leftovers(self) -> list[str]:
        """Give the files of clouds, and the processes whose command or environment names this place."""
        files = [str(path) for path in self.directory.glob("state/wisp/clouds/*")]
        return files + [words for words in processes() if str(self.directory) in words]


def processes() -> Iterator[str]:
    """Give ``pid: command`` of every living process but our own ancestors."""
    for entry in PROC.glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            running = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            continue
        if running and command and "pytest" not in command:
            yield f"{entry.name}: {command}"


def namespaces(pid: int) -> set[int]:
    """Give the inodes of the namespaces of a process and of those it holds."""
    found = set()
    for link in (*(PROC / str(pid) / "ns").iterdir(), *(PROC / str(pid) / "fd").iterdir()):
        kind, _, number = str(link.readlink()).partition(":[")
        if kind in ("user", "mnt", "pid", "net"):
            found.add(int(number.rstrip("]")))
    return found - own_namespaces()


def own_namespaces() -> set[int]:
    return {int(str(link.readlink()).partition(":[")[2].rstrip("]")) for link in PROC.glob("self/ns/*")}


def users_of(inodes: set[int]) -> list[str]:
    """Give every process, or descriptor of one, that still refers to one of these namespaces."""
    return [str(link) for link in _namespace_links() if _inode(link) in inodes]


def _namespace_links() -> Iterator[Path]:
    for process in PROC.glob("[0-9]*"):
        try:
            # An ended keeper stays on the list until the machine's init has read how it ended.
            if (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                yield from (process / "ns").iterdir()
                yield from (process / "fd").iterdir()
        except OSError:
            continue


def _inode(link: Path) -> int | None:
    try:
        kind, _, number = str(link.readlink()).partition(":[")
    except OSError:
        return None
    return int(number.rstrip("]")) if kind in ("user", "mnt", "pid", "net") else None


def wait_until(true: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """Give what ``true`` gives once it is true."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s:g} s: {what}")


def _hears_interrupts() -> None:
    """Have the process end by Ctrl-C even where this one was started in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
