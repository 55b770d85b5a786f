"""A stream of datagrams and what becomes of it on its way; a program of its own, without the rest of Wisp.

``python -I stream.py send ADDRESS PORT COUNT PER_SECOND BYTES`` sends numbered datagrams with the time in them.
``python -I stream.py receive PORT`` prints one JSON object when none has come for a while: ``delays_us`` of all that
came, ``received``, ``overflowed`` (those that the program was too slow for), ``first_ns`` and
``last_ns`` of arrival.
"""

import json
import socket
import struct
import sys
import time

_STAMP = struct.Struct("=QQ")
_COUNT = struct.Struct("=I")
_SO_RXQ_OVFL = 40
_BUFFER_BYTES = 8 << 20
_PATIENCE_S, _LAST_S = 10.0, 1.0
# Below that, to sleep takes longer than to wait.
_LEAST_SLEEP_S = 0.0002


def send(address: str, port: int, count: int, per_second: int, length_bytes: int) -> None:
    """Send so many datagrams at an even pace."""
    filling = bytes(length_bytes - _STAMP.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.connect((address, port))
        begin = time.perf_counter()
        for number in range(count):
            while (early_s := begin + number / per_second - time.perf_counter()) > 0:
                if early_s > _LEAST_SLEEP_S:
                    time.sleep(early_s - _LEAST_SLEEP_S / 2)
            sending.send(_STAMP.pack(number, time.time_ns()) + filling)


def receive(port: int) -> dict[str, object]:
    """Take what comes until nothing more does."""
    delays_us: list[float] = []
    overflowed, arrivals_ns = 0, [0, 0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        receiving.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        receiving.bind(("0.0.0.0", port))  # noqa: S104 - inside of the cloud
        receiving.settimeout(_PATIENCE_S)
        room = socket.CMSG_SPACE(_COUNT.size)
        while True:
            try:
                data, told, _, _ = receiving.recvmsg(2048, room)
            except TimeoutError:
                break
            at_ns = time.time_ns()
            if not delays_us:
                receiving.settimeout(_LAST_S)
            for _, _, value in told:
                (overflowed,) = _COUNT.unpack(value)
            delays_us.append((at_ns - _STAMP.unpack_from(data)[1]) / 1000)
            arrivals_ns = [arrivals_ns[0] or at_ns, at_ns]
    return {
        "delays_us": delays_us,
        "received": len(delays_us),
        "overflowed": overflowed,
        "first_ns": arrivals_ns[0],
        "last_ns": arrivals_ns[1],
    }


def main() -> None:
    """Do what the arguments say."""
    what, *rest = sys.argv[1:]
    if what == "receive":
        print(json.dumps(receive(int(rest[0]))))
    else:
        address, *numbers = rest
        send(address, *map(int, numbers))


if __name__ == "__main__":
    main()
