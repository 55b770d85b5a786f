"""Life cycle operations: what was asked of a cloud or mended in it, how far it came and how long each part took.

Kinds and states are those of ETSI GS NFV-SOL 003, clause 5 (VNF lifecycle management operation occurrences).
"""

from enum import StrEnum

from wisp.primitives.time import Instant
from wisp.primitives.values import frozen


class Cause(StrEnum):
    """Why a desired state was stored."""

    WISH = "wish"
    EDIT = "edit"
    ROLLBACK = "rollback"
    RETRY = "retry"


class OperationKind(StrEnum):
    """What is done."""

    INSTANTIATE = "instantiate"
    SCALE = "scale"
    UPDATE = "update"
    ROLLBACK = "rollback"
    HEAL = "heal"


class OperationState(StrEnum):
    """How far it has come; SOL 003 writes them in capitals."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED_TEMP = "failed_temp"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self in (OperationState.COMPLETED, OperationState.FAILED, OperationState.ROLLED_BACK)


@frozen
class Phase:
    """A part of an operation.

    Attributes:
        name: ``network`` while namespaces, links, taps and routes change; ``instances`` while some do not answer.
        ended_at: ``None`` while it goes on.
    """

    name: str
    started_at: Instant
    ended_at: Instant | None = None


@frozen
class Operation:
    """One operation.

    Attributes:
        number: In the order of their beginning, from 1.
        subject: The cloud's revision, as ``revision 3``, or the instance that is healed.
        revision: The desired state it works on.
        reason: Why it was begun, or has failed; a sentence.
        ended_at: ``None`` while it is not in a final state.
    """

    number: int
    kind: OperationKind
    state: OperationState
    subject: str
    revision: int
    reason: str
    started_at: Instant
    ended_at: Instant | None = None
    phases: tuple[Phase, ...] = ()
