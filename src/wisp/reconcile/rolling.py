"""Rolling replacement: which of the instances that changed may be stopped now, so that the others go on answering.

Of the instances of one VNF at most a quarter, and at least one, are away at a time. One that does not answer, or
sleeps, is replaced at once: nobody misses it. A new version that does not come up takes the place of those that may
be away, so the rest keeps the old one until somebody decides (a *stalled* update).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from wisp.model.instance import InstanceSpec, InstanceState, ObservedInstance
from wisp.reconcile.ground import Ground

AWAY_AT_ONCE = 4  # one in so many


class Rolling:
    """Says whose turn it is, asked in the plan's order.

    Args:
        specs: What is planned.
        seen: What runs.
        ground: What stays under it. An instance whose place goes cannot wait for its turn.
    """

    def __init__(self, specs: Iterable[InstanceSpec], seen: Mapping[str, ObservedInstance], ground: Ground) -> None:
        self._ground = ground
        members: Counter[str] = Counter()
        away: Counter[str] = Counter()
        for spec in specs:
            members[spec.group] += 1
            away[spec.group] += not _is_well(seen.get(spec.name))
        self._room = {group: max(1, count // AWAY_AT_ONCE) - away[group] for group, count in members.items()}

    def is_turn(self, spec: InstanceSpec, seen: ObservedInstance) -> bool:
        """Whether an instance that changed may be stopped now; asking takes the turn."""
        if not spec.group or seen.state is not InstanceState.READY or self._ground.lacking(spec):
            return True
        self._room[spec.group] -= 1
        return self._room[spec.group] >= 0


def _is_well(seen: ObservedInstance | None) -> bool:
    return seen is not None and seen.state.is_well
