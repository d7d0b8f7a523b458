"""What became of the runs that had no end on record: history's rows held against what the keeper holds. Each row of
engine/recovery.py's docstring, and the forgeries: another boot, a pid used again, another keeper."""

from datetime import timedelta

import pytest
from engine_bench import EPOCH, job

from tidegate.engine.recovery import Facts, reconcile
from tidegate.model.event import Exited, Interrupted, Recovered, Restored
from tidegate.model.run import Outcome, Run, State, Usage
from tidegate.simulate.book import Row
from tidegate.simulate.work import Attempt

JOB = job("a")
ACTIVE = [State.STARTING, State.RUNNING, State.STOPPING]
WAITING = [State.HELD, State.QUEUED, State.RETRYING]


def run(state, run_id="r1", **fields):
    at = EPOCH - timedelta(hours=1)
    return Run(run_id=run_id, job="a", state=state, scheduled_at=at, queued_at=at, **fields)


def row(state, boot_id="boot", keeper="k1", **fields):
    return Row(run(state, **fields), boot_id, keeper)


def held(run_id="r1", attempt=1, exited=None, timed_out=False, note=True):
    was = run(State.STARTING, run_id, attempt=attempt) if note else None
    return Attempt(run_id, attempt, was, JOB if note else None, 100, 5000, 40.0, exited, timed_out)


def ended(run_id="r1", code=0):
    return Exited(run_id, 1, code, None, Usage(cpu_s=1.0))


def found(rows, held=(), jobs=None, boot_id="boot", keeper="k1", left_clean="", alive=False, on_record=()):
    facts = Facts(
        boot_id=boot_id,
        keeper=keeper,
        left_clean=left_clean,
        now=EPOCH,
        mono_s=100.0,
        alive=lambda pid, pid_start: alive if alive in (True, False) else (pid, pid_start) in alive,
        ended=lambda run_id: run_id in on_record,
    )
    return reconcile(rows, held, {"a": JOB} if jobs is None else jobs, facts)


@pytest.mark.parametrize("state", ACTIVE)
def test_what_the_keeper_still_runs_goes_on_and_began_when_the_keeper_says(state):
    (event,) = found([row(state)], [held()]).events
    assert isinstance(event, Recovered)
    assert (event.pid, event.pid_start, event.run.state) == (100, 5000, state)
    assert event.run.started_at == EPOCH - timedelta(seconds=60)


def test_what_ended_under_the_keeper_is_told_with_its_true_status():
    events = found([row(State.RUNNING)], [held(exited=ended(code=3))]).events
    assert [type(event) for event in events] == [Recovered, Exited]
    assert (events[1].exit_code, events[1].timed_out) == (3, False)


def test_what_the_keeper_ended_at_its_time_out_is_told_as_that():
    events = found([row(State.RUNNING)], [held(exited=ended(code=None), timed_out=True)]).events
    assert events[1].timed_out


def test_what_an_end_sets_off_finds_all_other_runs_taken_up():
    rows = [row(State.RUNNING, run_id="r1"), row(State.RUNNING, run_id="r2"), row(State.QUEUED, run_id="r3", keeper="")]
    events = found(rows, [held("r1", exited=ended("r1")), held("r2"), held("r4", exited=ended("r4"))]).events
    assert [type(event) for event in events] == [Recovered, Recovered, Restored, Recovered, Exited, Exited]


@pytest.mark.parametrize("state", WAITING)
def test_what_waited_waits_again(state):
    (event,) = found([row(state, keeper="")]).events
    assert event == Restored(run(state), JOB)


@pytest.mark.parametrize(("keeper", "left_clean"), [("k1", ""), ("k2", "k1")])
def test_a_start_that_its_very_keeper_never_saw_is_done_once(keeper, left_clean):
    (event,) = found([row(State.STARTING)], keeper=keeper, left_clean=left_clean).events
    assert isinstance(event, Restored)


@pytest.mark.parametrize(
    ("asked", "keeper", "left_clean"), [("k1", "k2", ""), ("k1", "k3", "k2"), ("", "k1", ""), ("", "k1", "k0")]
)
def test_a_start_that_another_keeper_may_have_done_is_never_done_again(asked, keeper, left_clean):
    (event,) = found([row(State.STARTING, keeper=asked)], keeper=keeper, left_clean=left_clean).events
    assert isinstance(event, Interrupted)
    assert (event.outcome, event.gone) == (Outcome.UNKNOWN, False)
    assert "whether it had begun cannot be known" in event.reason


@pytest.mark.parametrize("state", ACTIVE)
def test_after_another_boot_what_was_active_is_interrupted_and_gone_whatever_pid_lives(state):
    (event,) = found([row(state, boot_id="other", pid=100, pid_start=5000)], left_clean="k1", alive=True).events
    assert isinstance(event, Interrupted)
    assert (event.outcome, event.gone) == (Outcome.INTERRUPTED, True)
    assert "the machine was restarted" in event.reason


