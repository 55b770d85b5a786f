"""Asks every instance whether it is well: eagerly until its first answer, then at its own interval."""

import asyncio
import logging
from collections.abc import Callable

from wisp.model.instance import Handle, InstanceSpec
from wisp.model.report import HealthReported, Report
from wisp.ports.health import HealthProber
from wisp.primitives.time import Clock, Duration

log = logging.getLogger(__name__)

BOOT_RETRY = Duration.of_ms(5)
FIRST_PATIENCE = Duration.of_ms(100)
# Whoever woke an instance comes first, and many may be woken at once. Not a round time, as people give for how long
# nobody may want it: else it would be asked just when it falls asleep, and woken by that.
SUMMONED_LEAD = Duration.of_ms(700)
SUMMONED_RETRY = Duration.of_seconds(1)


class HealthMonitor:
    """One task per instance.

    Args:
        prober: Asks once.
        clock: For how long an instance has been asked in vain.
        report: Takes a report for the first answer, for each well instance's later answers, and when
            an instance stayed silent as often as its check allows.
    """

    def __init__(self, prober: HealthProber, clock: Clock, report: Callable[[Report], None]) -> None:
        self._prober, self._clock, self._report = prober, clock, report
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answer_ms: dict[str, float] = {}

    def answer_ms(self, handle: Handle) -> float | None:
        """Give how long the last health check took [ms]; ``None`` before the first."""
        return self._answer_ms.get(handle.child)

    def has(self, handle: Handle) -> bool:
        """Whether the instance is being watched."""
        return handle.child in self._tasks

    def add(self, spec: InstanceSpec, handle: Handle) -> None:
        """Watch an instance until it is removed."""
        self._tasks[handle.child] = asyncio.create_task(self._guarded(spec, handle), name=f"health {spec.name}")

    def remove(self, handle: Handle) -> None:
        """Stop watching an instance; one that is not watched is fine."""
        self._answer_ms.pop(handle.child, None)
        if task := self._tasks.pop(handle.child, None):
            task.cancel()

    async def close(self) -> None:
        """Stop watching all."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, spec: InstanceSpec, handle: Handle) -> None:
        """Follow an instance; a failure nobody foresaw is told as its problem, or it would just stay unasked."""
        try:
            await self._follow(spec, handle)
        except Exception as error:
            log.exception("%s cannot be asked any more", spec.name)
            reason = f"its health check failed unforeseen: {type(error).__name__}: {error}; see the controller's log"
            self._tell(spec, handle, reason)

    async def _follow(self, spec: InstanceSpec, handle: Handle) -> None:
        if spec.is_summoned:
            await asyncio.sleep(SUMMONED_LEAD.seconds)
        await self._first_answer(spec, SUMMONED_RETRY if spec.is_summoned else BOOT_RETRY)
        self._tell(spec, handle, None)
        silent = 0
        while True:
            await asyncio.sleep(spec.health.interval.seconds)
            begin = self._clock.now()
            problem = await self._prober.probe(spec, within=spec.health.timeout)
            self._answer_ms[handle.child] = (self._clock.now() - begin).ms
            silent = 0 if problem is None else silent + 1
            if problem is None or silent == spec.health.failures:
                self._tell(spec, handle, problem)

    async def _first_answer(self, spec: InstanceSpec, retry: Duration) -> None:
        """Wait until the instance answers; the controller ends this when the boot deadline has passed.

        A packet that comes before the guest reads any may be lost, and TCP repeats it only after a second. So we
        are impatient at first, and more patient each time.
        """
        patience = FIRST_PATIENCE
        while await self._prober.probe(spec, within=min(patience, spec.health.timeout)) is not None:
            await asyncio.sleep(retry.seconds)
            patience = patience * 1.5

    def _tell(self, spec: InstanceSpec, handle: Handle, problem: str | None) -> None:
        self._report(HealthReported(name=spec.name, child=handle.child, problem=problem, at=self._clock.now()))
