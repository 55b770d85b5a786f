"""What an instance stands on."""

from wisp.model.instance import InstanceSpec
from wisp.model.network import Network


class Ground:
    """Which taps and namespaces exist as planned: what an instance stands on.

    Args:
        wanted: The planned network.
        seen: The one that is.
    """

    def __init__(self, wanted: Network, seen: Network) -> None:
        self._taps = {tap.name for tap in wanted.taps & seen.taps}
        self._namespaces = {each.name for each in wanted.namespaces & seen.namespaces}

    def lacking(self, spec: InstanceSpec) -> str:
        """Say what has gone from under an instance; empty when all is there."""
        if spec.namespace not in self._namespaces:
            return f"its namespace {spec.namespace} is gone or changed"
        if spec.kind.owns_tap and spec.name not in self._taps:
            return "its tap is gone or changed"
        return ""
