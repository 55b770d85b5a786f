"""How a container runs, as the OCI runtime specification's ``config.json``; pure.

A container has no capability and can gain none: like every other instance of a cloud, it is root of nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wisp.drivers.instance.container.oci import ContainerImage
from wisp.drivers.instance.secret import filled_in
from wisp.model.instance import InstanceSpec
from wisp.primitives.errors import PermanentDriverError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where ``wisp-native container`` lays its root file system.
ROOT = "/run/rootfs"
RESOLVER = Path("/etc/resolv.conf")
OPEN_FILES = 4096
_HIDDEN = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware")
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_QUIET = ["nosuid", "noexec", "nodev"]
_MOUNTS: tuple[tuple[str, str, str, list[str]], ...] = (
    # where, type, from, options
    ("/proc", "proc", "proc", _QUIET),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=64k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
    ("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", "size=64m"]),  # noqa: S108 - inside the container
    ("/dev/mqueue", "mqueue", "mqueue", _QUIET),
    ("/sys", "sysfs", "sysfs", [*_QUIET, "ro"]),
)
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
# Nothing that a service needs, and much of what breaks out of containers went through: other users' memory and keys,
# new namespaces and mounts, the kernel's larger machines.
_FORBIDDEN = (
    "add_key", "bpf", "fsconfig", "fsmount", "fsopen", "fspick", "io_uring_enter", "io_uring_register",
    "io_uring_setup", "kcmp", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "name_to_handle_at",
    "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root", "process_vm_readv", "process_vm_writev",
    "ptrace", "request_key", "setns", "umount2", "unshare", "userfaultfd",
)  # fmt: skip
_EPERM, _ENOSYS = 1, 38
# Of a new user namespace, without which there are no other new ones.
_CLONE_NEWUSER = 0x1000_0000


def configuration(spec: InstanceSpec, image: ContainerImage, secrets: Mapping[str, str]) -> dict[str, Any]:
    """Give the configuration of a container.

    Args:
        spec: What to run; its network and pid namespaces are those the runtime is started in.
        image: What the image says of how it is run; the spec's command and variables win.
        secrets: Values of the secrets that the spec names.

    Raises:
        PermanentDriverError: Neither the spec nor the image says what to run, or a secret has no value.
    """
    mounts = [
        {"destination": place, "type": form, "source": source, "options": options}
        for place, form, source, options in _MOUNTS
    ]
    resolver = {
        "destination": str(RESOLVER), "type": "bind", "source": str(RESOLVER), "options": ["bind", "ro", *_QUIET],
    }  # fmt: skip
    return {
        "ociVersion": "1.0.2",
        "hostname": spec.name,
        "root": {"path": ROOT, "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(arguments(spec, image)),
            "env": [f"{name}={value}" for name, value in _environment(spec, image, secrets).items()],
            "cwd": image.folder,
            "capabilities": {name: [] for name in _CAPABILITY_SETS},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES}],
        },
        "mounts": [*mounts, resolver] if RESOLVER.exists() else mounts,
        "linux": {
            "namespaces": [{"type": name} for name in ("ipc", "uts", "mount")],
            "maskedPaths": list(_HIDDEN),
            "readonlyPaths": list(_READ_ONLY),
            "seccomp": _filter(),
        },
    }


def arguments(spec: InstanceSpec, image: ContainerImage) -> tuple[str, ...]:
    """Give program and arguments: the spec's command stands in for the image's own arguments.

    Raises:
        PermanentDriverError: Neither says what to run.
    """
    argv = (*image.entrypoint, *(spec.command or image.arguments))
    if not argv:
        raise PermanentDriverError(
            f"{spec.name}: nobody says what to run: its image has no entrypoint; give it a `command`",
            driver=spec.kind,
            operation="start",
            subject=spec.name,
        )
    return argv


def _environment(spec: InstanceSpec, image: ContainerImage, secrets: Mapping[str, str]) -> dict[str, str]:
    own = {name: filled_in(value, secrets) for name, value in spec.config}
    return {"PATH": SEARCH_PATH, "WISP_NAME": spec.name} | dict(image.environment) | own


def _filter() -> dict[str, Any]:
    """Give the seccomp part; a program that is refused ``clone3`` falls back to ``clone``, whose flags can be seen."""
    new_user = {"index": 0, "value": _CLONE_NEWUSER, "valueTwo": _CLONE_NEWUSER, "op": "SCMP_CMP_MASKED_EQ"}
    refuse = "SCMP_ACT_ERRNO"
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": list(_FORBIDDEN), "action": refuse, "errnoRet": _EPERM},
            {"names": ["clone3"], "action": refuse, "errnoRet": _ENOSYS},
            {"names": ["clone"], "action": refuse, "errnoRet": _EPERM, "args": [new_user]},
        ],
    }
