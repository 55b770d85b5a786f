"""What was decided, with the reasons; or why nothing can be."""

from collections.abc import Mapping
from dataclasses import field

from wisp.model.fault import Fault
from wisp.model.instance import InstanceSpec, WarmPool
from wisp.model.network import Network
from wisp.model.zone import Zone
from wisp.primitives.time import Duration
from wisp.primitives.values import frozen


@frozen
class Assignments:
    """What was given out and must stay the same across restarts.

    Attributes:
        hosts: Instance name → host it was placed on.
        subnets: Host name → index of its subnet.
        addresses: Instance, device or router name → its address.
        links: Link name → index of its transit network.
        versions: One of several instances → digest of what it was made from.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    subnets: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@frozen
class Refusal:
    """A host that was not taken, and why."""

    host: str
    reason: str


@frozen
class Decision:
    """Where one instance goes, why, and what was refused."""

    instance: str
    host: str
    reason: str
    refused: tuple[Refusal, ...] = ()


@frozen
class ElasticGroup:
    """Instances that stand in for each other behind one virtual address.

    Attributes:
        name: As declared.
        address: The virtual address.
        members: Instances that shall be.
        drain: Longest wait for the connections of one that goes.
        nearest: Namespace of a host → namespaces of the hosts whose instances it leads to, the nearest first, those
            equally near together.
    """

    name: str
    address: str
    members: tuple[str, ...]
    drain: Duration
    nearest: Mapping[str, tuple[tuple[str, ...], ...]]


@frozen
class Plan:
    """All that shall exist, and why.

    Attributes:
        memory_left_bytes: Host → memory that its instances share which sleep until they are wanted [byte].
        pools: Guests to boot ahead for them.
        zone: The cloud's names; ``None`` for a cloud without hosts.
        elastic: What stands behind each virtual address.
        faults: What is broken on purpose, sites taken apart into hosts; all else here is as if it were whole.
    """

    decisions: tuple[Decision, ...] = ()
    assignments: Assignments = Assignments()
    network: Network = Network()
    instances: tuple[InstanceSpec, ...] = ()
    memory_left_bytes: Mapping[str, int] = field(default_factory=dict)
    pools: tuple[WarmPool, ...] = ()
    zone: Zone | None = None
    elastic: tuple[ElasticGroup, ...] = ()
    faults: tuple[Fault, ...] = ()


@frozen
class Conflict:
    """An instance that fits nowhere.

    Attributes:
        constraints: The constraints that exclude each other, as the author wrote them.
        refused: Why each host was refused.
    """

    instance: str
    constraints: tuple[str, ...]
    refused: tuple[Refusal, ...]


@frozen
class Infeasible:
    """No plan satisfies the description; every conflict is named."""

    conflicts: tuple[Conflict, ...]
