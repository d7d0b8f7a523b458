"""The sequence of fires: APScheduler's contract, what was missed, intervals, one-shots and jitter."""

import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.model.job import At, Boot, Cron, Every, Job, Trigger
from tidegate.triggers.build import build
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.fire import FireTrigger

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def make(trigger: Trigger, name: str = "job", zone: str = "Europe/Riga", jitter_s: float = 0.0) -> FireTrigger:
    built = build(Job(name=name, trigger=trigger, timezone=zone, jitter_s=jitter_s))
    assert built is not None
    return built


def listed(trigger: FireTrigger, after: datetime, until: datetime) -> list[datetime]:
    found = []
    fire = trigger.after(after)
    while fire is not None and fire <= until:
        found.append(fire)
        fire = trigger.after(fire)
    return found


triggers = st.builds(
    make,
    trigger=st.one_of(
        st.sampled_from(
            [
                Cron("*/7 * * * *"),
                Cron("30 3 * * *"),
                Cron("0 3,4 * * sun"),
                Cron("*/20 */10 * * * *"),
                Cron("15 3 L * *"),
                Cron("0 0 29 2 *"),
                Cron("H H(0-5) * * *"),
            ]
        ),
        st.floats(1, 200_000).map(Every),
        st.integers(0, 40_000_000).map(lambda s: At(datetime(2025, 12, 1, tzinfo=UTC) + timedelta(seconds=s))),
    ),
    name=st.text(max_size=8),
    zone=st.sampled_from(["UTC", "Europe/Riga", "Australia/Lord_Howe", "Pacific/Apia", "Antarctica/Troll"]),
    jitter_s=st.one_of(st.just(0.0), st.floats(0.001, 100_000)),
)
# Two thirds near the changes of 2026, where the traps are.
instants = st.one_of(
    st.integers(0, 400 * 86_400_000_000).map(lambda us: datetime(2025, 12, 1, tzinfo=UTC) + timedelta(microseconds=us)),
    st.integers(-7200, 7200).map(lambda s: datetime(2026, 3, 29, 1, tzinfo=UTC) + timedelta(seconds=s)),
    st.integers(-7200, 7200).map(lambda s: datetime(2026, 10, 25, 1, tzinfo=UTC) + timedelta(seconds=s)),
)


@given(trigger=triggers, start=instants)
@settings(max_examples=300, deadline=None)
def test_fires_rise_strictly(trigger: FireTrigger, start: datetime) -> None:
    fire = start
    for _ in range(12):
        following = trigger.after(fire)
        if following is None:
            break
        assert following > fire
        # Asked from anywhere in between, it is the same fire: none was left out.
        assert trigger.after(following - TICK) == following
        assert trigger.after(fire + (following - fire) / 2) == following
        fire = following


