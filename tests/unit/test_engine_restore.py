"""What a new life of the daemon makes of what the last one left: through the dispatcher, one turn after another."""

from datetime import timedelta

import pytest
from engine_bench import EPOCH, Bench, job, records, signals, starts

from tidegate.engine.retry import delay_s
from tidegate.model.command import Acknowledge, Fact
from tidegate.model.event import (
    ClaimRefused,
    DrainRequested,
    Exited,
    Fired,
    Interrupted,
    KeeperLost,
    PauseRequested,
    PausesRestored,
    Recovered,
    Restored,
    ResumeRequested,
    StartFailed,
    StartsHeld,
    Triggered,
)
from tidegate.model.job import CatchUp, OnInterrupted, Overlap, Retries
from tidegate.model.limits import CATCH_UP_FIRES_MAX, FORK_RETRY_S, FORK_RETRY_S_MAX, RERUNS_MAX
from tidegate.model.run import Cause, Outcome, Run, Skip, State, Usage


def left(state, run_id="old1", name="a", ago_s=60.0, **fields):
    """A run of an earlier life."""
    at = EPOCH - timedelta(seconds=ago_s)
    facts = {"cause": Cause.SCHEDULE, "scheduled_at": at, "queued_at": at} | fields
    return Run(run_id=run_id, job=name, state=state, **facts)


def only(commands, fact):
    (record,) = records(commands, fact)
    return record


# --- runs that waited -----------------------------------------------------------------------------------


def test_a_queued_run_keeps_its_age_and_goes_before_younger_ones():
    bench = Bench(job("a"), job("b"), job("blocker"), slots=1)
    bench.running("blocker")
    bench.fire("b")
    said = bench.tell(Restored(left(State.QUEUED), job("a")))
    assert only(said, Fact.RUN_RESTORED).run.run_id == "old1"
    assert [run.job for run, _, _ in bench.dispatcher.waiting(bench.now(), 10)] == ["a", "b"]


def test_a_start_that_never_came_to_be_is_done_once_with_the_same_attempt():
    bench = Bench(job("a"))
    said = bench.tell(Restored(left(State.STARTING, attempt=2), job("a")))
    assert [(run.run_id, run.attempt) for run in starts(said)] == [("old1", 2)]
    assert starts(bench.tell(Restored(left(State.STARTING, attempt=2), job("a")))) == []


def test_a_held_run_waits_behind_a_recovered_one_and_queues_when_that_has_ended():
    bench = Bench(job("a", overlap=Overlap.QUEUE))
    definition = bench.dispatcher.jobs["a"]
    said = bench.tell(
        Recovered(left(State.RUNNING, "old1"), definition, 100),
        Restored(left(State.HELD, "old2", ago_s=30), definition),
    )
    assert starts(said) == []
    assert only(said, Fact.RUN_RESTORED).run.state is State.HELD
    said = bench.tell(Exited("old1", 1, 0, None, Usage()))
    assert [run.run_id for run in starts(said)] == ["old2"]


def test_a_held_run_whose_predecessor_is_gone_queues_at_once():
    bench = Bench(job("a", overlap=Overlap.QUEUE))
    assert [run.run_id for run in starts(bench.tell(Restored(left(State.HELD), job("a"))))] == ["old1"]


def test_a_retrying_run_waits_out_what_is_left_of_its_delay_by_the_wall_clock():
    retries = Retries(max=3, delay_s=100.0)
    wait_s = delay_s("old1", 1, retries)
    ended_at = EPOCH - timedelta(seconds=40)
    bench = Bench(job("a", retries=retries))
    definition = bench.dispatcher.jobs["a"]
    was = left(State.RETRYING, outcome=Outcome.FAILED, ended_at=ended_at)
    assert starts(bench.tell(Restored(was, definition))) == []
    assert starts(bench.wait(wait_s - 40 - 0.01)) == []
    assert [run.attempt for run in starts(bench.wait(0.02))] == [2]


