"""Plans as the command line foretells them: with the same chance for every plan, so that the controller agrees."""

from random import Random

from wisp.model.description import DesiredState
from wisp.model.observation import ObservedState
from wisp.model.plan import Infeasible, Plan
from wisp.planning import plan as make_plan
from wisp.primitives.errors import WispError

SEED = 0


def planning_rng() -> Random:
    """Give fresh, equally seeded chance."""
    return Random(SEED)  # noqa: S311 - it decides placements, and hides nothing


class InfeasibleError(WispError):
    """No placement satisfies the description; ``answer`` names every conflict."""

    def __init__(self, answer: Infeasible) -> None:
        super().__init__("\n".join(_conflict_text(answer)))
        self.answer = answer


def decide(desired: DesiredState, observed: ObservedState) -> Plan:
    """Give the plan for a description.

    Raises:
        InfeasibleError: There is none.
    """
    decided = make_plan(desired, observed, rng=planning_rng())
    if isinstance(decided, Infeasible):
        raise InfeasibleError(decided)
    return decided


def _conflict_text(answer: Infeasible) -> list[str]:
    lines = ["no placement satisfies the description; the running cloud stays as it is"]
    for conflict in answer.conflicts:
        lines.append(f"  {conflict.instance}: {' and '.join(conflict.constraints)} exclude every host")
        lines += [f"    {refusal.host}: {refusal.reason}" for refusal in conflict.refused]
    return lines
