"""A small pure interpreter of actions: what the kernel, the drivers and the controller would make of them."""

from dataclasses import replace

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
from wisp.model.instance import Handle, InstanceSpec, InstanceState, ObservedInstance
from wisp.model.network import Namespace, Network, NextHops, Tap, VirtualAddress, VirtualLink
from wisp.model.observation import ObservedState
from wisp.primitives.time import Duration, Instant


class World:
    """A world that refuses what a kernel would refuse, by assertion."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {}
        self.links: dict[str, VirtualLink] = {}
        self.taps: dict[str, Tap] = {}
        self.routes: dict[str, dict[str, NextHops]] = {}
        self.virtual_addresses: dict[tuple[str, str], VirtualAddress] = {}
        self.instances: dict[str, ObservedInstance] = {}
        self.now = Instant(10**18)

    def observed(self) -> ObservedState:
        """Give what an observer would see."""
        network = Network(
            namespaces=frozenset(self.namespaces.values()),
            links=frozenset(self.links.values()),
            taps=frozenset(self.taps.values()),
            routes={name: dict(table) for name, table in self.routes.items() if table},
            virtual_addresses=frozenset(self.virtual_addresses.values()),
        )
        return ObservedState(network=network, instances=dict(self.instances))

    def apply(self, actions: tuple[Action, ...]) -> None:
        """Carry out actions in order."""
        for action in actions:
            self._apply(action)

    def answer(self) -> None:
        """Let every instance that is starting answer."""
        for name, seen in self.instances.items():
            if seen.state is InstanceState.STARTING:
                self.instances[name] = replace(seen, state=InstanceState.READY, changed_at=self.now)

    def advance(self, duration: Duration) -> None:
        """Let time pass."""
        self.now = self.now + duration

    def interfaces(self) -> set[tuple[str, str]]:
        """Give (namespace, interface) of all that exist."""
        ends = {(end.namespace, end.interface) for link in self.links.values() for end in (link.a, link.b)}
        return ends | {(tap.namespace, tap.interface) for tap in self.taps.values()}

    def carriers(self) -> set[tuple[str, str]]:
        """Give those of the interfaces that a route can lead over."""
        off = [end for link in self.links.values() if link.is_down for end in (link.a, link.b)]
        return self.interfaces() - {(end.namespace, end.interface) for end in off}

    def _apply(self, action: Action) -> None:
        match action:
            case CreateNamespace(namespace=namespace):
                assert self.namespaces.setdefault(namespace.name, namespace) == namespace
            case RemoveNamespace(name=name):
                self.remove_namespace(name)
            case CreateLink(link=link):
                self._create_link(link)
            case ShapeLink(link=link):
                there = self.links[link.name]
                assert (link.a, link.b) == (there.a, there.b)
                self.links[link.name] = replace(link, is_down=there.is_down)
            case SwitchLink(link=link):
                self.links[link.name] = replace(self.links[link.name], is_down=link.is_down)
                self._drop_routes()
            case RemoveLink(link=link):
                self.remove_link(link.name)
            case CreateTap(tap=tap):
                assert tap.namespace in self.namespaces
                assert tap.name not in self.taps
                assert (tap.namespace, tap.interface) not in self.interfaces()
                self.taps[tap.name] = tap
            case RemoveTap(tap=tap):
                self.remove_tap(tap.name)
            case SetRoutes(namespace=name, routes=routes):
                assert name in self.namespaces
                assert all((name, hop.interface) in self.carriers() for hops in routes.values() for hop in hops)
                table = self.routes.get(name, {}) | routes
                self.routes[name] = {destination: hops for destination, hops in table.items() if hops}
            case SetVirtualAddress(virtual_address=each):
                assert each.namespace in self.namespaces
                self.virtual_addresses[each.namespace, each.address] = each
            case RemoveVirtualAddress(virtual_address=each):
                self.virtual_addresses.pop((each.namespace, each.address), None)
            case DrainInstance(name=name):
                assert self.instances[name].state in (InstanceState.READY, InstanceState.STARTING)
                self.instances[name] = replace(
                    self.instances[name], state=InstanceState.EXITED, handle=None, changed_at=self.now
                )
            case StartInstance(spec=spec):
                self._start(spec)
            case StopInstance(name=name):
                self._stop(name)

    def _create_link(self, link: VirtualLink) -> None:
        assert link.name not in self.links
        for end in (link.a, link.b):
            assert end.namespace in self.namespaces
            assert (end.namespace, end.interface) not in self.interfaces()
        self.links[link.name] = link

    def remove_namespace(self, name: str) -> None:
        """Take a namespace away, with all that is in it."""
        self.namespaces.pop(name, None)
        for link in list(self.links.values()):
            if name in (link.a.namespace, link.b.namespace):
                self.remove_link(link.name)
        for tap in list(self.taps.values()):
            if tap.namespace == name:
                self.remove_tap(tap.name)
        left = {key: each for key, each in self.virtual_addresses.items() if each.namespace != name}
        self.virtual_addresses = left

    def remove_link(self, name: str) -> None:
        """Take a link away, with the routes over it."""
        self.links.pop(name, None)
        self._drop_routes()

    def remove_tap(self, name: str) -> None:
        """Take a tap away, with the routes over it."""
        self.taps.pop(name, None)
        self._drop_routes()

    def _drop_routes(self) -> None:
        there = self.carriers()
        for name, table in self.routes.items():
            kept = {to: tuple(hop for hop in hops if (name, hop.interface) in there) for to, hops in table.items()}
            self.routes[name] = {to: hops for to, hops in kept.items() if hops}

    def _start(self, spec: InstanceSpec) -> None:
        seen = self.instances.get(spec.name)
        assert seen is None or seen.state is InstanceState.EXITED, f"{spec.name} runs already"
        assert spec.namespace in self.namespaces
        assert not spec.kind.owns_tap or spec.name in self.taps
        state = InstanceState.ASLEEP if spec.is_summoned else InstanceState.STARTING
        self.instances[spec.name] = observed_instance(spec, state, now=self.now, failures=seen.failures if seen else 0)

    def _stop(self, name: str) -> None:
        """End an instance; one that failed is remembered with its failures, as the controller does."""
        seen = self.instances.pop(name)
        if seen.state in (InstanceState.STARTING, InstanceState.UNHEALTHY):
            failures = seen.failures + (seen.state is InstanceState.STARTING)
            self.instances[name] = replace(
                seen, state=InstanceState.EXITED, handle=None, changed_at=self.now, failures=failures
            )


def observed_instance(spec: InstanceSpec, state: InstanceState, *, now: Instant, failures: int = 0) -> ObservedInstance:
    """Give what is seen of an instance in some state since ``now``."""
    handle = Handle(
        driver=spec.kind,
        instance=spec.name,
        spec_digest=spec.digest,
        child=f"{spec.name}-1",
        pid=1,
        start_ticks=1,
        spawned_at=now,
    )
    return ObservedInstance(
        name=spec.name,
        spec_digest=spec.digest,
        state=state,
        handle=None if state is InstanceState.EXITED else handle,
        changed_at=now,
        started_at=now,
        failures=failures,
    )
