"""History as others read it: pages, filters, decisions; beside a writer, without one, and fast at any size."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import product
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
    remembered,
    retrying,
    skipped,
    started,
    starting,
    stepped,
)

from tidegate.history.entry import HistoryError, NewerSchemaError, NoHistoryError, Note
from tidegate.history.query import OUTCOMES, SKIPS, UNENDED, page_query, result_words
from tidegate.history.read import Reader
from tidegate.history.schema import VERSION
from tidegate.history.store import Store
from tidegate.history.why import AROUND_MAX, RESIZES_MAX
from tidegate.model.command import Fact, Record
from tidegate.model.run import Cause, Outcome, Skip

MANY = 50_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every word, 50 jobs, a run a second."""
    path = tmp_path_factory.mktemp("large") / "history.sqlite"
    store = Store.open(path, SETTINGS, now=NOW)
    fill(store.db, MANY)
    store.close()
    yield path


def fill(db: sqlite3.Connection, count: int) -> None:
    """Rows as the writer makes them, but at once."""
    words = [*((word, "finished") for word in OUTCOMES), *((word, "skipped") for word in SKIPS)]
    db.execute(
        """
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1),
        words AS (SELECT key AS k, value ->> 0 AS word, value ->> 1 AS state FROM json_each(?2))
        INSERT INTO runs (run_id, job, task, cause, scheduled_at, era, fires, queued_at, catch_up, attempt, started_at,
            ended_at, state, outcome, skip, reason, duration_s, output_bytes, output_dropped_bytes, output_note,
            boot_id, keeper)
        SELECT printf('r%09d', i), 'job-' || (i % 50), '', 'schedule', ?3 + i * 1000000, 0, 1, ?3 + i * 1000000, 0, 1,
            ?3 + i * 1000000, ?3 + i * 1000000 + 500000, state, iif(state = 'finished', word, NULL),
            iif(state = 'skipped', word, NULL), '', 0.5, 0, 0, '', 'b', 'k'
        FROM n JOIN words ON k = iif(i % 1000 = 0, 1 + (i / 1000) % 15, 0)""",
        (count, str(words).replace("(", "[").replace(")", "]").replace("'", '"'), int(NOW.timestamp()) * 1_000_000),
    )


def ids(page: list[object]) -> list[str]:
    return [run.run_id for run in page]  # type: ignore[attr-defined]


def test_pages_are_newest_first_and_leave_nothing_out(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run(f"r{n}", n)) for n in range(5)]))
    reader = Reader(path)
    page, before = reader.runs(limit=2)
    assert ids(page) == ["r4", "r3"]
    page, before = reader.runs(limit=2, before=before)
    assert ids(page) == ["r2", "r1"]
    assert [ids(part) if isinstance(part, list) else part for part in reader.runs(limit=2, before=before)] == [
        ["r0"],
        None,
    ]


def test_a_page_that_ends_exactly_has_no_next(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run(f"r{n}", n)) for n in range(2)]))
    assert Reader(path).runs(limit=2)[1] is None


def test_filters_are_those_of_the_words(path: Path) -> None:
    runs = [a_run(f"r{n}", n, job="a" if n % 2 else "b") for n in range(6)]
    entries = [
        *map(queued, runs[:4]),
        finished(runs[0]),
        finished(runs[1], Outcome.FAILED),
        starting(runs[2]),
        skipped(runs[4], Skip.PAUSED),
        skipped(runs[5]),
    ]
    asyncio.run(remembered(path, entries))
    reader = Reader(path)
    for filters, expected in (
        ({}, "r5 r4 r3 r2 r1 r0"),
        ({"job": "a"}, "r5 r3 r1"),
        ({"outcome": "failed"}, "r1"),
        ({"outcome": "skipped"}, "r5 r4"),
        ({"outcome": "paused"}, "r4"),
        ({"state": "finished"}, "r1 r0"),
        ({"state": "starting"}, "r2"),
        ({"state": "skipped", "job": "a"}, "r5"),
        ({"state": "skipped", "outcome": "failed"}, ""),
        ({"outcome": "nonsense"}, ""),
        ({"since": at(4)}, "r5 r4"),
        ({"until": at(1)}, "r1 r0"),
        ({"since": at(1), "until": at(3), "job": "a"}, "r3 r1"),
        ({"since": at(100)}, ""),
        ({"until": at(-100)}, ""),
    ):
        assert " ".join(ids(reader.runs(**filters)[0])) == expected, filters  # type: ignore[arg-type]


