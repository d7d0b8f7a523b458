"""When somebody is told: occasions from facts and from time, without a clock."""

from datetime import UTC, datetime, timedelta

import pytest

from tidegate.hooks.notice import Notice, Occasion
from tidegate.hooks.period import period_of
from tidegate.hooks.watch import STALE_MAX, Watch
from tidegate.model.command import Fact, Record
from tidegate.model.event import Now
from tidegate.model.job import Cron, Every, HookLists, Job
from tidegate.model.run import Outcome, Run, Skip, State

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALL = HookLists(*((occasion.value,) for occasion in Occasion if occasion is not Occasion.START))


def job(name: str = "backup", **fields: object) -> Job:
    return Job(name=name, command=("true",), **({"hooks": ALL} | fields))  # type: ignore[arg-type]


def watch(*jobs: Job) -> Watch:
    watched = Watch()
    watched.load({one.name: one for one in jobs}, T0)
    return watched


def now(seconds: float = 0.0) -> Now:
    return Now(T0 + timedelta(seconds=seconds), 1000.0 + seconds)


def run(run_id: str = "r", **fields: object) -> Run:
    return Run(run_id=run_id, job="backup", scheduled_at=T0, queued_at=T0, **fields)  # type: ignore[arg-type]


class Told:
    """A watch, and what it tells, as (event, hooks)."""

    def __init__(self, *jobs: Job) -> None:
        self.watch = watch(*jobs)
        self.notices: list[Notice] = []

    def see(self, fact: Fact, at_s: float = 0.0, **fields: object) -> list[str]:
        at = now(at_s)
        record = Record(fact=fact, at=at.wall, job="backup", run=run(**fields), reason="because")
        return self.take(self.watch.observe(record, at))

    def expire(self, at_s: float) -> list[str]:
        return self.take(self.watch.expire(now(at_s)))

    def end(self, outcome: Outcome, at_s: float = 0.0, **fields: object) -> list[str]:
        return self.see(Fact.RUN_FINISHED, at_s, outcome=outcome, state=State.FINISHED, **fields)

    def take(self, told: list[tuple[Notice, tuple[str, ...]]]) -> list[str]:
        self.notices += [notice for notice, _ in told]
        return [name for _, names in told for name in names]


# --- what comes of facts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [one for one in Outcome if one not in (Outcome.SUCCEEDED, Outcome.CANCELLED)])
def test_whatever_ends_badly_is_a_failure(outcome: Outcome) -> None:
    assert Told(job()).end(outcome) == ["failure"]


def test_a_cancelled_run_is_no_failure_and_no_success() -> None:
    assert Told(job()).end(Outcome.CANCELLED) == []


def test_a_success_is_a_success() -> None:
    assert Told(job()).end(Outcome.SUCCEEDED) == ["success"]


def test_an_attempt_that_is_tried_again_is_a_retry() -> None:
    assert Told(job()).see(Fact.RUN_RETRYING, outcome=Outcome.FAILED) == ["retry"]


def test_a_skip_is_told_but_not_one_that_somebody_arranged() -> None:
    told = Told(job())
    assert told.see(Fact.RUN_SKIPPED, skip=Skip.OVERLAP) == ["skip"]
    assert told.see(Fact.RUN_SKIPPED, skip=Skip.PAUSED) == []
    assert told.see(Fact.RUN_SKIPPED, skip=Skip.CALENDAR) == []


def test_the_first_success_after_failures_is_a_recovery_and_the_second_is_not() -> None:
    told = Told(job())
    told.end(Outcome.FAILED)
    told.end(Outcome.CANCELLED)
    assert told.end(Outcome.SUCCEEDED) == ["recovery", "success"]
    assert told.end(Outcome.SUCCEEDED) == ["success"]


def test_a_hook_of_both_lists_is_told_of_a_recovery_only() -> None:
    told = Told(job(hooks=HookLists(success=("ops", "log"), recovery=("ops",))))
    told.end(Outcome.FAILED)
    assert told.end(Outcome.SUCCEEDED) == ["ops", "log"]
    assert [notice.event for notice in told.notices] == [Occasion.RECOVERY, Occasion.SUCCESS]


