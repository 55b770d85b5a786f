"""Other people's images are imported, told, booted and restarted; what cannot be booted is refused with the reason."""

from pathlib import Path

import pytest
from tests.integration.cloud import linux
from tests.integration.cloud.place import Place, wait_until
from tests.unit.drivers.image import files

from wisp.assembly.settings import Settings
from wisp.drivers.image.protocol import LOOKED_FOR

GUEST = Settings.from_environment().artifacts / "web.microvm.elf"
CONFIG = '{name: "${own.name}", ip: "${own.address}/${own.prefix}", gw: "${own.gateway}", gw6: "${own.gateway6}"}'
DESCRIPTION = """\
cloud: foreign
sites: {here: {}}
hosts: {box: {site: here, cpu: 4, memory: 1GiB}}
access_points: {wifi: {host: box}}
devices: {phone: {access_point: wifi}}
images: {theirs: %s}
vnfds: {theirs: {vdus: {main: %s}}}
network_services: {all: {vnfs: {theirs: {vnfd: theirs}}}}
"""
# Says "disk" on the first serial port, and stops: mov dx, 0x3f8; each letter: mov al, LETTER; out dx, al; hlt.
BOOT_SECTOR = b"\xba\xf8\x03" + b"".join(b"\xb0%c\xee" % letter for letter in b"disk\n") + b"\xf4\xeb\xfd"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    if not GUEST.exists():
        pytest.skip("no guest images: make guest")
    (tmp_path / "kernel.elf").write_bytes(GUEST.read_bytes())
    return tmp_path / "kernel.elf"


def describe(place: Place, image: str, vdu: str) -> Path:
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION % (image, vdu))
    return file


def up(place: Place, image: str, vdu: str) -> dict:
    (row,) = place.ok("up", describe(place, image, vdu))
    assert row["state"] == "ready"
    return row


def fetched(place: Place, path: str) -> str:
    done = place.wisp("exec", "-c", "foreign", "phone", "--", "curl", "-sS", "-m", "5", f"http://theirs{path}")
    assert done.status == 0, done.err
    return done.out


@pytest.mark.parametrize("kind", ["unikernel/image", "vm"])
def test_an_imported_image_is_booted_and_restarted(place: Place, kernel: Path, kind: str) -> None:
    imported = place.ok("image", "import", kernel)
    kernel.unlink()
    row = up(place, f'{{file: "{imported["digest"]}"}}', f"{{kind: {kind}, image: theirs, config: {CONFIG}}}")
    assert row["kind"] == kind
    assert fetched(place, "/health")
    place.kill(row["pid"])
    wait_until(
        lambda: (
            place.pids("foreign")["theirs"] not in (0, row["pid"])
            and place.ok("ps", "-c", "foreign")[0]["state"] == "ready"
        ),
        within_s=20,
        what="started again",
    )
    assert fetched(place, "/health")


def test_an_image_that_is_a_path_is_taken_in(place: Place, kernel: Path) -> None:
    up(place, "{file: kernel.elf}", f"{{kind: unikernel/image, image: theirs, config: {CONFIG}}}")
    assert [row["name"] for row in place.ok("image", "ls")] == ["kernel.elf"]


def test_a_disk_is_booted_by_the_firmware(place: Place, tmp_path: Path) -> None:
    sector = bytearray(files.DISK)
    sector[: len(BOOT_SECTOR)] = BOOT_SECTOR
    (tmp_path / "disk.img").write_bytes(bytes(sector) + bytes(1 << 20))
    assert place.ok("image", "import", "disk.img")["kind"] == "vm"
    up(place, "{file: disk.img}", "{kind: vm, image: theirs, health: {protocol: alive}}")
    wait_until(
        lambda: "disk" in place.wisp("logs", "-c", "foreign", "theirs").out, within_s=20, what="the disk has spoken"
    )


def test_a_linux_is_told_its_address(place: Place, tmp_path: Path) -> None:
    linux.prepare(tmp_path)
    assert place.ok("image", "import", "vmlinuz")["kind"] == "vm"
    vdu = "{kind: vm, image: theirs, memory: 160MiB, boot_deadline: 30s}"
    up(place, "{file: vmlinuz, initrd: initrd.cpio}", vdu)
    assert fetched(place, "/health") == "ok\n"


def test_an_import_says_what_it_found(place: Place, kernel: Path) -> None:
    imported = place.ok("image", "import", kernel, "--name", "guest")
    told = {key: imported[key] for key in ("name", "protocol", "family", "kind", "machine")}
    assert told == {
        "name": "guest", "protocol": "pvh", "family": "none", "kind": "unikernel/image", "machine": "microvm",
    }  # fmt: skip
    assert place.ok("image", "ls") == [imported]
    inspected = place.ok("image", "inspect", imported["digest"][:19])
    assert Path(inspected["path"]).read_bytes() == kernel.read_bytes()
    assert imported["digest"] in place.wisp("image", "import", kernel).out
    assert "guest" in place.wisp("image", "ls").out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\necho hello\n", LOOKED_FOR),
        (files.elf64(files.XEN_VERSION), ("paravirtual Xen", "ClickOS", "PVH")),
        (bytes(8) + files.multiboot2(), ("multiboot 2",)),
    ],
)
def test_what_cannot_be_booted_is_not_imported(
    place: Place, tmp_path: Path, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / "image").write_bytes(content)
    done = place.wisp("image", "import", "image", "--json")
    assert done.status == 1
    assert all(word in done.err for word in words), done.err
    assert place.ok("image", "ls") == []


@pytest.mark.parametrize("command", ["plan", "up"])
def test_what_cannot_be_booted_is_neither_planned_nor_started(place: Place, tmp_path: Path, command: str) -> None:
    (tmp_path / "image").write_bytes(files.elf64(files.XEN_VERSION))
    done = place.wisp(command, describe(place, "{file: image}", "{kind: unikernel/image, image: theirs}"))
    assert done.status == 1
    assert "image theirs: " in done.err
    assert "paravirtual Xen" in done.err
    assert place.ok("image", "ls") == []


def test_a_disk_that_reads_other_files_is_refused(place: Place, kernel: Path) -> None:
    (kernel.parent / "data.qcow2").write_bytes(files.qcow2(backing=512))
    image = "{file: kernel.elf, disk: data.qcow2}"
    done = place.wisp("up", describe(place, image, "{kind: unikernel/image, image: theirs}"))
    assert done.status == 1
    assert "qemu-img convert" in done.err


def test_without_qemu_it_says_what_to_install(place: Place, kernel: Path, tmp_path: Path) -> None:
    done = place.wisp(
        "up", describe(place, f"{{file: {kernel.name}}}", "{kind: vm, image: theirs}"), PATH=str(tmp_path)
    )
    assert done.status == 3
    assert "qemu-system-x86" in done.err


def test_a_description_with_an_unknown_digest_is_refused(place: Place) -> None:
    done = place.wisp("up", describe(place, '{file: "sha256:0123"}', "{kind: vm, image: theirs}"))
    assert done.status == 1
    assert "no imported file with digest 'sha256:0123'" in done.err