def test_every_filter_finds_what_a_plain_search_finds(large: Path) -> None:
    reader = Reader(large)
    with sqlite3.connect(large) as db:
        for job, outcome, state, span in product(
            (None, "job-0"), (None, "failed", "overlap"), (None, "finished", "running"), (None, (100.0, 40_000.0))
        ):
            since, until = (None, None) if span is None else (at(span[0]), at(span[1]))
            page, _ = reader.runs(job, outcome, state, since, until, limit=7)
            where = ["1"] + [f"job = '{job}'"] * bool(job) + [f"result = '{outcome}'"] * bool(outcome)
            where += [f"state = '{state}'"] * bool(state)
            where += [f"queued_at BETWEEN {us(since)} AND {us(until)}"] if since and until else []
            plain = db.execute(f"SELECT run_id FROM runs WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT 7")
            assert ids(page) == [run_id for (run_id,) in plain], (job, outcome, state, span)
    db.close()


def us(when: datetime) -> int:
    return round(when.timestamp() * 1e6)


def test_no_filter_walks_the_whole_account(large: Path) -> None:
    with sqlite3.connect(large) as db:
        for job, outcome, state in product((None, "job-1"), (None, *OUTCOMES, *SKIPS), (None, *UNENDED, "finished")):
            words = result_words(outcome, state)
            if words == () or (job is None and words is None):
                continue  # nothing is looked at, or the newest rows one by one
            query, arguments = page_query(job, words, at(0), at(9), (5, 9), 3)
            plan = " | ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", arguments))
            assert "SCAN runs" not in plan, plan
            assert "TEMP B-TREE" not in plan or "UNION" in plan, plan
    db.close()


def test_answers_come_at_once_for_every_filter(large: Path) -> None:
    reader = Reader(large)
    slowest_s = 0.0
    for job, outcome, state, since, until in product(
        (None, "job-7", "none"), (None, "interrupted", "skipped"), (None, "running", "finished"), (None, at(49_000)),
        (None, at(-5), at(25_000)),
    ):  # fmt: skip
        begun_s = time.perf_counter()
        reader.runs(job, outcome, state, since, until)
        slowest_s = max(slowest_s, time.perf_counter() - begun_s)
    assert slowest_s < 0.1


def test_times_are_found_across_clocks_that_were_set_back(path: Path) -> None:
    entries = [
        queued(a_run("r1", 7200)),
        stepped(0, -7200.0),
        queued(a_run("r2", 10)),
        queued(a_run("r3", 20)),
        stepped(0, -30.0),
        queued(a_run("r4", 5)),
    ]
    asyncio.run(remembered(path, entries))
    reader = Reader(path)
    assert ids(reader.runs(since=at(7000))[0]) == ["r1"]
    assert ids(reader.runs(until=at(15))[0]) == ["r4", "r2"]
    assert ids(reader.runs(since=at(8), until=at(30))[0]) == ["r3", "r2"]


def test_one_run_with_its_attempts(path: Path) -> None:
    run = a_run()
    second = replace(run, attempt=2)
    asyncio.run(remembered(path, [queued(run), retrying(run), queued(second), finished(second)]))
    reader = Reader(path)
    found = reader.run("r1")
    assert found is not None
    assert (found.attempt, found.outcome, found.cpu_s, found.output_bytes) == (2, "succeeded", 0.5, 10)
    assert [(one.attempt, one.outcome, one.exit_code) for one in reader.attempts("r1")] == [(1, "failed", 1)]
    assert reader.run("r2") is None


