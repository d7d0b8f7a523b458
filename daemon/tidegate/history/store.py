"""The database file: opened, checked, set aside where it is damaged, and written one batch at a time.

No thread and no callback here: whoever calls waits. Every method raises sqlite3.Error as SQLite does.
"""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from tidegate.history.blame import lock_holder
from tidegate.history.entry import (
    CorruptError,
    HistoryError,
    JobsKnown,
    Memory,
    NewerSchemaError,
    Unended,
)
from tidegate.history.fold import Batch, Told, decision, encode
from tidegate.history.recall import job_row, read_memory, salvage
from tidegate.history.rows import (
    ATTEMPT_COLUMNS,
    CLAIM_COLUMNS,
    LEASE_COLUMNS,
    RUN_COLUMNS,
    SELECTED,
    lease_row,
    micros,
)
from tidegate.history.schema import VERSION, migrate, version_of
from tidegate.model.command import Fact
from tidegate.model.plan import HistorySettings
from tidegate.model.run import Cause, Outcome, Skip, State

MAGIC: Final = b"SQLite format 3\0"
VERSION_OFFSET: Final = 60  # of user_version in the header, big-endian
BUSY_MS: Final = 200  # one wait for somebody else's lock; the writer then looks at what else there is and waits again
OPEN_BUSY_MS: Final = 2000  # nothing runs yet that could be held up; whoever opens tries again
CACHE_KIB: Final = 1024
WAL_BYTES_MAX: Final = 8 * 1024 * 1024  # what the log keeps on disk after it was written back
CLOCK_BACK_US: Final = 5_000_000  # now is earlier than what is on record by more: the clock was set back meanwhile
NEWEST_ROWS: Final = 1000
DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
SET_ASIDE: Final = "history.set_aside"  # the fact in `decisions`
ROWS_A_STEP: Final = (64, 16, 4, 1)  # of one statement: before each step this thread waits for the interpreter lock
SIDES: Final = ("", "-wal", "-shm")

# A value of a class that sqlite3 does not know, None too, is asked for two methods that it has not: 0.4 µs each time,
# and half of a run's row is such values. Where sqlite3 was told what to make of them it takes a third of that.
NONE_OF_NONE: Final[dict[None, None]] = {}  # its `get` is that, without a call of Python
sqlite3.register_adapter(type(None), NONE_OF_NONE.get)
for words in (Cause, Fact, Outcome, Skip, State):
    sqlite3.register_adapter(words, str.__str__)


def _values(columns: int) -> str:
    return ", ".join(f"value ->> {index}" for index in range(columns))


def _write_runs(rows: int) -> str:
    """The second conflict clause leaves out a claim that some other run has already."""
    return f"""
    INSERT INTO runs ({SELECTED}) VALUES {_places(rows, len(RUN_COLUMNS))}
    ON CONFLICT (run_id) DO UPDATE SET {", ".join(f"{n} = excluded.{n}" for n in RUN_COLUMNS[len(CLAIM_COLUMNS) :])}
    ON CONFLICT DO NOTHING"""


def _write_facts(rows: int) -> str:
    return f"""
    UPDATE jobs SET
        last_fire_at = CASE WHEN column2 IS NULL OR (column3 = fire_era AND column2 < last_fire_at)
            THEN last_fire_at ELSE column2 END,
        fire_era = CASE WHEN column2 IS NULL THEN fire_era ELSE column3 END,
        boot_id = coalesce(column4, boot_id),
        last_run_id = coalesce(column5, last_run_id),
        last_run_at = coalesce(column6, last_run_at),
        last_success_at = coalesce(column7, last_success_at),
        last_outcome = coalesce(column8, last_outcome)
    FROM (VALUES {_places(rows, 8)}) WHERE name = column1"""


