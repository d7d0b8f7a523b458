"""The readings of the last second: everything since the newest, the load as a mean over all of them."""

import pytest
from test_monitor_sample import a_reading

from tidegate.model.sample import Reading
from tidegate.monitor.recent import READINGS_MAX, Recent


def at(second: float, threads: float, looks: int) -> Reading:
    """`threads` is the sum over all looks so far."""
    return a_reading(second, runnable_sum=threads, runnable_looks=looks)


def test_a_first_reading_has_nothing_before_it() -> None:
    recent = Recent()
    found = recent.add(at(5.0, 10.0, 5), 1.0, 0.25)
    assert found.interval_s is None and recent.newest is not None and recent.newest.at_s == 5.0


def test_the_load_is_of_the_time_asked_for_and_all_else_of_the_newest_interval() -> None:
    recent, cores = Recent(), a_reading().cores
    threads = 0.0
    for half in range(9):
        threads += 5 * (2.0 if half < 6 else 8.0)
        found = recent.add(at(half / 2, threads, 5 * (half + 1)), 2.0, 0.25)
    assert found.interval_s == 0.5
    assert found.load_ratio == pytest.approx((2.0 * 0.5 + 8.0 * 1.5) / 2.0 / cores)


def test_what_was_before_a_rest_is_in_no_sample() -> None:
    recent = Recent()
    recent.add(at(0.0, 0.0, 5), 1.0, 0.25)
    recent.begin()
    assert recent.newest is None
    recent.begin(at(60.0, 100.0, 10))
    assert recent.add(at(60.5, 110.0, 15), 1.0, 0.25).interval_s == 0.5


def test_no_more_readings_are_kept_than_a_bound() -> None:
    recent = Recent()
    for number in range(2 * READINGS_MAX):
        recent.add(at(number / 100, float(number), number + 1), 3600.0, 0.005)
    assert len(recent._readings) == READINGS_MAX
