"""A folder of static content as the bytes that a guest serves from.

``u32`` count, then per file, sorted by path: the lengths of its four texts (path, type, etag, last-modified), offset
and length of its body from the start of the archive (six ``u32``), and the texts; then all bodies. Little-endian.
"""

import hashlib
import struct
from email.utils import formatdate
from pathlib import Path, PurePath

from wisp.primitives.errors import PermanentDriverError

MOST_BYTES = 256 << 20
# The same content gives the same image wherever and whenever it was checked out: no file times go in.
LAST_MODIFIED = formatdate(946_684_800, usegmt=True)
# Our own short table: the machine's would make images differ from machine to machine.
CONTENT_TYPES = {
    ".css": "text/css",
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


def files_of(folder: Path) -> dict[str, bytes]:
    """Give the content of a folder by request path, as ``/index.html``; hidden files are left out.

    Raises:
        PermanentDriverError: It is no folder, is too large, or holds a file that cannot be read, leads out of the
            folder, or has a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise PermanentDriverError(f"{folder}: no such folder of content", driver="image", operation="build")
    found: dict[str, bytes] = {}
    total = 0
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise PermanentDriverError(f"{path} leads out of the content; copy the file in", driver="image")
        total += path.stat().st_size
        if total > MOST_BYTES:
            raise PermanentDriverError(f"{folder} holds more than {MOST_BYTES >> 20} MiB", driver="image")
        found[_request_path(relative)] = _body(path)
    return found


def _request_path(relative: Path) -> str:
    path = f"/{relative.as_posix()}"
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise PermanentDriverError(f"the name {path!r} is not UTF-8; rename the file", driver="image") from error
    return path


def _body(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PermanentDriverError(
            f"{path}: {error.strerror}; make it readable, or take it out", driver="image"
        ) from error


def pack(files: dict[str, bytes]) -> bytes:
    """Give the archive of files by request path; the same bytes for the same files."""
    entries = [(path.encode(), _texts(path, files[path]), files[path]) for path in sorted(files, key=str.encode)]
    offset = 4 + sum(24 + len(path) + sum(map(len, texts)) for path, texts, _ in entries)
    index, bodies = [struct.pack("<I", len(entries))], []
    for path, texts, body in entries:
        index.append(struct.pack("<6I", len(path), *map(len, texts), offset, len(body)))
        index += [path, *texts]
        bodies.append(body)
        offset += len(body)
    return b"".join(index + bodies)


def _texts(path: str, body: bytes) -> tuple[bytes, bytes, bytes]:
    """Give content type, etag and last-modified of a file."""
    kind = CONTENT_TYPES.get(PurePath(path).suffix.lower(), "application/octet-stream")
    charset = "; charset=utf-8" if kind.startswith("text/") or kind.endswith(("javascript", "json")) else ""
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return f"{kind}{charset}".encode(), etag.encode(), LAST_MODIFIED.encode()
