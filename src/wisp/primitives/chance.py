"""What chance looks like; whoever wires the rooms hands in a seeded generator."""

from typing import Protocol


class Rng(Protocol):
    """A source of chance, as :class:`random.Random`."""

    def random(self) -> float:
        """Give the next number, uniform in [0, 1)."""
        ...
