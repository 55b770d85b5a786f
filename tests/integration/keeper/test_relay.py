"""The port relay: bound outside, served inside."""

import asyncio
import errno
import hashlib
import socket
import statistics
import time

import pytest

from wisp.drivers.keeper.client import SpawnOrder

PORT = 8099
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

TCP_SERVER = f"""
import asyncio, hashlib
async def serve(reader, writer):
    data = await reader.read(4)
    if data == b"ping":
        while data:
            writer.write(data)
            data = await reader.read(4)
    elif data == b"dump":
        writer.write(b"x" * 50_000_000)
    else:
        data += await reader.read()
        writer.write(hashlib.sha256(data).hexdigest().encode())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", {PORT}, backlog=600)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
UDP_SERVER = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", {PORT}))
print("ready", flush=True)
while True:
    data, peer = server.recvfrom(2000)
    server.sendto(data + b" from %d" % peer[1], peer)
"""


@pytest.fixture
def published(keeper, binary):
    """Publish a server's port (of no server, when there is no program) and give the address outside."""

    async def publish(kind: int, program: str | None) -> tuple[str, int]:
        await keeper.run("ip link set lo up", child_id="lo", privileged=True, env=PATH)
        if program is not None:
            argv = ("/usr/bin/python3", "-c", program)
            await keeper.client.spawn(SpawnOrder(child_id="server", argv=argv, log=keeper.log("server")))
            await until_ready(keeper)
        listener = socket.socket(socket.AF_INET, kind)
        with listener:
            listener.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                listener.listen(128)
            argv = (str(binary), "relay", "--listen-fd", "3", "--to", f"127.0.0.1:{PORT}")
            if kind == socket.SOCK_DGRAM:
                argv = (*argv, "--udp")
            order = SpawnOrder(child_id="relay", argv=argv, passed={3: listener.fileno()}, log=keeper.log("relay"))
            await keeper.client.spawn(order)
            return listener.getsockname()

    return publish


async def until_ready(keeper) -> None:
    async with asyncio.timeout(10):
        while "ready" not in keeper.output("server"):  # noqa: ASYNC110 - a log file tells nobody
            await asyncio.sleep(0.02)


async def ask(address: tuple[str, int], data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_much_data_and_a_half_closed_connection(published):
    address = await published(socket.SOCK_STREAM, TCP_SERVER)
    data = bytes(range(256)) * 80_000
    before = time.perf_counter()
    assert await ask(address, data) == hashlib.sha256(data).hexdigest().encode()
    print(f"{len(data) / (time.perf_counter() - before) / 1e6:.0f} MB/s inward")


async def test_many_at_once(published):
    address = await published(socket.SOCK_STREAM, TCP_SERVER)
    many = [ask(address, b"data-%d" % number) for number in range(600)]
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*many)
    assert answers == [hashlib.sha256(b"data-%d" % number).hexdigest().encode() for number in range(600)]


async def test_more_open_than_it_takes_wait_their_turn(published):
    address = await published(socket.SOCK_STREAM, TCP_SERVER)
    idle = [await asyncio.open_connection(*address) for _ in range(600)]
    waiting = asyncio.create_task(ask(address, b"last of all"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    for _, writer in idle:
        writer.close()
    async with asyncio.timeout(10):
        assert await waiting == hashlib.sha256(b"last of all").hexdigest().encode()


async def test_a_reader_that_stops_costs_no_memory(published, keeper):
    address = await published(socket.SOCK_STREAM, TCP_SERVER)
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(b"dump")
    await asyncio.sleep(0.5)
    (relay,) = [child for child in await keeper.client.children() if child.id == "relay"]
    assert keeper.status_of(relay.pid, "VmRSS") < 4096
    got = 0
    while data := await reader.read(1 << 20):
        got += len(data)
    assert got == 50_000_000
    writer.close()


async def test_it_adds_little(published):
    address = await published(socket.SOCK_STREAM, TCP_SERVER)
    reader, writer = await asyncio.open_connection(*address)
    took = []
    for _ in range(200):
        before = time.perf_counter()
        writer.write(b"ping")
        await reader.readexactly(4)
        took.append((time.perf_counter() - before) * 1e3)
    writer.close()
    print(f"round trip through the relay: median {statistics.median(took):.3f} ms")
    assert statistics.median(took) < 5


async def test_nobody_inside_is_a_reset(published):
    address = await published(socket.SOCK_STREAM, None)
    with pytest.raises(OSError) as broken:
        await ask(address, b"anybody?")
        await ask(address, b"really nobody?")
    # The reset may come before we have said all.
    assert isinstance(broken.value, ConnectionError) or broken.value.errno == errno.ENOTCONN


async def test_datagrams_find_their_way_back(published, keeper):
    address = await published(socket.SOCK_DGRAM, UDP_SERVER)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    ports = set()
    for number, client in enumerate(clients):
        client.settimeout(5)
        client.sendto(b"%d" % number, address)
    for number, client in enumerate(clients):
        said, _, port = client.recv(2000).partition(b" from ")
        assert said == b"%d" % number
        ports.add(port)
        client.close()
    assert len(ports) == len(clients)
    (relay,) = [child for child in await keeper.client.children() if child.id == "relay"]
    assert relay.state == "running"
