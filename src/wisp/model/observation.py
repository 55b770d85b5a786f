"""What was seen of the world, and the events people read about it."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from wisp.model.instance import ObservedInstance
from wisp.model.network import Network
from wisp.model.plan import Assignments
from wisp.primitives.time import Instant
from wisp.primitives.values import frozen


@frozen
class ObservedState:
    """The world as last seen.

    Attributes:
        network: Namespaces, links, taps and routes that exist.
        instances: By name.
        assignments: What was given out before.
        hosts_down: Hosts that must not be used.
        links_down: Declared links without carrier, which no route may lead over.
    """

    network: Network = Network()
    instances: Mapping[str, ObservedInstance] = field(default_factory=dict)
    assignments: Assignments = Assignments()
    hosts_down: frozenset[str] = frozenset()
    links_down: frozenset[str] = frozenset()


class Severity(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@frozen
class Event:
    """Something that happened, for people and programs to read.

    Attributes:
        what: Short stable word, as ``instance-ready``.
        subject: What it happened to.
        message: A sentence.
    """

    at: Instant
    severity: Severity
    what: str
    subject: str
    message: str
