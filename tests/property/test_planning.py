"""Plans: whatever is declared, a plan keeps every constraint and its network carries packets."""

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.property.clouds import clouds
from wisp.codec import stored
from wisp.model.description import DesiredState
from wisp.model.network import RoutingTable
from wisp.model.observation import ObservedState
from wisp.model.peer import Peers
from wisp.model.plan import Infeasible, Plan
from wisp.planning import plan
from wisp.planning.elastic import expand
from wisp.planning.problem import Delays
from wisp.planning.routing import Topology

NOTHING = ObservedState()


def feasible_clouds() -> st.SearchStrategy[DesiredState]:
    """Draw a desired state that has a plan; tried anew by itself, so that two of them are not as rare as both."""
    return clouds().filter(lambda desired: isinstance(plan(desired, NOTHING, rng=Random(0)), Plan))


def planned(desired: DesiredState, observed: ObservedState = NOTHING) -> Plan:
    made = plan(desired, observed, rng=Random(0))
    assume(isinstance(made, Plan))
    assert isinstance(made, Plan)
    return made


@given(clouds())
def test_capacity_is_never_exceeded(desired):
    hosts = planned(desired).assignments.hosts
    cpu, memory = Counter(), Counter()
    cpu_awake, memory_awake = Counter(), Counter()
    for instance in expand(desired, NOTHING, {}).desired.instances:
        host, vdu = hosts[instance.name], instance.vdu
        if not instance.gives_back:
            cpu[host] += vdu.cpu_millicores
            memory[host] += vdu.memory_bytes
        else:
            cpu_awake[host] = max(cpu_awake[host], vdu.cpu_millicores)
            memory_awake[host] = max(memory_awake[host], vdu.memory_bytes)
    for host in desired.hosts:
        # Whoever is wanted alone can always be started.
        assert cpu[host.name] + cpu_awake[host.name] <= host.cpu_millicores
        assert memory[host.name] + memory_awake[host.name] <= host.memory_bytes


@given(clouds())
def test_constraints_are_kept(desired):
    placement = planned(desired).assignments.hosts
    hosts = {host.name: host for host in desired.hosts}
    desired = expand(desired, NOTHING, {}).desired
    peers, delays = Peers(desired.instances), Delays(desired)
    for instance in desired.instances:
        host, constraints = hosts[placement[instance.name]], instance.constraints
        assert instance.vdu.kind in host.kinds
        assert host.site in (constraints.sites or (host.site,))
        assert host.name in (constraints.hosts or (host.name,))
        for word in constraints.affinity:
            assert all(placement[other] == host.name for other in peers.named(instance, word))
        for word in constraints.anti_affinity:
            assert all(placement[other] != host.name for other in peers.named(instance, word))
        for bound in constraints.latency:
            assert delays.to(bound.to)[host.name] <= bound.maximum_us


@given(clouds())
def test_an_infeasible_description_names_what_conflicts(desired):
    made = plan(desired, ObservedState(), rng=Random(0))
    assume(isinstance(made, Infeasible))
    for conflict in made.conflicts:
        assert conflict.constraints
        assert {refusal.host for refusal in conflict.refused} == {host.name for host in desired.hosts}
        assert all(refusal.reason for refusal in conflict.refused)


@given(feasible_clouds(), feasible_clouds())
def test_planning_again_changes_nothing_and_what_fits_stays(desired, other):
    first = planned(desired)
    again = planned(desired, ObservedState(assignments=first.assignments))
    assert again.assignments == first.assignments
    assert again.network == first.network
    assert again.instances == first.instances
    between = planned(other, ObservedState(assignments=first.assignments))
    for host in first.assignments.subnets.keys() & between.assignments.subnets.keys():
        assert between.assignments.subnets[host] == first.assignments.subnets[host]


@given(clouds(), st.data())
def test_hosts_that_are_down_are_not_used(desired, data):
    down = frozenset(data.draw(st.sets(st.sampled_from([host.name for host in desired.hosts]))))
    hosts = planned(desired, ObservedState(hosts_down=down)).assignments.hosts
    assert not down & set(hosts.values())


@given(clouds())
def test_addresses_are_unique_and_in_their_hosts_subnet(desired):
    made = planned(desired)
    gateways = [each.address for each in made.network.namespaces if each.forwards]
    routers = {made.assignments.addresses[router.name] for router in desired.routers}
    gateways = [str(gateway).removesuffix("/32") for gateway in gateways]
    assert routers <= set(gateways)
    addresses = [*made.assignments.addresses.values(), *(each for each in gateways if each not in routers)]
    assert len(set(addresses)) == len(addresses)
    for spec in made.instances:
        if spec.address:
            subnet = IPv4Network(f"{spec.gateway}/20", strict=False)
            assert IPv4Address(spec.address) in subnet


@given(clouds())
def test_names_of_interfaces_fit_and_are_unique_in_a_namespace(desired):
    network = planned(desired).network
    ends = [(end.namespace, end.interface) for link in network.links for end in (link.a, link.b)]
    places = ends + [(tap.namespace, tap.interface) for tap in network.taps]
    assert len(set(places)) == len(places)
    assert all(len(interface) <= 15 for _, interface in places)


@given(clouds())
def test_a_plan_is_stored_and_read_back(desired):
    made = planned(desired)
    assert stored.decode(stored.encode(made), Plan) == made


@given(clouds())
def test_following_the_routes_arrives_over_a_quickest_path(desired):
    made = planned(desired)
    routes = made.network.routes
    topology = Topology(desired.nodes, desired.links)
    for source in desired.nodes:
        quickest = topology.delays_from(source)
        for target in desired.nodes:
            walked = _walk(source, target, routes, made)
            assert walked == ({quickest[target]} if target in quickest else set())


def _subnet(index: int) -> str:
    return str(IPv4Network((int(IPv4Address("10.0.0.0")) + index * 4096, 20)))


def _node(name: str, made: Plan) -> str:
    return f"host/{name}" if name in made.assignments.subnets else f"router/{name}"


def _walk(source: str, target: str, routes: Mapping[str, RoutingTable], made: Plan) -> set[int]:
    """Walk from router to router, every way; give the delays [µs] until the target, none where no route leads there."""
    ends = {(end.namespace, end.interface): link for link in made.network.links for end in (link.a, link.b)}
    subnets = made.assignments.subnets
    destination = _subnet(subnets[target]) if target in subnets else f"{made.assignments.addresses[target]}/32"
    delays, walkers, met = set(), {(_node(source, made), 0)}, {_node(source, made): 0}
    while walkers:
        here, delay = walkers.pop()
        if here == _node(target, made):
            delays.add(delay)
            continue
        hops = routes.get(here, {}).get(destination, ())
        assert hops or here == _node(source, made), "a route leads to where none goes on"
        assert list(hops) == sorted(set(hops))
        for hop in hops:
            link = ends[here, hop.interface]
            far, shape = (link.b, link.a_to_b) if link.a.namespace == here else (link.a, link.b_to_a)
            assert str(far.address).removesuffix("/31") == hop.via
            step = delay + shape.delay_us
            assert met.setdefault(far.namespace, step) == step, "one way is quicker, or goes round"
            walkers.add((far.namespace, step))
    return delays
