"""The zone of a cloud's names, and how far its hosts are from each other."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from wisp.model.description import DeclaredInstance, DesiredState, HealthProtocol
from wisp.model.network import ipv6_of
from wisp.model.plan import Assignments
from wisp.model.zone import NamedInstance, Zone, ZoneName, zone_of
from wisp.planning.routing import Topology, topology_of


def make_zone(
    declared: DesiredState, desired: DesiredState, given: Assignments, hosts_down: frozenset[str] = frozenset()
) -> Zone:
    """Give what the DNS servers of a cloud answer.

    An instance has its own name, a VNF's name stands for all of its instances (``web``, or ``web.shop`` with the
    network service behind it), a device has its own. Of several instances the name that stands for them leads to
    their virtual address, and each has its own name as well.

    Args:
        declared: What was declared.
        desired: The same with every one of several instances.
        given: Where they are.
        hosts_down: Hosts that answer nothing.
    """
    topology = topology_of(desired)
    access = {point.name: point.host for point in desired.access_points}
    replicas = {each.replica_of: given.hosts[each.name] for each in desired.instances if each.replica_of}
    placed = [_named(each.name, given.hosts[each.name], given) for each in desired.instances]
    virtual = [_named(each.name, replicas[each.name], given) for each in declared.instances if each.elasticity]
    devices = [_named(device.name, access[device.access_point], given) for device in desired.devices]
    return Zone(
        name=zone_of(desired.name, desired.dns.zone),
        ttl_s=int(desired.dns.ttl.seconds),
        upstreams=desired.dns.forward,
        servers={host.name: f"host/{host.name}" for host in desired.hosts if host.name not in hosts_down},
        instances=(*placed, *virtual, *devices),
        names=(
            *_names(declared.instances),
            *_names(each for each in desired.instances if each.replica_of),
            *(ZoneName(name=device.name, instances=(device.name,)) for device in desired.devices),
        ),
        delays_us=_delays(topology, [host.name for host in desired.hosts]),
    )


def _delays(topology: Topology, hosts: list[str]) -> dict[str, dict[str, int]]:
    among = frozenset(hosts)
    return {
        host: {other: delay for other, delay in topology.delays_from(host).items() if other in among} for host in hosts
    }


def _named(name: str, host: str, given: Assignments) -> NamedInstance:
    address = given.addresses[name]
    return NamedInstance(name=name, host=host, address=address, address6=ipv6_of(address))


def _names(declared: Iterable[DeclaredInstance]) -> Iterator[ZoneName]:
    members: dict[str, list[DeclaredInstance]] = defaultdict(list)
    for instance in declared:
        service = () if instance.replica_of else (instance.vnf, f"{instance.vnf}.{instance.network_service}")
        for name in dict.fromkeys((instance.name, *service)):
            members[name].append(instance)
    for name, instances in members.items():
        # An instance's own name is nobody else's.
        own = [each for each in instances if each.name == name]
        yield _name(name, own or instances)


def _name(name: str, instances: list[DeclaredInstance]) -> ZoneName:
    ports = {each.vdu.health.port for each in instances if each.vdu.health.protocol is HealthProtocol.HTTP}
    services = tuple(("_http._tcp", port) for port in sorted(ports)[:1])
    return ZoneName(name=name, instances=tuple(each.name for each in instances), services=services)