def _places(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


# What each run writes goes in as parameters: unpacked from JSON each column of a row is looked for anew, which takes
# twice as long.
WRITE_RUNS: Final = {rows: _write_runs(rows) for rows in ROWS_A_STEP}
WRITE_FACTS: Final = {rows: _write_facts(rows) for rows in ROWS_A_STEP}
# `value ->> n` of an array of arrays: a whole batch is one value, one statement and one step, without the
# interpreter lock.
MISSING_RUNS: Final = """
    SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM runs WHERE run_id = value)"""
HOLDER: Final = """
    SELECT run_id FROM runs WHERE job = ?1 AND cause = ?2 AND era = ?3 AND scheduled_at = ?4
    UNION ALL SELECT run_id FROM runs WHERE job = ?1 AND request_id = ?5 AND cause = 'manual' LIMIT 1"""
WRITE_ATTEMPTS: Final = f"""
    INSERT OR REPLACE INTO attempts ({", ".join(ATTEMPT_COLUMNS)})
    SELECT {_values(len(ATTEMPT_COLUMNS))} FROM json_each(?)"""
WRITE_DECISIONS: Final = f"""
    INSERT INTO decisions (at, fact, job, run_id, reason) SELECT {_values(5)} FROM json_each(?)"""
WRITE_LEASES: Final = f"""
    INSERT INTO leases ({", ".join(LEASE_COLUMNS)}) SELECT {_values(len(LEASE_COLUMNS))} FROM json_each(?) WHERE true
    ON CONFLICT (lease_id) DO UPDATE SET
        granted_at = excluded.granted_at, ended_at = excluded.ended_at, reason = excluded.reason, pid = excluded.pid,
        pid_start = excluded.pid_start"""
WRITE_LEASE_USES: Final = """
    INSERT OR IGNORE INTO lease_uses (resource, seq)
    SELECT uses.key, leases.seq FROM json_each(?) AS row
    JOIN leases ON leases.lease_id = row.value ->> 0, json_each(leases.uses) AS uses"""
WRITE_JOBS: Final = """
    INSERT INTO jobs (name, timing, since, boot_id)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true
    ON CONFLICT (name) DO UPDATE SET
        timing = excluded.timing, since = excluded.since, boot_id = excluded.boot_id, last_fire_at = NULL
        WHERE timing <> excluded.timing"""
WRITE_META: Final = """
    INSERT INTO meta (key, value) SELECT key, value FROM json_each(?) WHERE true
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
WRITE_LEARNED: Final = """
    INSERT INTO learned (job, value) SELECT key, value FROM json_each(?) WHERE true
    ON CONFLICT (job) DO UPDATE SET value = excluded.value"""
ADD_OUTPUT: Final = """
    INSERT INTO meta (key, value) VALUES ('output_bytes', ?1)
    ON CONFLICT (key) DO UPDATE SET value = max(0, CAST(value AS INTEGER) + ?1)"""


class Store:
    """One connection that writes. `memory` is what the file held when it was opened."""

    def __init__(self, path: Path, settings: HistorySettings) -> None:
        self.path = path
        self._settings = settings
        self.memory = Memory()
        self.era = 0
        self.set_aside: Path | None = None
        self.db = self._connect()

    # --- opening --------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path, settings: HistorySettings, *, now: datetime) -> "Store":
        """Raises NewerSchemaError (the file is as it was), CorruptError (with on_corruption = "stop"), HistoryError."""
        try:
            refuse_newer(path)
            try:
                return cls._open(path, settings, now)
            except sqlite3.DatabaseError as error:
                if not damaged(error):
                    raise
                if settings.on_corruption == "stop":
                    raise CorruptError(
                        f'{path} is damaged ({error}), and on_corruption = "stop": restore it from a copy, or move '
                        f"{path.name} and its -wal and -shm away to begin a new account"
                    ) from error
            return cls.replace(path, settings, {}, now=now)
        except HistoryError:
            raise
        except (sqlite3.Error, OSError) as error:
            holder = lock_holder(path) if busy(error) else ""
            raise HistoryError(f"{path} cannot be used: {error}{f' by {holder}' if holder else ''}") from error

    @classmethod
    def _open(cls, path: Path, settings: HistorySettings, now: datetime) -> "Store":
        store = cls(path, settings)
        try:
            store.db.execute(f"PRAGMA busy_timeout = {OPEN_BUSY_MS}")
            migrate(store.db)
            store._remember(now)
            store.db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def replace(cls, path: Path, settings: HistorySettings, lives: Mapping[str, Unended], *, now: datetime) -> "Store":
        """Set a damaged file aside and begin a new one with `lives` and with what the old still tells."""
        kept = salvage(path)
        runs = {one.run.run_id: one for one in kept.runs} | dict(lives)
        aside = path.with_name(f"{path.name}.corrupt-{now:%Y%m%dT%H%M%S.%fZ}")
        for side in SIDES:
            with suppress(FileNotFoundError):
                Path(f"{path}{side}").replace(f"{aside}{side}")
        fresh = cls(path, settings)
        try:
            migrate(fresh.db)
            fresh._begin_with(structs.replace(kept, runs=tuple(runs.values())), aside, now)
            fresh._remember(now)
        except BaseException:
            fresh.close()
            raise
        fresh.set_aside = aside
        return fresh

    def _connect(self) -> sqlite3.Connection:
        # Arguments of manual runs stand in it: nobody else reads it.
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(self.path.parent)  # SQLite does this for its log, not for a file that is there when it comes
        except FileExistsError:
            pass
        db = sqlite3.connect(self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        try:
            if db.execute("PRAGMA page_count").fetchone() == (0,):  # only a new file takes it
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(synchronous(self._settings))
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            db.execute("PRAGMA mmap_size = 0")
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA wal_autocheckpoint = 0")  # between batches, not within a commit that somebody waits for
            db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        except BaseException:
            db.close()
            raise
        return db

    def configure(self, settings: HistorySettings) -> None:
        """A reload may ask for another durability."""
        self._settings = settings
        self.db.execute(synchronous(settings))

    def reopen(self) -> None:
        """After a failed write nothing that this connection believes is to be trusted."""
        with suppress(sqlite3.Error):
            self.db.close()
        self.db = self._connect()

    def abandon(self) -> None:
        """Let go of a file as it is."""
        with suppress(sqlite3.Error):
            self.db.close()

    def close(self) -> None:
        """Writes the log back into the file where that is possible."""
        with suppress(sqlite3.Error):
            self.checkpoint(truncate=True)
        with suppress(sqlite3.Error):
            self.db.close()

    def _remember(self, now: datetime) -> None:
        """Read `memory`, and note what only an opening can know."""
        self.memory = read_memory(self.db)
        self.era = self.memory.era
        newest = self.db.execute(
            "SELECT max(queued_at), max(started_at), max(ended_at) FROM "
            "(SELECT queued_at, started_at, ended_at FROM runs ORDER BY seq DESC LIMIT ?)",
            (NEWEST_ROWS,),
        ).fetchone()
        last = self.db.execute("SELECT at FROM decisions ORDER BY seq DESC LIMIT 1").fetchone() or (None,)
        newest_us = max((at for at in (*newest, *last) if at is not None), default=0)
        back = micros(now) < newest_us - CLOCK_BACK_US
        waiting = self.db.execute(
            "SELECT 1 FROM leases WHERE ended_at IS NULL AND granted_at IS NULL LIMIT 1"
        ).fetchone()
        if not back and not waiting:
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            if back:
                self.era += 1
                self._write_meta({"era": str(self.era)})
                reason = f"history holds instants that are {(newest_us - micros(now)) / 1e6:.0f} s ahead of the clock"
                self._write_decisions([decision(now, Fact.CLOCK_STEPPED, "", "", reason)])
                self.memory = structs.replace(self.memory, era=self.era)
            self.db.execute(
                "UPDATE leases SET ended_at = ?, reason = 'the daemon ended before it was granted' "
                "WHERE ended_at IS NULL AND granted_at IS NULL",
                (micros(now),),
            )
            self.db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _begin_with(self, memory: Memory, aside: Path, now: datetime) -> None:
        batch = Batch(memory.era)
        batch.runs = {one.run.run_id: Told(one.run, batch.era, 1, one.boot_id, one.keeper) for one in memory.runs}
        batch.leases = {lease.lease_id: lease_row(lease, "") for lease in memory.leases}
        batch.meta = {key: value for key, value in memory.meta.items() if key != "output_bytes"}
        batch.learned = dict(memory.learned)
        batch.decisions = [decision(now, SET_ASIDE, "", "", f"history was damaged and begins anew; the old is {aside}")]
        self.write(batch)
        rows = [job_row(name, job, batch.era) for name, job in memory.jobs.items()]
        self.db.executemany(f"INSERT INTO jobs VALUES ({', '.join('?' * 12)})", rows)

    # --- writing --------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> list[tuple[str, str]]:
        """One transaction, whole or not at all. Claims that were refused: run id, and the run that has the fire."""
        db = self.db
        db.execute("BEGIN IMMEDIATE")
        try:
            for known in batch.jobs:
                self._write_jobs(known)
            refused = self._write_runs(batch) if batch.runs else []
            if batch.attempts:
                db.execute(WRITE_ATTEMPTS, (text(batch.attempts),))
            if batch.decisions:
                self._write_decisions(batch.decisions)
            if batch.facts:
                self._write_facts(batch)
            if batch.leases:
                leases = text(list(batch.leases.values()))
                db.execute(WRITE_LEASES, (leases,))
                db.execute(WRITE_LEASE_USES, (leases,))
            for job, paused_by, paused_at in batch.pauses.values():
                db.execute("UPDATE jobs SET paused_by = ?, paused_at = ? WHERE name = ?", (paused_by, paused_at, job))
            meta = batch.meta if batch.era == self.era else {**batch.meta, "era": str(batch.era)}
            if meta:
                self._write_meta(meta)
            if batch.learned:
                db.execute(WRITE_LEARNED, (text(batch.learned),))
            if batch.output_bytes:
                db.execute(ADD_OUTPUT, (batch.output_bytes,))
            db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self.era = batch.era
        return refused

    def _write_runs(self, batch: Batch) -> list[tuple[str, str]]:
        rows = [told.row() for told in batch.runs.values()]
        written = self._step(WRITE_RUNS, rows)
        if written == len(rows):
            return []
        refused = []
        for (run_id,) in self.db.execute(MISSING_RUNS, (text(list(batch.runs)),)).fetchall():
            row = dict(zip(RUN_COLUMNS, batch.runs[run_id].row(), strict=True))
            key = tuple(row[name] for name in ("job", "cause", "era", "scheduled_at", "request_id"))
            found = self.db.execute(HOLDER, key).fetchone()
            refused.append((run_id, found[0] if found else ""))
            reason = f"not recorded as a run of its own: this fire has run {refused[-1][1]} already"
            if row["reason"]:
                reason += f" ({row['reason']})"
            batch.decisions.append((row["queued_at"], Fact.REQUEST_REFUSED, row["job"], run_id, reason))
        return refused

    def _write_facts(self, batch: Batch) -> None:
        self._step(WRITE_FACTS, [(job, *structs.astuple(facts)) for job, facts in batch.facts.items()])

    def _step(self, statements: Mapping[int, str], rows: Sequence[tuple[Any, ...]]) -> int:
        """As few steps as the rows take; how many rows were written."""
        begin = written = 0
        for size, statement in statements.items():
            while len(rows) - begin >= size:
                values = list(chain.from_iterable(rows[begin : begin + size]))
                written += self.db.execute(statement, values).rowcount
                begin += size
        return written

    def _write_jobs(self, known: JobsKnown) -> None:
        if known.jobs:
            rows = [(name, timing, micros(at), boot_id) for name, timing, at, boot_id in known.jobs]
            self.db.execute(WRITE_JOBS, (text(rows),))
        if known.removed:
            for table, column in (("jobs", "name"), ("learned", "job")):
                names = f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))"
                self.db.execute(names, (text(known.removed),))

    def _write_decisions(self, rows: list[tuple[Any, ...]]) -> None:
        self.db.execute(WRITE_DECISIONS, (text(rows),))

    def _write_meta(self, values: Mapping[str, str]) -> None:
        self.db.execute(WRITE_META, (text(values),))

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Write the log back into the file; readers and writers go on. Truncating waits for nobody either."""
        self.db.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})").fetchone()


