"""Plans: whatever is declared, a plan keeps every constraint and its network carries packets."""

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.property.clouds import clouds
from wisp.codec import stored
from wisp.model.description import DesiredState, Link, LinkShape, Routing, RoutingCost
from wisp.model.network import taken
from wisp.model.observation import ObservedState
from wisp.model.peer import Peers
from wisp.model.plan import Infeasible, Plan
from wisp.planning import plan
from wisp.planning.elastic import expand
from wisp.planning.problem import Delays
from wisp.planning.routing import Topology, topology_of
from wisp.reconcile.routes import peers_of

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
def test_following_the_routes_arrives_over_a_shortest_path(desired):
    made = planned(desired)
    topology = Topology(desired.nodes, _with_costs_as_delays(desired))
    for source in desired.nodes:
        shortest = topology.delays_from(source)
        for target in desired.nodes:
            walked = _walk(source, target, desired, made)
            assert walked == ({shortest[target]} if target in shortest else set())


@given(clouds())
def test_a_path_is_as_quick_as_is_told(desired):
    told = topology_of(desired)
    quickest = Topology(desired.nodes, desired.links)
    by_delay = replace(desired, routing=Routing())
    for source in desired.nodes:
        from_source = told.delays_from(source)
        assert from_source == {host: told.delays_to(host)[source] for host in from_source}
        least = quickest.delays_from(source)
        assert from_source.keys() == least.keys()
        assert all(least[host] <= from_source[host] for host in least)
        assert topology_of(by_delay).delays_from(source) == least


@given(clouds())
def test_a_backup_leads_to_where_it_shall_and_never_back(desired):
    desired = replace(desired, routing=replace(desired.routing, has_backups=True))
    made = planned(desired)
    peers = peers_of(made.network.links)
    for namespace, table in made.network.routes.items():
        for destination, hops in table.items():
            assert [hop.is_backup for hop in hops[:-1]] == [False] * (len(hops) - 1)
            if not hops[-1].is_backup:
                continue
            (first, backup) = hops
            assert first.interface != backup.interface
            met, walkers = set(), {peers[namespace, backup.interface]}
            while walkers:
                here = walkers.pop()
                assert here != namespace
                assert here not in met or here in _targets(destination, made)
                met.add(here)
                onward = made.network.routes.get(here, {}).get(destination, ())
                assert onward or here in _targets(destination, made)
                walkers |= {peers[here, hop.interface] for hop in taken(onward)} - met


@given(clouds())
def test_whoever_has_a_neighbour_beyond_the_broken_link_has_a_backup(desired):
    """Two links side by side are the least: each stands in for the other."""
    desired = replace(desired, routing=Routing(has_backups=True), links=_twice(desired.links))
    tables = planned(desired).network.routes
    for link in desired.links:
        for node in link.ends:
            table = tables.get(f"host/{node}", tables.get(f"router/{node}", {}))
            assert all(len(hops) > 1 for hops in table.values() if hops[0].interface.startswith("l-"))


def _twice(links: tuple[Link, ...]) -> tuple[Link, ...]:
    return tuple(replace(link, name=f"{link.name}-{number}") for link in links for number in range(2))


def _targets(destination: str, made: Plan) -> set[str]:
    """Give the namespaces that a destination is right behind, or in."""
    network = IPv4Network(destination)
    at = {f"host/{host}": _subnet(index) for host, index in made.assignments.subnets.items()}
    own = {each.name for each in made.network.namespaces if each.address and IPv4Network(each.address) == network}
    beside = {
        end.namespace
        for link in made.network.links
        for end in (link.a, link.b)
        for hop in made.network.routes.get(end.namespace, {}).get(destination, ())
        if hop.interface == end.interface and hop.via is None
    }
    return own | beside | {name for name, subnet in at.items() if subnet == destination}


def _with_costs_as_delays(desired: DesiredState) -> list[Link]:
    """Give the links with their weights for delays, where it is those that count."""
    if desired.routing.by is RoutingCost.DELAY:
        return list(desired.links)
    return [
        replace(link, forward=LinkShape(delay_us=link.weight), backward=LinkShape(delay_us=link.weight))
        for link in desired.links
    ]


def _subnet(index: int) -> str:
    return str(IPv4Network((int(IPv4Address("10.0.0.0")) + index * 4096, 20)))


def _node(name: str, made: Plan) -> str:
    return f"host/{name}" if name in made.assignments.subnets else f"router/{name}"


def _walk(source: str, target: str, desired: DesiredState, made: Plan) -> set[int]:
    """Walk from router to router, every way; give what it costs to the target, nothing where no route leads there."""
    routes = made.network.routes
    weights = {f"link/{link.name}": link.weight for link in desired.links}
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
        assert list(taken(hops)) == sorted(set(taken(hops)))
        for hop in taken(hops):
            link = ends[here, hop.interface]
            far, shape = (link.b, link.a_to_b) if link.a.namespace == here else (link.a, link.b_to_a)
            assert str(far.address).removesuffix("/31") == hop.via
            step = delay + (shape.delay_us if desired.routing.by is RoutingCost.DELAY else weights[link.name])
            assert met.setdefault(far.namespace, step) == step, "one way is shorter, or goes round"
            walkers.add((far.namespace, step))
    return delays
