"""The images of a description, as they are when ``wisp up`` takes it in.

What is started later, also after a crash, is what was seen then: an instance's image goes by its digest.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wisp.assembly.settings import Settings
from wisp.drivers.image.store import ImageStore
from wisp.model.description import DesiredState, ImageSource


def image_store(settings: Settings) -> ImageStore:
    """Give this machine's images."""
    return ImageStore(artifacts=settings.artifacts, directory=settings.images)


def with_digests(desired: DesiredState, images: ImageStore) -> DesiredState:
    """Give a description whose images have digests; nothing is written.

    Raises:
        PermanentDriverError: An image cannot be built from what is there.
    """
    return _with(desired, images.digest)


def with_built_images(desired: DesiredState, images: ImageStore) -> DesiredState:
    """Give a description whose images are built and have digests.

    Raises:
        PermanentDriverError: An image cannot be built from what is there.
        TransientDriverError: The disk is full.
    """

    def build(image: ImageSource, target: str) -> str:
        content = None if image.content is None else Path(image.content)
        return images.build(image.role, target=target, content=content, options=image.options).digest

    return _with(desired, build)


def _with(desired: DesiredState, digest: Callable[[ImageSource, str], str]) -> DesiredState:
    targets: defaultdict[str, set[str]] = defaultdict(set)
    for instance in desired.instances:
        if instance.vdu.image is not None:
            targets[instance.vdu.image].add(instance.vdu.kind.target)
    return replace(
        desired,
        images=tuple(
            replace(image, digests={target: digest(image, target) for target in sorted(targets[image.name])})
            for image in desired.images
        ),
    )