def synchronous(settings: HistorySettings) -> str:
    """FULL: each commit is on the disk before it returns. NORMAL: a power cut may take the last ones, and no more."""
    return f"PRAGMA synchronous = {'FULL' if settings.durability == 'full' else 'NORMAL'}"


def text(rows: object) -> str:
    """As JSON, for json_each."""
    return encode(rows).decode()


def busy(error: Exception) -> bool:
    """Somebody else holds a lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def sync_folder(folder: Path) -> None:
    """A new name is on the disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def damaged(error: Exception) -> bool:
    """The file itself is wrong, not what is around it. Primary codes are the low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def refuse_newer(path: Path) -> None:
    """Raises NewerSchemaError. First by the header alone; what only the log holds is read without writing."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if len(header) < 100 or not header.startswith(MAGIC):
        return
    version = int.from_bytes(header[VERSION_OFFSET : VERSION_OFFSET + 4], "big")
    if version <= VERSION and Path(f"{path}-wal").exists():
        with suppress(sqlite3.Error):
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_MS / 1000)
            try:
                version = version_of(db)
            finally:
                db.close()
    if version > VERSION:
        raise NewerSchemaError(
            f"{path} was written by a later tidegate (schema {version}, this one knows {VERSION}): it has not been "
            "touched; install that version again, or move the file away to begin a new account"
        )
