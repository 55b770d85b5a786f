"""Placement algorithms by name. One module each, with the signature of :class:`Placer`, and one line here."""

from collections.abc import Mapping
from typing import Protocol

from wisp.model.plan import Conflict, Decision
from wisp.planning.algorithms import first_fit
from wisp.planning.problem import PlacementProblem
from wisp.primitives.chance import Rng


class Placer(Protocol):
    """Finds a host for every instance."""

    def __call__(self, problem: PlacementProblem, *, rng: Rng) -> tuple[Decision, ...] | tuple[Conflict, ...]:
        """Give one decision per instance; or, when some fit nowhere, one conflict for each of those."""
        ...


ALGORITHMS: Mapping[str, Placer] = {"first-fit": first_fit.place}
