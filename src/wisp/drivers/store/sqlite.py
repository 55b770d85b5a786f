"""The state store on SQLite in write-ahead mode.

One file per cloud. Several processes may have it open: the controller writes, the command line reads. The schema
carries a version; an older file is brought up to date when it is opened, a newer one is refused.

What was wished and given out survives a power cut once its write returned. What was seen survives a killed process,
which is enough: after a power cut nothing of it is true any more, and a disk's flush takes longer than a guest's boot.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from wisp.codec import stored
from wisp.model.description import DesiredState
from wisp.model.fault import Fault, FaultKind
from wisp.model.instance import ObservedInstance
from wisp.model.observation import Event, Severity
from wisp.model.operation import Cause, Operation
from wisp.model.plan import Assignments, Plan
from wisp.primitives.errors import PermanentDriverError, StaleWrite, TransientDriverError
from wisp.primitives.time import Instant

EVENTS_KEPT = 100_000
OPERATIONS_KEPT = 10_000

# One entry per schema version: the statements that lead to it from the one before.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE desired (revision INTEGER PRIMARY KEY AUTOINCREMENT, state BLOB, source TEXT NOT NULL)",
        "CREATE TABLE plan (only INTEGER PRIMARY KEY CHECK (only = 1), revision INTEGER NOT NULL, plan BLOB NOT NULL)",
        "CREATE TABLE instance (name TEXT PRIMARY KEY, seen BLOB NOT NULL)",
        "CREATE TABLE event (number INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, severity TEXT NOT NULL,"
        " what TEXT NOT NULL, subject TEXT NOT NULL, message TEXT NOT NULL)",
    ),
    (
        "ALTER TABLE desired ADD COLUMN cause TEXT NOT NULL DEFAULT 'wish'",
        "CREATE TABLE operation (number INTEGER PRIMARY KEY, operation BLOB NOT NULL)",
    ),
    ("CREATE TABLE fault (kind TEXT NOT NULL, name TEXT NOT NULL, fault BLOB NOT NULL, PRIMARY KEY (kind, name))",),
)


class SqliteStore:
    """Implements :class:`wisp.ports.store.StateStore`.

    Args:
        path: The database; made when missing.

    Raises:
        PermanentDriverError: The file is not a Wisp database, or of a newer Wisp.
        TransientDriverError: The disk is full or the file is busy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated("open"):
            with suppress(PermissionError, FileNotFoundError):  # told by the next line, in SQLite's words
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._migrate()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def put_desired(
        self,
        desired: DesiredState,
        *,
        source: str,
        cause: Cause = Cause.WISH,
        expected_revision: int | None = None,
    ) -> int:
        """Store a desired state; see the port."""
        return self._append_desired(stored.encode(desired), source, cause, expected_revision)

    def put_absent(self) -> int:
        """Record that the cloud shall not exist any more."""
        return self._append_desired(None, "", Cause.WISH, None)

    def _append_desired(self, state: bytes | None, source: str, cause: Cause, expected: int | None) -> int:
        with self._transaction("put_desired", durable=True) as db:
            (newest,) = db.execute("SELECT coalesce(max(revision), 0) FROM desired").fetchone()
            if expected is not None and newest != expected:
                raise StaleWrite(f"desired state is at revision {newest}, not {expected}: read it again first")
            values = (state, source, str(cause))
            revision = db.execute("INSERT INTO desired (state, source, cause) VALUES (?, ?, ?)", values).lastrowid
            assert revision is not None  # noqa: S101 - sqlite gives one for every INSERT
            return revision

    def desired(self) -> tuple[int, DesiredState] | None:
        """Give the newest revision and state, or ``None`` where there shall be no cloud."""
        row = self._one("SELECT revision, state FROM desired ORDER BY revision DESC LIMIT 1")
        return None if row is None or row[1] is None else (row[0], stored.decode(row[1], DesiredState))

    def source(self) -> str:
        """Give the text that the newest desired state came from; empty for none."""
        row = self._one("SELECT source FROM desired ORDER BY revision DESC LIMIT 1")
        return "" if row is None else str(row[0])

    def cause(self) -> Cause:
        """Say why the newest desired state was stored."""
        row = self._one("SELECT cause FROM desired ORDER BY revision DESC LIMIT 1")
        return Cause.WISH if row is None else Cause(row[0])

    def before(self, revision: int) -> tuple[int, DesiredState, str] | None:
        """Give the newest revision before this one that asks for something else, with its state and its text."""
        row = self._one(
            "SELECT revision, state, source FROM desired WHERE revision < ? AND state IS NOT NULL"
            " AND state IS NOT (SELECT state FROM desired WHERE revision = ?) ORDER BY revision DESC LIMIT 1",
            (revision, revision),
        )
        return None if row is None else (row[0], stored.decode(row[1], DesiredState), str(row[2]))

    def at(self, revision: int) -> tuple[int, DesiredState, str] | None:
        """Give a revision with its state and its text; ``None`` where there is none or no cloud was wanted."""
        row = self._one(
            "SELECT revision, state, source FROM desired WHERE revision = ? AND state IS NOT NULL", (revision,)
        )
        return None if row is None else (row[0], stored.decode(row[1], DesiredState), str(row[2]))

    def put_plan(self, revision: int, plan: Plan) -> None:
        """Store the plan made for a revision."""
        with self._transaction("put_plan", durable=True) as db:
            db.execute("REPLACE INTO plan VALUES (1, ?, ?)", (revision, stored.encode(plan)))

    def plan(self) -> tuple[int, Plan] | None:
        """Give the newest plan and the revision it was made for."""
        row = self._one("SELECT revision, plan FROM plan")
        return None if row is None else (row[0], stored.decode(row[1], Plan))

    def assignments(self) -> Assignments:
        """Give what was given out last."""
        newest = self.plan()
        return Assignments() if newest is None else newest[1].assignments

    def put_fault(self, fault: Fault) -> None:
        """Store a fault, in place of another of the same thing."""
        with self._transaction("put_fault", durable=True) as db:
            db.execute("REPLACE INTO fault VALUES (?, ?, ?)", (str(fault.kind), fault.name, stored.encode(fault)))

    def remove_fault(self, kind: FaultKind, name: str) -> None:
        """Forget a fault; one that is not there is fine."""
        with self._transaction("remove_fault", durable=True) as db:
            db.execute("DELETE FROM fault WHERE kind = ? AND name = ?", (str(kind), name))

    def remove_faults(self) -> None:
        """Forget every fault."""
        with self._transaction("remove_faults", durable=True) as db:
            db.execute("DELETE FROM fault")

    def faults(self) -> tuple[Fault, ...]:
        """Give all faults, by kind and name."""
        rows = self._all("SELECT fault FROM fault ORDER BY kind, name")
        return tuple(stored.decode(fault, Fault) for (fault,) in rows)

    def put_instances(self, instances: Sequence[ObservedInstance], *, gone: Sequence[str] = ()) -> None:
        """Store what was seen of some instances, and forget others."""
        with self._transaction("put_instances") as db:
            db.executemany(
                "REPLACE INTO instance VALUES (?, ?)", [(seen.name, stored.encode(seen)) for seen in instances]
            )
            db.executemany("DELETE FROM instance WHERE name = ?", [(name,) for name in gone])

    def instances(self) -> dict[str, ObservedInstance]:
        """Give what was last seen, by name."""
        rows = self._all("SELECT name, seen FROM instance ORDER BY name")
        return {name: stored.decode(seen, ObservedInstance) for name, seen in rows}

    def add_events(self, events: Sequence[Event]) -> None:
        """Append events and drop the oldest beyond the bound."""
        with self._transaction("add_events") as db:
            db.executemany(
                "INSERT INTO event (at_ns, severity, what, subject, message) VALUES (?, ?, ?, ?, ?)",
                [(e.at.ns, e.severity, e.what, e.subject, e.message) for e in events],
            )
            db.execute("DELETE FROM event WHERE number <= (SELECT max(number) FROM event) - ?", (EVENTS_KEPT,))

    def put_operations(self, operations: Sequence[Operation]) -> None:
        """Store life cycle operations and drop the oldest beyond the bound."""
        with self._transaction("put_operations") as db:
            rows = [(each.number, stored.encode(each)) for each in operations]
            db.executemany("REPLACE INTO operation VALUES (?, ?)", rows)
            db.execute(
                "DELETE FROM operation WHERE number <= (SELECT max(number) FROM operation) - ?", (OPERATIONS_KEPT,)
            )

    def operations(self, *, limit: int = 1000) -> list[Operation]:
        """Give the newest life cycle operations, oldest first."""
        rows = self._all(
            "SELECT operation FROM (SELECT number, operation FROM operation ORDER BY number DESC LIMIT ?)"
            " ORDER BY number",
            (limit,),
        )
        return [stored.decode(operation, Operation) for (operation,) in rows]

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """Give the newest events above a number, oldest first."""
        rows = self._all(
            "SELECT * FROM (SELECT number, at_ns, severity, what, subject, message FROM event"
            " WHERE number > ? ORDER BY number DESC LIMIT ?) ORDER BY number",
            (after, limit),
        )
        return [(row[0], _event(row[1:])) for row in rows]

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise PermanentDriverError(
                f"{self._path} has schema {version}, this Wisp knows {len(MIGRATIONS)}: use the newer Wisp",
                driver="sqlite",
                operation="open",
            )
        if version < len(MIGRATIONS):
            self._upgrade()

    def _upgrade(self) -> None:
        """Bring the schema up to date; whoever comes second finds it done."""
        with self._transaction("migrate", durable=True) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _transaction(self, operation: str, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._translated(operation):
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK") if self._db.in_transaction else None
                raise
            self._db.execute("COMMIT")

    def _one(self, query: str, values: tuple[int, ...] = ()) -> Any:
        rows = self._all(query, values)
        return rows[0] if rows else None

    def _all(self, query: str, values: tuple[int, ...] = ()) -> list[Any]:
        with self._translated("read"), closing(self._db.execute(query, values)) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        """Turn SQLite's errors into ours, saying which file and what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise TransientDriverError(
                f"{self._path}: {error}: free some space or check the folder's permissions, then try again",
                driver="sqlite",
                operation=operation,
            ) from error
        except sqlite3.DatabaseError as error:
            raise PermanentDriverError(
                f"{self._path}: {error}: this is not a Wisp database; move it away",
                driver="sqlite",
                operation=operation,
            ) from error


def _event(row: Sequence[Any]) -> Event:
    at_ns, severity, what, subject, message = row
    return Event(at=Instant(at_ns), severity=Severity(severity), what=what, subject=subject, message=message)
