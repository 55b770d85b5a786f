"""The description as people write it: every key, its form, its default and its meaning.

The reader, ``wisp schema`` and the reference page are all made from these declarations.
"""

from collections.abc import Mapping

from wisp.codec import units
from wisp.codec.form import (
    Amount,
    Body,
    Choice,
    Count,
    Flag,
    Items,
    Name,
    Real,
    Reference,
    Table,
    Template,
    Text,
    key,
)
from wisp.model.description import HealthProtocol, Kind, RoutingCost, WhenIdle, World
from wisp.model.image import BootProtocol, Family, Machine
from wisp.primitives.values import frozen

ROLES = ("aggregator", "proxy", "web")
PORT = Count(1, 65_535)


REPLICA_LIMIT = 64


@frozen
class SiteBody:
    """A place where hosts stand."""

    latitude: float | None = key(Real(-90, 90), "Position [degree].", default=None)
    longitude: float | None = key(Real(-180, 180), "Position [degree].", default=None)
    zone: str = key(Text("north"), "ETSI MEC 013 zone it belongs to.", default="")
    pool_memory: int = key(
        Amount(units.MEMORY), "Most that guests of warm pools may take here together.", default=256 << 20
    )


@frozen
class PowerBody:
    """What a host draws."""

    idle: int = key(Amount(units.POWER), "Power at no load.", default=0)
    peak: int = key(Amount(units.POWER), "Power at full load.", default=0)


@frozen
class HostBody:
    """A machine that runs instances (ETSI MEC host)."""

    site: str = key(Reference(("sites",)), "The site it stands at.")
    world: str = key(Choice(tuple(World)), "Where it lives.", default=World.EMULATED)
    cpu: int = key(Amount(units.CPU), "Capacity, in cores or thousandths of one.")
    memory: int = key(Amount(units.MEMORY), "Capacity.")
    kinds: tuple[str, ...] = key(
        Items(Choice(tuple(Kind)), minimum=1, distinct=True), "What it can run.", default=tuple(Kind)
    )
    power: PowerBody = key(Body(PowerBody), "What it draws.", default=PowerBody())
    price: int = key(Amount(units.PRICE), "Price while in use, per hour in any one currency.", default=0)


@frozen
class RouterBody:
    """A virtual router that runs nothing: it only forwards."""

    latitude: float | None = key(Real(-90, 90), "Position [degree].", default=None)
    longitude: float | None = key(Real(-180, 180), "Position [degree].", default=None)


@frozen
class ShapeBody:
    """What a link does to packets in one direction."""

    rate: int | None = key(Amount(units.RATE), "Rate; unlimited when not given.", default=None)
    delay: int | None = key(Amount(units.DELAY), "Propagation delay, one way.", default=None)
    jitter: int | None = key(
        Amount(units.DELAY), "Half-width of the variation of the delay; never reorders.", default=None
    )
    loss: int | None = key(Amount(units.RATIO), "Random loss.", default=None)
    queue: int | None = key(
        Count(1, 1_000_000), "Packets that may wait for the rate limiter; 1000 when not given.", default=None
    )


@frozen
class LinkBody(ShapeBody):
    """A link between two hosts or routers. A shape written here holds for both directions."""

    between: tuple[str, ...] = key(
        Items(Reference(("hosts", "routers")), minimum=2, maximum=2, distinct=True), "The two that it joins."
    )
    weight: int = key(Count(1, 1_000_000), "What it costs a packet, with `routing.by: weight`.", default=1)
    forward: ShapeBody = key(Body(ShapeBody), "What differs from the first to the second.", default=ShapeBody())
    backward: ShapeBody = key(Body(ShapeBody), "What differs from the second to the first.", default=ShapeBody())


@frozen
class AccessPointBody(ShapeBody):
    """Where devices attach to a host. A shape written here holds for both directions."""

    host: str = key(Reference(("hosts",)), "The host it belongs to.")
    technology: str = key(Text("ieee802.15.4"), "Radio or wire, as `ieee802.15.4`, `wifi`, `lte`.", default="ethernet")
    up: ShapeBody = key(Body(ShapeBody), "What differs from a device to the host.", default=ShapeBody())
    down: ShapeBody = key(Body(ShapeBody), "What differs from the host to a device.", default=ShapeBody())


