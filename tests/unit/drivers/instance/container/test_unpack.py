"""A container's image becomes exactly the files it says, in its own folder, whatever is in it."""

import gzip
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.drivers.instance.container.archives import Entry, Layout, archive, folder, hard_link, symlink

from wisp.drivers.instance.container import tree
from wisp.drivers.instance.container.oci import read
from wisp.drivers.instance.container.unpack import Trees, write
from wisp.primitives.errors import PermanentDriverError


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """Give the folder to unpack into; what lies beside it must never change."""
    (tmp_path / "outside").write_text("untouched")
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    return place


def unpack(image: bytes, place: Path) -> dict[str, str]:
    """Unpack and give what is there: content by path, links as ``-> target``, folders as ``/``."""
    file = place.parent.parent / "image"
    file.write_bytes(image)
    with read(file) as opened:
        write(opened, place)
    return told(place)


def told(place: Path) -> dict[str, str]:
    found = {}
    for parent, folders, files in os.walk(place):
        for name in [*folders, *files]:
            path = Path(parent) / name
            key = str(path.relative_to(place))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
            else:
                found[key] = "/" if path.is_dir() else path.read_text()
    return found


def test_files_folders_and_links_are_as_in_the_archive(inside: Path) -> None:
    entries = [
        folder("bin", 0o500),
        Entry("bin/tool", b"tool", mode=0o4755),
        symlink("bin/sh", "/bin/tool"),
        hard_link("bin/other", "bin/tool"),
        Entry("./etc/deep/file", b"deep"),
        Entry("dev", form=tarfile.CHRTYPE),
    ]
    assert unpack(archive(entries), inside) == {
        "bin": "/", "bin/tool": "tool", "bin/sh": "-> /bin/tool", "bin/other": "tool",
        "etc": "/", "etc/deep": "/", "etc/deep/file": "deep",
    }  # fmt: skip
    assert (inside / "bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (inside / "bin/tool").samefile(inside / "bin/other")


def test_layers_lie_over_each_other(inside: Path) -> None:
    lower = [
        Entry("a/one", b"1"),
        Entry("a/two", b"2"),
        Entry("b/three", b"3"),
        Entry("c/four", b"4"),
        Entry("d", b"5"),
    ]
    upper = [
        Entry("a/.wh.one"),
        Entry("b/new", b"6"),
        Entry("b/.wh..wh..opq"),
        Entry("c", b"a file now"),
        folder("d"),
        Entry("d/in", b"a folder now"),
    ]
    assert unpack(Layout([archive(lower), archive(upper)]).archive(), inside) == {
        "a": "/", "a/two": "2", "b": "/", "b/new": "6", "c": "a file now", "d": "/", "d/in": "a folder now",
    }  # fmt: skip


def test_a_whiteout_leaves_what_its_own_layer_brings(inside: Path) -> None:
    lower = [Entry("a/b/old", b"1"), Entry("a/b/c/old", b"2"), Entry("a/gone", b"3")]
    upper = [Entry("a/b/c/new", b"4"), Entry("a/.wh.b"), Entry("a/.wh..wh..opq")]
    found = unpack(Layout([archive(lower), archive(upper)]).archive(), inside)
    assert found == {"a": "/", "a/b": "/", "a/b/c": "/", "a/b/c/new": "4"}


def test_a_file_that_a_later_layer_links_to_is_there_once(inside: Path) -> None:
    layers = [archive([Entry("a", b"1")]), archive([hard_link("b", "a"), Entry(".wh.a")])]
    # The link says something of "a", so that the whiteout of the same layer lets it be.
    assert unpack(Layout(layers).archive(), inside) == {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("../../outside", b"x")],
        [Entry("/../../outside", b"x")],
        [Entry("//outside", b"x")],
        [symlink("way", "../.."), Entry("way/outside", b"x")],
        [symlink("way", "/"), Entry("way/outside", b"x")],
        [symlink("way", "//"), Entry("way/outside", b"x")],
        [symlink("one", "two"), symlink("two", "../../.."), Entry("one/outside", b"x")],
        [folder("deep"), symlink("deep/way", "../../../.."), Entry("deep/way/outside", b"x")],
        [symlink("outside", "../../outside"), Entry("outside", b"x")],
        [Entry("x", b"x"), hard_link("outside", "../../../x")],
        [symlink("way", "../.."), Entry("way/.wh.outside"), Entry("outside", b"x")],
        [symlink("way", "../.."), Entry("way/.wh..wh..opq"), Entry("outside", b"x")],
    ],
)  # fmt: skip
def test_no_name_leads_out(inside: Path, entries: list[Entry]) -> None:
    for image in (archive(entries), Layout([archive([Entry("a", b"1")]), archive(entries)]).archive()):
        place = inside / str(len(list(inside.iterdir())))
        place.mkdir()
        with read_from(image, inside) as opened:
            write(opened, place)
        assert (place / "outside").exists()
    assert (inside.parent.parent / "outside").read_text() == "untouched"
    assert {path.name for path in inside.parent.parent.iterdir()} == {"outside", "a", "image"}


