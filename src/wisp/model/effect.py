"""What each network action does to a network, and what undoes it; every network driver means the same by them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from wisp.model.action import (
    AddRoute,
    CreateLink,
    CreateNamespace,
    CreateTap,
    NetworkAction,
    RemoveLink,
    RemoveNamespace,
    RemoveRoute,
    RemoveTap,
    RemoveVirtualAddress,
    SetVirtualAddress,
    ShapeLink,
    SwitchLink,
)
from wisp.model.network import LinkEnd, Namespace, Network, Route, Tap, VirtualAddress, VirtualLink
from wisp.primitives.errors import PermanentDriverError

_Place = tuple[str, str]


class NetworkState:
    """A network that actions are carried out on, one by one, each in time that does not grow with the network.

    Args:
        network: Where to start.
    """

    def __init__(self, network: Network) -> None:
        self.namespaces = {each.name: each for each in network.namespaces}
        self.links = {each.name: each for each in network.links}
        self.taps = {each.name: each for each in network.taps}
        self.routes = {(each.namespace, each.destination): each for each in network.routes}
        self.virtual_addresses = {(each.namespace, each.address): each for each in network.virtual_addresses}
        self._routes_over: defaultdict[_Place, set[_Place]] = defaultdict(set)
        self._used: defaultdict[str, dict[str, VirtualLink | Tap]] = defaultdict(dict)
        for link in network.links:
            self._use(link)
        for tap in network.taps:
            self._use(tap)
        for key, route in self.routes.items():
            self._routes_over[route.namespace, route.interface].add(key)

    def network(self) -> Network:
        """Give the network as it is now."""
        return Network(
            namespaces=frozenset(self.namespaces.values()),
            links=frozenset(self.links.values()),
            taps=frozenset(self.taps.values()),
            routes=frozenset(self.routes.values()),
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
            case AddRoute():
                return self._add_route(action.route)
            case RemoveRoute():
                return self._remove_route(action.route)
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
        for link in {link.name: link for link in self.links_at(name)}:
            undo.extend(self._remove_link(link))
        for tap in self.taps_at(name):
            undo.extend(self._remove_tap(tap.name))
        for route in [route for route in self.routes.values() if route.namespace == name]:
            undo.extend(self._remove_route(route))
        for each in [each for each in self.virtual_addresses.values() if each.namespace == name]:
            undo.extend(self._remove_virtual_address(each))
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

    def _add_route(self, route: Route) -> tuple[NetworkAction, ...]:
        what = f"route to {route.destination}"
        if route.namespace not in self.namespaces:
            raise _refused(what, f"namespace {route.namespace} does not exist; create it first")
        if route.interface not in self._used[route.namespace]:
            raise _refused(what, f"{route.namespace} has no interface {route.interface}; create its link or tap first")
        if self._is_down(route):
            raise _refused(what, f"{route.interface} of {route.namespace} has no carrier; switch its link on first")
        if route.source and route.source not in self._addresses(route.namespace):
            raise _refused(what, f"its source {route.source} is no address of {route.namespace}; give it that first")
        there = self.routes.get((route.namespace, route.destination))
        if there == route:
            return ()
        self._put_route(route)
        return (RemoveRoute(route=route),) if there is None else (AddRoute(route=there),)

    def _remove_route(self, route: Route) -> tuple[NetworkAction, ...]:
        there = self.routes.pop((route.namespace, route.destination), None)
        if there is None:
            return ()
        self._routes_over[there.namespace, there.interface].discard((there.namespace, there.destination))
        return (AddRoute(route=there),)

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

    def _put_route(self, route: Route) -> None:
        self._remove_route(route)
        self.routes[route.namespace, route.destination] = route
        self._routes_over[route.namespace, route.interface].add((route.namespace, route.destination))

    def _is_down(self, route: Route) -> bool:
        thing = self._used[route.namespace][route.interface]
        return isinstance(thing, VirtualLink) and thing.is_down

    def _use(self, thing: VirtualLink | Tap) -> None:
        if isinstance(thing, VirtualLink):
            self.links[thing.name] = thing
        for end in _ends(thing):
            self._used[end.namespace][end.interface] = thing

    def _drop_interface(self, namespace: str, interface: str) -> list[NetworkAction]:
        """Forget an interface and the routes over it; give the actions that bring those back."""
        del self._used[namespace][interface]
        return self._drop_routes(namespace, interface)

    def _drop_routes(self, namespace: str, interface: str) -> list[NetworkAction]:
        """Forget the routes over an interface; give the actions that bring them back."""
        lost = [self.routes[key] for key in sorted(self._routes_over[namespace, interface])]
        return [undo for route in lost for undo in self._remove_route(route)]

    def _check_free(self, what: str, namespace: str, interface: str) -> None:
        if namespace not in self.namespaces:
            raise _refused(what, f"namespace {namespace} does not exist; create it first")
        if user := self._used[namespace].get(interface):
            raise _refused(
                what, f"{namespace} has an interface {interface} already, for {user.name}; remove that first"
            )

    def _addresses(self, namespace: str) -> set[str]:
        own = {self.namespaces[namespace].address or ""}
        for thing in self._used[namespace].values():
            if isinstance(thing, Tap):
                own.add(thing.gateway)
            else:
                own.update(end.address or "" for end in (thing.a, thing.b) if end.namespace == namespace)
        return {address.partition("/")[0] for address in own}


def _ends(thing: VirtualLink | Tap) -> Iterable[LinkEnd | Tap]:
    return (thing,) if isinstance(thing, Tap) else (thing.a, thing.b)


def _refused(subject: str, why: str) -> PermanentDriverError:
    return PermanentDriverError(f"{subject}: {why}", driver="network", operation="apply", subject=subject)
