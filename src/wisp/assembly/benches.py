"""The benchmarks by name, wired to this machine; their clouds live apart from the user's own."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wisp.assembly.cloud import Cloud
from wisp.assembly.drivers import machine_accelerator
from wisp.assembly.lifecycle import clouds, end_everything
from wisp.assembly.settings import Settings
from wisp.bench.boot import BootSetup, run_boot
from wisp.bench.figures import Report
from wisp.bench.fog import run_fog
from wisp.bench.link import run_link
from wisp.drivers.instance.microvm import find_qemu
from wisp.model.view import Progress

OnProgress = Callable[[Progress], None]


class Bench(Protocol):
    """Runs one benchmark."""

    def __call__(self, settings: Settings, *, quick: bool, progress: OnProgress) -> Awaitable[Report]:
        """Give its report."""
        ...


async def boot(settings: Settings, *, quick: bool, progress: OnProgress) -> Report:
    """Start single instances beside their peers, the fog scenario, and ping a link: all in one run."""
    setup = BootSetup(
        artifacts=settings.artifacts,
        cache=settings.cache / "bench",
        plain_server=_plain_server(settings),
        qemu=find_qemu(settings.search_path),
        accelerator=await machine_accelerator(settings),
    )
    apart = replace(settings, state=settings.state / "bench")
    for left_behind in clouds(apart):
        await end_everything(left_behind)

    def make_cloud(description: Path) -> Cloud:
        return Cloud(description, settings=apart)

    alone = await run_boot(setup, quick=quick, progress=progress)
    fog = await run_fog(setup, settings.examples / "fog/cloud.yaml", make_cloud, quick=quick, progress=progress)
    link = await run_link(make_cloud, quick=quick, progress=progress)
    return joined("boot", alone, fog, link)


def joined(name: str, *reports: Report) -> Report:
    """Give several reports as one; of equal facts the last one holds."""
    return Report(
        bench=name,
        machine={key: value for report in reports for key, value in report.machine.items()},
        versions={key: value for report in reports for key, value in report.versions.items()},
        figures=tuple(figure for report in reports for figure in report.figures),
        raw={key: value for report in reports for key, value in report.raw.items()},
    )


def _plain_server(settings: Settings) -> Path | None:
    """Give the peers' static server where it was built: in a checkout."""
    path = settings.examples.parent / "benchmarks/peers/target/release/plain-server"
    return path if path.exists() else None


BENCHES: dict[str, Bench] = {"boot": boot}
