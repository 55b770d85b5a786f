"""Facts about the machine and the versions of what takes part, for the head of a report."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
_SYSTEM_FOLDERS = "/usr/sbin:/sbin"


def find_command(name: str) -> str | None:
    """Give the path of a command, also of one in the system's own folders that an ordinary PATH omits."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)


def machine_facts() -> dict[str, Any]:
    """Give processor, memory, kernel and distribution of this machine, and how loaded it is."""
    return {
        "architecture": platform.machine(),
        "processor": _field_of("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", UNKNOWN),
        "load_1min": os.getloadavg()[0],
        "user": "root" if os.geteuid() == 0 else "ordinary",
    }


def cpu_mhz() -> float | None:
    """Give the processor's rate as the kernel tells it [MHz]; ``None`` where it does not."""
    rate = _field_of("/proc/cpuinfo", "cpu MHz")
    return None if rate == UNKNOWN else float(rate)


def versions(commands: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Give the versions of Wisp and Python, and the first line each of ``commands`` says of itself.

    Args:
        commands: What to ask, by the name to report it under; one that is missing or refused is left out.
    """
    found = {"wisp": metadata.version("wisp-edge"), "python": platform.python_version()}
    for name, argv in commands.items():
        path = find_command(argv[0])
        if path is not None and (line := _first_line([path, *argv[1:]])):
            found[name] = line
    return found


def _first_line(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except OSError:  # a program may ask for capabilities that its user must not have, as ping does
        return ""
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def _field_of(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return UNKNOWN
