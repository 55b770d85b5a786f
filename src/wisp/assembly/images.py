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
from wisp.drivers.instance.foreign.driver import TENDERS, boot_of, disk_format
from wisp.drivers.instance.foreign.machine import kind_of, machine_of
from wisp.drivers.instance.microvm import find_qemu
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
        PermanentDriverError: An image cannot be built from what is there, or cannot be booted.
    """
    files = file_store(settings)
    foreign_boots(desired, files)
    return _with(desired, image_store(settings).digest, files.digest)


def with_built_images(desired: DesiredState, settings: Settings) -> DesiredState:
    """Give a description whose images are built or taken in, and have digests.

    Raises:
        PermanentDriverError: An image cannot be built from what is there, or cannot be booted.
        MissingPrerequisite: A foreign image wants QEMU, which is not here.
        TransientDriverError: The disk is full.
    """
    images, files = image_store(settings), file_store(settings)
    if any(boot.protocol not in TENDERS for boot in foreign_boots(desired, files)):
        find_qemu(settings.search_path)

    def build(image: ImageSource, target: str) -> str:
        content = None if image.content is None else Path(image.content)
        return images.build(image.role, target=target, content=content, options=image.options).digest

    return _with(desired, build, lambda source: files.take_in(source).digest)


def foreign_boots(desired: DesiredState, files: FileStore) -> list[Boot]:
    """Say how each foreign image that is used is booted.

    Raises:
        PermanentDriverError: One cannot be; the sentence says what it is.
    """
    used = {instance.vdu.image for instance in desired.instances}
    return [
        _foreign_boot(image.name, image.foreign, files)
        for image in desired.images
        if image.foreign is not None and image.name in used
    ]


def _foreign_boot(name: str, foreign: ForeignImage, files: FileStore) -> Boot:
    try:
        boot = boot_of(foreign, files.where(foreign.file))
        if foreign.disk is not None:
            disk_format(files.where(foreign.disk))
    except NotBootable as error:
        raise PermanentDriverError(f"image {name}: {foreign.file}: {error}", driver="image") from error
    return boot


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
