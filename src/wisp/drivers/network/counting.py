"""Reads the counters of namespaces: ``python -m wisp.drivers.network.counting``, a program of its own.

Reads a JSON object from name to inherited descriptor of each namespace, and writes one line of JSON: name, then
interface, to :class:`Counters`.
"""

import os
import sys

from wisp.codec import stored
from wisp.drivers.network.contents import read_counters
from wisp.drivers.network.place import home, open_place


def main() -> None:
    """Read what standard input names."""
    back_to = home()
    found = {}
    for name, descriptor in stored.decode(sys.stdin.buffer.read(), dict[str, int]).items():
        place = open_place(descriptor, back_to)
        found[name] = read_counters(place.netlink)
        place.close()
    os.close(back_to)
    sys.stdout.buffer.write(stored.encode(found) + b"\n")


if __name__ == "__main__":
    main()
