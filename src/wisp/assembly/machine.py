"""The facade of the machine: its clouds, its images, what it can do, its benchmarks and the demo."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wisp.assembly.cloud import Cloud
from wisp.assembly.lifecycle import clouds
from wisp.assembly.settings import Settings
from wisp.model.view import Finding, Progress

OnProgress = Callable[[Progress], None]


class Machine:
    """Implements :class:`wisp.interfaces.facade.MachineFacade`; what is rarely used is imported when asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def cloud(self, source: Path | None = None, *, name: str | None = None) -> Cloud:
        """Give a cloud by its description or its name."""
        return Cloud(source, name=name, settings=self._settings)

    def clouds(self) -> list[str]:
        """Give the names of the clouds that are here."""
        return [folder.name for folder in clouds(self._settings)]

    async def doctor(self) -> list[Finding]:
        """Say what this machine can do."""
        from wisp.assembly.doctor import examine

        return await examine(self._settings)

    def schema(self) -> Mapping[str, Any]:
        """Give the JSON Schema of a description."""
        from wisp.codec.schema import json_schema

        return json_schema()
