"""Keeps files that Wisp did not build, by their digest: whole, unchanged, and told what they are."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from wisp.drivers.image.folder import pack
from wisp.drivers.image.kind import container_form
from wisp.drivers.image.protocol import NotBootable, detect, opened
from wisp.model.image import DIGEST_PREFIX, is_digest
from wisp.model.instance import ImageRef
from wisp.primitives.errors import PermanentDriverError, TransientDriverError

FORMAT = 1
CHUNK_BYTES = 1 << 20
Write = Callable[[bytes], object]


class FileManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a foreign file is.

    Attributes:
        format: Version of this form.
        digest: ``sha256:`` and the hex digest of the file.
        name: What it was called when it was taken in.
        protocol: How it is booted, or the form of a container's files; empty for what is neither, as an initial RAM
            disk.
        family: Whose operating system it is; empty where that says nothing.
        size_bytes: Size [byte].
    """

    format: int = FORMAT
    digest: str
    name: str
    protocol: str
    family: str
    size_bytes: int


class FileStore:
    """Foreign files in a folder, each beside its manifest; a folder of files is kept as one archive.

    A file's *source* is its path, or the digest of one that was taken in before.

    Args:
        directory: Made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._checked: dict[Path, tuple[int, ...]] = {}

    def digest(self, source: str) -> str:
        """Give the digest that :meth:`take_in` would give; nothing is written.

        Raises:
            PermanentDriverError: It cannot be read, or is not there.
        """
        return self.manifest(source).digest if is_digest(source) else _copied(Path(source), lambda _: None)

    def take_in(self, source: str, *, name: str = "") -> FileManifest:
        """Copy a file and give its manifest; one that is there already is left alone, but for its name.

        Args:
            source: The file.
            name: What to call it; by its path, or as before, when empty.

        Raises:
            PermanentDriverError: It cannot be read, or is not there.
            TransientDriverError: The disk is full.
        """
        if is_digest(source):
            return self.manifest(source)
        digest = self.digest(source)
        try:
            if not self._is_there(digest):
                return self._copied_in(Path(source), name or Path(source).name)
            found = self._read(self._manifest_path(digest))
            return self._write(msgspec.structs.replace(found, name=name)) if name not in ("", found.name) else found
        except OSError as error:
            raise TransientDriverError(
                f"cannot keep {source} in {self._directory}: {error}; free some space, then try again",
                driver="image",
                operation="import",
            ) from error

    def files(self, image: ImageRef) -> Mapping[str, Path]:
        """Give each file of a foreign image by what it is for, after checking its digest.

        Raises:
            PermanentDriverError: A file was changed, or is gone and its source changed since.
            TransientDriverError: The disk is full.
        """
        if image.foreign is None:
            raise PermanentDriverError(f"image {image.name} is no file but a role of Wisp's guest", driver="image")
        digests = dict(image.parts)
        return {part: self.file(digests.get(part, ""), source) for part, source in image.foreign.parts.items()}

    def where(self, source: str) -> Path:
        """Give where a source is: its path, or that of the kept file.

        Raises:
            PermanentDriverError: No such file is kept.
        """
        return self.path(self.manifest(source).digest) if is_digest(source) else Path(source)

    def file(self, digest: str, source: str) -> Path:
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
        except OSError as error:
            raise PermanentDriverError(f"file {digest}: {error}; import it again", driver="image") from error
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._checked.get(path) != seen and (found := _copied(path, lambda _: None)) != digest:
            raise PermanentDriverError(
                f"file {path} was changed: it has digest {found}; remove it, and import it again", driver="image"
            )
        self._checked[path] = seen
        return path

    def manifest(self, digest: str) -> FileManifest:
        """Give a manifest by a digest, or by as much of its start as tells it from all others.

        Raises:
            PermanentDriverError: There is none, or several.
        """
        if self._is_there(digest):
            return self._read(self._manifest_path(digest))
        found = self.matching(digest)
        if len(found) != 1:
            what = "no imported file" if not found else f"{len(found)} imported files"
            raise PermanentDriverError(
                f"{what} with digest {digest!r}; `wisp image ls` lists them, `wisp image import FILE` adds one",
                driver="image",
            )
        return found[0]

    def matching(self, digest: str) -> list[FileManifest]:
        """Give the manifests whose digest begins so."""
        wanted = digest.removeprefix(DIGEST_PREFIX)
        return [
            each for each in self.manifests() if wanted and each.digest.removeprefix(DIGEST_PREFIX).startswith(wanted)
        ]

    def manifests(self) -> list[FileManifest]:
        """Give every manifest, by name and digest."""
        found = [self._read(path) for path in self._directory.glob("*.json")]
        return sorted(found, key=lambda manifest: (manifest.name, manifest.digest))

    def path(self, digest: str) -> Path:
        """Give where a file of that digest is kept."""
        return self._directory / digest.removeprefix(DIGEST_PREFIX)

    def _manifest_path(self, digest: str) -> Path:
        return self.path(digest).with_suffix(".json")

    def _is_there(self, digest: str) -> bool:
        """Whether both file and manifest are; somebody may have removed either."""
        path = self.path(digest)
        return path.parent == self._directory and path.is_file() and self._manifest_path(digest).exists()

    def _copied_in(self, source: Path, name: str) -> FileManifest:
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._directory / f".{os.getpid()}.unfinished"
        try:
            with unfinished.open("wb") as copy:
                digest = _copied(source, copy.write)
            protocol, family = _told(unfinished)
            manifest = FileManifest(
                digest=digest, name=name, protocol=protocol, family=family, size_bytes=unfinished.stat().st_size
            )
            unfinished.chmod(0o444)
            unfinished.replace(self.path(digest))
            return self._write(manifest)
        finally:
            with suppress(OSError):
                unfinished.unlink()

    def _write(self, manifest: FileManifest) -> FileManifest:
        """Write a manifest whole or not at all."""
        place = self._manifest_path(manifest.digest)
        unfinished = place.with_suffix(f".{os.getpid()}.unfinished")
        try:
            unfinished.write_bytes(msgspec.json.encode(manifest))
            unfinished.replace(place)
        finally:
            with suppress(OSError):
                unfinished.unlink()
        return manifest

    def _read(self, path: Path) -> FileManifest:
        try:
            return msgspec.json.decode(path.read_bytes(), type=FileManifest)
        except (OSError, msgspec.DecodeError) as error:
            raise PermanentDriverError(
                f"manifest {path}: {error}; remove it and import again", driver="image"
            ) from error


def _told(file: Path) -> tuple[str, str]:
    """Give a file's protocol and family, as its manifest says them."""
    if form := container_form(file):
        return form, ""
    with opened(file) as content:
        try:
            boot = detect(content)
        except NotBootable:
            return "", ""
    return boot.protocol, boot.family


