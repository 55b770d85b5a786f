"""The network when things go wrong: controllers that are killed, a delay line that dies, leftovers in the way."""

import asyncio
import random
import signal
from dataclasses import replace

import pytest

from wisp.drivers.keeper.delay import CHILD_ID
from wisp.model.action import CreateLink, CreateTap, RemoveNamespace, ShapeLink
from wisp.model.network import Network, VirtualLink
from wisp.primitives.errors import DriverError
from wisp.reconcile.network import difference
from wisp.testing.network import DEVICE, FIRST, GUEST, RADIO, SECOND, SMALL, UPLINK, creations

LATE = replace(UPLINK.a_to_b, loss_ppm=0)
DELAYED = replace(UPLINK, a_to_b=LATE, b_to_a=LATE)
SLOWED = replace(SMALL, links=frozenset((DELAYED, RADIO)))


async def repair(cloud, wanted: Network) -> list[type]:
    """Reconcile once and give the kinds of what was done."""
    actions = difference(wanted, await cloud.observe())
    await cloud.apply(actions)
    return [type(action) for action in actions]


async def test_a_new_controller_sees_what_the_one_before_made(cloud):
    await cloud.apply(creations(SLOWED))
    await cloud.crash()
    assert await cloud.observe() == SLOWED
    assert await repair(cloud, SLOWED) == []
    took = await cloud.call("round_trips", DEVICE.name, SECOND.name, "10.0.32.1", 20)
    assert min(took) >= 3


async def test_a_new_controller_takes_everything_away(cloud):
    await cloud.apply(creations(SLOWED))
    await cloud.crash()
    await cloud.apply([RemoveNamespace(name=each.name) for each in SLOWED.namespaces])
    assert await cloud.observe() == Network()
    assert [name for name in await cloud.keeper.held() if name != "delay/control"] == []


@pytest.mark.parametrize("seed", range(8))
async def test_a_controller_killed_at_any_moment_leaves_nothing_half_made(cloud, seed):
    moment = random.Random(seed).uniform(0, 0.04)
    going = asyncio.create_task(cloud.apply(creations(SLOWED)))
    await asyncio.sleep(moment)
    await cloud.crash(going)
    await repair(cloud, SLOWED)
    assert await cloud.observe() == SLOWED
    took = await cloud.call("round_trips", DEVICE.name, SECOND.name, "10.0.32.1", 5)
    assert min(took) >= 3


async def test_a_tap_that_lost_its_interface_is_let_go(cloud):
    await cloud.apply(creations(SMALL))
    await cloud.call("command", SECOND.name, ["ip", "link", "delete", "t-web"])
    assert (await cloud.observe()).taps == frozenset()
    await cloud.apply([])
    assert "tap/web" not in await cloud.keeper.held()
    await repair(cloud, SMALL)
    assert await cloud.observe() == SMALL


async def test_a_delay_line_that_died_is_seen_and_mended(cloud):
    await cloud.apply(creations(SLOWED))
    watch = cloud.keeper.watch()
    await cloud.keeper.signal(CHILD_ID, signal.SIGKILL)
    assert (await anext(watch)).id == CHILD_ID
    await watch.aclose()
    seen = {link.name: link for link in (await cloud.observe()).links}[UPLINK.name]
    undelayed = replace(LATE, delay_us=0, jitter_us=0)
    assert (seen.a_to_b, seen.b_to_a) == (undelayed, undelayed)
    assert await repair(cloud, SLOWED) == [ShapeLink]
    assert await cloud.observe() == SLOWED
    assert min(await cloud.call("round_trips", DEVICE.name, SECOND.name, "10.0.32.1", 5)) >= 3


async def test_a_link_that_somebody_took_away_is_made_again(cloud):
    await cloud.apply(creations(SLOWED))
    await cloud.call("command", FIRST.name, ["ip", "link", "delete", "l-uplink"])
    assert CreateLink in await repair(cloud, SLOWED)
    assert await cloud.observe() == SLOWED


@pytest.mark.parametrize(
    "command",
    [
        ["ip", "link", "set", "l-uplink", "down"],
        ["ip", "address", "flush", "dev", "l-uplink"],
        ["ip", "route", "delete", "10.0.32.0/20"],
        ["tc", "qdisc", "delete", "dev", "l-uplink", "root"],
        ["tc", "qdisc", "replace", "dev", "l-uplink", "handle", "2:", "parent", "1:1", "pfifo", "limit", "9"],
        ["iptables-legacy", "-t", "mangle", "-F"],
        ["ip", "link", "set", "l-uplink", "alias", "mine"],
    ],
    ids=" ".join,
)
async def test_what_somebody_changed_is_seen_and_mended(cloud, command):
    await cloud.apply(creations(SLOWED))
    await cloud.call("command", FIRST.name, command)
    assert await cloud.observe() != SLOWED
    await repair(cloud, SLOWED)
    assert await cloud.observe() == SLOWED


async def test_a_leftover_in_the_way_is_cleared(cloud):
    await cloud.apply(creations(replace(SMALL, links=frozenset(), taps=frozenset(), routes={})))
    for name in ("l-uplink", "d-sensor"):
        await cloud.call("command", FIRST.name, ["ip", "link", "add", name, "type", "veth", "peer", f"{name}-x"])
    await cloud.call("command", SECOND.name, ["ip", "link", "add", "t-web", "type", "veth", "peer", "t-x"])
    await cloud.apply(creations(SMALL))
    assert await cloud.observe() == SMALL


async def test_a_stranger_is_left_alone(cloud):
    await cloud.apply(creations(SMALL))
    await cloud.call("command", FIRST.name, ["ip", "link", "add", "mine", "type", "veth", "peer", "mine-x"])
    assert await cloud.observe() == SMALL
    with pytest.raises(DriverError):
        await cloud.apply([CreateTap(tap=replace(GUEST, name="other", namespace="host/nowhere"))])
    assert (FIRST.name, "mine") in await cloud.call("counters")


async def test_a_link_that_fails_half_way_is_taken_back(cloud):
    """The kernel makes the pair, and then cannot write down what it is for: both interfaces go again."""
    await cloud.apply(creations(SMALL))
    before = await cloud.call("counters")
    broken = VirtualLink(
        name="link/" + 300 * "x",
        a=replace(UPLINK.a, interface="l-broken"),
        b=replace(UPLINK.b, interface="l-broken"),
    )
    with pytest.raises(DriverError, match="link/xxx"):
        await cloud.apply([CreateLink(link=broken)])
    assert await cloud.observe() == SMALL
    assert (await cloud.call("counters")).keys() == before.keys()


async def test_overlapping_calls(cloud):
    await cloud.call("overlapping", creations(SLOWED), 3)
    assert await cloud.observe() == SLOWED