@pytest.mark.parametrize("ended_s", [1e6, -1e6], ids=["long over", "clock set back"])
def test_a_delay_is_never_longer_than_it_could_have_been(ended_s):
    bench = Bench(job("a", retries=Retries(max=3, delay_s=1.0, max_delay_s=5.0)))
    was = left(State.RETRYING, outcome=Outcome.FAILED, ended_at=EPOCH - timedelta(seconds=ended_s))
    bench.tell(Restored(was, bench.dispatcher.jobs["a"]))
    bench.wait(10.0)
    assert bench.dispatcher.run("old1").attempt == 2


def test_a_claimed_fire_that_is_older_than_the_window_is_skipped_and_a_younger_one_runs():
    bench = Bench(job("a", overlap=Overlap.ALLOW, catch_up_window_s=600))
    definition = bench.dispatcher.jobs["a"]
    said = bench.tell(
        Restored(left(State.QUEUED, "old1", ago_s=601), definition),
        Restored(left(State.QUEUED, "old2", ago_s=599), definition),
    )
    skipped = only(said, Fact.RUN_SKIPPED)
    assert (skipped.run.run_id, skipped.run.skip) == ("old1", Skip.CATCH_UP)
    assert "older than catch_up_window (600 s)" in skipped.reason
    assert [run.run_id for run in starts(said)] == ["old2"]


@pytest.mark.parametrize("fields", [{"cause": Cause.MANUAL}, {"attempt": 2}], ids=["manual", "begun"])
def test_what_was_asked_for_or_has_begun_is_never_stale(fields):
    bench = Bench(job("a", catch_up_window_s=600))
    assert starts(bench.tell(Restored(left(State.QUEUED, ago_s=90_000, **fields), bench.dispatcher.jobs["a"])))


def test_a_start_deadline_goes_on_counting_while_the_daemon_is_down():
    bench = Bench(job("a", start_deadline_s=90), job("blocker"), slots=1)
    bench.running("blocker")
    bench.tell(Restored(left(State.QUEUED, ago_s=60), bench.dispatcher.jobs["a"]))
    assert records(bench.wait(29), Fact.RUN_SKIPPED) == []
    assert only(bench.wait(2), Fact.RUN_SKIPPED).run.skip is Skip.START_DEADLINE


@pytest.mark.parametrize(
    ("definition", "word"), [(None, "removed"), (job("a", enabled=False), "disabled")], ids=["removed", "disabled"]
)
@pytest.mark.parametrize(("state", "outcome"), [(State.QUEUED, Outcome.CANCELLED), (State.RETRYING, Outcome.TIMED_OUT)])
def test_a_run_whose_job_is_gone_ends_with_what_is_known(definition, word, state, outcome):
    bench = Bench()
    was = left(state, outcome=Outcome.TIMED_OUT if state is State.RETRYING else None)
    ended = only(bench.tell(Restored(was, definition)), Fact.RUN_FINISHED)
    assert ended.run.outcome is outcome
    assert ended.reason == f"its job was {word} while tidegate was down"
    assert bench.dispatcher.runs() == []


def test_who_was_paused_stays_paused_until_resumed():
    bench = Bench(job("a"))
    said = bench.tell(PausesRestored(frozenset({"a"})), Restored(left(State.QUEUED), bench.dispatcher.jobs["a"]))
    assert starts(said) == []
    assert records(bench.fire("a"), Fact.RUN_SKIPPED)[0].run.skip is Skip.PAUSED
    assert [run.run_id for run in starts(bench.tell(ResumeRequested("a", "ops")))] == ["old1"]


# --- runs that go on ------------------------------------------------------------------------------------


def test_a_run_that_was_being_stopped_is_stopped_again_and_keeps_what_it_will_have_been():
    bench = Bench(job("a", kill_grace_s=5))
    was = left(State.STOPPING, stop=Outcome.TIMED_OUT, reason="ran too long", started_at=EPOCH)
    assert signals(bench.tell(Recovered(was, bench.dispatcher.jobs["a"], 100))) == [15]
    assert signals(bench.wait(5.1)) == [9]
    ended = only(bench.tell(Exited("old1", 1, 0, None, Usage())), Fact.RUN_FINISHED)
    assert (ended.run.outcome, ended.reason) == (Outcome.TIMED_OUT, "ran too long")


