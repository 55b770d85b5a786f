"""What an agent reports: outcomes of actions, and things that happened by themselves."""

from dataclasses import dataclass

from wisp.model.instance import Handle, ObservedInstance
from wisp.model.network import Network
from wisp.primitives.time import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkObserved:
    """The network was read back."""

    network: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFound:
    """An instance of an earlier controller was found running (``exit_reason`` ``None``) or ended."""

    seen: ObservedInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChanged:
    """A batch of network actions came to its end; ``error`` says why it was undone."""

    network: Network
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStarted:
    """An instance was spawned."""

    handle: Handle
    started_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceNotStarted:
    """An instance could not be spawned; ``is_permanent`` when trying again would fail the same way."""

    name: str
    spec_digest: str
    error: str
    is_permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStopped:
    """A stop was carried out; ``error`` says why not."""

    name: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceExited:
    """A process ended that nobody asked to."""

    child: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReported:
    """An instance answered (``problem`` ``None``), or stayed silent as often as its check allows."""

    name: str
    child: str
    problem: str | None
    at: Instant


Report = (
    NetworkObserved
    | InstanceFound
    | NetworkChanged
    | InstanceStarted
    | InstanceNotStarted
    | InstanceStopped
    | InstanceExited
    | HealthReported
)
