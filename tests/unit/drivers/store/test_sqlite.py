"""The SQLite store keeps what it returned from, and says clearly what is wrong with a file."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wisp.drivers.store import sqlite as module
from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.description import DesiredState
from wisp.model.fault import Degradation, Fault, FaultAction, FaultKind
from wisp.model.instance import InstanceState, ObservedInstance
from wisp.model.observation import Event, Severity
from wisp.model.operation import Cause, Operation, OperationKind, OperationState
from wisp.model.plan import Assignments, Plan
from wisp.primitives.errors import PermanentDriverError, StaleWrite, TransientDriverError
from wisp.primitives.time import Duration, Instant


@pytest.fixture
def store(tmp_path: Path):
    opened = SqliteStore(tmp_path / "state.db")
    yield opened
    opened.close()


def seen(name: str) -> ObservedInstance:
    return ObservedInstance(
        name=name,
        spec_digest="d",
        state=InstanceState.READY,
        handle=None,
        changed_at=Instant(2),
        started_at=Instant(1),
        start_ms=1.5,
    )


def event(number: int) -> Event:
    return Event(at=Instant(number), severity=Severity.INFO, what="w", subject=str(number), message="m")


def test_newest_desired_state_wins_and_absent_ends_it(store: SqliteStore) -> None:
    assert store.desired() is None
    store.put_desired(DesiredState(name="a"), source="one")
    revision = store.put_desired(DesiredState(name="b"), source="two")
    assert store.desired() == (revision, DesiredState(name="b"))
    assert store.source() == "two"
    store.put_absent()
    assert store.desired() is None


def test_what_was_wanted_before_is_the_newest_that_differs(store: SqliteStore) -> None:
    assert store.cause() is Cause.WISH
    store.put_desired(DesiredState(name="a"), source="one")
    second = store.put_desired(DesiredState(name="b"), source="two")
    store.put_absent()
    third = store.put_desired(DesiredState(name="b"), source="two", cause=Cause.RETRY)
    assert store.before(third) == (1, DesiredState(name="a"), "one")
    assert store.before(1) is None
    assert store.at(second) == (second, DesiredState(name="b"), "two")
    assert store.at(3) is None
    assert store.at(17) is None
    assert store.cause() is Cause.RETRY


def test_operations_are_replaced_by_their_number_and_the_oldest_dropped(store: SqliteStore, monkeypatch) -> None:
    monkeypatch.setattr(module, "OPERATIONS_KEPT", 2)

    def operation(number: int, state: OperationState) -> Operation:
        return Operation(
            number=number,
            kind=OperationKind.UPDATE,
            state=state,
            subject="revision 1",
            revision=1,
            reason="",
            started_at=Instant(number),
        )

    store.put_operations([operation(number, OperationState.PROCESSING) for number in (1, 2, 3)])
    store.put_operations([operation(3, OperationState.COMPLETED)])
    kept = [(2, OperationState.PROCESSING), (3, OperationState.COMPLETED)]
    assert [(each.number, each.state) for each in store.operations()] == kept
    assert [each.number for each in store.operations(limit=1)] == [3]


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as db:
        for statement in module.MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO desired (state, source) VALUES (?, 'one')", (b'{"name":"a"}',))
        db.execute("PRAGMA user_version = 1")
    db.close()
    store = SqliteStore(tmp_path / "old.db")
    assert store.desired() == (1, DesiredState(name="a"))
    assert (store.cause(), store.operations()) == (Cause.WISH, [])
    store.close()


def test_a_stale_write_is_refused(store: SqliteStore) -> None:
    revision = store.put_desired(DesiredState(name="a"), source="")
    store.put_desired(DesiredState(name="b"), source="", expected_revision=revision)
    with pytest.raises(StaleWrite, match="revision 2, not 1"):
        store.put_desired(DesiredState(name="c"), source="", expected_revision=revision)


def test_plan_instances_and_assignments_come_back(store: SqliteStore) -> None:
    plan = Plan(assignments=Assignments(addresses={"web": "10.0.16.2"}))
    store.put_plan(3, plan)
    assert store.plan() == (3, plan)
    assert store.assignments() == plan.assignments
    store.put_instances([seen("a"), seen("b")])
    store.put_instances([], gone=["a"])
    assert store.instances() == {"b": seen("b")}


def test_events_are_numbered_and_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS_KEPT", 10)
    store.add_events([event(n) for n in range(25)])
    assert [e.subject for _, e in store.events()] == [str(n) for n in range(15, 25)]
    newest = store.events(limit=2)
    assert [e.subject for _, e in newest] == ["23", "24"]
    assert [e.subject for _, e in store.events(after=newest[0][0])] == ["24"]


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database at all, but it is long enough" * 50)
    with pytest.raises(PermanentDriverError, match="not a Wisp database"):
        SqliteStore(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(PermanentDriverError, match="schema 99"):
        SqliteStore(path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(TransientDriverError, match="free some space or check"):
        SqliteStore(tmp_path / "missing" / "state.db")


WRITER = """
import sys
from pathlib import Path
from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.description import DesiredState
store = SqliteStore(Path(sys.argv[1]))
while True:
    print(store.put_desired(DesiredState(name="a"), source=""), flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
    store = SqliteStore(path)
    newest = store.desired()
    store.close()
    assert newest is not None
    assert newest[0] >= acknowledged[-1]


def test_faults_are_kept_one_for_each_thing(store):
    link = Fault(kind=FaultKind.LINK, name="a", action=FaultAction.DOWN, since=Instant(1))
    host = Fault(
        kind=FaultKind.HOST, name="a", action=FaultAction.FLAP, since=Instant(2), period=Duration.of_seconds(1)
    )
    worse = replace(link, action=FaultAction.DEGRADE, degradation=Degradation(delay_us=5, loss_ppm=7, rate_bps=9_000))
    for fault in (link, host, worse):
        store.put_fault(fault)
    assert store.faults() == (host, worse)
    store.remove_fault(FaultKind.LINK, "a")
    store.remove_fault(FaultKind.LINK, "a")
    assert store.faults() == (host,)
    store.remove_faults()
    assert store.faults() == ()
