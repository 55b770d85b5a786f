"""Tells an aggregator to go while measurements keep coming: ``farewell_to_sensors.py ADDRESS INTERFACE MAC``.

Says when the farewell was said.
"""

import os
import socket
import sys
import time

from wisp.drivers.network.farewell import say_farewell

ADDRESS, INTERFACE, MAC = sys.argv[1:]
POST_21_TO_M_A = b"\x50\x02\x00\x01\xb1m\x01a\xff21"
GUEST_ENDS_WITHIN_S = 1.0


def main() -> None:
    """Send measurements before the farewell, and for some time after."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sensor:
        sensor.settimeout(3)
        sensor.sendto(POST_21_TO_M_A, (ADDRESS, 5683))
        assert sensor.recv(100)[1] == 0x44, "2.04, changed"
        say_farewell(own, own, INTERFACE, MAC)
        print(time.time())
        end = time.monotonic() + GUEST_ENDS_WITHIN_S
        while time.monotonic() < end:
            sensor.sendto(POST_21_TO_M_A, (ADDRESS, 5683))
            time.sleep(0.02)


main()
