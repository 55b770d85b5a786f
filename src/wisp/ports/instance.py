"""The port that starts and stops instances; one driver per kind."""

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from wisp.model.instance import Handle, InstanceSpec, WarmPool
from wisp.primitives.time import Duration, Instant
from wisp.primitives.values import frozen


@frozen
class Capabilities:
    """What a driver can do, as data; ask before asking it to do it.

    Attributes:
        kind: What it runs.
        isolation: What stands between an instance and the machine, as ``hardware-vm`` or ``seccomp``.
        live_migration, snapshot, state_export, pause: Whether it can.
        memory_limit_enforced: Whether an instance is held to its ``memory_bytes``.
    """

    kind: str
    isolation: str
    live_migration: bool = False
    snapshot: bool = False
    state_export: bool = False
    pause: bool = False
    memory_limit_enforced: bool = False


@frozen
class Fingerprint:
    """Whether a driver works on this machine, with a sentence and, where it does not, the remedy."""

    healthy: bool
    sentence: str
    remedy: str = ""


@frozen
class Exit:
    """How an instance ended.

    Attributes:
        code: Exit status, or ``None`` when a signal ended it.
        signal: The signal, or ``None``.
        reason: A sentence; for unikernels what the guest said last.
    """

    code: int | None
    signal: int | None
    reason: str


class InstanceDriver(Protocol):
    """Starts, finds and stops instances of one kind. Every call may be repeated."""

    def capabilities(self) -> Capabilities:
        """Give what it can do; never fails, needs nothing installed."""
        ...

    async def fingerprint(self) -> Fingerprint:
        """Say whether it works here."""
        ...

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Spawn the instance and give its handle at once, without waiting until it answers.

        A summoned one is only made ready to be: it is spawned when it is wanted, however often.

        An instance already running from the same spec is left alone and its handle given.

        Args:
            spec: What to start; its tap and namespace exist.
            secrets: Values of the secrets that ``spec.config`` names.

        Raises:
            TransientDriverError: Worth trying again.
            PermanentDriverError: The image, the command or the machine must change first.
        """
        ...

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how the instance ended, or ``None`` while it runs.

        Raises:
            UnknownInstance: Nothing is known of it any more.
        """
        ...

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End the instance, by force after ``grace``, and forget it; an unknown one is fine."""
        ...


# The names of children that are booted ahead begin so.
POOL_PREFIX = "pool/"


class WarmPools(Protocol):
    """Has guests boot ahead for those that sleep."""

    async def keep_warm(self, pools: Sequence[WarmPool]) -> int:
        """Have the missing guests of these pools boot, and end those of all others; give how many are new."""
        ...


class Life(StrEnum):
    """What became of a process of the cloud."""

    ASLEEP = "asleep"
    RUNNING = "running"
    EXITED = "exited"


@frozen
class Sign:
    """A process ended, or a summoned one woke up or fell asleep.

    Attributes:
        child: The process, for instances their :attr:`Handle.child`.
        life: What it does now.
        pid: Its process as the machine sees it; 0 while it sleeps.
        since: When it was spawned.
        reason: For a summoned one that ended: why, as a sentence; for one that did not: what went wrong with it.
    """

    child: str
    life: Life
    pid: int
    since: Instant
    reason: str = ""


class LifeWatch(Protocol):
    """Tells at once when a process of the cloud ends, or a summoned one wakes up or falls asleep."""

    def signs(self) -> AsyncIterator[Sign]:
        """Give what happens; first those that ended before, and how it is with every summoned one."""
        ...


class MemoryBudgets(Protocol):
    """Holds those that are woken to the memory that is there for them."""

    async def set_budget(self, host: str, memory_bytes: int) -> None:
        """Let the summoned instances of a host take so much memory together [byte]."""
        ...
