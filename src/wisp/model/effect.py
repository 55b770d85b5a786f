"""What each network action does to a network, and what undoes it; every network driver means the same by them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from wisp.model.action import (
    CreateLink,
    CreateNamespace,
    CreateTap,
    NetworkAction,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    RemoveVirtualAddress,
    SetRoutes,
    SetVirtualAddress,
    ShapeLink,
    SwitchLink,
)
from wisp.model.network import LinkEnd, Namespace, Network, Tap, VirtualAddress, VirtualLink
from wisp.primitives.errors import PermanentDriverError


class NetworkState:
    """A network that actions are carried out on, one by one, each in time that does not grow with the network.

    Args:
        network: Where to start.
    """

    def __init__(self, network: Network) -> None:
        self.namespaces = {each.name: each for each in network.namespaces}
        self.links = {each.name: each for each in network.links}
        self.taps = {each.name: each for each in network.taps}
        self.routes = {namespace: dict(table) for namespace, table in network.routes.items()}
        self.virtual_addresses = {(each.namespace, each.address): each for each in network.virtual_addresses}
        self._destinations_over: dict[str, defaultdict[str, set[str]]] = {}
        self._used: defaultdict[str, dict[str, VirtualLink | Tap]] = defaultdict(dict)
        for link in network.links:
            self._use(link)
        for tap in network.taps:
            self._use(tap)

    def network(self) -> Network:
        """Give the network as it is now."""
        return Network(
            namespaces=frozenset(self.namespaces.values()),
            links=frozenset(self.links.values()),
            taps=frozenset(self.taps.values()),
            routes={namespace: dict(table) for namespace, table in self.routes.items() if table},
            virtual_addresses=frozenset(self.virtual_addresses.values()),
        )

    def links_at(self, namespace: str) -> list[VirtualLink]:
        """Give the links with an end in ``namespace``."""
        return [thing for thing in self._used[namespace].values() if isinstance(thing, VirtualLink)]

    def taps_at(self, namespace: str) -> list[Tap]:
        """Give the taps in ``namespace``."""
        return [thing for thing in self._used[namespace].values() if isinstance(thing, Tap)]

    def apply(self, action: NetworkAction) -> tuple[NetworkAction, ...]:
        """Carry out ``action`` and give what undoes it, in order; nothing when it held already.

        Raises:
            PermanentDriverError: It makes no sense here, as a link to a namespace that does not exist.
        """
        match action:
            case CreateNamespace():
                return self._create_namespace(action.namespace)
            case RemoveNamespace():
                return self._remove_namespace(action.name)
            case CreateLink():
                return self._create_link(action.link)
            case ShapeLink():
                return self._shape_link(action.link)
            case SwitchLink():
                return self._switch_link(action.link)
            case RemoveLink():
                return self._remove_link(action.link.name)
            case CreateTap():
                return self._create_tap(action.tap)
            case RemoveTap():
                return self._remove_tap(action.tap.name)
            case SetRoutes():
                return self._set_routes(action)
            case SetVirtualAddress():
                return self._set_virtual_address(action.virtual_address)
            case RemoveVirtualAddress():
                return self._remove_virtual_address(action.virtual_address)

    def _create_namespace(self, namespace: Namespace) -> tuple[NetworkAction, ...]:
        there = self.namespaces.get(namespace.name)
        if there == namespace:
            return ()
        if there is not None:
            raise _refused(namespace.name, "it exists with another address or forwarding; remove it first")
        self.namespaces[namespace.name] = namespace
        return (RemoveNamespace(name=namespace.name),)

    def _remove_namespace(self, name: str) -> tuple[NetworkAction, ...]:
        namespace = self.namespaces.get(name)
        if namespace is None:
            return ()
        undo: list[NetworkAction] = []
        table = self.routes.pop(name, None)
        self._destinations_over.pop(name, None)
        for link in {link.name: link for link in self.links_at(name)}:
            undo.extend(self._remove_link(link))
        for tap in self.taps_at(name):
            undo.extend(self._remove_tap(tap.name))
        for each in [each for each in self.virtual_addresses.values() if each.namespace == name]:
            undo.extend(self._remove_virtual_address(each))
        if table:
            undo.append(SetRoutes(namespace=name, routes=table))
        del self.namespaces[name]
        return (CreateNamespace(namespace=namespace), *undo)

    def _create_link(self, link: VirtualLink) -> tuple[NetworkAction, ...]:
        if link.name in self.links:
            return self._shape_link(link)
        for end in (link.a, link.b):
            self._check_free(link.name, end.namespace, end.interface)
        if (link.a.namespace, link.a.interface) == (link.b.namespace, link.b.interface):
            raise _refused(link.name, "both ends are the same interface; name them apart")
        self._use(link)
        return (RemoveLink(link=link),)

    def _shape_link(self, link: VirtualLink) -> tuple[NetworkAction, ...]:
        there = self._existing(link, "shaped")
        shaped = replace(link, is_down=there.is_down)
        if there == shaped:
            return ()
        self._use(shaped)
        return (ShapeLink(link=there),)

    def _switch_link(self, link: VirtualLink) -> tuple[NetworkAction, ...]:
        there = self._existing(link, "switched")
        if there.is_down == link.is_down:
            return ()
        self._use(replace(there, is_down=link.is_down))
        ends = (link.a, link.b) if link.is_down else ()
        lost = [route for end in ends for route in self._drop_routes(end.namespace, end.interface)]
        return (SwitchLink(link=there), *lost)

    def _existing(self, link: VirtualLink, to_be: str) -> VirtualLink:
        there = self.links.get(link.name)
        if there is None:
            raise _refused(link.name, f"it does not exist, so it cannot be {to_be}; create it first")
        if (there.a, there.b) != (link.a, link.b):
            raise _refused(link.name, "it exists between other ends; remove it first")
        return there

    def _remove_link(self, name: str) -> tuple[NetworkAction, ...]:
        link = self.links.pop(name, None)
        if link is None:
            return ()
        lost = [route for end in (link.a, link.b) for route in self._drop_interface(end.namespace, end.interface)]
        return (CreateLink(link=link), *lost)

    def _create_tap(self, tap: Tap) -> tuple[NetworkAction, ...]:
        there = self.taps.get(tap.name)
        if there == tap:
            return ()
        if there is not None:
            raise _refused(tap.name, "its tap exists elsewhere or with another address; remove it first")
        self._check_free(tap.name, tap.namespace, tap.interface)
        self.taps[tap.name] = tap
        self._use(tap)
        return (RemoveTap(tap=tap),)

    def _remove_tap(self, name: str) -> tuple[NetworkAction, ...]:
        tap = self.taps.pop(name, None)
        if tap is None:
            return ()
        return (CreateTap(tap=tap), *self._drop_interface(tap.namespace, tap.interface))

    def _set_routes(self, action: SetRoutes) -> tuple[NetworkAction, ...]:
        namespace = action.namespace
        if namespace not in self.namespaces:
            if not any(action.routes.values()):
                return ()
            what = f"route to {next(iter(action.routes))}"
            raise _refused(what, f"namespace {namespace} does not exist; create it first")
        self._check_interfaces(action)
        table = self.routes.setdefault(namespace, {})
        before = {to: there for to, hops in action.routes.items() if (there := table.get(to, ())) != hops}
        if not before:
            return ()
        for destination in before:
            if hops := action.routes[destination]:
                table[destination] = hops
            else:
                del table[destination]
        self._destinations_over.pop(namespace, None)
        return (SetRoutes(namespace=namespace, routes=before),)

    def _check_interfaces(self, action: SetRoutes) -> None:
        # The same few next hops are those of most routes: of a million, a few thousand are looked at.
        distinct = {id(hops): (destination, hops) for destination, hops in action.routes.items()}
        there = self._used[action.namespace]
        for destination, hops in distinct.values():
            for hop in hops:
                what, thing = f"route to {destination}", there.get(hop.interface)
                if thing is None:
                    why = f"{action.namespace} has no interface {hop.interface}; create its link or tap first"
                    raise _refused(what, why)
                if isinstance(thing, VirtualLink) and thing.is_down:
                    why = f"{hop.interface} of {action.namespace} has no carrier; switch its link on first"
                    raise _refused(what, why)

    def _set_virtual_address(self, wanted: VirtualAddress) -> tuple[NetworkAction, ...]:
        if wanted.namespace not in self.namespaces:
            what = f"virtual address {wanted.address}"
            raise _refused(what, f"namespace {wanted.namespace} does not exist; create it first")
        there = self.virtual_addresses.get((wanted.namespace, wanted.address))
        if there == wanted:
            return ()
        self.virtual_addresses[wanted.namespace, wanted.address] = wanted
        return (SetVirtualAddress(virtual_address=there) if there else RemoveVirtualAddress(virtual_address=wanted),)

    def _remove_virtual_address(self, doomed: VirtualAddress) -> tuple[NetworkAction, ...]:
        there = self.virtual_addresses.pop((doomed.namespace, doomed.address), None)
        return () if there is None else (SetVirtualAddress(virtual_address=there),)

    def members_at(self, namespace: str) -> dict[str, tuple[str, ...]]:
        """Give the members of each virtual address of ``namespace``."""
        return {each.address: each.members for each in self.virtual_addresses.values() if each.namespace == namespace}

    def _use(self, thing: VirtualLink | Tap) -> None:
        if isinstance(thing, VirtualLink):
            self.links[thing.name] = thing
        for end in _ends(thing):
            self._used[end.namespace][end.interface] = thing

    def _drop_interface(self, namespace: str, interface: str) -> list[NetworkAction]:
        """Forget an interface and every way over it; give what brings the ways back."""
        del self._used[namespace][interface]
        return self._drop_routes(namespace, interface)

    def _drop_routes(self, namespace: str, interface: str) -> list[NetworkAction]:
        """Take every way over an interface out of the routes; give what brings those back."""
        table = self.routes.get(namespace, {})
        lost = {to: table[to] for to in sorted(self._over(namespace)[interface]) if to in table}
        for destination, hops in lost.items():
            if left := tuple(hop for hop in hops if hop.interface != interface):
                table[destination] = left
            else:
                del table[destination]
        return [SetRoutes(namespace=namespace, routes=lost)] if lost else []

    def _over(self, namespace: str) -> defaultdict[str, set[str]]:
        """Give the destinations over each interface of a namespace, and maybe such as were; worked out when asked."""
        over = self._destinations_over.get(namespace)
        if over is None:
            over = self._destinations_over[namespace] = defaultdict(set)
            for destination, hops in self.routes.get(namespace, {}).items():
                for hop in hops:
                    over[hop.interface].add(destination)
        return over

    def _check_free(self, what: str, namespace: str, interface: str) -> None:
        if namespace not in self.namespaces:
            raise _refused(what, f"namespace {namespace} does not exist; create it first")
        if user := self._used[namespace].get(interface):
            raise _refused(
                what, f"{namespace} has an interface {interface} already, for {user.name}; remove that first"
            )


def _ends(thing: VirtualLink | Tap) -> Iterable[LinkEnd | Tap]:
    return (thing,) if isinstance(thing, Tap) else (thing.a, thing.b)


def _refused(subject: str, why: str) -> PermanentDriverError:
    return PermanentDriverError(f"{subject}: {why}", driver="network", operation="apply", subject=subject)
