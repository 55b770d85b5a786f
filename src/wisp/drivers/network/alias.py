"""What an interface is for, written on the interface itself (``ip link`` shows it as its alias).

The kernel keeps it for us, so a controller that knows nothing finds everything again.
"""

from typing import Literal

import msgspec

from wisp.model.description import LinkShape

_Shape = tuple[int | None, int, int, int, int]


class LinkAlias(msgspec.Struct, frozen=True, array_like=True, tag="link"):
    """On one end of a link.

    Attributes:
        link: Name of the link.
        end: Which end this is.
        values: Shape of what leaves here, once it is in force; ``None`` while it is being put in force.
    """

    link: str
    end: Literal["a", "b"]
    values: _Shape | None = None

    @property
    def shape(self) -> LinkShape | None:
        """Shape of what leaves here; ``None`` while it is being put in force."""
        if self.values is None:
            return None
        rate_bps, delay_us, jitter_us, loss_ppm, queue_packets = self.values
        return LinkShape(
            rate_bps=rate_bps, delay_us=delay_us, jitter_us=jitter_us, loss_ppm=loss_ppm, queue_packets=queue_packets
        )


class TapAlias(msgspec.Struct, frozen=True, array_like=True, tag="tap"):
    """On a tap.

    Attributes:
        tap: Name of the instance.
        mac: The guest's hardware address, where it is entered for good.
        gateway: The host's address, where the tap itself has none.
    """

    tap: str
    mac: str | None = None
    gateway: str | None = None


def link_alias(link: str, end: Literal["a", "b"], shape: LinkShape | None = None) -> str:
    """Give the alias of one end of a link."""
    values = None
    if shape is not None:
        values = (shape.rate_bps, shape.delay_us, shape.jitter_us, shape.loss_ppm, shape.queue_packets)
    return msgspec.json.encode(LinkAlias(link, end, values)).decode()


def tap_alias(tap: str, mac: str | None, gateway: str | None) -> str:
    """Give the alias of a tap."""
    return msgspec.json.encode(TapAlias(tap, mac, gateway)).decode()


def read_alias(alias: str) -> LinkAlias | TapAlias | None:
    """Give what an interface is for; ``None`` where it is none of ours."""
    try:
        return msgspec.json.decode(alias, type=LinkAlias | TapAlias)
    except msgspec.DecodeError:
        return None
