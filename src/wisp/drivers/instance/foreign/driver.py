"""Starts other people's images: QEMU on the machine type they were made for, or Solo5's own tenders.

QEMU and tenders run as for Wisp's own guests: in the keeper's empty network namespace, without capabilities, with
one tap.
"""

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from wisp.drivers.image.protocol import NotBootable, detect, family_of, opened
from wisp.drivers.instance.foreign.machine import Bootable, machine_of, qemu_command, tender_command
from wisp.drivers.instance.guest import image_of
from wisp.drivers.instance.kept import Command, KeptChildren
from wisp.drivers.instance.kvm import Accelerator
from wisp.drivers.instance.microvm import INSTALL_QEMU, QEMU, Hypervisor, find_qemu
from wisp.model.description import Kind
from wisp.model.image import Boot, BootProtocol, ForeignImage
from wisp.model.instance import Handle, ImageRef, InstanceSpec
from wisp.ports.instance import Capabilities, Exit, Fingerprint
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError
from wisp.primitives.time import Duration

TENDERS = {BootProtocol.SOLO5_HVT: "solo5-hvt", BootProtocol.SOLO5_SPT: "solo5-spt"}
INSTALL_TENDER = "build Solo5 (`opam install solo5`, or its source with `./configure.sh && make`) and put {} on PATH"


class ForeignFiles(Protocol):
    """Whoever keeps files that Wisp did not build."""

    def files(self, image: ImageRef) -> Mapping[str, Path]:
        """Give each file of an image by what it is for, after checking their digests.

        Raises:
            PermanentDriverError: A file was changed, or is gone.
        """
        ...


class ForeignDriver:
    """Starts images that Wisp did not build; see the port.

    Args:
        kind: ``unikernel/image`` or ``vm``; they differ in what they are for, not in how they start.
        children: Spawns them.
        files: Keeps their files.
        accelerator: What runs their instructions.
        search_path: Where QEMU and the tenders are looked for.
    """

    def __init__(
        self, kind: Kind, children: KeptChildren, files: ForeignFiles, accelerator: Accelerator, search_path: str
    ) -> None:
        self._kind, self._children, self._files = kind, children, files
        self._accelerator, self._search_path = accelerator, search_path

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(kind=self._kind, isolation="hardware-vm", memory_limit_enforced=True)

    async def fingerprint(self) -> Fingerprint:
        """Say whether QEMU is here, and which tenders of Solo5."""
        program = shutil.which(QEMU, path=self._search_path)
        if program is None:
            return Fingerprint(healthy=False, sentence=f"no {QEMU} on this machine", remedy=INSTALL_QEMU)
        tenders = [name for name in TENDERS.values() if shutil.which(name, path=self._search_path)]
        sentence = (
            f"{program}, guests on {self._accelerator.name.upper()}; Solo5 tenders: {', '.join(tenders) or 'none'}"
        )
        return Fingerprint(healthy=True, sentence=sentence)

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Spawn the machine or tender; see the port."""
        del secrets  # none may stand on a command line, and there is no other way in
        image = image_of(spec)
        try:
            ready = await asyncio.to_thread(self._bootable, image)
        except NotBootable as error:
            raise _about(spec, f"image {image.name}: {error}") from error
        except PermanentDriverError as error:
            raise _about(spec, str(error)) from error
        return await self._children.spawn(spec, self._command(spec, ready))

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        return await self._children.ended(handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End it at once: its disks keep nothing, so it has nothing to put away."""
        await self._children.stop(handle, grace=Duration(min(grace.ns, 0)))

    def _bootable(self, image: ImageRef) -> Bootable:
        if image.foreign is None:
            raise NotBootable("it is a role of Wisp's own guest; use kind unikernel/microvm")
        files = self._files.files(image)
        boot = boot_of(image.foreign, files["file"])
        disks = {part: disk_format(files[part]) for part in ("file", "disk") if _is_disk(part, files, boot)}
        return Bootable(boot=boot, machine=machine_of(boot, image.foreign), files=files, disks=disks)

    def _command(self, spec: InstanceSpec, image: Bootable) -> Command:
        tender = TENDERS.get(image.boot.protocol)
        if tender is not None:
            return tender_command(spec, image, self._find_tender(tender))
        hypervisor = Hypervisor(program=find_qemu(self._search_path), accelerator=self._accelerator)
        return qemu_command(spec, image, hypervisor, tsc_khz=tsc_khz() if self._accelerator.name == "tcg" else None)

    def _find_tender(self, name: str) -> str:
        if name == TENDERS[BootProtocol.SOLO5_HVT] and self._accelerator.name != "kvm":
            raise PermanentDriverError(
                f"{name} needs KVM, and {self._accelerator.sentence}; build the image for virtio or spt",
                driver=self._kind,
                operation="start",
            )
        program = shutil.which(name, path=self._search_path)
        if program is None:
            remedy = INSTALL_TENDER.format(name)
            raise MissingPrerequisite(f"no {name} on this machine", remedy=remedy, driver=self._kind)
        return program


def boot_of(foreign: ForeignImage, file: Path) -> Boot:
    """Say how an image is booted: as the description says, else as its file does.

    Raises:
        NotBootable: Neither does, or nothing here boots it so.
    """
    with opened(file) as content:
        if foreign.protocol is None:
            boot = detect(content)
        else:
            boot = Boot(protocol=foreign.protocol, family=family_of(content, foreign.protocol))
    if boot.protocol is BootProtocol.MULTIBOOT2:
        raise NotBootable(
            "it is booted by multiboot 2, which QEMU does not speak; build it with multiboot 1 or PVH, "
            "or make a disk of it with GRUB"
        )
    return Boot(protocol=boot.protocol, family=foreign.family or boot.family)


def tsc_khz() -> int | None:
    """Give the rate of the machine's time stamp counter [kHz]; ``None`` where the kernel does not tell it."""
    found = re.search(r"^cpu MHz\s*: ([0-9.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return None if found is None else round(float(found[1]) * 1000)


def disk_format(file: Path) -> str:
    """Give how a disk is written; QEMU is never left to guess that from what a guest wrote.

    Raises:
        NotBootable: It reads other files.
    """
    with opened(file) as content:
        if content[:4] != b"QFI\xfb":
            return "raw"
        detect(content)  # refuses one that reads other files
    return "qcow2"


def _is_disk(part: str, files: Mapping[str, Path], boot: Boot) -> bool:
    return part in files and (part == "disk" or boot.protocol.is_disk)


def _about(spec: InstanceSpec, what: str) -> PermanentDriverError:
    return PermanentDriverError(f"{spec.name}: {what}", driver=spec.kind, operation="start", subject=spec.name)
