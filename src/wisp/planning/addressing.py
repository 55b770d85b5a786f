"""Addresses: every host a subnet, every instance an address in its host's, every device one that moves with it.

=========================  ==================  =====================================================
what                       from                which
=========================  ==================  =====================================================
subnet of a host           10.0.0.0/8          the /20 of its index, from 1; the first address is the host
instance                   its host's subnet   from the second on
device                     100.64.0.0/10       from the first on
what has several instances 192.168.0.0/16      from the first on
link                       172.16.0.0/13       the /31 of its index, from 0
router                     172.24.0.0/13       from the first on
=========================  ==================  =====================================================

What was given out stays, as long as it still fits; what is free, and was before, is given out lowest first.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import count

from wisp.model.plan import Assignments
from wisp.primitives.errors import StateError

HOSTS = IPv4Network("10.0.0.0/8")
DEVICES = IPv4Network("100.64.0.0/10")
LINKS = IPv4Network("172.16.0.0/13")
ROUTERS = IPv4Network("172.24.0.0/13")
VIRTUAL = IPv4Network("192.168.0.0/16")
PREFIX_LENGTH = 20
_SUBNET_SIZE = 1 << (32 - PREFIX_LENGTH)
HOST_LIMIT = HOSTS.num_addresses // _SUBNET_SIZE - 1
INSTANCE_LIMIT = _SUBNET_SIZE - 3
DEVICE_LIMIT = DEVICES.num_addresses - 2
VIRTUAL_LIMIT = VIRTUAL.num_addresses - 2
ROUTER_LIMIT = ROUTERS.num_addresses - 2
LINK_LIMIT = LINKS.num_addresses // 2


def subnet(index: int) -> IPv4Network:
    """Give the subnet of the host with this index."""
    return IPv4Network((int(HOSTS.network_address) + index * _SUBNET_SIZE, PREFIX_LENGTH))


def gateway(index: int) -> str:
    """Give the address of the host with this subnet index."""
    return str(subnet(index)[1])


def transit(index: int) -> tuple[str, str]:
    """Give both ends' addresses of the link with this index, with prefix length."""
    first = LINKS.network_address + 2 * index
    return f"{first}/31", f"{first + 1}/31"


def assign(
    *,
    hosts: Iterable[str],
    routers: Iterable[str],
    links: Iterable[str],
    devices: Iterable[str],
    virtual: Iterable[str],
    placement: Mapping[str, str],
    versions: Mapping[str, str],
    previous: Assignments,
    in_use: Collection[str],
) -> Assignments:
    """Give everything its index or address.

    Args:
        virtual: What has several instances behind one virtual address.
        placement: Instance → host.
        versions: One of several instances → digest of what it was made from.
        previous: What was given out before.
        in_use: Addresses of instances that still run and are not in ``placement``.

    Raises:
        StateError: There are more hosts, routers, links, devices or instances of a host than addresses.
    """
    subnets = _numbers(hosts, previous.subnets, range(1, HOST_LIMIT + 1), "hosts")
    addresses = _instance_addresses(placement, subnets, previous.addresses, in_use)
    addresses |= _addresses(devices, DEVICES, DEVICE_LIMIT, previous.addresses, "devices")
    addresses |= _addresses(routers, ROUTERS, ROUTER_LIMIT, previous.addresses, "routers")
    addresses |= _addresses(virtual, VIRTUAL, VIRTUAL_LIMIT, previous.addresses, "virtual addresses")
    return Assignments(
        hosts=dict(placement),
        subnets=subnets,
        addresses=addresses,
        links=_numbers(links, previous.links, range(LINK_LIMIT), "links"),
        versions=versions,
    )


def _addresses(
    names: Iterable[str], network: IPv4Network, limit: int, previous: Mapping[str, str], what: str
) -> dict[str, str]:
    first = int(network.network_address)
    taken = {name: int(IPv4Address(address)) - first for name, address in previous.items()}
    numbers = _numbers(names, taken, range(1, limit + 1), what)
    return {name: str(IPv4Address(first + number)) for name, number in numbers.items()}


def _instance_addresses(
    placement: Mapping[str, str], subnets: Mapping[str, int], previous: Mapping[str, str], in_use: Collection[str]
) -> dict[str, str]:
    members: dict[str, list[str]] = {}
    for instance, host in placement.items():
        members.setdefault(host, []).append(instance)
    addresses: dict[str, str] = {}
    for host, instances in members.items():
        first = int(subnet(subnets[host]).network_address)
        taken = {name: int(IPv4Address(previous[name])) - first for name in instances if name in previous}
        others = {int(IPv4Address(address)) - first for address in in_use}
        allowed = range(2, INSTANCE_LIMIT + 2)
        numbers = _numbers(instances, taken, allowed, f"instances of {host}", others)
        addresses |= {name: str(IPv4Address(first + number)) for name, number in numbers.items()}
    return addresses


def _numbers(
    names: Iterable[str],
    previous: Mapping[str, int],
    allowed: range,
    what: str,
    others: Collection[int] = (),
) -> dict[str, int]:
    """Give each name its previous number where allowed, else the lowest that is none of ``others`` and was nobody's.

    What goes may still be there when what comes is made, and two with one number would be in each other's way.
    """
    wanted = list(names)
    kept = {name: previous[name] for name in wanted if previous.get(name, -1) in allowed}
    free = _free({*previous.values(), *others}, allowed.start)
    numbers = {name: kept[name] if name in kept else next(free) for name in wanted}
    if any(number not in allowed for number in numbers.values()):
        raise StateError(f"{len(wanted)} {what}, at most {len(allowed)} have addresses; use fewer")
    return numbers


def _free(taken: set[int], start: int) -> Iterator[int]:
    return (number for number in count(start) if number not in taken)
