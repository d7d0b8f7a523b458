"""What a file holds that a daemon needs at its start, read from a sound file or, table by table, from a damaged one."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from tidegate.history.entry import JobMemory, Memory, Unended
from tidegate.history.query import UNENDED
from tidegate.history.rows import LEASE_COLUMNS, SELECTED, lease_of, optional_micros, read_jobs, unended_of
from tidegate.model.lease import Lease

# What reading garbage may raise; words that no tidegate wrote are ValueErrors.
UNREADABLE: Final = (sqlite3.Error, ValueError, TypeError, OverflowError)


def read_memory(db: sqlite3.Connection) -> Memory:
    """All of it. Raises sqlite3.Error."""
    meta = read_meta(db)
    return Memory(
        runs=read_runs(db),
        jobs=read_jobs(db),
        leases=read_leases(db),
        meta=meta,
        learned=read_learned(db),
        era=int(meta.get("era", "0")),
    )


def read_runs(db: sqlite3.Connection) -> tuple[Unended, ...]:
    """Runs without an end, oldest first."""
    rows: list[Any] = []
    for state in UNENDED:
        rows += db.execute(f"SELECT seq, {SELECTED} FROM runs WHERE result = ?", (state,)).fetchall()
    rows.sort(key=lambda row: row[0])
    return tuple(unended_of(row[1:]) for row in rows)


def read_leases(db: sqlite3.Connection) -> tuple[Lease, ...]:
    """Those that were granted and have not ended, oldest first."""
    rows = db.execute(
        f"SELECT {', '.join(LEASE_COLUMNS)} FROM leases WHERE ended_at IS NULL AND granted_at IS NOT NULL ORDER BY seq"
    ).fetchall()
    return tuple(lease_of(row) for row in rows)


def read_meta(db: sqlite3.Connection) -> dict[str, str]:
    """The daemon's own values."""
    return dict(db.execute("SELECT key, value FROM meta").fetchall())


def read_learned(db: sqlite3.Connection) -> dict[str, str]:
    """What the pool has learned, by job."""
    return dict(db.execute("SELECT job, value FROM learned").fetchall())


def salvage(path: Path) -> Memory:
    """What a damaged file still tells, each table on its own; whatever cannot be read is left out."""
    kept = Memory()
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        with suppress(*UNREADABLE):
            kept = replace(kept, runs=read_runs(db))
        with suppress(*UNREADABLE):
            kept = replace(kept, jobs=read_jobs(db))
        with suppress(*UNREADABLE):
            kept = replace(kept, leases=read_leases(db))
        with suppress(*UNREADABLE):
            kept = replace(kept, learned=read_learned(db))
        with suppress(*UNREADABLE):
            meta = read_meta(db)
            kept = replace(kept, meta=meta, era=int(meta.get("era", "0")))
    return kept


def job_row(name: str, job: JobMemory, era: int) -> tuple[Any, ...]:
    """In the order of the table `jobs`."""
    return (
        name,
        job.timing,
        optional_micros(job.since),
        optional_micros(job.last_fire_at),
        era,
        job.boot_id,
        job.paused_by,
        optional_micros(job.paused_at),
        job.last_run_id,
        optional_micros(job.last_run_at),
        optional_micros(job.last_success_at),
        job.last_outcome,
    )
