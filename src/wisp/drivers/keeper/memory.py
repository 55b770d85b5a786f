"""Small texts in memory only, behind descriptors that can be handed on."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@contextmanager
def in_memory(name: str, content: bytes) -> Iterator[int]:
    """Give a descriptor of ``content``, which nobody can change any more; closed again at the end.

    Args:
        name: What ``/proc`` shows of it.
        content: What it holds; it is never on disk.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        yield descriptor
    finally:
        os.close(descriptor)


def read_memory(descriptor: int) -> bytes:
    """Give the content of a descriptor made by :func:`in_memory`, wherever it was read to before."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
