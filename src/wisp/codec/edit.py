"""Changes of a network that is wanted, one by one: what `wisp router` and `wisp link` do to a description."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from wisp.codec.description import parse
from wisp.codec.written import document, dumped
from wisp.model.description import DesiredState
from wisp.primitives.errors import DescriptionError, StateError

Edit = Callable[[dict[str, Any]], None]
DIRECTIONS = ("forward", "backward")
NONE = "none"
# What a link has but once, for both directions.
_OF_WHOLE = ("between", "weight")
_PLACE = "what is wanted"


def edited(desired: DesiredState, edit: Edit) -> tuple[DesiredState, str]:
    """Give a desired state with another network, and its description.

    Args:
        desired: What is wanted so far.
        edit: Changes the description, as keys and values.

    Raises:
        StateError: There is no such router or link, or there is one already.
        DescriptionError: What comes of it is not allowed; nothing else of it can be wrong.
    """
    body = document(desired)
    edit(body)
    text = dumped(body)
    found = parse(text, file=_PLACE, base=PurePath("/"))
    if not isinstance(found, DesiredState):
        raise DescriptionError([replace(problem, line=None) for problem in found])
    # All else keeps what only running it has added, as the digests of images.
    return replace(desired, routers=found.routers, links=found.links), text


def add_routers(names: Iterable[str], *, latitude: str | None = None, longitude: str | None = None) -> Edit:
    """Have more routers, all at one place."""

    def edit(body: dict[str, Any]) -> None:
        routers = body.setdefault("routers", {})
        for name in names:
            _need_new("router", name, [*routers, *body.get("hosts", {})])
            routers[name] = _without_none({"latitude": latitude, "longitude": longitude})

    return edit


def remove_routers(names: Iterable[str]) -> Edit:
    """Have routers no more, nor their links."""

    def edit(body: dict[str, Any]) -> None:
        for name in names:
            routers = body.get("routers", {})
            _need("router", name, routers)
            del routers[name]
            body["links"] = {each: link for each, link in body.get("links", {}).items() if name not in link["between"]}

    return edit


def add_link(name: str | None, first: str, second: str, shape: Mapping[str, str]) -> Edit:
    """Join two hosts or routers; a link without a name is named after both."""

    def edit(body: dict[str, Any]) -> None:
        links = body.setdefault("links", {})
        if name is not None:
            _need_new("link", name, links)
        links[name or _free_name(f"{first}-{second}", links)] = {"between": [first, second], **_said(shape)}

    return edit


def set_link(name: str, shape: Mapping[str, str], *, directions: Iterable[str] = DIRECTIONS) -> Edit:
    """Give a link another shape, in one direction or both; what is not said stays, and ``none`` takes it away."""
    directions = tuple(directions)

    def edit(body: dict[str, Any]) -> None:
        links = body.get("links", {})
        _need("link", name, links)
        before = links[name]
        whole = {key: value for key, value in _said(before | shape).items() if key in _OF_WHOLE}
        both = {key: value for key, value in before.items() if key not in (*_OF_WHOLE, *DIRECTIONS)}
        shapes = {direction: both | before.get(direction, {}) for direction in DIRECTIONS}
        for direction in directions:
            kept = {key: value for key, value in shapes[direction].items() if key not in shape}
            shapes[direction] = kept | {key: value for key, value in _said(shape).items() if key not in _OF_WHOLE}
        links[name] = whole | shapes

    return edit


def remove_links(names: Iterable[str]) -> Edit:
    """Have links no more."""

    def edit(body: dict[str, Any]) -> None:
        for name in names:
            _need("link", name, body.get("links", {}))
            del body["links"][name]

    return edit


def _said(shape: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in shape.items() if value != NONE}


def _without_none(values: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    taken, name, number = set(taken), wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _need(what: str, name: str, there: Iterable[str]) -> None:
    names = sorted(there)
    if name not in names:
        raise StateError(f"there is no {what} {name!r}; there are: {', '.join(names) or 'none'}")


def _need_new(what: str, name: str, there: Iterable[str]) -> None:
    if name in there:
        raise StateError(f"{what} {name!r} cannot be added: there is one of that name; choose another")