@frozen
class WorkloadBody:
    """A command that a device runs once the services it talks to answer."""

    command: tuple[str, ...] = key(Items(Template(command=True), minimum=1), "Program and arguments.")
    environment: Mapping[str, str] = key(Table(Template(), keys=Text("NAME")), "Environment variables.", default={})
    paused: bool = key(Flag(), "Whether it is not to run for now.", default=False)


@frozen
class ExternalBody:
    """A real device outside the cloud, let in through a door on this machine; its link is as any other's."""

    listen: str = key(Text("0.0.0.0:5683"), "Address and port on this machine that the device sends to.")
    to: str = key(Text("aggregator-edge-1:5683"), "Instance and port that its traffic is handed to.")
    protocol: str = key(Choice(("udp", "tcp")), "Transport protocol.", default="udp")


@frozen
class DeviceBody:
    """User equipment or an IoT device (ETSI MEC: UE). Emulated unless `external` is given."""

    access_point: str = key(Reference(("access_points",)), "Where it attaches.")
    workload: WorkloadBody | None = key(Body(WorkloadBody), "What it runs; nothing when not given.", default=None)
    external: ExternalBody | None = key(Body(ExternalBody), "Door for a real device.", default=None)


@frozen
class ImageBody:
    """An image: a role of Wisp's own guest, or a file of somebody else's."""

    role: str | None = key(Choice(ROLES), "What the guest does; Wisp builds it.", default=None)
    content: str | None = key(
        Text("web/"), "Folder of static content to bake in, beside this file or absolute.", default=None
    )
    options: Mapping[str, str] = key(Table(Text(), keys=Text("option")), "Configuration baked in.", default={})
    pool_size: int = key(
        Count(0, 1_000),
        "Warm pool: so many guests boot ahead at each site where a `unikernel/microvm` with this image sleeps.",
        default=0,
    )
    file: str | None = key(
        Text("kernel.elf"),
        "In place of `role`, beside this file or absolute: a unikernel, kernel or disk; for `container` an OCI image "
        "layout or root file system, as a folder or archive. Or the digest of one that `wisp image import` took in, "
        "as `sha256:...`.",
        default=None,
    )
    initrd: str | None = key(Text("initrd.cpio"), "Initial RAM disk of a kernel in `file`.", default=None)
    disk: str | None = key(Text("data.qcow2"), "Disk beside a kernel in `file`, raw or qcow2.", default=None)
    protocol: str | None = key(
        Choice(tuple(BootProtocol)), "How it is booted; read from `file` when not given.", default=None
    )
    family: str | None = key(
        Choice(tuple(Family)),
        "How it is told its address and arguments; guessed from `file` when not given; `none`: only what "
        "`config` and `command` say.",
        default=None,
    )
    machine: str | None = key(
        Choice(tuple(Machine)), "QEMU's machine type; by protocol and family when not given.", default=None
    )


@frozen
class HealthBody:
    """How an instance shows that it answers."""

    protocol: str = key(
        Choice(tuple(HealthProtocol)),
        "`http` wants a 2xx for `GET path`; `tcp` a connection; `alive` a living process.",
        default=HealthProtocol.HTTP,
    )
    port: int = key(PORT, "Port asked.", default=80)
    path: str = key(Text("/health"), "Path asked.", default="/health")
    interval: int = key(Amount(units.TIME), "Time between checks.", default=5_000_000)
    timeout: int = key(Amount(units.TIME), "Longest wait for an answer.", default=1_000_000)
    failures: int = key(Count(1, 1_000), "Failed checks in a row until it is restarted.", default=3)


@frozen
class VduBody:
    """A virtualisation deployment unit (ETSI NFV-IFA 011): one image or command, and what it needs."""

    kind: str = key(Choice(tuple(Kind)), "What runs it.")
    image: str | None = key(Reference(("images",)), "The image; `process` has none.", default=None)
    command: tuple[str, ...] = key(
        Items(Template(command=True), minimum=1),
        "Program and arguments, for `process`; arguments, for a foreign image; for `container` in place of the image's "
        "own arguments, behind its entrypoint.",
        default=(),
    )
    cpu: int = key(Amount(units.CPU), "Reserved, in cores or thousandths of one.", default=100)
    memory: int = key(
        Amount(units.MEMORY), "Reserved; what it takes to run it, as a hypervisor, comes on top.", default=16 << 20
    )
    config: Mapping[str, str] = key(
        Table(Template(), keys=Text("key")),
        "Options of the guest, or environment of a process or container.",
        default={},
    )
    health: HealthBody = key(Body(HealthBody), "How it shows that it answers.", default=HealthBody())
    boot_deadline: int = key(
        Amount(units.TIME), "Longest wait from start to the first answer; then one retry.", default=10_000_000
    )


