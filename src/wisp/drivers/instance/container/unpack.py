"""Writes a container's files into a new folder. It only ever makes files, never replaces or removes one.

Folders come first and links last: while files are written there is no link that could lead anywhere else.
Everything belongs to whoever unpacks.
"""

import os
import shutil
from collections import defaultdict
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from wisp.drivers.instance.container.oci import ContainerImage, Layers, read
from wisp.drivers.instance.container.tree import Source, Tree, walk
from wisp.primitives.errors import PermanentDriverError, TransientDriverError
from wisp.primitives.values import frozen

_FILES, _IMAGE = "files", "image.json"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPIED_AT_ONCE_BYTES = 1 << 20


@frozen
class Unpacked:
    """An image that can be run.

    Attributes:
        files: Folder with its files.
        image: How it is run.
    """

    files: Path
    image: ContainerImage


class Trees:
    """The unpacked files of images, by digest; all containers of an image share them.

    Args:
        directory: Folder for them, made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def unpacked(self, file: Path) -> Unpacked:
        """Give an image's files, unpacked when they are not there yet.

        Args:
            file: The image, as a file that is named by its digest.

        Raises:
            PermanentDriverError: It is no image that can be unpacked.
            TransientDriverError: The disk is full.
        """
        place = self._directory / file.name
        try:
            if not place.exists():
                self._unpack(file, place)
            image = msgspec.json.decode((place / _IMAGE).read_bytes(), type=ContainerImage)
        except (OSError, msgspec.DecodeError) as error:
            raise TransientDriverError(
                f"cannot unpack a container image into {place}: {error}; free some space, remove that folder if it is "
                "there, then try again",
                driver="container",
                operation="unpack",
            ) from error
        return Unpacked(files=place / _FILES, image=image)

    def _unpack(self, file: Path, place: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = Path(mkdtemp(prefix=".unfinished-", dir=self._directory))
        try:
            (unfinished / _FILES).mkdir()
            with read(file) as opened:
                write(opened, unfinished / _FILES)
                (unfinished / _IMAGE).write_bytes(msgspec.json.encode(opened.image))
            _rename(unfinished, place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _rename(unfinished: Path, place: Path) -> None:
    """Put it in its place, unless somebody else was quicker."""
    try:
        unfinished.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def write(opened: Layers, folder: Path) -> None:
    """Write an image's files into a folder, which is new and empty.

    Raises:
        PermanentDriverError: It is no image that can be unpacked.
        OSError: The disk is full, or somebody else writes there.
    """
    if any(folder.iterdir()):
        raise PermanentDriverError(f"{folder} is not empty", driver="container", operation="unpack")
    tree = Tree()
    for layer in opened.layers:
        tree.begin_layer()
        with layer() as archive:
            for position, member in enumerate(archive):
                tree.add(member, position)
                archive.members = []  # type: ignore[attr-defined] # else it keeps every header
    _make_folders(tree, folder)
    _make_files(tree, opened, folder)
    _make_links(tree, folder)


def _make_folders(tree: Tree, folder: Path) -> None:
    for path, node in walk(tree.root):
        if node.children is not None:
            place = folder / path
            place.mkdir()
            # Ours to look into and to remove again, whatever the image says.
            place.chmod(node.mode | 0o700)


def _make_files(tree: Tree, opened: Layers, folder: Path) -> None:
    wanted: defaultdict[Source, list[str]] = defaultdict(list)
    modes: dict[Source, int] = {}
    for path, node in walk(tree.root):
        if node.source is not None:
            wanted[node.source].append(path)
            modes[node.source] = node.mode
    for number, layer in enumerate(opened.layers):
        with layer() as archive:
            for position, member in enumerate(archive):
                archive.members = []  # type: ignore[attr-defined]
                first, *others = wanted.get((number, position), [""])
                if not first:
                    continue
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - the tree took it for a file
                descriptor = os.open(folder / first, _NEW_FILE, 0o600)
                with content, os.fdopen(descriptor, "wb") as file:
                    shutil.copyfileobj(content, file, _COPIED_AT_ONCE_BYTES)
                    os.fchmod(file.fileno(), modes[number, position])
                for other in others:
                    os.link(folder / first, folder / other, follow_symlinks=False)


def _make_links(tree: Tree, folder: Path) -> None:
    for path, node in walk(tree.root):
        if node.target is not None:
            (folder / path).symlink_to(node.target)
