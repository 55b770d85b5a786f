"""The images of a description, as they are when ``wisp up`` takes it in.

What is started later, also after a crash, is what was seen then: an instance's image goes by its digest.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from wisp.assembly.settings import Settings
from wisp.drivers.image.files import FileManifest, FileStore
from wisp.drivers.image.protocol import NotBootable
from wisp.drivers.image.store import ImageStore
from wisp.drivers.instance.foreign.driver import TENDERS, boot_of
from wisp.drivers.instance.foreign.machine import kind_of, machine_of
from wisp.model.description import DesiredState, ImageSource
from wisp.model.image import Boot, BootProtocol, Family, ForeignImage
from wisp.primitives.errors import PermanentDriverError


def image_store(settings: Settings) -> ImageStore:
    """Give this machine's images."""
    return ImageStore(artifacts=settings.artifacts, directory=settings.images)


def file_store(settings: Settings) -> FileStore:
    """Give the files that Wisp did not build."""
    return FileStore(settings.images / "files")


def import_file(settings: Settings, file: Path, *, name: str) -> dict[str, Any]:
    """Keep somebody else's image, and say what it is.

    Raises:
        NotBootable: It is none that can be booted here.
        PermanentDriverError: It cannot be read.
        TransientDriverError: The disk is full.
    """
    try:
        boot_of(ForeignImage(file=str(file)), file)
    except NotBootable as error:
        raise PermanentDriverError(f"{file}: {error}", driver="image", operation="import") from error
    return told(file_store(settings).take_in(str(file), name=name))


def told(manifest: FileManifest) -> dict[str, Any]:
    """Give a manifest in plain words, with the kind and machine that would run the file; empty where none would."""
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    if not manifest.protocol:
        return plain | {"kind": "", "machine": ""}
    boot = Boot(protocol=BootProtocol(manifest.protocol), family=Family(manifest.family))
    machine = TENDERS.get(boot.protocol) or machine_of(boot, ForeignImage(file=manifest.digest))
    return plain | {"kind": str(kind_of(boot)), "machine": str(machine)}


def with_digests(desired: DesiredState, settings: Settings) -> DesiredState:
    """Give a description whose images have digests; nothing is written.

    Raises:
        PermanentDriverError: An image cannot be built from what is there.
    """
    return _with(desired, image_store(settings).digest, file_store(settings).digest)


def with_built_images(desired: DesiredState, settings: Settings) -> DesiredState:
    """Give a description whose images are built or taken in, and have digests.

    Raises:
        PermanentDriverError: An image cannot be built from what is there.
        TransientDriverError: The disk is full.
    """

    images, files = image_store(settings), file_store(settings)

    def build(image: ImageSource, target: str) -> str:
        content = None if image.content is None else Path(image.content)
        return images.build(image.role, target=target, content=content, options=image.options).digest

    ready = _with(desired, build, lambda file: files.take_in(file).digest)
    check_foreign(ready, files)
    return ready


def check_foreign(desired: DesiredState, files: FileStore) -> None:
    """Make sure that the kinds can do something with the files they were given.

    Raises:
        PermanentDriverError: A file is not what its kind starts; the sentence says what it is.
    """
    images = {image.name: image for image in desired.images if image.foreign is not None}
    used = {(each.vdu.image, each.vdu.kind) for each in desired.instances if each.vdu.image in images}
    for name, kind in sorted(used):
        image = images[str(name)]
        assert image.foreign is not None  # noqa: S101 - those without are left out above
        try:
            boot_of(image.foreign, files.path(image.digests["file"]))
        except NotBootable as error:
            raise PermanentDriverError(
                f"image {name} for {kind}: {image.foreign.file}: {error}", driver="image"
            ) from error


def _with(
    desired: DesiredState, digest: Callable[[ImageSource, str], str], digest_of_file: Callable[[str], str]
) -> DesiredState:
    targets: defaultdict[str, set[str]] = defaultdict(set)
    for instance in desired.instances:
        if instance.vdu.image is not None:
            targets[instance.vdu.image].add(instance.vdu.kind.target)

    def digests(image: ImageSource) -> dict[str, str]:
        if image.foreign is None:
            return {target: digest(image, target) for target in sorted(targets[image.name])}
        parts = image.foreign.parts if targets[image.name] else {}
        return {part: digest_of_file(source) for part, source in parts.items()}

    return replace(desired, images=tuple(replace(image, digests=digests(image)) for image in desired.images))
