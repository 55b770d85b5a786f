"""What a person declares: a whole edge cloud, in the words of ETSI NFV and MEC.

Descriptors are *declared*, instances *exist*. ``codec.description`` makes these values from YAML, after every
name has been checked: a :class:`DesiredState` never dangles.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from wisp.model.image import ForeignImage
from wisp.primitives.time import Duration
from wisp.primitives.values import frozen


class Kind(StrEnum):
    """What runs a VDU."""

    MICROVM = "unikernel/microvm"
    SPT = "unikernel/spt"
    IMAGE = "unikernel/image"
    VM = "vm"
    CONTAINER = "container"
    PROCESS = "process"

    @property
    def owns_tap(self) -> bool:
        """Whether it has a network stack of its own on a tap; else it lives in a network namespace."""
        return self in (Kind.MICROVM, Kind.SPT, Kind.IMAGE, Kind.VM)

    @property
    def boots_role(self) -> bool:
        """Whether it boots an image that Wisp builds from a role."""
        return self in (Kind.MICROVM, Kind.SPT)

    @property
    def boots_foreign(self) -> bool:
        """Whether it boots somebody else's image in a virtual machine or tender."""
        return self in (Kind.IMAGE, Kind.VM)

    @property
    def can_be_kept(self) -> bool:
        """Whether one that nobody wants can be stopped or put away with all that it has."""
        return self is Kind.MICROVM

    @property
    def target(self) -> str:
        """What a guest's image is built for, as ``microvm``."""
        return self.value.rpartition("/")[2]


class WhenIdle(StrEnum):
    """What becomes of an instance that sleeps until it is wanted, when nobody wants it any more."""

    DELETED = "deleted"
    STOPPED = "stopped"
    SNAPSHOTTED = "snapshotted"


class World(StrEnum):
    """Where a host lives."""

    EMULATED = "emulated"


@frozen
class Site:
    """A place where hosts stand (ETSI MEC: part of a zone).

    Attributes:
        latitude, longitude: Position [degree], or ``None``.
        zone: ETSI MEC 013 zone it belongs to; empty for none.
        pool_memory_bytes: Most that guests of warm pools may take together [byte].
    """

    name: str
    latitude: float | None = None
    longitude: float | None = None
    zone: str = ""
    pool_memory_bytes: int = 256 << 20


@frozen
class Host:
    """A machine that runs instances (ETSI MEC 003: MEC host).

    Attributes:
        cpu_millicores: Capacity [1/1000 core].
        memory_bytes: Capacity [byte].
        kinds: What it can run.
        power_idle_milliwatts, power_peak_milliwatts: Power at no load and full load [mW].
        price_microunits_per_hour: Price while in use [1/1,000,000 currency unit per hour].
    """

    name: str
    site: str
    world: World = World.EMULATED
    cpu_millicores: int
    memory_bytes: int
    kinds: tuple[Kind, ...] = tuple(Kind)
    power_idle_milliwatts: int = 0
    power_peak_milliwatts: int = 0
    price_microunits_per_hour: int = 0


@frozen
class Router:
    """A virtual router that runs nothing: it only forwards (ETSI NFV: a node of the NFVI's network).

    Attributes:
        latitude, longitude: Position [degree], or ``None``.
    """

    name: str
    latitude: float | None = None
    longitude: float | None = None


@frozen
class LinkShape:
    """What a link does to packets in one direction.

    Attributes:
        rate_bps: Rate [bit/s]; ``None`` for unlimited.
        delay_us: Propagation delay [µs, one way].
        jitter_us: Half-width of the uniform variation of the delay [µs]; never reorders.
        loss_ppm: Random loss [1/1,000,000].
        queue_packets: Packets that may wait for the rate limiter.
    """

    rate_bps: int | None = None
    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0
    queue_packets: int = 1000

    @property
    def is_delayed(self) -> bool:
        """Whether packets are held back or lost on purpose."""
        return bool(self.delay_us or self.jitter_us or self.loss_ppm)


@frozen
class Link:
    """A link between two hosts or routers; ``forward`` shapes first to second, ``backward`` the other way.

    Attributes:
        weight: What it costs a packet where ways are chosen by weight.
    """

    name: str
    ends: tuple[str, str]
    weight: int = 1
    forward: LinkShape = LinkShape()
    backward: LinkShape = LinkShape()


