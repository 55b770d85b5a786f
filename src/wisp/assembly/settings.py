"""Where things are; read once from the environment, here and nowhere else."""

import os
from dataclasses import dataclass
from pathlib import Path

from wisp.primitives.values import frozen


@frozen
class Settings:
    """Folders and files of this user and this installation.

    Attributes:
        state: Clouds live here, one folder each.
        cache: What can be made again: built images, verdicts about the machine.
        artifacts: Guest images and the native program that came with this installation.
        search_path: Where programs are looked for, as ``PATH``.
    """

    state: Path
    cache: Path
    artifacts: Path
    search_path: str

    @property
    def clouds(self) -> Path:
        """Folder of all clouds."""
        return self.state / "clouds"

    @property
    def images(self) -> Path:
        """Store of built images."""
        return self.cache / "images"

    @property
    def examples(self) -> Path:
        """The examples: beside the package in a wheel, beside the sources in a checkout."""
        packaged = self.artifacts.parent / "_examples"
        return packaged if packaged.is_dir() else self.artifacts.parent.parent.parent / "examples"

    @property
    def native(self) -> Path:
        """The keeper, delay line and relay in one program."""
        return self.artifacts / "wisp-native"

    def cloud(self, name: str) -> "CloudFolder":
        """Give the folder of one cloud."""
        return CloudFolder(self.clouds / name)

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read ``XDG_STATE_HOME``, ``XDG_CACHE_HOME``, ``HOME`` and ``PATH``."""
        home = Path.home()
        return cls(
            state=Path(os.environ.get("XDG_STATE_HOME") or home / ".local/state") / "wisp",
            cache=Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "wisp",
            artifacts=Path(__file__).parent.parent / "_artifacts",
            search_path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        )


@dataclass(frozen=True, slots=True)
class CloudFolder:
    """Everything one cloud keeps on disk."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the cloud."""
        return self.path.name

    @property
    def database(self) -> Path:
        """Desired state, records and events."""
        return self.path / "state.db"

    @property
    def controller_socket(self) -> Path:
        """Where the controller is told of changes and tells its progress."""
        return self.path / "controller.sock"

    @property
    def resolver(self) -> Path:
        """What the cloud's processes see as ``/etc/resolv.conf``."""
        return self.path / "resolv.conf"

    @property
    def snapshots(self) -> Path:
        """Guests that were put away; they may hold secrets."""
        return self.path / "snapshots"

    @property
    def logs(self) -> Path:
        """Log files, one per instance, and the controller's."""
        return self.path / "logs"
