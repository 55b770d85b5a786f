"""Whether a host can take a group, and if not, for which of the author's constraints."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wisp.codec.units import CPU, DELAY, MEMORY
from wisp.model.description import DeclaredInstance, Host, LatencyBound
from wisp.planning.problem import Group, PlacementProblem, Usage, kinds


@dataclass(frozen=True, slots=True)
class Constraint:
    """One thing that a host must satisfy.

    Attributes:
        text: As the author wrote it.
        refuses: Gives why a host is refused, or an empty text.
        is_fixed: Whether its answer never changes while placing.
    """

    text: str
    refuses: Callable[[Host], str]
    is_fixed: bool = True


def constraints(group: Group, problem: PlacementProblem, usage: Usage) -> tuple[Constraint, ...]:
    """Give everything that a host of ``group`` must satisfy, the cheapest to check first."""
    return (
        *_given(group, problem),
        Constraint(f"memory: {MEMORY.render(group.memory_bytes)}{_of(group)}", _memory(group, usage), False),
        Constraint(f"cpu: {CPU.render(group.cpu_millicores)}{_of(group)}", _cpu(group, usage), False),
        *_apart(group, usage),
    )


def refusal(host: Host, all_of: Sequence[Constraint]) -> str:
    """Give the first reason against ``host``, or an empty text when there is none."""
    for constraint in all_of:
        if reason := constraint.refuses(host):
            return reason
    return ""


def conflicting(hosts: Sequence[Host], all_of: Sequence[Constraint]) -> tuple[str, ...]:
    """Give a smallest set of constraints that together leave no host, as written.

    Each is dropped in turn and stays out when no host fits without it either: O(hosts · constraints²) checks.
    """
    kept = list(all_of)
    for constraint in all_of:
        without = [other for other in kept if other is not constraint]
        if not any(not refusal(host, without) for host in hosts):
            kept = without
    return tuple(constraint.text for constraint in kept)


def _of(group: Group) -> str:
    if len(group.members) == 1:
        return ""
    return f" together for affinity: [{', '.join(member.name for member in group.members)}]"


def _given(group: Group, problem: PlacementProblem) -> Iterator[Constraint]:
    if problem.down:
        yield Constraint(
            f"hosts that are down: [{', '.join(sorted(problem.down))}]",
            lambda host: "is down" if host.name in problem.down else "",
        )
    for member in group.members:
        yield from _placement(member, len(group.members) > 1)
    wanted = kinds(group)
    yield Constraint(
        f"kind: {', '.join(sorted(wanted))}",
        lambda host: f"does not run {', '.join(sorted(wanted - set(host.kinds)))}" if wanted - set(host.kinds) else "",
    )
    for member in group.members:
        for bound in member.constraints.latency:
            yield _latency(bound, problem)


def _placement(member: DeclaredInstance, named: bool) -> Iterator[Constraint]:
    whose = f" of {member.name}" if named else ""
    sites, hosts = member.constraints.sites, member.constraints.hosts
    if sites:
        allowed = frozenset(sites)
        yield Constraint(
            f"sites: [{', '.join(sites)}]{whose}",
            lambda host: "" if host.site in allowed else f"stands at {host.site}",
        )
    if hosts:
        chosen = frozenset(hosts)
        yield Constraint(
            f"hosts: [{', '.join(hosts)}]{whose}",
            lambda host: "" if host.name in chosen else "is not one of the chosen hosts",
        )


def _latency(bound: LatencyBound, problem: PlacementProblem) -> Constraint:
    delays = problem.delays.to(bound.to)

    def refuses(host: Host) -> str:
        delay = delays.get(host.name)
        if delay is None:
            return f"has no path to {bound.to}"
        if delay > bound.maximum_us:
            return f"is {DELAY.render(delay)} from {bound.to}"
        return ""

    return Constraint(f"latency: {{{bound.to}: {DELAY.render(bound.maximum_us)}}}", refuses)


def _memory(group: Group, usage: Usage) -> Callable[[Host], str]:
    def refuses(host: Host) -> str:
        free = usage.free(host.name).memory_bytes
        if free >= group.memory_bytes:
            return ""
        return f"has {_size(free)} of {MEMORY.render(host.memory_bytes)} memory left"

    return refuses


def _cpu(group: Group, usage: Usage) -> Callable[[Host], str]:
    def refuses(host: Host) -> str:
        free = usage.free(host.name).cpu_millicores
        if free >= group.cpu_millicores:
            return ""
        return f"has {CPU.render(free)} of {CPU.render(host.cpu_millicores)} cores left"

    return refuses


def _size(memory_bytes: int) -> str:
    return MEMORY.render(memory_bytes) if memory_bytes else "nothing"


def _apart(group: Group, usage: Usage) -> Iterator[Constraint]:
    for other in sorted(group.apart):
        where = usage.host_of.get(other)
        if where is not None:
            text = f"anti_affinity: {group.name} apart from {other}"
            yield Constraint(text, _occupied(where, other), False)


def _occupied(where: str, other: str) -> Callable[[Host], str]:
    return lambda host: f"runs {other}" if host.name == where else ""
