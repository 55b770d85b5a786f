"""A small DNS client, run inside a cloud: ``dns.py [--tcp] [--flood N] NAME TYPE``; prints the answer as JSON."""

import json
import socket
import struct
import sys
import time

TYPES = {"A": 1, "NS": 2, "SOA": 6, "AAAA": 28, "SRV": 33}
SERVER = ("169.254.53.53", 53)


def query(name: str, kind: str, number: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    opt = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 1) + labels + b"\0" + struct.pack(">2H", TYPES[kind], 1) + opt


def name_at(data: bytes, at: int) -> tuple[str, int]:
    labels, end = [], None
    while data[at]:
        if data[at] >= 0xC0:
            end, at = end or at + 2, (data[at] & 0x3F) << 8 | data[at + 1]
            continue
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return ".".join(labels), end or at + 1


def value(kind: int, data: bytes, at: int, length: int) -> object:
    if kind == 1:
        return socket.inet_ntop(socket.AF_INET, data[at : at + 4])
    if kind == 28:
        return socket.inet_ntop(socket.AF_INET6, data[at : at + 16])
    if kind == 33:
        return [*struct.unpack_from(">3H", data, at), name_at(data, at + 6)[0]]
    return data[at : at + length].hex()


def read(data: bytes) -> dict[str, object]:
    _, flags, questions, *counts = struct.unpack_from(">6H", data)
    at = 12
    for _ in range(questions):
        at = name_at(data, at)[1] + 4
    sections = []
    for count in counts:
        section = []
        for _ in range(count):
            owner, at = name_at(data, at)
            kind, _, ttl, length = struct.unpack_from(">HHIH", data, at)
            section.append([owner, kind, ttl, value(kind, data, at + 10, length)])
            at += 10 + length
        sections.append(section)
    answers, authority, additional = sections
    text = bytes.fromhex(next((each[3] for each in additional if each[1] == 41), "")).decode(errors="replace")
    more = [each for each in additional if each[1] != 41]
    return {"code": flags & 15, "aa": bool(flags & 0x400), "answers": answers, "authority": authority,
            "additional": more, "reason": text[6:]}  # fmt: skip


def ask(name: str, kind: str, *, tcp: bool) -> bytes:
    if not tcp:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(query(name, kind, 7), SERVER)
            return client.recv(4096)
    with socket.create_connection(SERVER, timeout=5) as client:
        message = query(name, kind, 7)
        for byte in struct.pack(">H", len(message)) + message:
            client.sendall(bytes([byte]))
        stream = client.makefile("rb")
        return stream.read(struct.unpack(">H", stream.read(2))[0])


def flood(name: str, count: int) -> int:
    """Ask for so many names that do not exist, and count the answers."""
    answers = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        for number in range(count):
            client.sendto(query(f"x{number}.{name}", "A", number & 0xFFFF), SERVER)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                client.recv(4096)
                answers += 1
            except BlockingIOError:
                time.sleep(0.01)
    return answers


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    if "--flood" in sys.argv:
        print(flood(words[0], int(words[1])))
    else:
        begin = time.perf_counter()
        answer = read(ask(words[0], words[1], tcp="--tcp" in sys.argv))
        print(json.dumps(answer | {"ms": (time.perf_counter() - begin) * 1000}))
