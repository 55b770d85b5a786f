"""The network without a machine: it keeps and checks the state, and carries no packet."""

from collections.abc import Callable, Mapping, Sequence

from wisp.model.action import NetworkAction
from wisp.model.effect import NetworkState
from wisp.model.network import Network


class SimulatedNetwork:
    """Implements :class:`wisp.ports.network.NetworkDriver`.

    Args:
        on_farewell: Called with the name of an instance that is told to finish.
    """

    def __init__(self, on_farewell: Callable[[str], None] = lambda _: None) -> None:
        self._network, self._on_farewell = Network(), on_farewell

    async def farewell(self, namespace: str, interface: str, mac: str) -> None:
        """Tell whoever told us to be told; see the port."""
        del mac  # nobody else is behind a tap
        for tap in self._network.taps:
            if (tap.namespace, tap.interface) == (namespace, interface):
                self._on_farewell(tap.name)

    async def apply(self, actions: Sequence[NetworkAction]) -> None:
        """Carry out ``actions``, all or none; see the port."""
        state = NetworkState(self._network)
        for action in actions:
            state.apply(action)
        self._network = state.network()

    async def connections(self) -> Mapping[tuple[str, str], int]:
        """Give none: nobody connects."""
        return {}

    async def observe(self) -> Network:
        """Give what exists."""
        return self._network