def _copied(source: Path, write: Write) -> str:
    """Write what is in a file, or a folder as an archive, and give its digest."""
    digest = hashlib.sha256()

    def take(chunk: bytes) -> None:
        digest.update(chunk)
        write(chunk)

    if source.is_dir():
        _packed(source, take)
    else:
        for chunk in _chunks(source):
            take(chunk)
    return f"{DIGEST_PREFIX}{digest.hexdigest()}"


def _packed(folder: Path, write: Write) -> None:
    """Write a folder as an archive; what goes wrong with the reading of it is told apart from all else."""
    refused: list[OSError] = []

    def guarded(chunk: bytes) -> None:
        try:
            write(chunk)
        except OSError as error:
            refused.append(error)
            raise

    try:
        pack(folder, guarded)
    except OSError as error:
        if refused:
            raise
        raise _unreadable(folder, str(error)) from error


def _chunks(source: Path) -> Iterator[bytes]:
    """Give the content of a file; what goes wrong with the reading of it is told apart from all else."""
    if source.exists() and not source.is_file():
        raise _unreadable(source, "it is neither a file nor a folder")
    try:
        with source.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise _unreadable(source, error.strerror or str(error)) from error


def _unreadable(source: Path, why: str) -> PermanentDriverError:
    return PermanentDriverError(
        f"cannot read {source}: {why}; give the path of a file that you may read", driver="image", operation="import"
    )
