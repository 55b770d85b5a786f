"""The kernel's side of the network: everything that blocks, for one thread to do.

Batches go to each namespace's own netlink socket. Interface indexes are chosen by us, the lowest free ones, so that
one message can name what the message before it made.
"""

import os
import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from errno import ENODEV, ENOENT, ESRCH
from itertools import count

from wisp.drivers.network import message as m
from wisp.drivers.network import nat
from wisp.drivers.network import nexthops as nh
from wisp.drivers.network import place as p
from wisp.drivers.network.alias import link_alias, tap_alias
from wisp.drivers.network.contents import LOOPBACK, Contents, read_contents, read_counters
from wisp.drivers.network.farewell import say_farewell
from wisp.drivers.network.netlink import CREATE, REPLACE, Message, NetlinkSocket
from wisp.drivers.network.xtables import IPV4_TABLE, IPV6_TABLE, Passage, Table
from wisp.model.counters import Counters
from wisp.model.network import LinkEnd, Namespace, NextHops, RoutingTable, Tap, VirtualLink, mac_of
from wisp.primitives.errors import MissingPrerequisite

_Batches = defaultdict[str, list[Message]]
# More do not help: most of the kernel's network is behind one lock.
_THREADS = 2
_WORTH_THREADS = 16


@dataclass(slots=True)
class _Room:
    """A namespace that is open, and the interfaces we know of in it.

    Attributes:
        indexes: By interface name.
        limited: Indexes of those with a rate limit.
        hops: Our number of each next hop that there is.
        idle: Numbers of those that no route had when we looked last.
        backups: Destinations that may have a backup route.
        rules: Delay queue by passage, as last seen or written; ``None`` while nobody has looked.
        members: Where virtual addresses lead, likewise.
    """

    place: p.Place
    indexes: dict[str, int] = field(default_factory=lambda: {"lo": LOOPBACK})
    limited: set[int] = field(default_factory=set)
    hops: dict[NextHops, int] = field(default_factory=dict)
    idle: frozenset[int] = frozenset()
    backups: set[str] = field(default_factory=set)
    rules: dict[Passage, int] | None = None
    members: Mapping[str, tuple[str, ...]] | None = None
    _used: set[int] = field(default_factory=lambda: {LOOPBACK})
    _free_from: int = LOOPBACK + 1
    _last_hop: int = 0
    _hops_over: defaultdict[str, set[NextHops]] = field(default_factory=lambda: defaultdict(set))

    def know(self, indexes: Mapping[str, int]) -> None:
        """Take note of all interfaces that there are."""
        self.indexes, self._used, self._free_from = dict(indexes), {*indexes.values()}, LOOPBACK + 1

    def know_hops(self, hops: Mapping[NextHops, int], idle: frozenset[int], last: int) -> None:
        """Take note of all next hops that there are, of those that no route has, and of the highest number."""
        self.hops, self.idle, self._last_hop = {}, idle, last
        self._hops_over.clear()
        for each, number in hops.items():
            self._note_hops(each, number)

    def forget_idle_hops(self) -> None:
        """Take note that those that no route has are gone."""
        kept = {hops: ours for hops, ours in self.hops.items() if ours not in self.idle}
        self.know_hops(kept, frozenset(), self._last_hop)

    def forget_hops_over(self, interface: str) -> None:
        """Take note that the kernel has taken away what leads over an interface, and changed what has other ways."""
        for hops in self._hops_over.pop(interface, ()):
            self.hops.pop(hops, None)

    def number_hops(self, hops: NextHops) -> int:
        """Give new next hops a number."""
        self._last_hop += 1
        self._note_hops(hops, self._last_hop)
        return self._last_hop

    def _note_hops(self, hops: NextHops, number: int) -> None:
        self.hops[hops] = number
        for hop in hops:
            self._hops_over[hop.interface].add(hops)

    def take(self, interface: str, other_end: int = LOOPBACK) -> int:
        """Choose the lowest free index for a new interface.

        A veth pair whose ends have the same index looks like an ordinary device to the kernel, which then takes a
        second to notice that it is up; so the index of the other end is avoided.
        """
        free = (index for index in count(self._free_from) if index not in self._used)
        self._free_from = index = next(free)
        if index == other_end:
            index = next(free)
        self.indexes[interface] = index
        self._used.add(index)
        return index

    def drop(self, interface: str) -> int | None:
        """Forget an interface and give its index; ``None`` if it is not known."""
        index = self.indexes.pop(interface, None)
        self.forget_hops_over(interface)
        if index is not None:
            self.limited.discard(index)
            self._used.discard(index)
            self._free_from = min(self._free_from, index)
        return index


