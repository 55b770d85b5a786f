"""A drawn network becomes routers and links that a description takes; what is odd in it is told."""

import re
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisp.codec.description import parse
from wisp.codec.topology import Imported, from_gml
from wisp.codec.written import render
from wisp.model.description import DesiredState
from wisp.primitives.errors import Problem

ZOO = Path(__file__).parents[4] / "shared/data/topology-zoo/gml"
HEAD = 'Creator "somebody"\ngraph [\n  Network "x" # a comment\n'
BERLIN, MUNICH = "Latitude 52.52437 Longitude 13.41053", "Latitude 48.13743 Longitude 11.57549"


def imported(nodes: str, edges: str = "") -> Imported:
    found = from_gml(f"{HEAD}{nodes}\n{edges}\n]\n", file="x.gml", name="x")
    assert isinstance(found, Imported), found
    return found


def problems(text: str) -> list[str]:
    found = from_gml(text, file="x.gml", name="x")
    assert not isinstance(found, Imported)
    return [str(each) for each in found]


def test_places_become_delays_and_speeds_rates() -> None:
    found = imported(
        f'node [ id 0 label "Berlin" {BERLIN} ]\nnode [ id 1 label "M\u00fcnchen" {MUNICH} ]',
        'edge [ source 0 target 1 LinkSpeed "2.5" LinkSpeedRaw 2500000000.0 ]',
    )
    (link,) = found.desired.links
    assert (link.name, link.ends) == ("berlin--munchen", ("berlin", "munchen"))
    # 504 km along the great circle.
    assert link.forward == link.backward
    assert 2_450 <= link.forward.delay_us <= 2_490
    assert link.forward.rate_bps == 2_500_000_000
    assert found.notes == ()


def test_names_are_free_and_fit() -> None:
    nodes = ['"New York, NY"', '"New York  (NY)"', '"--"', '""', '"4th Street"', f'"{"long " * 30}"', '"\u6771\u4eac"']
    found = imported("\n".join(f"node [ id {number} label {label} ]" for number, label in enumerate(nodes)))
    names = [router.name for router in found.desired.routers]
    assert names[:2] == ["new-york-ny", "new-york-ny-2"]
    assert len(set(names)) == len(nodes)
    assert parse(render(found.desired), file="x", base=PurePath("/")) == found.desired


def test_what_is_odd_is_told() -> None:
    nodes = "\n".join(f"node [ id {number} ]" for number in range(5))
    edges = "".join(f"edge [ source {a} target {b} ]\n" for a, b in ((0, 1), (1, 0), (2, 2), (3, 4)))
    found = imported(nodes, edges)
    assert [link.ends for link in found.desired.links] == [
        ("node-0", "node-1"), ("node-1", "node-0"), ("node-3", "node-4"),
    ]  # fmt: skip
    assert found.notes == (
        "1 links of a router with itself are left out",
        "1 links join routers that others join already",
        "5 routers have no place: their links have no delay",
        "the network is in 3 pieces, of 2 routers at most",
    )


def test_ten_thousand_links_between_two_routers_are_ten_thousand_links() -> None:
    found = imported("node [ id 0 ] node [ id 1 ]", "edge [ source 0 target 1 ]\n" * 10_000)
    assert len({link.name for link in found.desired.links}) == 10_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x.gml:1: has no graph (a Topology Zoo file begins with graph [)"),
        ("graph [ ]", "x.gml:1: graph: has 0 nodes, and may have 1 to 20000"),
        ("graph [\n node [ label 1 ]\n]", "x.gml:2: graph.node: a node has no id"),
        ("graph [ node [ id 1 ]\nnode [ id 1 ] ]", "x.gml:2: graph.node: id 1 is that of another node"),
        (
            "graph [ node [ id 1 ]\n edge [ source 1 ] ]",
            "x.gml:2: graph.edge: joins 1 and None, and one of them is no node",
        ),
        ("graph [\n node [\n id ]", "x.gml:3: id: has no value"),
        ("graph [\n 7 ]", "x.gml:2: a value without a key"),
        ("graph [ ]\n]", "x.gml:2: a ] without its ["),
        ("graph [\n node [ id 1", "x.gml:2: ends in the middle: a value or ] is missing"),
        ("graph [\n{ }", "x.gml:2: is no GML: a key, a value or ] was expected"),
        ("a [ " * 40, "x.gml:1: a: lists are nested more than 32 deep"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, expected: str) -> None:
    assert problems(text) == [expected]


@given(st.text(st.sampled_from('graph [node id 1]"#\n -e.source target\u00e9'), max_size=60))
def test_any_text_is_answered(text: str) -> None:
    found = from_gml(text, file="x.gml", name="x")
    assert isinstance(found, Imported) or all(isinstance(each, Problem) for each in found)


@pytest.mark.skipif(not ZOO.is_dir(), reason="the Topology Zoo is not beside this checkout")
def test_every_network_of_the_topology_zoo_is_a_description() -> None:
    for file in sorted(ZOO.glob("*.gml")):
        text = file.read_text(errors="replace")
        found = from_gml(text, file=file.name, name="zoo")
        assert isinstance(found, Imported), found
        assert len(found.desired.routers) == len(re.findall(r"^  node \[", text, re.MULTILINE))
        read = parse(render(found.desired), file="zoo.yaml", base=PurePath("/"))
        assert isinstance(read, DesiredState)
        assert read == found.desired


def test_routers_have_names_of_their_own() -> None:
    text = "cloud: x\nsites: {s: {}}\nhosts: {a: {site: s, cpu: 1, memory: 1MiB}}\nrouters:\n  a: {}\n  p: {}\n"
    text += "access_points: {w: {host: a}}\ndevices: {p: {access_point: w}}\n"
    assert [str(each) for each in parse(text, file="f", base=PurePath("/"))] == [
        "f:5: routers.a: has the name of hosts.a (rename one of them)",
        "f:6: routers.p: has the name of devices.p (rename one of them)",
    ]
