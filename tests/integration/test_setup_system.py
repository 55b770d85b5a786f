"""`make setup-system` asks an ordinary user for exactly one line, and is silent where nothing is missing."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup-system"
TOOLS = ("ip", "tc", "iptables-legacy", "ping", "curl", "tcpdump", "slirp4netns", "cc", "runc", "apt-get", "dpkg")
ORDINARY_UID = 65534
Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run a copy of the script as an ordinary user, with stand-ins for all commands but the ones left out."""
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in (*TOOLS, "qemu-system-x86_64", "cargo"):
        (tools / name).write_text("#!/bin/sh\necho 'cargo 1.95.0'\n")
        (tools / name).chmod(0o755)
    for name in ("bash", "sed", "sort"):
        (tools / name).symlink_to(shutil.which(name) or name)
    # The system's own folders are out of reach, or a command left out would be found there.
    script = tmp_path / "setup-system"
    script.write_text(SCRIPT.read_text().replace(":/usr/sbin:/sbin", ""))
    script.chmod(0o755)

    def runner(*without: str, sudo: bool = False) -> subprocess.CompletedProcess[str]:
        for name in without:
            (tools / name).unlink()
        if sudo:
            (tools / "sudo").write_text("#!/bin/sh\nexit 1\n")
            (tools / "sudo").chmod(0o755)
        return subprocess.run(
            [str(tools / "bash"), str(script)],
            env={"PATH": str(tools), "HOME": str(tmp_path)},
            user=ORDINARY_UID if os.getuid() == 0 else None,
            capture_output=True,
            text=True,
            timeout=20,
        )

    return runner


def test_missing_qemu_gives_an_ordinary_user_the_line_to_run(run: Runner) -> None:
    result = run("qemu-system-x86_64")
    assert result.returncode == 3
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        "su -c 'apt-get update && apt-get install -y --no-install-recommends qemu-system-x86'"
    )


def test_a_sudo_that_asks_for_a_password_is_left_to_the_person(run: Runner) -> None:
    result = run("qemu-system-x86_64", "runc", sudo=True)
    assert result.returncode == 3
    assert result.stderr.splitlines()[-1] == (
        "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends qemu-system-x86 runc'"
    )


def test_another_distribution_is_told_the_commands(run: Runner) -> None:
    result = run("apt-get", "dpkg", "qemu-system-x86_64")
    assert result.returncode == 3
    assert "not Debian" in result.stderr
    assert "qemu-system-x86_64" in result.stderr


def test_missing_rust_says_what_to_do(run: Runner) -> None:
    result = run("cargo")
    assert result.returncode == 3
    assert "rustup toolchain install stable" in result.stderr


def test_nothing_missing_is_silent(run: Runner) -> None:
    result = run()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