def test_recovery_survives_a_restart() -> None:
    told = Told(job())
    told.watch.restore({}, {"backup": "timed_out"}, {})
    assert told.end(Outcome.SUCCEEDED) == ["recovery", "success"]


def test_a_job_that_is_not_watched_tells_nothing() -> None:
    assert Told(job("other")).end(Outcome.FAILED) == []


def test_the_reason_counts_the_fires_that_it_stands_for() -> None:
    told = watch(job())
    record = Record(fact=Fact.RUN_SKIPPED, at=T0, job="backup", run=run(skip=Skip.CATCH_UP), reason="missed", count=7)
    assert told.observe(record, now())[0][0].reason == "7 fires: missed"


# --- overruns -----------------------------------------------------------------------------------------------


def test_a_run_longer_than_expected_is_told_once_while_it_runs() -> None:
    told = Told(job(expected_s=60.0))
    told.see(Fact.RUN_STARTED, started_at=T0)
    assert told.watch.next_deadline()[0] == 1060.0
    assert told.expire(59.9) == []
    assert told.expire(60.0) == ["overrun"]
    assert told.expire(9999.0) == []
    assert told.notices[0].reason == "still running after 60.0 s; expected: 60.0 s"


def test_a_run_that_ended_in_time_is_no_overrun() -> None:
    told = Told(job(expected_s=60.0))
    told.see(Fact.RUN_STARTED, started_at=T0)
    told.end(Outcome.SUCCEEDED, 30)
    assert told.watch.next_deadline()[0] is None
    assert told.expire(100) == []


def test_the_next_attempt_is_measured_anew_but_told_once_a_run() -> None:
    told = Told(job(expected_s=60.0))
    told.see(Fact.RUN_STARTED, 0, started_at=T0)
    told.see(Fact.RUN_RETRYING, 50, outcome=Outcome.FAILED)
    assert told.expire(70) == []
    told.see(Fact.RUN_STARTED, 80, started_at=now(80).wall, attempt=2)
    assert told.expire(130) == []
    assert told.expire(140) == ["overrun"]
    told.see(Fact.RUN_STARTED, 200, started_at=now(200).wall, attempt=3)
    assert told.expire(999) == []


def test_a_run_that_was_found_again_is_measured_from_its_start() -> None:
    told = Told(job(expected_s=60.0))
    told.see(Fact.RUN_RECOVERED, 45, started_at=T0)
    assert told.watch.next_deadline()[0] == 1060.0


def test_the_own_99th_percentile_needs_twenty_successes_and_arms_runs_under_way() -> None:
    told = Told(job())
    assert told.watch.lacks_lengths("backup")
    told.see(Fact.RUN_STARTED, started_at=T0)
    told.watch.lengths("backup", [10.0] * 19)
    assert not told.watch.lacks_lengths("backup")
    assert told.watch.next_deadline()[0] is None
    told.end(Outcome.SUCCEEDED, 10, duration_s=10.0)  # the twentieth
    told.see(Fact.RUN_STARTED, 20, run_id="next", started_at=now(20).wall)
    assert told.watch.next_deadline()[0] == 1000 + 20 + 10 + 1
    told.watch.lengths("backup", [5.0] * 200 + [50.0])  # one of 201 is beyond it
    assert told.watch.next_deadline()[0] == 1000 + 20 + 5 + 1


def test_expected_needs_no_past() -> None:
    assert not watch(job(expected_s=1.0)).lacks_lengths("backup")


def test_many_short_runs_leave_no_deadlines_behind() -> None:
    told = Told(job(expected_s=86400.0))
    told.see(Fact.RUN_STARTED, run_id="long", started_at=T0)
    for number in range(3 * STALE_MAX):
        told.see(Fact.RUN_STARTED, run_id=str(number), started_at=T0)
        told.end(Outcome.SUCCEEDED, run_id=str(number))
    assert len(told.watch._overruns) <= STALE_MAX + 5
    assert told.expire(86400.0) == ["overrun"]


# --- absences -----------------------------------------------------------------------------------------------

HOURLY = job(trigger=Every(3600.0))


def absent(*, last_s: float | None = None) -> Told:
    told = Told(HOURLY)
    if last_s is not None:
        told.watch.restore({"backup": now(last_s).wall}, {}, {})
    assert told.watch.without_period() == [HOURLY]
    told.watch.period(HOURLY, timedelta(hours=1))
    assert told.watch.without_period() == []
    return told


