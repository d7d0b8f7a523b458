"""What the engine decides, by behaviour. Time is an argument; nothing sleeps."""

from datetime import timedelta

import pytest
from engine_bench import Bench, job, records, signals, starts

from tidegate.engine.ids import RunIds
from tidegate.engine.lifecycle import ALLOWED, move
from tidegate.engine.retry import delay_s
from tidegate.model.command import Acknowledge, Fact, Record, Start
from tidegate.model.event import (
    CancelRequested,
    DrainRequested,
    Fired,
    KeeperLost,
    PauseRequested,
    Recovered,
    ResumeRequested,
    StopRequested,
    Triggered,
)
from tidegate.model.job import CatchUp, Overlap, Retries
from tidegate.model.run import Cause, Outcome, Run, Skip, State


def test_a_fire_is_recorded_before_it_is_started():
    said = Bench(job()).fire("a")
    kinds = [command.fact if isinstance(command, Record) else type(command) for command in said]
    assert kinds == [Fact.RUN_QUEUED, Fact.RUN_STARTING, Start]


def test_a_run_that_exits_zero_has_succeeded_and_is_acknowledged_after_its_record():
    bench = Bench(job())
    run = bench.running("a")
    bench.now_s = 3.0
    said = bench.exited(run)
    assert [type(command) for command in said] == [Record, Acknowledge]
    ended = records(said, Fact.RUN_FINISHED)[0].run
    assert (ended.outcome, ended.exit_code, ended.duration_s, ended.attempt) == (Outcome.SUCCEEDED, 0, 3.0, 1)


@pytest.mark.parametrize(
    ("code", "signal", "outcome", "reason"),
    [
        (3, None, Outcome.FAILED, "exit code 3"),
        (None, 11, Outcome.FAILED, "killed by SIGSEGV"),
        (None, 64, Outcome.FAILED, "killed by signal 64"),
        (None, None, Outcome.UNKNOWN, "its exit status cannot be known"),
    ],
)
def test_how_an_attempt_ended_is_said_in_words(code, signal, outcome, reason):
    bench = Bench(job())
    ended = records(bench.exited(bench.running("a"), code, signal), Fact.RUN_FINISHED)[0]
    assert (ended.run.outcome, ended.reason) == (outcome, reason)


def test_success_exit_codes_are_successes():
    bench = Bench(job(success_exit_codes=(0, 4)))
    ended = records(bench.exited(bench.running("a"), 4), Fact.RUN_FINISHED)[0].run
    assert ended.outcome is Outcome.SUCCEEDED


def test_a_second_fire_is_skipped_while_the_first_runs_and_the_reason_names_it():
    bench = Bench(job())
    run = bench.running("a")
    skipped = records(bench.fire("a"), Fact.RUN_SKIPPED)[0]
    assert skipped.run.skip is Skip.OVERLAP
    assert run.run_id in skipped.reason
    bench.exited(run)
    assert starts(bench.fire("a"))


def test_manual_runs_obey_overlap_too():
    bench = Bench(job())
    bench.running("a")
    skipped = records(bench.tell(Triggered("a", "r1", "root")), Fact.RUN_SKIPPED)[0]
    assert (skipped.run.skip, skipped.run.cause, skipped.run.request_id) == (Skip.OVERLAP, Cause.MANUAL, "r1")


def test_overlap_queue_runs_one_after_the_other():
    bench = Bench(job(overlap=Overlap.QUEUE))
    first = bench.running("a")
    held = [records(bench.fire("a"), Fact.RUN_HELD)[0].run for _ in range(2)]
    said = bench.exited(first)
    assert [run.run_id for run in starts(said)] == [held[0].run_id]
    bench.started(held[0])
    assert [run.run_id for run in starts(bench.exited(held[0]))] == [held[1].run_id]


def test_overlap_allow_runs_side_by_side():
    bench = Bench(job(overlap=Overlap.ALLOW))
    assert bench.running("a").run_id != bench.running("a").run_id


def test_overlap_replace_stops_the_old_run_and_starts_the_new_one_when_it_is_gone():
    bench = Bench(job(overlap=Overlap.REPLACE))
    first = bench.running("a")
    said = bench.fire("a")
    assert signals(said) == [15]
    assert starts(said) == []
    second = records(said, Fact.RUN_HELD)[0].run
    third_said = bench.fire("a")
    assert [r.run.run_id for r in records(third_said, Fact.RUN_SKIPPED)] == [second.run_id]
    third = records(third_said, Fact.RUN_HELD)[0].run
    said = bench.exited(first, None, 15)
    assert records(said, Fact.RUN_FINISHED)[0].run.outcome is Outcome.CANCELLED
    assert [run.run_id for run in starts(said)] == [third.run_id]


