"""What an agent reports: outcomes of actions, and things that happened by themselves."""

from wisp.model.instance import Handle, ObservedInstance
from wisp.model.load import LoadReported
from wisp.model.network import Network
from wisp.primitives.time import Instant
from wisp.primitives.values import frozen


@frozen
class NetworkObserved:
    """The network was read back."""

    network: Network


@frozen
class InstanceFound:
    """An instance of an earlier controller was found running (``exit_reason`` ``None``) or ended."""

    seen: ObservedInstance


@frozen
class NetworkChanged:
    """A batch of network actions came to its end; ``error`` says why it was undone."""

    network: Network
    error: str | None = None


@frozen
class InstanceStarted:
    """An instance was spawned."""

    handle: Handle
    started_at: Instant


@frozen
class InstanceWoken:
    """A summoned instance was wanted and started.

    Attributes:
        pid: Its process as the machine sees it.
        started_at: When it was spawned.
        trouble: What went wrong meanwhile, if anything.
    """

    child: str
    pid: int
    started_at: Instant
    trouble: str = ""


@frozen
class InstanceSlept:
    """A summoned instance sleeps, and starts when it is wanted.

    Attributes:
        trouble: What went wrong meanwhile, if anything.
    """

    child: str
    trouble: str = ""


@frozen
class InstanceNotStarted:
    """An instance could not be spawned; ``is_permanent`` when trying again would fail the same way."""

    name: str
    spec_digest: str
    error: str
    is_permanent: bool = False


@frozen
class InstanceStopped:
    """A stop was carried out; ``error`` says why not."""

    name: str
    error: str | None = None


@frozen
class InstanceExited:
    """A process ended that nobody asked to."""

    child: str
    reason: str


@frozen
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
    | InstanceWoken
    | InstanceSlept
    | InstanceNotStarted
    | InstanceStopped
    | InstanceExited
    | HealthReported
    | LoadReported
)