def test_two_periods_without_success_are_told_once_until_the_next_success() -> None:
    told = absent()
    assert told.watch.next_deadline()[1] == now(7200).wall
    assert told.expire(7199) == []
    assert told.expire(7200) == ["absence"]
    assert told.expire(99999) == []
    told.end(Outcome.FAILED, 100_000)
    assert told.expire(200_000) == []
    told.end(Outcome.SUCCEEDED, 200_000)
    assert told.expire(207_199) == []
    assert told.expire(207_200) == ["absence"]
    assert "the last success was at" in told.notices[-1].reason


def test_an_absence_counts_from_the_last_success_before_a_restart() -> None:
    assert absent(last_s=-3600).watch.next_deadline()[1] == now(3600).wall
    assert absent(last_s=-9000).expire(0) == ["absence"]


def test_since_when_the_job_is_known_counts_where_it_never_succeeded() -> None:
    told = Told(HOURLY)
    told.watch.restore({}, {}, {"backup": now(-3600).wall})
    told.watch.period(HOURLY, timedelta(hours=1))
    assert told.expire(3600) == ["absence"]
    assert "it never did" in told.notices[-1].reason


def test_a_paused_job_is_not_missed_and_begins_anew_when_it_goes_on() -> None:
    told = absent()
    told.see(Fact.JOB_PAUSED, 10)
    assert told.expire(50_000) == []
    told.see(Fact.JOB_RESUMED, 60_000)
    assert told.watch.next_deadline()[1] == now(67_200).wall


def test_a_job_that_was_paused_before_the_restart_is_not_missed() -> None:
    told = Told(HOURLY)
    told.watch.restore({}, {}, {}, {"backup"})
    told.watch.period(HOURLY, timedelta(hours=1))
    assert told.watch.next_deadline()[1] is None


def test_a_reload_keeps_what_is_known_and_a_new_schedule_begins_anew() -> None:
    told = absent()
    told.end(Outcome.FAILED)
    told.watch.load({"backup": HOURLY}, now(3000).wall)
    assert told.watch.next_deadline()[1] == now(7200).wall
    slower = job(trigger=Every(7200.0))
    told.watch.load({"backup": slower}, now(3000).wall)
    told.watch.period(HOURLY, timedelta(hours=1))  # an answer to a question about the old one
    assert told.watch.without_period() == [slower]
    told.watch.period(slower, timedelta(hours=2))
    assert told.watch.next_deadline()[1] == now(3000 + 14_400).wall
    assert told.end(Outcome.SUCCEEDED) == ["recovery", "success"]


def test_a_removed_job_is_forgotten() -> None:
    told = absent()
    told.watch.load({}, T0)
    assert told.expire(99_999) == []


def test_successes_leave_no_deadlines_behind() -> None:
    told = absent()
    for number in range(3 * STALE_MAX):
        told.end(Outcome.SUCCEEDED, number)
    assert len(told.watch._absences) <= STALE_MAX + 5


# --- the period ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "hours"),
    [
        ("*/15 * * * *", 0.25),
        ("0 3 * * *", 24),
        ("0 9 * * mon-fri", 72),
        ("* 9-17 * * mon-fri", 72 - 9 + 1 / 60),
        ("0 0 1 * *", 31 * 24),
        ("* * * 6 *", (366 - 30) * 24 + 1 / 60),
        ("0 0 29 2 *", (4 * 365 + 1) * 24),
    ],
)
def test_the_period_is_the_largest_silence_of_a_schedule(expression: str, hours: float) -> None:
    found = period_of(job(trigger=Cron(expression)), T0)
    assert found is not None
    longest = (8 * 366 * 24) if expression.startswith("0 0 29") else hours  # 2096 to 2104 is beyond what is looked at
    assert timedelta(hours=hours) <= found + timedelta(seconds=1) <= timedelta(hours=longest, seconds=1)


def test_an_interval_is_its_own_period_and_jitter_adds_to_it() -> None:
    assert period_of(job(trigger=Every(90.0), jitter_s=10.0), T0) == timedelta(seconds=100)


def test_a_job_without_a_schedule_has_no_period() -> None:
    assert period_of(job(), T0) is None
