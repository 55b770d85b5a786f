"""What a foreign image is: how it is booted, and whose library operating system is in it."""

from enum import StrEnum

from wisp.primitives.values import frozen

DIGEST_PREFIX = "sha256:"


def is_digest(source: str) -> bool:
    """Whether a file is named by its digest, or by the start of one, and not by its path."""
    return source.startswith(DIGEST_PREFIX)


class BootProtocol(StrEnum):
    """How a machine or tender hands control to an image."""

    SOLO5_HVT = "solo5-hvt"
    SOLO5_SPT = "solo5-spt"
    SOLO5_VIRTIO = "solo5-virtio"
    PVH = "pvh"
    MULTIBOOT = "multiboot"
    MULTIBOOT2 = "multiboot2"
    LINUX = "linux"
    DISK = "disk"
    QCOW2 = "qcow2"

    @property
    def is_disk(self) -> bool:
        """Whether the machine's firmware boots it from a disk, which takes no command line."""
        return self in (BootProtocol.DISK, BootProtocol.QCOW2)


class Container(StrEnum):
    """A form in which the files of a container come; nothing of it is booted."""

    OCI = "oci"
    ROOT_FILE_SYSTEM = "rootfs"


class Family(StrEnum):
    """Who made an image's operating system, and so how it is told its address and arguments."""

    UNIKRAFT = "unikraft"
    RUMPRUN = "rumprun"
    OSV = "osv"
    NANOS = "nanos"
    LINUX = "linux"
    SOLO5 = "solo5"
    NONE = "none"


class Machine(StrEnum):
    """QEMU's machine types that images are booted on."""

    MICROVM = "microvm"
    PC = "pc"


@frozen
class ForeignImage:
    """Files of an image that Wisp did not build.

    Attributes:
        file: What is booted, as an absolute path or the digest of an imported file: a unikernel, kernel or disk.
        initrd: Initial RAM disk for a kernel; ``None`` for none.
        disk: Disk beside a kernel; ``None`` for none.
        protocol, family, machine: Win over what the file says of itself; ``None`` to go by that.
    """

    file: str
    initrd: str | None = None
    disk: str | None = None
    protocol: BootProtocol | None = None
    family: Family | None = None
    machine: Machine | None = None

    @property
    def parts(self) -> dict[str, str]:
        """The path of each file by what it is for."""
        named = {"file": self.file, "initrd": self.initrd, "disk": self.disk}
        return {part: path for part, path in named.items() if path is not None}


@frozen
class Boot:
    """What is known of a foreign image before it is started."""

    protocol: BootProtocol
    family: Family
