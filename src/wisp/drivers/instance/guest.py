"""What both unikernel targets share: the configuration line, and the sealed image it goes to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wisp.codec import guest_config
from wisp.drivers.instance.secret import filled_in, has_secret
from wisp.drivers.keeper.memory import in_memory
from wisp.model.instance import ImageRef, InstanceSpec
from wisp.model.network import mac_of
from wisp.primitives.errors import PermanentDriverError

LONGEST_LINE_BYTES = 2000
# What a tender tells its guest comes in one Ethernet frame.
LONGEST_TOLD_BYTES = 1480
CONFIDENTIAL_DESCRIPTOR = 4


class Images(Protocol):
    """Whoever keeps built images."""

    def sealed(self, image: ImageRef, target: str) -> Path:
        """Give the file of an image, built when it is not there yet, after checking its digest.

        Args:
            image: What is wanted.
            target: ``microvm`` or ``spt``.

        Raises:
            PermanentDriverError: The file is not what its manifest says, or there is no such role.
        """
        ...


def configuration_line(spec: InstanceSpec, *, with_mac: bool) -> str:
    """Give the guest's configuration line (see ``codec.guest_config``), which everybody on the machine may see.

    Options that name secrets are left out; the word ``confidential`` says that they come on a line of their own.

    Args:
        spec: The instance; it has an address.
        with_mac: Whether the guest chooses its own hardware address (spt) or reads it from its device (microvm).

    Raises:
        PermanentDriverError: The line is longer than a guest takes.
    """
    own = {"name": spec.name, "ip": f"{spec.address}/{spec.prefix_length}", "gw": spec.gateway or ""}
    # Alone in its subnet, it sends everything to its gateway; in IPv4 the host answers for the others instead.
    own |= {"ip6": f"{spec.address6}/128", "gw6": spec.gateway6 or ""} if spec.address6 else {}
    if spec.is_known_to_host and spec.gateway:
        own |= {"gwmac": mac_of(spec.gateway)}
    if spec.idle_timeout:
        own |= {"idle": f"{spec.idle_timeout.ns // 1_000_000}ms", "health": spec.health.path}
    mac = {"mac": spec.mac or ""} if with_mac else {}
    options = {key: value for key, value in spec.config if not has_secret(value)}
    apart = {"confidential": "1"} if len(options) < len(spec.config) else {}
    return _checked(spec, guest_config.encode(own | mac | {"port": str(spec.health.port)} | options | apart))


@contextmanager
def confidential(spec: InstanceSpec, secrets: Mapping[str, str]) -> Iterator[dict[int, int]]:
    """Give the descriptor with the line of the options that name secrets, by its number in the guest's process.

    It is memory that only that process inherits; without such options there is none.

    Args:
        spec: The instance.
        secrets: Values of the secrets that its options name.

    Raises:
        PermanentDriverError: The line is longer than a guest takes, or a secret has no value.
    """
    options = {key: filled_in(value, secrets) for key, value in spec.config if has_secret(value)}
    if not options:
        yield {}
        return
    line = _checked(spec, guest_config.encode(options))
    with in_memory("confidential", line.encode()) as descriptor:
        yield {CONFIDENTIAL_DESCRIPTOR: descriptor}


def identity(spec: InstanceSpec, secrets: Mapping[str, str]) -> str:
    """Give the whole line for a guest that is told who it is by its tender, options that name secrets included.

    Raises:
        PermanentDriverError: The line is longer than a guest takes, or a secret has no value.
    """
    options = {key: filled_in(value, secrets) for key, value in spec.config if has_secret(value)}
    line = configuration_line(
        replace(spec, config=tuple(each for each in spec.config if each[0] not in options)), with_mac=True
    )
    return _checked(spec, " ".join(filter(None, (line, guest_config.encode(options)))), LONGEST_TOLD_BYTES)


def _checked(spec: InstanceSpec, line: str, longest_bytes: int = LONGEST_LINE_BYTES) -> str:
    if len(line) > longest_bytes:
        raise PermanentDriverError(
            f"{spec.name}: its configuration is {len(line)} bytes long, a guest takes {longest_bytes}; "
            "bake large options into the image instead",
            driver=spec.kind,
            operation="start",
            subject=spec.name,
        )
    return line


def image_of(spec: InstanceSpec) -> ImageRef:
    """Give the image of a unikernel's spec.

    Raises:
        PermanentDriverError: It names none.
    """
    if spec.image is None:
        raise PermanentDriverError(f"{spec.name}: a {spec.kind} needs an image", driver=spec.kind, operation="start")
    return spec.image
