"""What packets meet on their way through a real network."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from wisp.model.action import ShapeLink
from wisp.model.description import LinkShape
from wisp.primitives.errors import PermanentDriverError
from wisp.testing.network import DEVICE, FIRST, GUEST, SECOND, SMALL, UPLINK, creations

PLAIN = LinkShape()
TEN_MS = LinkShape(delay_us=10_000)
FAR = "10.0.32.1"
GUEST_MAC = bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6


async def round_trips(cloud) -> list[float]:
    """A hundred, sorted [ms], after five that find the way."""
    return sorted((await cloud.call("round_trips", DEVICE.name, SECOND.name, FAR, 105))[5:])


async def shaped(cloud, a_to_b=PLAIN, b_to_a=PLAIN):
    await cloud.apply([*creations(SMALL), ShapeLink(link=replace(UPLINK, a_to_b=a_to_b, b_to_a=b_to_a))])


async def test_a_round_trip_takes_what_was_declared(cloud):
    await shaped(cloud, TEN_MS, TEN_MS)
    for _ in range(8):  # one quiet round is wanted: the machine may be busy with something else
        took = await round_trips(cloud)
        if abs(took[50] - 20) <= 0.3 and abs(took[95] - 20) <= 2:
            break
    print(f"min {took[0]:.3f} p50 {took[50]:.3f} p95 {took[95]:.3f} max {took[-1]:.3f} ms")
    assert took[0] >= 19.6  # each way at most 0.2 ms early, for the receiver to wake up
    assert abs(took[50] - 20) <= 0.3
    assert abs(took[95] - 20) <= 2


async def test_each_direction_has_its_own_shape(cloud):
    await shaped(cloud, TEN_MS)
    took = sorted(await cloud.call("round_trips", DEVICE.name, SECOND.name, FAR, 31))
    assert 9.9 <= took[0] <= took[15] <= 11
    await shaped(cloud)
    took = sorted(await cloud.call("round_trips", DEVICE.name, SECOND.name, FAR, 31))
    assert took[15] <= 1


async def test_loss_is_what_was_declared(cloud):
    await shaped(cloud, LinkShape(loss_ppm=100_000))
    arrived, _ = await cloud.call("flood", FIRST.name, SECOND.name, FAR, 4000, 0.002)
    assert 0.87 <= arrived / 4000 <= 0.93


async def test_the_rate_is_what_was_declared(cloud):
    await shaped(cloud, LinkShape(rate_bps=8_000_000, queue_packets=5_000))
    arrived, took_s = await cloud.call("flood", FIRST.name, SECOND.name, FAR, 1000, 0)
    frame_bits = (1000 + 8 + 20 + 14) * 8
    assert arrived == 1000
    assert 0.93 <= arrived * frame_bits / took_s / 8e6 <= 1.07


async def test_a_queue_holds_what_was_declared(cloud):
    await shaped(cloud, LinkShape(rate_bps=1_000_000, queue_packets=20))
    arrived, _ = await cloud.call("flood", FIRST.name, SECOND.name, FAR, 200, 0)
    assert 20 <= arrived <= 30


async def test_a_device_reaches_a_far_host_under_its_own_address(cloud):
    await cloud.apply(creations(SMALL))
    assert await cloud.call("source_to", DEVICE.name, FAR) == "100.64.0.1"
    assert await cloud.call("source_to", FIRST.name, FAR) == "10.0.16.1"


async def test_a_guest_is_asked_by_its_gateway(cloud):
    """smoltcp drops ARP from outside of its subnet, whoever the packet is from."""
    await cloud.apply(creations(SMALL))
    for sender in (DEVICE.name, FIRST.name, SECOND.name):
        questions = arp(await cloud.call("frames", GUEST.name, sender, GUEST.address, []))
        assert questions, sender
        assert {(each.operation, each.sender, each.target) for each in questions} == {(1, FAR, GUEST.address)}


async def test_a_guest_that_misses_a_question_is_asked_again_soon(cloud):
    await cloud.apply(creations(SMALL))
    frames = await cloud.call("frames", GUEST.name, SECOND.name, GUEST.address, [])
    assert len(arp(frames)) == 2


async def test_a_guest_gets_its_answers_at_once(cloud):
    """From the gateway, for itself and for everything else that is on the guest's subnet but not on its wire."""
    other = replace(GUEST, name="other", interface="t-other", address="10.0.32.3")
    await cloud.apply(creations(replace(SMALL, taps=frozenset((GUEST, other)))))
    for asked in (FAR, other.address):
        frames = await cloud.call("frames", GUEST.name, SECOND.name, "127.0.0.1", [question(asked)])
        (answer,) = arp(frames)
        assert (answer.operation, answer.sender, answer.target) == (2, asked, GUEST.address)


