"""The difference between two networks, as actions in an order that works."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from wisp.model.action import (
    CreateLink,
    CreateNamespace,
    CreateTap,
    NetworkAction,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    RemoveVirtualAddress,
    SetVirtualAddress,
    ShapeLink,
    SwitchLink,
)
from wisp.model.network import Namespace, Network, Tap, VirtualAddress, VirtualLink
from wisp.reconcile.routes import peers_of, route_changes, without

Named = TypeVar("Named", Namespace, VirtualLink, Tap)


def difference(wanted: Network, seen: Network) -> tuple[NetworkAction, ...]:
    """Give the actions that bring ``seen`` to ``wanted``; none when they agree. O(size of both).

    What stands in the way of something new is taken away first. All else that goes does so at the end, when no route
    leads there any more.
    """
    if wanted == seen:
        return ()
    gone = {each.name for each in seen.namespaces - wanted.namespaces}
    unlinked = _outdated_links(wanted, seen, gone)
    untapped = {tap for tap in seen.taps if tap not in wanted.taps or tap.namespace in gone}
    remade = gone & {each.name for each in wanted.namespaces}
    first = _in_the_way(unlinked, wanted, seen, remade)
    kept_links = seen.links - unlinked
    kept_addresses = {each for each in seen.virtual_addresses if each.namespace not in gone}
    tables = without(seen.routes, _interfaces({*first, *_losing_carrier(wanted, seen)}, untapped))
    tables = {namespace: table for namespace, table in tables.items() if namespace not in gone}
    return (
        *(RemoveVirtualAddress(virtual_address=each) for each in _outdated_addresses(wanted, kept_addresses)),
        *(RemoveTap(tap=tap) for tap in _by_name(untapped)),
        *(RemoveLink(link=link) for link in _by_name(first)),
        *(RemoveNamespace(name=name) for name in sorted(remade)),
        *(CreateNamespace(namespace=each) for each in _by_name(wanted.namespaces - seen.namespaces)),
        *(CreateTap(tap=tap) for tap in _by_name(wanted.taps - (seen.taps - untapped))),
        *_link_creations(wanted.links - kept_links, {link.name: link for link in kept_links}),
        *route_changes(wanted.routes, tables, seen.routes, peers_of(wanted.links)),
        *_address_changes(wanted.virtual_addresses - kept_addresses),
        *(RemoveLink(link=link) for link in _by_name(unlinked - first)),
        *(RemoveNamespace(name=name) for name in sorted(gone - remade)),
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


def _in_the_way(unlinked: set[VirtualLink], wanted: Network, seen: Network, remade: set[str]) -> set[VirtualLink]:
    """Give the links whose name, interface, address or namespace something new is to have."""
    names = {link.name for link in wanted.links}
    new = wanted.links - seen.links
    taken = _interfaces(new, wanted.taps - seen.taps) | _addresses(new)
    return {
        link
        for link in unlinked
        if link.name in names
        or remade & {link.a.namespace, link.b.namespace}
        or taken & (_interfaces((link,), ()) | _addresses((link,)))
    }


def _addresses(links: Iterable[VirtualLink]) -> set[tuple[str, str]]:
    """Give (namespace, address) of each address of a link, of its own end and of the other: both must be free there."""
    return {
        (end.namespace, each.address)
        for link in links
        for end in (link.a, link.b)
        for each in (link.a, link.b)
        if each.address
    }


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


def _by_name(things: Iterable[Named]) -> list[Named]:
    return sorted(things, key=lambda thing: thing.name)