def test_the_latest_run_of_a_job_is_none_that_was_skipped(path: Path) -> None:
    entries = [known("backup"), queued(a_run("r1", 0)), finished(a_run("r1", 0)), skipped(a_run("r2", 1))]
    asyncio.run(remembered(path, entries))
    reader = Reader(path)
    latest = reader.latest("backup")
    assert latest is not None
    assert latest.run_id == "r1"
    assert reader.latest("other") is None
    assert ids(list(reader.latest_each().values())) == ["r1"]
    assert reader.jobs()["backup"].last_run_id == "r1"


def test_durations_are_those_of_successes(path: Path) -> None:
    runs = [a_run(f"r{n}", n) for n in range(4)]
    entries = [*map(queued, runs), *(finished(run, seconds=n + 1) for n, run in enumerate(runs[:3]))]
    entries.append(finished(runs[3], Outcome.FAILED))
    asyncio.run(remembered(path, entries))
    assert Reader(path).durations("backup") == [3.0, 2.0, 1.0]
    assert Reader(path).durations("backup", limit=2) == [3.0, 2.0]


def test_a_skipped_row_says_for_how_many_fires_it_stands(path: Path) -> None:
    asyncio.run(remembered(path, [skipped(a_run(), Skip.CATCH_UP, "missed", count=12)]))
    (run,) = Reader(path).runs()[0]
    assert (run.fires, run.skip, run.state) == (12, "catch_up", "skipped")


def test_who_held_a_resource_and_for_how_long(path: Path) -> None:
    entries = []
    for n in range(3):
        lease = a_lease(f"l{n}", granted_at=at(n), ended_at=at(n + 1))
        entries += [of_lease(Fact.LEASE_GRANTED, lease), of_lease(Fact.LEASE_ENDED, lease, "given back")]
    asyncio.run(remembered(path, entries))
    found = Reader(path).lease_history("database", 2)
    assert [(one.lease_id, one.granted_at, one.ended_at, one.reason) for one in found] == [
        ("l2", at(2), at(3), "given back"),
        ("l1", at(1), at(2), "given back"),
    ]
    assert Reader(path).lease_history("gpu") == []


# --- why ---------------------------------------------------------------------------------------------------------


def facts(path: Path, when: datetime | None = None, job: str = "backup") -> list[tuple[str, str]]:
    return [(line.fact, line.reason) for line in Reader(path).why(job, when)]


def test_why_tells_one_fire_from_its_own_rows(path: Path) -> None:
    run = a_run()
    entries = [queued(run), starting(run), started(run), finished(run, Outcome.FAILED, reason="exit code 1")]
    asyncio.run(remembered(path, entries))
    assert facts(path) == [
        ("run.queued", "due 2026-03-01 12:00:00 UTC (schedule), noticed 0.000 s later"),
        ("run.started", "0.000 s after it was queued"),
        ("run.finished", "failed: exit code 1"),
    ]


def test_why_takes_the_fire_at_or_before_the_moment(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run("r1", 0)), queued(a_run("r2", 3600)), queued(a_run("r3", 7200))]))
    told = Reader(path).why("backup", at(3600))
    assert {line.run_id for line in told if line.run_id} == {"r2"}
    told = Reader(path).why("backup", at(5000))
    assert (told[0].fact, told[0].reason) == (
        "history.nearest",
        "no fire of backup is on record for 2026-03-01 13:23:20 UTC; "
        "the nearest before was due 2026-03-01 13:00:00 UTC",
    )
    assert {line.run_id for line in told if line.run_id} == {"r2"}
    assert {line.run_id for line in Reader(path).why("backup") if line.run_id} == {"r3"}


def test_why_says_where_there_is_nothing(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run("r1", 0))]))
    assert facts(path, at(-60)) == [
        (
            "history.none",
            "no fire of backup is on record at or before 2026-03-01 11:59:00 UTC; "
            "the nearest after was due 2026-03-01 12:00:00 UTC",
        )
    ]
    assert facts(path, job="other") == [("history.none", "no fire of other is on record")]


