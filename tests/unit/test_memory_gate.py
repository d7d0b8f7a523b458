"""How short memory is, and whether one more run fits."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.memory import MemoryWatch, shown
from tidegate.model.pool import GIB, MIB, PoolSettings


def watch(available: float, limit: float = 16 * GIB, some: float = 0.0, outstanding: float = 0) -> MemoryWatch:
    found = MemoryWatch(PoolSettings())
    found.look(int(available), int(limit), some, 0.0, int(outstanding))
    return found


def filling(rate: float, available: float, limit: float = 16 * GIB, foreseen: float = 0.0) -> MemoryWatch:
    """A second of falling at this rate, down to what is available."""
    found = MemoryWatch(PoolSettings())
    for number in range(11):
        left_s = 1.0 - number / 10
        found.look(int(available + rate * left_s), int(limit), 0.0, number / 10, 0, int(foreseen * number / 10))
    return found


# --- the reserve --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "reserve"),
    [
        (256 * MIB, 38.4 * MIB),
        (512 * MIB, 76.8 * MIB),
        (GIB, 0.15 * GIB),
        (4 * GIB, 512 * MIB),
        (16 * GIB, 1.6 * GIB),
        (256 * GIB, 4 * GIB),
    ],
)
def test_what_stays_free(limit, reserve):
    assert watch(limit, limit).reserve_bytes == pytest.approx(reserve, abs=1)


def test_the_worst_fill_rate_adds_to_it_up_to_a_quarter_of_the_limit():
    assert filling(GIB, 12 * GIB).reserve_bytes == pytest.approx(1.9 * GIB, rel=0.01)
    assert filling(100 * GIB, 12 * GIB).reserve_bytes == 4 * GIB


def test_the_worst_fill_rate_is_forgotten_by_half_in_an_hour():
    found = filling(GIB, 12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 3601.0)
    assert found.worst_fill_bytes_per_s == pytest.approx(0.5 * GIB, rel=0.01)


# --- the tiers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "tier"),
    [
        (8 * GIB, 0),
        (2.41 * GIB, 0),
        (2.39 * GIB, 1),
        (1.61 * GIB, 1),
        (1.59 * GIB, 2),
        (0.81 * GIB, 2),
        (0.79 * GIB, 3),
    ],
)
def test_the_less_is_left_the_higher_the_tier(available, tier):
    assert watch(available).tier == tier


def test_what_runs_may_have_all_but_the_reserve_and_more_is_the_first_tier():
    reserve = watch(8 * GIB).reserve_bytes
    assert watch(8 * GIB, outstanding=8 * GIB - reserve).tier == 0
    assert watch(8 * GIB, outstanding=8 * GIB - reserve + MIB).tier == 1


@pytest.mark.parametrize(("seconds", "tier"), [(11, 0), (9, 1), (3.2, 1), (2.8, 2), (0.5, 2), (0.0, 3)])
def test_the_sooner_the_reserve_would_be_reached_the_higher_the_tier(seconds, tier):
    """At 1.5 GiB/s. The third tier is a second before half of the reserve."""
    rate = 1.5 * GIB
    reserve = filling(rate, 8 * GIB, 24 * GIB).reserve_bytes
    assert filling(rate, reserve + rate * seconds, 24 * GIB).tier == tier


def test_growth_that_is_reserved_already_is_no_alarm():
    assert filling(2 * GIB, 5 * GIB).tier == 2
    assert filling(2 * GIB, 5 * GIB, foreseen=2 * GIB).tier == 0
    assert filling(2 * GIB, 5 * GIB, foreseen=1 * GIB).tier == 1


def falls(found: MemoryWatch, looks: int, outstanding: int, exact_every: int) -> list[int]:
    """1 GiB/s of somebody who is none of ours, looked at four times a second; ours hold what they hold."""
    tiers = []
    for number in range(1, looks + 1):
        left = 12 * GIB - number * GIB // 4
        found.look(left, 16 * GIB, 0.0, number / 4, outstanding, GIB, exact=number % exact_every == 0)
        tiers.append(found.tier)
    return tiers


def test_between_two_exact_looks_what_goes_is_taken_to_go_where_it_is_reserved():
    found = watch(12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 0.0, 4 * GIB, GIB)
    assert falls(found, 6, 4 * GIB, exact_every=100) == [0] * 6
    assert found.unforeseen_bytes_per_s == 0


def test_but_no_more_than_is_reserved():
    found = watch(12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 0.0, GIB // 2, GIB)
    assert 1 in falls(found, 6, GIB // 2, exact_every=100)


def test_and_the_next_exact_look_finds_out_whoever_took_it():
    found = watch(12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 0.0, 4 * GIB, GIB)
    assert falls(found, 4, 4 * GIB, exact_every=4) == [0, 0, 0, 1]
    assert found.unforeseen_bytes_per_s == pytest.approx(GIB)


@pytest.mark.parametrize("told_every", [1, 4, 40])
def test_slow_growth_into_a_reservation_is_no_alarm_when_an_exact_look_follows_at_last(told_every: int) -> None:
    found = watch(12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 0.0, 6 * GIB, 0)
    held = told = 0
    for number in range(1, 500):
        held += (25 if number < 480 else 100) * MIB // 4  # two minutes too slow to count as falling, then not
        if number % told_every == 0 or number >= 485:
            told = held
        exact = number >= 485
        found.look(12 * GIB - held, 16 * GIB, 0.0, number / 4, 6 * GIB - told, told, exact=exact)
        assert (found.tier, found.unforeseen_bytes_per_s) == (0, 0.0), number
    assert found.falling


def test_what_somebody_else_took_slowly_is_no_flood_when_an_exact_look_follows_at_last() -> None:
    found = watch(12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 0.0, 6 * GIB, 0)
    for number in range(1, 500):
        left = 12 * GIB - min(number, 480) * 25 * MIB // 4 - max(0, number - 480) * 50 * MIB // 4
        found.look(left, 16 * GIB, 0.0, number / 4, 6 * GIB, 0, exact=number >= 485)
        assert found.unforeseen_bytes_per_s <= 50 * MIB
        assert found.reserve_bytes < 1.7 * GIB


def test_one_leap_is_no_filling():
    """A process that begins takes what it needs at once: to go on like that it would have to do it again."""
    found = MemoryWatch(PoolSettings())
    for number in range(11):
        found.look((180 if number < 7 else 60) * MIB, 256 * MIB, 0.0, number / 10)
        assert found.tier < 2
    assert not found.falling


def test_pressure_closes_it_above_a_tenth_and_opens_below_a_twentieth():
    found = watch(8 * GIB)
    tiers = []
    for number, some in enumerate((0.09, 0.11, 0.07, None, 0.051, 0.049, 0.09)):
        found.look(8 * GIB, 16 * GIB, some, number + 1.0)
        tiers.append(found.tier)
    assert tiers == [0, 1, 1, 1, 1, 0, 0]


def test_coming_back_is_no_filling():
    found = filling(-GIB, 8 * GIB)
    assert (found.tier, found.falling, found.reserve_in_s) == (0, False, math.inf)


# --- the gate -----------------------------------------------------------------------------------------------


def test_a_run_starts_if_its_peak_fits_beside_the_reserve_and_what_is_still_to_come():
    found = watch(8 * GIB)
    assert found.admits(4 * GIB, 2 * GIB, 3) is None
    assert "5.0 GiB" in found.admits(5 * GIB, 2 * GIB, 3)


def test_in_a_tier_nothing_starts_beside_another():
    assert watch(2.0 * GIB).admits(1, 0, 1) is not None


@pytest.mark.parametrize("available", [8 * GIB, 2 * GIB, GIB])
def test_with_nothing_running_one_run_always_starts(available):
    assert watch(available).admits(100 * GIB, 0, 0) is None


def test_but_not_in_the_third_tier_until_nobody_has_taken_more_for_long():
    found = watch(0.5 * GIB)
    assert found.admits(MIB, 0, 0) is not None
    found.look(GIB // 2, 16 * GIB, 0.0, 29.0)
    assert found.admits(MIB, 0, 0) is not None
    found.look(GIB // 2, 16 * GIB, 0.0, 31.0)
    assert found.admits(MIB, 0, 0) is None


@pytest.mark.parametrize("limit", [256 * MIB, 512 * MIB, GIB])
def test_small_machines_run_their_jobs(limit):
    """What a daemon leaves of them is no third tier, and several small runs fit."""
    found = watch(limit - 90 * MIB, limit)
    assert found.calm
    assert found.admits(20 * MIB, 0, 0) is None
    assert found.admits(20 * MIB, 40 * MIB, 2) is None


def test_what_cannot_be_read_holds_nothing_back():
    found = watch(GIB // 2)
    found.look(None, None, None, 1.0)
    assert found.calm
    assert found.admits(100 * GIB, 0, 5) is None


# --- how often it is looked at ------------------------------------------------------------------------------


def test_it_is_looked_at_the_more_often_the_sooner_it_is_gone():
    assert watch(8 * GIB).next_look_s() == 0.25
    assert filling(2 * GIB, 2.5 * GIB).next_look_s() == 0.05
    assert 0.05 < filling(GIB, 2.5 * GIB).next_look_s() < 0.25


def test_and_not_at_all_while_nothing_runs():
    assert watch(8 * GIB).next_look_s(False) is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-GIB, 64 * GIB)),
            st.one_of(st.none(), st.integers(-1, 64 * GIB)),
            st.one_of(st.none(), st.floats()),
            st.floats(0, 2),
            st.integers(0, 64 * GIB),
            st.integers(0, 64 * GIB),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_it_holds_whatever_is_read(looks):
    found, now_s = MemoryWatch(PoolSettings()), 0.0
    for available, limit, some, pause_s, outstanding, foreseen in looks:
        now_s += pause_s
        found.look(available, limit, some, now_s, outstanding, foreseen)
        assert found.tier in (0, 1, 2, 3)
        assert found.calm == (not found.reason)
        assert 0 <= found.reserve_bytes <= 0.25 * 64 * GIB
        assert 0.05 <= found.next_look_s() <= 0.25
        assert found.tier == 3 or found.admits(64 * GIB, outstanding, 0) is None


def test_sizes_are_shown_for_a_person():
    assert [shown(size) for size in (5, 2048, 38 * MIB, 3 * GIB // 2, 40 * GIB)] == [
        *("5 B", "2.0 KiB", "38 MiB", "1.5 GiB", "40 GiB")
    ]
