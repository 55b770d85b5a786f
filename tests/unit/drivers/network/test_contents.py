"""How a network is put together from what the kernel says."""

from dataclasses import replace

from wisp.drivers.network.alias import LinkAlias, TapAlias, link_alias, read_alias, tap_alias
from wisp.drivers.network.contents import ICMP_QUEUES, Contents, Interface, assemble
from wisp.drivers.network.message import ROUTE_TO_GUEST, KernelRoute
from wisp.drivers.network.shaping import directions, rules_of, waiting_packets
from wisp.drivers.network.xtables import Passage
from wisp.model.description import LinkShape
from wisp.model.network import LinkEnd, Namespace, Network, NextHop, Tap, VirtualLink

SHAPE = LinkShape(rate_bps=8_000_001, delay_us=5_000, jitter_us=10, loss_ppm=7, queue_packets=9)
LINES = ("link/l>b", "link/l>b icmp", "link/l>a", "link/l>a icmp")
LINK = VirtualLink(
    name="link/l",
    a=LinkEnd(namespace="host/a", interface="l-l", address="172.16.0.0/31"),
    b=LinkEnd(namespace="host/b", interface="l-l", address="172.16.0.1/31"),
    a_to_b=SHAPE,
)
TAP = Tap(name="web", namespace="host/b", interface="t-web", gateway="10.0.32.1/32", address="10.0.32.2")
TABLE = {"10.0.32.0/20": (NextHop("l-l", "172.16.0.1"),)}


def loopback(address: str) -> Interface:
    return Interface(index=1, name="lo", purpose=None, has_carrier=True, forwards=True, address=address)


def end(name: str, shape: LinkShape, index: int, **more) -> Interface:
    purpose = read_alias(link_alias("link/l", name, shape))
    address = "172.16.0.0/31" if name == "a" else "172.16.0.1/31"
    return Interface(
        index=index, name="l-l", purpose=purpose, has_carrier=True, forwards=True, **{"address": address, **more}
    )


A = end("a", SHAPE, 2, rate_bps=8_000_000, queue_packets=9, departures_queue=ICMP_QUEUES + 2)
B = end("b", LinkShape(), 3, arrivals_queue=3)
T = Interface(index=4, name="t-web", purpose=TapAlias("web"), has_carrier=True, forwards=True, address="10.0.32.1/32")


def world(a: Interface = A, b: Interface = B, tap: Interface = T) -> dict[str, Contents]:
    first = Contents(interfaces={1: loopback("10.0.16.1/32"), 2: a}, table=TABLE)
    guest = KernelRoute("10.0.32.2/32", 4, "10.0.32.1", ROUTE_TO_GUEST)
    second = Contents(interfaces={1: loopback("10.0.32.1/32"), 3: b, 4: tap}, routes=(guest,))
    return {"host/a": first, "host/b": second}


WHOLE = Network(
    namespaces=frozenset((
        Namespace(name="host/a", address="10.0.16.1/32", forwards=True),
        Namespace(name="host/b", address="10.0.32.1/32", forwards=True),
    )),
    links=frozenset((LINK,)),
    taps=frozenset((TAP,)),
    routes={"host/a": TABLE},
)  # fmt: skip


def seen(contents: dict[str, Contents], held=("web",), lines=LINES) -> Network:
    return assemble(contents, held_taps=held, lines=lines)


def shape_seen(**kept) -> LinkShape:
    (link,) = seen(**kept).links
    return link.a_to_b


def test_a_world_that_agrees_is_the_plan():
    assert seen(world()) == WHOLE


def test_a_link_with_one_end_is_none_and_its_routes_neither():
    half = replace(WHOLE, links=frozenset(), routes={})
    assert seen(world(b=replace(B, purpose=None))) == half


def test_a_link_without_carrier_at_an_end_is_down():
    (link,) = WHOLE.links
    assert seen(world(b=replace(B, has_carrier=False))).links == {replace(link, is_down=True)}


def test_a_tap_nobody_holds_is_none():
    assert seen(world(), held=()).taps == frozenset()
    assert seen(world(tap=replace(T, address=None))).taps == frozenset()


def test_the_shape_is_the_one_in_force():
    undelayed = replace(SHAPE, delay_us=0, jitter_us=0, loss_ppm=0)
    assert shape_seen(contents=world()) == SHAPE
    assert shape_seen(contents=world(), lines=()) == undelayed
    assert shape_seen(contents=world(b=replace(B, arrivals_queue=None))) == undelayed
    assert shape_seen(contents=world(b=replace(B, arrivals_queue=9))) == undelayed
    assert shape_seen(contents=world(a=replace(A, rate_bps=16_000))) == replace(SHAPE, rate_bps=16_000)
    assert shape_seen(contents=world(a=replace(A, rate_bps=None, queue_packets=None))) == replace(SHAPE, rate_bps=None)
    assert shape_seen(contents=world(a=replace(A, queue_packets=5))) == replace(SHAPE, queue_packets=5)


def test_a_shape_that_is_being_put_in_force_agrees_with_no_plan():
    unmarked = replace(A, purpose=LinkAlias("link/l", "a"), rate_bps=None, queue_packets=None)
    assert shape_seen(contents=world(a=unmarked)) == LinkShape(queue_packets=0)


def test_aliases_come_back_and_fit():
    huge = LinkShape(rate_bps=10**12, delay_us=10**8, jitter_us=10**8, loss_ppm=10**6, queue_packets=10**6)
    alias = link_alias("link/" + "x" * 100, "b", huge)
    assert len(alias) <= 255
    assert read_alias(alias) == LinkAlias("link/" + "x" * 100, "b", (10**12, 10**8, 10**8, 10**6, 10**6))
    assert read_alias(tap_alias("web", "02:00:0a:00:10:02", "10.0.16.1/32")) == TapAlias(
        "web", "02:00:0a:00:10:02", "10.0.16.1/32"
    )
    assert [read_alias(each) for each in ("", "uplink to the office", "[]", '["link"]', "{}")] == [None] * 5


def test_rules_are_for_what_arrives_and_for_the_icmp_that_leaves():
    both = replace(LINK, b_to_a=LinkShape(loss_ppm=1))
    index = {("host/a", "l-l"): 2, ("host/b", "l-l"): 3}
    arriving, leaving = Passage("l-l", leaving=False), Passage("l-l", leaving=True)
    assert rules_of("host/b", [LINK], lambda *place: index[place]) == {arriving: 3}
    assert rules_of("host/a", [LINK], lambda *place: index[place]) == {leaving: ICMP_QUEUES + 2}
    assert rules_of("host/a", [both], lambda *place: index[place]) == {arriving: 2, leaving: ICMP_QUEUES + 2}


def test_a_direction_has_its_receiver_and_for_icmp_its_sender():
    assert directions(LINK) == (
        ("link/l>b", LINK.b, False, SHAPE),
        ("link/l>b icmp", LINK.a, True, SHAPE),
        ("link/l>a", LINK.a, False, LinkShape()),
        ("link/l>a icmp", LINK.b, True, LinkShape()),
    )
    assert [each.is_delayed for each in (LinkShape(rate_bps=1), LinkShape(jitter_us=1))] == [False, True]


def test_a_long_fast_line_holds_much():
    assert waiting_packets(LinkShape(rate_bps=8_000_000, delay_us=1_000_000)) == 10_000
    assert waiting_packets(LinkShape(delay_us=1)) == 1_000
    assert waiting_packets(LinkShape(delay_us=60_000_000)) == 1_000_000
