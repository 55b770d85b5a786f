"""The peer "OCI container": a bundle with runc's own default configuration around the plain static server."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

# Without a cgroup of our own (an ordinary user has none) there is nothing to show inside.
_UNWANTED_MOUNTS = frozenset({"/sys/fs/cgroup"})
# The benchmark already runs in a user namespace, and its network namespace is the one the client is in.
_UNWANTED_NAMESPACES = frozenset({"user", "network", "cgroup"})


def prepare(folder: Path, *, runc: str, server: Path, arguments: tuple[str, ...]) -> Path:
    """Make the bundle anew under ``folder`` and give its path.

    Args:
        folder: Replaced when it is there.
        runc: Path of runc.
        server: Static program to run.
        arguments: Its arguments.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "rootfs").mkdir(parents=True)
    shutil.copy(server, folder / "rootfs" / "server")
    subprocess.run([runc, "spec", "--rootless"], cwd=folder, check=True, timeout=20)
    config = folder / "config.json"
    config.write_text(json.dumps(_adjusted(json.loads(config.read_text()), ("/server", *arguments))))
    return folder


def _adjusted(config: dict[str, Any], argv: tuple[str, ...]) -> dict[str, Any]:
    linux = {key: value for key, value in config["linux"].items() if key not in ("uidMappings", "gidMappings")}
    linux["namespaces"] = [item for item in linux["namespaces"] if item["type"] not in _UNWANTED_NAMESPACES]
    mounts = [item for item in config["mounts"] if item["destination"] not in _UNWANTED_MOUNTS]
    process = config["process"] | {"terminal": False, "args": list(argv)}
    return config | {"linux": linux, "mounts": mounts, "process": process}


def run_command(runc: str, state: Path, bundle: Path, identity: str, pid_file: Path) -> tuple[str, ...]:
    """Give the command that starts a container and returns when its process runs."""
    where = ("--bundle", str(bundle), "--pid-file", str(pid_file))
    return (runc, "--root", str(state), "--rootless", "true", "run", "--detach", *where, identity)


def delete_command(runc: str, state: Path, identity: str) -> tuple[str, ...]:
    """Give the command that ends a container and forgets it."""
    return (runc, "--root", str(state), "--rootless", "true", "delete", "--force", identity)
