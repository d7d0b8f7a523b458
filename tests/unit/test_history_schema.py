"""A file of any earlier version becomes one of today, each step whole or not at all."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.history_world import NOW, SETTINGS

from tidegate.history import schema
from tidegate.history.blame import lock_holder
from tidegate.history.read import Reader
from tidegate.history.rows import attempt_row, attempt_view, run_of, run_row, view_of
from tidegate.history.schema import MIGRATIONS, VERSION, migrate, version_of
from tidegate.history.store import Store
from tidegate.model.run import Outcome, Run, State


def shape(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()


@pytest.mark.parametrize("version", range(VERSION + 1))
def test_every_version_becomes_that_of_today(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for step in MIGRATIONS[:version]:
            db.executescript(step)
        db.execute(f"PRAGMA user_version = {version}")
        migrate(db)
        assert version_of(db) == VERSION
        found = shape(db)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh)
        assert found == shape(fresh)
    store = Store.open(path, SETTINGS, now=NOW)
    assert store.memory.runs == ()
    store.close()


def test_a_step_that_fails_leaves_the_version_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x); CREATE TABLE jobs (x)"))
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        with pytest.raises(sqlite3.OperationalError):
            migrate(db)
        db.execute("ROLLBACK")  # as closing it would
        assert version_of(db) == VERSION
        assert "more" not in dict(shape(db))


def test_a_lock_is_read_from_the_kernels_table(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.touch()
    inode = path.stat().st_ino
    device = path.stat().st_dev
    where = f"{device >> 8 & 0xFFF:02x}:{device & 0xFF:02x}:{inode}"
    locks = tmp_path / "locks"
    locks.write_text(
        f"1: POSIX  ADVISORY  READ 1 {where} 0 EOF\n2: FLOCK ADVISORY WRITE 999999999 00:01:2 0 EOF\n"
        f"3: POSIX  ADVISORY  WRITE 999999999 {where} 120 120\n"
    )
    assert lock_holder(path, locks) == "pid 999999999"
    locks.write_text("1: half a line\n")
    assert lock_holder(path, locks) == ""
    assert lock_holder(path, tmp_path / "missing") == ""


def test_runs_of_before_python_jobs_have_no_result_no_error_and_no_eviction(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(MIGRATIONS[0] + "; PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO runs (run_id, job, task, cause, scheduled_at, era, fires, queued_at, catch_up, attempt, "
            "state, outcome, reason, output_bytes, output_dropped_bytes, output_note, boot_id, keeper) "
            "VALUES ('r1', 'job', '', 'schedule', 1, 0, 1, 1, 0, 1, 'finished', 'succeeded', '', 0, 0, '', '', '')"
        )
        migrate(db)
    reader = Reader(path)
    run = reader.run("r1")
    reader.close()
    assert run is not None and (run.outcome, run.result, run.error) == ("succeeded", None, None)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT evictions FROM runs").fetchall() == [(0,)]
        assert db.execute("SELECT count(*) FROM learned").fetchone() == (0,)


def test_a_result_and_a_traceback_come_back_as_they_were(tmp_path: Path) -> None:
    run = Run(
        run_id="r1", job="job", scheduled_at=NOW, queued_at=NOW, state=State.FINISHED, outcome=Outcome.FAILED,
        result='{"rows": [1, 2.5, null]}', error="Traceback\nValueError: ü",
    )  # fmt: skip
    row = run_row(run, era=0, fires=1, boot_id="", keeper="")
    assert run_of(row) == run
    view = view_of(row)
    assert (view.result, view.error) == ({"rows": [1, 2.5, None]}, "Traceback\nValueError: ü")
    assert attempt_view(attempt_row(run)).error == run.error
