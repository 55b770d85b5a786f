"""Unikernels as sandboxed processes (Solo5's *sandboxed process tender*).

The guest is a static program with its own TCP/IP stack that inherits one tap and seals itself with a seccomp filter
before it reads the first packet. It runs in the keeper's empty network namespace, without capabilities.
"""

import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from wisp.drivers.image.elf import PAGE_BYTES, loaded_bytes
from wisp.drivers.instance.guest import Images, confidential, configuration_line, image_of
from wisp.drivers.instance.kept import Command, KeptChildren
from wisp.model.description import Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.ports.instance import Capabilities, Exit, Fingerprint
from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.time import Duration

TAP_DESCRIPTOR = 3
OPEN_FILES = 8
IDLE_STATUS = 0
# What the kernel needs of a program's address space beside its segments, to start it at all: stack and vdso.
START_BYTES = 256 * 1024


class SptDriver:
    """Starts sealed guest programs."""

    def __init__(self, children: KeptChildren, images: Images) -> None:
        self._children, self._images = children, images

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(kind=Kind.SPT, isolation="seccomp", memory_limit_enforced=True)

    async def fingerprint(self) -> Fingerprint:
        """Say whether guests of this kind run here."""
        if sys.platform == "linux":
            return Fingerprint(healthy=True, sentence="sealed guest programs run here (seccomp)")
        return Fingerprint(healthy=False, sentence="needs Linux with seccomp", remedy="run Wisp on Linux")

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Spawn the guest; see the port."""
        image = self._images.sealed(image_of(spec), spec.kind.target)
        check_memory(spec, image)
        with confidential(spec, secrets) as passed:
            return await self._children.spawn(spec, command(spec, image), passed)

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        return await self._children.ended(handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End it at once: a guest has nothing to put away."""
        await self._children.stop(handle, grace=Duration(min(grace.ns, 0)))


def check_memory(spec: InstanceSpec, image: Path) -> None:
    """Make sure that a guest fits its memory: of one that does not, the kernel only says SIGSEGV.

    Raises:
        PermanentDriverError: It does not.
    """
    needed_bytes = _needed_bytes(image)
    if needed_bytes > spec.memory_bytes:
        raise PermanentDriverError(
            f"{spec.name}: out of memory: its image takes {needed_bytes} bytes and it has {spec.memory_bytes}; "
            "give it more memory, or bake less content in",
            driver=Kind.SPT,
            operation="start",
            subject=spec.name,
        )


@lru_cache(maxsize=1024)
def _needed_bytes(image: Path) -> int:
    """Give what an image takes of memory before its first instruction; a sealed one never changes."""
    with image.open("rb") as file:
        return loaded_bytes(file.read(PAGE_BYTES)) + START_BYTES


def command(spec: InstanceSpec, image: Path) -> Command:
    """Give the process of a guest."""
    return Command(
        argv=(str(image), configuration_line(spec, with_mac=True)),
        held={TAP_DESCRIPTOR: f"tap/{spec.name}"},
        address_space_bytes=spec.memory_bytes,
        open_files=OPEN_FILES,
        small_pages=True,
        own_log=True,
        wakes_on=f"tap/{spec.name}",
        idle_status=IDLE_STATUS,
    )