def test_overlap_replace_takes_the_place_of_a_run_between_tries_and_of_the_one_that_waits_for_it():
    bench = Bench(job(overlap=Overlap.REPLACE, retries=Retries(max=3)))
    first = bench.running("a")
    bench.fire("a")
    bench.exited(first, 1)  # stopped, so not tried again: the second one starts
    second = bench.dispatcher.runs()[0]
    bench.started(second)
    bench.load(job(overlap=Overlap.QUEUE, retries=Retries(max=3)))
    bench.exited(second, 1)
    bench.fire("a")
    bench.load(job(overlap=Overlap.REPLACE))
    said = bench.fire("a")
    facts = [command.fact for command in said if isinstance(command, Record)]
    assert facts == [Fact.RUN_SKIPPED, Fact.RUN_FINISHED, Fact.RUN_QUEUED, Fact.RUN_STARTING]


def test_time_out_sends_term_then_kill_after_the_grace_and_the_run_has_timed_out():
    bench = Bench(job(timeout_s=10, kill_grace_s=3))
    run = bench.running("a")
    assert signals(bench.wait(9.9)) == []
    assert signals(bench.wait(0.2)) == [15]
    assert signals(bench.wait(2.8)) == []
    assert signals(bench.wait(0.2)) == [9]
    ended = records(bench.exited(run, None, 9), Fact.RUN_FINISHED)[0]
    assert ended.run.outcome is Outcome.TIMED_OUT
    assert "timeout of 10 s" in ended.reason


def test_a_run_that_answers_term_with_exit_zero_has_still_timed_out():
    bench = Bench(job(timeout_s=1))
    run = bench.running("a")
    bench.wait(1.1)
    assert records(bench.exited(run, 0), Fact.RUN_FINISHED)[0].run.outcome is Outcome.TIMED_OUT


def test_the_time_out_counts_from_the_start_not_from_the_queue():
    bench = Bench(job("a", timeout_s=5), job("b"), slots=1)
    blocker = bench.running("b")
    bench.fire("a")
    bench.wait(60)
    run = starts(bench.exited(blocker))[0]
    bench.started(run)
    assert signals(bench.wait(4.9)) == []
    assert signals(bench.wait(0.2)) == [15]


def test_retries_keep_the_run_id_count_attempts_and_hold_the_overlap_but_no_slot():
    bench = Bench(job("a", retries=Retries(max=2, delay_s=10, jitter=0)), job("b"), slots=1)
    run = bench.running("a")
    said = bench.exited(run, 1)
    assert records(said, Fact.RUN_RETRYING)[0].run.outcome is Outcome.FAILED
    assert bench.dispatcher.counts().running == 0
    assert records(bench.fire("a"), Fact.RUN_SKIPPED)[0].run.skip is Skip.OVERLAP
    bench.exited(bench.running("b"))
    second = starts(bench.wait(10.1))[0]
    assert (second.run_id, second.attempt) == (run.run_id, 2)
    bench.started(second)
    bench.exited(second, 1)
    third = starts(bench.wait(20.1))[0]
    bench.started(third)
    ended = records(bench.exited(third, 1), Fact.RUN_FINISHED)[0].run
    assert (ended.outcome, ended.attempt) == (Outcome.FAILED, 3)


def test_only_the_named_exit_codes_are_retried():
    bench = Bench(job(retries=Retries(max=2, on_exit_codes=(75,))))
    assert records(bench.exited(bench.running("a"), 1), Fact.RUN_FINISHED)
    assert records(bench.exited(bench.running("a"), 75), Fact.RUN_RETRYING)


def test_a_start_that_failed_is_recorded_with_its_reason_and_retried():
    bench = Bench(job(retries=Retries(max=1, jitter=0)))
    run = starts(bench.fire("a"))[0]
    assert "no such program" in records(bench.start_failed(run), Fact.RUN_RETRYING)[0].reason
    again = starts(bench.wait(11))[0]
    ended = records(bench.start_failed(again), Fact.RUN_FINISHED)[0].run
    assert (ended.outcome, ended.duration_s) == (Outcome.FAILED_TO_START, None)


