"""Foreign files are kept whole, by digest, and told what they are."""

import os
import tarfile
from pathlib import Path

import pytest
from tests.unit.drivers.image import files

from wisp.drivers.image.files import FileStore
from wisp.drivers.image.kind import OCI_LAYOUT, ROOT_FILE_SYSTEM, WASM_COMPONENT, WASM_MODULE, what_is
from wisp.model.image import ForeignImage
from wisp.model.instance import ImageRef
from wisp.primitives.errors import PermanentDriverError


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    (tmp_path / "kernel.elf").write_bytes(files.elf64(files.PVH, body=b"OSv v0.57"))
    return tmp_path / "kernel.elf"


def test_a_file_is_kept_and_named(store: FileStore, kernel: Path) -> None:
    digest = store.digest(kernel)
    assert store.manifests() == []
    manifest = store.take_in(kernel)
    assert (manifest.digest, manifest.name, manifest.what, manifest.family) == (digest, "kernel.elf", "pvh", "osv")
    assert store.manifests() == [manifest]
    assert store.verified(digest).read_bytes() == kernel.read_bytes()
    assert store.take_in(kernel, name="other").name == "other"


def test_what_was_taken_in_outlives_its_source(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(kernel).digest
    kernel.write_bytes(b"something else")
    assert store.file(digest, kernel).read_bytes()[:4] == b"\x7fELF"


def test_a_removed_file_is_taken_in_again_unless_it_changed(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(kernel).digest
    store.path(digest).unlink()
    image = ImageRef(name="k", digest=digest, foreign=ForeignImage(file=str(kernel)), parts=(("file", digest),))
    assert store.files(image) == {"file": store.path(digest)}
    store.path(digest).unlink()
    kernel.write_bytes(b"something else")
    with pytest.raises(PermanentDriverError, match=r"has changed since.*wisp up"):
        store.files(image)


def test_a_changed_copy_is_refused(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(kernel).digest
    store.verified(digest)
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"changed")
    with pytest.raises(PermanentDriverError, match="was changed"):
        store.verified(digest)


def test_a_missing_file_is_named(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(PermanentDriverError, match=r"no-such.*No such file"):
        store.take_in(tmp_path / "no-such")
    assert store.manifests() == []


def test_a_folder_has_the_same_digest_wherever_and_whenever(store: FileStore, tmp_path: Path) -> None:
    for name, age in (("one", 1), ("two", 2)):
        root = tmp_path / name
        (root / "bin").mkdir(parents=True)
        (root / "bin/sh").write_text("#!")
        (root / "bin/link").symlink_to("/bin/sh")
        os.utime(root / "bin/sh", (age, age))
    assert store.digest(tmp_path / "one") == store.digest(tmp_path / "two")
    (tmp_path / "two/bin/sh").chmod(0o700)
    assert store.digest(tmp_path / "one") != store.digest(tmp_path / "two")
    manifest = store.take_in(tmp_path / "one")
    assert manifest.what == ROOT_FILE_SYSTEM
    with tarfile.open(store.path(manifest.digest)) as archive:
        assert archive.getnames() == ["bin", "bin/link", "bin/sh"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\0asm\1\0\0\0", WASM_MODULE),
        (b"\0asm\x0d\0\1\0", WASM_COMPONENT),
        (b"\x1f\x8bnot really", "data"),
        (b"", "data"),
        (files.DISK, "disk"),
    ],
)
def test_files_are_told_apart(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert what_is(tmp_path / "file").what == what


def test_an_oci_layout_is_one_also_as_a_folder(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/oci-layout").write_text("{}")
    assert store.take_in(tmp_path / "image").what == OCI_LAYOUT
