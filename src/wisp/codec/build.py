"""From bodies to the model: defaults filled in, shapes merged, VNFs expanded to instances."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import PurePath

from wisp.codec import declared, endpoint, placeholder
from wisp.codec.reader import Reader
from wisp.model.description import (
    AccessPoint,
    DeclaredInstance,
    DesiredState,
    Device,
    Dns,
    Elasticity,
    ExternalAttachment,
    HealthCheck,
    HealthProtocol,
    Host,
    ImageSource,
    Kind,
    LatencyBound,
    Link,
    LinkShape,
    PlacementConstraints,
    PublishedPort,
    Router,
    Routing,
    RoutingCost,
    SecretSource,
    Site,
    Vdu,
    Vnfd,
    WhenIdle,
    Workload,
    World,
)
from wisp.model.image import BootProtocol, Family, ForeignImage, Machine, is_digest
from wisp.primitives.time import Duration

DEFAULT_SHAPE = LinkShape()
INSTANCE_LIMIT = 50_000
DNS_PORT = 53
USUAL_CPU_PPM = 700_000
ZONE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def build(document: declared.Document, reader: Reader, base: PurePath) -> DesiredState:
    """Give the model of a document; what is wrong inside a text is complained of to ``reader`` and left out."""
    builder = _Builder(reader, base)
    vnfds = tuple(builder.vnfd(name, body) for name, body in document.vnfds.items())
    return DesiredState(
        name=document.cloud,
        sites=tuple(_site(name, body) for name, body in document.sites.items()),
        hosts=tuple(_host(name, body) for name, body in document.hosts.items()),
        routers=tuple(_router(name, body) for name, body in document.routers.items()),
        links=tuple(builder.link(name, body) for name, body in document.links.items()),
        access_points=tuple(builder.access_point(name, body) for name, body in document.access_points.items()),
        devices=tuple(builder.device(name, body) for name, body in document.devices.items()),
        images=tuple(builder.image(name, body) for name, body in document.images.items()),
        vnfds=vnfds,
        secrets=tuple(builder.secret(name, body) for name, body in document.secrets.items()),
        dns=builder.dns(document.dns),
        routing=Routing(by=RoutingCost(document.routing.by), has_backups=document.routing.backups),
        detection=Duration.of_us(document.faults.detection),
        instances=tuple(builder.instances(document, {vnfd.name: vnfd for vnfd in vnfds})),
    )


def vnf_path(network_service: str, vnf: str) -> str:
    """Give the path of a VNF in the document."""
    return f"network_services.{network_service}.vnfs.{vnf}"


def instance_name(vnf: str, site: str | None, vdu: str | None) -> str:
    """Give the name of an instance: its VNF, the site of those per site, the VDU where there are several."""
    return "-".join(part for part in (vnf, site, vdu) if part is not None)


class _Builder:
    def __init__(self, reader: Reader, base: PurePath) -> None:
        self._reader, self._base = reader, base

    def link(self, name: str, body: declared.LinkBody) -> Link:
        first, second = body.between
        path = f"links.{name}"
        return Link(
            name=name,
            ends=(first, second),
            weight=body.weight,
            forward=self._shape(body, body.forward, f"{path}.forward"),
            backward=self._shape(body, body.backward, f"{path}.backward"),
        )

    def access_point(self, name: str, body: declared.AccessPointBody) -> AccessPoint:
        path = f"access_points.{name}"
        return AccessPoint(
            name=name,
            host=body.host,
            technology=body.technology,
            up=self._shape(body, body.up, f"{path}.up"),
            down=self._shape(body, body.down, f"{path}.down"),
        )

    def _shape(self, both: declared.ShapeBody, one: declared.ShapeBody, path: str) -> LinkShape:
        """Give the shape of one direction: its own words, else those for both, else the default."""

        def said(word: str, otherwise: int) -> int:
            values = (getattr(one, word), getattr(both, word), otherwise)
            return next(value for value in values if value is not None)

        shape = LinkShape(
            rate_bps=one.rate if one.rate is not None else both.rate,
            delay_us=said("delay", DEFAULT_SHAPE.delay_us),
            jitter_us=said("jitter", DEFAULT_SHAPE.jitter_us),
            loss_ppm=said("loss", DEFAULT_SHAPE.loss_ppm),
            queue_packets=said("queue", DEFAULT_SHAPE.queue_packets),
        )
        if shape.jitter_us > shape.delay_us:
            self._reader.complain(path, "jitter is larger than delay", "a packet cannot arrive before it was sent")
        return shape

    def device(self, name: str, body: declared.DeviceBody) -> Device:
        path = f"devices.{name}"
        if body.workload and body.external:
            self._reader.complain(path, "has both workload and external", "a real device runs its own program")
        return Device(
            name=name,
            access_point=body.access_point,
            workload=self._workload(body.workload) if body.workload else None,
            external=self._external(body.external, f"{path}.external") if body.external else None,
        )

    def _workload(self, body: declared.WorkloadBody) -> Workload:
        return Workload(
            command=self._filled_all(body.command),
            environment=self._filled_values(body.environment),
            paused=body.paused,
        )

    def _external(self, body: declared.ExternalBody, path: str) -> ExternalAttachment | None:
        try:
            listen = endpoint.listening_endpoint(body.listen)
        except ValueError as error:
            self._reader.complain(f"{path}.listen", str(error))
            listen = ""
        try:
            to = endpoint.named_endpoint(body.to)
        except ValueError as error:
            self._reader.complain(f"{path}.to", str(error))
            return None
        return ExternalAttachment(listen=listen, to=to, protocol=body.protocol)

    def image(self, name: str, body: declared.ImageBody) -> ImageSource:
        return ImageSource(
            name=name,
            role=body.role or "",
            content=self._path(body.content),
            options=dict(body.options),
            foreign=self._foreign(body),
            pool_size=body.pool_size,
        )

    def _foreign(self, body: declared.ImageBody) -> ForeignImage | None:
        file = self._path(body.file)
        if file is None:
            return None
        return ForeignImage(
            file=file,
            initrd=self._path(body.initrd),
            disk=self._path(body.disk),
            protocol=BootProtocol(body.protocol) if body.protocol else None,
            family=Family(body.family) if body.family else None,
            machine=Machine(body.machine) if body.machine else None,
        )

    def _path(self, written: str | None) -> str | None:
        """Give a path of the document, which is beside it or absolute; a digest stays as it is."""
        return written if written is None or is_digest(written) else str(self._base / written)

    def vnfd(self, name: str, body: declared.VnfdBody) -> Vnfd:
        return Vnfd(name=name, vdus=tuple(self._vdu(vdu, each) for vdu, each in body.vdus.items()))

    def _vdu(self, name: str, body: declared.VduBody) -> Vdu:
        return Vdu(
            name=name,
            kind=Kind(body.kind),
            image=body.image,
            command=self._filled_all(body.command),
            cpu_millicores=body.cpu,
            memory_bytes=body.memory,
            config=self._filled_values(body.config),
            health=_health(body.health),
            boot_deadline=Duration.of_us(body.boot_deadline),
        )

    def dns(self, body: declared.DnsBody) -> Dns:
        return Dns(
            zone=None if body.zone is None else self._zone(body.zone),
            ttl=Duration.of_us(body.ttl),
            forward=tuple(self._upstream(text, f"dns.forward[{index}]") for index, text in enumerate(body.forward)),
        )

    def _zone(self, text: str) -> str:
        zone = text.rstrip(".").lower()
        if not ZONE.fullmatch(zone) or len(zone) > 200:
            self._reader.complain(
                "dns.zone", f"{text!r} is no domain name", "write labels of letters, digits and hyphens"
            )
        return zone

    def _upstream(self, text: str, path: str) -> str:
        try:
            address, port = endpoint.named_endpoint(text if ":" in text else f"{text}:{DNS_PORT}")
            return endpoint.render_endpoint(str(IPv4Address(address)), port)
        except ValueError as error:
            self._reader.complain(path, f"{text!r} is no IPv4 address: {error}", "write it as 10.0.2.3 or 10.0.2.3:53")
            return text

    def secret(self, name: str, body: declared.SecretBody) -> SecretSource:
        if (body.file is None) == (body.environment is None):
            self._reader.complain(f"secrets.{name}", "must say either file or environment")
        file = None if body.file is None else str(self._base / body.file)
        return SecretSource(name=name, file=file, environment=body.environment)

    def instances(self, document: declared.Document, vnfds: Mapping[str, Vnfd]) -> Iterator[DeclaredInstance]:
        room = INSTANCE_LIMIT
        for service, service_body in document.network_services.items():
            for vnf, body in service_body.vnfs.items():
                sites = tuple(document.sites) if body.sites == ("all",) else body.sites
                if body.vnfd in vnfds:
                    room -= max(1, len(sites)) * len(vnfds[body.vnfd].vdus) * (_most(body) or 1)
                    if room < 0:
                        what = f"makes more than {INSTANCE_LIMIT} instances in all"
                        self._reader.complain(vnf_path(service, vnf), what, "split the cloud")
                        return
                    yield from self._expanded(service, vnf, body, vnfds[body.vnfd], sites)

    def _expanded(
        self, service: str, vnf: str, body: declared.VnfBody, vnfd: Vnfd, sites: tuple[str, ...]
    ) -> Iterator[DeclaredInstance]:
        path = vnf_path(service, vnf)
        if sites and body.placement.sites:
            self._reader.complain(f"{path}.placement.sites", "says sites twice", f"keep only {vnf}.sites")
        if body.min_instances == 0:
            self._check_can_sleep(path, vnfd)
        when_idle = WhenIdle(body.when_idle)
        if when_idle is not WhenIdle.DELETED:
            self._check_can_be_kept(path, body, vnfd)
        elasticity = self._elasticity(path, body, vnfd)
        constraints = _constraints(body.placement)
        publish = tuple(self._published(body, path))
        overrides = self._filled_values(body.config)
        for site in sites or (None,):
            for vdu in vnfd.vdus:
                yield DeclaredInstance(
                    name=instance_name(vnf, site, vdu.name if len(vnfd.vdus) > 1 else None),
                    network_service=service,
                    vnf=vnf,
                    vnfd=vnfd.name,
                    site=site,
                    vdu=replace(vdu, config={**vdu.config, **overrides}),
                    constraints=constraints if site is None else replace(constraints, sites=(site,)),
                    publish=publish,
                    egress=body.egress,
                    idle_timeout=Duration.of_us(body.idle_timeout) if body.min_instances == 0 else None,
                    when_idle=when_idle,
                    elasticity=elasticity,
                )

    def _elasticity(self, path: str, body: declared.VnfBody, vnfd: Vnfd) -> Elasticity | None:
        most = _most(body)
        if most < body.min_instances:
            what = f"is {most}, less than min_instances: {body.min_instances}"
            self._reader.complain(f"{path}.max_instances", what, "say at least as many")
        if most <= 1:
            return None
        for vdu in vnfd.vdus:
            if not vdu.kind.boots_role:
                self._reader.complain(
                    f"{path}.{'min' if body.max_instances is None else 'max'}_instances",
                    f"is more than 1, but {vdu.name} of {vnfd.name} is a {vdu.kind}, which cannot be told to finish "
                    "what it has",
                    "use unikernel/microvm or unikernel/spt, or one instance",
                )
        scaling = body.scaling
        says_nothing = (scaling.rate, scaling.cpu, scaling.latency) == (None, None, None)
        return Elasticity(
            minimum=max(1, body.min_instances),
            maximum=most,
            connections_per_s=scaling.rate,
            cpu_ppm=USUAL_CPU_PPM if says_nothing else scaling.cpu,
            answer=None if scaling.latency is None else Duration.of_us(scaling.latency),
            calm=Duration.of_us(scaling.calm),
            drain=Duration.of_us(body.drain),
        )

    def _check_can_sleep(self, path: str, vnfd: Vnfd) -> None:
        for vdu in vnfd.vdus:
            if not vdu.kind.boots_role:
                self._reader.complain(
                    f"{path}.min_instances",
                    f"is 0, but {vdu.name} of {vnfd.name} is a {vdu.kind}, which cannot be started by a packet",
                    "use unikernel/microvm or unikernel/spt, or min_instances: 1",
                )

    def _check_can_be_kept(self, path: str, body: declared.VnfBody, vnfd: Vnfd) -> None:
        if body.min_instances != 0:
            what = f"is {body.when_idle}, but with min_instances: {body.min_instances} it never sleeps"
            self._reader.complain(f"{path}.when_idle", what, "say min_instances: 0, or leave it out")
        for vdu in vnfd.vdus:
            if not vdu.kind.can_be_kept:
                self._reader.complain(
                    f"{path}.when_idle",
                    f"is {body.when_idle}, but {vdu.name} of {vnfd.name} is a {vdu.kind}, which cannot be kept",
                    "leave it out: it starts anew in under 1 ms; or use unikernel/microvm, if it has something to keep"
                    if vdu.kind is Kind.SPT
                    else "use unikernel/microvm",
                )

    def _published(self, body: declared.VnfBody, path: str) -> Iterator[PublishedPort]:
        for index, text in enumerate(body.publish):
            try:
                yield endpoint.published(text)
            except ValueError as error:
                self._reader.complain(f"{path}.publish[{index}]", str(error))

    def _filled_all(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._filled(text) for text in texts)

    def _filled_values(self, table: Mapping[str, str]) -> dict[str, str]:
        return {key: self._filled(text) for key, text in table.items()}

    def _filled(self, text: str) -> str:
        return placeholder.fill(text, lambda word, name: str(self._base) if (word, name) == ("here", "") else None)


def _most(body: declared.VnfBody) -> int:
    """Give how many instances there may be."""
    return body.min_instances if body.max_instances is None else body.max_instances


def _site(name: str, body: declared.SiteBody) -> Site:
    return Site(
        name=name,
        latitude=body.latitude,
        longitude=body.longitude,
        zone=body.zone,
        pool_memory_bytes=body.pool_memory,
    )


def _router(name: str, body: declared.RouterBody) -> Router:
    return Router(name=name, latitude=body.latitude, longitude=body.longitude)


def _host(name: str, body: declared.HostBody) -> Host:
    return Host(
        name=name,
        site=body.site,
        world=World(body.world),
        cpu_millicores=body.cpu,
        memory_bytes=body.memory,
        kinds=tuple(Kind(kind) for kind in body.kinds),
        power_idle_milliwatts=body.power.idle,
        power_peak_milliwatts=body.power.peak,
        price_microunits_per_hour=body.price,
    )


def _health(body: declared.HealthBody) -> HealthCheck:
    return HealthCheck(
        protocol=HealthProtocol(body.protocol),
        port=body.port,
        path=body.path,
        interval=Duration.of_us(body.interval),
        timeout=Duration.of_us(body.timeout),
        failures=body.failures,
    )


def _constraints(body: declared.PlacementBody) -> PlacementConstraints:
    return PlacementConstraints(
        sites=body.sites,
        hosts=body.hosts,
        affinity=body.affinity,
        anti_affinity=body.anti_affinity,
        latency=tuple(LatencyBound(to=to, maximum_us=delay) for to, delay in body.latency.items()),
    )
