"""How many instances the load needs: more at once where it is too much for those that there are, fewer after a while.

After the rule of Kubernetes' horizontal pod autoscaler: as many as there are, times what one has over what one is to
have. Of several measures the one that needs most counts. Pure: every time is handed in.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil

from wisp.model.description import DeclaredInstance, Elasticity
from wisp.model.load import LoadReported
from wisp.model.plan import ElasticGroup, Plan
from wisp.planning import Scale
from wisp.primitives.time import Instant
from wisp.primitives.values import frozen

# Between two looks at most so many times as many: a short peak shall not fill the machine.
GROWTH = 2
# A measure this much over its aim is still taken as on it.
TOLERANCE = 0.1


@frozen
class Need:
    """How many instances the load needs.

    Attributes:
        count: So many.
        why: What was measured, as a sentence.
    """

    count: int
    why: str


@frozen
class Decision:
    """There shall be another number of instances from now on."""

    name: str
    scale: Scale
    why: str


class Scaling:
    """Follows the load of everything that may have several instances."""

    def __init__(self) -> None:
        self._before: LoadReported | None = None
        self._enough: dict[str, tuple[Instant, Need]] = {}

    def decide(self, declared: Iterable[DeclaredInstance], plan: Plan, load: LoadReported) -> list[Decision]:
        """Take a measurement in, and give what shall change.

        Args:
            declared: What may have several instances.
            plan: Those that there are; all of them answer.
            load: What was measured.
        """
        before, self._before = self._before, load
        if before is None or load.at <= before.at:
            return []
        elasticities = {each.name: (each.elasticity, each.vdu.cpu_millicores) for each in declared if each.elasticity}
        decisions = []
        for group in plan.elastic:
            elasticity, cpu_millicores = elasticities[group.name]
            assert elasticity is not None  # noqa: S101 - picked so
            arrivals = _arrivals(group, before, load)
            need = _need(group, elasticity, cpu_millicores, sum(arrivals.values()), before, load)
            near = max(arrivals, key=lambda each: arrivals[each], default="").removeprefix("host/")
            decisions += self._decision(group, elasticity, need, near, load.at)
        return decisions

    def _decision(
        self, group: ElasticGroup, elasticity: Elasticity, need: Need, near: str, now: Instant
    ) -> list[Decision]:
        size = len(group.members)
        count = max(elasticity.minimum, min(need.count, elasticity.maximum, GROWTH * size))
        if count >= size:
            self._enough.pop(group.name, None)
            return [Decision(name=group.name, scale=Scale(count=count, near=near), why=need.why)] * (count > size)
        since, most = self._enough.get(group.name, (now, need))
        most = max(most, need, key=lambda each: each.count)
        self._enough[group.name] = since, most
        if now - since < elasticity.calm:
            return []
        del self._enough[group.name]
        count = max(elasticity.minimum, most.count)
        return [Decision(name=group.name, scale=Scale(count=count), why=most.why)]


def _arrivals(group: ElasticGroup, before: LoadReported, load: LoadReported) -> Counter[str]:
    """Give how many connections came in each namespace."""
    arrivals: Counter[str] = Counter()
    for (namespace, address), count in load.connections.items():
        if address == group.address:
            known = before.connections.get((namespace, address), 0)
            # Whoever counts begins anew when members change.
            arrivals[namespace] = count - known if count >= known else count
    return arrivals


def _need(
    group: ElasticGroup,
    elasticity: Elasticity,
    cpu_millicores: int,
    connections: int,
    before: LoadReported,
    load: LoadReported,
) -> Need:
    """Give what the measure that needs most needs."""
    seconds, size = (load.at - before.at).seconds, len(group.members)
    needs = [Need(count=elasticity.minimum, why="nobody asks for more")]
    if aim := elasticity.connections_per_s:
        rate = connections / seconds
        needs.append(Need(count=_count(rate / aim), why=f"{rate:.0f} new connections/s, {aim} for one"))
    if elasticity.cpu_ppm:
        used = _cpu_seconds(group, before.cpu_seconds, load.cpu_seconds) / seconds
        promised = elasticity.cpu_ppm / 1e6 * cpu_millicores / 1000
        needs.append(Need(count=_count(used / promised), why=f"{used:.2f} cores, {promised:.2f} for one"))
    if elasticity.answer:
        slowest = max((load.answer_ms.get(name, 0.0) for name in group.members), default=0.0)
        ratio = slowest / elasticity.answer.ms
        why = f"health checks take {slowest:.1f} ms, {elasticity.answer.ms:g} ms are meant"
        needs.append(Need(count=_count(size * ratio), why=why))
    return max(needs, key=lambda need: need.count)


def _count(exact: float) -> int:
    return ceil(exact - TOLERANCE * exact)


def _cpu_seconds(group: ElasticGroup, before: Mapping[str, float], now: Mapping[str, float]) -> float:
    return sum(max(0.0, now[name] - before[name]) for name in group.members if name in now and name in before)
