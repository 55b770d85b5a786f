"""Runs the boot benchmark's worker in namespaces of its own, and ends it whatever happens."""

import asyncio
import sys
from collections.abc import Callable

import msgspec

from wisp.bench import boot_plan, boot_worker
from wisp.bench.boot_plan import BootPlan, CaseResult, Message
from wisp.model.view import Progress
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError

OnProgress = Callable[[Progress], None]


async def run_worker(plan: BootPlan, progress: OnProgress) -> dict[str, CaseResult]:
    """Carry out ``plan`` in fresh namespaces and give what was measured, by case.

    Raises:
        MissingPrerequisite: The kernel forbids such namespaces.
        PermanentDriverError: The worker ended without results.
    """
    worker = await asyncio.create_subprocess_exec(
        "unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        sys.executable, "-m", boot_worker.__name__,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        complaints = asyncio.create_task(_read_all(worker.stderr))
        results = await _converse(worker, plan, progress)
        said = await complaints
        await worker.wait()
        if results is None:
            raise _worker_failed(said.decode(errors="replace"))
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
