"""The tables of history, and how a file of an earlier version becomes one of today. Only SQL; nothing is opened here.

Instants are integers, microseconds since 1970 in UTC. `seq` is the order in which fires were claimed. An `era`
ends when the wall clock is set back: instants of the new era may equal earlier ones and are fires of their own.
"""

import sqlite3
from typing import Final

# Each entry takes a file from version n (its index) to n + 1. Entries are never changed once they were released.
MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE jobs (
        name TEXT PRIMARY KEY,
        timing TEXT NOT NULL,          -- identifies the trigger; `since` is when this one became known
        since INTEGER NOT NULL,
        last_fire_at INTEGER,          -- the newest scheduled instant that was claimed or skipped, in fire_era
        fire_era INTEGER NOT NULL DEFAULT 0,
        boot_id TEXT NOT NULL DEFAULT '',
        paused_by TEXT,
        paused_at INTEGER,
        last_run_id TEXT,              -- the newest run that was not skipped
        last_run_at INTEGER,           -- when one last ended
        last_success_at INTEGER,
        last_outcome TEXT
    ) WITHOUT ROWID;

    CREATE TABLE runs (
        seq INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL,
        job TEXT NOT NULL,
        task TEXT NOT NULL,
        cause TEXT NOT NULL,
        request_id TEXT,
        scheduled_at INTEGER NOT NULL,
        era INTEGER NOT NULL,
        fires INTEGER NOT NULL,        -- how many fires a skipped row stands for; scheduled_at is the newest of them
        queued_at INTEGER NOT NULL,
        catch_up INTEGER NOT NULL,
        args TEXT,                     -- JSON object
        attempt INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        state TEXT NOT NULL,
        outcome TEXT,
        skip TEXT,
        reason TEXT NOT NULL,
        exit_code INTEGER,
        signal INTEGER,
        duration_s REAL,
        cpu_s REAL,
        memory_peak_bytes INTEGER,
        output_bytes INTEGER NOT NULL,
        output_dropped_bytes INTEGER NOT NULL,
        output_note TEXT NOT NULL,
        io_read_bytes INTEGER,
        io_write_bytes INTEGER,
        frozen_s REAL,
        pid INTEGER,
        pid_start INTEGER,
        stop TEXT,
        boot_id TEXT NOT NULL,         -- the boot in which it was claimed, then that of the latest attempt
        keeper TEXT NOT NULL,          -- who was asked to start the latest attempt
        result TEXT AS (CASE state WHEN 'finished' THEN outcome WHEN 'skipped' THEN skip ELSE state END) VIRTUAL
    );
    CREATE UNIQUE INDEX runs_run_id ON runs (run_id);
    CREATE UNIQUE INDEX runs_fire ON runs
        (job, cause, era, scheduled_at, (CASE WHEN cause IN ('schedule', 'boot') THEN '' ELSE run_id END));
    CREATE UNIQUE INDEX runs_request ON runs (job, request_id) WHERE cause = 'manual' AND request_id IS NOT NULL;
    CREATE INDEX runs_result ON runs (result);
    CREATE INDEX runs_job_result ON runs (job, result);
    CREATE INDEX runs_queued ON runs (era, queued_at);

    CREATE TABLE attempts (            -- those after which another was to follow
        run_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        exit_code INTEGER,
        signal INTEGER,
        duration_s REAL,
        cpu_s REAL,
        memory_peak_bytes INTEGER,
        output_bytes INTEGER NOT NULL,
        PRIMARY KEY (run_id, attempt)
    ) WITHOUT ROWID;

    CREATE TABLE decisions (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        fact TEXT NOT NULL,
        job TEXT NOT NULL,             -- '': of the whole daemon
        run_id TEXT NOT NULL,
        reason TEXT NOT NULL
    );
    CREATE INDEX decisions_job ON decisions (job, at);
    CREATE INDEX decisions_pause ON decisions (job, at) WHERE fact IN ('job.paused', 'job.resumed');
    CREATE INDEX decisions_run ON decisions (run_id) WHERE run_id <> '';

    CREATE TABLE leases (
        seq INTEGER PRIMARY KEY,
        lease_id TEXT NOT NULL UNIQUE,
        uses TEXT NOT NULL,            -- JSON object: units by resource
        holder TEXT NOT NULL,
        pid INTEGER,
        pid_start INTEGER,
        run_id TEXT NOT NULL,
        asked_at INTEGER NOT NULL,
        granted_at INTEGER,
        ended_at INTEGER,
        reason TEXT NOT NULL
    );
    CREATE INDEX leases_open ON leases (seq) WHERE ended_at IS NULL;
    CREATE TABLE lease_uses (
        resource TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (resource, seq)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN returned TEXT;  -- JSON: what a python job returned
    ALTER TABLE runs ADD COLUMN error TEXT;     -- of a python job: the traceback, or why its result is not kept
    ALTER TABLE attempts ADD COLUMN error TEXT;
    """,
    """
    ALTER TABLE runs ADD COLUMN evictions INTEGER NOT NULL DEFAULT 0;  -- attempts that were killed for want of memory
    CREATE TABLE learned (             -- what the pool has learned of a job
        job TEXT PRIMARY KEY,
        value TEXT NOT NULL            -- JSON
    ) WITHOUT ROWID;
    """,
)
VERSION: Final = len(MIGRATIONS)


def version_of(db: sqlite3.Connection) -> int:
    """The version of an open file; 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Bring an open file to VERSION, each step whole or not at all. Raises sqlite3.Error."""
    for version in range(version_of(db), VERSION):
        # One script, one transaction: user_version is part of it.
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version]}; PRAGMA user_version = {version + 1}; COMMIT;")
