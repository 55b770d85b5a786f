"""Tags the wheel with the machine that its programs run on; they are static, so any Linux of that machine will do."""

import platform
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelTag(BuildHookInterface[Any]):
    """A hook of hatchling's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say what the wheel is for; an editable one stays where it is."""
        if version != "editable":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-manylinux_2_17_{platform.machine()}"