def test_backoff_grows_is_capped_and_its_jitter_is_a_function_of_the_run():
    retries = Retries(max=9, delay_s=10, factor=2, max_delay_s=60, jitter=0)
    assert [delay_s("x", attempt, retries) for attempt in (1, 2, 3, 4, 2000)] == [10, 20, 40, 60, 60]
    shaken = Retries(max=9, delay_s=10, jitter=0.1)
    delays = {delay_s(f"run{i}", 1, shaken) for i in range(100)}
    assert delay_s("x", 1, shaken) == delay_s("x", 1, shaken)
    assert len(delays) == 100
    assert all(9 <= delay <= 11 for delay in delays)


def test_a_queued_run_is_skipped_when_its_start_deadline_passes():
    bench = Bench(job("a", start_deadline_s=30), job("b"), slots=1)
    bench.running("b")
    bench.fire("a")
    skipped = records(bench.wait(31), Fact.RUN_SKIPPED)[0]
    assert skipped.run.skip is Skip.START_DEADLINE
    assert bench.dispatcher.next_deadline() is not None  # b's time-out still stands


def test_a_started_run_no_longer_has_a_start_deadline():
    bench = Bench(job(start_deadline_s=30))
    bench.running("a")
    assert records(bench.wait(31), Fact.RUN_SKIPPED) == []


def test_the_queue_is_ordered_by_priority_then_age_then_due_time_then_id():
    bench = Bench(*(job(name, priority=p) for name, p in [("low", -1), ("first", 0), ("second", 0), ("high", 1)]),
                  job("blocker"), slots=1)  # fmt: skip
    blocker = bench.running("blocker")
    bench.fire("low")
    bench.now_s += 1
    bench.fire("first")
    bench.now_s += 1
    bench.fire("second")
    bench.fire("high")
    order = []
    current = blocker
    for _ in range(4):
        current = starts(bench.exited(current))[0]
        bench.started(current)
        order.append(current.job)
    assert order == ["high", "first", "second", "low"]


def test_equal_age_is_decided_by_due_time():
    bench = Bench(job("later"), job("sooner"), job("blocker"), slots=1)
    blocker = bench.running("blocker")
    wall = bench.now().wall
    bench.tell(Fired("later", (wall,)), Fired("sooner", (wall - timedelta(seconds=5),)))
    assert starts(bench.exited(blocker))[0].job == "sooner"


def test_waiting_raises_priority_so_that_nothing_starves():
    bench = Bench(job("low"), job("high", priority=1), job("blocker"), slots=1)
    blocker = bench.running("blocker")
    bench.fire("low")
    bench.now_s += 61
    bench.fire("high")
    assert starts(bench.exited(blocker))[0].job == "low"


def test_no_more_runs_than_the_pool_has_slots():
    bench = Bench(*(job(f"j{i}") for i in range(10)), slots=3)
    said = [starts(bench.fire(f"j{i}")) for i in range(10)]
    assert sum(map(len, said)) == 3
    waiting = bench.dispatcher.waiting(bench.now(), 100)
    assert {(gate, reason) for _, gate, reason in waiting} == {("pool", "all 3 slots of the pool are in use")}
    assert len(waiting) == 7


def test_a_larger_pool_starts_what_waits_and_says_so():
    jobs = [job(f"j{i}") for i in range(4)]
    bench = Bench(*jobs, slots=1)
    for each in jobs:
        bench.fire(each.name)
    said = bench.load(*jobs, slots=3)
    assert len(starts(said)) == 2
    assert "from 1 to 3" in records(said, Fact.POOL_RESIZED)[0].reason


def test_a_paused_job_skips_fires_and_holds_its_queued_runs_while_others_pass():
    bench = Bench(job("a"), job("b"), job("blocker"), slots=1)
    blocker = bench.running("blocker")
    bench.fire("a")
    bench.fire("b")
    bench.tell(PauseRequested("a", "root"))
    assert records(bench.fire("a"), Fact.RUN_SKIPPED)[0].run.skip is Skip.PAUSED
    run_b = starts(bench.exited(blocker))[0]
    assert run_b.job == "b"
    bench.started(run_b)
    bench.exited(run_b)
    assert [run.job for run in starts(bench.tell(ResumeRequested("a", "root")))] == ["a"]


