"""Small files that look like other people's images."""

import struct


def note(owner: bytes, type_: int, content: bytes) -> bytes:
    padded = owner + b"\0"
    head = struct.pack("<III", len(padded), len(content), type_)
    return head + padded + bytes(-len(padded) % 4) + content + bytes(-len(content) % 4)


def elf64(*notes: bytes, body: bytes = b"", sections: tuple[str, ...] = ()) -> bytes:
    """Give a 64-bit x86 ELF file with one note segment, then ``body``, then empty sections of those names."""
    said = b"".join(notes)
    names = b"\0" + b"".join(name.encode() + b"\0" for name in sections) + b".shstrtab\0"
    names_at = 64 + 56 + len(said) + len(body)
    table_at = names_at + len(names)
    places = [names.find(name.encode() + b"\0") for name in (*sections, ".shstrtab")]
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1" + bytes(9), 2, 62, 1, 0, 64, table_at, 0, 64, 56, 1, 64, len(places), len(sections),
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(said), len(said), 4)
    table = b"".join(struct.pack("<IIQQQQIIQQ", place, 1, 0, 0, names_at, len(names), 0, 0, 1, 0) for place in places)
    return head + segment + said + body + names + table


def elf32(*notes: bytes, body: bytes = b"") -> bytes:
    said = b"".join(notes)
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1" + bytes(9), 2, 3, 1, 0, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    segment = struct.pack("<IIIIIIII", 4, 84, 0, 0, len(said), len(said), 4, 4)
    return head + segment + said + bytes(-len(said) % 4) + body


def solo5(target: int) -> bytes:
    return note(b"Solo5", 0x31494241, struct.pack("<IIII", target, 2, 0, 0))


def multiboot(flags: int = 0) -> bytes:
    return struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)


def multiboot2() -> bytes:
    return struct.pack("<IIII", 0xE85250D6, 0, 16, -(0xE85250D6 + 16) & 0xFFFFFFFF)


PVH = note(b"Xen", 18, struct.pack("<I", 0x100000))
XEN_VERSION = note(b"Xen", 5, b"xen-3.0\0")


def sector(**parts: bytes) -> bytes:
    """Give a boot sector and the one behind it; ``parts`` are bytes by place, as ``at446``."""
    image = bytearray(1024)
    for place, content in ({"at510": b"\x55\xaa"} | parts).items():
        start = int(place.removeprefix("at"))
        image[start : start + len(content)] = content
    return bytes(image)


PARTITION = b"\x80" + bytes(3) + b"\x83" + bytes(11)
LINUX = sector(at514=b"HdrS")
DISK = sector(at446=PARTITION)


def qcow2(*, backing: int = 0, features: int = 0) -> bytes:
    return b"QFI\xfb" + struct.pack(">IQ", 3, backing) + bytes(56) + struct.pack(">Q", features) + bytes(432)
