"""Addresses with ports and published ports, as people write them.

>>> published("8080:80")
PublishedPort(address='127.0.0.1', port=8080, target_port=80, protocol='tcp')
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from wisp.model.description import PublishedPort

_PUBLISH = re.compile(
    r"(?:(?P<address>.+):)?(?P<port>\d{1,5}):(?P<target>\d{1,5})(?:/(?P<protocol>tcp|udp))?", re.ASCII
)
_PORT_LIMIT = 65_535


def published(text: str) -> PublishedPort:
    """Read ``[ADDRESS:]PORT:TARGET_PORT[/udp]``.

    Raises:
        ValueError: With a sentence.
    """
    match = _PUBLISH.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is not [ADDRESS:]PORT:TARGET_PORT[/udp]; write for example 8080:80")
    return PublishedPort(
        address=_address(match["address"] or "127.0.0.1"),
        port=_port(match["port"]),
        target_port=_port(match["target"]),
        protocol=match["protocol"] or "tcp",
    )


def render_published(port: PublishedPort) -> str:
    """Give the text that :func:`published` reads."""
    suffix = "" if port.protocol == "tcp" else f"/{port.protocol}"
    return f"{render_endpoint(port.address, port.port)}:{port.target_port}{suffix}"


def render_endpoint(address: str, port: int) -> str:
    """Give ``ADDRESS:PORT``, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def named_endpoint(text: str) -> tuple[str, int]:
    """Read ``NAME:PORT``.

    Raises:
        ValueError: With a sentence.
    """
    name, _, port = text.rpartition(":")
    if not name or not port.isdecimal() or not port.isascii():
        raise ValueError(f"{text[:60]!r} is not NAME:PORT")
    return name, _port(port)


def listening_endpoint(text: str) -> str:
    """Read ``ADDRESS:PORT`` and give it back in one spelling.

    Raises:
        ValueError: With a sentence.
    """
    address, port = named_endpoint(text)
    plain = _address(address)
    return render_endpoint(plain, port)


def _port(text: str) -> int:
    if len(text) > 5 or not 1 <= int(text) <= _PORT_LIMIT:
        raise ValueError(f"port {text[:20]} is out of range; a port is 1 to {_PORT_LIMIT}")
    return int(text)


def _address(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(IPv6Address(text[1:-1]))
        except AddressValueError as error:
            raise ValueError(f"{text[:60]!r} is not an IPv6 address in brackets") from error
    try:
        return str(IPv4Address(text))
    except AddressValueError as error:
        raise ValueError(f"{text[:60]!r} is not an IPv4 address, nor an IPv6 address in brackets") from error