def test_cancel_stops_a_running_run_and_withdraws_a_waiting_one():
    bench = Bench(job("a"), job("b"), slots=1)
    run = bench.running("a")
    waiting = records(bench.fire("b"), Fact.RUN_QUEUED)[0].run
    withdrawn = records(bench.tell(CancelRequested(waiting.run_id, "eve")), Fact.RUN_FINISHED)[0]
    assert (withdrawn.run.outcome, withdrawn.reason) == (Outcome.CANCELLED, "cancelled by eve")
    assert signals(bench.tell(CancelRequested(run.run_id, "eve"))) == [15]
    assert records(bench.tell(CancelRequested(run.run_id, "eve")), Fact.REQUEST_REFUSED)
    assert records(bench.exited(run, 0), Fact.RUN_FINISHED)[0].run.outcome is Outcome.CANCELLED
    assert "has ended" in records(bench.tell(CancelRequested(run.run_id, "eve")), Fact.REQUEST_REFUSED)[0].reason


def test_cancel_between_start_and_its_confirmation_leaves_no_orphan():
    bench = Bench(job(kill_grace_s=2))
    run = starts(bench.fire("a"))[0]
    assert signals(bench.tell(CancelRequested(run.run_id, "eve"))) == [15]
    assert records(bench.started(run), Fact.RUN_STARTED) == []
    assert signals(bench.wait(2.1)) == [9]
    assert records(bench.exited(run, None, 9), Fact.RUN_FINISHED)[0].run.outcome is Outcome.CANCELLED


def test_after_fires_on_each_success_and_only_then():
    bench = Bench(job("up"), job("down", after=("up",)), job("off", after=("up",), enabled=False))
    failed = bench.running("up")
    assert starts(bench.exited(failed, 1)) == []
    run = bench.running("up")
    down = starts(bench.exited(run))
    assert [(run.job, run.cause) for run in down] == [("down", Cause.AFTER)]


def test_missed_fires_follow_catch_up():
    bench = Bench(
        job("none", catch_up=CatchUp.NONE), job("last"), job("all", catch_up=CatchUp.ALL, overlap=Overlap.QUEUE)
    )
    wall = bench.now().wall
    missed = tuple(wall - timedelta(hours=hours) for hours in (30, 2, 1))
    for name, made_up, skipped in [("none", 0, 3), ("last", 1, 2), ("all", 2, 1)]:
        said = bench.tell(Fired(name, missed))
        admitted = records(said, Fact.RUN_QUEUED) + records(said, Fact.RUN_HELD)
        assert len(admitted) == made_up, name
        assert all(record.run.catch_up for record in admitted)
        skips = records(said, Fact.RUN_SKIPPED)
        assert sum(record.count for record in skips) == skipped, name
        assert all(record.run.skip is Skip.CATCH_UP for record in skips)


def test_a_current_fire_stands_for_the_missed_ones_under_catch_up_last():
    bench = Bench(job())
    wall = bench.now().wall
    said = bench.tell(Fired("a", (wall - timedelta(hours=1), wall), older_missed=True))
    queued = records(said, Fact.RUN_QUEUED)
    assert [record.run.catch_up for record in queued] == [False]
    assert "at least a fire" in records(said, Fact.RUN_SKIPPED)[0].reason


def test_a_fire_deferred_by_a_full_pool_is_not_missed():
    bench = Bench(job("a"), job("b"), slots=1)
    blocker = bench.running("b")
    bench.fire("a")
    bench.wait(7200)
    run = starts(bench.exited(blocker))[0]
    assert (run.job, run.catch_up) == ("a", False)


def test_reload_lets_a_removed_job_finish_and_names_what_changed():
    bench = Bench(job("gone"), job("stays"), job("moved", source="x:1"), job("other"))
    run = bench.running("gone")
    said = bench.load(job("stays"), job("moved", source="y:9"), job("other", priority=5), job("new"))
    changes = records(said, Fact.CONFIG_RELOADED)[0].diff
    assert (changes.added, changes.changed, changes.removed, changes.unchanged) == (("new",), ("other",), ("gone",), 2)
    assert signals(said) == []
    assert records(bench.exited(run), Fact.RUN_FINISHED)[0].run.outcome is Outcome.SUCCEEDED
    assert records(bench.fire("gone"), Fact.REQUEST_REFUSED)


def test_a_run_keeps_the_definition_it_began_with():
    bench = Bench(job(timeout_s=100, retries=Retries(max=1, jitter=0)))
    run = bench.running("a")
    bench.load(job(timeout_s=1))
    assert signals(bench.wait(50)) == []
    assert records(bench.exited(run, 1), Fact.RUN_RETRYING)


