"""Packets in order, whatever is cancelled and whoever hangs up; the other side is a socket of ours."""

import asyncio
import os
import socket

import pytest

from wisp.drivers.keeper.channel import Channel, KeeperGone, Packet


@pytest.fixture
async def sides():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    channel = Channel(ours, "the test")
    yield channel, theirs
    channel.close()
    theirs.close()


async def test_answers_come_in_the_order_of_the_requests(sides):
    channel, peer = sides
    asking = [asyncio.create_task(channel.request(Packet(b"%d" % number))) for number in range(3)]
    await asyncio.sleep(0)
    assert [peer.recv(10) for _ in range(3)] == [b"0", b"1", b"2"]
    for number in range(3):
        peer.send(b"answer %d" % number)
    assert [answer.body for answer in await asyncio.gather(*asking)] == [b"answer 0", b"answer 1", b"answer 2"]


async def test_descriptors_go_both_ways(sides):
    channel, peer = sides
    reader, writer = os.pipe()
    asking = asyncio.create_task(channel.request(Packet(b"take", [writer])))
    await asyncio.sleep(0)
    _, (copy,), _, _ = socket.recv_fds(peer, 10, 1)
    socket.send_fds(peer, [b"give"], [copy])
    answer = await asking
    assert os.get_inheritable(answer.descriptors[0]) is False
    os.write(answer.descriptors[0], b"through")
    assert os.read(reader, 10) == b"through"
    for descriptor in (reader, writer, copy, *answer.descriptors):
        os.close(descriptor)


async def test_the_answer_to_a_cancelled_request_is_dropped_with_its_descriptors(sides):
    channel, peer = sides
    reader, writer = os.pipe()
    first = asyncio.create_task(channel.request(Packet(b"first")))
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(channel.request(Packet(b"second")))
    await asyncio.sleep(0)
    socket.send_fds(peer, [b"late"], [writer])
    peer.send(b"in time")
    assert (await second).body == b"in time"
    os.close(writer)
    # Nobody holds the other end any more: the copy that came with the dropped answer is closed.
    assert os.read(reader, 1) == b""
    os.close(reader)


async def test_everybody_learns_that_the_peer_is_gone(sides):
    channel, peer = sides
    asking = [asyncio.create_task(channel.request(Packet(b"anybody"))) for _ in range(2)]
    await asyncio.sleep(0)
    peer.close()
    for error in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(error, KeeperGone)
        assert "the test does not answer" in str(error)
    with pytest.raises(KeeperGone):
        await channel.request(Packet(b"again"))


async def test_what_a_peer_said_before_it_hung_up_is_heard(sides):
    channel, peer = sides
    peer.send(b"no room")
    peer.close()
    assert (await channel.request(Packet(b"may I"))).body == b"no room"
    with pytest.raises(KeeperGone):
        await channel.request(Packet(b"and now"))


async def test_a_full_socket_is_waited_for(sides):
    channel, peer = sides
    peer.setblocking(False)
    many = [asyncio.create_task(channel.request(Packet(b"x" * 50_000))) for _ in range(50)]
    received = 0
    async with asyncio.timeout(5):
        while received < 50:
            await asyncio.sleep(0)
            try:
                peer.recv(60_000)
            except BlockingIOError:
                continue
            received += 1
            peer.send(b"%d" % received)
        answers = await asyncio.gather(*many)
    assert [int(answer.body) for answer in answers] == list(range(1, 51))
