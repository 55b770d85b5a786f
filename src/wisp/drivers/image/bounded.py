"""Reading a file that nobody vouches for: every look is inside of it, or gives nothing; and its ELF structures."""

import struct
from collections.abc import Iterator
from itertools import chain, islice
from mmap import mmap

from wisp.primitives.values import frozen

Data = bytes | mmap

MOST_HEADERS = 256
MOST_SECTIONS = 4096
MOST_NOTE_BYTES = 64 << 10
MOST_NOTE_PLACES = 16
MOST_NAME_BYTES = 64
_PT_NOTE, _SHT_NOTE = 4, 7
_X86_MACHINES = (3, 62)


@frozen
class Note:
    """A note of an ELF file: who wrote it, of which type, and what it says."""

    owner: bytes
    type: int
    content: bytes


def at(data: Data, offset: int, length: int) -> bytes:
    """Give ``length`` bytes at ``offset``; empty where not all of them are inside."""
    if offset < 0 or length < 0 or offset + length > len(data):
        return b""
    return data[offset : offset + length]


def numbers(data: Data, offset: int, form: str) -> tuple[int, ...]:
    """Give the numbers packed at ``offset``; empty where not all of them are inside."""
    packed = struct.Struct(form)
    found = at(data, offset, packed.size)
    return packed.unpack(found) if found else ()


def number(data: Data, offset: int, form: str) -> int:
    """Give the one number packed at ``offset``; 0 where it is not inside."""
    return next(iter(numbers(data, offset, form)), 0)


class Elf:
    """A little-endian x86 ELF file.

    Args:
        data: The whole file, or as much of it as there is.
    """

    def __init__(self, data: Data) -> None:
        self._data = data
        self.is_64_bit = at(data, 4, 1) == b"\2"

    @staticmethod
    def is_one(data: Data) -> bool:
        """Whether a file is such an ELF file."""
        is_little_endian = at(data, 0, 4) == b"\x7fELF" and at(data, 4, 2) in (b"\1\1", b"\2\1")
        return is_little_endian and number(data, 18, "<H") in _X86_MACHINES

    def notes(self) -> Iterator[Note]:
        """Give all notes, of segments first; one that does not end inside its segment ends that."""
        places = chain(self._note_segments(), self._note_sections())
        for offset, size in islice(places, MOST_NOTE_PLACES):
            yield from _notes(at(self._data, offset, min(size, MOST_NOTE_BYTES, max(0, len(self._data) - offset))))

    def section_names(self) -> Iterator[bytes]:
        """Give the names of all sections."""
        names = next((each for index, each in enumerate(self._sections()) if index == self._names_index()), None)
        if names is None:
            return
        for name, *_ in self._sections():
            text = at(self._data, names[2] + name, min(MOST_NAME_BYTES, len(self._data) - names[2] - name))
            yield text.partition(b"\0")[0]

    def _note_segments(self) -> Iterator[tuple[int, int]]:
        start = number(self._data, 32, "<Q") if self.is_64_bit else number(self._data, 28, "<I")
        size, count = numbers(self._data, 54 if self.is_64_bit else 42, "<HH") or (0, 0)
        # Type, then: flags, offset, addresses, size in the file (64 bit); offset, addresses, size (32 bit).
        entry = "<IIQQQQ" if self.is_64_bit else "<IIIII"
        for index in range(min(count, MOST_HEADERS)):
            header = numbers(self._data, start + index * size, entry)
            if header and header[0] == _PT_NOTE:
                yield (header[2], header[5]) if self.is_64_bit else (header[1], header[4])

    def _note_sections(self) -> Iterator[tuple[int, int]]:
        return ((offset, size) for _, type_, offset, size in self._sections() if type_ == _SHT_NOTE)

    def _sections(self) -> Iterator[tuple[int, int, int, int]]:
        """Give place of the name, type, offset and size of each section."""
        start = number(self._data, 40, "<Q") if self.is_64_bit else number(self._data, 32, "<I")
        size, count = numbers(self._data, 58 if self.is_64_bit else 46, "<HH") or (0, 0)
        entry = "<IIQQQQ" if self.is_64_bit else "<IIIIII"
        for index in range(min(count, MOST_SECTIONS)):
            if header := numbers(self._data, start + index * size, entry):
                yield header[0], header[1], header[4], header[5]

    def _names_index(self) -> int:
        return number(self._data, 62 if self.is_64_bit else 50, "<H")


def _notes(segment: bytes) -> Iterator[Note]:
    offset = 0
    while header := numbers(segment, offset, "<III"):
        owner_bytes, content_bytes, type_ = header
        owner = at(segment, offset + 12, owner_bytes)
        content = at(segment, offset + 12 + _whole_words(owner_bytes), content_bytes)
        if len(owner) < owner_bytes or len(content) < content_bytes:
            return
        yield Note(owner=owner.rstrip(b"\0"), type=type_, content=content)
        offset += 12 + _whole_words(owner_bytes) + _whole_words(content_bytes)


def _whole_words(size: int) -> int:
    return -(-size // 4) * 4
