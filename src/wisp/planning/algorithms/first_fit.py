"""First fit, the most constrained first.

Each group of instances goes to the host it was on before, else to the first declared host that satisfies
everything, the nearest to where its load comes from where that is known. Groups with the fewest possible hosts choose
first. When a group finds no room it is put in front and everything is placed again, a bounded number of times (after
"squeaky wheel" optimisation, Joslin and Clements 1999).

Cost: O(groups · hosts) checks per round. A poor choice where room is scarce: it never weighs one host against
another, and may call a description infeasible that a search would solve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wisp.codec.units import CPU, MEMORY
from wisp.model.description import Host
from wisp.model.plan import Conflict, Decision, Refusal
from wisp.planning.feasibility import (
    Constraint,
    broken,
    changing_constraints,
    conflicting,
    constraints,
    fixed_constraints,
)
from wisp.planning.problem import Group, PlacementProblem, Usage
from wisp.primitives.chance import Rng

ROUNDS = 16
FAR_US = 1 << 62
REFUSALS_SHOWN = 20
Refused = tuple[Host, Constraint]


def place(
    problem: PlacementProblem,
    *,
    rng: Rng,  # noqa: ARG001 - first fit leaves nothing to chance
) -> tuple[Decision, ...] | tuple[Conflict, ...]:
    """Give a host for every instance, or what keeps some from having one."""
    order = _most_constrained_first(problem)
    first = tried = _round(order, problem)
    for _ in range(ROUNDS):
        if not tried.stuck:
            return _as_declared(tried.decisions, problem)
        in_front = {candidate.group.name for candidate in tried.stuck}
        if {candidate.group.name for candidate in order[: len(in_front)]} == in_front:
            break
        order = [*tried.stuck, *(each for each in order if each.group.name not in in_front)]
        tried = _round(order, problem)
    return tuple(each for candidate in first.stuck for each in _conflicts(candidate, problem, first.usage))


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A group with the hosts that nothing fixed speaks against, and why the others were refused."""

    group: Group
    hosts: tuple[Host, ...]
    refused: tuple[Refusal, ...]


def _most_constrained_first(problem: PlacementProblem) -> list[_Candidate]:
    candidates = [_candidate(group, problem) for group in problem.groups]
    return sorted(candidates, key=lambda candidate: len(candidate.hosts))


def _candidate(group: Group, problem: PlacementProblem) -> _Candidate:
    fixed = fixed_constraints(group, problem)
    tried = [(host, broken(host, fixed)) for host in problem.hosts.values()]
    refused = [(host, constraint) for host, constraint in tried if constraint]
    return _Candidate(group, tuple(host for host, constraint in tried if not constraint), _told(refused))


@dataclass(frozen=True, slots=True)
class _Round:
    """What came of placing once: decisions, what is used then, and the candidates that found no host."""

    decisions: list[Decision]
    usage: Usage
    stuck: list[_Candidate]


def _round(order: Sequence[_Candidate], problem: PlacementProblem) -> _Round:
    """Place in this order."""
    done = _Round([], Usage(problem.hosts.values()), [])
    for candidate in order:
        host, refused = _first_fit(candidate, changing_constraints(candidate.group, done.usage))
        if host is None:
            done.stuck.append(candidate)
        else:
            done.decisions.extend(_decisions(candidate, host, refused, done.usage))
            done.usage.put(candidate.group, host.name)
    return done


def _first_fit(candidate: _Candidate, changing: Sequence[Constraint]) -> tuple[Host | None, list[Refused]]:
    """Give the first host that fits, the previous one first, then the nearest, and those refused on the way."""
    refused: list[Refused] = []
    previous, away_us = candidate.group.previous, candidate.group.away_us
    for host in sorted(candidate.hosts, key=lambda host: (host.name != previous, away_us.get(host.name, FAR_US))):
        constraint = broken(host, changing)
        if constraint is None:
            return host, refused
        refused.append((host, constraint))
    return None, refused


def _decisions(candidate: _Candidate, host: Host, refused: list[Refused], usage: Usage) -> list[Decision]:
    free = usage.free(host.name)
    room = f"{MEMORY.render(free.memory_bytes)} and {CPU.render(free.cpu_millicores)} cores free before"
    if host.name == candidate.group.previous:
        reason = f"stays where it was; {room}"
    elif len(candidate.hosts) == 1:
        reason = f"the only host that its constraints allow; {room}"
    elif candidate.group.away_us:
        reason = f"nearest to its load of {len(candidate.hosts)} allowed hosts with room; {room}"
    else:
        reason = f"first of {len(candidate.hosts)} allowed hosts with room; {room}"
    told = (*candidate.refused, *_told(refused))
    return [
        Decision(instance=member.name, host=host.name, reason=reason, refused=told)
        for member in candidate.group.members
    ]


def _conflicts(candidate: _Candidate, problem: PlacementProblem, usage: Usage) -> list[Conflict]:
    reasons = conflicting(tuple(problem.hosts.values()), constraints(candidate.group, problem, usage))
    _, refused = _first_fit(candidate, changing_constraints(candidate.group, usage))
    told = (*candidate.refused, *_told(refused))
    return [
        Conflict(instance=member.name, constraints=reasons or ("no hosts are declared",), refused=told)
        for member in candidate.group.members
    ]


def _told(refused: Sequence[Refused]) -> tuple[Refusal, ...]:
    """Give the first refusals, and how many more there are: a thousand lines explain nothing."""
    shown = [Refusal(host=host.name, reason=constraint.why_not(host)) for host, constraint in refused[:REFUSALS_SHOWN]]
    more = len(refused) - REFUSALS_SHOWN
    if more > 0:
        shown.append(Refusal(host=f"{more} more hosts", reason="are refused likewise"))
    return tuple(shown)


def _as_declared(decisions: Sequence[Decision], problem: PlacementProblem) -> tuple[Decision, ...]:
    made = {decision.instance: decision for decision in decisions}
    return tuple(made[name] for name in problem.instance_names)
