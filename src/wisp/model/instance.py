"""What runs: the resolved order to start an instance, its handle, and what was seen of it."""

import hashlib
from dataclasses import fields
from enum import StrEnum
from functools import lru_cache

from wisp.model.description import HealthCheck, Kind, WhenIdle
from wisp.model.image import ForeignImage
from wisp.primitives.time import Duration, Instant
from wisp.primitives.values import frozen

DOOR_PREFIX = "door/"


@frozen
class ImageRef:
    """An image as an instance wants it: built from a role, or foreign; checked by digest at start.

    Attributes:
        name: Name in the description.
        role: Guest role; empty for a foreign image.
        content: Folder baked in, or ``None``.
        options: Configuration baked in.
        digest: Of the built image or the foreign file; empty where nobody has said it yet.
        foreign: Files that Wisp did not build.
        parts: Digest of each foreign file by what it is for.
    """

    name: str
    role: str = ""
    content: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    foreign: ForeignImage | None = None
    parts: tuple[tuple[str, str], ...] = ()


@frozen
class WarmPool:
    """Guests that boot ahead and wait to be told who they are.

    Attributes:
        name: Site, image and memory that its guests are for.
        host: The host whose memory they take.
        image: What they boot.
        memory_bytes: Memory of each [byte].
        size: How many are kept ready.
    """

    name: str
    host: str
    image: ImageRef
    memory_bytes: int
    size: int


@frozen
class Door:
    """A port of this machine through which the outside comes in; served by a relay inside.

    Attributes:
        listen: ``ADDRESS:PORT`` on this machine, an IPv6 address in brackets.
        protocol: ``tcp`` or ``udp``.
        to: Instance and port that it leads to.
    """

    listen: str
    protocol: str
    to: tuple[str, int]

    @property
    def socket(self) -> str:
        """Name under which the keeper holds the bound socket."""
        return f"{DOOR_PREFIX}{self.protocol}/{self.listen}"

    @property
    def name(self) -> str:
        """Name of a published port's relay, as ``web-1:127.0.0.1:8080``; no instance has a colon in its name."""
        return f"{self.to[0]}:{self.listen}" + (":udp" if self.protocol == "udp" else "")


@frozen
class InstanceSpec:
    """Everything a driver needs to start one instance; nothing is looked up any more, but secrets.

    Attributes:
        name: Name of the instance, or of the device whose workload it is.
        host: The host it is accounted to.
        namespace: Network namespace a process runs in, or a guest's tap lives in.
        image: For unikernels.
        command: For processes.
        config: Options of the guest, or environment of the process.
        secrets: Name and fingerprint of each secret that ``config`` names; so a changed secret is a changed instance.
        memory_bytes: What it is given [byte].
        overhead_bytes: What it takes of its host beside that [byte].
        address: Its address, without prefix; ``None`` for a device's workload.
        prefix_length, gateway, mac: How a guest sets up its interface.
        address6, gateway6: The same as IPv6; a guest is alone in its subnet there.
        after: Instances that must have answered (or failed) before this one starts.
        group: The VNF whose instances stand in for each other while one of them is replaced; empty for none.
        is_workload: Whether it is a device's workload and not a network function.
        idle_timeout: For one that sleeps until it is wanted: how long without work until it sleeps again.
        when_idle: What becomes of it then.
        pool: Warm pool that it may take a guest from; empty for none.
        door: For the relay of a published port or an external device; its socket is bound outside, by ``wisp up``.
    """

    name: str
    kind: Kind
    host: str
    namespace: str
    image: ImageRef | None = None
    command: tuple[str, ...] = ()
    config: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    cpu_millicores: int
    memory_bytes: int
    overhead_bytes: int = 0
    address: str | None = None
    prefix_length: int = 32
    gateway: str | None = None
    address6: str | None = None
    gateway6: str | None = None
    mac: str | None = None
    health: HealthCheck
    boot_deadline: Duration
    after: tuple[str, ...] = ()
    group: str = ""
    is_workload: bool = False
    idle_timeout: Duration | None = None
    when_idle: WhenIdle = WhenIdle.DELETED
    pool: str = ""
    door: Door | None = None

    @property
    def is_summoned(self) -> bool:
        """Whether it is started only when it is wanted."""
        return self.idle_timeout is not None

    @property
    def gives_back(self) -> bool:
        """Whether it gives back what it takes of its host while it sleeps."""
        return self.is_summoned and self.when_idle is not WhenIdle.STOPPED

    @property
    def cost_bytes(self) -> int:
        """What it takes of its host's memory [byte]."""
        return self.memory_bytes + self.overhead_bytes

    @property
    def is_known_to_host(self) -> bool:
        """Whether guest and host know each other's hardware address and need not ask.

        For guests that no frame is lost to, however early it comes: the first one is then what somebody sent.
        """
        return self.kind is Kind.SPT or (self.kind is Kind.MICROVM and self.is_summoned)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when anything about the instance does."""
        return _digest(self)


@lru_cache(maxsize=65_536)
def _digest(spec: InstanceSpec) -> str:
    text = repr([(field.name, getattr(spec, field.name)) for field in fields(spec)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@frozen
class Handle:
    """Enough to find a running instance again after a crash of the controller.

    Attributes:
        version: Of this form.
        driver: The kind whose driver made it.
        child: Identity under which the keeper knows the process.
        pid: Process id as the machine sees it; 0 for a summoned instance, which has one only while it is awake.
        start_ticks: Start time of that process [clock ticks since boot], so that a reused pid is noticed.
        spawned_at: When it was spawned.
        is_summoned: Whether it sleeps until it is wanted.
    """

    version: int = 1
    driver: str
    instance: str
    spec_digest: str
    child: str
    pid: int
    start_ticks: int
    spawned_at: Instant
    is_summoned: bool = False


class InstanceState(StrEnum):
    """Where an instance is in its life."""

    ASLEEP = "asleep"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    EXITED = "exited"

    @property
    def is_well(self) -> bool:
        """Whether all is as it should be: it answers, or would as soon as it is wanted."""
        return self in (InstanceState.READY, InstanceState.ASLEEP)


@frozen
class ObservedInstance:
    """What was last seen of an instance.

    Attributes:
        changed_at: When it came into ``state``.
        started_at: When its process was spawned.
        start_ms: From spawn to the first good health check [ms]; ``None`` until then.
        failures: Times in a row that it ended or stayed silent since it was last well.
        reason: Why it is in ``state``, as a sentence; empty while well.
        pid: Its process as the machine sees it; 0 while it has none.
    """

    name: str
    spec_digest: str
    state: InstanceState
    handle: Handle | None
    changed_at: Instant
    started_at: Instant
    start_ms: float | None = None
    failures: int = 0
    reason: str = ""
    pid: int = 0
