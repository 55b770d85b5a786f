"""Of all that comes by, only what answers our own requests is taken."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisp.drivers.network.icmp import _ICMP, _ICMPV6, _checksum, _Meaning, _meaning, _Protocol, _request
from wisp.model.echo import EchoOutcome

OURS = 0xBEEF
IPV4 = bytes([0x46]) + bytes(19) + bytes(4)  # with one word of options
IPV6 = bytes([0x60]) + bytes(39)


def reply(kind: int, identity: int, number: int) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, identity, number) + bytes(48)


def error(kind: int, quoted: bytes) -> bytes:
    return struct.pack("!BBHI", kind, 0, 0, 0) + quoted


@pytest.mark.parametrize(
    ("protocol", "packet", "outcome"),
    [
        (_ICMP, IPV4 + reply(0, OURS, 7), EchoOutcome.REPLY),
        (_ICMP, IPV4 + error(11, IPV4 + _request(8, OURS, 7)[:8]), EchoOutcome.EXPIRED),
        (_ICMP, IPV4 + error(3, IPV4 + _request(8, OURS, 7)), EchoOutcome.UNREACHABLE),
        (_ICMPV6, reply(129, OURS, 7), EchoOutcome.REPLY),
        (_ICMPV6, error(3, IPV6 + _request(128, OURS, 7)), EchoOutcome.EXPIRED),
        (_ICMPV6, error(1, IPV6 + _request(128, OURS, 7)), EchoOutcome.UNREACHABLE),
    ],
)
def test_an_answer_says_which_request_it_answers(protocol: _Protocol, packet: bytes, outcome: EchoOutcome) -> None:
    assert _meaning(protocol, packet, OURS) == _Meaning(7, outcome)
    assert _meaning(protocol, packet, OURS ^ 1) is None


@pytest.mark.parametrize(
    ("protocol", "packet"),
    [
        (_ICMP, IPV4 + reply(8, OURS, 7)),  # a request that we hear ourselves send
        (_ICMP, IPV4 + error(11, IPV4 + reply(0, OURS, 7))),  # an error about a reply
        (_ICMP, IPV4 + error(3, bytes([0x45]) + bytes(19) + b"\x00\x35" * 4)),  # of a datagram
        (_ICMPV6, reply(135, OURS, 7)),
    ],
)
def test_what_does_not_answer_us_is_left(protocol: _Protocol, packet: bytes) -> None:
    assert _meaning(protocol, packet, OURS) is None


@given(st.sampled_from([_ICMP, _ICMPV6]), st.binary(max_size=120))
def test_no_packet_is_too_strange(protocol: _Protocol, packet: bytes) -> None:
    found = _meaning(protocol, packet, OURS)
    assert found is None or 0 <= found.number < 1 << 16


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_request_sums_up_to_nothing(identity: int, number: int) -> None:
    assert _checksum(_request(8, identity, number)) == 0
