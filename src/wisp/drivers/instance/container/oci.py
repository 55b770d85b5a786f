"""Reads a container image out of one archive: an OCI image layout, or the archive of a root file system.

Source: OCI image specification 1.1 (*image layout*, *manifest*, *configuration*).
"""

import bz2
import gzip
import hashlib
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec

from wisp.model.image import DIGEST_PREFIX
from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.values import frozen

MOST_JSON_BYTES = 4 << 20
MOST_NESTED = 4
MOST_LAYERS = 512
MOST_FILES = 4096
MOST_READ_BYTES = 4 << 20
_HASHED_AT_ONCE_BYTES = 1 << 20
# What the readers of archives, compressed streams and JSON say to one that is damaged, or made to hurt.
_DAMAGE = (
    tarfile.TarError, msgspec.DecodeError, EOFError, OSError, lzma.LZMAError, zlib.error, struct.error, ValueError,
    OverflowError, RecursionError,
)  # fmt: skip
_Opened = AbstractContextManager[tarfile.TarFile]


@frozen
class ContainerImage:
    """What an image says of how it is run; a plain root file system says nothing.

    Attributes:
        entrypoint, arguments: What is run when the description does not say.
        environment: Variables.
        folder: Where it starts.
    """

    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"


@frozen
class Layers:
    """An image that is open.

    Attributes:
        image: How it is run.
        layers: Opens each layer's archive anew, the lowest first.
    """

    image: ContainerImage
    layers: tuple[Callable[[], _Opened], ...]


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    media_type: str = ""
    platform: _Platform | None = None


class _Index(msgspec.Struct):
    manifests: list[_Descriptor] = []


class _Manifest(msgspec.Struct):
    config: _Descriptor
    layers: list[_Descriptor]


class _Run(msgspec.Struct, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str = ""


class _Config(msgspec.Struct):
    config: _Run | None = None


@contextmanager
def read(file: Path) -> Iterator[Layers]:
    """Open an image.

    Raises:
        PermanentDriverError: It is neither an OCI image nor a root file system, or is damaged; also for what is
            found only inside of the block.
    """
    try:
        with _plain_or_packed(file) as stream, _archive(stream) as outer:
            found = _Layout.of(outer)
            if found is not None:
                yield found.layers()
                return
        yield Layers(image=ContainerImage(), layers=(lambda: _root_file_system(file),))
    except _DAMAGE as error:
        raise _damaged(str(error)) from error


@contextmanager
def _root_file_system(file: Path) -> Iterator[tarfile.TarFile]:
    with _plain_or_packed(file) as stream, _archive(stream) as archive:
        yield archive


class _Layout:
    """An OCI image layout in an archive."""

    def __init__(self, archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> None:
        self._archive, self._members = archive, members

    @classmethod
    def of(cls, archive: tarfile.TarFile) -> "_Layout | None":
        """Give the layout that an archive holds, if it does."""
        members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(archive):
            # Whatever has more names is a root file system: a layout has one for each layer, and a few.
            if number >= MOST_FILES:
                return None
            if member.isreg():
                members[str(PurePosixPath(member.name))] = member
        return cls(archive, members) if "oci-layout" in members else None

    def layers(self) -> Layers:
        manifest = self._manifest()
        if len(manifest.layers) > MOST_LAYERS:
            raise _damaged(f"it has more than {MOST_LAYERS} layers")
        for layer in manifest.layers:
            if layer.media_type.endswith("zstd"):
                raise _damaged("its layers are compressed with zstd; make it with gzip layers")
        opened = tuple(self._opener(layer.digest) for layer in manifest.layers)
        return Layers(image=self._described(manifest.config.digest), layers=opened)

    def _opener(self, digest: str) -> Callable[[], _Opened]:
        @contextmanager
        def opened() -> Iterator[tarfile.TarFile]:
            with self._blob(digest) as blob, _unpacked(blob) as stream, _archive(stream) as archive:
                yield archive

        return opened

    def _described(self, digest: str) -> ContainerImage:
        with self._blob(digest) as blob:
            run = msgspec.json.decode(blob.read(MOST_JSON_BYTES), type=_Config).config or _Run()
        variables = (variable.partition("=") for variable in run.env or ())
        return ContainerImage(
            entrypoint=tuple(run.entrypoint or ()),
            arguments=tuple(run.cmd or ()),
            environment={name: value for name, _, value in variables},
            folder=run.working_dir or "/",
        )

    def _manifest(self) -> _Manifest:
        with self._file("index.json") as file:
            content = file.read(MOST_JSON_BYTES)
        for _ in range(MOST_NESTED):
            index = msgspec.json.decode(content, type=_Index)
            if not index.manifests:
                return msgspec.json.decode(content, type=_Manifest)
            with self._blob(_ours(index.manifests).digest) as blob:
                content = blob.read(MOST_JSON_BYTES)
        raise _damaged("its indexes are nested too deeply")

    def _blob(self, digest: str) -> IO[bytes]:
        """Give a blob, at its start, after checking that it is what it is called by."""
        if not digest.startswith(DIGEST_PREFIX):
            raise _damaged(f"{digest[:80]!r} is no sha256 digest")
        blob = self._file(f"blobs/{digest.replace(':', '/')}")
        found = hashlib.sha256()
        while chunk := blob.read(_HASHED_AT_ONCE_BYTES):
            found.update(chunk)
        if digest != f"{DIGEST_PREFIX}{found.hexdigest()}":
            raise _damaged(f"blob {digest} holds something else")
        blob.seek(0)
        return blob

    def _file(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        found = None if member is None else self._archive.extractfile(member)
        if found is None:
            raise _damaged(f"there is no {name[:80]} in it")
        return found


class _Bounded:
    """A stream that gives so much at once and no more: an archive's headers say themselves how long they are."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.seek, self.seekable = stream.tell, stream.seek, stream.seekable

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MOST_READ_BYTES:
            raise _damaged(f"a header in it is longer than {MOST_READ_BYTES >> 20} MiB")
        return self._stream.read(count)


def _archive(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("IO[bytes]", _Bounded(stream)), mode="r:")


@contextmanager
def _plain_or_packed(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as stream, _unpacked(stream) as unpacked:
        yield unpacked


def _unpacked(stream: IO[bytes]) -> IO[bytes]:
    """Give what is in a stream, decompressed if it is compressed; closing that leaves the stream open."""
    start = stream.read(6)
    stream.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(stream))
    if start.startswith(b"\xfd7zXZ"):
        return cast("IO[bytes]", lzma.LZMAFile(stream))
    return stream


def _ours(manifests: list[_Descriptor]) -> _Descriptor:
    """Give the manifest for this machine; one that does not say which it is for will do."""
    fit = [each for each in manifests if each.platform in (None, _Platform("amd64", "linux"))]
    if not fit:
        raise _damaged("it has nothing for linux/amd64")
    return fit[0]


def _damaged(why: str) -> PermanentDriverError:
    return PermanentDriverError(f"the container image cannot be read: {why}", driver="container", operation="unpack")