def test_a_time_out_that_passed_while_the_daemon_was_down_is_due_at_once():
    bench = Bench(job("a", timeout_s=30))
    bench.tell(
        Recovered(left(State.RUNNING, started_at=EPOCH - timedelta(seconds=31)), bench.dispatcher.jobs["a"], 100)
    )
    assert bench.dispatcher.run("old1").state is State.STOPPING
    bench = Bench(job("a", timeout_s=30))
    bench.tell(
        Recovered(left(State.RUNNING, started_at=EPOCH - timedelta(seconds=29)), bench.dispatcher.jobs["a"], 100)
    )
    assert bench.dispatcher.run("old1").state is State.RUNNING
    assert signals(bench.wait(1.1)) == [15]


def test_what_the_keeper_ended_at_its_time_out_has_timed_out():
    bench = Bench(job("a"))
    said = bench.tell(
        Recovered(left(State.RUNNING), bench.dispatcher.jobs["a"], 100),
        Exited("old1", 1, None, 15, Usage(), timed_out=True),
    )
    assert only(said, Fact.RUN_FINISHED).run.outcome is Outcome.TIMED_OUT


def test_recovered_runs_hold_their_slots_even_above_the_limit():
    bench = Bench(job("a", overlap=Overlap.ALLOW), job("b"), slots=1)
    definition = bench.dispatcher.jobs["a"]
    bench.tell(*(Recovered(left(State.RUNNING, f"old{i}"), definition, 100 + i) for i in range(2)))
    assert bench.dispatcher.counts().running == 2
    assert starts(bench.fire("b")) == []
    assert starts(bench.tell(Exited("old0", 1, 0, None, Usage()))) == []
    assert [run.job for run in starts(bench.tell(Exited("old1", 1, 0, None, Usage())))] == ["b"]


# --- runs of which nobody knows the end -----------------------------------------------------------------


def lost(definition, gone=True, attempt=1, outcome=Outcome.UNKNOWN):
    return Interrupted(left(State.RUNNING, attempt=attempt), definition, outcome, "nobody knows", gone)


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.INTERRUPTED])
def test_an_end_that_cannot_be_known_is_told_as_that_and_not_tried_again(outcome):
    bench = Bench(job("a", retries=Retries(max=5)))
    said = bench.tell(lost(bench.dispatcher.jobs["a"], outcome=outcome))
    ended = only(said, Fact.RUN_FINISHED)
    assert (ended.run.outcome, ended.reason) == (outcome, "nobody knows")
    assert Acknowledge("old1", 1) in said
    assert bench.dispatcher.counts().running == 0


def test_on_interrupted_rerun_starts_another_attempt_at_once():
    bench = Bench(job("a", on_interrupted=OnInterrupted.RERUN))
    said = bench.tell(lost(bench.dispatcher.jobs["a"]))
    assert only(said, Fact.RUN_RETRYING).run.outcome is Outcome.UNKNOWN
    assert [(run.run_id, run.attempt) for run in starts(said + bench.wait(0.0))] == [("old1", 2)]


@pytest.mark.parametrize(("max", "attempt", "again"), [(0, RERUNS_MAX, True), (0, RERUNS_MAX + 1, False)])
def test_a_job_that_takes_the_machine_down_is_not_run_again_for_ever(max, attempt, again):
    bench = Bench(job("a", on_interrupted=OnInterrupted.RERUN, retries=Retries(max=max)))
    said = bench.tell(lost(bench.dispatcher.jobs["a"], attempt=attempt))
    assert bool(records(said, Fact.RUN_RETRYING)) is again


