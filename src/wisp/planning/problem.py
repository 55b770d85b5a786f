"""The placement problem as algorithms see it: groups of instances, hosts, and what each host is refused for."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from wisp.model.description import DeclaredInstance, DesiredState, Host, Vdu
from wisp.model.observation import ObservedState
from wisp.model.peer import Peers
from wisp.planning.overhead import cost_bytes
from wisp.planning.routing import topology_of
from wisp.primitives.values import frozen


@frozen
class Group:
    """Instances that must share a host, placed as one.

    Attributes:
        members: In the order they were declared; mostly one.
        reserved: What those that always run need together.
        asleep: The most that one of those needs that sleep until they are wanted; they share what nobody reserved.
        apart: Instances that must not be on the same host.
        previous: Host that the first member was on before, or ``None``.
        away_us: Delay of each host from where it is wanted [µs]; empty for wanted anywhere.
    """

    members: tuple[DeclaredInstance, ...]
    reserved: "Room"
    asleep: "Room"
    apart: frozenset[str]
    previous: str | None
    away_us: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the first member."""
        return self.members[0].name


class Delays:
    """Path delays from any host to what a latency bound names, worked out once per target."""

    def __init__(self, desired: DesiredState) -> None:
        self._topology = topology_of(desired)
        self._access = {point.name: point for point in desired.access_points}
        self._devices = {device.name: device for device in desired.devices}
        self._hosts_at = defaultdict(list)
        for host in desired.hosts:
            self._hosts_at[host.site].append(host.name)
        self._known: dict[str, Mapping[str, int]] = {}

    def to(self, target: str) -> Mapping[str, int]:
        """Give host → delay [µs], in the slower direction, to a device, or to the nearest host of a site.

        Hosts that cannot reach it are not in it.
        """
        if target not in self._known:
            self._known[target] = self._to_device(target) if target in self._devices else self._to_site(target)
        return self._known[target]

    def from_host(self, host: str) -> Mapping[str, int]:
        """Give host → delay from one [µs]."""
        return self._topology.delays_from(host)

    def _to_device(self, device: str) -> dict[str, int]:
        access = self._access[self._devices[device].access_point]
        there, back = self._topology.delays_to(access.host), self._topology.delays_from(access.host)
        down, up = access.down.delay_us, access.up.delay_us
        return {host: max(there[host] + down, back[host] + up) for host in there.keys() & back.keys()}

    def _to_site(self, site: str) -> dict[str, int]:
        nearest: dict[str, int] = {}
        for target in self._hosts_at[site]:
            there, back = self._topology.delays_to(target), self._topology.delays_from(target)
            for host in there.keys() & back.keys():
                delay = max(there[host], back[host])
                nearest[host] = min(delay, nearest.get(host, delay))
        return nearest


class PlacementProblem:
    """Everything an algorithm may ask.

    Attributes:
        hosts: By name, in the order they were declared.
        groups: In the order of their first members.
        down: Hosts that must not be used.
        waiting: Instances that wait for the host they were on, though it is down.
    """

    def __init__(
        self,
        desired: DesiredState,
        observed: ObservedState,
        near: Mapping[str, str] | None = None,
        waiting: frozenset[str] = frozenset(),
    ) -> None:
        self.hosts: Mapping[str, Host] = {host.name: host for host in desired.hosts}
        self.down, self.waiting = observed.hosts_down, waiting
        self.delays = Delays(desired)
        self._instances = desired.instances
        self._peers = Peers(desired.instances)
        self._previous = observed.assignments.hosts
        self._near = near or {}

    @property
    def instance_names(self) -> tuple[str, ...]:
        """All instances, in the order they were declared."""
        return tuple(instance.name for instance in self._instances)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Instances joined by affinity."""
        joined: dict[str, list[DeclaredInstance]] = {}
        leader = self._leaders()
        for instance in self._instances:
            joined.setdefault(leader[instance.name], []).append(instance)
        apart = self._apart()
        return tuple(self._group(tuple(members), apart) for members in joined.values())

    def _group(self, members: tuple[DeclaredInstance, ...], apart: Mapping[str, set[str]]) -> Group:
        return Group(
            members=members,
            reserved=_sum(member.vdu for member in members if not member.gives_back),
            asleep=_largest(_sum([member.vdu]) for member in members if member.gives_back),
            apart=frozenset[str]().union(*(apart[member.name] for member in members)),
            previous=self._previous.get(members[0].name),
            away_us=self.delays.from_host(self._near[members[0].name]) if members[0].name in self._near else {},
        )

    def _leaders(self) -> dict[str, str]:
        """Give for each instance the first one it is joined to, by walking its affinities both ways."""
        near = defaultdict(set)
        for instance in self._instances:
            for word in instance.constraints.affinity:
                for other in self._peers.named(instance, word):
                    near[instance.name].add(other)
                    near[other].add(instance.name)
        leader: dict[str, str] = {}
        for instance in self._instances:
            reached = [instance.name]
            while reached:
                name = reached.pop()
                if name not in leader:
                    leader[name] = instance.name
                    reached.extend(near[name])
        return leader

    def _apart(self) -> Mapping[str, set[str]]:
        """Give for each instance those it must not share a host with, whoever of both said so."""
        apart: dict[str, set[str]] = defaultdict(set)
        for instance in self._instances:
            for word in instance.constraints.anti_affinity:
                for other in self._peers.named(instance, word):
                    apart[instance.name].add(other)
                    apart[other].add(instance.name)
        return apart


@dataclass(frozen=True, slots=True)
class Room:
    """Something of a host [1/1000 core], [byte]."""

    cpu_millicores: int = 0
    memory_bytes: int = 0


def _sum(vdus: Iterable[Vdu]) -> Room:
    each = [(vdu.cpu_millicores, cost_bytes(vdu)) for vdu in vdus]
    return Room(sum(cpu for cpu, _ in each), sum(memory for _, memory in each))


def _largest(rooms: Iterable[Room]) -> Room:
    each = [Room(), *rooms]
    return Room(max(room.cpu_millicores for room in each), max(room.memory_bytes for room in each))


class Usage:
    """What is placed where so far."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._free = {host.name: Room(host.cpu_millicores, host.memory_bytes) for host in hosts}
        self._asleep = dict.fromkeys(self._free, Room())
        self.host_of: dict[str, str] = {}

    def free(self, host: str) -> Room:
        """Give what ``host`` has left that nobody reserved."""
        return self._free[host]

    def after(self, group: Group, host: str) -> Room:
        """Give what ``host`` would have left with ``group``, were the largest awake of those that sleep there."""
        free, asleep = self._free[host], _largest((self._asleep[host], group.asleep))
        return Room(
            free.cpu_millicores - group.reserved.cpu_millicores - asleep.cpu_millicores,
            free.memory_bytes - group.reserved.memory_bytes - asleep.memory_bytes,
        )

    def put(self, group: Group, host: str) -> None:
        """Place a group."""
        free, reserved = self._free[host], group.reserved
        self._free[host] = Room(
            free.cpu_millicores - reserved.cpu_millicores, free.memory_bytes - reserved.memory_bytes
        )
        self._asleep[host] = _largest((self._asleep[host], group.asleep))
        self.host_of |= {member.name: host for member in group.members}
