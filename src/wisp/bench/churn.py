"""Networks of routers whose links come, go and change at random: what changes of routes are tried on."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from wisp.model.description import DesiredState, Link, LinkShape, Router
from wisp.model.network import Network
from wisp.model.observation import ObservedState
from wisp.model.plan import Assignments, Infeasible
from wisp.planning import plan
from wisp.primitives.errors import StateError
from wisp.reconcile.network import difference
from wisp.reconcile.safety import unsafe_step

DELAYS_US = (0, 0, 1, 1, 2, 5, 50)  # few, so that paths of equal cost are common


class RoutersAtRandom:
    """A network that changes.

    Args:
        routers: How many there are at first; one to three times as many links.
        rng: Chance.
        delays_us: What delays links may have [µs].
    """

    def __init__(self, routers: int, rng: Random, delays_us: Sequence[int] = DELAYS_US) -> None:
        self._rng, self._made, self._delays_us = rng, 0, delays_us
        self._assignments = Assignments()
        self.routers = [self._new_router() for _ in range(routers)]
        self.links: list[Link] = []
        for _ in range(routers * rng.randint(1, 3)):
            self._add_link()

    def change(self) -> None:
        """Change one to four things."""
        for _ in range(self._rng.randint(1, 4)):
            self._rng.choice((self._add_link, self._remove_link, self._change_link, self._replace_router))()

    def planned(self) -> Network:
        """Give the network as it is planned now; addresses stay what they were."""
        desired = DesiredState(name="churn", routers=tuple(self.routers), links=tuple(self.links))
        made = plan(desired, ObservedState(assignments=self._assignments), rng=self._rng)
        if isinstance(made, Infeasible):
            raise StateError(str(made))
        self._assignments = made.assignments
        return made.network

    def _new_router(self) -> Router:
        self._made += 1
        return Router(name=f"r{self._made}")

    def _add_link(self) -> None:
        if len(self.routers) > 1:
            self._made += 1
            first, second = self._rng.sample(self.routers, 2)
            forward, backward = (LinkShape(delay_us=self._rng.choice(self._delays_us)) for _ in range(2))
            ends = (first.name, second.name)
            self.links.append(Link(name=f"l{self._made}", ends=ends, forward=forward, backward=backward))

    def _remove_link(self) -> None:
        if self.links:
            self.links.pop(self._rng.randrange(len(self.links)))

    def _change_link(self) -> None:
        if self.links:
            place = self._rng.randrange(len(self.links))
            shape = LinkShape(delay_us=self._rng.choice(self._delays_us))
            self.links[place] = replace(self.links[place], forward=shape)

    def _replace_router(self) -> None:
        """Have one router go with its links, and a new one come."""
        gone = self.routers.pop(self._rng.randrange(len(self.routers)))
        self.links = [link for link in self.links if gone.name not in link.ends]
        self.routers.append(self._new_router())
        self._add_link()


def unsafe_sequences(sequences: int, changes: int, rng: Random) -> int:
    """Try so many sequences of changes of small networks on the model; give how many have a step that misleads."""
    unsafe = 0
    for _ in range(sequences):
        network = RoutersAtRandom(rng.randint(2, 12), rng)
        seen, is_safe = network.planned(), True
        for _ in range(changes):
            network.change()
            wanted = network.planned()
            is_safe = is_safe and not unsafe_step(difference(wanted, seen), seen=seen, wanted=wanted)
            seen = wanted
        unsafe += not is_safe
    return unsafe
