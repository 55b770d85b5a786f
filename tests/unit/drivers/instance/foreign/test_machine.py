"""Images are started on the machine they were made for."""

from pathlib import Path

import pytest
from tests.unit.drivers.image import files
from tests.unit.drivers.instance.foreign.specs import spec

from wisp.drivers.image.protocol import NotBootable
from wisp.drivers.instance.foreign.driver import boot_of
from wisp.drivers.instance.foreign.machine import Bootable, kind_of, machine_of, qemu_command, tender_command
from wisp.drivers.instance.kvm import tcg
from wisp.drivers.instance.microvm import Hypervisor
from wisp.model.description import Kind
from wisp.model.image import Boot, BootProtocol, Family, ForeignImage, Machine
from wisp.primitives.errors import PermanentDriverError

HYPERVISOR = Hypervisor(program="/usr/bin/qemu", accelerator=tcg("no KVM"))


def bootable(protocol: BootProtocol, family: Family, *, disks: tuple[str, ...] = (), **paths: str) -> Bootable:
    boot = Boot(protocol=protocol, family=family)
    places = {"file": Path("/images/kernel")} | {part: Path(path) for part, path in paths.items()}
    return Bootable(
        boot=boot,
        machine=machine_of(boot, ForeignImage(file="/images/kernel")),
        files=places,
        disks=dict.fromkeys(disks, "raw"),
    )


def argv(image: Bootable, **words: object) -> str:
    return " ".join(qemu_command(spec(**words), image, HYPERVISOR, tsc_khz=2_000_000).argv)


@pytest.mark.parametrize(
    ("protocol", "family", "machine"),
    [
        (BootProtocol.PVH, Family.NONE, Machine.MICROVM),
        (BootProtocol.PVH, Family.LINUX, Machine.MICROVM),
        (BootProtocol.PVH, Family.UNIKRAFT, Machine.PC),
        (BootProtocol.PVH, Family.OSV, Machine.PC),
        (BootProtocol.MULTIBOOT, Family.UNIKRAFT, Machine.PC),
        (BootProtocol.LINUX, Family.LINUX, Machine.PC),
        (BootProtocol.DISK, Family.NANOS, Machine.PC),
    ],
)
def test_the_machine_follows_protocol_and_family(protocol: BootProtocol, family: Family, machine: Machine) -> None:
    boot = Boot(protocol=protocol, family=family)
    assert machine_of(boot, ForeignImage(file="/x")) is machine
    other = next(each for each in Machine if each is not machine)
    assert machine_of(boot, ForeignImage(file="/x", machine=other)) is other


@pytest.mark.parametrize(
    ("protocol", "family", "kind"),
    [
        (BootProtocol.PVH, Family.NONE, Kind.IMAGE),
        (BootProtocol.PVH, Family.LINUX, Kind.VM),
        (BootProtocol.LINUX, Family.LINUX, Kind.VM),
        (BootProtocol.DISK, Family.NANOS, Kind.IMAGE),
        (BootProtocol.QCOW2, Family.NONE, Kind.VM),
        (BootProtocol.SOLO5_SPT, Family.SOLO5, Kind.IMAGE),
    ],
)
def test_the_kind_follows_protocol_and_family(protocol: BootProtocol, family: Family, kind: Kind) -> None:
    assert kind_of(Boot(protocol=protocol, family=family)) is kind


def test_unikraft_is_a_multiboot_kernel_on_a_pc() -> None:
    line = argv(bootable(BootProtocol.MULTIBOOT, Family.UNIKRAFT))
    assert "-M pc -accel tcg" in line
    assert "-kernel /images/kernel -append netdev.ip=10.0.16.2/20:10.0.16.1 --" in line
    assert "-device virtio-net-pci,netdev=n0,mac=02:00:0a:00:10:02,romfile=" in line
    assert "tsc_early_khz" not in line


def test_solo5_virtio_wants_an_old_device_and_no_acpi() -> None:
    line = argv(bootable(BootProtocol.SOLO5_VIRTIO, Family.SOLO5))
    assert "-M pc,acpi=off" in line
    assert "virtio-net-pci,disable-modern=on,disable-legacy=off" in line


def test_linux_gets_its_initrd_and_is_told_its_clock() -> None:
    line = argv(bootable(BootProtocol.LINUX, Family.LINUX, initrd="/images/initrd"))
    assert "-append tsc_early_khz=2000000 console=ttyS0" in line
    assert "-initrd /images/initrd" in line


def test_linux_on_a_microvm_finds_its_devices_by_acpi() -> None:
    line = argv(bootable(BootProtocol.PVH, Family.LINUX))
    assert "-M microvm,acpi=on" in line
    assert "virtio-net-device" in line


def test_a_disk_keeps_nothing_and_is_never_guessed_at() -> None:
    line = argv(bootable(BootProtocol.DISK, Family.NANOS, disks=("file",), file="/images/a,b"))
    assert "-kernel" not in line
    assert "file=/images/a,,b,format=raw,if=none,id=file,snapshot=on" in line


@pytest.mark.parametrize("words", [{"command": ("x",)}, {"config": (("a", "b"),)}])
def test_a_disk_takes_no_arguments(words: dict[str, object]) -> None:
    with pytest.raises(PermanentDriverError, match="no config and no command"):
        argv(bootable(BootProtocol.DISK, Family.NONE, disks=("file",)), **words)


def test_a_tender_owns_the_tap_and_nothing_else() -> None:
    image = bootable(BootProtocol.SOLO5_SPT, Family.SOLO5)
    command = tender_command(spec(config=(("solo5.net", "uplink"), ("port", "80"))), image, "/usr/bin/solo5-spt")
    assert command.argv == (
        "/usr/bin/solo5-spt", "--mem=32", "--net:uplink=@3", "--net-mac:uplink=02:00:0a:00:10:02", "--",
        "/images/kernel", "--ipv4=10.0.16.2/20", "--ipv4-gateway=10.0.16.1", "--port=80",
    )  # fmt: skip
    assert command.held == {3: "tap/web-1"}


def test_what_the_description_says_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(files.elf64(files.PVH))
    said = ForeignImage(file=str(file), family=Family.OSV)
    assert boot_of(said, file) == Boot(protocol=BootProtocol.PVH, family=Family.OSV)
    file.write_bytes(b"who knows")
    said = ForeignImage(file=str(file), protocol=BootProtocol.LINUX)
    assert boot_of(said, file) == Boot(protocol=BootProtocol.LINUX, family=Family.LINUX)


def test_multiboot_2_is_refused_with_a_way_out(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(bytes(8) + files.multiboot2())
    with pytest.raises(NotBootable, match="GRUB"):
        boot_of(ForeignImage(file=str(file)), file)
