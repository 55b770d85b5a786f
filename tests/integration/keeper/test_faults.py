"""What happens to a keeper when the world is unkind."""

import asyncio
import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wisp.drivers.keeper.channel import open_socket
from wisp.drivers.keeper.client import KeeperClient, KeeperGone, SpawnOrder
from wisp.drivers.keeper.process import living_keeper, start_keeper, wait_for_end
from wisp.primitives.errors import PermanentDriverError

PROC = Path("/proc")
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def users_of(inodes: set[int]) -> list[str]:
    """Give whatever still refers to one of the namespaces: a process in it or a descriptor of it."""
    return [str(link) for link in namespace_links() if inode_of(link) in inodes]


def namespace_links() -> Iterator[Path]:
    for process in PROC.glob("[0-9]*"):
        try:
            # An ended keeper stays on the list until the machine's init has read how it ended.
            if (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                yield from (process / "ns").iterdir()
                yield from (process / "fd").iterdir()
        except OSError:
            continue


def inode_of(link: Path) -> int | None:
    try:
        kind, _, number = str(link.readlink()).partition(":[")
    except OSError:
        return None
    return int(number.rstrip("]")) if kind in ("user", "mnt", "pid", "net") else None


async def test_kill_9_leaves_nothing(keeper, new_keeper):
    other = await new_keeper("other")
    script = "ip tuntap add t0 mode tap; trap '' TERM HUP; (setsid sleep 100 &); sleep 100"
    await keeper.client.spawn(SpawnOrder(child_id="x", argv=("/bin/sh", "-c", script), privileged=True, env=PATH))
    namespaces = await keeper.client.namespaces()
    network = os.open(f"/proc/{keeper.identity.pid}/ns/net", os.O_RDONLY)
    reader, writer = os.pipe()
    await keeper.client.hold({"netns/x": network, "pipe": writer})
    held = (namespaces.user, namespaces.mount, namespaces.pid, namespaces.inner_mount, network)
    inodes = {os.fstat(descriptor).st_ino for descriptor in held}
    namespaces.close()
    os.close(network)
    os.close(writer)
    assert users_of(inodes)
    before = time.perf_counter()
    os.kill(keeper.identity.pid, signal.SIGKILL)
    await wait_for_end(keeper.identity)
    took = time.perf_counter() - before
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert users_of(inodes) == []
    assert took < 1
    print(f"gone after {took * 1e3:.1f} ms")
    with pytest.raises(KeeperGone):
        await keeper.client.hello()
    assert living_keeper(keeper.directory) is None
    assert (await other.client.hello())[0] == other.identity


async def test_a_new_keeper_takes_the_place_of_a_dead_one(keeper, binary):
    os.kill(keeper.identity.pid, signal.SIGKILL)
    await wait_for_end(keeper.identity)
    identity = await start_keeper(binary, keeper.directory)
    assert identity != keeper.identity
    async with await KeeperClient.connect(keeper.directory) as client:
        assert await client.children() == ()
        await client.shutdown()


async def test_watchers_learn_that_the_keeper_is_gone(keeper):
    async def watch() -> None:
        async for _ in keeper.client.watch():
            pass

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    os.kill(keeper.identity.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        with pytest.raises(KeeperGone):
            await watching


VALID = [
    {"op": "hello"},
    {"op": "hold", "names": ["fuzz"]},
    {"op": "fetch", "names": ["fuzz"]},
    {"op": "release", "names": ["fuzz"]},
    {"op": "held", "after": ""},
    {"op": "spawn", "id": "fuzz", "argv": ["/bin/true"], "fds": [{"target": 3, "passed": 0}], "limits": {}},
    {"op": "signal", "id": "fuzz", "signal": 0},
    {"op": "forget", "id": "fuzz"},
    {"op": "children"},
    {"op": "watch"},
]
ODD = [None, True, -1, 2**64, 1e300, "", "\0", "x" * 5000, [], {}, [[[[]]]], {"op": "hello"}, "netns/h1", 3, [3]]


def strange_packet(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(300))
    if kind == 1:
        return b"[" * rng.randrange(100_000)
    request = dict(rng.choice(VALID))
    if kind == 2:
        request[rng.choice([*request, "argv", "env", "cwd", "log"])] = rng.choice(ODD)
    if kind == 3:
        request.pop(rng.choice(list(request)))
    text = bytearray(json.dumps(request).encode())
    if kind == 4:
        text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text)


def batter(directory: Path, rng: random.Random) -> None:
    """Send some strange packets on a connection and hang up, read or unread."""
    with open_socket(directory) as connection:
        connection.settimeout(2)
        for _ in range(rng.randrange(1, 10)):
            count = rng.choice([0, 0, 0, 1, 2, 250])
            try:
                socket.send_fds(connection, [strange_packet(rng)], [0] * count)
                if rng.random() < 0.8:
                    _, descriptors, _, _ = socket.recv_fds(connection, 200_000, 253)
                    for descriptor in descriptors:
                        os.close(descriptor)
            except OSError:
                return


async def test_strange_packets_never_end_it(keeper):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    await keeper.client.held()  # so that our own connection counts
    open_before = len(list((PROC / str(keeper.identity.pid) / "fd").iterdir()))
    for _ in range(600):
        batter(keeper.directory, rng)
    await keeper.client.release(await keeper.client.held())
    async with asyncio.timeout(10):
        for child in await keeper.client.children():
            async for status in keeper.client.watch():
                if status.id == child.id:
                    break
            await keeper.client.forget(child.id)
    await asyncio.sleep(0.2)
    assert len(list((PROC / str(keeper.identity.pid) / "fd").iterdir())) == open_before
    assert (await keeper.client.hello())[0] == keeper.identity


async def test_a_packet_that_is_too_long_is_refused(keeper):
    with open_socket(keeper.directory) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection.setblocking(True)
        connection.send(b'{"op":"release","names":["' + b"x" * 140_000 + b'"]}')
        assert "at most 131072 bytes" in json.loads(connection.recv(1000))["error"]
        connection.send(b'{"op":"held"}')
        assert json.loads(connection.recv(1000)) == {"ok": True, "names": []}


async def test_too_many_connections_are_told_so(keeper):
    connections = [open_socket(keeper.directory) for _ in range(127)]
    try:
        await keeper.client.hello()
        with pytest.raises(PermanentDriverError, match="128 connections are open already"):
            async with await KeeperClient.connect(keeper.directory) as client:
                await client.held()
    finally:
        for connection in connections:
            connection.close()
    for _ in range(3):
        await keeper.client.held()  # by its answer, the keeper has seen some of them hang up
    async with await KeeperClient.connect(keeper.directory) as client:
        assert await client.held() == ()


async def test_a_peer_that_does_not_read_harms_nobody(keeper):
    with open_socket(keeper.directory) as deaf:
        try:
            while True:
                deaf.send(b'{"op":"children"}')
        except BlockingIOError:
            pass
        with open_socket(keeper.directory) as watcher:
            watcher.send(b'{"op":"watch"}')
            for index in range(500):
                await keeper.client.spawn(SpawnOrder(child_id=f"c{index}", argv=("/bin/true",)))
            assert len(await keeper.client.children()) == 500


async def test_a_flood_of_output_stays_bounded(keeper):
    argv = ("/usr/bin/yes", "flood " * 100)
    await keeper.client.spawn(SpawnOrder(child_id="flood", argv=argv, log=keeper.log("flood")))
    slowest = 0.0
    for _ in range(50):
        await asyncio.sleep(0.02)
        before = time.perf_counter()
        await keeper.client.held()
        slowest = max(slowest, time.perf_counter() - before)
    await keeper.client.signal("flood", signal.SIGKILL)
    # Its last words are written then, and no file is being turned over any more.
    while (child := await keeper.client.child("flood")) and child.state != "exited":  # noqa: ASYNC110 - asked, not told
        await asyncio.sleep(0.01)
    logs = list(keeper.directory.glob("flood.log*"))
    assert sorted(log.name for log in logs) == ["flood.log", "flood.log.1"]
    assert all(log.stat().st_size <= 1 << 20 for log in logs)
    print(f"slowest answer meanwhile {slowest * 1e3:.1f} ms")
    assert slowest < 0.5


async def test_a_full_disk_blocks_nobody(keeper):
    mount = "mkdir /run/small && mount -t tmpfs -o size=64k none /run/small && head -c 100k /dev/zero > /run/small/fill"
    await keeper.run(mount, child_id="mount", privileged=True, env=PATH)
    status = await keeper.run("head -c 500000 /dev/zero; echo end", child_id="loud", log=Path("/run/small/x.log"))
    assert status.exit_code == 0
    write_again = "rm /run/small/fill; for i in 1 2 3; do echo again; sleep 0.1; done"
    status = await keeper.run(write_again, child_id="later", log=Path("/run/small/later.log"))
    assert status.exit_code == 0
    await keeper.run("cat /run/small/later.log", child_id="look", env=PATH)
    assert keeper.output("look").endswith("again\nagain\n")
