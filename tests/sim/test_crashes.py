"""Named deaths of the daemon, one fault each, in virtual time; and that the books would notice an account that lies."""

from datetime import timedelta

import pytest
from histories import CALENDARS, History
from msgspec.structs import replace

from tidegate.model.command import Fact
from tidegate.model.event import CancelRequested, PauseRequested, StartsHeld, Triggered
from tidegate.model.job import Boot, CatchUp, Cron, During, Job, OnInterrupted, Overlap, Window
from tidegate.model.lease import Lease
from tidegate.model.plan import Plan
from tidegate.model.run import Outcome, Skip, State
from tidegate.simulate.account import Account, AccountError
from tidegate.simulate.invariants import Invariants
from tidegate.simulate.work import Behaviour, Work
from tidegate.simulate.world import Death, World, utc

NOON = utc(2026, 3, 2, 12)
LATER = 1800.0  # seconds from the start to noon


class Play:
    """A world that begins half an hour before noon, its books and what was recorded."""

    def __init__(self, *jobs: Job, slots=8, behaviour=None, resources=None):
        self.records = []
        self.invariants, self.account = Invariants(), Account()
        self.work = Work(lambda run, job: behaviour or Behaviour(duration_s=10.0))
        plan = Plan(jobs={job.name: job for job in jobs}, resources=resources or {}, calendars=CALENDARS)
        self.world = World(plan, slots, NOON - timedelta(seconds=LATER), self.work, (self.invariants,))
        self.world.on_commit += [self.account, lambda world, turn, now: self.records.extend(turn.records)]
        self.world.on_end.append(self.invariants.forget)

    def to_noon(self):
        self.world.run_for(LATER - 1)
        return self

    def rest(self, span_s=7200.0):
        """Go on until everything has ended; then the account must be whole."""
        self.world.run_for(span_s)
        quiet = {name: replace(job, enabled=False) for name, job in self.world.plan.jobs.items()}
        self.world.load(replace(self.world.plan, jobs=quiet))
        self.world.run_for(3600)
        self.invariants.at_rest()
        self.account.at_rest(self.world)
        return self

    def of(self, fact):
        return [record for record in self.records if record.fact is fact]

    @property
    def outcomes(self):
        return [record.run.outcome for record in self.of(Fact.RUN_FINISHED)]

    @property
    def begun(self):
        return len(self.work.truth)


def daily(name="a", **fields):
    return Job(name=name, command=("work",), trigger=Cron("0 12 * * *"), **fields)


@pytest.mark.parametrize("down_s", [0.0, 5.0, 600.0])
@pytest.mark.parametrize("where", list(Death))
def test_a_fire_has_one_run_wherever_the_daemon_dies_and_however_long_it_is_down(where, down_s):
    play = Play(daily()).to_noon()
    play.world.crash(where, down_s)
    play.rest()
    assert play.world.ends == 1
    assert play.outcomes == [Outcome.SUCCEEDED]
    assert play.begun == 1


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_fires_missed_while_down_follow_catch_up_and_each_has_its_account(catch_up):
    play = Play(
        Job(name="a", command=("work",), trigger=Cron("*/10 * * * *"), catch_up=catch_up, overlap=Overlap.QUEUE)
    )
    play.world.run_for(600)
    play.world.crash(Death.AFTER_PERFORM, 3 * 3600 + 10)
    play.rest(4 * 3600)
    caught_up = [record.run for record in play.of(Fact.RUN_HELD) + play.of(Fact.RUN_QUEUED) if record.run.catch_up]
    assert len({run.run_id for run in caught_up}) == {CatchUp.NONE: 0, CatchUp.LAST: 1, CatchUp.ALL: 18}[catch_up]
    passed_over = [record for record in play.of(Fact.RUN_SKIPPED) if record.run.skip is Skip.CATCH_UP]
    assert bool(passed_over) is (catch_up is not CatchUp.ALL)


@pytest.mark.parametrize(
    ("on_interrupted", "outcomes"),
    [(OnInterrupted.IGNORE, [Outcome.UNKNOWN]), (OnInterrupted.RERUN, [Outcome.SUCCEEDED])],
)
def test_what_a_keeper_that_died_ran_is_unknown_and_run_again_only_where_that_is_asked_for(on_interrupted, outcomes):
    play = Play(daily(on_interrupted=on_interrupted)).to_noon()
    play.world.run_for(5)
    play.world.leave(20.0)
    play.world.kill_keeper()
    play.rest()
    assert play.outcomes == outcomes
    assert play.begun == len(outcomes) + (on_interrupted is OnInterrupted.RERUN)


def test_nothing_is_run_again_while_its_process_goes_on_without_a_keeper():
    play = Play(daily(on_interrupted=OnInterrupted.RERUN), behaviour=Behaviour(duration_s=60)).to_noon()
    play.world.run_for(5)
    play.world.kill_keeper(go_on_s=55)
    play.rest()
    assert (play.outcomes, play.begun) == ([Outcome.UNKNOWN], 1)


