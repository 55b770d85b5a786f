"""The port that starts and stops instances; one driver per kind."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from wisp.model.instance import Handle, InstanceSpec
from wisp.primitives.time import Duration
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


class ExitWatch(Protocol):
    """Tells at once when a process of the cloud ends."""

    def exits(self) -> AsyncIterator[str]:
        """Give the children that ended, instances by their :attr:`Handle.child`; first those that ended before."""
        ...
