"""The network without a machine: it keeps and checks the state, and carries no packet."""

from collections.abc import Sequence

from wisp.model.action import NetworkAction
from wisp.model.effect import NetworkState
from wisp.model.network import Network


class SimulatedNetwork:
    """Implements :class:`wisp.ports.network.NetworkDriver`."""

    def __init__(self) -> None:
        self._network = Network()

    async def apply(self, actions: Sequence[NetworkAction]) -> None:
        """Carry out ``actions``, all or none; see the port."""
        state = NetworkState(self._network)
        for action in actions:
            state.apply(action)
        self._network = state.network()

    async def observe(self) -> Network:
        """Give what exists."""
        return self._network
