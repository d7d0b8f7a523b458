"""Months in seconds: random histories with faults, and named ones for the faults that have a row of their own."""

import os
import time
from datetime import timedelta

import pytest
import torture
from histories import History

from tidegate.model.command import Fact, Record
from tidegate.model.event import Fired
from tidegate.model.job import CatchUp, Cron, Every, Job, Overlap
from tidegate.model.limits import CATCH_UP_FIRES_MAX
from tidegate.model.plan import Plan
from tidegate.model.run import Skip
from tidegate.simulate.invariants import InvariantError, Invariants
from tidegate.simulate.work import Behaviour, Work
from tidegate.simulate.world import World, utc

SEEDS = int(os.environ.get("TIDEGATE_SIM_SEEDS", "100"))


@pytest.mark.timeout(600 + 3 * SEEDS)  # of a busy machine
def test_random_histories_break_no_invariant(capsys):
    totals = torture.play(range(SEEDS), hours=24)
    with capsys.disabled():
        print(f"\n{totals}")
    assert totals.violations == []
    assert totals.crashes > SEEDS
    assert totals.instants > 100 * SEEDS


@pytest.mark.parametrize("seed", [1650, 8892, 9223])
def test_histories_that_once_broke_one_do_so_no_more(seed):
    """A claim refused before its start was decided; schedules changed while a drain lasts."""
    assert torture.play([seed], hours=24).violations == []


def test_the_same_seed_gives_the_same_trace_and_another_seed_another():
    traces = []
    for seed in (11, 11, 12):
        history = History(seed, hours=8)
        history.run()
        traces.append(history.trace)
    assert traces[0] == traces[1] != traces[2]


def test_a_violation_is_told_with_its_seed(monkeypatch):
    def breach(self):
        raise InvariantError("seen")

    monkeypatch.setattr(Invariants, "at_rest", breach)
    totals = torture.play(range(7, 9), hours=0.1)
    assert totals.violations == ["seed 7: InvariantError: seen", "seed 8: InvariantError: seen"]


def test_the_invariants_notice_a_run_that_is_started_twice():
    history = History(5, hours=1, faults=False)
    start = history.world.work.start

    def twice(run, job, now_s):
        start(run, job, now_s)
        history.world.work.running[(run.run_id + "x", 1)] = Behaviour()

    history.world.work.start = twice
    with pytest.raises(InvariantError):
        history.run()


