"""Which lines could be spread with H, and what that gains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_simulate_replay import START, job, scenario, takes

from tidegate.simulate.replay import Capacity
from tidegate.simulate.stagger import changes, spread, staggered
from tidegate.simulate.tally import Waits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0 2 * * *", "H 2 * * *"),
        ("15 2 * * mon-fri", "H 2 * * mon-fri"),
        ("0 * * * *", "H * * * *"),
        ("@hourly", "H * * * *"),
        ("@daily", "H 0 * * *"),
        ("@midnight", "H 0 * * *"),
        ("@weekly", "H 0 * * 0"),
        ("*/15 * * * *", "H/15 * * * *"),
        ("0,30 9-17 * * *", "H/30 9-17 * * *"),
        ("5,25,45 * * * *", "H/20 * * * *"),
        ("0,10 * * * *", None),
        ("* * * * *", None),
        ("*/1 * * * *", None),
        ("*/60 * * * *", None),
        ("10-20 * * * *", None),
        ("H 2 * * *", None),
        ("0 0 2 * * *", None),
        ("@reboot", None),
    ],
)
def test_only_a_fixed_minute_is_moved_and_only_within_its_hour(before: str, after: str | None) -> None:
    assert spread(before) == after


def test_only_jobs_that_meet_another_are_to_be_changed() -> None:
    jobs = [job("a", source="x.toml:3"), job("b"), job("c", "30 5 * * *"), job("d", "0 0 2 * * *")]
    found = changes(jobs, START)
    assert [change.job for change in found] == ["a", "b"]
    assert (found[0].source, found[0].before, found[0].after) == ("x.toml:3", "0 2 * * *", "H 2 * * *")


def test_a_job_that_fires_every_minute_is_met_by_all_and_moves_nobody() -> None:
    assert changes([job("a"), job("b", "* * * * *")], START) == []


def test_what_has_jitter_is_spread_already_and_what_is_disabled_does_not_run() -> None:
    assert changes([job("a"), job("b", jitter_s=300.0), job("c", enabled=False)], START) == []


def test_the_minutes_told_are_those_of_the_job() -> None:
    found = changes([job("a", "*/30 * * * *"), job("b", "*/30 * * * *")], START)
    asked = scenario([job("a", "*/30 * * * *"), job("b", "*/30 * * * *")]).spread(found)
    tally, _ = asked.play()
    fired = {minute % 60 for minute in range(tally.minutes) if tally.fires[minute]}
    assert fired == {minute for change in found for minute in change.minutes}
    assert all(later - earlier == 30 for change in found for earlier, later in [change.minutes])


def test_staggering_takes_the_queue_away() -> None:
    jobs = [job(f"job-{number}") for number in range(30)]
    asked = scenario(jobs, {one.name: takes(60) for one in jobs}, capacity=Capacity(64.0, None, 4, False))
    now, then = asked.measured(), asked.spread(asked.changes()).measured()
    assert (now.jobs_in_a_minute_max, now.running_max) == (30, 4)
    assert now.wait_p95_s > 300
    assert then.jobs_in_a_minute_max < 6
    assert then.wait_p95_s < 60
    assert then.fires == now.fires == 30


def test_a_job_that_is_not_to_be_changed_stays_as_it_is() -> None:
    jobs = {one.name: one for one in (job("a"), job("b"), job("c", "30 5 * * *"))}
    after = staggered(jobs, changes(jobs.values(), START))
    assert after["c"] is jobs["c"]
    assert after["a"].trigger != jobs["a"].trigger


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_of_waits_is_right_to_five_percent(waits_s: list[float], share: float) -> None:
    waits = Waits()
    for wait_s in waits_s:
        waits.add(wait_s)
    rising = sorted(waits_s)
    exact_s = rising[max(0, min(len(rising) - 1, -int(-share * len(rising) // 1) - 1))]
    assert waits.quantile_s(share) == pytest.approx(exact_s, rel=0.051, abs=0.0011)
    assert waits.max_s == pytest.approx(max(waits_s), abs=0.001)


def test_waits_of_many_hours_add_up() -> None:
    one, two, all_of_them = Waits(), Waits(), Waits()
    for wait_s in range(100):
        (one if wait_s % 2 else two).add(float(wait_s))
        all_of_them.add(float(wait_s))
    one.merge(two)
    assert (one.count, one.max_s, one.quantile_s(0.5)) == (100, 99.0, all_of_them.quantile_s(0.5))
