"""History as others read it: past runs, how jobs stand, what was decided. Reads only; it creates no file.

One reader serves one thread at a time. It reads beside a daemon that writes, and as well where none runs.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tidegate.history import why
from tidegate.history.entry import HistoryError, JobMemory, NewerSchemaError, NoHistoryError
from tidegate.history.query import OUTCOMES, SEQ_MAX, UNENDED, page_query, result_words
from tidegate.history.rows import (
    ATTEMPT_COLUMNS,
    LEASE_COLUMNS,
    SELECTED,
    attempt_view,
    instant,
    lease_of,
    micros,
    optional_instant,
    read_jobs,
    view_of,
)
from tidegate.history.schema import VERSION, version_of
from tidegate.model.view import AttemptView, DecisionView, LeaseView, RunView, of_lease

RUNS_MAX: Final = 1000  # of one page
BUSY_S: Final = 5.0  # a reader waits for a writer only while that recovers the log
SLEW: Final = timedelta(seconds=10)  # within an era the clock goes back by less
ERAS_MAX: Final = 100  # searched one by one; with more the whole account is


class Reader:
    """Raises NoHistoryError, NewerSchemaError or HistoryError (all OSError) where there is nothing to read, and
    sqlite3.Error where the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db, self._opened = self._open()

    def runs(
        self,
        job: str | None = None,
        outcome: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> tuple[list[RunView], int | None]:
        """A page in the order of claims, newest first, and the `before` of the next page; None: that was the last.

        `outcome` takes skip words as well, and "skipped" for all of them. `since` and `until` are inclusive and speak
        of the moment a fire was noticed (queued_at).
        """
        words = result_words(outcome, state)
        limit = max(1, min(limit, RUNS_MAX))
        low, high = self._bounds(since, until)
        high = min(high, before - 1) if before is not None else high
        if words == () or low > high:
            return [], None
        query, arguments = page_query(job, words, since, until, (low, high), limit + 1)
        rows = self._rows(query, arguments)
        more = len(rows) > limit
        return [view_of(row[1:]) for row in rows[:limit]], rows[limit - 1][0] if more else None

    def run(self, run_id: str) -> RunView | None:
        """One run."""
        rows = self._rows(f"SELECT {SELECTED} FROM runs WHERE run_id = ?", (run_id,))
        return view_of(rows[0]) if rows else None

    def attempts(self, run_id: str) -> list[AttemptView]:
        """Its attempts that were followed by another, first to last."""
        query = f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE run_id = ? ORDER BY attempt"
        return [attempt_view(row) for row in self._rows(query, (run_id,))]

    def requested(self, job: str, request_id: str) -> RunView | None:
        """The run that was asked for under this request id."""
        query = f"SELECT {SELECTED} FROM runs WHERE job = ? AND request_id = ? AND cause = 'manual'"
        rows = self._rows(query, (job, request_id))
        return view_of(rows[0]) if rows else None

    def last_success(self, job: str) -> datetime | None:
        """When the last succeeded run of a job ended."""
        rows = self._rows("SELECT last_success_at FROM jobs WHERE name = ?", (job,))
        return optional_instant(rows[0][0]) if rows else None

    def last_successes(self) -> dict[str, datetime]:
        """The same of each job that has one."""
        rows = self._rows("SELECT name, last_success_at FROM jobs WHERE last_success_at IS NOT NULL")
        return {name: instant(at_us) for name, at_us in rows}

    def latest(self, job: str) -> RunView | None:
        """Its newest run that was not skipped."""
        query, arguments = page_query(job, UNENDED + OUTCOMES)
        rows = self._rows(query, arguments)
        return view_of(rows[0][1:]) if rows else None

    def latest_each(self) -> dict[str, RunView]:
        """For each job that is known its newest run that was started or ended."""
        columns = ", ".join(f"runs.{column}" for column in SELECTED.split(", "))
        query = f"SELECT {columns} FROM jobs JOIN runs ON runs.run_id = jobs.last_run_id"
        return {run.job: run for run in map(view_of, self._rows(query))}

    def jobs(self) -> dict[str, JobMemory]:
        """What is known of each job."""
        return read_jobs(self._connection())

    def durations(self, job: str, limit: int = 1000) -> list[float]:
        """How long its newest successes took, in seconds, newest first."""
        query = (
            "SELECT duration_s FROM runs WHERE job = ? AND result = 'succeeded' AND duration_s IS NOT NULL "
            "ORDER BY seq DESC LIMIT ?"
        )
        return [duration_s for (duration_s,) in self._rows(query, (job, limit))]

    def why(self, job: str, at: datetime | None = None, limit: int = 200) -> list[DecisionView]:
        """What was decided about the fire due at or nearest before `at` (None: the newest), oldest first."""
        return why.explain(self._connection(), job, at, self._eras(), limit)

    def lease_history(self, resource: str, limit: int = 100) -> list[LeaseView]:
        """Who asked for units of it, newest first."""
        columns = ", ".join(f"leases.{column}" for column in LEASE_COLUMNS)
        query = (
            f"SELECT {columns} FROM lease_uses JOIN leases ON leases.seq = lease_uses.seq "
            "WHERE lease_uses.resource = ? ORDER BY lease_uses.seq DESC LIMIT ?"
        )
        return [of_lease(lease_of(row), row[-1]) for row in self._rows(query, (resource, limit))]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- the file -------------------------------------------------------------------------------------

    def _open(self) -> tuple[sqlite3.Connection, tuple[int, bool]]:
        status = self._status()
        # Without a log nobody writes, and SQLite would make one for the sake of reading.
        options = "mode=ro" if status[1] else "mode=ro&immutable=1"
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{options}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            db.execute("PRAGMA query_only = ON")
            db.execute("PRAGMA cache_size = -1024")
            version = version_of(db)
        except sqlite3.Error:
            db.close()
            raise
        if version == VERSION:
            return db, status
        db.close()
        if version == 0:
            raise NoHistoryError(f"{self.path} is empty so far")
        if version > VERSION:
            raise NewerSchemaError(f"{self.path} was written by a later tidegate (schema {version})")
        raise HistoryError(
            f"{self.path} is of an earlier tidegate (schema {version}); the daemon converts it at its start"
        )

    def _status(self) -> tuple[int, bool]:
        """Which file it is, and whether a log stands beside it."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            raise NoHistoryError(f"there is no history at {self.path} yet") from None
        return inode, Path(f"{self.path}-wal").exists()

    def _connection(self) -> sqlite3.Connection:
        """The file of now: a damaged one is set aside, and a daemon may have begun to write."""
        inode, logged = self._status()
        if inode != self._opened[0] or (logged and not self._opened[1]):
            with suppress(sqlite3.Error):
                self._db.close()
            self._db, self._opened = self._open()
        return self._db

    def _rows(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        return self._connection().execute(query, arguments).fetchall()

    # --- time to order --------------------------------------------------------------------------------

    def _eras(self) -> list[int]:
        eras: list[int] = []
        db = self._connection()
        era = -1
        while len(eras) <= ERAS_MAX:
            (found,) = db.execute("SELECT min(era) FROM runs WHERE era > ?", (era,)).fetchone()
            if found is None:
                break
            eras.append(found)
            era = found
        return eras

    def _bounds(self, since: datetime | None, until: datetime | None) -> tuple[int, int]:
        """Between which claims the moments lie: within an era the order of claims is that of time."""
        if since is None and until is None:
            return 0, SEQ_MAX
        eras = self._eras()
        if len(eras) > ERAS_MAX:
            return 0, SEQ_MAX
        lows, highs = [], []
        for era in eras:
            if since is not None:
                query = "SELECT seq FROM runs WHERE era = ? AND queued_at >= ? ORDER BY queued_at, seq LIMIT 1"
                lows += self._rows(query, (era, micros(since - SLEW)))
            if until is not None:
                query = (
                    "SELECT seq FROM runs WHERE era = ? AND queued_at <= ? ORDER BY queued_at DESC, seq DESC LIMIT 1"
                )
                highs += self._rows(query, (era, micros(until + SLEW)))
        low = 0 if since is None else min((seq for (seq,) in lows), default=SEQ_MAX)
        high = SEQ_MAX if until is None else max((seq for (seq,) in highs), default=0)
        return low, high


def durations(path: Path, job: str) -> list[float]:
    """How long the newest runs of a job that succeeded took, in seconds; with a connection of its own, for a thread."""
    try:
        reader = Reader(path)
    except NoHistoryError:
        return []
    try:
        return reader.durations(job)
    finally:
        reader.close()
