"""What every network driver promises, as a suite that a driver's author subclasses.

A subclass gives one fixture: ``network``, a :class:`~wisp.ports.network.NetworkDriver` of a world that is empty.
"""

import asyncio
from dataclasses import replace

import pytest

from wisp.model.action import (
    CreateLink,
    CreateNamespace,
    CreateTap,
    NetworkAction,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    RemoveVirtualAddress,
    SetRoutes,
    SetVirtualAddress,
    ShapeLink,
    SwitchLink,
)
from wisp.model.description import LinkShape
from wisp.model.network import LinkEnd, Namespace, Network, NextHop, Tap, VirtualAddress, VirtualLink
from wisp.ports.network import NetworkDriver
from wisp.primitives.errors import DriverError

FIRST = Namespace(name="host/first", address="10.0.16.1/32", forwards=True)
SECOND = Namespace(name="host/second", address="10.0.32.1/32", forwards=True)
DEVICE = Namespace(name="device/sensor", address="100.64.0.1/32")
SLOW = LinkShape(rate_bps=20_000_000, delay_us=2_000, jitter_us=500, loss_ppm=10_000, queue_packets=50)
FAST = LinkShape(rate_bps=100_000_000)
UPLINK = VirtualLink(
    name="link/uplink",
    a=LinkEnd(namespace=FIRST.name, interface="l-uplink", address="172.16.0.0/31"),
    b=LinkEnd(namespace=SECOND.name, interface="l-uplink", address="172.16.0.1/31"),
    a_to_b=SLOW,
    b_to_a=FAST,
)
BESIDE = VirtualLink(
    name="link/second",
    a=LinkEnd(namespace=FIRST.name, interface="l-second", address="172.16.0.2/31"),
    b=LinkEnd(namespace=SECOND.name, interface="l-second", address="172.16.0.3/31"),
)
RADIO = VirtualLink(
    name=DEVICE.name,
    a=LinkEnd(namespace=DEVICE.name, interface="eth0"),
    b=LinkEnd(namespace=FIRST.name, interface="d-sensor", address=FIRST.address),
)
GUEST = Tap(name="web", namespace=SECOND.name, interface="t-web", gateway="10.0.32.1/32", address="10.0.32.2")
OVER_UPLINK = (NextHop("l-uplink", "172.16.0.0"),)
ROUTES = {
    DEVICE.name: {"default": (NextHop("eth0", "10.0.16.1"),)},
    FIRST.name: {"100.64.0.1/32": (NextHop("d-sensor"),), "10.0.32.0/20": (NextHop("l-uplink", "172.16.0.1"),)},
    SECOND.name: {"10.0.16.0/20": OVER_UPLINK, "100.64.0.1/32": OVER_UPLINK},
}
TO_DEVICE = "100.64.0.1/32"
BESIDE_UPLINK = {DEVICE.name: ROUTES[DEVICE.name], FIRST.name: {TO_DEVICE: ROUTES[FIRST.name][TO_DEVICE]}}
NO_DEFAULT = SetRoutes(namespace=DEVICE.name, routes={"default": ()})
SHARED = VirtualAddress(namespace=FIRST.name, address="192.168.0.1", members=("10.0.32.2", "10.0.32.3"))
SMALL = Network(
    namespaces=frozenset((FIRST, SECOND, DEVICE)),
    links=frozenset((UPLINK, RADIO)),
    taps=frozenset((GUEST,)),
    routes=ROUTES,
)


def creations(network: Network) -> list[NetworkAction]:
    """Give the actions that make a network out of nothing."""
    return [
        *(CreateNamespace(namespace=each) for each in sorted(network.namespaces, key=lambda each: each.name)),
        *(CreateLink(link=each) for each in sorted(network.links, key=lambda each: each.name)),
        *(CreateTap(tap=each) for each in sorted(network.taps, key=lambda each: each.name)),
        *(SetRoutes(namespace=name, routes=table) for name, table in sorted(network.routes.items())),
    ]


