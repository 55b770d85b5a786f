"""Orders and their outcomes. An order may be repeated; carrying it out twice changes nothing."""

from collections.abc import Mapping

from wisp.model.instance import Handle, InstanceSpec
from wisp.model.network import Namespace, NextHop, Tap, VirtualAddress, VirtualLink
from wisp.primitives.values import frozen


@frozen
class CreateNamespace:
    """Make a network namespace. Undone by :class:`RemoveNamespace`."""

    namespace: Namespace


@frozen
class RemoveNamespace:
    """Let a namespace go, and everything in it."""

    name: str


@frozen
class CreateLink:
    """Make and shape a link. Undone by :class:`RemoveLink`."""

    link: VirtualLink


@frozen
class ShapeLink:
    """Give a link, whose ends and carrier stay, the shape it has in ``link``."""

    link: VirtualLink


@frozen
class SwitchLink:
    """Take a link's carrier away, or give it back, as ``link`` says; with the carrier go the routes over it."""

    link: VirtualLink


@frozen
class RemoveLink:
    """Take a link away."""

    link: VirtualLink


@frozen
class CreateTap:
    """Make a tap and hold it open. Undone by :class:`RemoveTap`."""

    tap: Tap


@frozen
class RemoveTap:
    """Close a tap."""

    tap: Tap


@frozen
class SetRoutes:
    """Give destinations these next hops in one namespace; one without any is taken away. Other routes stay.

    Attributes:
        turn: Neighbouring actions of the same turn may be carried out in any order, or at once.
    """

    namespace: str
    routes: Mapping[str, tuple[NextHop, ...]]
    turn: int = 0


@frozen
class SetVirtualAddress:
    """Lead new connections to an address to these members from now on; those that there are stay where they are."""

    virtual_address: VirtualAddress


@frozen
class RemoveVirtualAddress:
    """Lead connections to an address nowhere any more."""

    virtual_address: VirtualAddress


@frozen
class StartInstance:
    """Start an instance. Undone by :class:`StopInstance`."""

    spec: InstanceSpec


@frozen
class StopInstance:
    """Stop an instance and forget it.

    Attributes:
        reason: Why, as a sentence for the events.
        at_once: Whether it gets no time to end by itself.
    """

    name: str
    handle: Handle | None
    reason: str
    at_once: bool = False


@frozen
class DrainInstance:
    """Tell an instance that nobody is led to any more to finish what it has, and to end.

    Attributes:
        tap: Where it hears of that.
    """

    name: str
    handle: Handle | None
    tap: Tap


NetworkAction = (
    CreateNamespace
    | RemoveNamespace
    | CreateLink
    | ShapeLink
    | SwitchLink
    | RemoveLink
    | CreateTap
    | RemoveTap
    | SetRoutes
    | SetVirtualAddress
    | RemoveVirtualAddress
)
Action = NetworkAction | StartInstance | StopInstance | DrainInstance
