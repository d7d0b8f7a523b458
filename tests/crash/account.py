"""The daemon's own account, read from its database with plain SQL: what a test holds against the ledger must not come
through the code that is under test.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Attempt(Struct, frozen=True):
    """How one attempt ended."""

    outcome: str | None  # None: not yet
    exit_code: int | None
    signal: int | None
    reason: str = ""

    @property
    def code(self) -> int | None:
        """As the ledger tells it: the exit code, or minus the signal."""
        return -self.signal if self.signal is not None else self.exit_code


class Row(Struct, frozen=True, kw_only=True):
    """One fire as history has it."""

    run_id: str
    job: str
    cause: str
    scheduled_at: datetime
    state: str
    attempt: int
    last: Attempt
    earlier: dict[int, Attempt] = {}
    skip: str | None = None
    reason: str = ""
    fires: int = 1
    catch_up: bool = False
    started: bool = True  # its latest attempt had a process

    def attempts(self) -> dict[int, Attempt]:
        """Every attempt by number."""
        return {**self.earlier, self.attempt: self.last}


class Account(Struct):
    """All rows, and since when each job was known."""

    rows: list[Row]
    since: dict[str, datetime]


def instant(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def unended(path: Path) -> int:
    """How many runs have not ended."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM runs WHERE state NOT IN ('finished', 'skipped')").fetchone()[0])
    finally:
        db.close()


def who_is_unended(path: Path) -> str:
    """The oldest runs that have not ended, for a message."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = db.execute(
            "SELECT run_id, job, state, attempt, reason FROM runs WHERE state NOT IN ('finished', 'skipped') LIMIT 10"
        ).fetchall()
    finally:
        db.close()
    return "\n".join(map(str, rows))


def read(path: Path) -> Account:
    """The whole account. The daemon need not run."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        earlier: dict[str, dict[int, Attempt]] = {}
        for run_id, attempt, *rest in db.execute(
            "SELECT run_id, attempt, outcome, exit_code, signal, reason FROM attempts"
        ):
            earlier.setdefault(run_id, {})[attempt] = Attempt(*rest)
        rows = [
            Row(
                run_id=row[0],
                job=row[1],
                cause=row[2],
                scheduled_at=instant(row[3]),
                state=row[4],
                attempt=row[5],
                last=Attempt(row[6], row[7], row[8], row[9]),
                earlier=earlier.get(row[0], {}),
                skip=row[10],
                reason=row[9],
                fires=row[11],
                catch_up=bool(row[12]),
                started=row[13] is not None,
            )
            for row in db.execute(
                "SELECT run_id, job, cause, scheduled_at, state, attempt, outcome, exit_code, signal, reason, skip,"
                " fires, catch_up, pid FROM runs ORDER BY seq"
            )
        ]
        since = {name: instant(us) for name, us in db.execute("SELECT name, since FROM jobs")}
    finally:
        db.close()
    return Account(rows, since)
