"""Which links are down and which hosts are silent: found by looking, whatever was ordered."""

from wisp.model.network import Network
from wisp.model.plan import Plan
from wisp.primitives.time import Duration, Instant

HOST, LINK = "host/", "link/"


class Discovery:
    """What became of the hosts and links of a plan.

    A host is silent while its namespace is not there, and down once it has been so for as long as its cloud declares.
    One that was never seen is not silent: it is only just being made.
    """

    def __init__(self) -> None:
        self.links_down: frozenset[str] = frozenset()
        self._met: set[str] = set()
        self._silent_since: dict[str, Instant] = {}

    def meet(self, network: Network) -> None:
        """Take note of the hosts of an earlier time: those that are not seen now are silent."""
        self._met |= _hosts(network)

    def look(self, network: Network, plan: Plan, *, now: Instant) -> None:
        """Take in what was seen now."""
        seen, planned = _hosts(network), _hosts(plan.network)
        self._met = (self._met | seen) & planned
        self._silent_since = {host: self._silent_since.get(host, now) for host in sorted(self._met - seen)}
        self.links_down = frozenset(link.name.removeprefix(LINK) for link in network.links if link.is_down)

    def hosts_down(self, detection: Duration, *, now: Instant) -> frozenset[str]:
        """Give the hosts that have been silent for ``detection`` or longer."""
        return frozenset(host for host, since in self._silent_since.items() if since + detection <= now)

    def due(self, detection: Duration, *, now: Instant) -> tuple[Instant, ...]:
        """Give when each host that is silent will count as down."""
        ends = (since + detection for since in self._silent_since.values())
        return tuple(at for at in ends if at > now)


def _hosts(network: Network) -> set[str]:
    return {each.name.removeprefix(HOST) for each in network.namespaces if each.name.startswith(HOST)}
