"""Whether a host can take a group, and if not, for which of the author's constraints."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wisp.codec.units import CPU, DELAY, MEMORY
from wisp.model.description import DeclaredInstance, Host, LatencyBound
from wisp.planning.overhead import cost_bytes
from wisp.planning.problem import Group, PlacementProblem, Usage


@dataclass(frozen=True, slots=True)
class Constraint:
    """One thing that a host must satisfy.

    Attributes:
        text: As the author wrote it.
        holds: Whether a host satisfies it.
        why_not: Gives the reason against a host that does not.
    """

    text: str
    holds: Callable[[Host], bool]
    why_not: Callable[[Host], str]


def constraints(group: Group, problem: PlacementProblem, usage: Usage) -> tuple[Constraint, ...]:
    """Give everything that a host of ``group`` must satisfy."""
    return (*fixed_constraints(group, problem), *changing_constraints(group, usage))


def fixed_constraints(group: Group, problem: PlacementProblem) -> tuple[Constraint, ...]:
    """Give the constraints whose answer never changes while placing, the cheapest to check first."""
    return (
        *_up(group, problem),
        *(each for member in group.members for each in _placement(member, len(group.members) > 1)),
        _kinds(group),
        *(_latency(bound, problem) for member in group.members for bound in member.constraints.latency),
    )


def changing_constraints(group: Group, usage: Usage) -> tuple[Constraint, ...]:
    """Give the constraints that depend on what is placed already."""
    return (_memory(group, usage), _cpu(group, usage), *_apart(group, usage))


def broken(host: Host, all_of: Sequence[Constraint]) -> Constraint | None:
    """Give the first constraint that ``host`` does not satisfy, or ``None``."""
    for constraint in all_of:
        if not constraint.holds(host):
            return constraint
    return None


def conflicting(hosts: Sequence[Host], all_of: Sequence[Constraint]) -> tuple[str, ...]:
    """Give a smallest set of constraints that together leave no host, as written.

    Each is dropped in turn and stays out when no host fits without it either: O(hosts · constraints²) checks.
    """
    kept = list(all_of)
    for constraint in all_of:
        without = [other for other in kept if other is not constraint]
        if all(broken(host, without) for host in hosts):
            kept = without
    return tuple(constraint.text for constraint in kept)


def _up(group: Group, problem: PlacementProblem) -> Iterator[Constraint]:
    waits_for = group.previous if group.name in problem.waiting else None
    if problem.down:
        yield Constraint(
            text=f"hosts that are down: [{', '.join(sorted(problem.down))}]",
            holds=lambda host: host.name not in problem.down or host.name == waits_for,
            why_not=lambda _: "is down",
        )


def _placement(member: DeclaredInstance, named: bool) -> Iterator[Constraint]:
    whose = f" of {member.name}" if named else ""
    sites, hosts = member.constraints.sites, member.constraints.hosts
    if sites:
        yield Constraint(
            text=f"sites: [{', '.join(sites)}]{whose}",
            holds=lambda host: host.site in sites,
            why_not=lambda host: f"stands at {host.site}",
        )
    if hosts:
        yield Constraint(
            text=f"hosts: [{', '.join(hosts)}]{whose}",
            holds=lambda host: host.name in hosts,
            why_not=lambda _: "is not one of the chosen hosts",
        )


def _kinds(group: Group) -> Constraint:
    wanted = {member.vdu.kind for member in group.members}
    return Constraint(
        text=f"kind: {', '.join(sorted(wanted))}",
        holds=lambda host: wanted <= set(host.kinds),
        why_not=lambda host: f"does not run {', '.join(sorted(wanted - set(host.kinds)))}",
    )


def _latency(bound: LatencyBound, problem: PlacementProblem) -> Constraint:
    delays = problem.delays.to(bound.to)

    def why_not(host: Host) -> str:
        if host.name not in delays:
            return f"has no path to {bound.to}"
        return f"is {DELAY.render(delays[host.name])} from {bound.to}"

    return Constraint(
        text=f"latency: {{{bound.to}: {DELAY.render(bound.maximum_us)}}}",
        holds=lambda host: delays.get(host.name, bound.maximum_us + 1) <= bound.maximum_us,
        why_not=why_not,
    )


def _memory(group: Group, usage: Usage) -> Constraint:
    def why_not(host: Host) -> str:
        free = usage.free(host.name).memory_bytes
        return f"has {MEMORY.render(free)} of {MEMORY.render(host.memory_bytes)} memory left"

    return Constraint(
        text=f"memory: {_memory_text(group)}{_together(group)}",
        holds=lambda host: usage.after(group, host.name).memory_bytes >= 0,
        why_not=why_not,
    )


def _memory_text(group: Group) -> str:
    """Give what the author asked for, and what it costs beside that."""
    awake = [member.vdu for member in group.members if not member.gives_back]
    asleep = [member.vdu for member in group.members if member.gives_back]
    largest = max(asleep, key=cost_bytes, default=None)
    vdus = awake if largest is None else [*awake, largest]
    given = sum(vdu.memory_bytes for vdu in vdus)
    beside = sum(cost_bytes(vdu) for vdu in vdus) - given
    return MEMORY.render(given) + (f", and {MEMORY.render(beside)} to run it" if beside else "")


def _cpu(group: Group, usage: Usage) -> Constraint:
    def why_not(host: Host) -> str:
        free = usage.free(host.name).cpu_millicores
        return f"has {CPU.render(free)} of {CPU.render(host.cpu_millicores)} cores left"

    return Constraint(
        text=f"cpu: {CPU.render(group.reserved.cpu_millicores + group.asleep.cpu_millicores)}{_together(group)}",
        holds=lambda host: usage.after(group, host.name).cpu_millicores >= 0,
        why_not=why_not,
    )


def _together(group: Group) -> str:
    if len(group.members) == 1:
        return ""
    return f" together for affinity: [{', '.join(member.name for member in group.members)}]"


def _apart(group: Group, usage: Usage) -> Iterator[Constraint]:
    for other in sorted(group.apart & usage.host_of.keys()):
        yield _apart_from(other, usage.host_of[other], group)


def _apart_from(other: str, where: str, group: Group) -> Constraint:
    return Constraint(
        text=f"anti_affinity: {group.name} apart from {other}",
        holds=lambda host: host.name != where,
        why_not=lambda _: f"runs {other}",
    )
