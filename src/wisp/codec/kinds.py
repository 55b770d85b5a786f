"""What each kind wants of a deployment unit and its image, and what has no meaning for it."""

import re
from collections.abc import Iterator, Mapping

from wisp.codec import declared, guest_config, placeholder
from wisp.codec.reader import quoted
from wisp.model.description import ImageSource, Kind, Vdu

RESERVED = ("name", "ip", "gw", "gwmac", "mac", "ip6", "gw6", "idle", "health", "confidential")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Everything that can be seen, but the sign between key and value.
_WORD = re.compile(r"[!-<>-~]+", re.ASCII)
_HEALTH_PATH = re.compile(r"/[!-~]*", re.ASCII)
_ONLY_WITH_ROLE = ("content", "options", "pool_size")
_ONLY_WHEN_BOOTED = _ONLY_WITH_FILE = ("initrd", "disk", "protocol", "family", "machine")

# Where, what, and what to do about it.
Complaint = tuple[str, str, str]


def vdu_problems(vdu: Vdu, images: Mapping[str, ImageSource]) -> Iterator[Complaint]:
    """Give what does not fit the kind of a deployment unit."""
    if vdu.kind is Kind.PROCESS:
        if vdu.image is not None:
            yield "image", f"has no meaning for {vdu.kind}", "use command, or another kind"
        if not vdu.command:
            yield "command", "is missing", f"{vdu.kind} runs a command"
    elif vdu.image is None:
        yield "image", "is missing", f"{vdu.kind} starts from an image"
    elif image := images.get(vdu.image):
        yield from _image_does_not_fit(vdu.kind, image)
    if vdu.kind.boots_role and vdu.command:
        yield "command", f"has no meaning for {vdu.kind}", "use config, or kind process"
    if not _HEALTH_PATH.fullmatch(vdu.health.path):
        yield "health.path", f"{quoted(vdu.health.path)} is no path", "start with / and use no spaces"


def _image_does_not_fit(kind: Kind, image: ImageSource) -> Iterator[Complaint]:
    if kind.boots_role and image.foreign is not None:
        yield "image", f"{kind} boots a role of Wisp's guest, and {image.name} is a file", "use unikernel/image"
    elif not kind.boots_role and image.role:
        yield "image", f"{kind} wants a file, and {image.name} is a role of Wisp's guest", "use unikernel/microvm"
    elif kind is Kind.CONTAINER and image.foreign is not None:
        for word in _ONLY_WHEN_BOOTED:
            if getattr(image.foreign, word) is not None:
                yield "image", f"{image.name} has {word}, which says how it is booted; a container is not", "remove it"


def image_problems(body: declared.ImageBody) -> Iterator[Complaint]:
    """Give what does not fit together in an image."""
    if (body.role is None) == (body.file is None):
        both = "has both role and file" if body.role else "has neither role nor file"
        yield "", both, "say role for Wisp's own guest, or file for somebody else's image"
        return
    for word in _ONLY_WITH_FILE if body.role else _ONLY_WITH_ROLE:
        if getattr(body, word):
            yield word, f"has no meaning beside {'role' if body.role else 'file'}", "remove it"


def config_problem(kind: Kind, key: str, value: str) -> tuple[str, str] | None:
    """Say what is wrong with an option of a deployment unit, and what to do about it."""
    if kind.boots_role:
        return (what, "") if (what := guest_key_problem(key)) else None
    if kind.boots_foreign:
        return _word_problem(key, value)
    return None if VARIABLE.fullmatch(key) else (f"{quoted(key)} is no name of a variable", "letters, digits, _")


def _word_problem(key: str, value: str) -> tuple[str, str] | None:
    if not _WORD.fullmatch(key):
        return f"{quoted(key)} is no word of a command line", "no spaces, no ="
    if any(word == "secret" for word, _ in placeholder.names(value)):
        return "a secret on a machine's command line", "everybody on this machine sees it; have the guest fetch it"
    return None


def guest_key_problem(key: str) -> str:
    """Say what is wrong with the key of an option of Wisp's guest; empty for nothing."""
    if key in RESERVED:
        return f"{key!r} is set by Wisp itself"
    return "" if guest_config.is_key(key) else f"{quoted(key)} is no guest option: a letter a-z, then a-z 0-9 _ . -"
