"""Which machine or tender boots an image, as a command line; pure."""

from collections.abc import Mapping
from pathlib import Path

from wisp.drivers.instance.foreign.arguments import NETWORK_DEVICE, command_line, words
from wisp.drivers.instance.kept import Command
from wisp.drivers.instance.microvm import OPEN_FILES, SANDBOX, TAP_DESCRIPTOR, Hypervisor
from wisp.model.description import Kind
from wisp.model.image import Boot, BootProtocol, Family, ForeignImage, Machine
from wisp.model.instance import InstanceSpec
from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.values import frozen

SERVICE = "service"


@frozen
class Bootable:
    """An image that is ready to be started.

    Attributes:
        boot: How, and of which family.
        machine: QEMU's machine type, for those that need one.
        files: Path of each file by what it is for: ``file``, ``initrd``, ``disk``.
        disks: How each of them that is a disk is written, ``raw`` or ``qcow2``.
    """

    boot: Boot
    machine: Machine
    files: Mapping[str, Path]
    disks: Mapping[str, str]


def machine_of(boot: Boot, foreign: ForeignImage) -> Machine:
    """Give the machine that an image knows its way about on: ``microvm`` for PVH, else a PC.

    Unikraft, rumprun, OSv, Nanos and Solo5 look for devices on PCI, which a microvm has not.
    """
    if foreign.machine is not None:
        return foreign.machine
    on_microvm = boot.protocol is BootProtocol.PVH and boot.family in (Family.NONE, Family.LINUX)
    return Machine.MICROVM if on_microvm else Machine.PC


def kind_of(boot: Boot) -> Kind:
    """Give the kind that an image is meant for; either kind starts it."""
    is_ordinary = boot.family is Family.LINUX or (boot.protocol.is_disk and boot.family is Family.NONE)
    return Kind.VM if is_ordinary else Kind.IMAGE


def qemu_command(spec: InstanceSpec, image: Bootable, hypervisor: Hypervisor, *, tsc_khz: int | None) -> Command:
    """Give the QEMU process of an image.

    Args:
        spec: The instance.
        image: What it boots.
        hypervisor: Program and accelerator.
        tsc_khz: What Linux is told of its time stamp counter [kHz]: on a busy machine it fails to measure it and
            hangs. ``None`` to say nothing.

    Raises:
        PermanentDriverError: The arguments cannot be handed over.
    """
    argv = (
        *_machine(spec, image, hypervisor),
        *_boot(spec, image, tsc_khz),
        *(word for part in image.disks for word in _drive(image, part)),
        *_network(spec, image),
    )
    return Command(argv=argv, held={TAP_DESCRIPTOR: f"tap/{spec.name}"}, open_files=OPEN_FILES, small_pages=True)


def tender_command(spec: InstanceSpec, image: Bootable, tender: str) -> Command:
    """Give the process of a Solo5 tender, which owns the tap and nothing else.

    Raises:
        PermanentDriverError: The arguments cannot be handed over.
    """
    device = dict(spec.config).get(NETWORK_DEVICE, SERVICE)
    argv = (
        tender,
        f"--mem={max(1, spec.memory_bytes >> 20)}",
        f"--net:{device}=@{TAP_DESCRIPTOR}",
        f"--net-mac:{device}={spec.mac}",
        "--",
        str(image.files["file"]),
        *words(image.boot.family, spec),
    )
    return Command(argv=argv, held={TAP_DESCRIPTOR: f"tap/{spec.name}"}, open_files=OPEN_FILES, small_pages=True)


def _machine(spec: InstanceSpec, image: Bootable, hypervisor: Hypervisor) -> tuple[str, ...]:
    return (
        hypervisor.program,
        "-M", _machine_type(image),
        "-accel", hypervisor.accelerator.name,
        "-cpu", hypervisor.accelerator.cpu,
        "-m", f"{-(-spec.memory_bytes // 1024)}K",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-global", "virtio-mmio.force-legacy=false",
        "-serial", "stdio", "-monitor", "none",
        "-sandbox", SANDBOX,
    )  # fmt: skip


def _machine_type(image: Bootable) -> str:
    if image.machine is Machine.MICROVM:
        # Linux finds the devices of a microvm through ACPI; others read them from the command line.
        acpi = "on" if image.boot.family is Family.LINUX else "off"
        return f"microvm,acpi={acpi},isa-serial=on,auto-kernel-cmdline=on"
    return "pc,acpi=off" if image.boot.protocol is BootProtocol.SOLO5_VIRTIO else "pc"


def _boot(spec: InstanceSpec, image: Bootable, tsc_khz: int | None) -> tuple[str, ...]:
    if image.boot.protocol.is_disk:
        return _nothing_to_say(spec)
    line = command_line(image.boot.family, spec)
    if tsc_khz is not None and image.boot.family is Family.LINUX:
        line = f"tsc_early_khz={tsc_khz} {line}"
    initrd = ("-initrd", str(image.files["initrd"])) if "initrd" in image.files else ()
    return ("-kernel", str(image.files["file"]), "-append", line, *initrd)


def _nothing_to_say(spec: InstanceSpec) -> tuple[str, ...]:
    if spec.command or spec.config:
        raise PermanentDriverError(
            f"{spec.name}: a disk is booted by its own loader, which takes no config and no command; "
            "put them onto the disk, or give its kernel as `file` and the disk as `disk`",
            driver=spec.kind,
            operation="start",
            subject=spec.name,
        )
    return ()


def _drive(image: Bootable, part: str) -> tuple[str, ...]:
    """Give a disk; what the guest writes is gone with it, the image stays as it is."""
    path = str(image.files[part]).replace(",", ",,")
    return (
        "-drive", f"file={path},format={image.disks[part]},if=none,id={part},snapshot=on",
        "-device", f"{_virtio('blk', image)},drive={part}",
    )  # fmt: skip


def _network(spec: InstanceSpec, image: Bootable) -> tuple[str, ...]:
    # The PXE program in the card's memory would only be looked for.
    rom = ",romfile=" if image.machine is Machine.PC else ""
    return (
        "-netdev", f"tap,id=n0,fd={TAP_DESCRIPTOR},vhost=off",
        "-device", f"{_virtio('net', image)},netdev=n0,mac={spec.mac or ''}{rom}",
    )  # fmt: skip


def _virtio(device: str, image: Bootable) -> str:
    if image.machine is Machine.MICROVM:
        return f"virtio-{device}-device"
    only_legacy = image.boot.protocol is BootProtocol.SOLO5_VIRTIO
    return f"virtio-{device}-pci" + (",disable-modern=on,disable-legacy=off" if only_legacy else "")