def test_drain_starts_nothing_more_and_ends_when_the_last_run_has():
    bench = Bench(job("a"), job("b"), slots=1)
    run = bench.running("a")
    bench.fire("b")
    said = bench.tell(DrainRequested(60, "SIGTERM"))
    assert "1 that wait are kept for the next start" in records(said, Fact.DAEMON_DRAINING)[0].reason
    assert not bench.dispatcher.drained
    said = bench.exited(run)
    assert records(said, Fact.DAEMON_DRAINED)
    assert starts(said) == []
    assert bench.dispatcher.drained
    assert [(run.job, run.state) for run in bench.dispatcher.runs()] == [("b", State.QUEUED)]


def test_drain_sends_term_and_kill_when_its_time_is_over():
    bench = Bench(job(kill_grace_s=5))
    run = bench.running("a")
    bench.tell(DrainRequested(60, "SIGTERM"))
    assert signals(bench.wait(61)) == [15]
    assert signals(bench.wait(5)) == [9]
    assert records(bench.exited(run, None, 9), Fact.DAEMON_DRAINED)


def test_drain_waits_for_no_further_try_and_keeps_it_for_the_next_start():
    bench = Bench(job(retries=Retries(max=5)))
    bench.exited(bench.running("a"), 1)
    said = bench.tell(DrainRequested(60, "SIGTERM"))
    assert records(said, Fact.DAEMON_DRAINED)
    assert starts(bench.wait(100)) == []
    assert [run.attempt for run in bench.dispatcher.runs()] == [2]


def test_stop_kills_every_tree_at_once():
    bench = Bench(job("a"), job("b"))
    bench.running("a")
    starts(bench.fire("b"))  # still starting
    assert sorted(signals(bench.tell(StopRequested("SIGINT")))) == [9, 9, 15, 15]


def test_a_lost_keeper_makes_runs_unknown_and_frees_their_slots():
    bench = Bench(job("a", retries=Retries(max=3)), job("b"), slots=1)
    bench.running("a")
    bench.fire("b")
    said = bench.tell(KeeperLost("the keeper died"))
    lost = records(said, Fact.RUN_FINISHED)[0]
    assert (lost.run.outcome, lost.reason) == (Outcome.UNKNOWN, "the keeper died")
    assert [run.job for run in starts(said)] == ["b"]


def test_a_run_whose_process_outlives_the_keeper_says_so_and_one_that_does_not_says_nothing_of_it():
    bench = Bench(job("a"), job("b"), slots=2)
    a, b = bench.running("a"), bench.running("b")
    said = bench.tell(KeeperLost("the keeper died", frozenset({a.run_id})))
    ended = {record.run.run_id: record.run for record in records(said, Fact.RUN_FINISHED)}
    outlives = f"the keeper died; its process {ended[a.run_id].pid} goes on without a keeper, and nobody ends it"
    assert (ended[a.run_id].reason, ended[b.run_id].reason) == (outlives, "the keeper died")


def test_a_recovered_run_holds_its_slot_and_overlap_and_its_time_out_goes_on():
    bench = Bench(job(timeout_s=100), slots=1)
    wall = bench.now().wall
    run = Run(run_id="old", job="a", scheduled_at=wall, queued_at=wall, started_at=wall - timedelta(seconds=90))
    bench.tell(Recovered(run, job(timeout_s=100), 55))
    assert records(bench.fire("a"), Fact.RUN_SKIPPED)[0].run.skip is Skip.OVERLAP
    assert signals(bench.wait(9)) == []
    assert signals(bench.wait(2)) == [15]
    assert records(bench.exited(run, None, 15), Fact.RUN_FINISHED)[0].run.outcome is Outcome.TIMED_OUT


def test_a_late_word_about_an_attempt_that_is_over_changes_nothing():
    bench = Bench(job(retries=Retries(max=1, jitter=0)))
    run = bench.running("a")
    bench.exited(run, 1)
    assert bench.exited(run, 0) == [Acknowledge(run.run_id, 1)]  # its keeper need not hold it any longer
    assert bench.started(run) == []
    assert starts(bench.wait(11))[0].attempt == 2


def test_the_table_of_transitions_has_no_way_out_of_the_end():
    assert ALLOWED[State.FINISHED] == ALLOWED[State.SKIPPED] == frozenset()
    assert set(ALLOWED) == set(State)
    run = Bench(job()).running("a")
    with pytest.raises(AssertionError):
        move(move(run, State.RUNNING), State.QUEUED)


