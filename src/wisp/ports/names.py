"""The port that answers for the cloud's names."""

from collections.abc import Collection, Sequence
from typing import Protocol

from wisp.model.instance import InstanceSpec
from wisp.model.zone import Zone


class NameService(Protocol):
    """Answers DNS queries inside the cloud; who asks for an instance that sleeps wakes it."""

    async def serve(self, zone: Zone, specs: Sequence[InstanceSpec]) -> None:
        """Answer with this zone from now on; may be repeated.

        Args:
            zone: All names.
            specs: Instances; those that are summoned are started when they are asked for.

        Raises:
            TransientDriverError: Worth trying again.
            PermanentDriverError: A namespace does not exist (yet).
        """
        ...

    async def withdraw(self, namespaces: Collection[str]) -> None:
        """Let go of these namespaces before they are removed; if any is one of those served, answer no more at all."""
        ...
