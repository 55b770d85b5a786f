"""Other people's images are told apart by what is in them, and nothing in a file is trusted."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.drivers.image import files

from wisp.drivers.image.bounded import at
from wisp.drivers.image.protocol import LOOKED_FOR, NotBootable, detect, opened
from wisp.model.image import BootProtocol, Family
from wisp.primitives.errors import PermanentDriverError

ARTIFACTS = Path(__file__).parents[4] / "src/wisp/_artifacts"
IMAGES = [
    files.elf64(files.solo5(1)),
    files.elf64(files.PVH, files.XEN_VERSION, body=b"Linux version 6.1", sections=("__xen_guest",)),
    files.elf32(body=files.multiboot()),
    files.LINUX,
    files.DISK,
    files.qcow2(),
]


@pytest.mark.parametrize(
    ("image", "protocol", "family"),
    [
        (files.elf64(files.solo5(1)), BootProtocol.SOLO5_HVT, Family.SOLO5),
        (files.elf64(files.note(b"OpenBSD", 1, b"\0" * 4), files.solo5(2)), BootProtocol.SOLO5_SPT, Family.SOLO5),
        (files.elf64(files.solo5(3), body=files.multiboot(1 << 16)), BootProtocol.SOLO5_VIRTIO, Family.SOLO5),
        (files.elf64(files.PVH), BootProtocol.PVH, Family.NONE),
        (files.elf32(files.PVH, body=b"Linux version 6.1.0"), BootProtocol.PVH, Family.LINUX),
        (files.elf64(files.XEN_VERSION, files.PVH), BootProtocol.PVH, Family.NONE),
        (files.elf64(files.PVH, body=b"\0OSv v0.57"), BootProtocol.PVH, Family.OSV),
        (files.elf32(body=files.multiboot() + b"Powered by Unikraft"), BootProtocol.MULTIBOOT, Family.UNIKRAFT),
        (files.elf32(body=files.multiboot() + b"rumprun_main"), BootProtocol.MULTIBOOT, Family.RUMPRUN),
        (files.elf64(body=files.multiboot(1 << 16)), BootProtocol.MULTIBOOT, Family.NONE),
        (b"\xfa" * 8 + files.multiboot(1 << 16), BootProtocol.MULTIBOOT, Family.NONE),
        (b"\xfa" * 8 + files.multiboot2(), BootProtocol.MULTIBOOT2, Family.NONE),
        (files.LINUX, BootProtocol.LINUX, Family.LINUX),
        (files.DISK, BootProtocol.DISK, Family.NONE),
        (files.DISK + b"NVMTFS" + b"Linux version 6", BootProtocol.DISK, Family.NANOS),
        (files.DISK[:-12] + files.multiboot(), BootProtocol.DISK, Family.NONE),
        (files.sector(at512=b"EFI PART"), BootProtocol.DISK, Family.NONE),
        (files.sector(), BootProtocol.DISK, Family.NONE),
        (files.qcow2(), BootProtocol.QCOW2, Family.NONE),
    ],
)
def test_an_image_is_known_by_what_is_in_it(image: bytes, protocol: BootProtocol, family: Family) -> None:
    found = detect(image)
    assert (found.protocol, found.family) == (protocol, family)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (files.elf64(files.XEN_VERSION), "ClickOS"),
        (files.elf32(files.note(b"Xen", 6, b"Mini-OS\0")), "paravirtual Xen"),
        (files.elf64(sections=(".text", "__xen_guest")), "paravirtual Xen"),
        (files.elf64(files.solo5(4)), "Muen"),
        (files.elf64(files.solo5(99)), "number 99"),
        (files.elf64(body=files.multiboot()), "elf32-i386"),
        (files.qcow2(backing=512), "qemu-img convert"),
        (files.qcow2(features=4), "qemu-img convert"),
        (b"", "starts with nothing"),
        (b"#!/bin/sh\n", "23 21 2f"),
        (files.elf64(), "an ELF file"),
        (files.multiboot()[:8] + bytes(100), "a file"),
        (bytes(8192) + files.multiboot(), "a file"),
    ],
)
def test_what_cannot_be_booted_says_why(image: bytes, words: str) -> None:
    with pytest.raises(NotBootable, match=words):
        detect(image)


def test_an_unknown_file_is_told_all_that_was_looked_for() -> None:
    with pytest.raises(NotBootable) as caught:
        detect(bytes(100))
    assert all(each in str(caught.value) for each in LOOKED_FOR)


@pytest.mark.skipif(not (ARTIFACTS / "web.microvm.elf").exists(), reason="no guest images: make guest")
def test_our_own_guest_is_a_pvh_image() -> None:
    with opened(ARTIFACTS / "web.microvm.elf") as image:
        assert detect(image).protocol is BootProtocol.PVH


@pytest.mark.skipif(not (ARTIFACTS / "web.microvm.elf").exists(), reason="no guest images: make guest")
@given(st.data())
@settings(max_examples=50)
def test_any_start_of_a_real_image_is_answered(data: st.DataObject) -> None:
    image = (ARTIFACTS / "web.microvm.elf").read_bytes()
    _is_answered(image[: data.draw(st.integers(0, len(image)))])


def test_what_is_no_file_cannot_be_looked_at(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "no-such"):
        with pytest.raises(PermanentDriverError, match=f"cannot read {path}"), opened(path):
            pass


def test_an_empty_file_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with opened(tmp_path / "empty") as image, pytest.raises(NotBootable):
        detect(image)


def _is_answered(image: bytes) -> None:
    try:
        detect(image)
    except NotBootable as error:
        assert str(error)


@given(st.binary(max_size=2048))
def test_any_bytes_are_answered(image: bytes) -> None:
    _is_answered(image)


@given(st.sampled_from(IMAGES), st.integers(0, 4096))
def test_any_start_of_an_image_is_answered(image: bytes, length: int) -> None:
    _is_answered(image[:length])


@given(st.sampled_from(IMAGES), st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=8)), max_size=6))
def test_any_damage_is_answered(image: bytes, damage: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(image)
    for place, content in damage:
        damaged[place : place + len(content)] = content
    _is_answered(bytes(damaged))


@given(st.binary(max_size=64), st.integers(-100, 2**64), st.integers(-100, 2**64))
def test_no_look_leads_outside(data: bytes, offset: int, length: int) -> None:
    found = at(data, offset, length)
    assert found == b"" or (found == data[offset : offset + length] and len(found) == length)
