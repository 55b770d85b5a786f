"""Orders and their outcomes. An order may be repeated; carrying it out twice changes nothing."""

from dataclasses import dataclass

from wisp.model.instance import Handle, InstanceSpec
from wisp.model.network import Namespace, Route, Tap, VirtualLink


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNamespace:
    """Make a network namespace. Undone by :class:`RemoveNamespace`."""

    namespace: Namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNamespace:
    """Let a namespace go, and everything in it."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateLink:
    """Make and shape a link. Undone by :class:`RemoveLink`."""

    link: VirtualLink


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeLink:
    """Give a link, whose ends stay, the shape it has in ``link``."""

    link: VirtualLink


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLink:
    """Take a link away."""

    link: VirtualLink


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTap:
    """Make a tap and hold it open. Undone by :class:`RemoveTap`."""

    tap: Tap


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTap:
    """Close a tap."""

    tap: Tap


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRoute:
    """Add or replace a route. Undone by :class:`RemoveRoute`."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRoute:
    """Take a route away."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class StartInstance:
    """Start an instance. Undone by :class:`StopInstance`."""

    spec: InstanceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StopInstance:
    """Stop an instance and forget it.

    Attributes:
        reason: Why, as a sentence for the events.
    """

    name: str
    handle: Handle | None
    reason: str


NetworkAction = (
    CreateNamespace
    | RemoveNamespace
    | CreateLink
    | ShapeLink
    | RemoveLink
    | CreateTap
    | RemoveTap
    | AddRoute
    | RemoveRoute
)
Action = NetworkAction | StartInstance | StopInstance
