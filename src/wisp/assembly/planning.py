"""The chance that planners are given: the same for every plan, so that the command line foretells the controller."""

from random import Random

SEED = 0


def planning_rng() -> Random:
    """Give fresh, equally seeded chance."""
    return Random(SEED)  # noqa: S311 - it decides placements, and hides nothing
