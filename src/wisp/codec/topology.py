"""A network that somebody else drew, as a description of routers and links.

Delays are those of light in fibre along the great circle (about 4.9 us for each km), where both ends have a place.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from math import asin, cos, isfinite, radians, sin, sqrt

from wisp.codec import gml
from wisp.model.description import DesiredState, Link, LinkShape, Router
from wisp.primitives.errors import Problem
from wisp.primitives.values import frozen

NODE_LIMIT, EDGE_LIMIT = 20_000, 100_000
NAME_LIMIT = 40
EARTH_RADIUS_KM = 6371.0
FIBRE_US_PER_KM = 4.9
LEAST_DELAY_US = 10
_UNFIT = re.compile(r"[^a-z0-9]+")


@frozen
class Imported:
    """What a file gave.

    Attributes:
        desired: Routers and links.
        notes: What was left out or made up, for the person who imports.
    """

    desired: DesiredState
    notes: tuple[str, ...]


def from_gml(text: str, *, file: str, name: str) -> Imported | list[Problem]:
    """Read a Topology Zoo file, or any GML graph with ids.

    Args:
        text: GML.
        file: Its name, for problems.
        name: What to call the cloud.

    Returns:
        The network, or everything that is wrong with the file.
    """
    document = gml.read(text, file=file)
    if isinstance(document, Problem):
        return [document]
    graph = next(document.lists("graph"), None)
    if graph is None:
        return [
            Problem(file=file, line=1, path="", what="has no graph", hint="a Topology Zoo file begins with graph [")
        ]
    reader = _Graph(file, graph)
    routers, links = reader.routers(), reader.links()
    if reader.problems:
        return reader.problems
    desired = DesiredState(name=name, routers=routers, links=links)
    return Imported(desired=desired, notes=(*reader.notes(), *_pieces(desired)))


class _Graph:
    def __init__(self, file: str, graph: gml.Entries) -> None:
        self._file = file
        self._nodes, self._edges = list(graph.lists("node")), list(graph.lists("edge"))
        self._by_id: dict[str, Router] = {}
        self._loops = self._unplaced = self._parallel = 0
        self.problems: list[Problem] = []

    def routers(self) -> tuple[Router, ...]:
        if not 0 < len(self._nodes) <= NODE_LIMIT:
            self._complain(1, "graph", f"has {len(self._nodes)} nodes, and may have 1 to {NODE_LIMIT}")
            return ()
        names = _Names()
        for node in self._nodes:
            number = node.text("id")
            if number is None or number in self._by_id:
                what = "a node has no id" if number is None else f"id {number} is that of another node"
                self._complain(node.line, "graph.node", what)
                continue
            latitude, longitude = _degrees(node.text("Latitude"), 90), _degrees(node.text("Longitude"), 180)
            if latitude is None or longitude is None:
                self._unplaced += 1
                latitude = longitude = None
            name = names.new(node.text("label") or f"node-{number}")
            self._by_id[number] = Router(name=name, latitude=latitude, longitude=longitude)
        return tuple(self._by_id.values())

    def links(self) -> tuple[Link, ...]:
        if len(self._edges) > EDGE_LIMIT:
            self._complain(1, "graph", f"has {len(self._edges)} edges, and may have {EDGE_LIMIT}")
            return ()
        names, between, links = _Names(), Counter[frozenset[str]](), []
        for edge in self._edges:
            ends = [self._by_id.get(edge.text(key) or "") for key in ("source", "target")]
            first, second = ends
            if first is None or second is None:
                what = f"joins {edge.text('source')} and {edge.text('target')}, and one of them is no node"
                self._complain(edge.line, "graph.edge", what)
            elif first.name == second.name:
                self._loops += 1
            else:
                self._parallel += (pair := frozenset((first.name, second.name))) in between
                between[pair] += 1
                shape = LinkShape(delay_us=_delay_us(first, second), rate_bps=_rate_bps(edge))
                name = names.new(f"{first.name[:18]}--{second.name[:18]}")
                links.append(Link(name=name, ends=(first.name, second.name), forward=shape, backward=shape))
        return tuple(links)

    def notes(self) -> Iterator[str]:
        if self._loops:
            yield f"{self._loops} links of a router with itself are left out"
        if self._parallel:
            yield f"{self._parallel} links join routers that others join already"
        if self._unplaced:
            yield f"{self._unplaced} routers have no place: their links have no delay"

    def _complain(self, line: int, path: str, what: str) -> None:
        self.problems.append(Problem(file=self._file, line=line, path=path, what=what))


class _Names:
    """Gives each thing a name of its own that a description takes."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: Counter[str] = Counter()

    def new(self, label: str) -> str:
        """Give a free name that looks like ``label``."""
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
        # Two dashes stand between the ends of a link.
        words = "--".join(_UNFIT.sub("-", part).strip("-") for part in plain.split("--")).strip("-")
        start = (words if words[:1].isalpha() else f"r-{words}")[:NAME_LIMIT].strip("-")
        while True:
            self._last[start] += 1
            name = start if self._last[start] == 1 else f"{start}-{self._last[start]}"
            if name not in self._taken:
                self._taken.add(name)
                return name


def _degrees(text: str | None, most: int) -> float | None:
    value = _number(text)
    return value if value is not None and abs(value) <= most else None


def _rate_bps(edge: gml.Entries) -> int | None:
    rate = _number(edge.text("LinkSpeedRaw"))
    return None if rate is None or not 1 <= rate <= 10**15 else round(rate)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def _delay_us(first: Router, second: Router) -> int:
    """Give the delay of light in fibre between two places (haversine), 0 where one has none [us]."""
    if first.latitude is None or first.longitude is None or second.latitude is None or second.longitude is None:
        return 0
    north, other_north = radians(first.latitude), radians(second.latitude)
    east = radians(second.longitude - first.longitude)
    chord = sin((other_north - north) / 2) ** 2 + cos(north) * cos(other_north) * sin(east / 2) ** 2
    kilometres = 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))
    return max(LEAST_DELAY_US, round(kilometres * FIBRE_US_PER_KM))


def _pieces(desired: DesiredState) -> Iterator[str]:
    """Say so where not every router reaches every other."""
    parent = {router.name: router.name for router in desired.routers}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for link in desired.links:
        parent[root(link.ends[0])] = root(link.ends[1])
    sizes: Mapping[str, int] = Counter(root(name) for name in parent)
    if len(sizes) > 1:
        yield f"the network is in {len(sizes)} pieces, of {max(sizes.values())} routers at most"
