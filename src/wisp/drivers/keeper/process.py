"""Starting a keeper, and telling whether one still lives."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import msgspec

from wisp.drivers.keeper.channel import settle
from wisp.primitives.errors import DriverError, MissingPrerequisite, PermanentDriverError

_TAKEN = 4
_FORBIDDEN = 5


class KeeperIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which keeper; enough to tell it from any other process, also after a reboot.

    Attributes:
        pid: As seen from outside the cloud.
        start_ticks: Start time [clock ticks since boot].
        userns_inode: Inode of its user namespace.
        protocol: Version of what it speaks.
    """

    pid: int
    start_ticks: int
    userns_inode: int
    protocol: int


async def start_keeper(binary: Path, directory: Path) -> KeeperIdentity:
    """Start the keeper of ``directory`` and give who it is; returns once it answers.

    Raises:
        MissingPrerequisite: This machine forbids user namespaces; the remedy is in it.
        PermanentDriverError: Another keeper serves the directory, or the start failed.
    """
    command = [str(binary), "keeper", "--dir", str(directory)]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: ASYNC220
    except OSError as error:
        sentence = f"cannot run {binary}: {error.strerror}; build it with `make native`"
        raise PermanentDriverError(sentence, driver="keeper", operation="start") from error
    # Not asyncio's subprocess: its helper thread would keep this process from joining the cloud afterwards.
    await _ended(process.pid)
    _, words = process.communicate()
    if process.returncode != 0:
        raise _start_failure(directory, process.returncode, words.decode(errors="replace").strip())
    identity = read_identity(directory)
    if identity is None:
        raise PermanentDriverError(f"the keeper of {directory} ended at once", driver="keeper", operation="start")
    return identity


def _start_failure(directory: Path, status: int | None, words: str) -> DriverError:
    sentence = words.removeprefix("wisp-native: ")
    if status == _FORBIDDEN:
        message, _, remedy = sentence.rpartition("; ")
        return MissingPrerequisite(message, remedy=remedy, driver="keeper", operation="start")
    reason = sentence or f"exit status {status}"
    return PermanentDriverError(f"cannot start the keeper of {directory}: {reason}", driver="keeper", operation="start")


def read_identity(directory: Path) -> KeeperIdentity | None:
    """Give what the keeper of ``directory`` wrote about itself; ``None`` where there is nothing readable."""
    try:
        return msgspec.json.decode((directory / "keeper.json").read_bytes(), type=KeeperIdentity)
    except (OSError, msgspec.DecodeError):
        return None


def living_keeper(directory: Path) -> KeeperIdentity | None:
    """Give the keeper of ``directory`` if it lives."""
    identity = read_identity(directory)
    return identity if identity is not None and is_alive(identity) else None


def is_alive(identity: KeeperIdentity) -> bool:
    """Tell whether exactly this keeper still runs; a process that took over its number does not count."""
    fields = _stat(identity)
    if not fields or fields[0] in "ZX":
        return False
    try:
        return Path(f"/proc/{identity.pid}/ns/user").stat().st_ino == identity.userns_inode
    except OSError:
        return False


def _stat(identity: KeeperIdentity) -> list[str]:
    """Give the state and later fields of the process, ended but not yet gone included; empty if it is gone."""
    try:
        fields = Path(f"/proc/{identity.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return fields if int(fields[19]) == identity.start_ticks else []


async def wait_for_end(identity: KeeperIdentity) -> None:
    """Return once this keeper has ended; the kernel has then ended every process of the cloud."""
    await _end(identity, kill=False)


async def kill_keeper(identity: KeeperIdentity) -> None:
    """End a keeper that does not answer, and with it its cloud; returns once it is gone. May be repeated."""
    await _end(identity, kill=True)


async def _end(identity: KeeperIdentity, *, kill: bool) -> None:
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        # The number may have passed to somebody else before we opened it. A keeper that is ending counts: its
        # children end with it, and only then is its descriptor readable.
        if _stat(identity):
            if kill:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await _readable(pidfd)
    finally:
        os.close(pidfd)


async def _ended(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        await _readable(pidfd)
    finally:
        os.close(pidfd)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
