"""Several instances behind one virtual address: which there are, what they are called, whom new connections go to.

What is declared once (``web``) becomes instances ``web-1``, ``web-2`` and so on. A new version gets new names, so that
old and new ones can run beside each other while one takes the place of the other.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count, islice

from wisp.codec import placeholder
from wisp.model.description import DeclaredInstance, DesiredState
from wisp.model.observation import ObservedState
from wisp.model.plan import Assignments, ElasticGroup
from wisp.planning.routing import Topology, topology_of
from wisp.primitives.values import frozen


@frozen
class Scale:
    """How many instances there shall be.

    Attributes:
        count: So many, within what is declared.
        near: The host where the load comes from; empty for anywhere.
    """

    count: int
    near: str = ""


@frozen
class Expansion:
    """What a declared state becomes.

    Attributes:
        desired: With an instance for each replica.
        versions: Replica → digest of what it was made from; also of those that are to go and still run.
        near: New replica → host that it is wanted near to.
    """

    desired: DesiredState
    versions: Mapping[str, str]
    near: Mapping[str, str]


def expand(desired: DesiredState, observed: ObservedState, scales: Mapping[str, Scale]) -> Expansion:
    """Give what several instances are declared for as those instances.

    Args:
        desired: What was declared.
        observed: Replicas that were given names before, and those that still run; the former stay where they fit.
        scales: How many there shall be, by declared name; else as many as before.
    """
    instances: list[DeclaredInstance] = []
    versions: dict[str, str] = {}
    near: dict[str, str] = {}
    for each in desired.instances:
        if each.elasticity is None:
            instances.append(each)
            continue
        version = _version(each, desired)
        known = replicas_of(each.name, observed.assignments.versions)
        before = [name for name in known if name in observed.assignments.hosts]
        scale = scales.get(each.name, Scale(count=len(before)))
        size = min(max(scale.count, each.elasticity.minimum), each.elasticity.maximum)
        # One that was to go and still serves may as well stay.
        usable = [name for name in known if name in before or _is_well(name, observed)]
        kept = [name for name in usable if observed.assignments.versions[name] == version][:size]
        taken = {*before, *observed.instances}
        new = [*islice((name for name in _names(each.name) if name not in taken), size - len(kept))]
        near |= dict.fromkeys(new, scale.near) if scale.near else {}
        versions |= {name: observed.assignments.versions[name] for name in known if name in observed.instances}
        for name in (*kept, *new):
            versions[name] = version
            instances.append(replace(each, name=name, replica_of=each.name, elasticity=None, publish=()))
    return Expansion(desired=replace(desired, instances=tuple(instances)), versions=versions, near=near)


def replicas_of(name: str, among: Mapping[str, object]) -> list[str]:
    """Give those of the names that are instances of what is declared as ``name``, the lowest number first."""
    numbers = {each: each.removeprefix(f"{name}-") for each in among if each.startswith(f"{name}-")}
    return sorted((each for each, number in numbers.items() if number.isdecimal()), key=lambda each: int(numbers[each]))


def groups(desired: DesiredState, given: Assignments) -> Iterator[ElasticGroup]:
    """Give what stands behind each virtual address.

    Args:
        desired: What was declared, not expanded.
        given: Addresses of what is declared, and replicas.
    """
    elastic = [each for each in desired.instances if each.elasticity is not None]
    if not elastic:
        return
    topology = topology_of(desired)
    nearest = {f"host/{host}": _by_distance(host, topology) for host in given.subnets}
    for each in elastic:
        assert each.elasticity is not None  # noqa: S101 - picked so
        yield ElasticGroup(
            name=each.name,
            address=given.addresses[each.name],
            members=tuple(name for name in replicas_of(each.name, given.versions) if name in given.hosts),
            drain=each.elasticity.drain,
            nearest=nearest,
        )


def _by_distance(host: str, topology: Topology) -> tuple[tuple[str, ...], ...]:
    """Give the namespaces of all hosts that can be reached from one, the nearest first, equally near ones together."""
    tiers: dict[int, list[str]] = {}
    for other, delay_us in topology.delays_from(host).items():
        tiers.setdefault(delay_us, []).append(f"host/{other}")
    return tuple(tuple(sorted(tiers[delay_us])) for delay_us in sorted(tiers))


def _is_well(name: str, observed: ObservedState) -> bool:
    return name in observed.instances and observed.instances[name].state.is_well


def _names(name: str) -> Iterator[str]:
    return (f"{name}-{number}" for number in count(1))


def _version(declared: DeclaredInstance, desired: DesiredState) -> str:
    """Give what changes when an instance must be made anew, wherever it runs."""
    image = next((each.digests for each in desired.images if each.name == declared.vdu.image), {})
    config = declared.vdu.config
    named = {name for text in config.values() for word, name in placeholder.names(text) if word == "secret"}
    secrets = [(each.name, each.fingerprint) for each in desired.secrets if each.name in named]
    vdu = replace(declared.vdu, config={})
    asleep = (declared.idle_timeout, declared.when_idle)
    text = repr((vdu, sorted(config.items()), sorted(image.items()), secrets, declared.egress, asleep))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
