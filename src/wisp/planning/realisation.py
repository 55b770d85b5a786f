"""From placements and addresses to the network and the instances that shall exist."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from wisp.codec import placeholder
from wisp.model.description import (
    DeclaredInstance,
    DesiredState,
    Device,
    HealthCheck,
    HealthProtocol,
    ImageSource,
    Kind,
    Link,
    LinkShape,
)
from wisp.model.instance import Door, ImageRef, InstanceSpec
from wisp.model.network import LinkEnd, Namespace, Network, NextHop, NextHops, Tap, VirtualLink, ipv6_of, mac_of
from wisp.model.plan import Assignments
from wisp.planning import addressing
from wisp.planning.door import DOOR_DESCRIPTOR, external_door, published_door
from wisp.planning.egress import Egress
from wisp.planning.interface import interface
from wisp.planning.overhead import OVERHEAD_BYTES
from wisp.planning.own import with_own_facts
from wisp.planning.pool import may_use_pool, pool_name
from wisp.planning.routing import topology_of
from wisp.primitives.time import Duration

INNER = "eth0"
WORKLOAD_BOOT_DEADLINE = Duration.of_seconds(10)

# Links by their number in the topology: those that are taken in turn, and the backup.
_Ways = tuple[tuple[int, ...], int | None]


class Realisation:
    """Turns what was decided into what shall exist.

    Args:
        declared: What was declared.
        desired: The same with every one of several instances.
        assignments: Hosts, subnets, addresses and links as given out.
        links_down: Declared links that no route may lead over.
    """

    def __init__(
        self,
        declared: DesiredState,
        desired: DesiredState,
        assignments: Assignments,
        links_down: frozenset[str] = frozenset(),
    ) -> None:
        self._declared, self._desired, self._given = declared, desired, assignments
        self._images = {image.name: image for image in desired.images}
        self._access = {point.name: point for point in desired.access_points}
        self._devices = desired.devices
        self._sites = {host.name: host.site for host in desired.hosts}
        self._pools = {image.name: image.pool_size for image in desired.images}
        self._topology = topology_of(desired, links_down)
        self._routers = frozenset(router.name for router in desired.routers)
        self._gateways = {host: addressing.gateway(index) for host, index in assignments.subnets.items()}
        self._gateways |= {router: assignments.addresses[router] for router in self._routers}
        self._subnets = {host: str(addressing.subnet(index)) for host, index in assignments.subnets.items()}
        self._subnets |= {router: f"{self._gateways[router]}/32" for router in self._routers}
        self._egress = Egress(desired.instances, assignments.hosts, assignments.addresses, self._gateways)
        self._transits = {link: addressing.transit(index) for link, index in assignments.links.items()}

    def network(self) -> Network:
        """Give every namespace, link, tap and route."""
        return Network(
            namespaces=frozenset(self._namespaces()),
            links=frozenset(self._links()),
            taps=frozenset(self._tap(each) for each in self._desired.instances if each.vdu.kind.owns_tap),
            routes=self._routes(),
        )

    def instances(self) -> tuple[InstanceSpec, ...]:
        """Give every instance, the workload of every device that has one and is not paused, and every door."""
        declared = (self._pooled(self._instance(instance)) for instance in self._desired.instances)
        workloads = (self._workload(device) for device in self._devices if _runs(device))
        return (*declared, *workloads, *self._doors())

    def _processes(self) -> Iterator[DeclaredInstance]:
        return (each for each in self._desired.instances if not each.vdu.kind.owns_tap)

    def _namespaces(self) -> Iterator[Namespace]:
        for node in self._desired.nodes:
            yield Namespace(name=self._node(node), address=f"{self._gateway(node)}/32", forwards=True)
        for device in self._devices:
            yield Namespace(name=_device(device.name), address=f"{self._address(device.name)}/32")
        for process in self._processes():
            yield Namespace(name=_process(process.name), address=f"{self._address(process.name)}/32")
        yield from self._egress.namespaces()

    def _links(self) -> Iterator[VirtualLink]:
        for link in self._desired.links:
            yield self._link(link)
        for device in self._devices:
            point = self._access[device.access_point]
            yield self._leaf(_device(device.name), self._address(device.name), point.host, point.up, point.down)
        for process in self._processes():
            host = self._given.hosts[process.name]
            yield self._leaf(_process(process.name), self._address(process.name), host)
        yield from self._egress.links()

    def _link(self, link: Link) -> VirtualLink:
        first, second = self._transits[link.name]
        name = interface("link", link.name)
        return VirtualLink(
            name=f"link/{link.name}",
            a=LinkEnd(namespace=self._node(link.ends[0]), interface=name, address=first),
            b=LinkEnd(namespace=self._node(link.ends[1]), interface=name, address=second),
            a_to_b=link.forward,
            b_to_a=link.backward,
        )

    def _leaf(
        self, namespace: str, address: str, host: str, up: LinkShape | None = None, down: LinkShape | None = None
    ) -> VirtualLink:
        """Give the link that joins a device or process to its host."""
        return VirtualLink(
            name=namespace,
            a=LinkEnd(namespace=namespace, interface=INNER, address=f"{address}/32"),
            b=LinkEnd(namespace=_host(host), interface=_leaf_interface(namespace), address=f"{self._gateway(host)}/32"),
            a_to_b=up or LinkShape(),
            b_to_a=down or LinkShape(),
        )

    def _tap(self, instance: DeclaredInstance) -> Tap:
        host = self._given.hosts[instance.name]
        return Tap(
            name=instance.name,
            namespace=_host(host),
            interface=interface("tap", instance.name),
            gateway=f"{self._gateway(host)}/32",
            address=self._address(instance.name),
            mac=mac_of(self._address(instance.name)) if _misses_nothing(instance) else None,
        )

    def _routes(self) -> dict[str, dict[str, NextHops]]:
        """Give the routes of every namespace: of hosts and routers to all others, and to and from what is attached."""
        tables: defaultdict[str, dict[str, NextHops]] = defaultdict(dict)
        attached: dict[str, list[str]] = {}
        for device in self._devices:
            attached.setdefault(self._host_of_device(device), []).append(f"{self._address(device.name)}/32")
        known = {node: (self._hops(node), tables[node]) for node in self._topology.hosts}
        for node in self._topology.hosts:
            destinations = (self._subnets[node], *attached.get(node, ()))
            found = self._topology.ways_to(node)
            backups = self._topology.backups_to(node, found) if self._desired.routing.has_backups else {}
            for source, ways in found.items():
                hops, table = known[source]
                key = ways, backups.get(source)
                if key not in hops:
                    hops[key] = _joined(hops, *key)
                for destination in destinations:
                    table[destination] = hops[key]
        routes = {self._node(node): table for node, table in tables.items() if table}
        for namespace, destination, hop in (*self._leaf_routes(), *self._egress.routes()):
            routes.setdefault(namespace, {})[destination] = (hop,)
        return routes

    def _hops(self, node: str) -> dict[_Ways, NextHops]:
        """Give the next hop over each link of a host or router, as if it were the only way."""
        return {
            ((number,), None): (NextHop(interface("link", link.name), self._far_end(link, node)),)
            for number, link in self._topology.links_of(node)
        }

    def _leaf_routes(self) -> Iterator[tuple[str, str, NextHop]]:
        """Give the routes between devices or processes and their hosts: namespace, destination, next hop."""
        leaves = [(each.name, _device(each.name), self._host_of_device(each)) for each in self._devices]
        leaves += [(each.name, _process(each.name), self._given.hosts[each.name]) for each in self._processes()]
        for name, namespace, host in leaves:
            yield namespace, "default", NextHop(INNER, self._gateway(host))
            yield _host(host), f"{self._address(name)}/32", NextHop(_leaf_interface(namespace))

    def _node(self, name: str) -> str:
        """Give the namespace of a host or router."""
        return f"router/{name}" if name in self._routers else _host(name)

    def _far_end(self, link: Link, near: str) -> str:
        first, second = self._transits[link.name]
        return (second if link.ends[0] == near else first).removesuffix("/31")

    def _instance(self, instance: DeclaredInstance) -> InstanceSpec:
        host, address = self._given.hosts[instance.name], self._address(instance.name)
        vdu = with_own_facts(instance, address=address, gateway=self._gateway(host))
        is_guest = vdu.kind.owns_tap
        return InstanceSpec(
            name=instance.name,
            kind=vdu.kind,
            host=host,
            namespace=_host(host) if is_guest else _process(instance.name),
            image=None if vdu.image is None else _image(self._images[vdu.image], vdu.kind),
            command=tuple(self._filled(word) for word in vdu.command),
            config=self._config(vdu.config),
            secrets=self._secrets(vdu.config),
            cpu_millicores=vdu.cpu_millicores,
            memory_bytes=vdu.memory_bytes,
            overhead_bytes=OVERHEAD_BYTES[vdu.kind],
            address=address,
            prefix_length=addressing.PREFIX_LENGTH if is_guest else 32,
            gateway=self._gateway(host),
            address6=ipv6_of(address),
            gateway6=ipv6_of(self._gateway(host)),
            mac=mac_of(address) if is_guest else None,
            health=vdu.health,
            boot_deadline=vdu.boot_deadline,
            group=f"{instance.network_service}/{instance.vnf}/{vdu.name}",
            idle_timeout=instance.idle_timeout,
            when_idle=instance.when_idle,
        )

    def _pooled(self, spec: InstanceSpec) -> InstanceSpec:
        return replace(spec, pool=pool_name(self._sites[spec.host], spec)) if may_use_pool(spec, self._pools) else spec

    def _workload(self, device: Device) -> InstanceSpec:
        workload = device.workload
        assert workload is not None  # noqa: S101 - the caller picked those that have one
        return InstanceSpec(
            name=device.name,
            kind=Kind.PROCESS,
            host=self._host_of_device(device),
            namespace=_device(device.name),
            command=tuple(self._filled(word) for word in workload.command),
            config=self._config(workload.environment),
            secrets=self._secrets(workload.environment),
            cpu_millicores=0,
            memory_bytes=0,
            health=HealthCheck(protocol=HealthProtocol.ALIVE),
            boot_deadline=WORKLOAD_BOOT_DEADLINE,
            after=self._talked_to((*workload.command, *workload.environment.values())),
            is_workload=True,
        )

    def _doors(self) -> Iterator[InstanceSpec]:
        """Give the relays of published ports, on their instance's host, and of external devices, in their place."""
        for instance in self._declared.instances:
            for port in instance.publish:
                door = published_door(instance.name, port)
                host = self._host_of_instance(instance)
                yield self._relay(door.name, door, host, _host(host))
        for device in self._devices:
            if device.external is not None:
                door = external_door(device.external)
                yield self._relay(device.name, door, self._host_of_device(device), _device(device.name))

    def _relay(self, name: str, door: Door, host: str, namespace: str) -> InstanceSpec:
        instance, port = door.to
        to = f"{self._address(instance)}:{port}"
        udp = ("--udp",) if door.protocol == "udp" else ()
        return InstanceSpec(
            name=name,
            kind=Kind.PROCESS,
            host=host,
            namespace=namespace,
            command=("${wisp-native}", "relay", "--listen-fd", str(DOOR_DESCRIPTOR), "--to", to, *udp),
            cpu_millicores=0,
            memory_bytes=0,
            health=HealthCheck(protocol=HealthProtocol.ALIVE),
            boot_deadline=WORKLOAD_BOOT_DEADLINE,
            after=(instance,),
            door=door,
        )

    def _talked_to(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Give the instances that the texts name, or all of them when they name none."""
        everyone = {instance.name for instance in self._declared.instances}
        named = {name for text in texts for word, name in placeholder.names(text) if word != "secret"}
        return tuple(sorted(named & everyone or everyone))

    def _config(self, config: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((key, self._filled(text)) for key, text in config.items()))

    def _secrets(self, config: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        named = {name for text in config.values() for word, name in placeholder.names(text) if word == "secret"}
        return tuple((each.name, each.fingerprint) for each in self._desired.secrets if each.name in named)

    def _filled(self, text: str) -> str:
        return placeholder.fill(text, self._value)

    def _value(self, word: str, name: str) -> str | None:
        if word == "address":
            return self._address(name)
        if word == "address6":
            return ipv6_of(self._address(name))
        if word == "host":
            return self._host_of(name)
        return None

    def _host_of(self, name: str) -> str:
        instance = next((each for each in self._declared.instances if each.name == name), None)
        if instance is not None:
            return self._host_of_instance(instance)
        return next(self._host_of_device(each) for each in self._desired.devices if each.name == name)

    def _host_of_instance(self, instance: DeclaredInstance) -> str:
        """Give an instance's host; of several, one that stays the same while they come and go."""
        if instance.elasticity is None:
            return self._given.hosts[instance.name]
        at_its_site = (host.name for host in self._desired.hosts if instance.site in (None, host.site))
        return next(at_its_site)

    def _host_of_device(self, device: Device) -> str:
        return self._access[device.access_point].host

    def _gateway(self, host: str) -> str:
        return self._gateways[host]

    def _address(self, name: str) -> str:
        return self._given.addresses[name]


def _joined(hops: Mapping[_Ways, NextHops], ways: tuple[int, ...], backup: int | None) -> NextHops:
    """Give the next hops over several links, and the backup."""
    first = tuple(sorted(hop for way in ways for hop in hops[(way,), None]))
    return first if backup is None else (*first, hops[(backup,), None][0]._replace(is_backup=True))


def _runs(device: Device) -> bool:
    return device.workload is not None and not device.workload.paused


def _host(name: str) -> str:
    return f"host/{name}"


def _device(name: str) -> str:
    return f"device/{name}"


def _process(name: str) -> str:
    return f"process/{name}"


def _leaf_interface(namespace: str) -> str:
    return interface(*namespace.split("/", 1))


def _misses_nothing(instance: DeclaredInstance) -> bool:
    """Whether a packet that comes before the guest reads any waits for it: so nobody needs to ask for its address."""
    return instance.vdu.kind is Kind.SPT or instance.idle_timeout is not None


def _image(source: ImageSource, kind: Kind) -> ImageRef:
    if source.foreign is not None:
        parts = tuple(sorted(source.digests.items()))
        return ImageRef(name=source.name, foreign=source.foreign, digest=source.digests.get("file", ""), parts=parts)
    return ImageRef(
        name=source.name,
        role=source.role,
        content=source.content,
        options=tuple(sorted(source.options.items())),
        digest=source.digests.get(kind.target, ""),
    )
