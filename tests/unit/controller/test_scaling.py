"""As many instances as the load needs: up at once, down after a calm time."""

from wisp.controller.scaling import Scaling
from wisp.model.description import DeclaredInstance, Elasticity, Kind, Vdu
from wisp.model.load import LoadReported
from wisp.model.plan import ElasticGroup, Plan
from wisp.primitives.time import Duration, Instant

ADDRESS = "192.168.0.1"
CALM = Duration.of_seconds(10)
CPU_MILLICORES = 100


def declared(**aims) -> DeclaredInstance:
    return DeclaredInstance(
        name="web",
        network_service="n",
        vnf="web",
        vdu=Vdu(name="main", kind=Kind.SPT, cpu_millicores=CPU_MILLICORES),
        elasticity=Elasticity(minimum=1, maximum=6, calm=CALM, **aims),
    )


def plan(size: int) -> Plan:
    members = tuple(f"web-{number}" for number in range(1, size + 1))
    group = ElasticGroup(name="web", address=ADDRESS, members=members, drain=Duration.of_seconds(1), nearest={})
    return Plan(elastic=(group,))


def look(second: float, **measured) -> LoadReported:
    return LoadReported(at=Instant(int(second * 1e9)), **measured)


def connections(**by_host: int) -> dict[tuple[str, str], int]:
    return {(f"host/{host}", ADDRESS): count for host, count in by_host.items()}


def decided(scaling: Scaling, size: int, load: LoadReported, **aims):
    return [(each.scale.count, each.scale.near) for each in scaling.decide([declared(**aims)], plan(size), load)]


def test_as_many_as_the_connections_need_near_to_where_most_come_from():
    scaling = Scaling()
    assert decided(scaling, 2, look(0, connections=connections(a=0, b=0)), connections_per_s=100) == []
    assert decided(scaling, 2, look(1, connections=connections(a=90, b=210)), connections_per_s=100) == [(3, "b")]


def test_a_count_that_began_anew_is_not_taken_for_fewer_than_none():
    scaling = Scaling()
    decided(scaling, 1, look(0, connections=connections(a=900)), connections_per_s=100)
    assert decided(scaling, 1, look(1, connections=connections(a=200)), connections_per_s=100) == [(2, "a")]


def test_at_most_twice_as_many_at_a_time_and_never_more_than_allowed():
    scaling = Scaling()
    decided(scaling, 1, look(0), connections_per_s=1)
    assert decided(scaling, 1, look(1, connections=connections(a=1000)), connections_per_s=1) == [(2, "a")]
    assert decided(scaling, 4, look(2, connections=connections(a=2000)), connections_per_s=1) == [(6, "a")]
    assert decided(scaling, 6, look(3, connections=connections(a=3000)), connections_per_s=1) == []


def test_a_little_more_is_still_enough():
    scaling = Scaling()
    decided(scaling, 1, look(0), connections_per_s=100)
    assert decided(scaling, 1, look(1, connections=connections(a=109)), connections_per_s=100) == []
    assert decided(scaling, 1, look(2, connections=connections(a=229)), connections_per_s=100) == [(2, "a")]


def test_fewer_only_after_a_calm_time_and_then_as_many_as_that_needed_most():
    scaling, count, sizes = Scaling(), 0, []
    for second in range(25):
        count += 150 if second == 3 else 20
        load = look(second, connections=connections(a=count))
        sizes += [(second, size) for size, _ in decided(scaling, 4, load, connections_per_s=100)]
    assert sizes == [(11, 2), (22, 1)]


def test_load_that_comes_back_ends_the_calm_time():
    scaling, count = Scaling(), 0
    for second in range(20):
        count += 200 if second in (8, 16) else 20
        assert decided(scaling, 2, look(second, connections=connections(a=count)), connections_per_s=100) == []


def test_processor_time_is_reckoned_against_what_is_promised():
    scaling = Scaling()
    decided(scaling, 2, look(0, cpu_seconds={"web-1": 5.0, "web-2": 1.0}), cpu_ppm=500_000)
    # 0.2 of a core are used, and one is to use 0.05.
    assert decided(scaling, 2, look(1, cpu_seconds={"web-1": 5.1, "web-2": 1.1}), cpu_ppm=500_000) == [(4, "")]


def test_slow_answers_ask_for_more():
    scaling, aim = Scaling(), Duration.of_ms(10)
    decided(scaling, 2, look(0), answer=aim)
    assert decided(scaling, 2, look(1, answer_ms={"web-1": 2, "web-2": 20}), answer=aim) == [(4, "")]
    assert decided(scaling, 4, look(2, answer_ms={"web-1": 10, "web-2": 3}), answer=aim) == []
