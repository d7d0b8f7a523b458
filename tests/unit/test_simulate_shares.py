"""Runs that share cores in virtual time: nobody gets more than there is, nobody ends early, who waits is not slowed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.simulate.shares import LEVELS, Shares

RUN = st.tuples(st.floats(0.1, 500), st.floats(0, 3), st.floats(0, 300))  # duration, cores, begin


def play(cores: float, runs: list[tuple[float, float, float]]) -> tuple[list[float], float]:
    """When each run ended, and the most cores that were in use."""
    shares = Shares(cores)
    waiting = sorted(range(len(runs)), key=lambda number: runs[number][2])
    ends = [0.0] * len(runs)
    most = now_s = 0.0
    while waiting or shares.next_end_s() is not None:
        end_s = shares.next_end_s()
        begin_s = runs[waiting[0]][2] if waiting else float("inf")
        now_s = max(now_s, min(begin_s, float("inf") if end_s is None else end_s))
        for run_id, number in shares.move_to(now_s):
            assert shares.end((run_id, number))
            ends[number] = now_s
        while waiting and runs[waiting[0]][2] <= now_s:
            number = waiting.pop(0)
            shares.add(("run", number), *runs[number][:2])
        most = max(most, shares.busy_cores)
    return ends, most


def test_alone_a_run_takes_what_it_takes() -> None:
    assert play(1, [(10, 1, 0)])[0] == [pytest.approx(10)]


def test_two_that_compute_on_one_core_take_twice_as_long() -> None:
    assert play(1, [(10, 1, 0), (10, 1, 0)])[0] == [pytest.approx(20)] * 2


def test_as_many_as_there_are_cores_do_not_slow_each_other() -> None:
    assert play(2, [(10, 1, 0), (20, 1, 0)])[0] == [pytest.approx(10), pytest.approx(20)]


def test_who_only_waits_is_not_slowed_by_those_who_compute() -> None:
    ends, _ = play(1, [(10, 0, 0), (10, 1, 0), (10, 1, 0)])
    assert ends[0] == pytest.approx(10)
    assert ends[1:] == [pytest.approx(20)] * 2


def test_the_second_run_slows_the_first_only_while_it_is_there() -> None:
    ends, _ = play(1, [(10, 1, 0), (2, 1, 4)])
    assert ends == [pytest.approx(12), pytest.approx(8)], "4 s alone, 4 s with half a core, 4 s alone"


def test_all_that_is_computed_fits_the_cores() -> None:
    """Half of each run waits: eight of them on two cores compute for 8 × 5 s, and no faster than two cores do."""
    ends, _ = play(2, [(10, 0.5, 0)] * 8)
    assert ends[0] == pytest.approx(8 * 5 / 2, rel=0.01)


def test_a_run_that_is_ended_leaves_its_share_to_the_others() -> None:
    shares = Shares(1)
    shares.add(("a", 1), 10, 1)
    shares.add(("b", 1), 10, 1)
    assert shares.move_to(4) == []
    assert shares.end(("a", 1))
    assert not shares.end(("a", 1)), "it is gone"
    assert shares.next_end_s() == pytest.approx(12)
    assert shares.busy_cores == 1


def test_one_that_was_to_end_next_and_was_ended_before_is_forgotten() -> None:
    shares = Shares(2)
    shares.add(("a", 1), 10, 1)
    shares.add(("b", 1), 30, 1)
    shares.end(("a", 1))
    assert shares.next_end_s() == pytest.approx(30)


def test_another_attempt_of_a_run_is_not_mixed_up_with_the_one_before() -> None:
    shares = Shares(1)
    shares.add(("a", 1), 10, 1)
    shares.end(("a", 1))
    shares.add(("a", 2), 30, 1)
    assert shares.move_to(10) == []
    assert shares.next_end_s() == pytest.approx(30)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.5, 8), st.lists(RUN, min_size=1, max_size=30))
def test_nobody_ends_before_its_time_and_no_more_cores_are_used_than_there_are(
    cores: float, runs: list[tuple[float, float, float]]
) -> None:
    ends, most = play(cores, runs)
    assert most <= cores
    for end_s, (duration_s, _, begin_s) in zip(ends, runs, strict=True):
        assert end_s >= begin_s + duration_s - 1e-3
    if sum(run[1] for run in runs) <= cores:
        for end_s, (duration_s, _, begin_s) in zip(ends, runs, strict=True):
            assert end_s == pytest.approx(begin_s + duration_s, abs=1e-3)
    computed_s = sum(duration_s * min(1, round(min(1, use) * LEVELS) / LEVELS) for duration_s, use, _ in runs)
    waits_s = max(begin_s + duration_s for duration_s, _, begin_s in runs)
    assert max(ends) <= waits_s + 110 * (1 + computed_s * 3 / cores), "it ends"
