"""A folder as one archive, the same bytes for the same content: names in order, without owners and times."""

import stat
import tarfile
from collections.abc import Callable
from io import RawIOBase
from pathlib import Path
from typing import Any


def pack(folder: Path, write: Callable[[bytes], object]) -> None:
    """Write a folder as a tar archive; devices, pipes and sockets are left out.

    Raises:
        OSError: Something in it cannot be read.
    """
    with tarfile.open(fileobj=_Sink(write), mode="w|", format=tarfile.PAX_FORMAT, dereference=False) as archive:
        archive.add(folder, arcname=".", filter=_plain)


class _Sink(RawIOBase):
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: Any) -> int:
        self._write(bytes(data))
        return len(data)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = stat.S_IMODE(member.mode)
    return member