async def test_what_waits_for_a_guest_comes_when_it_shows_itself(cloud):
    await cloud.apply(creations(SMALL))
    await cloud.call("frames", GUEST.name, DEVICE.name, GUEST.address, [])
    frames = await cloud.call("frames", GUEST.name, DEVICE.name, GUEST.address, [question(FAR)])
    packets = [frame for frame in frames if frame[12:14] == b"\x08\x00"]
    assert len(packets) == 2
    assert all(frame[:6] == GUEST_MAC and frame[26:30] == IPv4Address("100.64.0.1").packed for frame in packets)
    assert all(udp_checksum_holds(frame) for frame in packets)


def is_listener_report(frame: bytes) -> bool:
    """Whether an interface tells which multicast groups it is in, as each does when it comes up (RFC 3810)."""
    hop_by_hop, after, report = 0, 54 + 8, 143
    return frame[12:14] == b"\x86\xdd" and frame[20] == hop_by_hop and frame[after] == report


async def test_nothing_comes_on_a_tap_that_nobody_sent(cloud):
    await cloud.apply(creations(SMALL))
    frames = await cloud.call("frames", GUEST.name, SECOND.name, "127.0.0.1", [])
    assert [frame for frame in frames if not is_listener_report(frame)] == []


async def test_a_farewell_comes_to_the_guest_as_a_frame_of_its_own_kind(cloud):
    await cloud.apply(creations(SMALL))
    frames = await cloud.call("farewell", GUEST.name, GUEST.namespace, GUEST.interface, "02:00:00:00:00:02")
    (frame,) = [frame for frame in frames if not is_listener_report(frame)]
    assert frame[:6] == GUEST_MAC
    assert frame[12:] == b"\x88\xb6" + bytes(46)


async def test_a_farewell_to_nobody_is_refused(cloud):
    await cloud.apply(creations(SMALL))
    for namespace, interface in (("host/nowhere", GUEST.interface), (GUEST.namespace, "t-nobody")):
        with pytest.raises(PermanentDriverError):
            await cloud.call("farewell", GUEST.name, namespace, interface, "02:00:00:00:00:02")


async def test_settings_are_ours_and_not_the_machines(cloud):
    await cloud.apply(creations(SMALL))
    assert await cloud.call("setting", FIRST.name, "ipv4/ip_forward") == "1"
    assert await cloud.call("setting", DEVICE.name, "ipv4/ip_forward") == "0"
    assert await cloud.call("setting", FIRST.name, "ipv4/conf/l-uplink/rp_filter") == "0"
    assert await cloud.call("unprivileged_ping_socket", DEVICE.name)


async def test_counters_count(cloud):
    await shaped(cloud)
    await cloud.call("flood", FIRST.name, SECOND.name, FAR, 100, 0)
    counters = await cloud.call("counters")
    assert counters[FIRST.name, "l-uplink"].sent_packets >= 100
    assert counters[SECOND.name, "l-uplink"].received_bytes >= 100 * 1042


class Arp:
    def __init__(self, frame: bytes) -> None:
        self.operation, _, sender, _, target = struct.unpack_from("!H6s4s6s4s", frame, 20)
        self.sender, self.target = str(IPv4Address(sender)), str(IPv4Address(target))


def arp(frames: list[bytes]) -> list[Arp]:
    return [Arp(frame) for frame in frames if frame[12:14] == b"\x08\x06"]


def question(address: str) -> bytes:
    """An ARP question of the guest."""
    own, wanted = IPv4Address(GUEST.address).packed, IPv4Address(address).packed
    head = BROADCAST + GUEST_MAC + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1)
    return head + GUEST_MAC + own + bytes(6) + wanted


def udp_checksum_holds(frame: bytes) -> bool:
    """A guest checks; nobody on the way may have left it to the hardware."""
    datagram = frame[34:]
    words = frame[26:34] + struct.pack("!HH", 17, len(datagram)) + datagram
    total = sum(struct.unpack(f"!{len(words) // 2}H", words[: len(words) // 2 * 2])) + (words[-1] << 8) * (
        len(words) % 2
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF
