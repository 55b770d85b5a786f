"""How a foreign image wants to be booted, and who made it: read from the file, nothing is run.

Sources: Solo5 ``elf_abi.h``; Xen ``elfnote.h``; Multiboot 0.6.96 and 2.0; Linux ``Documentation/arch/x86/boot.rst``;
UEFI 2.10 (GPT); QEMU ``docs/interop/qcow2.txt``. Where several fit, QEMU's own order decides.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from errno import EINVAL
from mmap import ACCESS_READ, mmap
from pathlib import Path
from stat import S_ISREG

from wisp.drivers.image.bounded import Data, Elf, at, number, numbers
from wisp.model.image import Boot, BootProtocol, Family
from wisp.primitives.errors import PermanentDriverError

LOOKED_FOR = (
    "Solo5 note",
    "multiboot header in the first 8 KiB",
    "Xen PVH note",
    "multiboot 2 header in the first 32 KiB",
    "paravirtual Xen note",
    "Linux boot header",
    "qcow2 magic",
    "master boot record or GPT",
)
# In this order: Unikraft's images speak of Linux too, and a Nanos disk holds a Linux program.
MARKS = {
    Family.UNIKRAFT: (b"Unikraft", b".uk_inittab", b".uk_ctortab"),
    Family.RUMPRUN: (b"rumprun",),
    Family.OSV: (b"OSv v", b"_ZN3osv"),
    Family.NANOS: (b"NVMTFS",),
    Family.LINUX: (b"Linux version ",),
}
MARKS_WITHIN_BYTES = 64 << 20
_SOLO5_ABI_NOTE, _XEN_PHYS32_ENTRY = 0x3149_4241, 18
_XEN_PV_NOTES = (5, 6)  # XEN_VERSION, GUEST_OS
_SOLO5_TARGETS = {1: BootProtocol.SOLO5_HVT, 2: BootProtocol.SOLO5_SPT, 3: BootProtocol.SOLO5_VIRTIO}
_SOLO5_FOREIGN = {4: "Muen", 5: "Genode", 6: "Xen"}
_MULTIBOOT, _MULTIBOOT_PLACES = 0x1BAD_B002, range(0, 8192, 4)
_MULTIBOOT2, _MULTIBOOT2_PLACES = 0xE852_50D6, range(0, 32768, 8)
_ADDRESSES_IN_HEADER = 1 << 16
_QCOW2_DATA_ELSEWHERE = 1 << 2


class NotBootable(PermanentDriverError):
    """A file is no image that can be booted here; says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why, driver="image", operation="detect")


def detect(image: Data) -> Boot:
    """Say how an image is booted and who made it.

    Raises:
        NotBootable: It is none that can be booted here; the sentence says why, or what was looked for.
    """
    protocol = _of_elf(Elf(image), image) if Elf.is_one(image) else _of_flat(image)
    return Boot(protocol=protocol, family=family_of(image, protocol))


def family_of(image: Data, protocol: BootProtocol) -> Family:
    """Guess whose operating system an image is, from its protocol and from texts in it."""
    if protocol.value.startswith("solo5"):
        return Family.SOLO5
    if protocol is BootProtocol.LINUX:
        return Family.LINUX
    has = _finder(image)
    return next((family for family, marks in MARKS.items() if any(map(has, marks))), Family.NONE)


@contextmanager
def opened(file: Path) -> Iterator[Data]:
    """Give the content of a file to look at, without reading all of it.

    Raises:
        PermanentDriverError: It is no file, or cannot be read.
    """
    with ExitStack() as stack:
        try:
            content = _mapped(file, stack)
        except OSError as error:
            raise PermanentDriverError(
                f"cannot read {file}: {error.strerror}; give the path of a file that you may read",
                driver="image",
                operation="detect",
            ) from error
        yield content


def _mapped(file: Path, stack: ExitStack) -> Data:
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(EINVAL, "it is no file")
    stream = stack.enter_context(file.open("rb"))
    return stack.enter_context(mmap(stream.fileno(), 0, access=ACCESS_READ)) if status.st_size else b""


def _finder(image: Data) -> Callable[[bytes], bool]:
    return lambda mark: image.find(mark, 0, MARKS_WITHIN_BYTES) >= 0


def _of_elf(elf: Elf, image: Data) -> BootProtocol:
    notes = {(note.owner, note.type): note.content for note in elf.notes()}
    if (abi := notes.get((b"Solo5", _SOLO5_ABI_NOTE))) is not None:
        return _of_solo5(abi)
    if (flags := _multiboot_flags(image)) is not None:
        return _of_multiboot_elf(elf, flags)
    if (b"Xen", _XEN_PHYS32_ENTRY) in notes:
        return BootProtocol.PVH
    if _is_multiboot2(image):
        return BootProtocol.MULTIBOOT2
    if any((b"Xen", type_) in notes for type_ in _XEN_PV_NOTES) or b"__xen_guest" in elf.section_names():
        raise NotBootable(
            "it is made for paravirtual Xen only (as ClickOS and Mini-OS are): it calls the Xen hypervisor, which is "
            "not here, and has no PVH entry; build it for KVM, or with CONFIG_PVH"
        )
    raise _unknown("an ELF file", image)


def _of_solo5(abi: bytes) -> BootProtocol:
    target = number(abi, 0, "<I")
    if target in _SOLO5_TARGETS:
        return _SOLO5_TARGETS[target]
    name = _SOLO5_FOREIGN.get(target, f"number {target}")
    raise NotBootable(f"it is built for Solo5's target {name}; build it for hvt, spt or virtio")


def _of_multiboot_elf(elf: Elf, flags: int) -> BootProtocol:
    if elf.is_64_bit and not flags & _ADDRESSES_IN_HEADER:
        raise NotBootable(
            "it is a 64-bit ELF file with a multiboot header that names no addresses, which QEMU does not load; "
            "make it a 32-bit one with `objcopy -O elf32-i386`, or add a PVH note in place of the header"
        )
    return BootProtocol.MULTIBOOT


def _of_flat(image: Data) -> BootProtocol:
    if at(image, 0, 4) == b"QFI\xfb":
        return _of_qcow2(image)
    is_boot_sector = at(image, 510, 2) == b"\x55\xaa"
    if is_boot_sector and at(image, 0x202, 4) == b"HdrS":
        return BootProtocol.LINUX
    # GRUB keeps a multiboot header of its own behind the boot sector: partitions tell a disk.
    if is_boot_sector and (_has_partitions(image) or at(image, 512, 8) == b"EFI PART"):
        return BootProtocol.DISK
    if _multiboot_flags(image) is not None:
        return BootProtocol.MULTIBOOT
    if _is_multiboot2(image):
        return BootProtocol.MULTIBOOT2
    if is_boot_sector:
        return BootProtocol.DISK
    raise _unknown("a file", image)


def _of_qcow2(image: Data) -> BootProtocol:
    features = number(image, 72, ">Q") if number(image, 4, ">I") >= 3 else 0
    if number(image, 8, ">Q") or features & _QCOW2_DATA_ELSEWHERE:
        raise NotBootable(
            "it is a qcow2 disk that reads another file, which would not come with it; "
            "make it whole with `qemu-img convert -O qcow2`"
        )
    return BootProtocol.QCOW2


def _has_partitions(image: Data) -> bool:
    entries = [at(image, 446 + 16 * index, 16) for index in range(4)]
    return all(entry[:1] in (b"\0", b"\x80") for entry in entries) and any(entry[4:5] > b"\0" for entry in entries)


def _multiboot_flags(image: Data) -> int | None:
    for place in _MULTIBOOT_PLACES:
        header = numbers(image, place, "<III")
        if header and header[0] == _MULTIBOOT and sum(header) & 0xFFFF_FFFF == 0:
            return header[1]
    return None


def _is_multiboot2(image: Data) -> bool:
    for place in _MULTIBOOT2_PLACES:
        header = numbers(image, place, "<IIII")
        if header and header[0] == _MULTIBOOT2 and sum(header) & 0xFFFF_FFFF == 0:
            return True
    return False


def _unknown(what: str, image: Data) -> NotBootable:
    start = at(image, 0, min(8, len(image))).hex(" ") or "nothing"
    looked_for = ", ".join(LOOKED_FOR)
    return NotBootable(
        f"it is {what} of {len(image)} bytes that starts with {start} and has none of: {looked_for}; "
        "if you know how it boots, say so with `protocol` of the image"
    )