def read_from(image: bytes, inside: Path):
    file = inside.parent.parent / "image"
    file.write_bytes(image)
    return read(file)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([Entry("a", b"1"), Entry("a/b", b"2")], "lies a file"),
        ([symlink("a", "b"), symlink("b", "a"), Entry("a/c", b"1")], "in circles"),
        ([hard_link("a", "nowhere")], "is no file in it"),
        ([folder("d"), hard_link("a", "d")], "is no file in it"),
        ([Entry("x/..", b"1")], "by what is in it"),
        ([Entry("/".join("x" * 200), b"1")], "too deep"),
        ([Entry("x" * 256, b"1")], "no name of a file"),
    ],
)
def test_what_cannot_be_is_refused(inside: Path, entries: list[Entry], words: str) -> None:
    with pytest.raises(PermanentDriverError, match=words):
        unpack(archive(entries), inside)


def test_too_many_names_and_bytes_are_refused(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_NAMES", 10)
    with pytest.raises(PermanentDriverError, match="10 names"):
        unpack(archive([Entry("/".join("abcdefghijk"), b"1")]), inside)
    monkeypatch.setattr(tree, "MOST_NAMES", 100)
    monkeypatch.setattr(tree, "MOST_BYTES", 10)
    with pytest.raises(PermanentDriverError, match="more than"):
        unpack(archive([Entry("a", b"123456"), Entry("b", b"123456")]), inside)


def test_a_header_that_says_it_is_huge_is_not_read(inside: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(PermanentDriverError, match="longer than"):
        unpack(member.tobuf(tarfile.USTAR_FORMAT) + bytes(2048), inside)


@pytest.mark.parametrize("change", ["config", "layer", "index", "platform", "zstd"])
def test_damage_of_a_layout_is_told(inside: Path, change: str) -> None:
    layout = Layout([archive([Entry("a", b"1")])])
    if change == "platform":
        layout.platform = {"os": "linux", "architecture": "arm64"}
    if change == "zstd":
        layout.media_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    files = layout.files()
    for name, content in files.items():
        is_layer = content.startswith(b"\x1f\x8b")
        if (change == "layer" and is_layer) or (change == "config" and b"architecture" in content):
            files[name] = content + b" "
        if change == "index" and name == "index.json":
            files[name] = b"[]"
    with pytest.raises(PermanentDriverError, match="cannot be read"):
        unpack(archive(Entry(name, content) for name, content in files.items()), inside)


def test_an_image_says_how_it_is_run(inside: Path) -> None:
    run = {"Entrypoint": ["/bin/server"], "Cmd": ["-x"], "Env": ["A=1", "B=x=y"], "WorkingDir": "/srv"}
    with read_from(Layout([archive([Entry("a", b"1")])], run).archive(), inside) as opened:
        found = opened.image
    assert (found.entrypoint, found.arguments, found.folder) == (("/bin/server",), ("-x",), "/srv")
    assert found.environment == {"A": "1", "B": "x=y"}


def test_a_tree_is_unpacked_once_and_whole_or_not_at_all(tmp_path: Path) -> None:
    image, trees = tmp_path / "0123", Trees(tmp_path / "trees")
    image.write_bytes(gzip.compress(archive([Entry("a", b"1")])))
    first = trees.unpacked(image)
    assert told(first.files) == {"a": "1"}
    image.write_bytes(b"gone")
    assert trees.unpacked(image) == first
    broken = tmp_path / "4567"
    broken.write_bytes(archive([Entry("a", b"1" * 100_000)])[:50_000])
    with pytest.raises(PermanentDriverError):
        trees.unpacked(broken)
    assert [path.name for path in (tmp_path / "trees").iterdir()] == ["0123"]


_NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "c"]), min_size=1, max_size=4)
_ENTRIES = st.builds(
    Entry,
    _NAMES.map("/".join),
    st.binary(max_size=3),
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    _NAMES.map("/".join),
)


@given(layers=st.lists(st.lists(_ENTRIES, max_size=6), min_size=1, max_size=3), damage=st.integers(0, 4000))
def test_any_image_is_unpacked_inside_or_refused(
    layers: list[list[Entry]], damage: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("any")
    place = base / "a" / "b"
    place.mkdir(parents=True)
    content = bytearray(Layout([archive(layer) for layer in layers]).archive())
    if damage < len(content) and damage % 3 == 0:
        content[damage] ^= 0x55
    try:
        with read_from(bytes(content), place) as opened:
            write(opened, place)
    except PermanentDriverError:
        pass
    assert {path.name for path in base.iterdir()} == {"a", "image"}
    assert [path.name for path in (base / "a").iterdir()] == ["b"]
