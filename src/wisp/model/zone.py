"""The cloud's names: what its DNS servers answer."""

from collections.abc import Mapping
from dataclasses import field

from wisp.primitives.values import frozen

# Link-local (RFC 3927), so no cloud's own addresses; every host answers to it, so the nearest one does.
RESOLVER_ADDRESS = "169.254.53.53"
# Where the user-space NAT answers for the names of the outside (slirp4netns(1)).
NAT_RESOLVER_ADDRESS = "10.0.2.3"
RESOLVER_PORT = 53


@frozen
class NamedInstance:
    """Something that has an address.

    Attributes:
        host: Where it is, or where a device is attached.
        address6: ``None`` for none.
    """

    name: str
    host: str
    address: str
    address6: str | None = None


@frozen
class ZoneName:
    """A name, relative to the zone, and what it stands for; whoever asks is told the nearest.

    Attributes:
        services: Service and protocol (RFC 2782), as ``_http._tcp``, with the port.
    """

    name: str
    instances: tuple[str, ...]
    services: tuple[tuple[str, int], ...] = ()


@frozen
class Zone:
    """All names of a cloud.

    Attributes:
        name: Without the last dot.
        ttl_s: How long an answer may be kept [s].
        upstreams: Name servers for all other names, as ``ADDRESS:PORT``.
        servers: Host → the network namespace it answers in.
        delays_us: From host to host [us].
    """

    name: str
    ttl_s: int
    upstreams: tuple[str, ...] = ()
    servers: Mapping[str, str] = field(default_factory=dict)
    instances: tuple[NamedInstance, ...] = ()
    names: tuple[ZoneName, ...] = ()
    delays_us: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def zone_of(cloud: str, declared: str | None) -> str:
    """Give the zone of a cloud: the one it says, or its name under ``internal`` (reserved for private use by ICANN)."""
    return declared or f"{cloud}.internal"
