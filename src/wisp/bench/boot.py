"""The boot benchmark: how long each way of running a web server takes from spawn to first byte, and what it costs.

Floor, our two unikernels and three peers take turns within every round, in an order drawn anew each time. All of it
happens in namespaces of its own, so it is the same for root and for an ordinary user and nothing can be left behind.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path

import msgspec

from wisp.bench import boot_plan, boot_worker, container, linux_vm
from wisp.bench.boot_plan import BootPlan, Container, Images, Linux
from wisp.bench.boot_report import report
from wisp.bench.figures import Report
from wisp.bench.machine import find_command
from wisp.bench.tap import PREFIX_LENGTH
from wisp.bench.worker import OnProgress, run_worker
from wisp.drivers.instance.kvm import Accelerator
from wisp.model.view import Progress
from wisp.primitives.errors import MissingPrerequisite
from wisp.primitives.values import frozen

RUNS, QUICK_RUNS = 20, 5
CROWD = 20
GUEST_MEMORY_BYTES = 32 << 20


@frozen
class BootSetup:
    """Where the benchmark finds things.

    Attributes:
        artifacts: Folder of the guest images.
        cache: Folder for what is fetched or built once.
        plain_server: The peers' static server, or ``None`` when there is none, as in an installed wheel.
        qemu: Path of QEMU.
        accelerator: What runs the guests' instructions.
    """

    artifacts: Path
    cache: Path
    plain_server: Path | None
    qemu: str
    accelerator: Accelerator


async def run_boot(setup: BootSetup, *, quick: bool, progress: OnProgress = lambda _: None) -> Report:
    """Measure and report.

    Args:
        setup: Where things are.
        quick: Few rounds: good to see that it works, not to judge by.
        progress: Told of every round.

    Raises:
        MissingPrerequisite: The guest images are not built, or the kernel forbids what the benchmark needs.
        PermanentDriverError: The worker ended without results.
    """
    progress(Progress(phase="preparing peers", done=0, total=1))
    setup.cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="boot-", dir=setup.cache))
    try:
        plan, absent = await asyncio.to_thread(_prepare, setup, folder, QUICK_RUNS if quick else RUNS)
        results = await run_worker(plan, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report(plan, results, absent)


async def run_cases(setup: BootSetup, *, runs: int, progress: OnProgress = lambda _: None) -> dict[str, list[float]]:
    """Start every case some times; give the times from spawn to first byte of those that could be measured [ms]."""
    setup.cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="boot-", dir=setup.cache))
    try:
        plan, _ = await asyncio.to_thread(_prepare, setup, folder, runs)
        results = await run_worker(msgspec.structs.replace(plan, crowd=1), progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {name: case.elapsed_ms for name, case in results.items() if case.elapsed_ms}


def _prepare(setup: BootSetup, folder: Path, runs: int) -> tuple[BootPlan, dict[str, str]]:
    """Give the plan, and the cases it leaves out with the reasons."""
    absent: dict[str, str] = {}
    plan = BootPlan(
        runs=runs,
        crowd=CROWD,
        memory_bytes=GUEST_MEMORY_BYTES,
        folder=folder,
        qemu=setup.qemu,
        accelerator=setup.accelerator,
        images=find_images(setup.artifacts),
        server=setup.plain_server,
        container=_container(setup, folder, absent),
        linux=_linux(setup, absent),
    )
    if setup.plain_server is None:
        absent[boot_plan.PROCESS] = "the plain server is not built; in a checkout run: make -C benchmarks peers"
    return plan, absent


def find_images(artifacts: Path) -> Images:
    """Give the guest images of this installation.

    Raises:
        MissingPrerequisite: One of them is not built.
    """
    images = Images(
        floor=artifacts / "floor.microvm.elf",
        microvm=artifacts / "web.microvm.elf",
        spt=artifacts / "web.spt.elf",
    )
    for image in (images.floor, images.microvm, images.spt):
        if not image.is_file():
            raise MissingPrerequisite(f"guest image {image.name} is not built", remedy="run: make guest")
    return images


def _container(setup: BootSetup, folder: Path, absent: dict[str, str]) -> Container | None:
    runc = find_command("runc")
    if runc is None:
        absent[boot_plan.CONTAINER] = "runc is not installed; run: make setup-system"
        return None
    if setup.plain_server is None:
        absent[boot_plan.CONTAINER] = "the plain server it would run is not built"
        return None
    endpoint = "{}:{}".format(*boot_worker.CONTAINER_ENDPOINT)
    bundle = container.prepare(folder / "bundle", runc=runc, server=setup.plain_server, arguments=(endpoint,))
    return Container(runc=runc, bundle=bundle)


def _linux(setup: BootSetup, absent: dict[str, str]) -> Linux | None:
    address = f"{boot_worker.LINUX_SUBNET}.2"
    try:
        found = linux_vm.prepare(setup.cache, address=address, prefix_length=PREFIX_LENGTH)
    except MissingPrerequisite as missing:
        absent[boot_plan.LINUX] = str(missing)
        return None
    return Linux(kernel=found.kernel, initrd=found.initrd)
