"""The zone of a cloud's names, and how far its hosts are from each other."""

from collections import defaultdict
from collections.abc import Iterator

from wisp.model.description import DeclaredInstance, DesiredState, HealthProtocol
from wisp.model.network import ipv6_of
from wisp.model.plan import Assignments
from wisp.model.zone import NamedInstance, Zone, ZoneName, zone_of
from wisp.planning.routing import Topology


def make_zone(desired: DesiredState, given: Assignments) -> Zone:
    """Give what the DNS servers of a cloud answer.

    An instance has its own name, a VNF's name stands for all of its instances (``web``, or ``web.shop`` with the
    network service behind it), a device has its own.
    """
    topology = Topology((host.name for host in desired.hosts), desired.links)
    access = {point.name: point.host for point in desired.access_points}
    placed = [_named(name.name, given.hosts[name.name], given) for name in desired.instances]
    devices = [_named(device.name, access[device.access_point], given) for device in desired.devices]
    return Zone(
        name=zone_of(desired.name, desired.dns.zone),
        ttl_s=int(desired.dns.ttl.seconds),
        upstreams=desired.dns.forward,
        servers={host.name: f"host/{host.name}" for host in desired.hosts},
        instances=(*placed, *devices),
        names=(*_names(desired), *(ZoneName(name=device.name, instances=(device.name,)) for device in desired.devices)),
        delays_us={host.name: topology.delays_from(host.name) for host in desired.hosts},
    )


def _named(name: str, host: str, given: Assignments) -> NamedInstance:
    address = given.addresses[name]
    return NamedInstance(name=name, host=host, address=address, address6=ipv6_of(address))


def _names(desired: DesiredState) -> Iterator[ZoneName]:
    members: dict[str, list[DeclaredInstance]] = defaultdict(list)
    for instance in desired.instances:
        for name in dict.fromkeys((instance.name, instance.vnf, f"{instance.vnf}.{instance.network_service}")):
            members[name].append(instance)
    for name, instances in members.items():
        # An instance's own name is nobody else's.
        own = [each for each in instances if each.name == name]
        yield _name(name, own or instances)


def _name(name: str, instances: list[DeclaredInstance]) -> ZoneName:
    ports = {each.vdu.health.port for each in instances if each.vdu.health.protocol is HealthProtocol.HTTP}
    services = tuple(("_http._tcp", port) for port in sorted(ports)[:1])
    return ZoneName(name=name, instances=tuple(each.name for each in instances), services=services)
