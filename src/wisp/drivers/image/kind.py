"""What a foreign file is: something to boot, or something whose files are a container's."""

import tarfile
from pathlib import Path

from wisp.drivers.image.bounded import Data, at
from wisp.drivers.image.protocol import opened
from wisp.model.image import Container

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_LAYOUT_MARK = "oci-layout"


def container_form(file: Path) -> Container | None:
    """Say which form of container image a file or folder is, ``None`` for none.

    Raises:
        PermanentDriverError: It cannot be read.
    """
    if file.is_dir():
        return Container.OCI if (file / _LAYOUT_MARK).is_file() else Container.ROOT_FILE_SYSTEM
    with opened(file) as content:
        if not _may_be_archive(content):
            return None
    try:
        with tarfile.open(file) as archive:
            is_layout = any(member.name.removeprefix("./") == _LAYOUT_MARK for member in archive)
    except (tarfile.TarError, OSError, EOFError):
        return None
    return Container.OCI if is_layout else Container.ROOT_FILE_SYSTEM


def _may_be_archive(content: Data) -> bool:
    return at(content, 257, 5) == b"ustar" or any(at(content, 0, len(magic)) == magic for magic in _COMPRESSED)
