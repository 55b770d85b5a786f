"""What the peers are made of."""

import subprocess
from pathlib import Path

from wisp.bench import container, linux_vm
from wisp.bench.machine import find_command, machine_facts, versions


def test_the_initial_ram_disk_is_an_archive_cpio_reads(tmp_path: Path) -> None:
    folder = tmp_path / "kernel/drivers/virtio"
    folder.mkdir(parents=True)
    (folder / "virtio.ko").write_bytes(b"module")
    archive = linux_vm._initrd(tmp_path, "10.0.0.2", 24)
    cpio = find_command("busybox")
    assert cpio is not None, "run: make setup-system"
    subprocess.run([cpio, "cpio", "-i", "-d", "--quiet"], cwd=tmp_path, input=archive, check=True)
    assert (tmp_path / "m/virtio.ko").read_bytes() == b"module"
    assert (tmp_path / "www/health").read_text() == "ok\n"
    init = (tmp_path / "init").read_text()
    assert "insmod /m/virtio.ko" in init
    assert "insmod /m/virtio_net.ko" not in init
    assert "10.0.0.2/24" in init
    assert (tmp_path / "init").stat().st_mode & 0o111


def test_the_bundle_keeps_runcs_own_configuration_but_for_what_the_benchmark_has_already() -> None:
    kinds = ("pid", "network", "ipc", "mount", "user", "cgroup")
    given = {
        "linux": {"namespaces": [{"type": kind} for kind in kinds], "uidMappings": [], "maskedPaths": ["/proc/kcore"]},
        "mounts": [{"destination": "/proc"}, {"destination": "/sys/fs/cgroup"}],
        "process": {"terminal": True, "args": ["sh"], "cwd": "/"},
    }
    made = container._adjusted(given, ("/server", "1"))
    assert [item["type"] for item in made["linux"]["namespaces"]] == ["pid", "ipc", "mount"]
    assert made["linux"]["maskedPaths"] == ["/proc/kcore"]
    assert "uidMappings" not in made["linux"]
    assert made["mounts"] == [{"destination": "/proc"}]
    assert made["process"] == {"terminal": False, "args": ["/server", "1"], "cwd": "/"}


def test_machine_and_versions_are_told() -> None:
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 1 << 28
    found = versions({"shell": ("sh", "-c", "echo one; echo two"), "nothing": ("no-such-command",)})
    assert found["shell"] == "one"
    assert "nothing" not in found
