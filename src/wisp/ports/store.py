"""The port that keeps what must outlive the controller."""

from collections.abc import Sequence
from typing import Protocol

from wisp.model.description import DesiredState
from wisp.model.fault import Fault, FaultKind
from wisp.model.instance import ObservedInstance
from wisp.model.observation import Event
from wisp.model.operation import Cause, Operation
from wisp.model.plan import Assignments, Plan


class StateStore(Protocol):
    """Desired state with revisions, what was given out, what was seen, and events.

    A write that returned is on disk.
    """

    def put_desired(
        self, desired: DesiredState, *, source: str, cause: Cause = ..., expected_revision: int | None = None
    ) -> int:
        """Store a new desired state with the text it came from, and why; give its revision.

        Raises:
            StaleWrite: The revision is no longer ``expected_revision``.
        """
        ...

    def desired(self) -> tuple[int, DesiredState] | None:
        """Give the newest revision and state, or ``None`` before the first and after :meth:`put_absent`."""
        ...

    def cause(self) -> Cause:
        """Say why the newest desired state was stored."""
        ...

    def put_absent(self) -> int:
        """Record that the cloud shall not exist any more."""
        ...

    def put_plan(self, revision: int, plan: Plan) -> None:
        """Store the plan made for a revision, with its assignments."""
        ...

    def plan(self) -> tuple[int, Plan] | None:
        """Give the newest plan and the revision it was made for."""
        ...

    def assignments(self) -> Assignments:
        """Give what was given out last."""
        ...

    def put_fault(self, fault: Fault) -> None:
        """Store a fault, in place of another of the same thing."""
        ...

    def remove_fault(self, kind: FaultKind, name: str) -> None:
        """Forget a fault; one that is not there is fine."""
        ...

    def remove_faults(self) -> None:
        """Forget every fault."""
        ...

    def faults(self) -> tuple[Fault, ...]:
        """Give all faults, by kind and name."""
        ...

    def put_instances(self, instances: Sequence[ObservedInstance], *, gone: Sequence[str] = ()) -> None:
        """Store what was seen of some instances, and forget others."""
        ...

    def instances(self) -> dict[str, ObservedInstance]:
        """Give what was last seen, by name."""
        ...

    def put_operations(self, operations: Sequence[Operation]) -> None:
        """Store life cycle operations, new ones and such as came on; the oldest are dropped beyond a bound."""
        ...

    def operations(self, *, limit: int = 1000) -> list[Operation]:
        """Give the newest ``limit`` life cycle operations, oldest first."""
        ...

    def add_events(self, events: Sequence[Event]) -> None:
        """Append events; the oldest are dropped beyond a bound."""
        ...

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """Give the newest ``limit`` events numbered above ``after``, oldest first, with their numbers."""
        ...