class Recorder:
    """Keeps every record and every instant fired."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.fired: list[tuple[str, object]] = []

    def __call__(self, world, events, commands, now) -> None:
        self.fired += [(event.job, instant) for event in events if isinstance(event, Fired) for instant in event.times]
        self.records += [command for command in commands if isinstance(command, Record)]

    def of(self, fact: Fact) -> list[Record]:
        return [record for record in self.records if record.fact is fact]


def world_of(*jobs: Job, start, slots: int = 8, behaviour: Behaviour | None = None):
    recorder = Recorder()
    work = Work(lambda run, job: behaviour or Behaviour(duration_s=0.5))
    plan = Plan(jobs={job.name: job for job in jobs})
    return World(plan, slots, start, work, (Invariants(), recorder)), recorder


def job(name: str, trigger, **fields) -> Job:
    return Job(name=name, command=("work",), trigger=trigger, **fields)


def test_clock_set_back_one_hour_repeats_no_fixed_time_job_and_stalls_no_other():
    world, seen = world_of(
        job("fixed", Cron("30 12 * * *")),
        job("wild", Cron("*/5 * * * *")),
        job("every", Every(60.0)),
        start=utc(2026, 3, 2, 12, 0),
    )
    world.run_for(3600 - 30)
    before = len(seen.fired)
    world.step_clock(timedelta(hours=-1))
    world.run_for(30 + 2 * 300)
    after = seen.fired[before:]
    assert [name for name, _ in after].count("fixed") == 0
    assert [name for name, _ in after].count("wild") >= 2
    assert [name for name, _ in after].count("every") >= 9
    world.run_for(3600)
    assert [name for name, _ in seen.fired].count("fixed") == 1


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(days=3652)])
def test_clock_set_forward_catches_up_by_policy_bounded_and_fast(jump):
    jobs = [job(f"{policy}{i}", Every(1.0), catch_up=policy) for policy in CatchUp for i in range(3)]
    world, seen = world_of(*jobs, start=utc(2026, 3, 2), slots=32)
    world.run_for(10.5)
    before = len(seen.fired)
    world.step_clock(jump)
    begun = time.process_time()
    world.run_for(31)
    assert time.process_time() - begun < 1.0
    late = seen.fired[before:]
    assert len(late) < 9 * (CATCH_UP_FIRES_MAX + 200)
    skipped = [record for record in seen.of(Fact.RUN_SKIPPED) if record.run.skip is Skip.CATCH_UP]
    assert {record.job.rstrip("0123456789") for record in skipped} >= {"none", "last"}


def test_suspend_for_eight_hours_gives_one_run_on_resume_by_default():
    world, seen = world_of(job("nightly", Cron("0 3 * * *")), job("often", Every(600.0)), start=utc(2026, 3, 2, 0, 0))
    world.run_for(1800)
    before = len(seen.of(Fact.RUN_QUEUED))
    world.suspend(timedelta(hours=8))
    world.run_for(31)
    queued = seen.of(Fact.RUN_QUEUED)[before:]
    assert sorted(record.job for record in queued) == ["nightly", "often"]
    nightly = next(record.run for record in queued if record.job == "nightly")
    assert nightly.catch_up
    assert nightly.scheduled_at == utc(2026, 3, 2, 3, 0)


def test_suspend_under_catch_up_all_makes_up_for_every_fire_in_order():
    world, seen = world_of(
        job("hourly", Cron("0 * * * *"), catch_up=CatchUp.ALL, overlap=Overlap.QUEUE), start=utc(2026, 3, 2, 0, 30)
    )
    world.suspend(timedelta(hours=8))
    world.run_for(600)
    started = [record.run.scheduled_at.hour for record in seen.of(Fact.RUN_STARTED)]
    assert started == [1, 2, 3, 4, 5, 6, 7, 8]


def test_ten_thousand_jobs_due_in_one_second_all_run_in_fair_order():
    jobs = [job(f"j{i:05}", Cron("0 12 * * *")) for i in range(10_000)]
    world, seen = world_of(*jobs, start=utc(2026, 3, 2, 11, 59), slots=32)
    world.run_for(3600)
    finished = seen.of(Fact.RUN_FINISHED)
    assert len(finished) == 10_000
    starting = [record.run.run_id for record in seen.of(Fact.RUN_STARTING)]
    assert starting == sorted(starting)
    assert max(record.lateness_s for record in seen.of(Fact.RUN_QUEUED)) < 1.0


def test_a_removed_job_that_runs_finishes_and_is_recorded():
    world, seen = world_of(
        job("gone", Cron("0 12 * * *")), start=utc(2026, 3, 2, 11, 59), behaviour=Behaviour(duration_s=600)
    )
    world.run_for(120)
    world.load(Plan())
    world.run_for(1200)
    assert [record.job for record in seen.of(Fact.RUN_FINISHED)] == ["gone"]


def test_a_reload_between_fires_moves_no_phase_and_loses_no_fire():
    same = job("steady", Every(60.0), jitter_s=7.0)
    world, seen = world_of(same, job("other", Every(61.0)), start=utc(2026, 3, 2))
    quiet, unmoved = world_of(same, start=utc(2026, 3, 2))
    for i in range(60):
        world.at(30.0 + i * 59.9, lambda i=i: world.load(Plan(jobs={"steady": same, f"n{i}": job(f"n{i}", Every(90))})))
    world.run_for(3600)
    quiet.run_for(3600)
    assert [at for name, at in seen.fired if name == "steady"] == [at for _, at in unmoved.fired]
