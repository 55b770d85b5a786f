"""Names of network interfaces: the kernel takes at most 15 characters."""

from base64 import b32encode
from hashlib import sha256

LIMIT = 15
_LETTER = {"link": "l", "tap": "t", "device": "d", "process": "p"}


def interface(what: str, name: str) -> str:
    """Give the interface for a ``link``, ``tap``, ``device`` or ``process`` of this name.

    Short names stay readable; of longer ones the beginning and a digest of 40 bits.

    >>> interface("tap", "web")
    't-web'
    """
    room = LIMIT - 2
    if len(name) > room:
        digest = b32encode(sha256(name.encode()).digest()).decode().lower()[:8]
        name = f"{name[: room - 9]}-{digest}"
    return f"{_LETTER[what]}-{name}"