@pytest.mark.parametrize(("recorded", "present"), [("", "boot"), ("boot", "")])
def test_a_boot_that_nobody_knows_proves_no_restart(recorded, present):
    (event,) = found([row(State.RUNNING, boot_id=recorded, pid=100, pid_start=5000)], boot_id=present).events
    assert event.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("alive", "gone"), [({(100, 5000)}, False), ({(100, 7777)}, True), (False, True)], ids=["same", "reused", "none"]
)
def test_a_process_is_known_by_pid_and_start_not_by_its_pid(alive, gone):
    (event,) = found([row(State.RUNNING, keeper="lost", pid=100, pid_start=5000)], alive=alive).events
    assert (event.outcome, event.gone) == (Outcome.UNKNOWN, gone)
    assert ("goes on without a keeper" in event.reason) is not gone


@pytest.mark.parametrize(("keeper", "left_clean"), [("k1", ""), ("k2", "k1")])
def test_one_that_was_stopped_before_its_very_keeper_saw_it_is_over_as_it_was_meant_to_be(keeper, left_clean):
    stopped = row(State.STOPPING, stop=Outcome.CANCELLED, reason="replaced by the fire of 12:00")
    (event,) = found([stopped], keeper=keeper, left_clean=left_clean).events
    assert isinstance(event, Interrupted)
    assert (event.outcome, event.gone) == (Outcome.CANCELLED, False)
    assert event.reason == "replaced by the fire of 12:00; it had not begun"
    (event,) = found([stopped], keeper="k3").events
    assert event.outcome is Outcome.UNKNOWN, "another keeper may have begun it"


def test_a_running_one_that_its_own_keeper_does_not_hold_has_an_unknown_end():
    (event,) = found([row(State.RUNNING, pid=100, pid_start=5000)]).events
    assert (event.outcome, event.gone) == (Outcome.UNKNOWN, True)


def test_a_retrying_one_waits_and_the_keeper_may_forget_the_end_that_is_on_record():
    one = held(exited=ended(code=1))
    findings = found([row(State.RETRYING)], [one])
    assert [type(event) for event in findings.events] == [Restored]
    assert findings.acknowledge == (one,)


def test_another_attempt_than_the_one_on_record_is_not_taken_for_it():
    findings = found([row(State.STARTING, attempt=2)], [held(attempt=1, exited=ended())], on_record={"r1"})
    assert [type(event) for event in findings.events] == [Restored]


def test_what_has_its_end_on_record_is_acknowledged_and_never_taken_back():
    one = held(exited=ended())
    findings = found([], [one], on_record={"r1"})
    assert (findings.events, findings.acknowledge, findings.strays) == ((), (one,), ())
    still_running = found([], [held()], on_record={"r1"})
    assert (still_running.events, still_running.acknowledge) == ((), ())


def test_what_history_lost_is_taken_up_from_the_keepers_own_note():
    (event,) = found([], [held()]).events
    assert isinstance(event, Recovered)
    assert event.job is JOB


def test_what_nobody_can_name_is_a_stray():
    one = held(note=False)
    findings = found([], [one])
    assert (findings.events, findings.strays) == ((), (one,))


def test_a_run_of_a_removed_job_goes_on_with_the_definition_that_it_was_started_with():
    (event,) = found([row(State.RUNNING)], [held()], jobs={}).events
    assert event.job is JOB
    (event,) = found([row(State.QUEUED)], jobs={}).events
    assert event.job is None


def test_the_findings_are_counted_for_people():
    rows = [row(State.RUNNING, run_id="r1"), row(State.QUEUED, run_id="r2"), row(State.RUNNING, run_id="r3")]
    assert found(rows, [held("r1")]).text == "found 1 running, 1 waiting, 1 of unknown fate"


def test_an_armed_run_has_begun_or_not_and_only_its_keeper_knows():
    (event,) = found([row(State.QUEUED, keeper="k1")]).events
    assert isinstance(event, Restored), "the keeper that was to start it answers, and does not have it"
    (event, *_) = found([row(State.QUEUED, keeper="k1")], [held()]).events
    assert isinstance(event, Recovered)
    (event,) = found([row(State.QUEUED, keeper="another")]).events
    assert (type(event), event.outcome, event.gone) == (Interrupted, Outcome.UNKNOWN, False)
    (event,) = found([row(State.QUEUED, boot_id="earlier")]).events
    assert (type(event), event.outcome) == (Interrupted, Outcome.INTERRUPTED)
    (event,) = found([row(State.QUEUED, keeper="", boot_id="earlier")]).events
    assert isinstance(event, Restored), "it was never armed"
