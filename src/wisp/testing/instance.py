"""What every instance driver promises, as a suite that a driver's author subclasses.

A subclass gives two fixtures: ``driver``, an :class:`~wisp.ports.instance.InstanceDriver`, and ``world``, an
:class:`InstanceWorld` that knows a startable spec and can end an instance behind the driver's back.
"""

import asyncio
from dataclasses import replace
from typing import Protocol

import pytest

from wisp.model.instance import Handle, InstanceSpec
from wisp.ports.instance import InstanceDriver
from wisp.primitives.errors import UnknownInstance, WispError
from wisp.primitives.time import Duration

GRACE = Duration.of_seconds(2)
PATIENCE_S = 10.0


class InstanceWorld(Protocol):
    """What the suite asks of the world around a driver."""

    def spec(self) -> InstanceSpec:
        """Give a spec whose tap or namespace exists."""
        ...

    def broken_spec(self) -> InstanceSpec:
        """Give a spec that the driver must refuse."""
        ...

    async def kill(self, handle: Handle) -> None:
        """End an instance behind the driver's back."""
        ...

    async def answers(self, spec: InstanceSpec) -> bool:
        """Whether the instance answers its health check now."""
        ...


class InstanceDriverContract:
    """The promises of :class:`wisp.ports.instance.InstanceDriver`."""

    async def test_capabilities_name_the_kind(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """What it can do is data, and fits what it starts."""
        assert driver.capabilities().kind == world.spec().kind

    async def test_fingerprint_is_a_sentence(self, driver: InstanceDriver) -> None:
        """Health comes with words, and bad health with a remedy."""
        found = await driver.fingerprint()
        assert found.sentence
        assert found.healthy or found.remedy

    async def test_start_gives_a_handle_that_finds_it(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """A handle is enough to come back."""
        spec = world.spec()
        handle = await driver.start(spec, {})
        assert (handle.instance, handle.spec_digest, handle.driver) == (spec.name, spec.digest, spec.kind)
        assert await driver.recover(handle) is None
        await driver.stop(handle, grace=GRACE)

    async def test_started_instance_answers(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """What was started comes to answer."""
        spec = world.spec()
        handle = await driver.start(spec, {})
        await _until_answers(world, spec)
        await driver.stop(handle, grace=GRACE)
        assert not await world.answers(spec)

    async def test_start_may_be_repeated(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """A second start from the same spec gives the running instance."""
        spec = world.spec()
        first, second = await driver.start(spec, {}), await driver.start(spec, {})
        assert (first.pid, first.start_ticks) == (second.pid, second.start_ticks)
        await driver.stop(first, grace=GRACE)

    async def test_stop_may_be_repeated(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """Stopping what is not there is fine, and nothing is known of it any more."""
        handle = await driver.start(world.spec(), {})
        await driver.stop(handle, grace=GRACE)
        await driver.stop(handle, grace=GRACE)
        with pytest.raises(UnknownInstance):
            await driver.recover(handle)

    async def test_a_death_has_a_reason(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """An instance that was killed is told from one that runs, with the reason."""
        handle = await driver.start(world.spec(), {})
        await world.kill(handle)
        ended = await driver.recover(handle)
        assert ended is not None
        assert ended.signal == 9
        assert "SIGKILL" in ended.reason
        await driver.stop(handle, grace=GRACE)

    async def test_start_after_a_death(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """A dead instance can be started again from the same spec."""
        spec = world.spec()
        first = await driver.start(spec, {})
        await world.kill(first)
        second = await driver.start(spec, {})
        assert second.start_ticks != first.start_ticks or second.pid != first.pid
        await _until_answers(world, spec)
        await driver.stop(second, grace=GRACE)

    async def test_a_changed_spec_is_another_instance(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """Handles tell specs apart."""
        spec = world.spec()
        handle = await driver.start(spec, {})
        await driver.stop(handle, grace=GRACE)
        other = await driver.start(replace(spec, boot_deadline=Duration.of_seconds(11)), {})
        assert other.spec_digest != handle.spec_digest
        await driver.stop(other, grace=GRACE)

    async def test_what_cannot_start_is_an_error_with_words(self, driver: InstanceDriver, world: InstanceWorld) -> None:
        """A spec that cannot be started is refused with a sentence that names the instance."""
        spec = world.broken_spec()
        with pytest.raises(WispError, match=spec.name):
            await driver.start(spec, {})


async def _until_answers(world: InstanceWorld, spec: InstanceSpec) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await world.answers(spec):  # noqa: ASYNC110 - a guest has no way to call us
            await asyncio.sleep(0.01)
