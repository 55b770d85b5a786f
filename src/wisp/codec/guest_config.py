"""The configuration line of a guest: ``key=value`` words, values percent-encoded.

The line is a kernel command line or an argument, so no word holds a space and all is ASCII.
``tests/golden/guest_config.json`` is read by these functions' tests and by the guest's own.

>>> encode({"name": "web-1", "ip": "10.0.16.2/20", "motto": "a b"})
'name=web-1 ip=10.0.16.2/20 motto=a%20b'
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

PLAIN = ":/,."
_KEY = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def is_key(text: str) -> bool:
    """Say whether ``text`` may be a key: a lower-case letter, then those, digits, ``_``, ``.``, ``-``."""
    return _KEY.fullmatch(text) is not None


def encode(config: Mapping[str, str]) -> str:
    """Give the line for ``config``, in its order.

    Raises:
        ValueError: A key is not as :func:`is_key` wants it.
    """
    for key in config:
        if not is_key(key):
            raise ValueError(f"configuration key {key!r} must be a letter a-z, then a-z 0-9 _ . -")
    return " ".join(f"{key}={quote(value, safe=PLAIN)}" for key, value in config.items())


def decode(line: str) -> dict[str, str]:
    """Read a line back; words without ``=`` are not ours and left out, the last of equal keys holds.

    Raises:
        ValueError: A value is not properly percent-encoded UTF-8.
    """
    pairs = (word.split("=", 1) for word in line.split() if "=" in word)
    return {key: _decoded(key, value) for key, value in pairs}


def _decoded(key: str, value: str) -> str:
    if _BAD_ESCAPE.search(value):
        raise ValueError(f"the value of {key!r} has a % that is not followed by two hex digits")
    return unquote_to_bytes(value).decode("utf-8")