class Kernel:
    """Makes, changes and reads what the kernel has. Every method blocks and raises ``OSError``."""

    def __init__(self) -> None:
        self._home = p.home()
        self._rooms: dict[str, _Room] = {}
        self._families = (m.IPV4, m.IPV6) if p.has_ipv6() else (m.IPV4,)
        self._tables = (IPV4_TABLE, IPV6_TABLE)[: len(self._families)]

    def close(self) -> None:
        """Let go of everything."""
        for name in list(self._rooms):
            self.drop(name)
        os.close(self._home)

    def knows(self) -> frozenset[str]:
        """Give the names of the namespaces that are open."""
        return frozenset(self._rooms)

    def adopt(self, namespaces: Mapping[str, int]) -> None:
        """Open namespaces by their descriptors, which are owned from now on."""
        for name, netns in namespaces.items():
            self._rooms[name] = _Room(p.open_place(netns, self._home))

    def drop(self, name: str) -> None:
        """Let go of a namespace."""
        if room := self._rooms.pop(name, None):
            room.place.close()

    def netns(self, name: str) -> int:
        """Give the descriptor of an open namespace."""
        return self._rooms[name].place.netns

    def index(self, namespace: str, interface: str) -> int:
        """Give the index of a known interface."""
        return self._rooms[namespace].indexes[interface]

    def look(self) -> dict[str, Contents]:
        """Read every open namespace."""
        return {name: self._look(name, room) for name, room in self._rooms.items()}

    def counters(self) -> dict[tuple[str, str], Counters]:
        """Give the counters of every interface, by namespace and name."""
        return {
            (name, interface): counters
            for name, room in self._rooms.items()
            for interface, counters in read_counters(room.place.netlink).items()
        }

    def socket_in(self, namespace: str, make_socket: Callable[[], socket.socket]) -> socket.socket:
        """Give a socket that belongs to a namespace."""
        return p.socket_inside(self.netns(namespace), self._home, make_socket)

    def farewell(self, namespace: str, interface: str, mac: str) -> None:
        """Tell the guest behind a tap to finish what it has and go."""
        say_farewell(self.netns(namespace), self._home, interface, mac)

    def create_namespaces(self, namespaces: Sequence[Namespace]) -> dict[str, int]:
        """Make namespaces and give their descriptors; they vanish unless somebody else holds those."""
        # To say a setting takes as long as to look it up once for all.
        inherits = p.inherited(self._home) if len(namespaces) > 1 else {}
        by_name = {namespace.name: namespace for namespace in namespaces}

        def make(name: str) -> None:
            wanted = by_name[name]
            place = p.make(self._home, forwards=wanted.forwards, strict=wanted.strict, inherits=inherits)
            self._rooms[name] = _Room(place, rules={}, members={})

        self._each(by_name, make)
        batches: _Batches = defaultdict(list)
        for namespace in namespaces:
            what = f"setting up namespace {namespace.name}"
            batches[namespace.name].append(m.set_up(LOOPBACK, "", what))
            if namespace.address:
                batches[namespace.name] += self._add_address(LOOPBACK, namespace.address, what)
        self._send(batches)
        return {namespace.name: self.netns(namespace.name) for namespace in namespaces}

    def add_own_address(self, namespace: str, address: str) -> None:
        """Give a namespace one more address of its own; having it already is fine."""
        self._send({namespace: self._add_address(LOOPBACK, address, f"adding {address} to {namespace}")})

    def create_links(self, links: Sequence[VirtualLink]) -> None:
        """Make links with their rates, not yet their delays; those that are plain are marked as done."""
        self.remove_interfaces((end.namespace, end.interface) for link in links for end in (link.a, link.b))
        veths = [self._veth(link) for link in links]
        self._rooms[links[0].a.namespace].place.netlink.request(veths)
        batches: _Batches = defaultdict(list)
        for link in links:
            for end, alias in _aliases(link, in_force=link.is_plain):
                what = f"setting up link {link.name} in {end.namespace}"
                index = self.index(end.namespace, end.interface)
                batches[end.namespace].append(m.set_up(index, alias, what))
                if end.address:
                    batches[end.namespace] += self._add_address(index, end.address, what)
                if address := _alone(link.b if end is link.a else link.a):
                    # Nobody needs to ask for what is known; and the kernel keeps no more answers than a thousand.
                    batches[end.namespace] += self._add_neighbour(index, address, what)
            self._limit(batches, link)
        self._send(batches)

    def limit_links(self, links: Iterable[VirtualLink]) -> None:
        """Change the rates of links; their shapes count as not in force until ``mark_links``."""
        batches: _Batches = defaultdict(list)
        for link in links:
            self._mark(batches, link, in_force=False)
            self._limit(batches, link)
        self._send(batches)

    def switch_links(self, links: Iterable[VirtualLink]) -> None:
        """Take the carrier of links away or give it back; their addresses stay, though the kernel drops IPv6 ones."""
        batches: _Batches = defaultdict(list)
        for link in links:
            what = f"switching link {link.name} {'off' if link.is_down else 'on'}"
            for end in (link.a, link.b):
                index = self.index(end.namespace, end.interface)
                self._rooms[end.namespace].forget_hops_over(end.interface)
                batches[end.namespace].append(m.switch(index, on=not link.is_down, what=what))
                if end.address:
                    batches[end.namespace] += self._add_address(index, end.address, what)
                if not link.is_down and (address := _alone(link.b if end is link.a else link.a)):
                    batches[end.namespace] += self._add_neighbour(index, address, what)
        self._send(batches)

    def mark_links(self, links: Iterable[VirtualLink]) -> None:
        """Write on links that their shapes are in force."""
        batches: _Batches = defaultdict(list)
        for link in links:
            self._mark(batches, link, in_force=True)
        self._send(batches)

    def write_rules(self, rules: Mapping[str, Mapping[Passage, int]]) -> None:
        """Set the delay queues (by passage) of namespaces, where they are not so already."""
        for name, queues in rules.items():
            room = self._rooms[name]
            if room.rules != queues:
                for table in self._tables:
                    with self.socket_in(name, table.open_socket) as inside:
                        table.write(inside, queues)
                room.rules = dict(queues)

    def write_members(self, namespace: str, source: str, members: Mapping[str, tuple[str, ...]]) -> None:
        """Have new connections from a namespace to each of these addresses go to its members in turn.

        Args:
            namespace: Where.
            source: Whose address the namespace itself asks from.
            members: All of its virtual addresses, and where they lead.
        """
        room = self._rooms[namespace]
        before = self._read_members(namespace, room)
        with self._netfilter(namespace) as netlink:
            nat.write_members(netlink, self._families, members)
            left = {each for each_of in before.values() for each in each_of}
            nat.forget_datagrams(netlink, left.difference(*members.values()))
        # Whoever asks inside of the namespace needs a way before it is led elsewhere.
        for address in members.keys() - before.keys():
            route = m.KernelRoute(f"{address}/32", LOOPBACK, source)
            room.place.netlink.request(self._add_route(route, f"adding virtual address {address} to {namespace}"))
        for address in before.keys() - members.keys():
            route, what = m.KernelRoute(f"{address}/32", LOOPBACK, None), f"removing {address} from {namespace}"
            room.place.netlink.request([m.delete_route(family, route, what) for family in self._families])
        room.members = dict(members)

    def connections(self) -> dict[tuple[str, str], int]:
        """Give how many connections came since its members were last written, by namespace and virtual address."""
        counts: dict[tuple[str, str], int] = {}
        for name, room in self._rooms.items():
            if room.members:
                with self._netfilter(name) as netlink:
                    counts |= {(name, each): count for each, count in nat.read_connections(netlink).items()}
        return counts

    def remove_interfaces(self, interfaces: Iterable[tuple[str, str]]) -> None:
        """Take away interfaces, given by namespace and name; those that are not there are fine."""
        doomed: defaultdict[str, list[int]] = defaultdict(list)
        for namespace, interface in interfaces:
            if namespace in self._rooms and (index := self._rooms[namespace].drop(interface)):
                doomed[namespace].append(index)
        for name, indexes in doomed.items():
            messages = m.delete_links(indexes, f"removing interfaces of {name}")
            # One that is gone already went with its other end.
            self._rooms[name].place.netlink.request(messages, fine=(ENODEV,))

    def remove_links(self, links: Sequence[VirtualLink]) -> None:
        """Take links away; either end takes the other with it."""
        self.remove_interfaces((link.a.namespace, link.a.interface) for link in links)
        for link in links:
            self._rooms[link.b.namespace].drop(link.b.interface)

    def create_taps(self, taps: Sequence[Tap]) -> dict[str, int]:
        """Make taps with the routes to their guests; give descriptors by name, owned by the caller."""
        self.remove_interfaces((tap.namespace, tap.interface) for tap in taps)
        by_namespace: defaultdict[str, list[Tap]] = defaultdict(list)
        for tap in taps:
            by_namespace[tap.namespace].append(tap)
        made: dict[str, int] = {}
        try:
            for name, members in by_namespace.items():
                room = self._rooms[name]
                orders = [p.TapOrder(tap.interface, room.take(tap.interface)) for tap in members]
                descriptors = p.make_taps(room.place.netns, self._home, orders)
                made.update(zip((tap.name for tap in members), descriptors, strict=True))
            self._send({name: self._tap_messages(members) for name, members in by_namespace.items()})
        except BaseException:
            for descriptor in made.values():
                os.close(descriptor)
            raise
        return made

    def set_routes(self, changes: Iterable[tuple[str, str, RoutingTable]]) -> None:
        """Give destinations their next hops, or take away those without, in any order.

        Args:
            changes: Namespace, its own address (empty for none), and routes by destination.
        """
        by_namespace: defaultdict[str, list[tuple[str, RoutingTable]]] = defaultdict(list)
        for namespace, source, routes in changes:
            by_namespace[namespace].append((source, routes))

        def set_all(name: str) -> None:
            for source, routes in by_namespace[name]:
                self._set_routes(name, source, routes)

        self._each(by_namespace, set_all)

    def _each(self, names: Collection[str], call: Callable[[str], object]) -> None:
        """Do something for each of some namespaces, several at a time: the kernel works on them side by side."""
        if len(names) < _WORTH_THREADS:
            for name in names:
                call(name)
            return
        with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="network") as pool:
            for _ in pool.map(call, names):
                pass

    def _set_routes(self, namespace: str, source: str, routes: RoutingTable) -> None:
        first, backups = _apart(routes)
        self._put_routes(namespace, source, {to: hops for to, hops in first.items() if hops})
        self._put_routes(namespace, source, backups, is_backup=True)
        room = self._rooms[namespace]
        no_backup = room.backups & (routes.keys() - backups.keys())
        room.backups |= backups.keys()
        room.backups -= no_backup
        doomed = [(to, m.ROUTE_OF_PLAN) for to, hops in first.items() if not hops]
        doomed += [(to, m.ROUTE_OF_BACKUP) for to in sorted(no_backup)]
        ends = [
            nh.delete_route(family, to, f"removing the route to {to} in {namespace}", protocol)
            for to, protocol in doomed
            for family in self._families
        ]
        # The kernel may have taken it away meanwhile, with its link.
        room.place.netlink.request(ends, fine=(ESRCH,))

    def _put_routes(self, namespace: str, source: str, routes: RoutingTable, *, is_backup: bool = False) -> None:
        puts = list(routes.items())
        numbers = self._numbers(namespace, {id(hops): hops for _, hops in puts})
        protocol = m.ROUTE_OF_BACKUP if is_backup else m.ROUTE_OF_PLAN
        for place, family in enumerate(self._families):
            tails = {
                key: nh.route_tail(family, place, ours, source, is_backup=is_backup) for key, ours in numbers.items()
            }
            bodies = [nh.route_head(family, to, 0, protocol) + tails[id(hops)] for to, hops in puts]
            self._rooms[namespace].place.netlink.request_all(
                m.NEW_ROUTE, CREATE | REPLACE, bodies, lambda at: f"setting the route to {puts[at][0]} in {namespace}"
            )

    def _numbers(self, namespace: str, distinct: Mapping[int, NextHops]) -> dict[int, int]:
        """Give our number of each of some next hops, by the same key; those that are new are made."""
        room, what = self._rooms[namespace], f"making a next hop in {namespace}"
        messages: list[Message] = []
        for hops in sorted(set(distinct.values()), key=len):
            for hop in hops:
                if (hop,) not in room.hops:
                    index, ours = room.indexes[hop.interface], room.number_hops((hop,))
                    messages += nh.new_hop(self._families, ours, index, hop.via, what)
            if hops not in room.hops:
                members = [room.hops[hop,] for hop in hops]
                messages += nh.new_group(self._families, room.number_hops(hops), members, what)
        room.place.netlink.request(messages)
        return {key: room.hops[hops] for key, hops in distinct.items()}

    def remove_idle_hops(self) -> None:
        """Take away the next hops that no route had at the last look; those that have gone are fine."""
        for name, room in self._rooms.items():
            if room.idle:
                what = f"removing idle next hops of {name}"
                messages = [each for ours in room.idle for each in nh.delete_hops(self._families, ours, what)]
                room.place.netlink.request(messages, fine=(ENOENT,))
                room.forget_idle_hops()

    def _look(self, name: str, room: _Room) -> Contents:
        contents = read_contents(room.place.netlink, self._families)
        interfaces = contents.interfaces
        room.know({each.name: index for index, each in interfaces.items()})
        room.know_hops(contents.hops, contents.idle, contents.last_hop)
        room.backups = {to for to, hops in contents.table.items() if hops[-1].is_backup}
        room.limited = {index for index, each in interfaces.items() if each.rate_bps is not None}
        ways = {route.destination.removesuffix("/32") for route in contents.routes if route.index == LOOPBACK}
        members = {each: to for each, to in self._read_members(name, room).items() if each in ways}
        contents = replace(contents, members=members)
        rules = room.rules = self._read_rules(name, room)
        if not rules:
            return contents
        delayed = {
            index: replace(
                each,
                arrivals_queue=rules.get(Passage(each.name, leaving=False)),
                departures_queue=rules.get(Passage(each.name, leaving=True)),
            )
            for index, each in interfaces.items()
        }
        return replace(contents, interfaces=delayed)

    def _read_rules(self, name: str, room: _Room) -> dict[Passage, int]:
        """Read the rules, except where we know that we made none: to ask would make the table."""
        if room.rules == {}:
            return {}
        try:
            first, *others = [self._read_table(name, table) for table in self._tables]
        except MissingPrerequisite:
            return {}
        return {each: number for each, number in first.items() if all(number == other.get(each) for other in others)}

    def _read_members(self, name: str, room: _Room) -> Mapping[str, tuple[str, ...]]:
        """Read where virtual addresses lead, except where we know that we made none."""
        if room.members != {}:
            try:
                with self._netfilter(name) as netlink:
                    room.members = nat.read_members(netlink, self._families)
            except MissingPrerequisite:
                room.members = {}
        return room.members

    @contextmanager
    def _netfilter(self, namespace: str) -> Iterator[NetlinkSocket]:
        with p.inside(self.netns(namespace), self._home):
            netlink = nat.open_netlink()
        try:
            yield netlink
        finally:
            netlink.close()

    def _read_table(self, name: str, table: Table) -> dict[Passage, int]:
        with self.socket_in(name, table.open_socket) as inside:
            return table.read(inside)

    def _veth(self, link: VirtualLink) -> Message:
        first, second = self._rooms[link.a.namespace], self._rooms[link.b.namespace]
        macs = (mac_of(address) if (address := _alone(end)) else None for end in (link.a, link.b))
        a = m.VethEnd(first.place.netns, first.take(link.a.interface), link.a.interface, next(macs))
        b = m.VethEnd(second.place.netns, second.take(link.b.interface, a.index), link.b.interface, next(macs))
        return m.new_veth(a, b, f"making link {link.name}")

    def _limit(self, batches: _Batches, link: VirtualLink) -> None:
        for end, shape in ((link.a, link.a_to_b), (link.b, link.b_to_a)):
            room, what = self._rooms[end.namespace], f"limiting the rate of link {link.name} in {end.namespace}"
            index = room.indexes[end.interface]
            if shape.rate_bps is not None:
                room.limited.add(index)
                batches[end.namespace] += m.limit_rate(index, shape.rate_bps, shape.queue_packets, what)
            elif index in room.limited:
                room.limited.discard(index)
                batches[end.namespace].append(m.unlimit_rate(index, what))

    def _mark(self, batches: _Batches, link: VirtualLink, *, in_force: bool) -> None:
        what = f"marking link {link.name}"
        for end, alias in _aliases(link, in_force=in_force):
            batches[end.namespace].append(m.set_alias(self.index(end.namespace, end.interface), alias, what))

    def _tap_messages(self, taps: Iterable[Tap]) -> list[Message]:
        """Give what brings taps up, then what leads to their guests: with each interface that comes up, the kernel
        walks over all IPv6 routes that there are.
        """
        up, beyond = [], []
        for tap in taps:
            what = f"setting up the tap of {tap.name} in {tap.namespace}"
            index = self.index(tap.namespace, tap.interface)
            gateway = tap.gateway.partition("/")[0]
            route = m.KernelRoute(f"{tap.address}/32", index, gateway, m.ROUTE_TO_GUEST)
            alias = tap_alias(tap.name, tap.mac, tap.gateway if tap.mac else None)
            up.append(m.set_up(index, alias, what, to_guest_from=mac_of(gateway), without_addresses=bool(tap.mac)))
            beyond += self._add_route(route, what)
            if tap.mac:
                # Who is known need not be asked. An address on each of thousands of taps takes the kernel minutes.
                beyond.append(m.ask_often(m.IPV4, index, what))
                beyond += self._add_neighbour(index, tap.address, what)
            else:
                beyond += [m.ask_often(family, index, what) for family in self._families]
                beyond += self._add_address(index, tap.gateway, what)
        return [*up, *beyond]

    def _add_address(self, index: int, address: str, what: str) -> list[Message]:
        return [m.add_address(family, index, address, what) for family in self._families]

    def _add_neighbour(self, index: int, address: str, what: str) -> list[Message]:
        return [m.add_neighbour(family, index, address, mac_of(address), what) for family in self._families]

    def _add_route(self, route: m.KernelRoute, what: str) -> list[Message]:
        return [m.add_route(family, route, what) for family in self._families]

    def _send(self, batches: Mapping[str, list[Message]]) -> None:
        for name, messages in batches.items():
            self._rooms[name].place.netlink.request(messages)


def _apart(routes: RoutingTable) -> tuple[dict[str, NextHops], dict[str, NextHops]]:
    """Give the next hops of each destination without its backup, and the backups, as if they were none."""
    first: dict[str, NextHops] = dict(routes)
    backups: dict[str, NextHops] = {}
    # The same few tuples are those of most routes; those that are made here are shared likewise.
    alone: dict[NextHops, tuple[NextHops, NextHops]] = {}
    for to, hops in routes.items():
        if hops and hops[-1].is_backup:
            if hops not in alone:
                alone[hops] = hops[:-1], (hops[-1]._replace(is_backup=False),)
            first[to], backups[to] = alone[hops]
    return first, backups


def _alone(end: LinkEnd) -> str:
    """Give an end's address without its prefix; empty for none."""
    return (end.address or "").partition("/")[0]


def _aliases(link: VirtualLink, *, in_force: bool) -> tuple[tuple[LinkEnd, str], tuple[LinkEnd, str]]:
    """Give what stands on both ends of a link."""
    a, b = (link.a_to_b, link.b_to_a) if in_force else (None, None)
    return (link.a, link_alias(link.name, "a", a)), (link.b, link_alias(link.name, "b", b))