def test_nothing_is_run_again_while_its_process_goes_on_or_its_job_is_gone():
    bench = Bench(job("a", on_interrupted=OnInterrupted.RERUN))
    assert records(bench.tell(lost(bench.dispatcher.jobs["a"], gone=False)), Fact.RUN_FINISHED)
    bench = Bench()
    assert records(bench.tell(lost(None)), Fact.RUN_FINISHED)


def test_a_lost_keeper_reruns_only_what_does_not_go_on_and_was_not_being_stopped():
    jobs = [job(name, on_interrupted=OnInterrupted.RERUN) for name in ("dead", "alive", "stopped")]
    bench = Bench(*jobs)
    runs = {name: bench.running(name) for name in ("dead", "alive", "stopped")}
    bench.load(*jobs)
    bench.dispatcher._runs.stop(  # as a cancel does
        bench.dispatcher._runs.lives[runs["stopped"].run_id], Outcome.CANCELLED, "cancelled", bench.now()
    )
    said = bench.tell(KeeperLost("killed", frozenset({runs["alive"].run_id})))
    assert [record.job for record in records(said, Fact.RUN_RETRYING)] == ["dead"]
    assert {record.job for record in records(said, Fact.RUN_FINISHED)} == {"alive", "stopped"}


# --- starts that cannot be ------------------------------------------------------------------------------


def short(run):
    return StartFailed(run.run_id, run.attempt, "no process could be made", transient=True)


def test_a_start_for_want_of_processes_is_tried_again_as_the_same_attempt_and_keeps_its_place():
    bench = Bench(job("a"), job("b"))
    run = starts(bench.fire("a"))[0]
    bench.now_s = 0.1
    said = bench.tell(short(run), Fired("b", (bench.now().wall,)))
    assert starts(said) == []
    assert only(said, Fact.STARTS_HELD).reason.startswith("no process could be made; the next start is tried in 0.5 s")
    again = bench.wait(FORK_RETRY_S)
    assert [(one.job, one.attempt) for one in starts(again)] == [("a", 1), ("b", 1)]
    assert records(again, Fact.STARTS_RESUMED)


def test_waits_for_processes_double_up_to_a_bound_and_begin_anew_after_a_start():
    bench = Bench(job("a"))
    run = starts(bench.fire("a"))[0]
    waits = []
    for _ in range(9):
        bench.tell(short(run))
        begun_s = bench.now_s
        while not starts(bench.wait(0.25)):
            pass
        waits.append(bench.now_s - begun_s)
    assert waits == [min(FORK_RETRY_S * 2**n, FORK_RETRY_S_MAX) for n in range(9)]
    bench.started(run)
    bench.exited(run)
    bench.tell(short(starts(bench.fire("a"))[0]))
    assert starts(bench.wait(FORK_RETRY_S))


def test_a_run_that_was_cancelled_while_its_start_failed_for_want_of_processes_is_cancelled():
    bench = Bench(job("a"))
    run = starts(bench.fire("a"))[0]
    bench.dispatcher._runs.stop(bench.dispatcher._runs.lives[run.run_id], Outcome.CANCELLED, "cancelled", bench.now())
    assert only(bench.tell(short(run)), Fact.RUN_FINISHED).run.outcome is Outcome.CANCELLED


def test_a_start_that_is_said_to_have_failed_after_it_was_said_to_have_begun_is_a_failed_attempt():
    bench = Bench(job("a"))
    run = bench.running("a")
    assert only(bench.tell(short(run)), Fact.RUN_FINISHED).run.outcome is Outcome.FAILED_TO_START


def test_nothing_starts_while_history_cannot_be_written_and_everything_in_order_afterwards():
    bench = Bench(job("a"), job("b"))
    said = bench.tell(StartsHeld("history", "disk full"), StartsHeld("storage", "little space"))
    assert [record.reason for record in records(said, Fact.STARTS_HELD)] == ["disk full", "little space"]
    assert starts(bench.fire("a") + bench.fire("b")) == []
    assert bench.dispatcher.waiting(bench.now(), 5)[0][1:] == ("history", "disk full")
    assert starts(bench.tell(StartsHeld("history", ""))) == []
    said = bench.tell(StartsHeld("storage", ""))
    assert [run.job for run in starts(said)] == ["a", "b"]
    assert only(said, Fact.STARTS_RESUMED).reason == "no longer: little space"