@pytest.mark.parametrize("where", [Death.AFTER_COMMIT, Death.AFTER_PERFORM])
def test_after_a_power_cut_a_run_is_interrupted(where):
    play = Play(daily(), behaviour=Behaviour(duration_s=600)).to_noon()
    play.world.crash(where, 60.0, lambda: play.world.reboot(60.0))
    play.rest()
    assert play.outcomes == [Outcome.INTERRUPTED]
    assert "the machine was restarted" in play.of(Fact.RUN_FINISHED)[0].reason


def test_a_claim_that_never_reached_a_keeper_which_left_with_empty_hands_runs_once():
    play = Play(daily()).to_noon()
    left = []
    play.world.crash(Death.AFTER_COMMIT, 60.0, lambda: left.append(play.work.leave()))
    play.rest()
    assert left == [True]
    assert (play.outcomes, play.begun) == ([Outcome.SUCCEEDED], 1)


def test_what_ended_while_the_daemon_was_down_has_its_true_status():
    play = Play(daily(), behaviour=Behaviour(duration_s=10, exit_code=3)).to_noon()
    play.world.crash(Death.AFTER_PERFORM, 600.0)
    play.rest()
    assert [record.run.exit_code for record in play.of(Fact.RUN_FINISHED)] == [3]


def test_a_time_out_is_kept_while_the_daemon_is_down():
    play = Play(daily(timeout_s=30), behaviour=Behaviour(duration_s=float("inf"), term_delay_s=None)).to_noon()
    play.world.crash(Death.AFTER_PERFORM, 600.0)
    play.rest()
    assert play.outcomes == [Outcome.TIMED_OUT]


@pytest.mark.parametrize("where", [Death.SIGNALLED, Death.AFTER_COMMIT])
def test_a_run_that_was_being_cancelled_is_cancelled_if_that_is_on_record(where):
    play = Play(daily(), behaviour=Behaviour(duration_s=600)).to_noon()
    play.world.run_for(5)
    play.world.post(CancelRequested(play.world.dispatcher.runs()[0].run_id, "ops"))
    play.world.crash(where, 60.0)
    play.rest()
    # A signal waits for nothing: where its reason was not written down, what is known is that a signal ended it.
    assert play.outcomes == [Outcome.CANCELLED if where is Death.AFTER_COMMIT else Outcome.FAILED]


def test_leaving_touches_no_run_and_the_next_life_finds_all_of_them():
    play = Play(daily(), daily("b"), daily("c"), slots=2, behaviour=Behaviour(duration_s=300)).to_noon()
    play.world.run_for(10)
    play.world.leave(30.0)
    play.rest()
    assert [record.run.state for record in play.of(Fact.RUN_RECOVERED)] == [State.RUNNING] * 2
    assert len(play.of(Fact.RUN_RESTORED)) == 1
    assert (play.outcomes, play.begun) == ([Outcome.SUCCEEDED] * 3, 3)


def test_a_drain_ends_what_runs_and_keeps_what_waits():
    play = Play(daily(), daily("b"), slots=1, behaviour=Behaviour(duration_s=300)).to_noon()
    play.world.run_for(10)
    play.world.drain(60.0, 30.0)
    play.rest()
    assert play.outcomes == [Outcome.CANCELLED, Outcome.SUCCEEDED]
    assert len(play.of(Fact.RUN_RESTORED)) == 1


def test_boot_jobs_fire_once_in_each_boot_however_often_the_daemon_dies():
    play = Play(Job(name="a", command=("work",), trigger=Boot()))
    for where in (Death.AFTER_COMMIT, Death.AFTER_PERFORM, Death.BEFORE_COMMIT):
        play.world.crash(where, 1.0)
        play.world.run_for(2)
    assert play.begun == 1
    play.world.run_for(60)
    play.world.reboot(10.0)
    play.world.run_for(10)
    play.world.crash(Death.AFTER_PERFORM, 1.0)  # before anything is known of this boot but its claims
    play.rest()
    assert play.begun == 2


def test_pauses_outlive_a_crash():
    play = Play(daily())
    play.world.post(PauseRequested("a", "ops"))
    play.world.run_for(10)
    play.world.leave(10.0)
    play.rest()
    assert [record.run.skip for record in play.of(Fact.RUN_SKIPPED)] == [Skip.PAUSED]


def test_a_request_that_is_made_again_after_a_crash_is_one_run():
    play = Play(daily(overlap=Overlap.ALLOW))
    asked = Triggered("a", "request-1", "ops")
    play.world.post(asked)
    play.world.crash(Death.AFTER_PERFORM, 5.0)
    play.world.run_for(20)
    play.world.post(asked)
    play.world.run_for(20)
    assert play.begun == 1
    assert play.world.dispatcher.runs() == []


def test_nothing_starts_while_the_disk_is_full_and_what_waited_starts_when_it_is_not():
    play = Play(daily(), daily("b"))
    play.world.run_for(LATER - 1)
    play.world.fill_disk(60.0, notice_s=5.0)
    play.world.run_for(50)
    assert play.begun == 0
    play.rest()
    assert (play.outcomes, play.begun) == ([Outcome.SUCCEEDED] * 2, 2)