def test_run_ids_are_unique_and_sort_by_time():
    bench = Bench(job(overlap=Overlap.ALLOW), slots=10_000)
    ids = []
    for _ in range(2000):
        bench.now_s += 0.0004
        ids.append(starts(bench.fire("a"))[0].run_id if len(ids) < 900 else "")
    made = [each for each in ids if each]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_a_run_cancelled_before_its_start_failed_is_cancelled_and_not_tried_again():
    bench = Bench(job(retries=Retries(max=3)))
    run = starts(bench.fire("a"))[0]
    bench.tell(CancelRequested(run.run_id, "root"))
    ended = records(bench.start_failed(run), Fact.RUN_FINISHED)[0]
    assert (ended.run.outcome, ended.reason) == (Outcome.CANCELLED, "cancelled by root")
    assert bench.dispatcher.runs() == []


def test_a_success_while_draining_queues_its_downstream_jobs_for_the_next_start():
    bench = Bench(job("a"), job("b", after=("a",)))
    run = bench.running("a")
    bench.tell(DrainRequested(10, "SIGTERM"))
    said = bench.exited(run)
    assert [record.job for record in records(said, Fact.RUN_QUEUED)] == ["b"]
    assert starts(said) == []


def test_removing_a_paused_job_sets_none_of_its_waiting_runs_free():
    bench = Bench(job("a", overlap=Overlap.QUEUE), job("b"), slots=1)
    blocker = bench.running("b")
    for _ in range(3):
        bench.fire("a")
    bench.tell(PauseRequested("a", "root"))
    ended = records(bench.load(job("b"), slots=1), Fact.RUN_FINISHED)
    assert [record.run.outcome for record in ended] == [Outcome.CANCELLED] * 3
    assert "removed while it was paused" in ended[0].reason
    assert starts(bench.exited(blocker)) == []
    assert bench.dispatcher.paused == frozenset()


@pytest.mark.parametrize("stop", [DrainRequested(0, "SIGTERM"), StopRequested("SIGINT")])
def test_a_run_recovered_after_everything_was_told_to_end_is_told_too(stop):
    bench = Bench(job())
    bench.running("a")
    bench.tell(stop)
    run = Run(run_id="earlier", job="a", scheduled_at=bench.now().wall, queued_at=bench.now().wall)
    assert 15 in signals(bench.tell(Recovered(run, job(), 7)))
    bench.tell(KeeperLost("killed"))
    assert bench.dispatcher.drained


def test_an_end_on_record_is_never_taken_back_by_a_keeper_that_is_found_again():
    bench = Bench(job())
    run = bench.running("a")
    bench.tell(KeeperLost("it said what cannot be understood"))
    assert bench.tell(Recovered(run, job(), 100)) == []
    assert bench.exited(run) == [Acknowledge(run.run_id, 1)]
    assert bench.dispatcher.counts().running == 0


def test_started_said_twice_changes_neither_start_nor_time_out():
    bench = Bench(job(timeout_s=10))
    run = bench.running("a")
    bench.now_s = 8.0
    assert bench.started(run, pid=999) == []
    assert signals(bench.wait(2.1)) == [15]
    assert bench.dispatcher.runs()[0].pid == 100


def test_a_lost_keeper_ends_runs_that_it_had_not_yet_confirmed():
    bench = Bench(job())
    bench.fire("a")
    assert records(bench.tell(KeeperLost("killed")), Fact.RUN_FINISHED)[0].run.outcome is Outcome.UNKNOWN


def test_a_fire_while_draining_is_claimed_and_kept_for_the_next_start():
    bench = Bench(job())
    bench.tell(DrainRequested(10, "SIGTERM"))
    said = bench.fire("a")
    assert records(said, Fact.RUN_QUEUED)[0].job == "a"
    assert starts(said) == []


def test_the_end_of_a_run_is_told_before_the_next_one_of_its_job_is_queued():
    bench = Bench(job(overlap=Overlap.QUEUE))
    first = bench.running("a")
    bench.fire("a")
    facts = [command.fact for command in bench.exited(first) if isinstance(command, Record)]
    assert facts == [Fact.RUN_FINISHED, Fact.RUN_QUEUED, Fact.RUN_STARTING]


def test_ids_stay_unique_when_the_clock_stands_still_for_more_runs_than_a_counter_holds():
    ids = RunIds(salt=3)
    now = Bench().now().wall
    made = {ids.make(now) for _ in range(32**4 + 10)}
    assert len(made) == 32**4 + 10
    assert ids.made(max(made))
    assert not RunIds(salt=3).made(max(made))