def test_a_reason_that_changes_is_told_once():
    bench = Bench(job("a"))
    said = bench.tell(StartsHeld("history", "x"), StartsHeld("history", "y"), StartsHeld("storage", ""))
    assert len(records(said, Fact.STARTS_HELD)) == 1
    assert records(said, Fact.STARTS_RESUMED) == []


@pytest.mark.parametrize(
    ("slots", "fact", "word"), [(1, Fact.RUN_FINISHED, Outcome.CANCELLED), (0, Fact.RUN_SKIPPED, Skip.OVERLAP)]
)
def test_a_claim_that_another_run_has_ends_without_a_process(slots, fact, word):
    bench = Bench(job("a"), slots=slots)
    bench.fire("a")
    run = bench.dispatcher.runs()[0]
    ended = only(bench.tell(ClaimRefused(run.run_id, "other")), fact)
    assert word in (ended.run.outcome, ended.run.skip)
    assert "as run other" in ended.reason
    assert bench.dispatcher.runs() == []
    assert bench.tell(ClaimRefused("nobody", "other")) == []


# --- fires that were missed -----------------------------------------------------------------------------


def test_a_fire_missed_while_down_is_a_catch_up_however_recent():
    bench = Bench(job("a"))
    at = EPOCH - timedelta(seconds=1)
    said = bench.tell(Fired("a", (at,), down_until=EPOCH))
    assert only(said, Fact.RUN_QUEUED).run.catch_up
    assert not only(Bench(job("a")).tell(Fired("a", (at,))), Fact.RUN_QUEUED).run.catch_up


def test_what_was_passed_over_while_down_is_told_as_that():
    bench = Bench(job("a", catch_up=CatchUp.NONE))
    skipped = only(bench.tell(Fired("a", (EPOCH - timedelta(seconds=1),), down_until=EPOCH)), Fact.RUN_SKIPPED)
    assert "while tidegate was down" in skipped.reason


def test_no_more_than_a_bound_is_made_up_for_and_the_rest_is_on_record():
    bench = Bench(job("a", catch_up=CatchUp.ALL, overlap=Overlap.ALLOW), slots=2000)
    times = tuple(EPOCH - timedelta(seconds=200 + i) for i in reversed(range(CATCH_UP_FIRES_MAX + 1)))
    said = bench.tell(Fired("a", times, older_missed=True))
    assert len(starts(said)) == CATCH_UP_FIRES_MAX
    skipped = only(said, Fact.RUN_SKIPPED)
    assert skipped.run.scheduled_at == times[0]
    assert "at least a fire" in skipped.reason
    assert f"no more than {CATCH_UP_FIRES_MAX} are made up for at once" in skipped.reason


# --- the end, with what waits ---------------------------------------------------------------------------


def test_a_drain_keeps_the_queue_and_refuses_what_is_asked_for():
    bench = Bench(job("a"), job("b"), slots=1)
    run = bench.running("a")
    bench.fire("b")
    said = bench.tell(DrainRequested(60, "SIGTERM"), Triggered("b", "r", "ops"))
    assert "1 that wait are kept for the next start" in only(said, Fact.DAEMON_DRAINING).reason
    assert only(said, Fact.REQUEST_REFUSED).reason.endswith("tidegate is stopping")
    assert starts(bench.exited(run)) == []
    assert bench.dispatcher.drained
    assert [one.state for one in bench.dispatcher.runs()] == [State.QUEUED]


def test_a_paused_job_says_so_while_it_is_held_after_a_restart():
    bench = Bench(job("a"))
    bench.tell(PauseRequested("a", "ops"), Restored(left(State.QUEUED), bench.dispatcher.jobs["a"]))
    assert bench.dispatcher.waiting(bench.now(), 5)[0][1:] == ("paused", "job a is paused")
