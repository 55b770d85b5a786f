"""Warm pools: how many guests of which image boot ahead at which site."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, MutableMapping

from wisp.model.description import DesiredState, Kind
from wisp.model.instance import InstanceSpec, WarmPool


def pool_name(site: str, spec: InstanceSpec) -> str:
    """Give the pool that an instance at a site may take a guest from."""
    image = spec.image
    return "" if image is None else f"{site}/{image.name}@{image.digest or 'new'}/{spec.memory_bytes}"


def may_use_pool(spec: InstanceSpec, sizes: Mapping[str, int]) -> bool:
    """Whether an instance is one that sleeps, of a kind and image that can boot ahead.

    Args:
        spec: The instance.
        sizes: Size of the pools by image.
    """
    is_able = spec.is_summoned and spec.kind is Kind.MICROVM and spec.image is not None
    return is_able and spec.image is not None and sizes.get(spec.image.name, 0) > 0


def plan_pools(
    desired: DesiredState, specs: Iterable[InstanceSpec], left_bytes: MutableMapping[str, int]
) -> tuple[WarmPool, ...]:
    """Give the pools that fit: into what their site allows, and what their host has left beside its largest sleeper.

    Args:
        desired: What was declared.
        specs: Instances that name a pool, or none.
        left_bytes: Host → memory left [byte]; what pools take is taken off.
    """
    site_of = {host.name: host.site for host in desired.hosts}
    sizes = {image.name: image.pool_size for image in desired.images}
    allowed_bytes = {site.name: site.pool_memory_bytes for site in desired.sites}
    sleepers = [spec for spec in specs if spec.is_summoned]
    largest: dict[str, int] = defaultdict(int)
    for spec in sleepers:
        if spec.gives_back:
            largest[spec.host] = max(spec.cost_bytes, largest[spec.host])
    pools: dict[str, WarmPool] = {}
    for spec in sleepers:
        if not spec.pool or spec.pool in pools or spec.image is None:
            continue
        site = site_of[spec.host]
        room_bytes = min(allowed_bytes[site], left_bytes[spec.host] - largest[spec.host])
        size = max(0, min(sizes[spec.image.name], room_bytes // spec.cost_bytes))
        taken_bytes = size * spec.cost_bytes
        allowed_bytes[site] -= taken_bytes
        left_bytes[spec.host] -= taken_bytes
        pools[spec.pool] = WarmPool(
            name=spec.pool, host=spec.host, image=spec.image, memory_bytes=spec.memory_bytes, size=size
        )
    return tuple(pools.values())