@given(trigger=triggers, start=instants, span_s=st.floats(0, 90_000), limit=st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_missed_are_the_newest_of_those_that_after_lists(
    trigger: FireTrigger, start: datetime, span_s: float, limit: int
) -> None:
    until = start + timedelta(seconds=span_s)
    if isinstance(period_us := getattr(trigger, "period_us", None), int):
        until = min(until, start + timedelta(microseconds=period_us * 90))
    every = listed(trigger, start, until)
    assert trigger.missed(start, until, limit) == (every[-limit:], len(every) > limit)


def test_the_first_fire_is_strictly_after_now() -> None:
    trigger = make(Cron("0 14 * * *"))
    due = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert trigger.get_next_fire_time(None, due - TICK) == due
    assert trigger.get_next_fire_time(None, due) == due + timedelta(days=1)
    assert isinstance(trigger, BaseTrigger)


def test_the_next_fire_is_the_one_after_the_previous_whatever_the_time_is() -> None:
    trigger = make(Cron("0 14 * * *"))
    previous = datetime(2026, 2, 1, 12, tzinfo=UTC)
    assert trigger.get_next_fire_time(previous, NOW) == previous + timedelta(days=1)


def test_the_same_question_is_answered_from_memory() -> None:
    trigger = make(Cron("0 14 * * *"))
    asked = []
    nominal_after = type(trigger).nominal_after

    class Counting(type(trigger)):  # type: ignore[misc]
        __slots__ = ()

        def nominal_after(self, instant_us: int) -> int | None:
            asked.append(instant_us)
            return nominal_after(self, instant_us)

    counting = Counting("job", 0.0, trigger.fields, trigger.shifts)
    assert counting.after(NOW) == counting.after(NOW) == trigger.after(NOW)
    assert len(asked) == 1


def test_instants_of_any_zone_are_understood_and_answers_are_in_utc() -> None:
    trigger = make(Cron("0 14 * * *"))
    elsewhere = NOW.astimezone(ZoneInfo("Asia/Tokyo"))
    assert trigger.after(elsewhere) == trigger.after(NOW)
    assert trigger.after(elsewhere).tzinfo is UTC


def test_ten_years_of_a_once_a_second_job_cost_nothing_when_only_the_last_is_wanted() -> None:
    trigger = make(Cron("* * * * * *"), zone="America/New_York")
    until = datetime(2026, 7, 1, tzinfo=UTC)
    best_s = 1.0
    for _ in range(5):
        started = time.perf_counter()
        missed, older = trigger.missed(until - timedelta(days=3653), until, 1)
        best_s = min(best_s, time.perf_counter() - started)
        assert (missed, older) == ([until], True)
    assert best_s < 0.005


def test_what_was_missed_of_a_rare_job_is_found_far_back() -> None:
    trigger = make(Cron("0 0 29 2 *"), zone="UTC")
    missed = [datetime(year, 2, 29, tzinfo=UTC) for year in (2016, 2020, 2024)]
    assert trigger.missed(datetime(2013, 1, 1, tzinfo=UTC), NOW, 10) == (missed, False)
    assert trigger.missed(datetime(2013, 1, 1, tzinfo=UTC), NOW, 2) == (missed[1:], True)
    assert trigger.missed(datetime(2024, 3, 1, tzinfo=UTC), NOW, 2) == ([], False)


def test_a_fire_moved_out_of_a_gap_is_missed_at_the_instant_it_was_due() -> None:
    trigger = make(Cron("30 3 * * *"))
    gap_end = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert trigger.missed(gap_end - timedelta(hours=2), gap_end, 5) == ([gap_end], False)
    assert trigger.missed(gap_end - TICK, gap_end, 5) == ([gap_end], False)
    assert trigger.missed(gap_end, gap_end + timedelta(hours=2), 5) == ([], False)


def test_an_interval_keeps_its_phase_whenever_it_is_asked() -> None:
    trigger = make(Every(900.0), name="report")
    first = trigger.after(NOW)
    assert first is not None
    assert first - NOW <= timedelta(minutes=15)
    assert trigger.after(first) == first + timedelta(minutes=15)
    assert make(Every(900.0), name="report").after(NOW + timedelta(hours=5)) == first + timedelta(hours=5)
    assert first.microsecond == 0
    # Written down once: if it changes, every interval of every installation moves.
    assert first == datetime(2026, 3, 1, 12, 3, 31, tzinfo=UTC)


def test_intervals_are_spread_over_their_period() -> None:
    firsts = [make(Every(60.0), name=f"job-{number}").after(NOW) for number in range(600)]
    assert len(set(firsts)) == 60


@pytest.mark.parametrize("period_s", [0.0, 0.999, -5.0, float("inf"), float("nan"), 1e10])
def test_an_interval_under_a_second_or_beyond_a_life_is_refused(period_s: float) -> None:
    with pytest.raises(TriggerError, match="period must be from 1 second to 100 years"):
        make(Every(period_s))


def test_a_one_shot_fires_once_and_tells_its_instant_even_when_it_is_past() -> None:
    trigger = make(At(NOW))
    for now in (NOW - timedelta(days=1), NOW, NOW + timedelta(days=999)):
        assert trigger.get_next_fire_time(None, now) == NOW
    assert trigger.get_next_fire_time(NOW, NOW) is None
    assert trigger.after(NOW - TICK) == NOW
    assert trigger.missed(NOW - TICK, NOW, 5) == ([NOW], False)
    assert trigger.missed(NOW, NOW + TICK, 5) == ([], False)


def test_a_one_shot_with_jitter_fires_once() -> None:
    trigger = make(At(NOW), jitter_s=600)
    due = trigger.get_next_fire_time(None, NOW + timedelta(days=1))
    assert due is not None and NOW < due <= NOW + timedelta(minutes=10)
    assert trigger.after(NOW) == due
    assert trigger.get_next_fire_time(due, due) is None


def test_a_one_shot_in_a_year_that_nobody_means_is_refused() -> None:
    for year in (1, 1969, 9999):
        with pytest.raises(TriggerError, match=f"year must be 1970-9000, got {year}"):
            make(At(datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)))