def test_why_shows_the_skip_and_the_pause_behind_it(path: Path) -> None:
    entries = [
        Record(fact=Fact.JOB_PAUSED, at=at(-90_000), job="backup", reason="by ann"),
        Record(fact=Fact.JOB_PAUSED, at=at(-90_000), job="other", reason="by ann"),
        skipped(a_run(), Skip.PAUSED, "the job is paused"),
    ]
    asyncio.run(remembered(path, entries))
    assert facts(path) == [
        ("job.paused", "by ann"),
        ("run.skipped", "paused: the job is paused; due 2026-03-01 12:00:00 UTC (schedule)"),
    ]


def test_why_shows_what_was_decided_about_the_run_and_the_daemon_around_it(path: Path) -> None:
    run = a_run()
    held = replace(run, reason="waits for run r0 of the same job")
    entries = [
        Note(at(-7200), "daemon.started", "", "long before"),
        Note(at(-60), "daemon.started", "", "a minute before"),
        Record(fact=Fact.RUN_HELD, at=NOW, job="backup", run=held, reason=held.reason),
        Note(at(5), "starts.held", "", "the disk is full"),
        retrying(run),
    ]
    asyncio.run(remembered(path, entries))
    assert [fact for fact, _ in facts(path)] == [
        "daemon.started",
        "run.queued",
        "run.held",
        "run.retrying",
        "starts.held",
    ]


def test_why_says_first_that_there_is_nothing(path: Path) -> None:
    asyncio.run(remembered(path, [Note(at(-60), "daemon.started", "", "0.1"), Note(at(0), "clock.stepped", "", "")]))
    assert [fact for fact, _ in facts(path)] == ["history.none"]
    assert [fact for fact, _ in facts(path, at(0))] == ["history.none", "daemon.started", "clock.stepped"]


def test_why_tells_what_happened_at_one_instant_in_the_order_in_which_it_did(path: Path) -> None:
    notes = [Note(at(5), fact, "", "") for fact in ("daemon.draining", "daemon.drained")]
    asyncio.run(remembered(path, [queued(a_run()), *notes]))
    assert [fact for fact, _ in facts(path)][-2:] == ["daemon.draining", "daemon.drained"]


def test_why_leaves_out_what_concerns_an_earlier_fire_or_none(path: Path) -> None:
    background = [
        Note(at(-1800), "starts.held", "", "still true"),
        Note(at(-1700), "daemon.started", "", "before the fire before"),
        queued(a_run("r0", -1000)),
        Note(at(-900), "daemon.drained", "", "and it began again"),
        Note(at(-800), "daemon.started", "", "once"),
        Note(at(-700), "daemon.started", "", "again"),
        Note(at(-600), "config.reloaded", "", "new"),
        Record(fact=Fact.JOB_PAUSED, at=at(-500), job="backup", reason="by ann"),
        Record(fact=Fact.JOB_RESUMED, at=at(-400), job="backup", reason="by ann"),
        Note(at(-300), "request.refused", "other", "not ours"),
    ]
    entries = [*background, queued(a_run()), finished(a_run(), seconds=3.0), Note(at(4), "daemon.drained", "", "")]
    asyncio.run(remembered(path, entries))
    assert [(fact, reason) for fact, reason in facts(path) if not fact.startswith("run")] == [
        ("starts.held", "still true"),
        ("daemon.started", "again"),
        ("config.reloaded", "new"),
    ]


def test_why_shows_the_stop_and_the_start_between_a_fire_and_when_it_was_noticed(path: Path) -> None:
    late = replace(a_run("r1", -600), queued_at=NOW)
    entries = [Note(at(-500), "daemon.drained", "", ""), Note(at(-60), "daemon.started", "", ""), queued(late)]
    asyncio.run(remembered(path, entries))
    assert [fact for fact, _ in facts(path)][:3] == ["daemon.drained", "daemon.started", "run.queued"]


def test_why_shows_how_the_pool_moved_while_the_run_waited_and_hides_nothing_behind_that(path: Path) -> None:
    def resized(seconds: float) -> Record:
        return Record(fact=Fact.POOL_RESIZED, at=at(seconds), reason=f"at {seconds:g}")

    run, begun = a_run(), started(a_run())
    entries = [
        Note(at(-1800), "starts.held", "", ""),
        *(resized(-second) for second in range(AROUND_MAX, 0, -1)),
        queued(run),
        *(resized(second) for second in range(1, RESIZES_MAX + 3)),
        replace(begun, run=replace(begun.run, started_at=at(60))),
        resized(61),
    ]
    asyncio.run(remembered(path, entries))
    told = facts(path)
    assert [fact for fact, _ in told if fact.startswith(("starts", "run"))] == [
        "starts.held",
        "run.queued",
        "run.started",
    ]
    assert [reason for fact, reason in told if fact == "pool.resized"] == [f"at {n}" for n in range(3, RESIZES_MAX + 3)]


