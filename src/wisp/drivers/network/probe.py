"""``python -m wisp.drivers.network.probe``: proves, inside a cloud's namespaces, that links can be delayed there.

Leaves a rule behind in the namespace it runs in, which is to be thrown away. Says what is missing and exits with 1.
"""

import sys

from wisp.drivers.network.place import has_ipv6
from wisp.drivers.network.xtables import IPV4_TABLE, IPV6_TABLE, Passage
from wisp.primitives.errors import WispError


def main() -> None:
    """Write one rule of each sort."""
    try:
        for table in (IPV4_TABLE, IPV6_TABLE)[: 1 + has_ipv6()]:
            with table.open_socket() as inside:
                table.write(inside, {Passage("lo", leaving=False): 1, Passage("lo", leaving=True): 2})
    except (OSError, WispError) as error:
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
