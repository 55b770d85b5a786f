"""A desired state as the YAML description that gives it: the inverse of :func:`wisp.codec.description.parse`."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

import yaml

from wisp.codec import endpoint
from wisp.codec.units import CPU, DELAY, MEMORY, POWER, PRICE, RATE, RATIO, TIME, Quantity
from wisp.model.description import (
    AccessPoint,
    DeclaredInstance,
    DesiredState,
    Device,
    Dns,
    Elasticity,
    HealthCheck,
    Host,
    ImageSource,
    Kind,
    Link,
    LinkShape,
    PlacementConstraints,
    Router,
    Routing,
    SecretSource,
    Site,
    Vdu,
    Vnfd,
    WhenIdle,
)
from wisp.primitives.time import Duration

Written = dict[str, Any]


def render(desired: DesiredState) -> str:
    """Give YAML that is read back as ``desired``, which :func:`~wisp.codec.description.parse` must have given.

    Only what differs from the defaults is written; folders are absolute.
    """
    return dumped(document(desired))


def document(desired: DesiredState) -> Written:
    """Give the same as keys and values."""
    body = {
        "cloud": desired.name,
        "sites": {site.name: _site(site) for site in desired.sites},
        "hosts": {host.name: _host(host) for host in desired.hosts},
        "routers": {router.name: _router(router) for router in desired.routers},
        "links": {link.name: _link(link) for link in desired.links},
        "access_points": {point.name: _access_point(point) for point in desired.access_points},
        "devices": {device.name: _device(device) for device in desired.devices},
        "images": {image.name: _image(image) for image in desired.images},
        "vnfds": {vnfd.name: {"vdus": {vdu.name: _vdu(vdu) for vdu in vnfd.vdus}} for vnfd in desired.vnfds},
        "network_services": _network_services(desired),
        "secrets": {secret.name: _secret(secret) for secret in desired.secrets},
        "dns": _dns(desired.dns),
        "routing": _routing(desired.routing),
        "faults": _said({"detection": _time(desired.detection, DesiredState(name="").detection)}),
    }
    return {key: value for key, value in body.items() if value}


def dumped(body: Written) -> str:
    """Give the YAML of a description."""
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)


def _said(written: Mapping[str, Any]) -> Written:
    """Leave out what says nothing."""
    return {key: value for key, value in written.items() if value not in (None, "", {}, [])}


def _unless(quantity: Quantity, value: int | None, default: int | None) -> str | None:
    return None if value is None or value == default else quantity.render(value)


def _site(site: Site) -> Written:
    return _said(
        {
            "latitude": _real(site.latitude),
            "longitude": _real(site.longitude),
            "zone": site.zone,
            "pool_memory": _unless(MEMORY, site.pool_memory_bytes, Site(name="").pool_memory_bytes),
        }
    )


def _router(router: Router) -> Written:
    return _said({"latitude": _real(router.latitude), "longitude": _real(router.longitude)})


def _real(value: float | None) -> str | None:
    return None if value is None else format(Decimal(repr(value)), "f")


def _host(host: Host) -> Written:
    defaults = Host(name="", site="", cpu_millicores=1, memory_bytes=1)
    power = {
        "idle": _unless(POWER, host.power_idle_milliwatts, 0),
        "peak": _unless(POWER, host.power_peak_milliwatts, 0),
    }
    return _said(
        {
            "site": host.site,
            "world": None if host.world is defaults.world else str(host.world),
            "cpu": CPU.render(host.cpu_millicores),
            "memory": MEMORY.render(host.memory_bytes),
            "kinds": None if host.kinds == tuple(Kind) else [str(kind) for kind in host.kinds],
            "power": _said(power),
            "price": _unless(PRICE, host.price_microunits_per_hour, 0),
        }
    )


def _shape(shape: LinkShape) -> Written:
    default = LinkShape()
    queue = None if shape.queue_packets == default.queue_packets else shape.queue_packets
    return _said(
        {
            "rate": _unless(RATE, shape.rate_bps, None),
            "delay": _unless(DELAY, shape.delay_us, 0),
            "jitter": _unless(DELAY, shape.jitter_us, 0),
            "loss": _unless(RATIO, shape.loss_ppm, 0),
            "queue": queue,
        }
    )


def _shapes(first: LinkShape, second: LinkShape, names: tuple[str, str]) -> Written:
    """Write one shape where both directions are alike, else both."""
    if first == second:
        return _shape(first)
    return _said({names[0]: _shape(first), names[1]: _shape(second)})


def _link(link: Link) -> Written:
    weight = {} if link.weight == 1 else {"weight": link.weight}
    return {"between": list(link.ends), **weight, **_shapes(link.forward, link.backward, ("forward", "backward"))}


def _routing(routing: Routing) -> Written:
    by = None if routing.by is Routing().by else str(routing.by)
    return _said({"by": by, "backups": routing.has_backups or None})


def _access_point(point: AccessPoint) -> Written:
    technology = {} if point.technology == "ethernet" else {"technology": point.technology}
    return {"host": point.host, **technology, **_shapes(point.up, point.down, ("up", "down"))}


def _device(device: Device) -> Written:
    written: Written = {"access_point": device.access_point}
    if device.workload:
        written["workload"] = _said(
            {
                "command": list(device.workload.command),
                "environment": dict(device.workload.environment),
                "paused": device.workload.paused or None,
            }
        )
    if device.external:
        instance, port = device.external.to
        written["external"] = {
            "listen": device.external.listen,
            "to": f"{instance}:{port}",
            "protocol": device.external.protocol,
        }
    return written


def _image(image: ImageSource) -> Written:
    written = {
        "role": image.role,
        "content": image.content,
        "options": dict(image.options),
        "pool_size": image.pool_size or None,
    }
    if image.foreign is not None:
        words = {word: getattr(image.foreign, word) for word in ("protocol", "family", "machine")}
        written |= image.foreign.parts | {word: str(value) for word, value in words.items() if value is not None}
    return _said(written)


def _vdu(vdu: Vdu) -> Written:
    default = Vdu(name="", kind=vdu.kind)
    return _said(
        {
            "kind": str(vdu.kind),
            "image": vdu.image,
            "command": list(vdu.command),
            "cpu": _unless(CPU, vdu.cpu_millicores, default.cpu_millicores),
            "memory": _unless(MEMORY, vdu.memory_bytes, default.memory_bytes),
            "config": dict(vdu.config),
            "health": _health(vdu.health),
            "boot_deadline": _time(vdu.boot_deadline, default.boot_deadline),
        }
    )


def _health(health: HealthCheck) -> Written:
    default = HealthCheck()
    return _said(
        {
            "protocol": None if health.protocol is default.protocol else str(health.protocol),
            "port": None if health.port == default.port else health.port,
            "path": None if health.path == default.path else health.path,
            "interval": _time(health.interval, default.interval),
            "timeout": _time(health.timeout, default.timeout),
            "failures": None if health.failures == default.failures else health.failures,
        }
    )


def _time(duration: Duration, default: Duration) -> str | None:
    return None if duration == default else TIME.render(duration.ns // 1_000)


def _secret(secret: SecretSource) -> Written:
    return _said({"file": secret.file, "environment": secret.environment})


def _dns(dns: Dns) -> Written:
    return _said({"zone": dns.zone, "ttl": _time(dns.ttl, Dns().ttl), "forward": list(dns.forward)})


def _network_services(desired: DesiredState) -> Written:
    vnfds = {vnfd.name: vnfd for vnfd in desired.vnfds}
    services: Written = {}
    for (service, vnf), group in groupby(desired.instances, key=lambda each: (each.network_service, each.vnf)):
        instances = list(group)
        vnfs = services.setdefault(service, {"vnfs": {}})["vnfs"]
        vnfs[vnf] = _vnf(instances, vnfds[instances[0].vnfd])
    return services


def _vnf(instances: list[DeclaredInstance], vnfd: Vnfd) -> Written:
    first = instances[0]
    sites = list(dict.fromkeys(instance.site for instance in instances if instance.site is not None))
    return _said(
        {
            "vnfd": vnfd.name,
            "sites": sites,
            "placement": _placement(first.constraints, with_sites=not sites),
            "publish": [endpoint.render_published(port) for port in first.publish],
            **_elasticity(first),
            "idle_timeout": None if first.idle_timeout is None else TIME.render(first.idle_timeout.ns // 1_000),
            "when_idle": None if first.when_idle is WhenIdle.DELETED else str(first.when_idle),
            "egress": first.egress or None,
            "config": _overrides(instances, vnfd),
        }
    )


def _elasticity(instance: DeclaredInstance) -> Written:
    elasticity = instance.elasticity
    fewest = None if instance.idle_timeout is None else "0"
    if elasticity is None:
        return {"min_instances": fewest}
    return {
        "min_instances": fewest or str(elasticity.minimum),
        "max_instances": str(elasticity.maximum),
        "scaling": _said(
            {
                "rate": None if elasticity.connections_per_s is None else str(elasticity.connections_per_s),
                "cpu": None if elasticity.cpu_ppm is None else RATIO.render(elasticity.cpu_ppm),
                "latency": None if elasticity.answer is None else TIME.render(elasticity.answer.ns // 1_000),
                "calm": _time(elasticity.calm, Elasticity().calm),
            }
        ),
        "drain": _time(elasticity.drain, Elasticity().drain),
    }


def _overrides(instances: Iterable[DeclaredInstance], vnfd: Vnfd) -> dict[str, str]:
    """Give the configuration that the VNF adds to what its VDUs say, or says otherwise."""
    base = {vdu.name: vdu.config for vdu in vnfd.vdus}
    return {
        key: value
        for instance in instances
        for key, value in instance.vdu.config.items()
        if base[instance.vdu.name].get(key) != value
    }


def _placement(constraints: PlacementConstraints, *, with_sites: bool) -> Written:
    return _said(
        {
            "sites": list(constraints.sites) if with_sites else None,
            "hosts": list(constraints.hosts),
            "affinity": list(constraints.affinity),
            "anti_affinity": list(constraints.anti_affinity),
            "latency": {bound.to: DELAY.render(bound.maximum_us) for bound in constraints.latency},
        }
    )
