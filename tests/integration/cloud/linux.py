"""A Linux for tests: the distribution's cloud kernel and busybox, which takes its address from ``ip=`` and serves it.

Where there is no kernel, tests are skipped with the reason.
"""

import io
from pathlib import Path

import pytest

from wisp.bench import linux_vm

MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_mmio",
    "failover", "net_failover", "virtio_net",
)  # fmt: skip
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for m in {modules}; do $b insmod /m/$m.ko; done
for word in $($b cat /proc/cmdline); do case $word in ip=*) ip=${{word#ip=}};; esac; done
oldifs=$IFS; IFS=:; set -- $ip; IFS=$oldifs
$b httpd -p 80 -h /www
$b ip link set lo up
$b ip address add $1/$($b ipcalc -p 0.0.0.0 $4 | $b cut -d= -f2) dev eth0
$b ip link set eth0 up
$b ip route add default via $3
exec $b sleep 3600
"""


def prepare(folder: Path) -> None:
    """Put ``vmlinuz`` and ``initrd.cpio`` into a folder."""
    found = linux_vm._installed()
    if found is None:
        pytest.skip(f"no Linux kernel here: install {linux_vm.META_PACKAGE}")
    kernel, modules = found
    if not kernel.stat().st_mode & 0o004:
        pytest.skip(f"{kernel} cannot be read by everybody")
    (folder / "vmlinuz").symlink_to(kernel)
    (folder / "initrd.cpio").write_bytes(_initrd(modules))


def _initrd(modules: Path) -> bytes:
    files = {name: file.read_bytes() for name in MODULES for file in modules.glob(f"kernel/**/{name}.ko")}
    archive = io.BytesIO()
    for name in ("bin", "m", "www", "proc"):
        archive.write(linux_vm._entry(name, b"", 0o040755))
    archive.write(linux_vm._entry("bin/busybox", linux_vm._busybox(), 0o100755))
    archive.write(linux_vm._entry("www/health", b"ok\n", 0o100644))
    for name, content in files.items():
        archive.write(linux_vm._entry(f"m/{name}.ko", content, 0o100644))
    archive.write(linux_vm._entry("init", INIT.format(modules=" ".join(files)).encode(), 0o100755))
    archive.write(linux_vm._entry("TRAILER!!!", b"", 0))
    return archive.getvalue()
