"""Placeholders in commands and configuration.

=====================  ===========================================================  ==============
placeholder            stands for                                                   replaced by
=====================  ===========================================================  ==============
``${address.NAME}``    address of an instance or device                             planning
``${host.NAME}``       host of an instance, or host that a device attaches to       planning
``${secret.NAME}``     value of a secret                                            the driver
``${here}``            folder of the description, absolute                          the codec
``${python}``          the Python that runs Wisp on the machine of the instance     the driver
=====================  ===========================================================  ==============

>>> names("http://${address.web-1}/${here}")
[('address', 'web-1'), ('here', '')]
"""

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_UNCLOSED = re.compile(r"\$\{[^}]*$")
NAMED = ("address", "host", "secret")
BARE = ("here", "python")


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
