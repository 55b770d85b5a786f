"""Several instances behind one virtual address: who serves, who still has to, who may go.

Old ones of a group, which the plan does not name any more, serve until as many new ones answer. Then they are taken
from the virtual address, told to finish what they have, and stopped when they have ended or the time is up. So nobody
who asks at the virtual address is ever without an answer.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from wisp.model.action import DrainInstance, StopInstance
from wisp.model.instance import InstanceState, ObservedInstance
from wisp.model.network import Network, Tap, VirtualAddress
from wisp.model.observation import ObservedState
from wisp.model.plan import ElasticGroup, Plan
from wisp.primitives.time import Instant

AT_ONCE = 4  # while old ones serve, one new one in so many, and at least one, is started at a time


class Elastic:
    """What follows for the instances and virtual addresses of a plan's groups.

    Args:
        plan: What shall be.
        observed: What is.
        now: The time.
    """

    def __init__(self, plan: Plan, observed: ObservedState, *, now: Instant) -> None:
        self.stops: list[StopInstance] = []
        self.drains: list[DrainInstance] = []
        self.due: list[Instant] = []
        self.leaving: set[str] = set()
        self._plan, self._seen, self._now = plan, observed.instances, now
        self._room: dict[str, int] = {}
        self._group_of: dict[str, str] = {}
        self.network = plan.network
        if plan.elastic:
            self._served = {member for each in observed.network.virtual_addresses for member in each.members}
            self._taps = {tap.name: tap for tap in plan.network.taps}
            self._old = self._old_taps(observed.network)
            self._work_out(observed.network)

    def may_start(self, name: str) -> bool:
        """Whether an instance that does not run may be started now; asking takes the turn."""
        group = self._group_of.get(name)
        if group not in self._room:
            return True
        self._room[group] -= 1
        return self._room[group] >= 0

    def _work_out(self, seen: Network) -> None:
        addresses: set[VirtualAddress] = set()
        namespaces = {each.name for each in self._plan.network.namespaces}
        for group in self._plan.elastic:
            self._group_of |= dict.fromkeys(group.members, group.name)
            old = {name: tap for name, tap in self._old.get(group.name, {}).items() if tap.namespace in namespaces}
            serving = self._serving(group, old)
            addresses.update(_addresses(group, serving))
            for name, tap in old.items():
                self.leaving.add(name)
                if name not in serving:
                    self._let_go(self._seen[name], tap, group)
        kept = {tap for tap in seen.taps if tap.name in self.leaving}
        self.network = replace(
            self._plan.network, taps=self._plan.network.taps | kept, virtual_addresses=frozenset(addresses)
        )

    def _old_taps(self, seen: Network) -> Mapping[str, Mapping[str, Tap]]:
        """Give by name of a group those of it that run and are not planned any more, with their taps."""
        old: defaultdict[str, dict[str, Tap]] = defaultdict(dict)
        for tap in sorted(seen.taps, key=lambda each: each.name):
            whole, _, number = tap.name.rpartition("-")
            runs = tap.name in self._seen and self._seen[tap.name].handle is not None
            if runs and number.isdecimal() and tap.name not in self._taps:
                old[whole][tap.name] = tap
        return old

    def _serving(self, group: ElasticGroup, old: Mapping[str, Tap]) -> dict[str, Tap]:
        """Give who serves now; where nobody does, who will."""
        ready = [name for name in group.members if self._is_well(name)]
        still = [name for name in old if self._is_well(name)]
        missing = len(group.members) - len(ready)
        if still:
            under_way = sum(name in self._seen and name not in ready for name in group.members)
            self._room[group.name] = max(1, len(group.members) // AT_ONCE) - under_way
        serving = {name: self._taps[name] for name in ready} | {name: old[name] for name in still[:missing]}
        return serving or {name: self._taps[name] for name in group.members}

    def _let_go(self, seen: ObservedInstance, tap: Tap, group: ElasticGroup) -> None:
        """Have one that is not needed any more finish, then stop it."""
        if tap.address in self._served:
            return  # until nobody is led to it
        if seen.state is InstanceState.READY or _was_woken(seen):
            self.drains.append(DrainInstance(name=seen.name, handle=seen.handle, tap=tap))
            return
        if seen.state is InstanceState.DRAINING and (until := seen.changed_at + group.drain) > self._now:
            self.due.append(until)
            return
        self.stops.append(StopInstance(name=seen.name, handle=seen.handle, reason="it is not wanted any more"))

    def _is_well(self, name: str) -> bool:
        seen = self._seen.get(name)
        return seen is not None and (seen.state.is_well or _was_woken(seen))


def _was_woken(seen: ObservedInstance) -> bool:
    """Whether it slept and was wanted: it answers long before we ask whether it does."""
    return seen.state is InstanceState.STARTING and seen.handle is not None and seen.handle.is_summoned


def _addresses(group: ElasticGroup, serving: Mapping[str, Tap]) -> Iterator[VirtualAddress]:
    """Give where each host leads those who ask: to the nearest that serve."""
    for namespace, tiers in group.nearest.items():
        by_namespace: dict[str, list[str]] = {}
        for tap in serving.values():
            by_namespace.setdefault(tap.namespace, []).append(tap.address)
        for tier in tiers:
            if members := [address for each in tier for address in by_namespace.get(each, ())]:
                yield VirtualAddress(namespace=namespace, address=group.address, members=tuple(sorted(members)))
                break
