"""Containers run in a cloud: their own files, name and variables, no privileges, and nothing left of them."""

import io
import tarfile
from pathlib import Path

import pytest
from tests.integration.cloud import rootfs
from tests.integration.cloud.place import Place, wait_until
from tests.unit.drivers.instance.container.archives import Entry, Layout, archive, folder, symlink

DESCRIPTION = """\
cloud: boxed
sites: {here: {}}
hosts: {box: {site: here, cpu: 4, memory: 1GiB}}
access_points: {wifi: {host: box}}
devices: {phone: {access_point: wifi}}
images: {theirs: {file: %s}}
secrets: {key: {file: key.txt}}
vnfds: {theirs: {vdus: {main: {kind: container, image: theirs, memory: 32MiB, health: {path: /health}, %s}}}}
network_services: {all: {vnfs: {theirs: {vnfd: theirs}}}}
"""
# Writes what it sees of the world to where it serves it.
PROGRAM = b"""#!/bin/busybox sh
b=/bin/busybox
$b cat /proc/self/status >/www/status
$b env >/www/env
$b hostname >/www/hostname
$b pwd >/www/pwd
$b ps -o comm >/www/processes
$b ls -A /run >/www/run
$b ls /sys/class/net >/www/sys
$b mount -t tmpfs none /mnt 2>/www/mount
$b unshare -U $b true 2>/www/unshare
$b kill -9 1 2>/www/kill
$b ls /proc/1/root/ 2>/www/init
$b echo mine >/etc/written && $b rm /etc/lower && $b ls /etc >/www/etc
$b nslookup theirs >/www/dns
exec $b httpd -f -p 80 -h /www
"""
RUN = {"Entrypoint": ["/bin/program"], "Env": ["FROM=image", "KEY=none"], "WorkingDir": "/srv"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Give an OCI layout: busybox below, the program above."""
    base = rootfs.prepare(tmp_path / "base")
    lower = io.BytesIO()
    with tarfile.open(fileobj=lower, mode="w") as opened:
        opened.add(base, arcname=".")
    upper = [
        folder("mnt"), folder("srv"), folder("run"), Entry("run/theirs"), Entry("etc/lower", b"x"),
        Entry("bin/program", PROGRAM, mode=0o755), symlink("bin/env", "busybox"),
    ]  # fmt: skip
    return Layout([lower.getvalue(), archive(upper)], RUN).write(tmp_path / "image")


def up(place: Place, image: Path, more: str) -> dict:
    file = place.directory / "cloud.yaml"
    (place.directory / "key.txt").write_text("s3cret")
    file.write_text(DESCRIPTION % (image, more))
    (row,) = place.ok("up", file)
    return row


def fetched(place: Place, path: str) -> str:
    done = place.wisp("exec", "-c", "boxed", "phone", "--", "curl", "-sS", "-f", "-m", "5", f"http://theirs{path}")
    assert done.status == 0, done.err
    return done.out


def test_it_has_a_world_of_its_own_and_no_privileges(place: Place, image: Path) -> None:
    row = up(place, image, 'config: {KEY: "${secret.key}"}')
    assert (row["state"], row["kind"]) == ("ready", "container")
    status = dict(line.split(":\t") for line in fetched(place, "/status").splitlines())
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    variables = set(fetched(place, "/env").splitlines())
    assert {"FROM=image", "KEY=s3cret", "WISP_NAME=theirs"} <= variables
    assert (fetched(place, "/hostname"), fetched(place, "/pwd")) == ("theirs\n", "/srv\n")
    assert fetched(place, "/run") == "theirs\n"
    assert fetched(place, "/sys").split() == ["eth0", "lo"]
    assert set(fetched(place, "/processes").split()) == {"COMMAND", "wisp-native", "program", "busybox"}
    assert "permission denied" in fetched(place, "/mount")
    assert "not permitted" in fetched(place, "/unshare")
    assert "denied" in fetched(place, "/init").lower()
    assert fetched(place, "/etc").split() == ["resolv.conf", "written"]
    assert "theirs" in fetched(place, "/dns")
    # Neither the image's files nor anything with the secret in it are changed or left where others look.
    (tree,) = (place.directory / "cache/wisp/images/trees").iterdir()
    assert [path.name for path in (tree / "files/etc").iterdir()] == ["lower"]
    assert not [
        path for path in place.folder("boxed").path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()
    ]


def test_it_comes_back_fresh_and_goes_whole(place: Place, image: Path) -> None:
    row = up(place, image, "")
    place.kill(row["pid"])
    wait_until(
        lambda: (
            place.pids("boxed")["theirs"] not in (0, row["pid"])
            and place.ok("ps", "-c", "boxed")[0]["state"] == "ready"
        ),
        within_s=20,
        what="started again",
    )
    # It could remove the file once more, so its files are the image's again.
    assert fetched(place, "/etc").split() == ["resolv.conf", "written"]
    place.ok("down", "boxed")
    assert str(place.directory) not in Path("/proc/self/mounts").read_text()
    assert not [group for group in Path("/sys/fs/cgroup").glob("**/theirs") if group.is_dir()]


def test_its_end_is_told_with_its_status(place: Place, image: Path) -> None:
    file = place.directory / "cloud.yaml"
    (place.directory / "key.txt").write_text("s3cret")
    (image.parent / "base/bin/program").write_bytes(b"#!/bin/busybox sh\necho last words\nexit 7\n")
    (image.parent / "base/bin/program").chmod(0o755)
    file.write_text(DESCRIPTION % (image.parent / "base", "command: [/bin/program]"))
    done = place.wisp("up", file, "--timeout", "20")
    assert done.status != 0
    assert "status 7" in done.err
    assert "last words" in done.err


def test_what_is_no_container_image_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"\x7fELF" + bytes(1000))
    (place.directory / "key.txt").write_text("s3cret")
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION % (tmp_path / "kernel", ""))
    done = place.wisp("plan", file)
    assert done.status != 0
    assert "no OCI image layout" in done.err


def test_an_imported_image_says_its_kind(place: Place, image: Path) -> None:
    imported = place.ok("image", "import", image)
    assert (imported["kind"], imported["protocol"]) == ("container", "oci")
    base = place.ok("image", "import", image.parent / "base")
    assert (base["kind"], base["protocol"]) == ("container", "rootfs")
    assert up(place, imported["digest"], "")["state"] == "ready"
