"""The port that asks an instance whether it answers."""

from typing import Protocol

from wisp.model.instance import InstanceSpec


class HealthProber(Protocol):
    """Asks instances over the network, from their own host."""

    async def probe(self, spec: InstanceSpec) -> str | None:
        """Check once, within ``spec.health.timeout``.

        Returns:
            ``None`` when it is well, otherwise a sentence saying what was wrong.
        """
        ...
