"""What a foreign file is: something to boot, a root file system, a wasm module, or none of these."""

import tarfile
from pathlib import Path

from wisp.drivers.image.bounded import Data, at
from wisp.drivers.image.protocol import NotBootable, detect, opened
from wisp.model.image import Family
from wisp.primitives.values import frozen

OCI_LAYOUT, ROOT_FILE_SYSTEM = "OCI image", "root file system"
WASM_MODULE, WASM_COMPONENT = "wasm module", "wasm component"
OTHER = "data"
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")


@frozen
class FileKind:
    """What a file is.

    Attributes:
        what: A boot protocol, or one of the constants of this module.
        family: Whose operating system it is; empty for none.
        why_not_bootable: Why it is not booted; empty where it is.
    """

    what: str
    family: str = ""
    why_not_bootable: str = ""


def what_is(file: Path) -> FileKind:
    """Say what a file is."""
    with opened(file) as content:
        if (wasm := _wasm(content)) is not None:
            return FileKind(what=wasm)
        if _may_be_archive(content) and (archive := _archive(file)) is not None:
            return FileKind(what=archive)
        try:
            boot = detect(content)
        except NotBootable as error:
            return FileKind(what=OTHER, why_not_bootable=str(error))
    return FileKind(what=boot.protocol, family="" if boot.family is Family.NONE else boot.family)


def _wasm(content: Data) -> str | None:
    if at(content, 0, 4) != b"\0asm":
        return None
    return WASM_MODULE if at(content, 4, 4) == b"\1\0\0\0" else WASM_COMPONENT


def _may_be_archive(content: Data) -> bool:
    return at(content, 257, 5) == b"ustar" or any(at(content, 0, len(magic)) == magic for magic in _COMPRESSED)


def _archive(file: Path) -> str | None:
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if member.name.removeprefix("./") == "oci-layout":
                    return OCI_LAYOUT
    except (tarfile.TarError, OSError, EOFError):
        return None
    return ROOT_FILE_SYSTEM
