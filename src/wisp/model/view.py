"""What people are shown of a cloud: rows and summaries, ready for a table or JSON."""

from wisp.model.plan import Decision
from wisp.primitives.values import frozen


@frozen
class InstanceRow:
    """One instance, one device's workload, or one door (a published port or external device), as it is now.

    Attributes:
        kind: What runs it; ``door/tcp`` or ``door/udp`` for doors.
        address: Inside the cloud; of a door, where it listens on this machine.
        address6: Its IPv6 address inside the cloud; ``None`` for a door.
        state: ``asleep``, ``starting``, ``ready``, ``unhealthy``, ``exited`` or ``planned``.
        start_ms: From spawn to the first good health check [ms].
        memory_bytes: Proportional set size of its process [byte]; ``None`` where it does not run.
        cpu_seconds: Processor time used so far [s].
        failures: Times in a row that it failed.
        reason: Why it is not ready.
    """

    name: str
    kind: str
    site: str
    host: str
    address: str | None
    address6: str | None
    state: str
    start_ms: float | None
    memory_bytes: int | None
    cpu_seconds: float | None
    pid: int | None
    failures: int
    reason: str
    is_workload: bool

    @property
    def is_well(self) -> bool:
        """Whether it answers, or would as soon as it is wanted."""
        return self.state in ("asleep", "ready")


@frozen
class HostRow:
    """One host and what is promised on it.

    Attributes:
        quota_enforced: Whether the kernel holds instances to their quota; else it is only accounted.
    """

    name: str
    site: str
    instances: int
    cpu_millicores: int
    cpu_used_millicores: int
    memory_bytes: int
    memory_used_bytes: int
    quota_enforced: bool


@frozen
class CloudStatus:
    """A cloud in a sentence and some numbers.

    Attributes:
        state: ``up``, ``changing``, ``degraded``, ``down`` or ``absent``.
        sentence: What that means here, and what to do about it.
    """

    name: str
    state: str
    sentence: str
    revision: int
    ready: int
    wanted: int
    keeper_pid: int | None
    controller_pid: int | None
    hosts: tuple[HostRow, ...]


@frozen
class Change:
    """One line of what ``wisp up`` would do.

    Attributes:
        sign: ``+`` made, ``-`` taken away, ``~`` changed in place or restarted.
        subject: As ``instance web-1`` or ``link edge-1--core``.
        detail: What about it.
    """

    sign: str
    subject: str
    detail: str


@frozen
class PlannedChange:
    """What ``wisp up`` would change, and why everything goes where it goes."""

    changes: tuple[Change, ...]
    decisions: tuple[Decision, ...]


@frozen
class Progress:
    """How far a long operation is.

    Attributes:
        phase: What takes the time now.
        done, total: Steps of the phase.
        note: The newest thing that happened; empty for none.
    """

    phase: str
    done: int
    total: int
    note: str = ""


@frozen
class Finding:
    """One line of ``wisp doctor``.

    Attributes:
        state: ``ok``, ``limited`` or ``missing``.
        remedy: What to do about it; empty when nothing is to be done.
    """

    subject: str
    state: str
    sentence: str
    remedy: str = ""


@frozen
class DirectionCounters:
    """What went over a link in one direction since the link was made.

    Attributes:
        link: Name of the link; of an access link, that of the device, with what it is before it.
        begin, end: From where to where.
        dropped_packets: Those that found no room at its beginning; what is lost on the way is not counted.
        arrived_packets, arrived_bytes: At its other end, before delay and loss there.
    """

    link: str
    begin: str
    end: str
    sent_packets: int
    sent_bytes: int
    dropped_packets: int
    arrived_packets: int
    arrived_bytes: int


@frozen
class RouterCounters:
    """What went into and out of a router over the links that it has now."""

    router: str
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    dropped_packets: int
