"""Retention: by age, number and size, oldest first, rows and files together, in steps that hold nobody up."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.history_world import (
    NOW,
    SETTINGS,
    Opened,
    a_lease,
    a_run,
    at,
    finished,
    known,
    of_lease,
    queued,
    retrying,
    skipped,
)
from tests.unit.test_history_read import fill

from tidegate.history.entry import Entry, Note
from tidegate.history.prune import Pass
from tidegate.history.store import Store
from tidegate.history.writer import History
from tidegate.model.command import Fact
from tidegate.model.plan import HistorySettings
from tidegate.model.run import Run, Usage

DAY_S = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def wrote(path: Path, entries: Iterable[Entry]) -> None:
    async def play() -> None:
        opened = Opened(path)
        await opened.wrote(*entries)
        await opened.close()

    asyncio.run(play())


def pruned(path: Path, *, days_later: float = 0.0, sweep: bool = False, **settings: object) -> int:
    """All steps of one pass; how many there were."""
    store = Store.open(path, SETTINGS, now=NOW)
    chosen = HistorySettings(**settings)  # type: ignore[arg-type]
    count = sum(1 for _ in Pass(store, chosen, NOW + timedelta(days=days_later), sweep=sweep).steps())
    store.close()
    return count


def rows(path: Path, query: str = "SELECT run_id FROM runs ORDER BY seq") -> list[object]:
    with sqlite3.connect(path) as db:
        found = [row[0] for row in db.execute(query)]
    db.close()
    return found


def output(path: Path, run: Run, size: int = 10) -> Path:
    file = path.parent / "output" / run.job / f"{run.run_id}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    return file


def value(path: Path, run: Run, attempt: int = 1) -> Path:
    file = path.parent / "values" / f"{run.run_id}.{attempt}"
    file.parent.mkdir(exist_ok=True)
    file.write_text("name=value\n")
    return file


def test_what_is_older_than_keep_goes_with_its_files(path: Path) -> None:
    old, new = a_run("r1", 0), a_run("r2", 2 * DAY_S)
    tried = replace(old, attempt=2)
    entries = [queued(old), retrying(old), queued(tried), finished(tried), queued(new), finished(new)]
    wrote(path, entries)
    files = [output(path, old), value(path, old, 1), value(path, old, 2)]
    kept = [output(path, new), value(path, new)]
    pruned(path, days_later=3, keep_s=2 * DAY_S)
    assert rows(path) == ["r2"]
    assert rows(path, "SELECT run_id FROM attempts") == []
    assert not any(file.exists() for file in files)
    assert all(file.exists() for file in kept)


def test_age_counts_from_the_end_and_nothing_unended_goes(path: Path) -> None:
    waits, long, tries, over = (a_run(f"r{n}", n) for n in range(4))
    entries = [queued(waits), queued(long), queued(tries), queued(over), finished(over)]
    entries += [finished(long, seconds=2 * DAY_S), retrying(tries)]
    wrote(path, entries)
    file = output(path, waits)
    pruned(path, days_later=2.5, keep_s=DAY_S)
    assert rows(path) == ["r0", "r1", "r2"]
    pruned(path, days_later=100, keep_s=DAY_S, keep_runs=1, keep_bytes=1)
    assert rows(path) == ["r0", "r2"]
    assert file.exists()


def test_more_than_keep_runs_go_oldest_first(path: Path) -> None:
    runs = [a_run(f"r{n}", n) for n in range(10)]
    wrote(path, [*map(queued, runs), *map(finished, runs[1:])])
    pruned(path, keep_runs=4)
    assert rows(path) == ["r0", "r7", "r8", "r9"]


def test_more_than_keep_bytes_of_output_go_oldest_first(path: Path) -> None:
    runs = [a_run(f"r{n:03}", n) for n in range(600)]
    usage = Usage(output_bytes=3 * 2**20, output_dropped_bytes=2 * 2**20)
    wrote(path, [*map(queued, runs), *(finished(run, usage=usage) for run in runs)])
    assert rows(path, "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'output_bytes'") == [600 * 2**20]
    pruned(path, keep_bytes=350 * 2**20)
    assert rows(path)[0] == "r400"
    assert rows(path, "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'output_bytes'") == [200 * 2**20]


def test_what_a_withdrawn_retry_wrote_is_counted_once(path: Path) -> None:
    run = a_run()
    usage = Usage(output_bytes=100)
    tried = retrying(replace(run, usage=usage))
    wrote(path, [queued(run), tried])
    wrote(path, [finished(run, usage=usage)])
    assert rows(path, "SELECT value FROM meta WHERE key = 'output_bytes'") == ["100"]


def test_a_file_that_is_too_large_shrinks(path: Path) -> None:
    store = Store.open(path, SETTINGS, now=NOW)
    fill(store.db, 20_000)
    store.close()
    before = path.stat().st_size
    pruned(path, keep_bytes=before // 2)
    assert path.stat().st_size < 0.75 * before
    assert rows(path)[-1] == "r000019999"


def test_decisions_and_leases_go_with_their_time(path: Path) -> None:
    lease = a_lease("l1", granted_at=at(1), ended_at=at(2))
    entries: list[Entry] = [Note(at(n), "daemon.started", "", str(n)) for n in range(5)]
    entries += [Note(at(DAY_S), "daemon.started", "", "new")]
    entries += [of_lease(Fact.LEASE_GRANTED, lease), of_lease(Fact.LEASE_ENDED, lease)]
    entries += [of_lease(Fact.LEASE_GRANTED, a_lease("l2", granted_at=at(1)))]
    wrote(path, entries)
    pruned(path, days_later=1, keep_s=DAY_S / 2)
    assert rows(path, "SELECT reason FROM decisions") == ["new"]
    assert rows(path, "SELECT lease_id FROM leases") == ["l2"]
    assert rows(path, "SELECT seq FROM lease_uses") == [2]


def test_jobs_remember_what_they_did_when_their_runs_are_gone(path: Path) -> None:
    run = a_run()
    wrote(path, [known("backup"), queued(run), finished(run)])
    pruned(path, days_later=100, keep_s=DAY_S)
    assert rows(path) == []
    assert rows(path, "SELECT last_outcome FROM jobs WHERE last_fire_at IS NOT NULL") == ["succeeded"]


def test_files_without_a_row_are_swept_when_their_row_would_be_gone(path: Path) -> None:
    stays = a_run("r1", 2 * DAY_S)
    wrote(path, [known("backup"), queued(stays)])
    lost, young = a_run("lost"), a_run("young")
    gone_job = replace(lost, job="gone")
    files = {run.run_id: (output(path, run), value(path, run)) for run in (lost, young, stays)}
    other = output(path, gone_job)
    old_s = NOW.timestamp() - DAY_S
    for file in (*files["lost"], *files["r1"], other):
        os.utime(file, (old_s, old_s))
    os.utime(files["young"][0], (NOW.timestamp(),) * 2)
    os.utime(files["young"][1], (NOW.timestamp(),) * 2)
    pruned(path, keep_s=DAY_S / 2, sweep=True)
    assert [all(file.exists() for file in files[run]) for run in ("lost", "young", "r1")] == [False, True, True]
    assert not files["lost"][1].exists()
    assert not other.parent.exists()


def test_nothing_outside_the_state_folder_is_removed(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "r1.log").write_text("precious")
    (path.parent / "output").mkdir()
    (path.parent / "output" / "linked").symlink_to(outside)
    (path.parent / "output" / "plain").mkdir()
    (path.parent / "output" / "plain" / "r3.log").symlink_to(outside / "r1.log")
    runs = [a_run("r1", 0, job="linked"), a_run("../../outside/r1", 1, job="plain"), a_run("r1", 2, job="../outside")]
    runs[2] = replace(runs[2], run_id="r2")
    runs.append(a_run("r3", 3, job="plain"))
    wrote(path, [*map(queued, runs), *map(finished, runs)])
    pruned(path, days_later=100, keep_s=DAY_S, sweep=True)
    assert rows(path) == []
    assert (outside / "r1.log").read_text() == "precious"
    assert not (path.parent / "output" / "plain" / "r3.log").is_symlink()


def test_a_row_whose_file_went_before_a_crash_goes_with_the_next_pass(path: Path) -> None:
    """Files first: the other order would leave a file that nobody knows."""
    run = a_run()
    wrote(path, [queued(run), finished(run)])
    file = output(path, run)
    store = Store.open(path, SETTINGS, now=NOW)
    store.db.execute("CREATE TRIGGER crash BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'crash'); END")
    with pytest.raises(sqlite3.Error):
        list(Pass(store, HistorySettings(keep_s=1), at(100 * DAY_S), sweep=False).steps())
    store.db.execute("DROP TRIGGER crash")
    store.close()
    assert not file.exists()
    assert rows(path) == ["r1"]
    pruned(path, days_later=100, keep_s=1)
    assert rows(path) == []


def test_steps_are_short(path: Path) -> None:
    store = Store.open(path, SETTINGS, now=NOW)
    fill(store.db, 6_000)
    took_s = []
    begun_s = time.perf_counter()
    for _ in Pass(store, HistorySettings(keep_s=1), at(100 * DAY_S), sweep=True).steps():
        took_s.append(time.perf_counter() - begun_s)
        begun_s = time.perf_counter()
    store.close()
    assert len(took_s) >= 30
    assert sorted(took_s)[len(took_s) // 2] < 0.02


def test_an_urgent_write_does_not_wait_for_retention(path: Path) -> None:
    store = Store.open(path, SETTINGS, now=NOW)
    fill(store.db, 30_000)
    store.close()

    async def play() -> None:
        opened = Opened(path, HistorySettings(keep_s=1))  # by the clock of this machine all of it is old
        opened.history.prune_soon()
        ticket = opened.history.write([queued(a_run("now", 40_000))], True)
        begun_s = time.perf_counter()
        await opened.written(ticket)
        assert time.perf_counter() - begun_s < 0.5
        with sqlite3.connect(path) as db:
            (left,) = db.execute("SELECT count(*) FROM runs").fetchone()
        db.close()
        assert left > 10_000, "retention was through before: nothing was shown"
        await opened.close()

    asyncio.run(play())


def test_the_writer_prunes_when_it_is_asked_and_takes_new_settings(path: Path) -> None:
    runs = [a_run(f"r{n}", n) for n in range(8)]
    wrote(path, [*map(queued, runs), *map(finished, runs), skipped(a_run("r9", 9))])

    async def play() -> None:
        settings = HistorySettings(keep_s=100 * 365 * DAY_S)
        history = History.open(path, settings, boot_id="b", now=at(20))
        history.configure(replace(settings, keep_runs=3, durability="normal"))
        history.prune_soon()
        async with asyncio.timeout(10):
            while len(rows(path)) > 3:
                await asyncio.sleep(0)
        await history.close()

    asyncio.run(play())
    assert rows(path) == ["r6", "r7", "r9"]


def test_the_log_does_not_grow_without_bound(path: Path) -> None:
    async def play() -> None:
        opened = Opened(path)
        for n in range(0, 8_000, 400):
            runs = [a_run(f"r{i:06}", i) for i in range(n, n + 400)]
            await opened.wrote(*map(queued, runs), *map(finished, runs))
        assert path.with_name("history.sqlite-wal").stat().st_size < 10 * 2**20
        await opened.close()

    asyncio.run(play())
