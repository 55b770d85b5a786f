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
from wisp.drivers.image.kind import container_form
from wisp.drivers.image.protocol import NotBootable, opened
from wisp.drivers.image.store import ImageStore
from wisp.drivers.instance.foreign.driver import TENDERS, boot_of, disk_format
from wisp.drivers.instance.foreign.machine import kind_of, machine_of
from wisp.drivers.instance.microvm import find_qemu
from wisp.model.description import DesiredState, ImageSource, Kind
from wisp.model.image import Boot, BootProtocol, Container, Family, ForeignImage
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
        PermanentDriverError: It is none that can be started here, or cannot be read.
        TransientDriverError: The disk is full.
    """
    if container_form(file) is None:
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
    if manifest.protocol in tuple(Container):
        return plain | {"kind": str(Kind.CONTAINER), "machine": ""}
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
    """Say how each foreign image that is used and booted is; those of containers are only looked at.

    Raises:
        PermanentDriverError: One cannot be; the sentence says what it is.
    """
    images = {image.name: image.foreign for image in desired.images}
    used = sorted({(each.vdu.image, each.vdu.kind) for each in desired.instances if each.vdu.image is not None})
    boots = []
    for name, kind in used:
        if (foreign := images[name]) is None:
            continue
        if kind is Kind.CONTAINER:
            _check_container(name, foreign, files)
        else:
            boots.append(_foreign_boot(name, foreign, files))
    return boots


def _check_container(name: str, foreign: ForeignImage, files: FileStore) -> None:
    if container_form(files.where(foreign.file)) is None:
        raise PermanentDriverError(
            f"image {name}: {foreign.file}: it is no OCI image layout and no archive of a root file system, which a "
            "container starts from; make one with `skopeo copy docker://... oci-archive:app.tar` or "
            "`docker export CONTAINER >app.tar`",
            driver="image",
        )


def _foreign_boot(name: str, foreign: ForeignImage, files: FileStore) -> Boot:
    try:
        boot = boot_of(foreign, files.where(foreign.file))
        if foreign.initrd is not None:
            with opened(files.where(foreign.initrd)):  # refuses what is no file
                pass
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