@frozen
class VnfdBody:
    """A virtualised network function descriptor (ETSI NFV-IFA 011), or a MEC AppDescriptor (MEC 010-2)."""

    vdus: Mapping[str, VduBody] = key(Table(Body(VduBody), minimum=1), "Its deployment units, by name.")


@frozen
class PlacementBody:
    """Where an instance may run."""

    sites: tuple[str, ...] = key(Items(Reference(("sites",)), distinct=True), "Only at these.", default=())
    hosts: tuple[str, ...] = key(Items(Reference(("hosts",)), distinct=True), "Only on these.", default=())
    affinity: tuple[str, ...] = key(
        Items(Reference(("instances",)), distinct=True),
        "On the same host as these: instances, or VNFs of the same network service (then those at its site).",
        default=(),
    )
    anti_affinity: tuple[str, ...] = key(
        Items(Reference(("instances",)), distinct=True), "Never on the same host as these.", default=()
    )
    latency: Mapping[str, int] = key(
        Table(Amount(units.DELAY), keys=Reference(("devices", "sites"))),
        "Longest one-way delay to a device, or to the nearest host of a site.",
        default={},
    )


@frozen
class ScalingBody:
    """What one of several instances is to take; where any of it is more, there will be more of them."""

    rate: int | None = key(Count(1, 1_000_000), "New connections per second.", default=None)
    cpu: int | None = key(
        Amount(units.RATIO), "Part of its promised `cpu` that it uses; `70%` when nothing else is given.", default=None
    )
    latency: int | None = key(Amount(units.TIME), "How long a health check takes.", default=None)
    calm: int = key(
        Amount(units.TIME), "How long fewer must have been enough before one is put away.", default=30_000_000
    )


@frozen
class VnfBody:
    """A VNF of a network service, and where its instances are wanted."""

    vnfd: str = key(Reference(("vnfds",)), "What it is made from.")
    sites: tuple[str, ...] = key(
        Items(Reference(("sites",)), word="all", distinct=True),
        "One instance at each of these, named `<vnf>-<site>`; one instance named `<vnf>` when not given.",
        default=(),
    )
    placement: PlacementBody = key(Body(PlacementBody), "Where instances may run.", default=PlacementBody())
    publish: tuple[str, ...] = key(
        Items(Text("8080:80")),
        "Ports of this machine that lead to it: `[ADDRESS:]PORT:TARGET_PORT[/udp]`.",
        default=(),
    )
    min_instances: int = key(
        Count(0, REPLICA_LIMIT),
        "`0`: it sleeps and costs nothing until it is wanted, by a DNS query for its name or a packet to its address. "
        "More than `1`: so many stand behind one virtual address.",
        default=1,
    )
    max_instances: int | None = key(
        Count(1, REPLICA_LIMIT),
        "More than `1`: as many as the load needs stand behind one virtual address; `min_instances` when not given.",
        default=None,
    )
    scaling: ScalingBody = key(
        Body(ScalingBody), "With `max_instances`: how much load is enough for one more.", default=ScalingBody()
    )
    drain: int = key(
        Amount(units.TIME),
        "With several instances: longest wait for the connections of one that is put away or replaced.",
        default=10_000_000,
    )
    idle_timeout: int = key(
        Amount(units.TIME), "With `min_instances: 0`: after so long without work it sleeps again.", default=30_000_000
    )
    when_idle: str = key(
        Choice(tuple(WhenIdle)),
        "With `min_instances: 0`: what sleeping means. `deleted`: it ends, and starts anew; `stopped`: its process "
        "stands still and keeps its memory; `snapshotted`: all that it has goes into a file and comes back. "
        "The last two need `unikernel/microvm`.",
        default=WhenIdle.DELETED,
    )
    egress: bool = key(
        Flag(),
        "Whether it may reach the outside of the cloud, through a user-space NAT; names are answered at 10.0.2.3.",
        default=False,
    )
    config: Mapping[str, str] = key(
        Table(Template(), keys=Text("key")), "Wins over the `config` of its deployment units.", default={}
    )


