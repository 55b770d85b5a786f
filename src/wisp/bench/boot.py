"""The boot benchmark: how long each way of running a web server takes from spawn to first byte, and what it costs.

Floor, our two unikernels and three peers take turns within every round, in an order drawn anew each time. All of it
happens in namespaces of its own, so it is the same for root and for an ordinary user and nothing can be left behind.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wisp.bench import boot_plan, boot_worker, container, linux_vm
from wisp.bench.boot_plan import BootPlan, CaseResult, Container, Images, Linux, Message
from wisp.bench.boot_report import report
from wisp.bench.figures import Report
from wisp.bench.machine import find_command
from wisp.bench.tap import PREFIX_LENGTH
from wisp.drivers.instance.kvm import Accelerator
from wisp.model.view import Progress
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError

RUNS, QUICK_RUNS = 20, 5
CROWD = 20
GUEST_MEMORY_BYTES = 32 << 20

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
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
        results = await _run_worker(plan, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report(plan, results, absent)


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
        images=_images(setup.artifacts),
        server=setup.plain_server,
        container=_container(setup, folder, absent),
        linux=_linux(setup, absent),
    )
    if setup.plain_server is None:
        absent[boot_plan.PROCESS] = "the plain server is not built; in a checkout run: make -C benchmarks peers"
    return plan, absent


def _images(artifacts: Path) -> Images:
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


async def _run_worker(plan: BootPlan, progress: OnProgress) -> dict[str, CaseResult]:
    worker = await asyncio.create_subprocess_exec(
        "unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        sys.executable, "-m", boot_worker.__name__,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        complaints = asyncio.create_task(_read_all(worker.stderr))
        results = await _converse(worker, plan, progress)
        if results is None:
            await worker.wait()
            raise _worker_failed((await complaints).decode(errors="replace"))
        await complaints
        return results
    finally:
        if worker.returncode is None:
            # unshare ignores milder signals; its first process, and with it all others, ends with it.
            worker.kill()
            await worker.wait()


async def _read_all(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def _converse(
    worker: asyncio.subprocess.Process, plan: BootPlan, progress: OnProgress
) -> dict[str, CaseResult] | None:
    """Hand over the plan, pass on the progress, and give the results; ``None`` when there are none."""
    if worker.stdin is None or worker.stdout is None:
        raise ValueError("the worker needs pipes")
    worker.stdin.write(boot_plan.encode_plan(plan))
    worker.stdin.close()
    async for line in worker.stdout:
        message = msgspec.json.decode(line, type=Message)
        if message.results is not None:
            return message.results
        progress(Progress(phase=message.phase, done=message.done, total=message.total))
    return None


def _worker_failed(complaints: str) -> PermanentDriverError:
    last = (complaints.strip().splitlines() or ["it said nothing"])[-1]
    if last.startswith("unshare:"):
        return MissingPrerequisite(
            f"the benchmark could not make its own namespaces: {last}",
            remedy="run `wisp doctor`: it says which setting of this kernel forbids them",
        )
    return PermanentDriverError(f"the benchmark's worker ended without results: {last}\n{complaints}")
