"""Foreign files are kept whole, by digest, and told what they are."""

import os
import tarfile
from pathlib import Path

import pytest
from tests.unit.drivers.image import files

from wisp.drivers.image.files import FileStore
from wisp.model.image import ForeignImage
from wisp.model.instance import ImageRef
from wisp.primitives.errors import PermanentDriverError, TransientDriverError


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    (tmp_path / "kernel.elf").write_bytes(files.elf64(files.PVH, body=b"OSv v0.57"))
    return tmp_path / "kernel.elf"


def test_a_file_is_kept_and_named(store: FileStore, kernel: Path) -> None:
    digest = store.digest(str(kernel))
    assert store.manifests() == []
    manifest = store.take_in(str(kernel))
    assert (manifest.digest, manifest.name) == (digest, "kernel.elf")
    assert (manifest.protocol, manifest.family) == ("pvh", "osv")
    assert store.manifests() == [manifest]
    assert store.verified(digest).read_bytes() == kernel.read_bytes()


def test_a_name_that_was_given_stays(store: FileStore, kernel: Path) -> None:
    assert store.take_in(str(kernel), name="osv").name == "osv"
    assert store.take_in(str(kernel)).name == "osv"
    assert store.take_in(str(kernel), name="other").name == "other"
    assert [each.name for each in store.manifests()] == ["other"]


def test_nothing_unfinished_is_left(store: FileStore, kernel: Path) -> None:
    kept = store.path(store.take_in(str(kernel), name="a").digest)
    store.take_in(str(kernel), name="b")
    assert sorted(kept.parent.iterdir()) == [kept, kept.with_suffix(".json")]


def test_a_kept_file_is_named_by_its_digest_or_the_start_of_it(store: FileStore, kernel: Path) -> None:
    manifest = store.take_in(str(kernel))
    kernel.unlink()
    for source in (manifest.digest, manifest.digest[:15]):
        assert store.digest(source) == manifest.digest
        assert store.take_in(source) == manifest
        assert store.file(manifest.digest, source) == store.path(manifest.digest)


@pytest.mark.parametrize("digest", ["sha256:", "sha256:00", "sha256:../kernel", "sha256:/etc/passwd"])
def test_an_unknown_digest_is_told(store: FileStore, kernel: Path, digest: str) -> None:
    store.take_in(str(kernel))
    kernel.with_suffix(".json").write_text("{}")
    with pytest.raises(PermanentDriverError, match=r"no imported file with digest .*wisp image ls"):
        store.take_in(digest)


def test_what_is_not_booted_is_kept_without_a_protocol(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(b"070701")
    assert store.take_in(str(tmp_path / "initrd")).protocol == ""


def test_what_was_taken_in_outlives_its_source(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(str(kernel)).digest
    kernel.write_bytes(b"something else")
    assert store.file(digest, str(kernel)).read_bytes()[:4] == b"\x7fELF"


def test_a_removed_file_is_taken_in_again_unless_it_changed(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(str(kernel)).digest
    store.path(digest).unlink()
    image = ImageRef(name="k", digest=digest, foreign=ForeignImage(file=str(kernel)), parts=(("file", digest),))
    assert store.files(image) == {"file": store.path(digest)}
    store.path(digest).unlink()
    kernel.write_bytes(b"something else")
    with pytest.raises(PermanentDriverError, match=r"has changed since.*wisp up"):
        store.files(image)


def test_a_removed_file_known_by_digest_alone_wants_another_import(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(str(kernel)).digest
    store.path(digest).unlink()
    with pytest.raises(PermanentDriverError, match="import it again"):
        store.file(digest, digest)
    assert store.take_in(str(kernel)).digest == digest
    assert store.file(digest, digest) == store.path(digest)


def test_a_changed_copy_is_refused(store: FileStore, kernel: Path) -> None:
    digest = store.take_in(str(kernel)).digest
    store.verified(digest)
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"changed")
    with pytest.raises(PermanentDriverError, match="was changed"):
        store.verified(digest)


def test_a_folder_is_kept_as_one_archive_by_what_is_in_it(store: FileStore, tmp_path: Path) -> None:
    digests = set()
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
            os.utime(folder / name, (number, number))
        os.mkfifo(folder / "pipe")
        (folder / "link").symlink_to("a")
        digests.add(store.take_in(str(folder)).digest)
    (manifest,) = store.manifests()
    assert (digests, manifest.protocol) == ({manifest.digest}, "rootfs")
    with tarfile.open(store.path(manifest.digest)) as archive:
        assert archive.getnames() == [".", "./a", "./b", "./link"]


def test_what_cannot_be_read_is_named(store: FileStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "no-such", "No such file"), (tmp_path / "pipe", "neither")):
        with pytest.raises(PermanentDriverError, match=f"{path}: .*{why}"):
            store.take_in(str(path))
    assert store.manifests() == []


def test_a_folder_that_cannot_be_written_is_told(kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(TransientDriverError, match=r"cannot keep .*kernel.elf"):
        FileStore(tmp_path / "taken" / "store").take_in(str(kernel))