@frozen
class AccessPoint:
    """Where devices attach to a host.

    Attributes:
        technology: Radio or wire, as ``ieee802.15.4``, ``wifi``, ``lte``, ``ethernet``.
        up: Shape from a device to the host.
        down: Shape from the host to a device.
    """

    name: str
    host: str
    technology: str = "ethernet"
    up: LinkShape = LinkShape()
    down: LinkShape = LinkShape()


@frozen
class Workload:
    """A command that a device runs once the services it talks to answer."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    paused: bool = False


@frozen
class ExternalAttachment:
    """A real device outside the cloud, let in through a UDP or TCP door on this machine.

    Attributes:
        listen: Address and port on this machine that the real device sends to, as ``0.0.0.0:5683``.
        to: Instance and port that its traffic is handed to.
        protocol: ``udp`` or ``tcp``.
    """

    listen: str
    to: tuple[str, int]
    protocol: str = "udp"


@frozen
class Device:
    """User equipment or an IoT device behind an access point (ETSI MEC: UE).

    Emulated unless ``external`` is given.
    """

    name: str
    access_point: str
    workload: Workload | None = None
    external: ExternalAttachment | None = None


@frozen
class ImageSource:
    """Where an image comes from: a role of Wisp's own guest, with content and options baked in, or a file.

    Attributes:
        role: Guest role, as ``web``; empty for a foreign image.
        content: Folder of static content to bake in, absolute; ``None`` for none.
        options: Default configuration baked in.
        foreign: Files of an image that Wisp did not build.
        digests: Digest of the built image by target, or of each foreign file by what it is for; ``wisp up`` adds
            them, so that changed content is a changed image.
        pool_size: How many guests boot ahead at each site where one that sleeps may want them.
    """

    name: str
    role: str = ""
    content: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    foreign: ForeignImage | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    pool_size: int = 0


class HealthProtocol(StrEnum):
    """How an instance is asked whether it is well."""

    HTTP = "http"
    TCP = "tcp"
    ALIVE = "alive"


@frozen
class HealthCheck:
    """How an instance shows that it answers.

    Attributes:
        protocol: ``http`` wants a 2xx for ``GET path``; ``tcp`` a connection; ``alive`` a living process.
        failures: Failed checks in a row until it counts as unhealthy and is restarted.
    """

    protocol: HealthProtocol = HealthProtocol.HTTP
    port: int = 80
    path: str = "/health"
    interval: Duration = Duration.of_seconds(5)
    timeout: Duration = Duration.of_seconds(1)
    failures: int = 3


@frozen
class Vdu:
    """A virtualisation deployment unit (ETSI NFV-IFA 011): one image or command, and what it needs.

    Attributes:
        image: Name of an :class:`ImageSource`; ``process`` has none.
        command: What to run, for ``process``; arguments, for what a foreign image holds.
        cpu_millicores, memory_bytes: Reserved [1/1000 core], [byte].
        config: Options handed to the guest, or environment of the process. Values may hold
            ``${address.INSTANCE}``, ``${host.INSTANCE}``, ``${own.FACT}`` and ``${secret.NAME}``.
        boot_deadline: Longest wait from start to the first good health check; one retry.
    """

    name: str
    kind: Kind
    image: str | None = None
    command: tuple[str, ...] = ()
    cpu_millicores: int = 100
    memory_bytes: int = 16 << 20
    config: Mapping[str, str] = field(default_factory=dict)
    health: HealthCheck = HealthCheck()
    boot_deadline: Duration = Duration.of_seconds(10)


@frozen
class Vnfd:
    """A virtualised network function descriptor (ETSI NFV-IFA 011), or a MEC AppDescriptor (MEC 010-2)."""

    name: str
    vdus: tuple[Vdu, ...]


@frozen
class LatencyBound:
    """A latency that a placement must keep.

    Attributes:
        to: Name of a device or a site.
        maximum_us: Longest one-way path delay [µs].
    """

    to: str
    maximum_us: int


@frozen
class PlacementConstraints:
    """Where an instance may run.

    Attributes:
        sites, hosts: Allowed ones; empty for any.
        affinity: Instances that must share its host (ETSI: affinity group, scope host), as the author wrote
            them: an instance, or a VNF of the same network service; ``model.peer`` says whom that means.
        anti_affinity: Instances that must not, written the same way.
        latency: Bounds to keep.
    """

    sites: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    affinity: tuple[str, ...] = ()
    anti_affinity: tuple[str, ...] = ()
    latency: tuple[LatencyBound, ...] = ()


@frozen
class PublishedPort:
    """A port of this machine that leads to an instance.

    Attributes:
        address: Address on this machine to listen on.
        port: Port on this machine.
        target_port: Port of the instance.
        protocol: ``tcp`` or ``udp``.
    """

    address: str = "127.0.0.1"
    port: int
    target_port: int
    protocol: str = "tcp"


@frozen
class Elasticity:
    """How many instances stand behind one virtual address, and what decides on it.

    Attributes:
        minimum, maximum: How many instances there are at least and at most.
        connections_per_s: New connections that one instance is to take [1/s]; ``None`` where that does not matter.
        cpu_ppm: Part of its promised processor time that one is to use [1/1,000,000]; likewise.
        answer: How long a health check may take; likewise.
        calm: How long fewer must have been enough before one is put away.
        drain: Longest wait for the connections of one that is put away.
    """

    minimum: int = 1
    maximum: int = 1
    connections_per_s: int | None = None
    cpu_ppm: int | None = None
    answer: Duration | None = None
    calm: Duration = Duration.of_seconds(30)
    drain: Duration = Duration.of_seconds(10)


@frozen
class DeclaredInstance:
    """One VNF instance that shall exist, before it has a host; or several that stand in for each other.

    Attributes:
        name: Unique in the cloud.
        network_service: The network service it belongs to.
        vnf: Its profile in that service; several instances of a profile differ in site.
        vnfd: What it was made from.
        site: The site it was declared for, where its profile names some.
        publish: Ports of this machine that lead to it.
        egress: Whether it may reach the outside of the cloud.
        idle_timeout: For one that is started only when it is wanted: after so long without work it goes to sleep.
            ``None`` for one that always runs.
        when_idle: What going to sleep means for it.
        elasticity: For what is declared once and has several instances; ``None`` for one instance.
        replica_of: For one of several: the name that stands for them all; empty for others.
    """

    name: str
    network_service: str
    vnf: str
    vnfd: str = ""
    site: str | None = None
    vdu: Vdu
    constraints: PlacementConstraints = PlacementConstraints()
    publish: tuple[PublishedPort, ...] = ()
    egress: bool = False
    idle_timeout: Duration | None = None
    when_idle: WhenIdle = WhenIdle.DELETED
    elasticity: Elasticity | None = None
    replica_of: str = ""

    @property
    def gives_back(self) -> bool:
        """Whether it gives back what it takes of its host while it sleeps; for all others that is reserved."""
        return self.idle_timeout is not None and self.when_idle is not WhenIdle.STOPPED


@frozen
class SecretSource:
    """Where a secret is read at the moment it is needed; its value is never stored.

    Attributes:
        file: Path of a file that holds it; or
        environment: Name of a variable that holds it.
        fingerprint: Changes with the value and tells nothing of it; empty until ``wisp up`` has read the value.
    """

    name: str
    file: str | None = None
    environment: str | None = None
    fingerprint: str = ""


@frozen
class Dns:
    """How names are answered inside the cloud.

    Attributes:
        zone: Zone of the cloud's names; ``None`` for ``<cloud>.internal``.
        ttl: How long an answer may be kept.
        forward: Name servers for all other names, as ``ADDRESS:PORT``.
    """

    zone: str | None = None
    ttl: Duration = Duration.of_seconds(5)
    forward: tuple[str, ...] = ()


class RoutingCost(StrEnum):
    """What the shortest way is the shortest by."""

    DELAY = "delay"
    WEIGHT = "weight"


@frozen
class Routing:
    """How packets find their way.

    Attributes:
        by: What the sum of over all links of a way shall be least.
        has_backups: Whether every router knows beforehand where to send what a link of its own cannot take any more.
    """

    by: RoutingCost = RoutingCost.DELAY
    has_backups: bool = False


@frozen
class DesiredState:
    """A whole declared cloud. Every name in it is known, every number in range.

    Attributes:
        detection: How long a host must be silent until it counts as down.
    """

    name: str
    sites: tuple[Site, ...] = ()
    hosts: tuple[Host, ...] = ()
    routers: tuple[Router, ...] = ()
    links: tuple[Link, ...] = ()
    access_points: tuple[AccessPoint, ...] = ()
    devices: tuple[Device, ...] = ()
    images: tuple[ImageSource, ...] = ()
    vnfds: tuple[Vnfd, ...] = ()
    secrets: tuple[SecretSource, ...] = ()
    dns: Dns = Dns()
    detection: Duration = Duration.of_seconds(1)
    routing: Routing = Routing()
    instances: tuple[DeclaredInstance, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all that links join: hosts, then routers."""
        return (*(host.name for host in self.hosts), *(router.name for router in self.routers))
