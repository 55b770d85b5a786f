"""Builds sealed images and keeps them by what went into them; a changed image is refused.

An image is the guest's program for a role and target with content and options behind it. Its manifest tells its
digest, size and inputs. Nothing here needs Rust: the programs come with Wisp.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from wisp.codec import guest_config
from wisp.drivers.image.archive import files_of, pack
from wisp.drivers.image.elf import with_content
from wisp.model.description import ImageSource, Kind
from wisp.model.instance import ImageRef
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError, TransientDriverError

TARGETS = (Kind.MICROVM.target, Kind.SPT.target)
FORMAT = 1
DIGESTS = "SHA256SUMS"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an image is.

    Attributes:
        format: Version of this form.
        digest: ``sha256:`` and the hex digest of the file.
        role, target: What it does, and where it runs.
        size_bytes: Size of the file [byte].
        content_bytes: Part of it that is content [byte].
        inputs: Digest of each input: ``program``, ``options``, and every file of content by its path.
        options: Configuration baked in.
    """

    format: int = FORMAT
    digest: str
    role: str
    target: str
    size_bytes: int
    content_bytes: int
    inputs: dict[str, str]
    options: dict[str, str]


class ImageStore:
    """Images in a folder, each beside its manifest.

    Args:
        artifacts: Folder of the guest programs, ``ROLE.TARGET.elf``.
        directory: Folder of the built images; made when missing.
    """

    def __init__(self, *, artifacts: Path, directory: Path) -> None:
        self._artifacts, self._directory = artifacts, directory

    def sealed(self, image: ImageRef, target: str) -> Path:
        """Give the file of an image, built when it is not there, after checking its digest.

        Raises:
            PermanentDriverError: The file is not what its manifest says, there is no such role, or what would be built
                now is not what the image's digest says.
            TransientDriverError: The disk is full.
        """
        if image.digest and self._is_there(image.digest):
            return self.verify(image.digest)[0]
        content = None if image.content is None else Path(image.content)
        digest = self.build(image.role, target=target, content=content, options=dict(image.options)).digest
        if image.digest not in ("", digest):
            raise PermanentDriverError(
                f"image {image.name} {image.digest} was removed, and what it was made of has changed since; "
                f"run `wisp up FILE` to take the change over",
                driver="image",
                operation="build",
                subject=image.digest,
            )
        return self.verify(digest)[0]

    def digest(self, image: ImageSource, target: str) -> str:
        """Give the digest that an image built now would have; nothing is written.

        Raises:
            PermanentDriverError: As :meth:`build`.
        """
        content = None if image.content is None else Path(image.content)
        return self._made(image.role, target, content, image.options)[1].digest

    def build(self, role: str, *, target: str, content: Path | None, options: Mapping[str, str]) -> Manifest:
        """Build an image and give its manifest; one that is there already is left alone.

        Args:
            role: Guest role.
            target: ``microvm`` or ``spt``.
            content: Folder to bake in; ``None`` for none.
            options: Configuration to bake in.

        Raises:
            PermanentDriverError: There is no such role or target, or the content or an option cannot be used.
            TransientDriverError: The disk is full.
        """
        image, manifest = self._made(role, target, content, options)
        if not self._is_there(manifest.digest):
            self._write(self._image_path(manifest.digest), image, mode=0o555)
            self._write(self._manifest_path(manifest.digest), msgspec.json.encode(manifest), mode=0o444)
        return manifest

    def _made(self, role: str, target: str, content: Path | None, options: Mapping[str, str]) -> tuple[bytes, Manifest]:
        program = self._program(role, target)
        files = {} if content is None else files_of(content)
        # In whatever order they were written.
        line = _options_line(dict(sorted(options.items())))
        archive = pack(files) if files else b""
        image = with_content(program, line.encode(), archive)
        manifest = Manifest(
            digest=_digest(image),
            role=role,
            target=target,
            size_bytes=len(image),
            content_bytes=len(line) + len(archive),
            inputs={
                "program": _digest(program),
                "options": _digest(line.encode()),
                **{path: _digest(body) for path, body in files.items()},
            },
            options=dict(options),
        )
        return image, manifest

    def verify(self, digest: str) -> tuple[Path, Manifest]:
        """Give an image's file and manifest after checking the one against the other.

        Raises:
            PermanentDriverError: There is no such image, or it was changed.
        """
        manifest = self.manifest(digest)
        path = self._image_path(manifest.digest)
        try:
            found = _digest(path.read_bytes())
        except OSError as error:
            raise PermanentDriverError(f"image {digest}: {error}; build it again", driver="image") from error
        if found != manifest.digest:
            raise PermanentDriverError(
                f"image {path} was changed: it has digest {found}, its manifest says {manifest.digest}; "
                f"remove it and build it again",
                driver="image",
                operation="verify",
                subject=digest,
            )
        return path, manifest

    def manifest(self, digest: str) -> Manifest:
        """Give a manifest by a digest, or by as much of its start as tells it from all others.

        Raises:
            PermanentDriverError: There is none, or several.
        """
        if self._is_there(digest):
            # Straight to it: another image's damage is not this one's.
            return self._read(self._manifest_path(digest))
        wanted = digest.removeprefix("sha256:")
        found = [each for each in self.manifests() if wanted and each.digest.removeprefix("sha256:").startswith(wanted)]
        if len(found) != 1:
            what = "no image" if not found else f"{len(found)} images"
            raise PermanentDriverError(f"{what} with digest {digest!r}; `wisp image ls` lists them", driver="image")
        return found[0]

    def manifests(self) -> list[Manifest]:
        """Give every manifest, by role, target and digest."""
        found = [self._read(path) for path in self._directory.glob("*.json")]
        return sorted(found, key=lambda manifest: (manifest.role, manifest.target, manifest.digest))

    def roles(self, target: str) -> list[str]:
        """Give the roles there are programs for."""
        return sorted(path.name.removesuffix(f".{target}.elf") for path in self._artifacts.glob(f"*.{target}.elf"))

    def _program(self, role: str, target: str) -> bytes:
        path = self._artifacts / f"{role}.{target}.elf"
        if target in TARGETS and path.parent == self._artifacts and path.exists():
            program = path.read_bytes()
            if self._shipped().get(path.name) == _digest(program):
                return program
            raise PermanentDriverError(
                f"guest program {path} is not the one that {DIGESTS} beside it tells; "
                f"run `make guest`, or install Wisp again",
                driver="image",
                operation="build",
            )
        if not self.roles("microvm"):
            raise MissingPrerequisite("there are no guest images", remedy="run `make guest`", driver="image")
        roles = ", ".join(self.roles(target)) or "none"
        raise PermanentDriverError(f"no guest role {role!r} for {target}; there are: {roles}", driver="image")

    def _shipped(self) -> dict[str, str]:
        """Give the digests that Wisp's own programs came with."""
        try:
            lines = (self._artifacts / DIGESTS).read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {name: f"sha256:{digest}" for digest, _, name in (line.partition("  ") for line in lines)}

    def _read(self, path: Path) -> Manifest:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise PermanentDriverError(
                f"manifest {path}: {error}; remove it and build again", driver="image"
            ) from error

    def _is_there(self, digest: str) -> bool:
        """Whether both files are; somebody may have removed either."""
        return self._image_path(digest).exists() and self._manifest_path(digest).exists()

    def _image_path(self, digest: str) -> Path:
        return self._directory / f"{digest.removeprefix('sha256:')}.elf"

    def _manifest_path(self, digest: str) -> Path:
        return self._directory / f"{digest.removeprefix('sha256:')}.json"

    def _write(self, path: Path, data: bytes, *, mode: int) -> None:
        """Write a file whole or not at all."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(data)
            unfinished.chmod(mode)
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise TransientDriverError(
                f"cannot write {path}: {error}; free some space, then try again", driver="image", operation="build"
            ) from error


def _options_line(options: Mapping[str, str]) -> str:
    try:
        return guest_config.encode(options) + "\n" if options else ""
    except ValueError as error:
        raise PermanentDriverError(str(error), driver="image", operation="build") from error


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
