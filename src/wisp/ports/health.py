"""The port that asks an instance whether it answers."""

from typing import Protocol

from wisp.model.instance import InstanceSpec
from wisp.primitives.time import Duration


class HealthProber(Protocol):
    """Asks instances over the network, from their own host."""

    async def probe(self, spec: InstanceSpec, *, within: Duration) -> str | None:
        """Check once, and take at most ``within`` for it.

        Returns:
            ``None`` when it is well, otherwise a sentence saying what was wrong.
        """
        ...
