"""The peer "minimal Linux VM": the distribution's cloud kernel and busybox, made ready to boot.

The kernel is taken from ``/boot`` where it is installed, else out of the distribution's package, which an ordinary
user may download and unpack. Its virtio drivers are modules, so the initial RAM disk carries them.
"""

import io
import lzma
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from wisp.bench.machine import cpu_mhz, find_command
from wisp.primitives.errors import MissingPrerequisite
from wisp.primitives.values import frozen

META_PACKAGE = "linux-image-cloud-amd64"
# In the order in which they need each other; one that is built into the kernel has no file and is left out.
MODULES = ("virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover", "virtio_net")
MEMORY_BYTES = 128 << 20
_BUSYBOX = "/bin/busybox"


@frozen
class LinuxVm:
    """A bootable Linux.

    Attributes:
        kernel: As the distribution ships it.
        initrd: busybox, the virtio modules, and an ``init`` that serves ``/health``.
    """

    kernel: Path
    initrd: Path


def prepare(cache: Path, *, address: str, prefix_length: int) -> LinuxVm:
    """Find or fetch the kernel and build the initial RAM disk for one address.

    Raises:
        MissingPrerequisite: There is no busybox, or no kernel to be had.
    """
    kernel, modules = _installed() or _fetched(cache / "linux")
    initrd = cache / "linux-initrd.cpio"
    initrd.write_bytes(_initrd(modules, address, prefix_length))
    return LinuxVm(kernel=kernel, initrd=initrd)


def command_line() -> str:
    """Give the kernel's command line.

    On a busy machine the kernel fails to measure its time stamp counter and then hangs; under QEMU's translator that
    counter is the machine's own, so the kernel is told its rate.
    """
    words = ["console=ttyS0", "quiet", "panic=-1"]
    rate_mhz = cpu_mhz()
    return " ".join(words if rate_mhz is None else [*words, f"tsc_early_khz={round(rate_mhz * 1000)}"])


def _installed() -> tuple[Path, Path] | None:
    """Give kernel and module folder, when both are installed."""
    for kernel in sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"), reverse=True):
        modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
        if modules.is_dir():
            return kernel, modules
    return None


def _fetched(folder: Path) -> tuple[Path, Path]:
    """Give kernel and module folder out of the distribution's package, fetched once into ``folder``."""
    if not list(folder.glob("boot/vmlinuz-*")):
        folder.mkdir(parents=True, exist_ok=True)
        package = _package_name()
        _run(["apt-get", "download", package], folder, f"download {package}")
        archive = max(folder.glob(f"{package}_*.deb"), key=lambda file: file.stat().st_mtime)
        _run(["dpkg-deb", "-x", archive.name, "."], folder, f"unpack {archive.name}")
        archive.unlink()
    kernel = max(folder.glob("boot/vmlinuz-*"))
    release = kernel.name.removeprefix("vmlinuz-")
    return kernel, next(path for path in folder.glob(f"**/lib/modules/{release}"))


def _package_name() -> str:
    """Give the package that the distribution's meta package stands for today."""
    listing = _run(["apt-cache", "depends", META_PACKAGE], Path.cwd(), f"look up {META_PACKAGE}")
    found = re.search(r"Depends: (linux-image-\S+)", listing)
    if found is None:
        raise _no_kernel(f"`apt-cache depends {META_PACKAGE}` names no kernel")
    return found[1]


def _run(argv: list[str], folder: Path, what: str) -> str:
    if find_command(argv[0]) is None:
        raise _no_kernel(f"no {argv[0]} on this machine")
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise _no_kernel(f"cannot {what}: {last}")
    return done.stdout


def _no_kernel(why: str) -> MissingPrerequisite:
    return MissingPrerequisite(
        f"no Linux kernel to compare with: {why}",
        remedy=f"run: sudo apt-get update && sudo apt-get install -y --no-install-recommends {META_PACKAGE}",
    )


def _initrd(modules: Path, address: str, prefix_length: int) -> bytes:
    """Give a newc cpio archive."""
    files = dict(_module_files(modules))
    init = _init(list(files), address, prefix_length).encode()
    archive = io.BytesIO()
    for name in ("bin", "m", "www"):
        archive.write(_entry(name, b"", 0o040755))
    archive.write(_entry("bin/busybox", _busybox(), 0o100755))
    archive.write(_entry("www/health", b"ok\n", 0o100644))
    for name, content in files.items():
        archive.write(_entry(f"m/{name}.ko", content, 0o100644))
    archive.write(_entry("init", init, 0o100755))
    archive.write(_entry("TRAILER!!!", b"", 0))
    return archive.getvalue()


def _module_files(modules: Path) -> Iterator[tuple[str, bytes]]:
    for name in MODULES:
        for file in modules.glob(f"kernel/**/{name}.ko*"):
            content = file.read_bytes()
            yield name, lzma.decompress(content) if file.suffix == ".xz" else content


def _init(modules: list[str], address: str, prefix_length: int) -> str:
    lines = ["#!/bin/busybox sh", *(f"{_BUSYBOX} insmod /m/{name}.ko" for name in modules)]
    # Listening before the network is up: no client is ever refused, so none has to come back.
    lines += [
        f"{_BUSYBOX} httpd -p 80 -h /www",
        f"{_BUSYBOX} ip address add {address}/{prefix_length} dev eth0",
        f"{_BUSYBOX} ip link set eth0 up",
        f"exec {_BUSYBOX} sleep 3600",
    ]
    return "\n".join(lines) + "\n"


def _busybox() -> bytes:
    path = find_command("busybox")
    if path is None or b"/lib64/ld-linux" in (content := Path(path).read_bytes())[:4096]:
        raise MissingPrerequisite(
            "no static busybox for the Linux VM to run",
            remedy="run: sudo apt-get install -y --no-install-recommends busybox-static",
        )
    return content


def _entry(name: str, content: bytes, mode: int) -> bytes:
    """Give one newc header with its name and content, each padded to four bytes."""
    # magic, then: inode, mode, uid, gid, links, mtime, size, device x2, rdevice x2, name length, checksum
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % number for number in fields) + name.encode() + b"\0"
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
