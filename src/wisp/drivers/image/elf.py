"""Appends content to a guest's ELF file as one more loadable segment, without any compiler.

The guest's linker script left a spare program header (``PT_NULL``) and a 64-byte header that is found by its magic;
``guest/src/content.rs`` is the other side.
"""

import struct

from wisp.primitives.errors import PermanentDriverError

MAGIC = b"WISPIMG1"
CONTENT_ADDRESS = 0x40_0000
PAGE_BYTES = 4096
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_IMAGE_HEADER = struct.Struct("<8sQQQ")
_PT_NULL, _PT_LOAD = 0, 1
_READABLE = 4


def with_content(program: bytes, options: bytes, archive: bytes) -> bytes:
    """Give ``program`` with ``options`` and ``archive`` behind it; the same bytes for the same inputs.

    Args:
        program: A guest's ELF file.
        options: Configuration line that the guest reads before its own.
        archive: See :mod:`wisp.drivers.image.archive`; empty for none.

    Raises:
        PermanentDriverError: The file is not a guest of this Wisp.
    """
    if not options and not archive:
        return program
    image = bytearray(program)
    # The magic alone also stands in the guest's code, as the value it compares with.
    place = image.find(MAGIC + CONTENT_ADDRESS.to_bytes(8, "little"))
    if place < 0 or image[:4] != b"\x7fELF":
        raise PermanentDriverError("the file is not a Wisp guest; build it with `make guest`", driver="image")
    _IMAGE_HEADER.pack_into(image, place, MAGIC, CONTENT_ADDRESS, len(options), len(archive))
    image.extend(bytes(-len(image) % PAGE_BYTES))
    length = len(options) + len(archive)
    segment = (_PT_LOAD, _READABLE, len(image), CONTENT_ADDRESS, CONTENT_ADDRESS, length, length, PAGE_BYTES)
    _PROGRAM_HEADER.pack_into(image, _spare_header(image), *segment)
    return bytes(image + options + archive)


def loaded_bytes(image: bytes) -> int:
    """Give the memory that a guest's segments take [byte], whole pages; the start of the file is enough."""
    segments = (_PROGRAM_HEADER.unpack_from(image, offset) for offset in _program_headers(image))
    # Type, flags, offset, two addresses, size in the file, size in memory, alignment.
    return sum(-(-segment[6] // PAGE_BYTES) * PAGE_BYTES for segment in segments if segment[0] == _PT_LOAD)


def _spare_header(image: bytearray) -> int:
    """Give the offset of the first unused program header."""
    for offset in _program_headers(image):
        if _PROGRAM_HEADER.unpack_from(image, offset)[0] == _PT_NULL:
            return offset
    raise PermanentDriverError("the guest has no room for content; it has some already", driver="image")


def _program_headers(image: bytes | bytearray) -> range:
    """Give the offsets of all program headers."""
    header = _ELF_HEADER.unpack_from(image)
    offset, size, count = header[5], header[9], header[10]
    return range(offset, offset + size * count, size)
