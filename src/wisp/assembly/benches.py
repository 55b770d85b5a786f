"""The benchmarks by name, wired to this machine; their clouds live apart from the user's own."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from wisp.assembly.cloud import Cloud
from wisp.assembly.drivers import machine_accelerator
from wisp.assembly.lifecycle import clouds, end_everything
from wisp.assembly.settings import Settings
from wisp.assembly.topologies import import_topology
from wisp.bench.boot import BootSetup, run_boot
from wisp.bench.density import run_density
from wisp.bench.fault import run_fault
from wisp.bench.figures import Figure, Report
from wisp.bench.fog import ADDED_BAR, IDLE_BAR, UP_BAR, run_fog
from wisp.bench.link import BAR as LINK_BAR
from wisp.bench.link import run_link
from wisp.bench.network import run_network
from wisp.bench.summon import run_summon
from wisp.drivers.instance.microvm import find_qemu
from wisp.model.view import Progress
from wisp.primitives.errors import WispError

OnProgress = Callable[[Progress], None]


class Bench(Protocol):
    """Runs one benchmark."""

    def __call__(self, settings: Settings, *, quick: bool, progress: OnProgress) -> Awaitable[Report]:
        """Give its report."""
        ...


async def _set_up(settings: Settings) -> tuple[BootSetup, Callable[[Path], Cloud]]:
    """Give where the peers' programs are, and clouds apart from the user's own."""
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
    return setup, lambda description: Cloud(description, settings=apart)


async def summon(settings: Settings, *, quick: bool, progress: OnProgress) -> Report:
    """Ask instances that sleep, by name and by address, beside peers started from zero."""
    setup, make_cloud = await _set_up(settings)
    return await run_summon(setup, make_cloud, quick=quick, progress=progress)


async def density(settings: Settings, *, quick: bool, progress: OnProgress) -> Report:
    """Start thousands of instances at once."""
    setup, _ = await _set_up(settings)
    return await run_density(setup, settings.native, settings.search_path, quick=quick, progress=progress)


async def network(settings: Settings, *, quick: bool, progress: OnProgress) -> Report:
    """Make networks of routers, and take them away."""
    _, make_cloud = await _set_up(settings)
    zoo = settings.examples.parent.parent / "shared/data/topology-zoo/gml/Cogentco.gml"

    def read(file: Path) -> Mapping[str, Any]:
        return import_topology(file, name="bench-zoo")

    return await run_network(settings.native, make_cloud, zoo, read, quick=quick, progress=progress)


async def fault(settings: Settings, *, quick: bool, progress: OnProgress) -> Report:
    """Break links and hosts of a cloud."""
    _, make_cloud = await _set_up(settings)
    return await run_fault(make_cloud, quick=quick, progress=progress)


async def boot(settings: Settings, *, quick: bool, progress: OnProgress) -> Report:
    """Start single instances beside their peers, the fog scenario, and ping a link: all in one run."""
    setup, make_cloud = await _set_up(settings)
    alone = await run_boot(setup, quick=quick, progress=progress)
    scenario = settings.examples / "fog/cloud.yaml"
    fog = run_fog(setup, scenario, make_cloud, quick=quick, progress=progress)
    link = run_link(make_cloud, quick=quick, progress=progress)
    return joined(
        "boot",
        alone,
        await _or_missing(fog, {"fog_up_s": UP_BAR, "added_ms_per_instance": ADDED_BAR, "idle_cpu_percent": IDLE_BAR}),
        await _or_missing(link, {"link_delay_error_ms": LINK_BAR}),
    )


async def _or_missing(bench: Awaitable[Report], bars: Mapping[str, str]) -> Report:
    """Give a part's report, or its figures without values when its cloud did not come up."""
    try:
        return await bench
    except WispError as error:
        figures = tuple(Figure.missing(name, str(error), bar=bar) for name, bar in bars.items())
        return Report(bench="", machine={}, versions={}, figures=figures)


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


BENCHES: dict[str, Bench] = {"boot": boot, "summon": summon, "density": density, "network": network, "fault": fault}
