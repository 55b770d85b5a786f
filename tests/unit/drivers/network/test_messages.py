"""What we send is what iproute2 and iptables send, byte for byte where the order is given."""

import base64
import struct
import zlib
from ipaddress import IPv4Address

import pytest

from wisp.drivers.network import message as m
from wisp.drivers.network.contents import kept_rate_bps
from wisp.drivers.network.netlink import Message, as_text, attribute, attributes, encode, nested, number, text
from wisp.drivers.network.xtables import IPV4_TABLE, IPV6_TABLE, Passage

# Recorded with strace from iproute2 6.1; interface index 3.
IP_ROUTE_REPLACE = bytes.fromhex(  # 10.0.32.0/20 via 172.16.0.1 dev eth0 onlink src 10.0.16.1 proto 87
    "3c00000018000505279e036b0000000002140000fe57000104000000080001000a00200008000500ac100001"
    "080007000a0010010800040003000000"
)
IP_ADDRESS_REPLACE = bytes.fromhex(  # 10.0.16.1/32 dev eth0
    "2800000014000505279e036b000000000220000003000000080002000a001001080001000a001001"
)
TC_PFIFO = bytes.fromhex(  # qdisc replace dev eth0 parent 1:1 handle 2: pfifo limit 50
    "3800000024000505289e036b0000000000000000030000000000020001000100000000000a000100706669666f0000000800020032000000"
)
# Recorded with strace from iptables-legacy-restore 1.8.9, the address of the counters taken out:
# -A PREROUTING -i eth0 ! -p icmp -j NFQUEUE --queue-num 7 --queue-bypass
# -A POSTROUTING -o eth0 -p icmp -j NFQUEUE --queue-num 32775 --queue-bypass
IPTABLES_TABLE = zlib.decompress(
    base64.b85decode(
        "c-qTN%uCNnWxxsKftUk`Z?Hi428;|0CxAGCiGkq<5YIppo50M#z=qp6hSZV_13c0U|3LtcJkS~k5M2Pa853wQ__+m!x`w)9*Uroi"
        "G=Y(Ub^y1#@PmK&y*=u#VdgGU^8q74cM(YU4I?$(Z@?<<z~CAb<R64nAAVT|1_01EI_d"
    )
)


def datagram(message: Message, recorded: bytes) -> bytes:
    return encode([message], struct.unpack_from("=I", recorded, 8)[0])


def test_a_route():
    route = m.KernelRoute("10.0.32.0/20", 3, "172.16.0.1", "10.0.16.1")
    sent = datagram(m.add_route(m.IPV4, route, ""), IP_ROUTE_REPLACE)
    assert sent[:28] == IP_ROUTE_REPLACE[:28]
    assert attributes(sent, 28) == attributes(IP_ROUTE_REPLACE, 28)


def test_an_address():
    assert datagram(m.add_address(m.IPV4, 3, "10.0.16.1/32", ""), IP_ADDRESS_REPLACE) == IP_ADDRESS_REPLACE


def test_ipv6_is_the_same_behind_a_prefix():
    route = m.KernelRoute("10.0.32.0/20", 3, "172.16.0.1", "10.0.16.1")
    prefix = bytes.fromhex("fd5769730070000000000000")
    four = attributes(m.add_route(m.IPV4, route, "").body, m.ROUTE_HEADER.size)
    six = m.add_route(m.IPV6, route, "").body
    assert six[:2] == bytes([10, 96 + 20])
    for each, content in attributes(six, m.ROUTE_HEADER.size).items():
        assert content == (four[each] if each == m.RTA_OIF else prefix + four[each])
    assert m.IPV6.ipv4_of(prefix + bytes([10, 0, 16, 1])) == IPv4Address("10.0.16.1")
    assert m.IPV6.ipv4_of(bytes(12) + bytes([10, 0, 16, 1])) is None


def test_a_queue():
    _, queue = m.limit_rate(3, 8_000_000, 50, "")
    assert datagram(queue, TC_PFIFO) == TC_PFIFO


def test_rules():
    queues = {Passage("eth0", leaving=False): 7, Passage("eth0", leaving=True): 32775}
    assert IPV4_TABLE.packed(queues, 6, 0) == IPTABLES_TABLE


@pytest.mark.parametrize("table", [IPV4_TABLE, IPV6_TABLE], ids=["ipv4", "ipv6"])
def test_rules_are_read_as_they_were_written(table):
    entries = 96
    arriving, leaving = Passage("l-123456789012", leaving=False), Passage("l-123456789012", leaving=True)
    for queues in (
        {},
        {Passage("eth0", leaving=True): 7},
        {arriving: 1, Passage("d-x", leaving=False): 2, leaving: 65535},
    ):
        assert dict(table.queues_of(table.packed(queues, 0, 0)[entries:])) == queues


def test_only_the_last_of_a_batch_asks_to_be_acknowledged():
    batch = encode([Message(18, 0, b"ab", ""), Message(19, 0x400, b"", "")], 5)
    assert struct.unpack_from("=IHHII", batch) == (18, 18, 0x001, 5, 0)
    assert struct.unpack_from("=IHHII", batch, 20) == (16, 19, 0x405, 6, 0)


def test_attributes_come_back():
    packed = text(3, "eth0") + nested(18, number(1, 70_000), attribute(2, b"xyz"))
    found = attributes(packed)
    inner = attributes(found[18])
    assert (as_text(found[3]), inner[1], inner[2]) == ("eth0", struct.pack("=I", 70_000), b"xyz")


@pytest.mark.parametrize("junk", [b"", b"\0", b"\0\0\0\0", b"\x03\0\1\0", b"\xff\xff\1\0x"])
def test_broken_attributes_end_the_reading(junk):
    assert set(attributes(number(7, 1) + junk)) <= {7, 1}


@pytest.mark.parametrize(("rate_bps", "kept_bps"), [(1, 8), (8, 8), (1_000_001, 1_000_000), (10**11, 10**11)])
def test_rates_are_whole_bytes(rate_bps, kept_bps):
    assert kept_rate_bps(rate_bps) == kept_bps


def test_a_rate_beyond_32_bits_has_an_attribute_of_its_own():
    bucket, _ = m.limit_rate(3, 80_000_000_000, 50, "")
    options = attributes(attributes(bucket.body, m.QDISC_HEADER.size)[m.TCA_OPTIONS])
    assert options[m.TBF_RATE64] == struct.pack("=Q", 10_000_000_000)


def test_interfaces_go_as_a_group():
    *marks, last = m.delete_links([4, 5], "")
    assert [struct.unpack_from("=i", each.body, 4)[0] for each in marks] == [4, 5]
    assert last.kind == m.DELETE_LINK
    assert attributes(last.body, 16) == attributes(marks[0].body, 16) == {m.IFLA_GROUP: struct.pack("=I", 0x57)}
