"""Retention: what is too old, too many or too large goes, oldest first, rows and files together, in small steps.

A run that has not ended is never touched. Files go before their row: a crash in between leaves a row without a file,
and the next pass takes that. Files without a row are what a power cut may leave: a sweep finds them.
"""

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from tidegate.history.files import RunFiles
from tidegate.history.fold import encode
from tidegate.history.rows import micros
from tidegate.history.store import Store
from tidegate.model.plan import HistorySettings

STEP_ROWS: Final = 200  # removed in one step: well under 20 ms with their files
WALK_ROWS: Final = 2000  # looked at in one step
VACUUM_PAGES: Final = 200  # given back in one step
FREE_SHARE: Final = 0.25  # free pages beyond this share are given back to the file system; the rest is used again
FREE_PAGES: Final = 256  # 1 MiB is not worth moving pages for
ENDED: Final = "state IN ('finished', 'skipped')"


class Pass:
    """One pass over the whole account. `steps` does a little, and stops, until it is through."""

    def __init__(self, store: Store, settings: HistorySettings, now: datetime, *, sweep: bool) -> None:
        self._db = store.db
        self._settings = settings
        self._now = now
        self._sweep = sweep
        self._files = RunFiles(store.path.parent)
        self._cutoff_us = micros(now - timedelta(seconds=settings.keep_s))
        self._excess = False  # rows went for their number or size: what is older than the rest goes with them

    def steps(self) -> Iterator[None]:
        """Raises sqlite3.Error; whatever was done until then is whole."""
        yield from self._old()
        yield from self._too_many()
        yield from self._too_large()
        yield from self._beside()
        if self._sweep:
            yield from self._orphans()
        yield from self._give_back()

    def _old(self) -> Iterator[None]:
        """By the order of claims, up to the first fire that was noticed within the time to keep."""
        seq, now_us = 0, micros(self._now)
        while True:
            rows = self._db.execute(
                f"SELECT seq, run_id, job, attempt, ended_at, queued_at, {ENDED} FROM runs WHERE seq > ? "
                "ORDER BY seq LIMIT ?",
                (seq, WALK_ROWS),
            ).fetchall()
            young = next((n for n, row in enumerate(rows) if self._cutoff_us <= row[5] <= now_us), None)
            over = [row[:4] for row in rows[:young] if row[6] and row[4] is not None and row[4] < self._cutoff_us]
            for first in range(0, len(over), STEP_ROWS):
                self._remove(over[first : first + STEP_ROWS])
                yield
            if young is not None or not rows:
                return
            seq = rows[-1][0]
            yield

    def _too_many(self) -> Iterator[None]:
        low, high = self._db.execute("SELECT min(seq), max(seq) FROM runs").fetchone()
        if low is None or high - low < self._settings.keep_runs:
            return
        (count,) = self._db.execute("SELECT count(*) FROM runs").fetchone()  # an index walk: 30 ms for a million
        yield
        while count > self._settings.keep_runs:
            over = self._oldest(min(STEP_ROWS, count - self._settings.keep_runs))
            if not over:
                return
            self._remove(over)
            self._excess = True
            count -= len(over)
            yield

    def _too_large(self) -> Iterator[None]:
        while self._bytes() > self._settings.keep_bytes:
            over = self._oldest(STEP_ROWS)
            if not over:
                return
            self._remove(over)
            self._excess = True
            yield

    def _bytes(self) -> int:
        """Rows and output files together: pages that are in use, and what runs wrote and still have."""
        pages, free = self._pages()
        (size,) = self._db.execute("PRAGMA page_size").fetchone()
        row = self._db.execute("SELECT value FROM meta WHERE key = 'output_bytes'").fetchone()
        return int((pages - free) * size + (int(row[0]) if row else 0))

    def _pages(self) -> tuple[int, int]:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        return int(pages), int(free)

    def _oldest(self, count: int) -> list[Any]:
        query = f"SELECT seq, run_id, job, attempt FROM runs WHERE {ENDED} ORDER BY seq LIMIT ?"
        return self._db.execute(query, (count,)).fetchall()

    def _remove(self, rows: list[Any]) -> None:
        self._files.remove((run_id, job, attempts) for _, run_id, job, attempts in rows)
        seqs = encode([row[0] for row in rows]).decode()
        ids = encode([row[1] for row in rows]).decode()
        with self._transaction():
            (of_runs,) = self._db.execute(
                "SELECT total(output_bytes - output_dropped_bytes) FROM runs "
                "WHERE seq IN (SELECT value FROM json_each(?))",
                (seqs,),
            ).fetchone()
            (of_attempts,) = self._db.execute(
                "SELECT total(output_bytes) FROM attempts WHERE run_id IN (SELECT value FROM json_each(?))", (ids,)
            ).fetchone()
            self._db.execute("DELETE FROM attempts WHERE run_id IN (SELECT value FROM json_each(?))", (ids,))
            self._db.execute("DELETE FROM runs WHERE seq IN (SELECT value FROM json_each(?))", (seqs,))
            self._db.execute(
                "UPDATE meta SET value = max(0, CAST(value AS INTEGER) - ?) WHERE key = 'output_bytes'",
                (int(of_runs + of_attempts),),
            )

    def _beside(self) -> Iterator[None]:
        """Decisions and leases: as old as what went, or more of them than runs may be."""
        horizon_us = self._cutoff_us
        if self._excess:
            oldest = self._oldest(1)
            if oldest:
                (queued_at,) = self._db.execute("SELECT queued_at FROM runs WHERE seq = ?", (oldest[0][0],)).fetchone()
                horizon_us = max(horizon_us, queued_at)
        (newest,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()
        oldest_decisions = "(SELECT seq FROM decisions ORDER BY seq LIMIT ?)"
        while self._delete(
            f"DELETE FROM decisions WHERE seq IN {oldest_decisions} AND (at < ? OR seq <= ?)",
            (STEP_ROWS, horizon_us, newest - self._settings.keep_runs),
        ):
            yield
        over = "(SELECT seq FROM leases WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY seq LIMIT ?)"
        while self._delete(f"DELETE FROM leases WHERE seq IN {over}", (horizon_us, STEP_ROWS)):
            yield
        while self._delete(
            "DELETE FROM lease_uses WHERE (resource, seq) IN (SELECT resource, seq FROM lease_uses "
            "WHERE seq < (SELECT coalesce(min(seq), 0) FROM leases) LIMIT ?)",
            (STEP_ROWS,),
        ):
            yield

    def _delete(self, query: str, arguments: tuple[int, ...]) -> bool:
        """True: as many as a step may take; there may be more."""
        with self._transaction():
            return self._db.execute(query, arguments).rowcount >= STEP_ROWS

    def _orphans(self) -> Iterator[None]:
        before_s = (self._now - timedelta(seconds=self._settings.keep_s)).timestamp()
        yield from self._files.sweep(self._unknown, before_s=before_s)
        rows = self._db.execute("SELECT name FROM jobs").fetchall()
        known = {name for (name,) in rows}
        for job in self._files.jobs():
            if job not in known:
                self._files.remove_folder(job)

    def _unknown(self, run_ids: list[str]) -> set[str]:
        query = (
            "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = json_each.value)"
        )
        return {run_id for (run_id,) in self._db.execute(query, (encode(run_ids).decode(),))}

    def _give_back(self) -> Iterator[None]:
        """What is free beyond what will soon be used again."""
        pages, free = self._pages()
        while free > FREE_PAGES and free > FREE_SHARE * pages:
            self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            yield
            before = free
            pages, free = self._pages()
            if free >= before:
                return

    def _transaction(self) -> "Transaction":
        return Transaction(self._db)


class Transaction:
    """BEGIN IMMEDIATE, then COMMIT or, on an error, ROLLBACK."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if kind is None:
                raise
