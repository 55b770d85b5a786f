"""What was decided, with the reasons; or why nothing can be."""

from collections.abc import Mapping
from dataclasses import field

from wisp.model.instance import InstanceSpec, WarmPool
from wisp.model.network import Network
from wisp.model.zone import Zone
from wisp.primitives.values import frozen


@frozen
class Assignments:
    """What was given out and must stay the same across restarts.

    Attributes:
        hosts: Instance name → host it was placed on.
        subnets: Host name → index of its subnet.
        addresses: Instance or device name → its address.
        links: Link name → index of its transit network.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    subnets: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, int] = field(default_factory=dict)


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
class Plan:
    """All that shall exist, and why.

    Attributes:
        memory_left_bytes: Host → memory that its instances share which sleep until they are wanted [byte].
        pools: Guests to boot ahead for them.
        zone: The cloud's names; ``None`` for a cloud without hosts.
    """

    decisions: tuple[Decision, ...] = ()
    assignments: Assignments = Assignments()
    network: Network = Network()
    instances: tuple[InstanceSpec, ...] = ()
    memory_left_bytes: Mapping[str, int] = field(default_factory=dict)
    pools: tuple[WarmPool, ...] = ()
    zone: Zone | None = None


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
