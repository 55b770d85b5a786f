"""Rows and summaries for people, gathered from the store, the plan and ``/proc``."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from wisp.drivers.processes import cpu_seconds, process_tree, proportional_set_size, start_ticks
from wisp.model.action import (
    Action,
    CreateLink,
    CreateNamespace,
    CreateTap,
    DrainInstance,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    RemoveVirtualAddress,
    SetRoutes,
    SetVirtualAddress,
    ShapeLink,
    StartInstance,
    StopInstance,
    SwitchLink,
)
from wisp.model.description import DesiredState, LinkShape
from wisp.model.instance import InstanceSpec, ObservedInstance
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.model.view import Change, HostRow, InstanceRow


def instance_rows(
    desired: DesiredState, plan: Plan, seen: Mapping[str, ObservedInstance], *, alive: bool
) -> list[InstanceRow]:
    """Give a row for every planned instance, in the plan's order, then for those that finish what they have.

    Args:
        alive: Whether the cloud's keeper lives; without it nothing runs, whatever was seen last.
    """
    sites = {host.name: host.site for host in desired.hosts}
    planned = {spec.name for spec in plan.instances}
    leaving = [each for each in seen.values() if alive and each.handle and each.name not in planned]
    return [
        *(_row(spec, seen.get(spec.name), sites.get(spec.host, ""), alive) for spec in plan.instances),
        *(_leaving_row(each) for each in leaving),
    ]


def _leaving_row(seen: ObservedInstance) -> InstanceRow:
    assert seen.handle is not None  # noqa: S101 - picked so
    pids = _pids(seen)
    return InstanceRow(
        name=seen.name,
        kind=seen.handle.driver,
        site="",
        host="",
        address=None,
        address6=None,
        state=str(seen.state),
        start_ms=seen.start_ms,
        memory_bytes=proportional_set_size(pids),
        cpu_seconds=cpu_seconds(pids),
        pid=pids[0] if pids else None,
        failures=seen.failures,
        reason="it is not wanted any more",
        is_workload=False,
    )


def _row(spec: InstanceSpec, seen: ObservedInstance | None, site: str, alive: bool) -> InstanceRow:
    pids = _pids(seen) if seen and seen.pid and alive else ()
    return InstanceRow(
        name=spec.name,
        kind=f"door/{spec.door.protocol}" if spec.door else spec.kind,
        site=site,
        host=spec.host,
        address=spec.door.listen if spec.door else spec.address,
        address6=spec.address6,
        state=str(seen.state) if seen and alive else "planned",
        start_ms=seen.start_ms if seen and alive else None,
        memory_bytes=proportional_set_size(pids),
        cpu_seconds=cpu_seconds(pids),
        pid=pids[0] if pids else None,
        failures=seen.failures if seen else 0,
        reason=seen.reason if seen and alive else "",
        is_workload=spec.is_workload,
    )


def host_rows(desired: DesiredState, plan: Plan) -> tuple[HostRow, ...]:
    """Give a row for every host with what is promised on it."""
    count: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    for spec in plan.instances:
        count[spec.host] += spec.door is None
        cpu[spec.host] += spec.cpu_millicores
        memory[spec.host] += spec.cost_bytes
    return tuple(
        HostRow(
            name=host.name,
            site=host.site,
            instances=count[host.name],
            cpu_millicores=host.cpu_millicores,
            cpu_used_millicores=cpu[host.name],
            memory_bytes=host.memory_bytes,
            memory_used_bytes=memory[host.name],
            quota_enforced=False,
        )
        for host in desired.hosts
    )


def _pids(seen: ObservedInstance) -> tuple[int, ...]:
    """Give an instance's processes; none when another process has got its number."""
    with suppress(OSError):
        if seen.handle and seen.handle.start_ticks in (0, start_ticks(seen.pid)):
            return process_tree(seen.pid)
    return ()


