"""Keeps files that Wisp did not build, by their digest: whole, unchanged, and told what they are."""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from wisp.drivers.image.kind import what_is
from wisp.model.instance import ImageRef
from wisp.primitives.errors import PermanentDriverError, TransientDriverError

FORMAT = 1
CHUNK_BYTES = 1 << 20
Write = Callable[[bytes], object]


class FileManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a foreign file is.

    Attributes:
        format: Version of this form.
        digest: ``sha256:`` and the hex digest of the file, or of a folder's archive.
        name: What it was called when it was taken in.
        what: As ``pvh``, ``root file system`` or ``wasm module``.
        family: Whose operating system it is; empty where that says nothing.
        size_bytes: Size [byte].
    """

    format: int = FORMAT
    digest: str
    name: str
    what: str
    family: str
    size_bytes: int


class FileStore:
    """Foreign files in a folder, each beside its manifest; a folder is kept as an archive.

    Args:
        directory: Made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._checked: dict[Path, tuple[int, ...]] = {}

    def digest(self, source: Path) -> str:
        """Give the digest that :meth:`take_in` would give; nothing is written.

        Raises:
            PermanentDriverError: It cannot be read.
        """
        return _copied(source, lambda _: None)

    def take_in(self, source: Path, *, name: str = "") -> FileManifest:
        """Copy a file or folder and give its manifest; one that is there already is left alone.

        Raises:
            PermanentDriverError: It cannot be read.
            TransientDriverError: The disk is full.
        """
        there = self._directory / f"{self.digest(source).removeprefix('sha256:')}.json"
        if there.exists() and there.with_suffix("").exists() and (found := _read(there)).name == (name or source.name):
            return found
        unfinished = self._directory / f".{os.getpid()}.{source.name}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as copy:
                digest = _copied(source, copy.write)
            return self._finished(unfinished, digest, name or source.name)
        except OSError as error:
            raise TransientDriverError(
                f"cannot keep {source} in {self._directory}: {error}; free some space, then try again",
                driver="image",
                operation="import",
            ) from error
        finally:
            with suppress(OSError):
                unfinished.unlink()

    def files(self, image: ImageRef) -> Mapping[str, Path]:
        """Give each file of a foreign image by what it is for, after checking its digest.

        Raises:
            PermanentDriverError: A file was changed, or is gone and its source changed since.
            TransientDriverError: The disk is full.
        """
        if image.foreign is None:
            raise PermanentDriverError(f"image {image.name} is no file but a role of Wisp's guest", driver="image")
        digests = dict(image.parts)
        return {part: self.file(digests.get(part, ""), Path(source)) for part, source in image.foreign.parts.items()}

    def file(self, digest: str, source: Path) -> Path:
        """Give a kept file; one that is not there any more is taken in again from ``source``.

        Raises:
            PermanentDriverError: As :meth:`files`.
            TransientDriverError: The disk is full.
        """
        if not digest or not self.path(digest).exists():
            found = self.take_in(source).digest
            if digest not in ("", found):
                raise PermanentDriverError(
                    f"file {digest} was removed from {self._directory}, and {source} has changed since; "
                    "run `wisp up FILE` to take the change over",
                    driver="image",
                    operation="start",
                )
            digest = found
        return self.verified(digest)

    def verified(self, digest: str) -> Path:
        """Give a kept file after checking it; one that was not touched since the last check is not read again.

        Raises:
            PermanentDriverError: It was changed, or is gone.
        """
        path = self.path(digest)
        try:
            status = path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if self._checked.get(path) != seen and (found := _copied(path, lambda _: None)) != digest:
                raise PermanentDriverError(
                    f"file {path} was changed: it has digest {found}; remove it, and import it again", driver="image"
                )
        except OSError as error:
            raise PermanentDriverError(f"file {digest}: {error}; import it again", driver="image") from error
        self._checked[path] = seen
        return path

    def manifests(self) -> list[FileManifest]:
        """Give every manifest, by name and digest."""
        found = [_read(path) for path in self._directory.glob("*.json")]
        return sorted(found, key=lambda manifest: (manifest.name, manifest.digest))

    def path(self, digest: str) -> Path:
        """Give where a file of that digest is kept."""
        return self._directory / digest.removeprefix("sha256:")

    def _finished(self, unfinished: Path, digest: str, name: str) -> FileManifest:
        found = what_is(unfinished)
        size = unfinished.stat().st_size
        manifest = FileManifest(digest=digest, name=name, what=found.what, family=found.family, size_bytes=size)
        unfinished.chmod(0o444)
        unfinished.replace(self.path(digest))
        place = self.path(digest).with_suffix(".json")
        written = place.with_name(f".{os.getpid()}.{place.name}")
        written.write_bytes(msgspec.json.encode(manifest))
        written.replace(place)
        return manifest


def _read(path: Path) -> FileManifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=FileManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise PermanentDriverError(f"manifest {path}: {error}; remove it and import again", driver="image") from error


class _Sink:
    """Something to write an archive or file to, that is digested on its way."""

    def __init__(self, write: Write) -> None:
        self._write, self.digest = write, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self._write(data)
        return len(data)


def _copied(source: Path, write: Write) -> str:
    """Write a file, or the archive of a folder, and give its digest."""
    sink = _Sink(write)
    try:
        if source.is_dir():
            _archive(source, sink)
        else:
            for chunk in _chunks(source):
                sink.write(chunk)
    except OSError as error:
        if error.filename is None:
            raise
        raise PermanentDriverError(
            f"cannot read {error.filename}: {error.strerror}; give the path of a file or folder that you may read",
            driver="image",
            operation="import",
        ) from error
    return f"sha256:{sink.digest.hexdigest()}"


def _chunks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _archive(folder: Path, sink: _Sink) -> None:
    """Write the files, folders and links of a folder, the same bytes wherever and whenever it was copied."""
    with tarfile.open(fileobj=cast(BinaryIO, sink), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            entry = archive.gettarinfo(path, path.relative_to(folder).as_posix())
            if entry is None or not (entry.isfile() or entry.isdir() or entry.issym() or entry.islnk()):
                continue
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            if entry.isfile():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
