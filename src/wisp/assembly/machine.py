"""The facade of the machine: its clouds, its images, what it can do, its benchmarks and the demo."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from wisp.assembly.cloud import Cloud
from wisp.assembly.images import file_store, image_store, import_file, told
from wisp.assembly.lifecycle import clouds
from wisp.assembly.settings import Settings
from wisp.drivers.image.store import Manifest
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

    def build_image(
        self, role: str, *, target: str, content: Path | None, options: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Build a sealed image and give its manifest."""
        return _plain(image_store(self._settings).build(role, target=target, content=content, options=options))

    def images(self) -> list[Mapping[str, Any]]:
        """Give the manifests of all images, built ones first."""
        built = [_plain(manifest) for manifest in image_store(self._settings).manifests()]
        return built + [told(manifest) for manifest in file_store(self._settings).manifests()]

    def import_image(self, file: Path, *, name: str) -> Mapping[str, Any]:
        """Keep somebody else's image and give its manifest, with the kind and machine that would run it."""
        return import_file(self._settings, file, name=name)

    def inspect_image(self, digest: str) -> Mapping[str, Any]:
        """Check an image against its manifest and give that, with the path of its file."""
        files = file_store(self._settings)
        if files.matching(digest):
            file = files.manifest(digest)
            return {**told(file), "path": str(files.verified(file.digest))}
        path, manifest = image_store(self._settings).verify(digest)
        return {**_plain(manifest), "path": str(path)}

    def import_topology(self, file: Path, *, name: str) -> Mapping[str, Any]:
        """Give the description of a network that somebody else drew."""
        from wisp.assembly.topologies import import_topology

        return import_topology(file, name=name)

    def benches(self) -> list[str]:
        """Give the names of the benchmarks."""
        from wisp.assembly.benches import BENCHES

        return sorted(BENCHES)

    async def bench(self, name: str, *, quick: bool, plot: Path | None, progress: OnProgress) -> Mapping[str, Any]:
        """Run a benchmark, draw it where that is asked for, and give its report."""
        from wisp.assembly.benches import BENCHES
        from wisp.bench.plot import draw_report

        report = await BENCHES[name](self._settings, quick=quick, progress=progress)
        if plot is not None:
            draw_report(report, plot)
        return report.to_json()

    async def demo(self, progress: OnProgress, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Run the fog scenario to its visible end."""
        from wisp.assembly.demo import run_demo

        return await run_demo(self._settings, progress, say)


def _plain(manifest: Manifest) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    return plain
