"""What is written to history comes back when it is opened again: runs, jobs, leases, claims."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.history_world import (
    NOW,
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

from tidegate.history.entry import JobsKnown, Learned, Meta
from tidegate.history.store import ROWS_A_STEP
from tidegate.model.command import Fact, Record
from tidegate.model.run import Cause, Outcome, Run, State, Usage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


def test_an_unended_run_comes_back_as_it_was(path: Path) -> None:
    run = a_run(
        request_id="q1", cause=Cause.MANUAL, catch_up=True, args={"name": "välue"}, task="t", reason="", attempt=2
    )
    run = replace(
        run,
        state=State.STOPPING,
        pid=4,
        pid_start=9,
        started_at=at(1.5),
        stop=Outcome.TIMED_OUT,
        usage=Usage(1.5, 2, 3, 4, "note", 5, 6),
    )
    again = asyncio.run(remembered(path, [Record(fact=Fact.RUN_STOPPING, at=NOW, job=run.job, run=run)]))
    (unended,) = again.memory.runs
    assert unended.run == run
    assert unended.boot_id == "boot-1"


def test_every_field_of_a_run_has_its_column(path: Path) -> None:
    """A field that is added to Run or Usage and not to the tables would be lost without a word."""
    columns = {str(row[1]) for row in _columns_of_a_new_file(path)}
    assert {"returned" if name == "result" else name for name in Run.__struct_fields__} - {"usage"} <= columns
    assert set(Usage.__struct_fields__) <= columns


def _columns_of_a_new_file(path: Path) -> list[tuple[object, ...]]:
    asyncio.run(remembered(path, []))
    return rows(path, "PRAGMA table_info(runs)")


def test_ended_runs_are_no_longer_in_memory_and_the_others_are_oldest_first(path: Path) -> None:
    one, two, three = a_run("r1", 0), a_run("r2", 1), a_run("r3", 2)
    entries = [queued(one), queued(two), queued(three), starting(two), finished(one)]
    again = asyncio.run(remembered(path, entries))
    assert [(one.run.run_id, one.run.state) for one in again.memory.runs] == [
        ("r2", State.STARTING),
        ("r3", State.QUEUED),
    ]


def test_the_keeper_that_was_asked_stands_in_the_row_of_a_starting_attempt(path: Path) -> None:
    async def play() -> None:
        opened = Opened(path)
        opened.history.keeper = "keeper-1"
        waits, goes = a_run("r1"), a_run("r2", 1)
        await opened.wrote(queued(waits), queued(goes), starting(goes))
        opened.history.keeper = "keeper-2"
        await opened.wrote(started(goes))
        await opened.close()

    asyncio.run(play())
    again = asyncio.run(remembered(path, []))
    assert [(one.run.run_id, one.keeper) for one in again.memory.runs] == [("r1", ""), ("r2", "keeper-1")]


def test_a_fire_is_claimed_once_whoever_asks(path: Path) -> None:
    async def play() -> Opened:
        opened = Opened(path)
        first, again, other = a_run("r1"), a_run("r2"), a_run("r3", 60)
        await opened.wrote(queued(first), starting(first), finished(first))
        await opened.wrote(queued(other), queued(again), starting(again), starting(other))
        await opened.wrote(finished(again, Outcome.CANCELLED), finished(other))
        await opened.close()
        return opened

    opened = asyncio.run(play())
    assert [what for what in opened.told if what[0] == "refused"] == [("refused", "r2", "r1")]
    assert opened.told.index(("refused", "r2", "r1")) < opened.told.index(("written", 2))
    assert rows(path, "SELECT run_id, state FROM runs ORDER BY seq") == [("r1", "finished"), ("r3", "finished")]
    assert [row[0] for row in rows(path, "SELECT run_id FROM decisions")] == ["r2"]


@pytest.mark.parametrize("count", [ROWS_A_STEP[0], 2 * sum(ROWS_A_STEP) + 2])
def test_of_many_claims_at_once_those_are_refused_that_others_have_and_all_else_is_kept(path: Path, count: int) -> None:
    taken = {7, count - 1}

    async def play() -> Opened:
        opened = Opened(path)
        await opened.wrote(*(queued(a_run(f"first{number}", number)) for number in sorted(taken)))
        await opened.wrote(*(queued(a_run(f"r{number}", number)) for number in range(count)))
        await opened.close()
        return opened

    told = asyncio.run(play()).told
    assert [what for what in told if what[0] == "refused"] == [
        ("refused", f"r{number}", f"first{number}") for number in sorted(taken)
    ]
    kept = [f"first{number}" for number in sorted(taken)] + [f"r{n}" for n in range(count) if n not in taken]
    assert rows(path, "SELECT run_id FROM runs ORDER BY seq") == [(run_id,) for run_id in kept]


def test_two_claims_of_one_fire_in_one_batch_leave_the_first(path: Path) -> None:
    async def play() -> Opened:
        opened = Opened(path)
        await opened.wrote(queued(a_run("r1")), queued(a_run("r2")), queued(a_run("r3", 1)))
        await opened.close()
        return opened

    assert ("refused", "r2", "r1") in asyncio.run(play()).told
    assert rows(path, "SELECT run_id FROM runs ORDER BY seq") == [("r1",), ("r3",)]


@pytest.mark.parametrize(
    ("cause", "requests", "kept"),
    [
        (Cause.SCHEDULE, (None, None), 1),
        (Cause.BOOT, (None, None), 1),
        (Cause.AFTER, (None, None), 2),
        (Cause.MANUAL, (None, None), 2),
        (Cause.MANUAL, ("one", "two"), 2),
        (Cause.MANUAL, ("one", "one"), 1),
    ],
)
def test_what_makes_two_fires_the_same(path: Path, cause: Cause, requests: tuple[str | None, ...], kept: int) -> None:
    runs = [queued(a_run(f"r{n}", cause=cause, request_id=request)) for n, request in enumerate(requests)]
    asyncio.run(remembered(path, runs))
    assert rows(path, "SELECT count(*) FROM runs") == [(kept,)]


def test_a_request_that_is_repeated_later_is_the_same_request(path: Path) -> None:
    first, again = (a_run(f"r{n}", n, cause=Cause.MANUAL, request_id="q") for n in (1, 2))
    asyncio.run(remembered(path, [queued(first), queued(again)]))
    assert rows(path, "SELECT run_id FROM runs") == [("r1",)]


def test_after_the_clock_was_set_back_an_instant_is_a_new_fire(path: Path) -> None:
    before, after = a_run("r1"), a_run("r2")
    again = asyncio.run(remembered(path, [queued(before), stepped(0, -3600.0), queued(after)]))
    assert [one.run.run_id for one in again.memory.runs] == ["r1", "r2"]
    assert again.memory.era == 1


def test_a_clock_set_forward_begins_no_new_era(path: Path) -> None:
    again = asyncio.run(remembered(path, [queued(a_run("r1")), stepped(0, 3600.0), queued(a_run("r2"))]))
    assert [one.run.run_id for one in again.memory.runs] == ["r1"]
    assert again.memory.era == 0


def test_opening_with_a_clock_behind_the_record_begins_a_new_era(path: Path) -> None:
    asyncio.run(remembered(path, [queued(a_run("r1"))]))
    assert asyncio.run(remembered(path, [], now=at(-4))).memory.era == 0
    assert asyncio.run(remembered(path, [], now=at(-6))).memory.era == 1
    assert rows(path, "SELECT value FROM meta WHERE key = 'era'") == [("1",)]


def test_jobs_keep_what_their_runs_did(path: Path) -> None:
    good, bad, missed = a_run("r1", 0), a_run("r2", 60), a_run("r3", 120)
    entries = [
        known("backup", when=at(-10)),
        queued(good),
        finished(good),
        queued(bad),
        finished(bad, Outcome.FAILED, seconds=5),
        skipped(missed),
    ]
    job = asyncio.run(remembered(path, entries)).memory.jobs["backup"]
    assert (job.timing, job.since) == ("cron 1", at(-10))
    assert job.last_fire_at == at(120)
    assert (job.last_run_id, job.last_run_at, job.last_outcome) == ("r2", at(65), "failed")
    assert job.last_success_at == at(1)


def test_of_many_jobs_at_once_each_keeps_what_its_own_run_did(path: Path) -> None:
    names = [f"job{number}" for number in range(sum(ROWS_A_STEP) + 2)]
    runs = [a_run(f"r{number}", number, name) for number, name in enumerate(names)]
    ends = [finished(run, Outcome.FAILED if number % 3 else Outcome.SUCCEEDED) for number, run in enumerate(runs)]
    jobs = asyncio.run(remembered(path, [known(*names), *map(queued, runs), *ends])).memory.jobs
    for number, name in enumerate(names):
        job = jobs[name]
        assert (job.last_fire_at, job.last_run_id, job.last_run_at) == (at(number), f"r{number}", ends[number].at)
        assert job.last_success_at == (None if number % 3 else ends[number].at)


def test_the_newest_instant_is_the_last_fire_in_whatever_order_they_come(path: Path) -> None:
    entries = [known("backup"), queued(a_run("r1", 60)), queued(a_run("r2", 0))]
    assert asyncio.run(remembered(path, entries)).memory.jobs["backup"].last_fire_at == at(60)


def test_a_manual_run_is_no_last_fire(path: Path) -> None:
    entries = [known("backup"), queued(a_run("r1", 60, cause=Cause.MANUAL))]
    assert asyncio.run(remembered(path, entries)).memory.jobs["backup"].last_fire_at is None


def test_after_the_clock_was_set_back_the_last_fire_goes_back_with_it(path: Path) -> None:
    entries = [known("backup"), queued(a_run("r1", 3600)), stepped(0, -3600.0), queued(a_run("r2", 60))]
    again = asyncio.run(remembered(path, entries))
    assert again.memory.jobs["backup"].last_fire_at == at(60)


def test_since_starts_afresh_with_a_new_timing_only(path: Path) -> None:
    entries = [known("backup"), known("backup", when=at(60)), known("other", when=at(60))]
    asyncio.run(remembered(path, entries))
    again = asyncio.run(remembered(path, [known("other", timing="cron 2", when=at(120), boot_id="b")]))
    assert again.memory.jobs["backup"].since == NOW
    assert (again.memory.jobs["other"].since, again.memory.jobs["other"].boot_id) == (at(120), "b")


def test_a_boot_claim_marks_its_job_with_the_boot(path: Path) -> None:
    entries = [known("backup", boot_id="boot-0"), queued(a_run(cause=Cause.BOOT))]
    assert asyncio.run(remembered(path, entries)).memory.jobs["backup"].boot_id == "boot-1"


def test_removed_jobs_are_forgotten(path: Path) -> None:
    again = asyncio.run(remembered(path, [known("backup", "other"), JobsKnown((), removed=("backup",))]))
    assert list(again.memory.jobs) == ["other"]


def test_what_the_pool_learned_comes_back_and_goes_with_its_job(path: Path) -> None:
    entries = [known("backup", "other"), Learned({"backup": "1", "other": "2"}), Learned({"other": "3"})]
    again = asyncio.run(remembered(path, entries))
    assert again.memory.learned == {"backup": "1", "other": "3"}
    again = asyncio.run(remembered(path, [JobsKnown((), removed=("backup",))]))
    assert again.memory.learned == {"other": "3"}


def test_a_run_that_was_killed_for_memory_is_still_one_after_a_restart(path: Path) -> None:
    run = replace(a_run(), state=State.STOPPING, pid=4, pid_start=9, started_at=at(1), evictions=2, attempt=3)
    run = replace(run, stop=Outcome.KILLED_FOR_MEMORY)
    record = Record(fact=Fact.RUN_EVICTED, at=at(2), job=run.job, run=run, reason="memory is short")
    again = asyncio.run(remembered(path, [queued(a_run()), record]))
    assert [(one.run.evictions, one.run.stop) for one in again.memory.runs] == [(2, Outcome.KILLED_FOR_MEMORY)]


def test_pauses_survive_and_are_lifted(path: Path) -> None:
    def pause(job: str, fact: Fact) -> Record:
        return Record(fact=fact, at=NOW, job=job, reason="by ann")

    entries = [
        known("backup", "other"),
        pause("backup", Fact.JOB_PAUSED),
        pause("other", Fact.JOB_PAUSED),
        pause("other", Fact.JOB_RESUMED),
    ]
    jobs = asyncio.run(remembered(path, entries)).memory.jobs
    assert (jobs["backup"].paused_by, jobs["backup"].paused_at) == ("ann", NOW)
    assert (jobs["other"].paused_by, jobs["other"].paused_at) == (None, None)


def test_granted_leases_survive_and_those_that_waited_are_over(path: Path) -> None:
    granted = a_lease("l1", granted_at=at(1), pid=4, pid_start=5)
    ended = a_lease("l2", granted_at=at(1), ended_at=at(2))
    entries = [
        of_lease(Fact.LEASE_WAITING, a_lease("l1")),
        of_lease(Fact.LEASE_GRANTED, granted),
        of_lease(Fact.LEASE_GRANTED, ended),
        of_lease(Fact.LEASE_ENDED, ended, "its holder ended"),
        of_lease(Fact.LEASE_WAITING, a_lease("l3")),
    ]
    assert asyncio.run(remembered(path, entries)).memory.leases == (granted,)
    told = rows(path, "SELECT lease_id, ended_at IS NULL, reason FROM leases ORDER BY seq")
    assert told == [("l1", 1, ""), ("l2", 0, "its holder ended"), ("l3", 0, "the daemon ended before it was granted")]


def test_each_attempt_that_was_tried_again_has_its_row(path: Path) -> None:
    run = a_run()
    second = replace(run, attempt=2)
    asyncio.run(remembered(path, [queued(run), retrying(run), queued(second), retrying(second, "exit code 2")]))
    assert rows(path, "SELECT attempt, reason FROM attempts") == [(1, "exit code 1"), (2, "exit code 2")]


def test_meta_is_a_value_by_key(path: Path) -> None:
    again = asyncio.run(remembered(path, [Meta("a", "1"), Meta("b", "2"), Meta("a", "3")]))
    assert again.memory.meta == {"a": "3", "b": "2"}


def test_decisions_are_kept_and_what_stands_in_the_run_is_not_repeated(path: Path) -> None:
    run = a_run()
    entries = [
        queued(run),
        starting(run),
        started(run),
        finished(run),
        skipped(a_run("r2", 1)),
        queued(a_run("r3", 2), reason="the run before it has ended"),
        Record(fact=Fact.DAEMON_STARTED, at=NOW, reason="pid 4"),
    ]
    asyncio.run(remembered(path, entries))
    assert rows(path, "SELECT fact, run_id FROM decisions") == [("run.queued", "r3"), ("daemon.started", "")]


def test_no_environment_and_no_command_is_written(path: Path) -> None:
    columns = {str(row[1]) for row in _columns_of_a_new_file(path)}
    assert not {"env", "command", "shell", "environment"} & columns


def test_what_is_not_urgent_waits_for_company_and_nothing_overtakes(path: Path) -> None:
    async def play() -> Opened:
        opened = Opened(path)
        run = a_run()
        for record in (queued(run), starting(run), started(run)):
            opened.history.write([record], False)
        await opened.wrote(finished(run))
        await opened.wrote(Meta("a", "1"), urgent=False)
        await opened.close()
        return opened

    opened = asyncio.run(play())
    tickets = [what[1] for what in opened.told if what[0] == "written"]
    assert tickets in ([4, 5], [1, 4, 5])  # one transaction for all that came at once
    assert rows(path, "SELECT state FROM runs") == [("finished",)]


def test_close_writes_what_is_pending_and_ends_the_thread(path: Path) -> None:
    async def play() -> None:
        opened = Opened(path)
        opened.history.write([queued(a_run())], False)
        await opened.close()

    asyncio.run(play())
    assert rows(path, "SELECT run_id FROM runs") == [("r1",)]
    assert not [thread for thread in threading.enumerate() if thread.name == "history"]
    assert not path.with_name("history.sqlite-wal").exists()


def test_nobody_else_may_read_the_file(path: Path) -> None:
    asyncio.run(remembered(path, []))
    assert path.stat().st_mode & 0o777 == 0o600
