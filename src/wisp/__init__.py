"""Wisp: lightweight clouds at the network edge.

One YAML file declares sites, hosts, links, services and devices; Wisp plans where everything goes, boots
each network function as a sealed unikernel and keeps it running. Start with :class:`wisp.Cloud`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wisp.assembly.cloud import Cloud

__version__ = "0.1.0"
__all__ = ["Cloud", "__version__"]


def __getattr__(name: str) -> Any:
    """Give :class:`Cloud` on first use: importing a room must not import the whole house."""
    if name == "Cloud":
        from wisp.assembly.cloud import Cloud

        return Cloud
    raise AttributeError(f"module 'wisp' has no attribute {name!r}")
