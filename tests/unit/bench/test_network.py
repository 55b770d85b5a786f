"""The random graph of the network benchmark is what it says."""

from random import Random

from wisp.bench.network_worker import all_pairs, graph


def test_a_graph_is_connected_and_its_routes_leave_over_its_links() -> None:
    made = graph(50, 100, 7, Random(1))
    assert (len(made.namespaces), len(made.links)) == (50, 100)
    assert [len(table) for table in made.routes.values()] == [7] * 50
    ends = {(end.namespace, end.interface): link for link in made.links for end in (link.a, link.b)}
    assert len(ends) == 200
    for namespace, table in made.routes.items():
        for (hop,) in table.values():
            link = ends[namespace, hop.interface]
            far = link.b if link.a.namespace == namespace else link.a
            assert str(far.address).partition("/")[0] == hop.via
    reached, edge = set(), {"router/0"}
    while edge:
        reached |= edge
        joined = ({link.a.namespace, link.b.namespace} for link in made.links)
        edge = {each for pair in joined if pair & reached for each in pair} - reached
    assert len(reached) == 50


def test_every_router_of_all_pairs_has_a_route_to_every_other() -> None:
    made = all_pairs(30, 60, Random(1))
    assert [len(table) for table in made.routes.values()] == [29] * 30
    assert len(made.links) == 60
