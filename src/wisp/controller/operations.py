"""The book of life cycle operations: begun by a wish or by a failure, followed step by step, closed when all is well.

Pure, as the core that keeps it: every time is handed in.
"""

from collections.abc import Sequence
from dataclasses import replace

from wisp.model.operation import Operation, OperationKind, OperationState, Phase
from wisp.model.plan import Plan
from wisp.primitives.time import Instant


class Operations:
    """Operations that are not final, and the newest number.

    Args:
        known: Those that an earlier controller began and did not close, and the newest one.
    """

    def __init__(self, known: Sequence[Operation]) -> None:
        self._number = max((each.number for each in known), default=0)
        self._newest_revision = max((each.revision for each in known), default=0)
        self._wish = next((each for each in known if not _is_heal(each) and not each.state.is_final), None)
        self._heals = {each.subject: each for each in known if _is_heal(each) and not each.state.is_final}
        self._changed: dict[int, Operation] = {}
        self._why = ""  # of the wish, where nobody wished it

    def take_changed(self) -> tuple[Operation, ...]:
        """Give those that changed since this was last asked, in their order."""
        changed = tuple(self._changed[number] for number in sorted(self._changed))
        self._changed.clear()
        return changed

    def wish(self, kind: OperationKind, revision: int, now: Instant) -> None:
        """Begin what a new desired state asks for; it takes the place of the one before."""
        if revision <= self._newest_revision:
            return  # an earlier controller began it
        self._give_up(kind, revision, now)
        self._newest_revision, self._why = revision, ""
        self._wish = self._begun(kind, f"revision {revision}", revision, "", now)

    def scale(self, subject: str, why: str, now: Instant) -> None:
        """Begin what the load asks for; nothing else is under way."""
        self._why = why
        self._wish = self._begun(OperationKind.SCALE, subject, self._newest_revision, why, now)

    def refuse(self, kind: OperationKind, revision: int, reason: str, now: Instant) -> None:
        """Note a desired state that nothing comes of; what went on goes on."""
        if revision > self._newest_revision:
            self._newest_revision = revision
            refused = self._begun(kind, f"revision {revision}", revision, reason, now)
            self._kept(replace(refused, state=OperationState.FAILED, ended_at=now))

    def retry(self, revision: int) -> None:
        """Take the operation up again; without one that has failed there is nothing to do."""
        self._newest_revision = max(self._newest_revision, revision)
        if self._wish is not None:
            self._wish = self._kept(replace(self._wish, state=OperationState.PROCESSING, revision=revision, reason=""))

    def heal(self, instance: str, reason: str, now: Instant) -> None:
        """Begin to mend an instance, unless a wish or an earlier beginning is still at it."""
        if self._wish is None and instance not in self._heals:
            begun = self._begun(OperationKind.HEAL, instance, self._newest_revision, reason, now)
            self._heals[instance] = self._kept(replace(begun, phases=(Phase(name="instances", started_at=now),)))

    def healed(self, instance: str, now: Instant) -> None:
        """Note that an instance answers."""
        if operation := self._heals.pop(instance, None):
            self._kept(_closed(operation, OperationState.COMPLETED, now))

    def gone(self, instance: str, now: Instant) -> None:
        """Note that an instance is not wanted any more."""
        if operation := self._heals.pop(instance, None):
            self._kept(replace(_closed(operation, OperationState.FAILED, now), reason="it is not wanted any more"))

    @property
    def is_following(self) -> bool:
        """Whether a wish is not yet fulfilled."""
        return self._wish is not None

    def follow(self, *, network: bool, settled: bool, stuck: str, now: Instant) -> None:
        """Note how far the wish has come.

        Args:
            network: Whether the network is not yet as planned.
            settled: Whether all is as planned and answers.
            stuck: What fails again and again; empty for nothing.
            now: The time.
        """
        if self._wish is None:
            return
        if settled:
            self._kept(replace(_closed(self._wish, OperationState.COMPLETED, now), reason=self._why))
            self._wish = None
            return
        state = OperationState.FAILED_TEMP if stuck else OperationState.PROCESSING
        phases = _with_phase(_with_phase(self._wish.phases, "network", network, now), "instances", True, now)
        followed = replace(self._wish, state=state, reason=stuck or self._why, phases=phases)
        if followed != self._wish:
            self._wish = self._kept(followed)

    def _give_up(self, kind: OperationKind, revision: int, now: Instant) -> None:
        if self._wish is not None:
            is_back = kind is OperationKind.ROLLBACK
            closed = _closed(self._wish, OperationState.ROLLED_BACK if is_back else OperationState.FAILED, now)
            self._kept(replace(closed, reason=f"revision {revision} took its place"))

    def _begun(self, kind: OperationKind, subject: str, revision: int, reason: str, now: Instant) -> Operation:
        self._number += 1
        return self._kept(
            Operation(
                number=self._number,
                kind=kind,
                state=OperationState.PROCESSING,
                subject=subject,
                revision=revision,
                reason=reason,
                started_at=now,
            )
        )

    def _kept(self, operation: Operation) -> Operation:
        self._changed[operation.number] = operation
        return operation


def kind_of(before: Plan | None, after: Plan) -> OperationKind | None:
    """Say what it is to go from one plan to another; ``None`` when nothing changes."""
    if before is None or not before.instances:
        return OperationKind.INSTANTIATE
    if before.instances == after.instances and before.network == after.network:
        return None
    old, new = ({spec.name: spec.digest for spec in plan.instances} for plan in (before, after))
    kept_as_it_was = all(new.get(name, digest) == digest for name, digest in old.items())
    before_groups, after_groups = ({spec.group for spec in plan.instances} for plan in (before, after))
    is_same_version = _versions(before) == _versions(after)
    is_scaling = kept_as_it_was and old.keys() != new.keys() and before_groups == after_groups and is_same_version
    return OperationKind.SCALE if is_scaling else OperationKind.UPDATE


def _versions(plan: Plan) -> set[str]:
    """Give the versions of what has several instances."""
    versions = plan.assignments.versions
    return {versions[spec.name] for spec in plan.instances if spec.name in versions}


def _is_heal(operation: Operation) -> bool:
    return operation.kind is OperationKind.HEAL


def _closed(operation: Operation, state: OperationState, now: Instant) -> Operation:
    phases = tuple(each if each.ended_at else replace(each, ended_at=now) for each in operation.phases)
    reason = "" if state is OperationState.COMPLETED and not _is_heal(operation) else operation.reason
    return replace(operation, state=state, ended_at=now, phases=phases, reason=reason)


def _with_phase(phases: tuple[Phase, ...], name: str, is_on: bool, now: Instant) -> tuple[Phase, ...]:
    """Give the phases with this one begun, going on or ended; one that comes back goes on from where it began."""
    known = next((each for each in phases if each.name == name), None)
    if known is None:
        return (*phases, Phase(name=name, started_at=now)) if is_on else phases
    ended_at = None if is_on else known.ended_at or now
    return tuple(replace(each, ended_at=ended_at) if each is known else each for each in phases)
