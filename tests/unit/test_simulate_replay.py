"""A plan in virtual time: the engine's own rules, on a machine whose cores, memory and slots are shared."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tidegate.cli.simulate import machine_of
from tidegate.model.job import Boot, Cron, During, Every, Job, Overlap, Retries, Window
from tidegate.model.plan import Calendar, Plan
from tidegate.model.pool import PoolSettings
from tidegate.simulate import replay
from tidegate.simulate.outlook import CORES_GUESS, GUESS_S, MEMORY_GUESS_BYTES, Past, outlook
from tidegate.simulate.replay import Capacity, Ending
from tidegate.simulate.report import Wall, collisions, day_rows, hour_rows, job_rows, measure, saturated_hours
from tidegate.simulate.scenario import Scenario
from tidegate.simulate.tally import Tally

GIB = 1024**3
START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
PLENTY = Capacity(64.0, 64 * GIB, 64, False)
SLEEPER = {"cpu_s": 0.0, "memory_peak_bytes": 1024**2}


def job(name: str, cron: str | None = "0 2 * * *", **more: Any) -> Job:
    return Job(name=name, command=("true",), trigger=Cron(cron) if cron else None, **more)


def scenario(
    jobs: list[Job],
    past: dict[str, Past] | None = None,
    *,
    capacity: Capacity = PLENTY,
    hours: int = 24,
    start: datetime = START,
    seed: int = 1,
    **plan: Any,
) -> Scenario:
    return Scenario(
        plan=Plan(jobs={each.name: each for each in jobs}, **plan),
        past={name: (one,) for name, one in (past or {}).items()},
        given_s={},
        capacity=capacity,
        start=start,
        minutes=hours * 60,
        lead_s=0.0,
        seed=seed,
    )


def play(jobs: list[Job], past: dict[str, Past] | None = None, **more: Any) -> tuple[Tally, Ending]:
    return scenario(jobs, past, **more).play()


def takes(duration_s: float, cores: float = 0.0, memory_bytes: int = 1024**2) -> Past:
    return Past(duration_s, duration_s * cores, memory_bytes)


def waits(tally: Tally) -> dict[str, float]:
    """The longest wait of each job, whole seconds."""
    return {name: round(each.waits.max_s) for name, each in tally.jobs.items()}


# --- the rules are the engine's ---------------------------------------------------------------------------


def test_a_run_begins_when_it_is_due_and_takes_its_time() -> None:
    tally, ending = play([job("a")], {"a": takes(1800, 0.5)})
    row = hour_rows(tally, Wall(START, tally.minutes, UTC), PLENTY)[2]
    assert (row.fires, row.running_max, row.running_mean) == (1, 1, pytest.approx(0.5))
    assert row.cpu_ratio == pytest.approx(0.5 * 0.5 / 64)
    assert (tally.running_max[2 * 60 + 29], tally.running_max[2 * 60 + 30]) == (1, 0)
    assert measure(tally).wait_max_s == 0.0
    assert (ending.fires, ending.complete, ending.running) == (1, True, 0)


def test_a_fire_at_the_very_beginning_counts_and_one_at_the_very_end_does_not() -> None:
    _, ending = play([job("a", "0 0 * * *")], hours=48)
    assert ending.fires == 2


def test_a_fire_that_finds_its_run_still_there_is_skipped() -> None:
    tally, _ = play([job("a", "0 * * * *")], {"a": takes(70 * 60)})
    assert tally.jobs["a"].fires == 24
    assert tally.jobs["a"].runs == 12
    assert tally.jobs["a"].skipped == {"overlap": 12}


def test_with_overlap_queue_the_later_waits_for_the_earlier() -> None:
    tally, ending = play([job("a", "0 0-1 * * *", overlap=Overlap.QUEUE)], {"a": takes(70 * 60)}, hours=3)
    assert waits(tally) == {"a": 600}
    assert ending.running == 0
    assert not measure(tally).saturated_minutes, "it waits for itself, and not for the machine"


def test_a_run_that_a_newer_fire_replaces_ends_then() -> None:
    tally, _ = play([job("a", "0 0-1 * * *", overlap=Overlap.REPLACE)], {"a": takes(7200)}, hours=4)
    assert tally.jobs["a"].runs == 2
    assert max(tally.running_max) == 1
    assert tally.jobs["a"].run_s == pytest.approx(3600 + 7200)


def test_what_comes_after_a_job_runs_when_it_has_succeeded() -> None:
    tally, _ = play([job("a"), job("b", None, after=("a",))], {"a": takes(600), "b": takes(600)})
    assert tally.jobs["b"].runs == 1
    assert tally.running_max[2 * 60 + 15] == 1
    assert tally.fires[2 * 60 + 10] == 0, "only what time fires is counted as due"


def test_one_unit_lets_one_run_at_a_time_and_is_not_the_machine() -> None:
    jobs = [job("a", uses={"db": 1}), job("b", uses={"db": 1})]
    tally, _ = play(jobs, {"a": takes(600), "b": takes(600)}, resources={"db": 1})
    assert sorted(waits(tally).values()) == [0, 600]
    assert max(tally.waiting_max) == 1
    assert not measure(tally).saturated_minutes


def test_the_higher_priority_goes_first() -> None:
    jobs = [job("a"), job("b", priority=5), job("c", priority=-5)]
    one = Capacity(64.0, None, 1, False)
    tally, _ = play(jobs, {name: takes(60) for name in "abc"}, capacity=one)
    assert waits(tally) == {"b": 0, "a": 60, "c": 120}


def test_who_waits_beyond_its_deadline_is_skipped() -> None:
    jobs = [job("a", priority=1), job("b", start_deadline_s=60.0)]
    tally, _ = play(jobs, {"a": takes(600), "b": takes(600)}, capacity=Capacity(64.0, None, 1, False))
    assert tally.jobs["b"].skipped == {"start_deadline": 1}
    assert tally.jobs["b"].fires == 1, "a fire that waited and was skipped is one fire"


def test_a_calendar_skips() -> None:
    night = {"night": Calendar(cron="* 0-5 * * *")}
    tally, _ = play([job("a", "0 * * * *", not_during=(Window("night"),))], calendars=night)
    assert tally.jobs["a"].runs == 18
    assert tally.jobs["a"].skipped == {"calendar": 6}


def test_what_a_calendar_defers_waits_for_nothing() -> None:
    office = {"office": Calendar(cron="* 9-17 * * *")}
    only = (Window("office", During.DEFER),)
    tally, _ = play([job("a", only_during=only)], {"a": takes(600)}, calendars=office)
    assert tally.jobs["a"].runs == 1
    assert tally.running_max[9 * 60] == 1
    assert waits(tally) == {"a": 0}
    assert max(tally.waiting_max) == 0


def test_what_was_deferred_and_then_finds_no_slot_waits_from_then_on() -> None:
    office = {"office": Calendar(cron="* 9-17 * * *")}
    only = (Window("office", During.DEFER),)
    jobs = [job("a", only_during=only), job("b", "50 8 * * *")]
    tally, _ = play(jobs, {"a": takes(60), "b": takes(1800)}, calendars=office, capacity=Capacity(64.0, None, 1, False))
    assert waits(tally) == {"a": 1200, "b": 0}


def test_holidays_are_known() -> None:
    free = {"free": Calendar(dates=((date(2026, 3, 3), date(2026, 3, 3)),))}
    tally, _ = play([job("a", not_during=(Window("free"),))], hours=72, calendars=free)
    assert (tally.jobs["a"].runs, tally.jobs["a"].skipped) == (2, {"calendar": 1})


def test_a_run_that_contention_makes_too_slow_times_out_and_is_tried_again() -> None:
    jobs = [job("a", timeout_s=90.0, retries=Retries(max=1, delay_s=300.0, jitter=0.0)), job("b")]
    tally, _ = play(jobs, {"a": takes(60, 1), "b": takes(60, 1)}, capacity=Capacity(1.0, None, 8, False))
    assert tally.jobs["a"].timed_out == 1
    assert tally.jobs["a"].runs == 1, "two attempts are one run"
    assert tally.running_max[2 * 60 + 6] == 1, "the second try, alone, is in time"


def test_jobs_at_boot_disabled_jobs_and_those_by_hand_do_not_run() -> None:
    jobs = [job("a"), job("b", enabled=False), job("c", None), Job(name="d", command=("x",), trigger=Boot())]
    tally, _ = play(jobs)
    assert set(tally.jobs) == {"a"}


# --- the machine is shared ------------------------------------------------------------------------------------


def test_runs_that_compute_share_the_cores_of_a_fixed_pool() -> None:
    tally, _ = play(
        [job("a"), job("b")], {"a": takes(600, 1), "b": takes(600, 1)}, capacity=Capacity(1.0, None, 8, False)
    )
    assert tally.running_max[2 * 60 + 19] == 2, "600 s each, together, on one core: 20 minutes"
    assert sum(tally.cpu_s) == pytest.approx(1200)
    assert measure(tally).saturated_minutes == 20


def test_an_adaptive_pool_starts_no_more_than_the_cores_bear() -> None:
    jobs = [job(f"j{number}") for number in range(12)]
    past = {one.name: takes(600, 1) for one in jobs}
    tally, _ = play(jobs, past, capacity=Capacity(4.0, None, 64, True))
    assert max(tally.running_max) == 5, "1.15 × 4 cores, and one run more"
    assert sorted(waits(tally).values())[4:6] == [0, 750]
    assert measure(tally).saturated_minutes == 25, "the last two leave half of the cores idle"
    tally, _ = play(jobs, past, capacity=Capacity(4.0, None, 64, False))
    assert max(tally.running_max) == 12, "a fixed pool starts as many as it has slots"


def test_an_adaptive_pool_lets_those_who_only_wait_be_many() -> None:
    jobs = [job(f"j{number}") for number in range(40)]
    tally, _ = play(jobs, {one.name: takes(600, 0.02) for one in jobs}, capacity=Capacity(2.0, None, 64, True))
    assert max(tally.running_max) == 40


def test_runs_whose_memory_does_not_fit_wait() -> None:
    jobs = [job("a"), job("b"), job("c")]
    past = {"a": takes(600, 0, 3 * GIB), "b": takes(600, 0, 3 * GIB), "c": takes(600)}
    tally, _ = play(jobs, past, capacity=Capacity(64.0, 5 * GIB, 64, False))
    assert sorted(waits(tally).values()) in ([0, 0, 600], [0, 600, 600])
    assert max(tally.memory_bytes) < 4 * GIB
    assert measure(tally).saturated_minutes == 10


def test_a_run_larger_than_the_machine_runs_alone() -> None:
    jobs = [job("a"), job("b")]
    tally, ending = play(
        jobs, {"a": takes(60, 0, 9 * GIB), "b": takes(60, 0, GIB)}, capacity=Capacity(8, 2 * GIB, 8, True)
    )
    assert ending.waiting == 0
    assert max(tally.running_max) == 1


def test_a_run_that_wants_more_cores_than_there_are_runs() -> None:
    tally, _ = play([job("a")], {"a": takes(60, 16)}, capacity=Capacity(2.0, None, 8, True))
    assert tally.jobs["a"].runs == 1
    assert max(tally.cpu_s) == pytest.approx(2 * 60)


def test_slots_are_slots() -> None:
    jobs = [job(f"j{number}") for number in range(6)]
    tally, _ = play(jobs, {one.name: takes(60) for one in jobs}, capacity=Capacity(64.0, None, 2, False))
    assert max(tally.running_max) == 2
    assert sorted(waits(tally).values()) == [0, 0, 60, 60, 120, 120]


# --- what is known of runs --------------------------------------------------------------------------------------


def test_what_was_given_goes_before_the_past_and_that_before_what_the_job_says() -> None:
    known = [Past(10, 5.0, GIB)]
    said = job("a", expected_s=7.0)
    for past, given_s, job_, basis, duration_s in (
        (known, 3.0, said, "given", 3.0),
        (known, None, said, "history", 10.0),
        ([], None, said, "expected", 7.0),
        ([], 3.0, said, "given", 3.0),
        ([], None, job("a"), "guess", GUESS_S),
    ):
        found = outlook(job_, past, given_s, 1)
        assert (found.basis, found.draw().duration_s) == (basis, duration_s)
    assert outlook(said, known, 3.0, 1).draw().cores == 0.5, "a given duration leaves the share of a core as it was"


def test_a_job_without_a_past_takes_its_hints_else_a_guess() -> None:
    hinted = outlook(job("a", cpu_cores=2.0, memory_bytes=GIB), [], None, 1).draw()
    assert (hinted.cores, hinted.memory_bytes) == (2.0, GIB)
    plain = outlook(job("a"), [], None, 1).draw()
    assert (plain.cores, plain.memory_bytes) == (CORES_GUESS, MEMORY_GUESS_BYTES)


def test_durations_are_drawn_from_the_past_with_the_seed() -> None:
    past = {"a": tuple(Past(float(seconds), 0.0, 1) for seconds in (10, 20, 40))}

    def runs_s(seed: int) -> float:
        asked = scenario([job("a", "*/5 * * * *")], seed=seed)
        return (
            Scenario(**{name: getattr(asked, name) for name in asked.__struct_fields__} | {"past": past})
            .play()[0]
            .jobs["a"]
            .run_s
        )

    assert runs_s(1) == runs_s(1)
    assert runs_s(1) != runs_s(2)
    assert runs_s(1) == pytest.approx(288 * 70 / 3, rel=0.1)


# --- what is reported ---------------------------------------------------------------------------------------------


def test_hours_are_those_on_the_wall_and_a_change_of_the_clocks_has_its_own() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 3, 29, tzinfo=berlin).astimezone(UTC)
    tally, _ = play([job("a", "30 1 * * *", timezone="Europe/Berlin")], start=start, hours=23)
    wall = Wall(start, tally.minutes, berlin)
    assert [row.hour for row in hour_rows(tally, wall, PLENTY)] == [0, 1, *range(3, 24)]
    (day,) = day_rows(tally, wall, PLENTY)
    assert day.date == "2026-03-29"
    assert [hour for hour, load in enumerate(day.load_ratio) if load is None] == [2]
    assert [hour for hour, load in enumerate(day.load_ratio) if load] == [1]


def test_waits_are_of_the_hour_in_which_the_run_was_due_wherever_the_replay_begins() -> None:
    start = START + timedelta(minutes=40)
    asked = scenario([job("a"), job("b")], {name: takes(600) for name in "ab"}, capacity=Capacity(9, None, 1, False))
    begun = Scenario(
        **{name: getattr(asked, name) for name in asked.__struct_fields__} | {"start": start, "lead_s": 2400.0}
    )
    tally, _ = begun.play()
    rows = {row.hour: row for row in hour_rows(tally, Wall(start, tally.minutes, UTC), begun.capacity)}
    assert rows[2].wait_max_s == pytest.approx(600)
    assert not any(row.wait_max_s for hour, row in rows.items() if hour != 2)


def test_collisions_name_the_worst_minute_and_who_is_in_it() -> None:
    jobs = [job("a"), job("b"), job("c", "0 2 * * mon"), job("d", "30 2 * * *")]
    tally, _ = play(jobs, hours=72)
    (found,) = collisions(tally, Wall(START, tally.minutes, UTC), jobs, 10)
    assert (found.time, found.times, found.jobs_max) == ("02:00", 3, 3)
    assert (found.worst_at, found.jobs) == (START + timedelta(hours=2), ("a", "b", "c"))


def test_a_job_that_fires_each_second_is_one_job_of_its_minute() -> None:
    often = Job(name="a", command=("x",), trigger=Every(1.0))
    tally, _ = play([often], {"a": takes(0.5)}, hours=1)
    assert max(tally.jobs_due) == 1
    assert max(tally.fires) == 60


def test_the_worst_job_stands_first() -> None:
    jobs = [job("a", priority=9), job("b"), job("c", "0 4 * * *")]
    tally, _ = play(jobs, {name: takes(600) for name in "abc"}, capacity=Capacity(64.0, None, 1, False))
    rows = job_rows(tally, dict.fromkeys("abc", "history"))
    assert [row.job for row in rows] == ["b", "a", "c"]
    assert rows[0].wait_p95_s == pytest.approx(600, rel=0.05)
    assert rows[0].run_mean_s == pytest.approx(600)


def test_an_hour_is_saturated_when_a_tenth_of_its_minutes_are() -> None:
    def hours(minutes: int) -> list[int]:
        tally, _ = play([job("a")], {"a": takes(minutes * 60, 1)}, capacity=Capacity(1.0, None, 8, False))
        return saturated_hours(hour_rows(tally, Wall(START, tally.minutes, UTC), Capacity(1.0, None, 8, False)))

    assert hours(5) == []
    assert hours(6) == [2]


def test_more_fires_than_it_replays_end_it_early_and_the_report_is_of_what_was_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "FIRES_MAX", 100)
    tally, ending = play([job("a", "* * * * *")], {"a": takes(1)})
    assert not ending.complete
    assert 100 <= tally.minutes + 1 <= 101
    assert measure(tally).fires == 100


def test_progress_is_told_and_rises() -> None:
    heard: list[float] = []
    scenario([job("a", "* * * * *")]).play(heard.append)
    assert heard == sorted(heard)
    assert 100 < len(heard) <= replay.LOOKS + 1
    assert heard[-1] > 0.99


def test_what_cannot_be_kept_up_with_still_waits_at_the_end() -> None:
    jobs = [job("a", "* * * * *", overlap=Overlap.ALLOW)]
    tally, ending = play(jobs, {"a": takes(300)}, capacity=Capacity(64.0, None, 1, False), hours=2)
    assert ending.waiting > 50
    assert measure(tally).saturated_minutes > 100


@pytest.mark.parametrize(
    ("settings", "slots"), [({}, 64), ({"min": 100}, 100), ({"max_per_core": 3}, 6), ({"max": 5}, 5)]
)
def test_the_machine_has_the_slots_that_the_pool_would_have(settings: dict[str, Any], slots: int) -> None:
    plan = Plan(pool=PoolSettings(**settings))
    assert machine_of(plan, cores=2.0, memory_bytes=2**33).slots == slots
