"""A root file system for tests: a static busybox and a page."""

import shutil
from pathlib import Path

import pytest

from wisp.bench import linux_vm
from wisp.primitives.errors import MissingPrerequisite


def prepare(folder: Path) -> Path:
    """Make the folder; tests that need it are skipped where there is no container runtime or busybox."""
    if not any(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in ("runc", "crun")):
        pytest.skip("no container runtime here: install runc")
    try:
        busybox = linux_vm._busybox()
    except MissingPrerequisite as missing:
        pytest.skip(str(missing))
    for name in ("bin", "www", "etc", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "bin/busybox").write_bytes(busybox)
    (folder / "bin/busybox").chmod(0o755)
    (folder / "bin/sh").symlink_to("/bin/busybox")
    (folder / "www/health").write_text("ok\n")
    return folder