def test_what_has_no_clock_has_no_trigger() -> None:
    assert build(Job(name="job", trigger=Boot())) is None
    assert build(Job(name="job")) is None


def test_intervals_are_wildcards_and_one_shots_are_not() -> None:
    assert make(Every(60.0)).wildcard
    assert not make(At(NOW)).wildcard


def test_jitter_moves_each_fire_later_by_its_own_share() -> None:
    plain, moved = make(Cron("0 14 * * *")), make(Cron("0 14 * * *"), jitter_s=1800)
    noon = NOW + timedelta(hours=12)  # half a day from any fire
    pairs = zip(
        listed(plain, noon, noon + timedelta(days=300)), listed(moved, noon, noon + timedelta(days=300)), strict=True
    )
    late_s = [(after - due).total_seconds() for due, after in pairs]
    assert 0 <= min(late_s) < 60 and 1740 < max(late_s) <= 1800
    assert len(set(late_s)) > 290
    assert 800 < sum(late_s) / len(late_s) < 1000


def test_jitter_is_stable_by_name_and_fire() -> None:
    moved = make(Cron("0 14 * * *"), jitter_s=1800)
    assert moved.after(NOW) == make(Cron("0 14 * * *"), jitter_s=1800).after(NOW + timedelta(minutes=1))
    assert moved.after(NOW) != make(Cron("0 14 * * *"), name="other", jitter_s=1800).after(NOW)


def test_jitter_beyond_the_period_loses_no_fire_and_doubles_none() -> None:
    plain, moved = make(Cron("*/5 * * * *")), make(Cron("*/5 * * * *"), jitter_s=7200)
    end = NOW + timedelta(days=3)
    nominal, shifted = listed(plain, NOW, end), listed(moved, NOW, end)
    behind = [fire for fire in shifted if fire > nominal[0]]
    assert abs(len(behind) - len(nominal)) <= 1
    for due, following, fire in zip(nominal, nominal[1:], behind, strict=False):
        assert due <= fire < following


@pytest.mark.parametrize("jitter_s", [-1.0, 1e9, float("nan")])
def test_jitter_that_is_no_jitter_is_refused(jitter_s: float) -> None:
    with pytest.raises(TriggerError, match="jitter must be from 0 seconds to 366 days"):
        make(Cron("0 14 * * *"), jitter_s=jitter_s)


def test_triggers_are_equal_by_value() -> None:
    same = [make(Cron("0 0 * * *")), make(Cron("@daily"))]
    assert same[0] == same[1] and hash(same[0]) == hash(same[1])
    assert make(Every(60.0)) == make(Every(60.0))
    assert make(At(NOW)) == make(At(NOW))
    others = {
        make(Cron("0 0 * * *")),
        make(Cron("0 1 * * *")),
        make(Cron("0 0 * * *"), zone="UTC"),
        make(Cron("0 0 * * *"), jitter_s=5),
        make(Cron("0 0 * * *"), name="other"),
        make(Cron("* 0 * * *")),
        make(Cron("0-59 0 * * *")),  # the same times, but not by wildcard
        make(Every(60.0)),
        make(At(NOW)),
    }
    assert len(others) == 9


def test_ten_thousand_triggers_take_little_memory_and_time() -> None:
    jobs = [
        Job(name=f"job-{n}", trigger=Cron(f"{n % 60} {n % 24} * * *"), timezone="Europe/Riga") for n in range(10_000)
    ]
    tracemalloc.start()
    try:
        kept = [build(job) for job in jobs]
        firsts = [trigger.get_next_fire_time(None, NOW) for trigger in kept if trigger]
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used_bytes / 10_000 < 1024
    assert len(firsts) == 10_000
    started = time.process_time()
    for trigger in [build(job) for job in jobs]:
        assert trigger is not None
        trigger.get_next_fire_time(None, NOW)
    assert time.process_time() - started < 1.0  # 100 µs each; measured: 10