def test_why_shows_that_a_run_was_frozen_thawed_and_killed_for_memory(path: Path) -> None:
    begun = started(a_run()).run
    brakes = [
        Record(fact=fact, at=at(second), job="backup", run=begun, reason=reason)
        for second, (fact, reason) in enumerate(
            [(Fact.RUN_FROZEN, "short"), (Fact.RUN_THAWED, "it fits"), (Fact.RUN_EVICTED, "shorter")], 1
        )
    ]
    asyncio.run(remembered(path, [queued(a_run()), started(a_run()), *brakes]))
    assert facts(path)[2:] == [("run.frozen", "short"), ("run.thawed", "it fits"), ("run.evicted", "shorter")]


def test_why_finds_a_moment_within_fires_that_were_skipped_together(path: Path) -> None:
    entries = [queued(a_run("r1", 0)), skipped(a_run("r2", 7200), Skip.CATCH_UP, "missed 12 fires", count=12)]
    asyncio.run(remembered(path, entries))
    assert {line.run_id for line in Reader(path).why("backup", at(3600))} == {"", "r1", "r2"}


# --- the file ----------------------------------------------------------------------------------------------------


def test_reading_where_nothing_is_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoHistoryError):
        Reader(tmp_path / "history.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_reading_without_a_daemon_creates_nothing(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run())]))
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.parent.iterdir()}
    reader = Reader(path)
    reader.runs()
    reader.close()
    assert {entry.name: entry.stat().st_mtime_ns for entry in path.parent.iterdir()} == before


def test_reading_beside_a_writer_sees_what_is_committed(path: Path) -> None:
    async def play() -> None:
        opened = Opened(path)
        await opened.wrote(queued(a_run("r1", 0)))
        reader = Reader(path)
        assert ids(reader.runs()[0]) == ["r1"]
        await opened.wrote(queued(a_run("r2", 1)))
        assert ids(reader.runs()[0]) == ["r2", "r1"]
        await opened.close()

    asyncio.run(play())


def test_a_reader_from_before_the_daemon_sees_what_it_writes(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run("r1", 0))]))
    reader = Reader(path)

    async def play() -> None:
        opened = Opened(path)
        await opened.wrote(queued(a_run("r2", 1)))
        assert ids(reader.runs()[0]) == ["r2", "r1"]
        await opened.close()

    asyncio.run(play())


def test_a_file_that_was_replaced_is_opened_anew(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run("r1", 0))]))
    reader = Reader(path)
    assert ids(reader.runs()[0]) == ["r1"]
    path.rename(path.with_name("aside"))
    asyncio.run(remembered(path, [queued(a_run("r2", 1))]))
    assert ids(reader.runs()[0]) == ["r2"]


def test_a_reader_cannot_write(path: Path) -> None:
    asyncio.run(remembered(path, []))
    with pytest.raises(sqlite3.OperationalError):
        Reader(path)._connection().execute("DELETE FROM runs")


def test_a_later_schema_is_refused_and_an_empty_file_is_no_history(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(NewerSchemaError):
        Reader(path)
    assert issubclass(NewerSchemaError, HistoryError)
    path.write_bytes(b"")
    with pytest.raises(NoHistoryError):
        Reader(path)


def test_no_cause_escapes_the_search_for_the_nearest_fire(path: Path) -> None:
    for n, cause in enumerate(Cause):
        asyncio.run(remembered(path, [queued(a_run(f"r{n}", n * 600, cause=cause))]))
        told = Reader(path).why("backup", at(n * 600))
        assert {line.run_id for line in told if line.run_id} == {f"r{n}"}, cause