def later(plan: Plan, observed: ObservedState) -> Iterator[Action]:
    """Give what comes after the first actions: those that wait until others answer, or are gone."""
    planned = {spec.name for spec in plan.instances}
    yield from (StartInstance(spec=spec) for spec in plan.instances if spec.name not in observed.instances)
    for name, seen in observed.instances.items():
        if name not in planned:
            yield StopInstance(name=name, handle=seen.handle, reason="it is not wanted any more")


def changes(actions: Iterable[Action]) -> tuple[Change, ...]:
    """Give actions as lines of a diff; routes are summed up by namespace."""
    lines: dict[tuple[str, str], Change] = {}
    routes: Counter[tuple[str, str]] = Counter()
    for action in actions:
        if isinstance(action, SetRoutes):
            for hops in action.routes.values():
                routes["+" if hops else "-", action.namespace] += 1
        else:
            line = _change(action)
            lines.setdefault((line.sign, line.subject), line)
    sums = (Change(sign=sign, subject=f"routes of {ns}", detail=f"{n}") for (sign, ns), n in routes.items())
    return _merged([*lines.values(), *sums])


def _merged(lines: list[Change]) -> tuple[Change, ...]:
    """Turn the removal and creation of one subject into one change."""
    signs: dict[str, set[str]] = {}
    for line in lines:
        signs.setdefault(line.subject, set()).add(line.sign)
    both = {subject for subject, seen in signs.items() if seen == {"+", "-"} and not subject.startswith("routes")}
    kept = [line for line in lines if line.subject not in both or line.sign == "+"]
    return tuple(
        Change(sign="~", subject=line.subject, detail=f"replaced: {line.detail}") if line.subject in both else line
        for line in kept
    )


def _change(action: Action) -> Change:
    match action:
        case CreateNamespace(namespace=namespace):
            return Change(sign="+", subject=f"namespace {namespace.name}", detail=namespace.address or "")
        case RemoveNamespace(name=name):
            return Change(sign="-", subject=f"namespace {name}", detail="")
        case CreateLink(link=link):
            return Change(sign="+", subject=f"link {link.name}", detail=shape_text(link.a_to_b))
        case ShapeLink(link=link):
            return Change(sign="~", subject=f"link {link.name}", detail=shape_text(link.a_to_b))
        case SwitchLink(link=link):
            return Change(sign="~", subject=f"link {link.name}", detail="down" if link.is_down else "up")
        case RemoveLink(link=link):
            return Change(sign="-", subject=f"link {link.name}", detail="")
        case CreateTap(tap=tap):
            return Change(sign="+", subject=f"tap {tap.name}", detail=tap.address)
        case RemoveTap(tap=tap):
            return Change(sign="-", subject=f"tap {tap.name}", detail="")
        case StartInstance(spec=spec) if spec.door:
            return Change(sign="+", subject=f"door {spec.name}", detail="{}:{}".format(*spec.door.to))
        case StartInstance(spec=spec):
            return Change(sign="+", subject=f"instance {spec.name}", detail=f"{spec.kind} on {spec.host}")
        case StopInstance(name=name, reason=reason):
            return Change(sign="-", subject=f"instance {name}", detail=reason)
        case DrainInstance(name=name):
            return Change(sign="-", subject=f"instance {name}", detail="when it has finished")
        case SetVirtualAddress(virtual_address=each):
            what = f"virtual address {each.address} of {each.namespace}"
            return Change(sign="+", subject=what, detail=f"to {', '.join(each.members)}")
        case RemoveVirtualAddress(virtual_address=each):
            return Change(sign="-", subject=f"virtual address {each.address} of {each.namespace}", detail="")
    raise TypeError(f"no line for {action}")


def shape_text(shape: LinkShape) -> str:
    """Give a link's shape in a few words, as ``20 Mbit/s, 5 ms``."""
    rate = "unlimited" if shape.rate_bps is None else f"{shape.rate_bps / 1e6:g} Mbit/s"
    loss = f", {shape.loss_ppm / 1e4:g} % loss" if shape.loss_ppm else ""
    jitter = f" ± {shape.jitter_us / 1000:g}" if shape.jitter_us else ""
    return f"{rate}, {shape.delay_us / 1000:g}{jitter} ms{loss}"
