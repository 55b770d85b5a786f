"""Writes what crosses an interface to standard output as pcap, for `tcpdump -r -` or Wireshark to read.

Usage: wisp exec HOST -- python3 examples/capture.py INTERFACE [COUNT] | tcpdump -nr -

tcpdump itself cannot capture inside a cloud: it insists on changing its groups, which a user namespace forbids.
"""

import contextlib
import socket
import struct
import sys
import time

ALL_PROTOCOLS = 3
ETHERNET = 1
SNAP_BYTES = 1 << 18


def main() -> None:
    interface, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    tap.bind((interface, 0))
    write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP_BYTES, ETHERNET))
    seen = 0
    while not count or seen < count:
        frame = tap.recv(SNAP_BYTES)
        seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
        write(struct.pack("<IIII", seconds, microseconds, len(frame), len(frame)) + frame)
        seen += 1


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