class NetworkDriverContract:
    """The promises of :class:`wisp.ports.network.NetworkDriver`."""

    async def test_an_empty_world_is_seen_empty(self, network: NetworkDriver) -> None:
        """What nobody made is not seen."""
        assert await network.observe() == Network()

    async def test_what_was_made_is_seen_as_it_was_planned(self, network: NetworkDriver) -> None:
        """Plan and observation compare equal, to the last value."""
        await network.apply(creations(SMALL))
        assert await network.observe() == SMALL

    async def test_repeating_changes_nothing(self, network: NetworkDriver) -> None:
        """Every action may be repeated."""
        await network.apply(creations(SMALL))
        await network.apply(creations(SMALL))
        assert await network.observe() == SMALL

    async def test_removing_what_is_not_there_is_fine(self, network: NetworkDriver) -> None:
        """Removals may be repeated too."""
        removals: list[NetworkAction] = [NO_DEFAULT, RemoveTap(tap=GUEST), RemoveLink(link=UPLINK)]
        await network.apply([*removals, RemoveNamespace(name=FIRST.name)])
        assert await network.observe() == Network()

    async def test_things_go_one_by_one(self, network: NetworkDriver) -> None:
        """Routes, taps, links and namespaces can be taken away on their own; routes go with their interface."""
        await network.apply(creations(SMALL))
        await network.apply([NO_DEFAULT, RemoveTap(tap=GUEST)])
        kept = {name: ROUTES[name] for name in (FIRST.name, SECOND.name)}
        left = replace(SMALL, taps=frozenset(), routes=kept)
        assert await network.observe() == left
        await network.apply([RemoveLink(link=UPLINK)])
        left = replace(left, links=frozenset((RADIO,)), routes={FIRST.name: {TO_DEVICE: ROUTES[FIRST.name][TO_DEVICE]}})
        assert await network.observe() == left

    async def test_a_namespace_goes_with_all_that_is_in_it(self, network: NetworkDriver) -> None:
        """And what was there can be made again at once."""
        await network.apply(creations(SMALL))
        await network.apply([RemoveNamespace(name=FIRST.name)])
        left = Network(namespaces=frozenset((SECOND, DEVICE)), taps=SMALL.taps)
        assert await network.observe() == left
        await network.apply(creations(SMALL))
        assert await network.observe() == SMALL

    async def test_everything_can_go(self, network: NetworkDriver) -> None:
        """Nothing is left behind."""
        await network.apply(creations(SMALL))
        await network.apply([RemoveNamespace(name=each.name) for each in SMALL.namespaces])
        assert await network.observe() == Network()

    @pytest.mark.parametrize(
        "shape",
        [
            LinkShape(),
            LinkShape(rate_bps=8_000_000),
            LinkShape(rate_bps=8_000_001, queue_packets=7),
            LinkShape(delay_us=1),
            LinkShape(jitter_us=1),
            LinkShape(loss_ppm=1_000_000, queue_packets=3),
            LinkShape(rate_bps=100_000_000_000, delay_us=5_000_000, loss_ppm=1),
        ],
        ids=str,
    )
    async def test_a_link_takes_any_shape(self, network: NetworkDriver, shape: LinkShape) -> None:
        """From one shape to another and back, each direction on its own, while the routes stay."""
        await network.apply(creations(SMALL))
        changed = replace(UPLINK, a_to_b=FAST, b_to_a=shape)
        await network.apply([ShapeLink(link=changed)])
        assert await network.observe() == replace(SMALL, links=frozenset((changed, RADIO)))
        await network.apply([ShapeLink(link=UPLINK)])
        assert await network.observe() == SMALL

    async def test_a_route_replaces_the_one_before(self, network: NetworkDriver) -> None:
        """There is one route to a destination."""
        await network.apply(creations(SMALL))
        changed = {"10.0.32.0/20": (NextHop("l-uplink"),)}
        await network.apply([SetRoutes(namespace=FIRST.name, routes=changed)])
        expected = {**ROUTES, FIRST.name: {**ROUTES[FIRST.name], **changed}}
        assert await network.observe() == replace(SMALL, routes=expected)

    async def test_a_virtual_address_leads_elsewhere(self, network: NetworkDriver) -> None:
        """Its members change, another comes and goes beside it, and both are seen as they were planned."""
        await network.apply(creations(SMALL))
        other = replace(SHARED, address="192.168.0.2", members=("10.0.32.9",))
        for wanted in ({SHARED}, {replace(SHARED, members=("10.0.32.4",)), other}, {other}):
            await network.apply([SetVirtualAddress(virtual_address=each) for each in wanted])
            if SHARED.address not in {each.address for each in wanted}:
                await network.apply([RemoveVirtualAddress(virtual_address=SHARED)])
            assert await network.observe() == replace(SMALL, virtual_addresses=frozenset(wanted))
        await network.apply([RemoveNamespace(name=FIRST.name)])
        assert not (await network.observe()).virtual_addresses

    async def test_a_virtual_address_that_fails_with_its_batch_leads_where_it_did(self, network: NetworkDriver) -> None:
        """New or only changed."""
        await network.apply([*creations(SMALL), SetVirtualAddress(virtual_address=SHARED)])
        changed = replace(SHARED, members=("10.0.32.4",))
        with pytest.raises(DriverError, match="host/nowhere"):
            await network.apply([
                SetVirtualAddress(virtual_address=changed),
                SetVirtualAddress(virtual_address=replace(SHARED, address="192.168.0.2")),
                SetVirtualAddress(virtual_address=replace(SHARED, namespace="host/nowhere")),
            ])  # fmt: skip
        assert await network.observe() == replace(SMALL, virtual_addresses=frozenset({SHARED}))

    async def test_a_device_moves(self, network: NetworkDriver) -> None:
        """Its link goes and comes elsewhere in one batch, with the same address."""
        await network.apply(creations(SMALL))
        there = replace(RADIO, b=LinkEnd(namespace=SECOND.name, interface="d-sensor", address=SECOND.address))
        way = {"default": (NextHop("eth0", "10.0.32.1"),)}
        set_way = SetRoutes(namespace=DEVICE.name, routes=way)
        await network.apply([RemoveLink(link=RADIO), CreateLink(link=there), set_way])
        seen = await network.observe()
        assert seen.links == {UPLINK, there}
        first = {to: hops for to, hops in ROUTES[FIRST.name].items() if to != TO_DEVICE}
        assert seen.routes == {DEVICE.name: way, FIRST.name: first, SECOND.name: ROUTES[SECOND.name]}

    async def test_a_tap_changes_its_address(self, network: NetworkDriver) -> None:
        """The same interface name serves again at once."""
        await network.apply(creations(SMALL))
        changed = replace(GUEST, address="10.0.32.77")
        await network.apply([RemoveTap(tap=GUEST), CreateTap(tap=changed)])
        assert (await network.observe()).taps == {changed}

    @pytest.mark.parametrize(
        ("action", "word"),
        [
            (CreateLink(link=UPLINK), "host/first"),
            (CreateTap(tap=GUEST), "host/second"),
            (SetRoutes(namespace=DEVICE.name, routes=ROUTES[DEVICE.name]), "default"),
            (ShapeLink(link=UPLINK), "link/uplink"),
            (SwitchLink(link=UPLINK), "link/uplink"),
        ],
        ids=["link", "tap", "route", "shape", "switch"],
    )
    async def test_what_it_needs_must_be_there(self, network: NetworkDriver, action: NetworkAction, word: str) -> None:
        """An action in a place that does not exist is refused, with its name."""
        with pytest.raises(DriverError, match=word):
            await network.apply([action])
        assert await network.observe() == Network()

    async def test_a_name_is_taken_once(self, network: NetworkDriver) -> None:
        """Two things cannot have the same interface."""
        await network.apply(creations(SMALL))
        clash = replace(GUEST, name="other", interface="l-uplink", address="10.0.32.3")
        with pytest.raises(DriverError, match="l-uplink"):
            await network.apply([CreateTap(tap=clash)])
        assert await network.observe() == SMALL

    async def test_a_backup_stays_when_its_link_goes(self, network: NetworkDriver) -> None:
        """It comes and goes on its own, alone or beside others, and is told apart from a route without one."""
        wide = replace(SMALL, links=SMALL.links | {BESIDE})
        first, backup = NextHop("l-uplink", "172.16.0.1"), NextHop("l-second", "172.16.0.3", is_backup=True)
        plain = NextHop("l-second", "172.16.0.3")
        both = {"10.0.32.0/20": (first, backup), "10.0.48.0/20": (plain, first)}
        set_both = SetRoutes(namespace=FIRST.name, routes=both)

        async def table() -> dict[str, tuple[NextHop, ...]]:
            seen = dict((await network.observe()).routes[FIRST.name])
            assert seen.pop(TO_DEVICE) == ROUTES[FIRST.name][TO_DEVICE]
            return seen

        await network.apply([*creations(wide), set_both])
        assert await table() == both
        off = replace(UPLINK, is_down=True)
        for gone, back in ((SwitchLink(link=off), SwitchLink(link=UPLINK)), (RemoveLink(link=UPLINK), None)):
            await network.apply([gone])
            assert await table() == {"10.0.32.0/20": (backup,), "10.0.48.0/20": (plain,)}
            await network.apply([*([back] if back else creations(wide)), set_both])
            assert await table() == both
        with pytest.raises(DriverError, match="l-nothing"):
            await network.apply([
                SetRoutes(namespace=FIRST.name, routes={"10.0.32.0/20": (first,), "10.0.48.0/20": (first, backup)}),
                SetRoutes(namespace=SECOND.name, routes={"default": (NextHop("l-nothing"),)}),
            ])  # fmt: skip
        assert await table() == both
        for hops in ((backup,), (first, backup), (first,), (plain,), (first, backup)):
            await network.apply([SetRoutes(namespace=FIRST.name, routes={"10.0.32.0/20": hops})])
            assert await table() == {**both, "10.0.32.0/20": hops}
        await network.apply([SetRoutes(namespace=FIRST.name, routes=dict.fromkeys(both, ()))])
        assert await table() == {}

    async def test_several_next_hops_share_a_destination(self, network: NetworkDriver) -> None:
        """One goes with its link and the others stay; all may come back, and one route may take another's place."""
        second, wide = BESIDE, replace(SMALL, links=SMALL.links | {BESIDE})
        one, other = NextHop("l-second", "172.16.0.3"), NextHop("l-uplink", "172.16.0.1")
        both = {"10.0.32.0/20": (one, other), "10.0.48.0/20": (one, other), "10.0.64.0/20": (one,)}
        set_both = SetRoutes(namespace=FIRST.name, routes=both)
        await network.apply([*creations(wide), set_both])
        wanted = replace(wide, routes={**ROUTES, FIRST.name: {**ROUTES[FIRST.name], **both}})
        assert await network.observe() == wanted
        for gone, left in ((UPLINK, one), (second, other)):
            await network.apply([RemoveLink(link=gone)])
            seen = (await network.observe()).routes[FIRST.name]
            assert {seen["10.0.32.0/20"], seen["10.0.48.0/20"]} == {(left,)}
            assert ("10.0.64.0/20" in seen) == (left == one)
            await network.apply([*creations(wide), set_both])
            assert await network.observe() == wanted
        await network.apply([SetRoutes(namespace=FIRST.name, routes={"10.0.48.0/20": (), "10.0.32.0/20": (one,)})])
        assert (await network.observe()).routes[FIRST.name] == {
            TO_DEVICE: ROUTES[FIRST.name][TO_DEVICE], "10.0.32.0/20": (one,), "10.0.64.0/20": (one,)
        }  # fmt: skip

    async def test_routes_that_fail_with_their_batch_lead_where_they_did(self, network: NetworkDriver) -> None:
        """Those that were new, replaced or taken away."""
        await network.apply(creations(SMALL))
        changed = {"10.0.32.0/20": (NextHop("l-uplink"),), "10.0.48.0/20": (NextHop("l-uplink"),), TO_DEVICE: ()}
        with pytest.raises(DriverError, match="l-nothing"):
            await network.apply([
                SetRoutes(namespace=FIRST.name, routes=changed),
                SetRoutes(namespace=SECOND.name, routes={"default": (NextHop("l-nothing"),)}),
            ])  # fmt: skip
        assert await network.observe() == SMALL

    async def test_a_failed_batch_leaves_what_was(self, network: NetworkDriver) -> None:
        """What a call did before it failed is undone: made things go, removed things come back."""
        await network.apply(creations(SMALL))
        stranger = Namespace(name="host/third", address="10.0.48.1/32")
        with pytest.raises(DriverError, match="host/nowhere"):
            await network.apply([
                RemoveTap(tap=GUEST),
                RemoveNamespace(name=FIRST.name),
                CreateNamespace(namespace=stranger),
                CreateTap(tap=replace(GUEST, namespace="host/nowhere")),
            ])  # fmt: skip
        assert await network.observe() == SMALL

    async def test_overlapping_calls_keep_out_of_each_other(self, network: NetworkDriver) -> None:
        """Calls may overlap; each sees a whole world."""
        await asyncio.gather(*(network.apply(creations(SMALL)) for _ in range(3)), network.observe())
        assert await network.observe() == SMALL

    async def test_creating_a_link_again_shapes_it(self, network: NetworkDriver) -> None:
        """With its other shape, and without losing the routes over it."""
        await network.apply(creations(SMALL))
        changed = replace(UPLINK, a_to_b=FAST)
        await network.apply([CreateLink(link=changed)])
        assert await network.observe() == replace(SMALL, links=frozenset((changed, RADIO)))

    async def test_a_link_without_carrier_keeps_its_shape_and_loses_its_routes(self, network: NetworkDriver) -> None:
        """It can be shaped meanwhile, carries no route until it is switched on, and then is as it was."""
        await network.apply(creations(SMALL))
        off = replace(UPLINK, is_down=True)
        for _ in range(2):  # to repeat it changes nothing
            await network.apply([SwitchLink(link=off)])
            assert await network.observe() == replace(SMALL, links=frozenset((off, RADIO)), routes=BESIDE_UPLINK)
        shaped = replace(UPLINK, b_to_a=SLOW)
        await network.apply([ShapeLink(link=shaped)])
        assert (await network.observe()).links == {replace(shaped, is_down=True), RADIO}
        with pytest.raises(DriverError, match="no carrier"):
            await network.apply([SetRoutes(namespace=SECOND.name, routes=ROUTES[SECOND.name])])
        await network.apply([ShapeLink(link=UPLINK), SwitchLink(link=UPLINK), *creations(SMALL)])
        assert await network.observe() == SMALL

    async def test_a_link_switched_off_in_a_batch_that_fails_is_on_again(self, network: NetworkDriver) -> None:
        """With the routes over it."""
        await network.apply(creations(SMALL))
        with pytest.raises(DriverError, match="host/nowhere"):
            await network.apply([
                SwitchLink(link=replace(UPLINK, is_down=True)),
                SetVirtualAddress(virtual_address=replace(SHARED, namespace="host/nowhere")),
            ])  # fmt: skip
        assert await network.observe() == SMALL

    async def test_a_link_may_be_made_without_carrier(self, network: NetworkDriver) -> None:
        """As while a fault lasts on one that has to be made anew."""
        off = replace(UPLINK, is_down=True)
        there = replace(SMALL, links=frozenset((off, RADIO)), routes=BESIDE_UPLINK)
        await network.apply(creations(there))
        assert await network.observe() == there
