"""A machine that lacks something: one clear error with the next step, and nothing half-done that cannot be undone."""

import os
import shutil

from tests.integration.cloud.place import HELLO, wait_until

UNSHARE = shutil.which("unshare") or "/usr/bin/unshare"


def test_a_changed_image_is_refused(place):
    pid = place.pids_of(place.ok("up", HELLO))["web"]
    place.ok("down", "hello")
    (image,) = place.directory.glob("cache/wisp/images/*.elf")
    image.chmod(0o755)
    with image.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    done = place.wisp("up", HELLO, "--timeout", "1")
    assert done.status == 1
    assert "was changed" in done.err
    assert "remove it and build it again" in done.err
    assert any("was changed" in event["message"] for event in place.events("hello"))
    image.unlink()  # as the message says
    wait_until(lambda: place.pids("hello")["web"] not in (None, pid), within_s=20, what="web starts")
    assert place.wisp("up", HELLO).status == 0


def test_without_qemu(place):
    programs = place.directory / "bin"
    programs.mkdir()
    for name in ("ip", "iptables-legacy-restore", "nsenter"):
        (programs / name).symlink_to(shutil.which(name, path=os.defpath + ":/usr/sbin:/sbin") or f"/usr/sbin/{name}")
    done = place.wisp("up", HELLO, PATH=str(programs))
    assert done.status == 3
    assert "no qemu-system-x86_64" in done.err
    assert "sudo apt-get install -y --no-install-recommends qemu-system-x86" in done.err


def test_where_user_namespaces_are_forbidden(place):
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    if os.getuid() == 0:
        inside = (UNSHARE, "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh")
    else:
        inside = (UNSHARE, "--user", "--map-root-user", "sh", "-c", forbid, "sh")
    done = place.wisp("up", HELLO, before=inside)
    assert done.status == 3
    assert "user.max_user_namespaces is 0" in done.err
    assert "as root: sysctl -w user.max_user_namespaces=10000" in done.err
    assert place.wisp("down", "hello").status == 0


def test_a_full_disk(place):
    """State on a disk of 128 KiB, in a mount namespace of its own that lasts as long as the shell in it."""
    script = """
        mkdir -p "$XDG_STATE_HOME" && mount -t tmpfs -o size=128k none "$XDG_STATE_HOME" || exit 90
        head -c 1m /dev/zero > "$XDG_STATE_HOME/filler" 2>/dev/null
        "$0" up "$1"; first=$?
        rm "$XDG_STATE_HOME/filler"; mount -o remount,size=8m "$XDG_STATE_HOME"
        "$0" up "$1" --json > "$HOME/rows"; second=$?
        "$0" down --all; third=$?
        echo statuses $first $second $third
        ls -A "$XDG_STATE_HOME/wisp/clouds"
    """
    done = place.shell(script, HELLO, before=(UNSHARE, "--user", "--map-root-user", "--mount"))
    assert "statuses 1 0 0\n" in done.out, done.out + done.err
    assert done.out.rstrip().endswith("statuses 1 0 0"), "files were left"
    assert "space" in done.err
    assert "Traceback" not in done.err
    assert (place.directory / "rows").stat().st_size > 10