@frozen
class NetworkServiceBody:
    """A network service (ETSI NFV-IFA 014): VNFs that belong together."""

    vnfs: Mapping[str, VnfBody] = key(Table(Body(VnfBody), section="vnfs"), "Its VNFs, by profile name.")


@frozen
class DnsBody:
    """How names are answered inside the cloud, at 169.254.53.53."""

    zone: str | None = key(
        Text("fog.internal"), "Zone of the cloud's names; `<cloud>.internal` when not given.", default=None
    )
    ttl: int = key(Amount(units.TIME), "How long an answer may be kept.", default=5_000_000)
    forward: tuple[str, ...] = key(
        Items(Text("10.0.2.3")),
        "Name servers that are asked for all other names, as `ADDRESS` or `ADDRESS:PORT`; refused when not given.",
        default=(),
    )


@frozen
class RoutingBody:
    """How packets find their way."""

    by: str = key(
        Choice(tuple(RoutingCost)),
        "What the best way has the least of: delay, or weight of its links; of equal ones those of fewest links count.",
        default=RoutingCost.DELAY,
    )
    backups: bool = key(
        Flag(),
        "Whether a host or router knows beforehand where else to send what goes over a link of its own (RFC 5286), "
        "so that nobody need be asked when that breaks. Takes up to twice as many routes.",
        default=False,
    )


@frozen
class FaultsBody:
    """How faults are found."""

    detection: int = key(
        Amount(units.TIME),
        "How long a host must be silent until it counts as down, and what ran there is started elsewhere.",
        default=1_000_000,
    )


@frozen
class SecretBody:
    """Where `wisp up` reads a secret; exactly one of both. A changed value restarts the instances that use it."""

    file: str | None = key(
        Text("token.txt"),
        "File that holds it, beside this one or absolute; one line end at its end is left out.",
        default=None,
    )
    environment: str | None = key(Text("TOKEN"), "Variable that holds it.", default=None)


@frozen
class Document:
    """A whole edge cloud."""

    cloud: str = key(Name(), "Name of the cloud.")
    sites: Mapping[str, SiteBody] = key(Table(Body(SiteBody), section="sites"), "Places, by name.", default={})
    hosts: Mapping[str, HostBody] = key(Table(Body(HostBody), section="hosts"), "Machines, by name.", default={})
    routers: Mapping[str, RouterBody] = key(
        Table(Body(RouterBody), section="routers"), "Virtual routers beside those of the hosts, by name.", default={}
    )
    links: Mapping[str, LinkBody] = key(Table(Body(LinkBody)), "Links between hosts and routers, by name.", default={})
    access_points: Mapping[str, AccessPointBody] = key(
        Table(Body(AccessPointBody), section="access_points"), "Where devices attach, by name.", default={}
    )
    devices: Mapping[str, DeviceBody] = key(Table(Body(DeviceBody), section="devices"), "Devices, by name.", default={})
    images: Mapping[str, ImageBody] = key(Table(Body(ImageBody), section="images"), "Images, by name.", default={})
    vnfds: Mapping[str, VnfdBody] = key(
        Table(Body(VnfdBody), section="vnfds"),
        "Network function descriptors, by name.",
        default={},
        aliases=("app_descriptors",),
    )
    network_services: Mapping[str, NetworkServiceBody] = key(
        Table(Body(NetworkServiceBody)), "Network services, by name.", default={}
    )
    secrets: Mapping[str, SecretBody] = key(Table(Body(SecretBody), section="secrets"), "Secrets, by name.", default={})
    dns: DnsBody = key(Body(DnsBody), "Names inside the cloud.", default=DnsBody())
    routing: RoutingBody = key(Body(RoutingBody), "How packets find their way.", default=RoutingBody())
    faults: FaultsBody = key(Body(FaultsBody), "How faults are found.", default=FaultsBody())
