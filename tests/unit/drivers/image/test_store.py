"""Sealed images: the same from the same inputs, refused when changed, built again when removed."""

import hashlib
import os
import struct
from pathlib import Path

import pytest

from wisp.drivers.image.archive import files_of, pack
from wisp.drivers.image.elf import CONTENT_ADDRESS, MAGIC, PAGE_BYTES, loaded_bytes, with_content
from wisp.drivers.image.store import ImageStore
from wisp.model.description import ImageSource
from wisp.model.instance import ImageRef
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError, TransientDriverError

HEADERS_AT, HEADER_BYTES = 64, 56


def program() -> bytes:
    """Give a guest as the linker leaves it: one segment, one spare program header, and the header for content."""
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF", 2, 62, 1, 0x200000, HEADERS_AT, 0, 0, 64, HEADER_BYTES, 2, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x200000, 0x200000, 5000, 9000, PAGE_BYTES)
    spare = bytes(HEADER_BYTES)
    header = MAGIC + CONTENT_ADDRESS.to_bytes(8, "little") + bytes(48)
    return (elf + segment + spare + header).ljust(5000, b"\x90")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    for target in ("microvm", "spt"):
        (artifacts / f"web.{target}.elf").write_bytes(program())
    digest = hashlib.sha256(program()).hexdigest()
    (artifacts / "SHA256SUMS").write_text(f"{digest}  web.microvm.elf\n{digest}  web.spt.elf\n")
    return ImageStore(artifacts=artifacts, directory=tmp_path / "images")


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "deep").mkdir(parents=True)
    (folder / "index.html").write_text("<html>")
    (folder / "deep" / "style.css").write_text("b{}")
    (folder / ".hidden").write_text("secret")
    return folder


def test_the_same_inputs_give_the_same_image(store, content, tmp_path):
    first = store.build("web", target="spt", content=content, options={"port": "80"})
    for path in content.rglob("*"):
        os.utime(path, (1, 1))
    other = ImageStore(artifacts=tmp_path / "artifacts", directory=tmp_path / "other")
    assert other.build("web", target="spt", content=content, options={"port": "80"}) == first
    assert first.inputs.keys() == {"program", "options", "/index.html", "/deep/style.css"}
    assert store.manifests() == [first]


def test_every_input_changes_the_digest(store, content):
    digests = {store.build("web", target="spt", content=content, options={}).digest}
    digests.add(store.build("web", target="spt", content=None, options={}).digest)
    digests.add(store.build("web", target="spt", content=content, options={"port": "8080"}).digest)
    (content / "index.html").write_text("<html>!")
    digests.add(store.build("web", target="spt", content=content, options={}).digest)
    assert len(digests) == 4


def test_content_is_a_segment_of_its_own(store, content):
    manifest = store.build("web", target="spt", content=content, options={})
    image = store.verify(manifest.digest)[0].read_bytes()
    archive = pack(files_of(content))
    assert image.endswith(archive)
    assert manifest.content_bytes == len(archive)
    assert (len(image) - len(archive)) % PAGE_BYTES == 0
    assert loaded_bytes(image) == 3 * PAGE_BYTES + PAGE_BYTES
    assert loaded_bytes(program()) == 3 * PAGE_BYTES


@pytest.mark.parametrize("change", [b"!", b""])
def test_a_changed_image_is_refused(store, content, change):
    manifest = store.build("web", target="spt", content=content, options={})
    path = store.verify(manifest.digest)[0]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + change)
    with pytest.raises(PermanentDriverError, match=r"was changed: .*remove it and build it again"):
        store.verify(manifest.digest)


@pytest.mark.parametrize("suffix", [".elf", ".json"])
def test_one_that_was_removed_is_built_again(store, content, suffix):
    reference = ImageRef(name="web", role="web", content=str(content))
    path = store.sealed(reference, "spt")
    path.with_suffix(suffix).unlink()
    assert store.sealed(reference, "spt") == path
    assert path.exists()
    assert path.stat().st_mode & 0o777 == 0o555


def test_the_order_of_options_makes_no_difference(store):
    one = store.build("web", target="spt", content=None, options={"a": "1", "b": "2"})
    assert store.build("web", target="spt", content=None, options={"b": "2", "a": "1"}).digest == one.digest


def test_the_digest_is_known_before_it_is_built(store, content, tmp_path):
    digest = store.digest(ImageSource(name="web", role="web", content=str(content)), "spt")
    assert not (tmp_path / "images").exists()
    assert store.build("web", target="spt", content=content, options={}).digest == digest