@pytest.mark.parametrize("fault", ["crash", "keeper"])
def test_what_waits_for_a_full_disk_outlives_a_crash_and_the_keeper(fault):
    play = Play(daily(on_interrupted=OnInterrupted.RERUN)).to_noon()
    play.world.fill_disk(60.0, notice_s=5.0)
    play.world.run_for(3)
    if fault == "crash":
        play.world.crash(Death.BEFORE_COMMIT, 10.0)
    else:
        play.world.kill_keeper()
    play.rest()
    assert (play.outcomes, play.begun) == ([Outcome.SUCCEEDED], 1)


def test_too_little_space_holds_starts_and_no_fire():
    play = Play(daily()).to_noon()
    play.world.post(StartsHeld("storage", "little space"))
    play.world.run_for(100)
    assert play.begun == 0
    play.world.post(StartsHeld("storage", ""))
    assert play.rest().outcomes == [Outcome.SUCCEEDED]


def test_a_lease_outlives_a_crash_with_its_holder_and_ends_with_it():
    play = Play(daily(uses={"db": 1}), resources={"db": 1})
    lease = Lease(lease_id="l", uses={"db": 1}, holder="ops", asked_at=NOON)
    play.world.hold_lease(lease, LATER + 300, None)
    play.world.run_for(10)
    play.world.leave(20.0)
    play.world.run_for(LATER)
    assert [gate for _, gate, _ in play.world.dispatcher.waiting(play.world.clock.now(), 5)] == ["resources"]
    play.world.leave(600.0)  # the holder ends while nobody is there
    play.rest()
    assert "while tidegate was down" in play.of(Fact.LEASE_ENDED)[0].reason
    assert play.outcomes == [Outcome.SUCCEEDED]


def test_calendars_are_as_they_are_and_a_manual_run_passes_them():
    windows = {"only_during": (Window("day", During.DEFER),), "not_during": (Window("freeze"),)}
    play = Play(daily(**windows)).to_noon()
    play.world.leave(10.0)
    play.world.run_for(100)
    assert play.begun == 0
    play.world.post(Triggered("a", "r", "ops"))
    play.world.set_calendar("freeze", True)
    play.world.run_for(1)
    assert play.of(Fact.RUN_SKIPPED)[-1].run.skip is Skip.OVERLAP
    play.world.set_calendar("day", True)
    play.world.run_for(100)
    assert play.begun == 1
    play.world.set_calendar("day", False)
    play.world.post(Triggered("a", "r2", "ops"))
    play.rest()
    assert play.begun == 2


def test_a_schedule_that_was_changed_while_down_begins_with_the_next_life():
    play = Play(daily()).to_noon()
    play.world.leave(3600.0)
    play.world.run_for(100)
    play.world.load(Plan(jobs={"a": Job(name="a", command=("work",), trigger=Cron("30 * * * *"))}))
    play.rest()
    assert {record.run.scheduled_at.minute for record in play.of(Fact.RUN_QUEUED)} == {30}


# --- the books would notice -----------------------------------------------------------------------------


def test_the_account_notices_a_fire_that_was_lost():
    history = History(5, hours=2, faults=False)
    alarm = history.world.alarm
    collect, dropped = alarm.collect, []

    def forgetful():
        events = collect()
        if len(dropped) < 1 and events:
            dropped.append(events.pop())
        return events

    alarm.collect = forgetful
    with pytest.raises(AccountError, match="have no account"):
        history.run()


def test_the_account_notices_a_success_that_was_none():
    play = Play(daily(), behaviour=Behaviour(exit_code=0)).to_noon()
    play.work.truth = Lying()
    with pytest.raises(AccountError, match="is said to have succeeded"):
        play.rest()


class Lying(dict):
    """What really became of each attempt: it failed."""

    def get(self, key, default=None):
        truth = super().get(key, default)
        if truth is not None and truth.exit_code == 0:
            truth.exit_code = 1
        return truth


def test_the_account_notices_an_end_that_could_have_been_known():
    play = Play(daily()).to_noon()
    play.world.crash(Death.AFTER_PERFORM, 60.0, lambda: setattr(play.work, "instance", "another"))
    play.world.on_end.append(lambda world: play.work.held.clear() or play.work.running.clear())
    with pytest.raises(AccountError, match="is said to have unknown"):
        play.rest()


def test_the_account_notices_a_fire_that_is_on_record_twice():
    play = Play(daily()).to_noon()
    play.world.book._claim = lambda run, boot_id: None
    play.world.crash(Death.AFTER_COMMIT, 5.0)
    with pytest.raises(AccountError, match="on record twice"):
        play.rest()


def test_work_never_begins_an_attempt_twice():
    play = Play(daily()).to_noon()
    play.world.run_for(60)
    (key,) = play.work.truth
    run = replace(play.of(Fact.RUN_FINISHED)[0].run, run_id=key[0])
    with pytest.raises(AssertionError, match="started again after it had begun"):
        play.work.start(run, daily(), play.world.clock.mono_s)
