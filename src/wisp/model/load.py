"""How much is asked of what may have several instances, as measured."""

from collections.abc import Mapping
from dataclasses import field

from wisp.primitives.time import Instant
from wisp.primitives.values import frozen


@frozen
class LoadReported:
    """One look.

    Attributes:
        at: When.
        connections: Namespace of a host and virtual address → connections that were led to members there, since the
            members last changed.
        cpu_seconds: Instance → processor time that it has used so far [s].
        answer_ms: Instance → how long its last health check took [ms].
    """

    at: Instant
    connections: Mapping[tuple[str, str], int] = field(default_factory=dict)
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    answer_ms: Mapping[str, float] = field(default_factory=dict)