def test_an_image_with_a_digest_is_that_one_whatever_became_of_its_content(store, content):
    source = ImageSource(name="web", role="web", content=str(content))
    before = ImageRef(name="web", role="web", content=str(content), digest=store.digest(source, "spt"))
    path = store.sealed(before, "spt")
    (content / "index.html").write_text("other")
    assert store.digest(source, "spt") != before.digest
    assert store.sealed(before, "spt") == path
    path.unlink()
    with pytest.raises(PermanentDriverError, match="has changed since; run `wisp up FILE`"):
        store.sealed(before, "spt")
    (content / "index.html").write_text("<html>")
    assert store.sealed(before, "spt") == path


def test_a_digest_may_be_shortened_while_it_tells_one_image(store, content):
    manifest = store.build("web", target="spt", content=content, options={})
    assert store.manifest(manifest.digest[:14]) == manifest
    for wrong in ("", "sha256:", "zz"):
        with pytest.raises(PermanentDriverError, match="no image"):
            store.manifest(wrong)


@pytest.mark.parametrize(
    ("role", "target", "words"),
    [("web", "vm", "no guest role"), ("cache", "spt", "there are: web"), ("../web", "spt", "no guest role")],
)
def test_a_role_that_is_not_there(store, role, target, words):
    with pytest.raises(PermanentDriverError, match=words):
        store.build(role, target=target, content=None, options={})


def test_a_program_that_was_changed_is_refused(store, tmp_path):
    program_file = tmp_path / "artifacts" / "web.spt.elf"
    program_file.write_bytes(program() + b"!")
    with pytest.raises(PermanentDriverError, match=r"web\.spt\.elf is not the one that SHA256SUMS beside it tells"):
        store.build("web", target="spt", content=None, options={})
    (tmp_path / "artifacts" / "SHA256SUMS").unlink()
    with pytest.raises(PermanentDriverError, match="make guest"):
        store.build("web", target="microvm", content=None, options={})


def test_without_any_guest_the_remedy_is_told(tmp_path):
    with pytest.raises(MissingPrerequisite) as missing:
        ImageStore(artifacts=tmp_path, directory=tmp_path).build("web", target="spt", content=None, options={})
    assert "make guest" in missing.value.remedy


def test_content_that_cannot_be_used(store, content, tmp_path):
    with pytest.raises(PermanentDriverError, match="no such folder"):
        store.build("web", target="spt", content=tmp_path / "nothing", options={})
    (content / "out").symlink_to("/etc/hostname")
    with pytest.raises(PermanentDriverError, match="leads out of the content"):
        store.build("web", target="spt", content=content, options={})


def test_a_name_that_is_not_utf8(store, content):
    (content / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    with pytest.raises(PermanentDriverError, match="rename the file"):
        store.build("web", target="spt", content=content, options={})


def test_too_much_content_is_refused_unread(store, content):
    with (content / "film.mp4").open("wb") as film:
        film.truncate(1 << 40)
    with pytest.raises(PermanentDriverError, match="more than 256 MiB"):
        store.build("web", target="spt", content=content, options={})


def test_an_option_that_no_guest_could_read(store):
    with pytest.raises(PermanentDriverError, match="configuration key 'na me'"):
        store.build("web", target="spt", content=None, options={"na me": "x"})


def test_a_damaged_manifest_stops_no_other_image(store, content, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "damaged.json").write_text("{")
    assert store.sealed(ImageRef(name="web", role="web", content=str(content)), "spt").exists()
    with pytest.raises(PermanentDriverError, match=r"damaged\.json.*remove it"):
        store.manifests()


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(store, content):
    (content / "index.html").chmod(0)
    with pytest.raises(PermanentDriverError, match="make it readable"):
        store.build("web", target="spt", content=content, options={})


def test_a_folder_that_cannot_be_written(tmp_path, store, content):
    (tmp_path / "images").write_text("a file is in the way")
    with pytest.raises(TransientDriverError, match="cannot write"):
        store.build("web", target="spt", content=content, options={})


@pytest.mark.parametrize("wrong", [b"", b"\x7fELF", program()[64:]])
def test_what_is_no_guest_takes_no_content(wrong):
    with pytest.raises(PermanentDriverError, match="not a Wisp guest"):
        with_content(wrong, b"", b"content")


def test_content_goes_in_once():
    with pytest.raises(PermanentDriverError, match="has some already"):
        with_content(with_content(program(), b"", b"one"), b"", b"two")
