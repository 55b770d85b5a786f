"""Placeholders in commands and configuration; :data:`MEANINGS` lists them.

>>> names("http://${address.web-1}/${here}")
[('address', 'web-1'), ('here', '')]
"""

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_UNCLOSED = re.compile(r"\$\{[^}]*$")
NAMED = ("address", "address6", "host", "own", "secret")
BARE = ("here", "python")
OWN = ("name", "address", "prefix", "netmask", "gateway", "mac", "address6", "gateway6")
MEANINGS = {
    "${address.NAME}": "IPv4 address of an instance or device",
    "${address6.NAME}": "IPv6 address of an instance or device",
    "${host.NAME}": "host that an instance runs on, or that a device attaches to",
    "${own.FACT}": "of the instance itself: " + ", ".join(f"`{fact}`" for fact in OWN),
    "${secret.NAME}": "value of a secret, read when the instance starts; not in commands",
    "${here}": "folder of the description, absolute",
    "${python}": "the Python that runs Wisp, on the machine of the instance; only in commands",
}


def names(text: str) -> list[tuple[str, str]]:
    """Give ``(word, name)`` of each placeholder in ``text``; the name is empty for bare words."""
    return [_split(match[1]) for match in _PLACEHOLDER.finditer(text)]


def is_unclosed(text: str) -> bool:
    """Say whether ``text`` holds a ``${`` without its brace."""
    return _UNCLOSED.search(text) is not None


def fill(text: str, value: Callable[[str, str], str | None]) -> str:
    """Replace each placeholder by ``value(word, name)``; ``None`` leaves it as it is."""

    def replaced(match: re.Match[str]) -> str:
        given = value(*_split(match[1]))
        return match[0] if given is None else given

    return _PLACEHOLDER.sub(replaced, text) if "${" in text else text


def _split(inside: str) -> tuple[str, str]:
    word, _, name = inside.partition(".")
    return word, name
