"""Running a command inside a cloud, and leading a port of the machine into it."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from wisp.assembly.settings import CloudFolder
from wisp.drivers.keeper.client import KeeperClient, SpawnOrder
from wisp.drivers.keeper.process import living_keeper
from wisp.primitives.errors import MissingPrerequisite, StateError

RELAY_LISTENER_DESCRIPTOR = 3


async def connect(folder: CloudFolder) -> KeeperClient:
    """Connect to the keeper of a cloud that is up.

    Raises:
        StateError: It is not.
    """
    if living_keeper(folder.path) is None:
        raise StateError(f"cloud {folder.name} is down; `wisp up FILE` starts it")
    return await KeeperClient.connect(folder.path)


async def run_inside(folder: CloudFolder, namespace: str, argv: Sequence[str]) -> int:
    """Run a command in one of a cloud's namespaces, on this process's terminal; give its exit status."""
    async with entered(folder, namespace) as (prefix, descriptors):
        return await asyncio.to_thread(_run, [*prefix, *argv], descriptors)


async def capture_inside(folder: CloudFolder, namespace: str, argv: Sequence[str]) -> tuple[int, str]:
    """Run a command in one of a cloud's namespaces; give its exit status and all it wrote."""
    async with entered(folder, namespace) as (prefix, descriptors):
        process = await asyncio.create_subprocess_exec(
            *prefix,
            *argv,
            pass_fds=descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode(errors="replace")


async def lines_inside(
    folder: CloudFolder, namespace: str, argv: Sequence[str], given: bytes, passed: Sequence[int] = ()
) -> AsyncGenerator[bytes, None]:
    """Run a command in one of a cloud's namespaces; give what it writes, line by line; it ends with the iterator.

    Args:
        given: What it reads.
        passed: Descriptors that it inherits, under the same numbers.

    Raises:
        StateError: It failed, with what it said last; or the cloud is down.
    """
    async with entered(folder, namespace) as (prefix, descriptors):
        process = await asyncio.create_subprocess_exec(
            *prefix,
            *argv,
            pass_fds=(*descriptors, *passed),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: S101
        try:
            process.stdin.write(given)
            process.stdin.close()
            async for line in process.stdout:
                yield line
            said = (await process.stderr.read()).decode(errors="replace").strip()
            if await process.wait() != 0:
                raise StateError(f"{argv[-1]} failed in {namespace}: {said.splitlines()[-1] if said else 'no reason'}")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def entered(folder: CloudFolder, namespace: str) -> AsyncIterator[tuple[list[str], tuple[int, ...]]]:
    """Give the words to put before a command so that it runs inside, and the descriptors it must inherit."""
    nsenter = shutil.which("nsenter")
    if nsenter is None:
        raise MissingPrerequisite("no nsenter on this machine", remedy="sudo apt-get install -y util-linux")
    async with await connect(folder) as keeper:
        namespaces = await keeper.namespaces()
        (network,) = await keeper.fetch([f"netns/{namespace}"])
    entries = {"user": namespaces.user, "mount": namespaces.mount, "pid": namespaces.pid, "net": network}
    options = [f"--{kind}=/proc/self/fd/{descriptor}" for kind, descriptor in entries.items()]
    try:
        # Our user is root in there already; becoming it again would need groups that it may not set.
        yield [nsenter, *options, "--preserve-credentials", "--wdns=/", "--"], tuple(entries.values())
    finally:
        for descriptor in entries.values():
            os.close(descriptor)


def _run(argv: Sequence[str], descriptors: tuple[int, ...]) -> int:
    """Run a command to its end; an interrupt goes to it, not to us."""
    with subprocess.Popen(argv, pass_fds=descriptors) as process:
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                continue
            return 128 - status if status < 0 else status


def bind(listen: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Give a socket bound on this machine.

    Args:
        listen: ``PORT`` or ``ADDRESS:PORT``, an IPv6 address in brackets; without one only this machine reaches it.
        kind: TCP or UDP.

    Raises:
        StateError: The address is not this machine's, or the port is in use.
    """
    address, _, port = listen.rpartition(":")
    bound = socket.socket(socket.AF_INET6 if address.startswith("[") else socket.AF_INET, kind)
    try:
        _prepare(bound)
        bound.bind((address.strip("[]") or "127.0.0.1", int(port)))
        if kind is socket.SOCK_STREAM:
            bound.listen(128)
    except (OSError, OverflowError, ValueError) as error:
        bound.close()
        raise StateError(f"cannot listen on {listen}: {error}; take another port, or 0 for a free one") from error
    return bound


def _prepare(unbound: socket.socket) -> None:
    """Let TCP take a port whose last connections still fade; for UDP the same option would share a port in use."""
    if unbound.type is socket.SOCK_STREAM:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if unbound.family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


async def forward_until_cancelled(
    folder: CloudFolder, native: Path, listen: str, to: tuple[str, str, int], ready: Callable[[str], None]
) -> None:
    """Lead connections to ``listen`` into a namespace, until cancelled.

    Args:
        listen: See :func:`bind`.
        to: Namespace, address and port inside the cloud.
        ready: Told where we listen.
    """
    namespace, address, port = to
    child = f"relay/{uuid4().hex}"
    async with await connect(folder) as keeper:
        with bind(listen) as listener:
            relay = (str(native), "relay", "--listen-fd", str(RELAY_LISTENER_DESCRIPTOR), "--to", f"{address}:{port}")
            order = SpawnOrder(
                child_id=child,
                argv=relay,
                netns=f"netns/{namespace}",
                passed={RELAY_LISTENER_DESCRIPTOR: listener.fileno()},
                log=folder.logs / "relay.log",
            )
            await keeper.spawn(order)
            ready("{}:{}".format(*listener.getsockname()))
        try:
            await _until_ended(keeper, child)
        finally:
            await keeper.signal(child, 9)


async def _until_ended(keeper: KeeperClient, child: str) -> None:
    async for ended in keeper.watch():
        if ended.id == child:
            raise StateError("the relay ended; see the relay's log in the cloud's folder")
