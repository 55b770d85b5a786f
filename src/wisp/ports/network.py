"""The port that makes the network."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from wisp.model.action import NetworkAction
from wisp.model.network import Network


class NetworkDriver(Protocol):
    """Carries out network actions in batches and reads the network back."""

    async def apply(self, actions: Sequence[NetworkAction]) -> None:
        """Carry out ``actions`` in order; on failure undo, in reverse, those of this call.

        Repeating actions that already hold changes nothing.

        Raises:
            TransientDriverError: Worth trying again.
            PermanentDriverError: The machine cannot do this.
        """
        ...

    async def farewell(self, namespace: str, interface: str, mac: str) -> None:
        """Tell the guest behind a tap to finish what it has, and to end; one that is gone is fine.

        Args:
            namespace, interface: Of the tap.
            mac: The guest's hardware address.

        Raises:
            TransientDriverError: Worth trying again.
            PermanentDriverError: The machine cannot do this.
        """
        ...

    async def connections(self) -> Mapping[tuple[str, str], int]:
        """Give namespace and virtual address → connections that came since its members last changed.

        Raises:
            TransientDriverError: Worth trying again.
            PermanentDriverError: The machine cannot do this.
        """
        ...

    async def observe(self) -> Network:
        """Read back what exists, from the kernel and not from memory."""
        ...
