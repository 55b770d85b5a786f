"""What we send is what iproute2 and iptables send, byte for byte where the order is given."""

import base64
import struct
import zlib
from ipaddress import IPv4Address

import pytest

from wisp.drivers.network import message as m
from wisp.drivers.network import nexthops as nh
from wisp.drivers.network.contents import kept_rate_bps
from wisp.drivers.network.netlink import (
    CREATE,
    REPLACE,
    Message,
    as_text,
    attribute,
    attributes,
    encode,
    nested,
    number,
    text,
)
from wisp.drivers.network.xtables import IPV4_TABLE, IPV6_TABLE, Passage

# Recorded with strace from iproute2 6.1; interface index 3.
IP_NEXTHOP_REPLACE = bytes.fromhex(  # id 14 via 172.16.0.1 dev v0 onlink proto 87
    "3000000068000505eca2046b000000000200570004000000080001000e00000008000600ac1000010800050003000000"
)
IP_GROUP_REPLACE = bytes.fromhex(  # id 18 group 14/16 proto 87
    "3400000068000505eca2046b0000000000005700000000000800010012000000140002000e000000000000001000000000000000"
)
IP_ROUTE_REPLACE = bytes.fromhex(  # 10.0.32.0/20 nhid 18 src 10.0.16.1 proto 87
    "3400000018000505eca2046b0000000002140000fe57000100000000080001000a00200008001e0012000000080007000a001001"
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


def test_a_next_hop():
    sent = datagram(nh.new_hop([m.IPV4], 7, 3, "172.16.0.1", "")[0], IP_NEXTHOP_REPLACE)
    assert sent[:24] == IP_NEXTHOP_REPLACE[:24]
    assert attributes(sent, 24) == attributes(IP_NEXTHOP_REPLACE, 24)


def test_several_next_hops():
    assert datagram(nh.new_group([m.IPV4], 9, [7, 8], "")[0], IP_GROUP_REPLACE) == IP_GROUP_REPLACE


def test_a_route():
    body = nh.route_head(m.IPV4, "10.0.32.0/20") + nh.route_tail(m.IPV4, 0, 9, "10.0.16.1")
    assert datagram(Message(m.NEW_ROUTE, CREATE | REPLACE, body, ""), IP_ROUTE_REPLACE) == IP_ROUTE_REPLACE


def test_an_address():
    assert datagram(m.add_address(m.IPV4, 3, "10.0.16.1/32", ""), IP_ADDRESS_REPLACE) == IP_ADDRESS_REPLACE


def test_ipv6_is_the_same_behind_a_prefix():
    prefix = bytes.fromhex("fd5769730070000000000000")
    four, six = nh.new_hop([m.IPV4, m.IPV6], 7, 3, "172.16.0.1", "")
    assert attributes(six.body, 8)[nh.NHA_GATEWAY] == prefix + attributes(four.body, 8)[nh.NHA_GATEWAY]
    ids = [int.from_bytes(attributes(each.body, 8)[nh.NHA_ID], "little") for each in (four, six)]
    assert ids == [14, 15]
    head, tail = nh.route_head(m.IPV6, "10.0.32.0/20"), nh.route_tail(m.IPV6, 1, 7, "10.0.16.1")
    assert head[:2] == bytes([10, 96 + 20])
    assert attributes(head + tail, m.ROUTE_HEADER.size) == {
        m.RTA_DST: prefix + bytes([10, 0, 32, 0]),
        nh.RTA_NH_ID: bytes([15, 0, 0, 0]),
        m.RTA_PREFSRC: prefix + bytes([10, 0, 16, 1]),
    }
    route = m.KernelRoute("10.0.32.2/32", 3, "10.0.16.1")
    four_body, six_body = (m.add_route(family, route, "").body for family in (m.IPV4, m.IPV6))
    assert six_body[:2] == bytes([10, 128])
    plain = attributes(four_body, m.ROUTE_HEADER.size)
    for each, content in attributes(six_body, m.ROUTE_HEADER.size).items():
        assert content == (plain[each] if each == m.RTA_OIF else prefix + plain[each])
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
