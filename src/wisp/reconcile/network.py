"""The difference between two networks, as actions in an order that works."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

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
from wisp.model.network import Namespace, Network, Route, Tap, VirtualAddress, VirtualLink
from wisp.primitives.values import frozen

Named = TypeVar("Named", Namespace, VirtualLink, Tap)


@frozen
class NetworkChange:
    """What to take away, then what to make."""

    removals: tuple[NetworkAction, ...] = ()
    creations: tuple[NetworkAction, ...] = ()


def difference(wanted: Network, seen: Network) -> NetworkChange:
    """Give the actions that bring ``seen`` to ``wanted``; none when they agree. O(size of both)."""
    if wanted == seen:
        return NetworkChange()
    gone = {each.name for each in seen.namespaces - wanted.namespaces}
    unlinked = _outdated_links(wanted, seen, gone)
    untapped = {tap for tap in seen.taps if tap not in wanted.taps or tap.namespace in gone}
    lost = _interfaces({*unlinked, *_losing_carrier(wanted, seen)}, untapped)
    kept_routes = {route for route in seen.routes if _place(route) not in lost and route.namespace not in gone}
    kept_links = seen.links - unlinked
    kept_addresses = {each for each in seen.virtual_addresses if each.namespace not in gone}
    return NetworkChange(
        removals=(
            *(RemoveVirtualAddress(virtual_address=each) for each in _outdated_addresses(wanted, kept_addresses)),
            *(RemoveRoute(route=route) for route in _sorted(_outdated_routes(wanted, kept_routes))),
            *(RemoveTap(tap=tap) for tap in _by_name(untapped)),
            *(RemoveLink(link=link) for link in _by_name(unlinked)),
            *(RemoveNamespace(name=name) for name in sorted(gone)),
        ),
        creations=(
            *(CreateNamespace(namespace=each) for each in _by_name(wanted.namespaces - seen.namespaces)),
            *(CreateTap(tap=tap) for tap in _by_name(wanted.taps - (seen.taps - untapped))),
            *_link_creations(wanted.links - kept_links, {link.name: link for link in kept_links}),
            *(AddRoute(route=route) for route in _sorted(wanted.routes - kept_routes)),
            *_address_changes(wanted.virtual_addresses - kept_addresses),
        ),
    )


def _outdated_links(wanted: Network, seen: Network, gone: set[str]) -> set[VirtualLink]:
    """Give the links to take away: not wanted between these ends, or an end's namespace goes."""
    ends = {(link.name, link.a, link.b) for link in wanted.links}
    return {
        link
        for link in seen.links
        if (link.name, link.a, link.b) not in ends or gone & {link.a.namespace, link.b.namespace}
    }


def _losing_carrier(wanted: Network, seen: Network) -> set[VirtualLink]:
    """Give the links to switch off; the kernel drops the routes over those too."""
    off = {link.name for link in wanted.links if link.is_down}
    return {link for link in seen.links if link.name in off and not link.is_down} if off else set()


def _interfaces(links: Iterable[VirtualLink], taps: Iterable[Tap]) -> set[tuple[str, str]]:
    """Give (namespace, interface) of each; the kernel drops the routes over them."""
    ends = {(end.namespace, end.interface) for link in links for end in (link.a, link.b)}
    return ends | {(tap.namespace, tap.interface) for tap in taps}


def _outdated_routes(wanted: Network, kept: set[Route]) -> set[Route]:
    """Give the routes to take away; one to the same destination replaces by itself."""
    wanted_keys = {(route.namespace, route.destination) for route in wanted.routes}
    return {route for route in kept if (route.namespace, route.destination) not in wanted_keys}


def _outdated_addresses(wanted: Network, kept: set[VirtualAddress]) -> list[VirtualAddress]:
    """Give the virtual addresses to take away; one that only leads elsewhere is changed."""
    wanted_keys = {(each.namespace, each.address) for each in wanted.virtual_addresses}
    outdated = (each for each in kept if (each.namespace, each.address) not in wanted_keys)
    return sorted(outdated, key=lambda each: (each.namespace, each.address))


def _address_changes(addresses: Iterable[VirtualAddress]) -> Iterable[NetworkAction]:
    for each in sorted(addresses, key=lambda each: (each.namespace, each.address)):
        yield SetVirtualAddress(virtual_address=each)


def _link_creations(links: Iterable[VirtualLink], kept: Mapping[str, VirtualLink]) -> Iterable[NetworkAction]:
    made = _by_name(links)
    changed = [(link, kept[link.name]) for link in made if link.name in kept]
    yield from (CreateLink(link=link) for link in made if link.name not in kept)
    yield from (ShapeLink(link=link) for link, there in changed if replace(link, is_down=there.is_down) != there)
    yield from (SwitchLink(link=link) for link, there in changed if link.is_down != there.is_down)


def _place(route: Route) -> tuple[str, str]:
    return route.namespace, route.interface


def _by_name(things: Iterable[Named]) -> list[Named]:
    return sorted(things, key=lambda thing: thing.name)


def _sorted(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: (route.namespace, route.destination, route.interface))
