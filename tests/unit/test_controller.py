"""How many runs at once: what the controller makes of each reading, and that no reading takes it out of its bounds."""

import itertools
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.controller import Change, Controller, Load
from tidegate.engine.fresh import Fresh
from tidegate.model.pool import PoolSettings


def load(**changes) -> Load:
    """Two cores of which half idle, one run for each slot and more that wait."""
    usual = {
        "cores": 2.0, "load_ratio": 0.5, "busy_ratio": 0.5, "foreign_cores": 0.0, "io_full_ratio": 0.0,
        "running": 10_000, "queued": 9,
    }  # fmt: skip
    return Load(**{**usual, **changes})


@dataclass
class Steps:
    """Steps of half a second."""

    controller: Controller
    now_s: float = 0.0
    changes: list[Change] = field(default_factory=list)

    def __call__(self, times: int = 1, **changes) -> int:
        for _ in range(times):
            self.now_s += 0.5
            change = self.controller.step(load(**changes), self.now_s)
            if change:
                self.changes.append(change)
        return self.controller.limit


def steps(cores: float = 2.0, **changes) -> Steps:
    return Steps(Controller(PoolSettings(**changes), cores))


FULL = {"load_ratio": 1.0, "busy_ratio": 1.0}
CROWDED = {"load_ratio": 6.0, "busy_ratio": 1.0}
IDLE = {"load_ratio": 0.01, "busy_ratio": 0.01}


# --- what a busy machine is --------------------------------------------------------------------------------


def test_it_begins_with_a_run_for_each_core():
    assert [steps(cores).controller.limit for cores in (0.5, 1, 2, 2.5, 64)] == [1, 1, 2, 3, 64]


def test_full_use_is_no_overload():
    """The trap: 100 % CPU, one thread for each core, and the naive pool shrinks."""
    step = steps()
    assert step(20, **FULL) == 2
    assert not step.changes


def test_it_doubles_while_cores_idle_and_runs_wait():
    assert [step() for step in [steps()] * 4] == [4, 8, 16, 32]


def test_it_grows_as_many_times_as_fill_the_cores_where_that_is_more():
    assert steps()(1, load_ratio=0.4, busy_ratio=0.3) == 6


def test_it_takes_greater_strides_while_next_to_nothing_is_used():
    step = steps()
    assert [step(**IDLE) for _ in range(3)] == [8, 32, 64]


def test_and_not_where_cores_are_used_although_few_threads_want_one():
    assert steps()(load_ratio=0.2, busy_ratio=0.5) == 4


BURSTS = {"load_ratio": 1.4, "busy_ratio": 0.8}  # of runs that wait and compute by turns


def test_until_it_was_too_high_once_it_grows_into_what_idles_whatever_the_load_says():
    step = steps()
    assert step(2) == 8
    assert [step(**BURSTS) for _ in range(4)] == [8, 12, 12, 18]


def test_but_not_on_readings_of_a_limit_that_was_not_in_use():
    step = steps()
    assert step(2) == 8
    assert [step(**BURSTS, running=4), step(**BURSTS), step(**BURSTS)] == [8, 8, 12]


def test_a_limit_is_in_use_where_three_quarters_of_it_run():
    step = steps()
    step()
    assert [step(running=2), step(running=3)] == [4, 8]


def test_where_nothing_runs_it_is_not_in_use():
    assert steps(1.0)(3, cores=1.0, running=0) == 1


def test_it_grows_by_one_at_least_where_anything_idles():
    step = steps()
    step()
    assert step(2, load_ratio=1.4, busy_ratio=0.91, running=4) == 5


def test_nor_beside_a_neighbour():
    step = steps()
    assert step(2) == 8
    assert step(3, **BURSTS, foreign_cores=1.0) == 8


@pytest.mark.parametrize(
    "what",
    [
        {"queued": 0},
        {"running": 1},
        {"memory_calm": False},
        {"load_ratio": 1.2, "busy_ratio": 0.99},
        {"busy_ratio": 0.99},
        {"io_full_ratio": 0.25},
        {"load_ratio": None},
        {"fresh_cores": 2.0},
    ],
    ids=str,
)
def test_it_does_not_grow_without_need_or_room(what):
    step = steps()
    step()
    assert step.controller.limit == 4
    assert step(3, **what) == 4


def test_growth_ends_at_the_maximum():
    assert steps()(20) == 64
    assert steps(max=5)(20) == 5
    assert steps(max_per_core=3)(20) == 6


def test_min_wins_over_what_auto_means_and_the_limit_stays_there():
    step = steps(min=10, max_per_core=1)
    assert step.controller.limit == 10
    assert step(20) == 10


def test_where_most_runs_want_a_core_two_crowded_readings_shrink_it_and_one_does_not():
    step = steps()
    step(3)
    assert step(1, **CROWDED, running=16) == 16
    assert step(1, **CROWDED, running=16) == 8


def test_one_crowded_reading_between_others_changes_nothing():
    step = steps()
    step(3)
    for _ in range(10):
        step(1, **CROWDED, running=16)
        assert step(1, **FULL, running=16) == 16


def test_after_a_decrease_there_is_none_for_the_cooldown():
    step = steps()
    step(4)
    assert [step(1, **CROWDED, running=12) for _ in range(6)] == [32, 8, 8, 8, 8, 4]


def test_beside_a_neighbour_one_decrease_does_what_two_do():
    crowd = {"load_ratio": 9.0, "busy_ratio": 1.0, "running": 16}
    alone, beside = steps(), steps()
    assert alone(3) == beside(3) == 16
    assert (alone(2, **crowd), beside(2, **crowd, foreign_cores=1.0)) == (8, 4)


def test_beside_a_neighbour_it_shrinks_in_proportion_to_the_load():
    step = steps()
    step(3)
    assert step(2, load_ratio=2.0, busy_ratio=1.0, running=16, foreign_cores=1.0) == 10


def test_beside_a_neighbour_the_next_decrease_is_soon():
    step = steps()
    step(5)
    crowd = {"load_ratio": 9.0, "busy_ratio": 1.0, "foreign_cores": 1.0}
    assert step(2, **crowd, running=64) == 16
    assert [step(**crowd, running=16), step(**crowd, running=16)] == [16, 4]


def test_it_does_not_grow_on_bursts_beside_a_neighbour_by_whom_it_would_shrink():
    step = steps()
    assert step(12, load_ratio=2.0, busy_ratio=0.8, foreign_cores=1.0, wanted_cores=0.3, running=2) == 2


def neighbour_left():
    """It was too high at 16 alone, and then a neighbour came and took it down to 1, and left."""
    step = steps()
    step(3)
    assert step(2, **CROWDED, running=16) == 8
    step(4, **FULL)
    assert step(4, load_ratio=9.0, busy_ratio=1.0, running=8, foreign_cores=1.0) == 1
    return step


def test_when_a_neighbour_has_left_it_doubles_up_to_where_it_was_too_high_without_him():
    step = neighbour_left()
    assert [step() for _ in range(6)] == [2, 4, 8, 16, 17, 34]


def test_and_so_it_does_on_bursts():
    step = neighbour_left()
    assert step(3) == 8
    assert [step(**BURSTS) for _ in range(6)] == [8, 12, 12, 16, 16, 17]


def test_but_of_the_disk_a_neighbour_on_the_cores_takes_nothing():
    step = steps()
    step(3)
    assert step(2, **FULL, io_full_ratio=1.0, foreign_cores=1.0, running=16) == 8


def test_on_many_cores_it_takes_more_than_half_of_one_to_be_a_neighbour():
    crowd = {"cores": 64.0, "load_ratio": 9.0, "busy_ratio": 1.0, "running": 256}
    quiet, beside = steps(64.0), steps(64.0)
    for step in (quiet, beside):
        step.controller.limit = 256
    assert quiet(2, **crowd, foreign_cores=3.0) == 128
    assert beside(2, **crowd, foreign_cores=4.0) == 64


def test_readings_of_another_pace_say_nothing_of_now():
    step = steps()
    step(3)
    step(2, **CROWDED, running=16)
    before = step.controller.limit
    for _ in range(10):
        step(1, load_ratio=0.2, busy_ratio=0.2, running=before - 1, queued=0)
        step.now_s += 9.5
    assert step(6, load_ratio=1.4, busy_ratio=1.0, running=before) == before, "nothing idles now"


def test_a_reload_that_changes_nothing_of_it_forgets_nothing():
    step, other = steps(), steps()
    for each in (step, other):
        each(3)
        each(2, **CROWDED, running=16)
    for _ in range(120):
        assert other.controller.configure(PoolSettings(), 2.0) is None
        assert step(load_ratio=1.2, busy_ratio=0.97) == other(load_ratio=1.2, busy_ratio=0.97)
    step(40, queued=0, running=1)
    for _ in range(40):
        other.controller.configure(PoolSettings(), 2.0)
        other(queued=0, running=1)
    assert other.controller.limit == step.controller.limit == 2


def test_a_reload_that_finds_other_cores_looks_for_the_limit_anew():
    step = steps()
    step(3)
    step(2, **CROWDED, running=16)
    step.controller.configure(PoolSettings(), 8.0)
    assert [step(cores=8.0), step(cores=8.0)] == [16, 32], "it doubles again, and knows no limit that was too high"


def test_our_own_use_never_lowers_it_below_the_cores():
    step = steps(4.0)
    assert step(200, cores=4.0, load_ratio=20.0, busy_ratio=1.0) == 4


def test_what_others_use_lowers_the_floor_and_gives_it_back():
    step = steps(4.0)
    busy = {"cores": 4.0, "load_ratio": 2.0, "busy_ratio": 1.0, "foreign_cores": 3.0}
    assert step(20, **busy) == 1
    assert step.changes[0].reason_word == "foreign"
    assert step(1, cores=4.0, load_ratio=0.3, busy_ratio=0.3) == 4


def test_runs_that_mostly_wait_are_judged_by_whether_cores_idle():
    """Many of them may want a core at once: more is still more throughput, as long as cores idle in the mean."""
    step = steps()
    step(3)
    assert step(30, load_ratio=2.5, busy_ratio=0.97, running=16) == 16
    assert step(30, load_ratio=2.5, busy_ratio=0.85, running=16) > 16
    before = step.controller.limit
    assert step(12, load_ratio=3.5, busy_ratio=1.0, running=before) < before


def test_a_slight_overload_is_not_decided_by_two_readings():
    step = steps()
    step(3)
    assert step(9, load_ratio=1.8, busy_ratio=1.0, running=16) == 16
    assert step(2, load_ratio=1.8, busy_ratio=1.0, running=16) < 16


def test_over_how_long_a_slight_one_is_a_mean_can_be_changed_while_it_runs():
    step = steps()
    step(3)
    step.controller.configure(PoolSettings(steady_s=10.0), 2.0)
    assert step(19, load_ratio=1.8, busy_ratio=1.0, running=16) == 16
    assert step(2, load_ratio=1.8, busy_ratio=1.0, running=16) < 16


def test_the_disk_is_a_law_of_its_own():
    step = steps()
    step(3)
    assert step(1, **IDLE, io_full_ratio=0.6) == 16
    assert step(1, **IDLE, io_full_ratio=0.6) == 8
    assert step.changes[-1].reason_word == "io"
    assert step(4, **IDLE, io_full_ratio=0.25) == 8


def test_near_where_it_was_too_high_it_grows_by_one_and_ever_more_slowly():
    step = steps()
    step(3)
    step(2, **CROWDED, running=16)
    step(8)
    grown = step.controller.limit
    assert 13 <= grown <= 15
    assert step(1) <= grown + 1
    waits = []
    for _ in range(3):
        while step.controller.limit < 16:
            step()
        began_s = step.now_s
        before = step.controller.limit
        step(12, load_ratio=1.8, busy_ratio=1.0, running=before)
        while step.controller.limit < 16:
            step()
        waits.append(step.now_s - began_s)
    assert waits[0] < 30 and waits[1:] == [65.0, 65.0], "knee_max, and a decrease and the look after it"


def test_near_there_it_does_not_grow_while_the_cores_are_full_although_they_idled_in_the_mean():
    step = steps()
    step(3)
    step(2, **CROWDED, running=16)
    before = step(8)
    while step.controller.limit == before:
        step()
    before = step.controller.limit
    assert 13 <= before <= 18
    assert step(3) == before
    assert step(load_ratio=1.2, busy_ratio=1.0) == before


def test_what_was_long_unused_is_given_up():
    step = steps()
    step(3)
    assert step(19, queued=0, running=3) == 16
    assert step(9, queued=0, running=3) == 6
    assert step.changes[-1].reason_word == "idle"
    assert step(40, queued=0, running=0) == 2
    assert [step(**IDLE), step(**IDLE)] == [8, 32], "after a rest it doubles again"


def test_it_is_kept_while_runs_wait_for_something_else_than_a_slot():
    step = steps()
    step(3)
    assert step(60, running=1, queued=5) == 16


def test_fixed_is_max_whatever_the_machine_says():
    step = steps(mode="fixed", max=7)
    assert step(10, **CROWDED) == 7
    assert step(10, **IDLE) == 7


def test_a_reload_brings_it_within_the_new_bounds_at_once():
    controller = Controller(PoolSettings(), 2.0)
    change = controller.configure(PoolSettings(min=5, max=9), 2.0)
    assert (change.before, change.after, change.direction, change.reason_word) == (2, 5, "up", "settings")
    assert controller.configure(PoolSettings(max=3), 2.0).after == 3
    assert controller.configure(PoolSettings(max=3), 2.0) is None


def test_fewer_cores_lower_the_maximum():
    step = steps(4.0)
    step(5, cores=4.0)
    assert step.controller.limit == 128
    assert step(1, cores=0.5) == 16
    assert step.changes[-1].reason_word == "cores"


def test_a_reading_that_is_missing_is_told_and_holds():
    step = steps()
    assert not step.controller.blind
    assert step(10, load_ratio=None) == 2
    assert "cannot be read" in step.controller.blind
    step()
    assert not step.controller.blind


@pytest.mark.parametrize("missing", ["busy_ratio", "foreign_cores", "io_full_ratio"])
def test_it_goes_on_without_the_readings_it_can_do_without(missing):
    assert steps()(5, **IDLE | {missing: None}) == 64


def test_a_change_says_why():
    step = steps()
    step()
    assert step.changes[0] == Change(2, 4, "up", "growth", "0.50 threads want each core, 50% idle, and runs wait")


ANY = st.one_of(st.none(), st.floats(), st.floats(0, 10), st.sampled_from([math.inf, -math.inf, math.nan, -1.0, 1e300]))
LOADS = st.builds(
    Load,
    cores=st.one_of(st.floats(), st.sampled_from([0.0, 0.1, 1.0, 2.0, 2.0, 2.0, 64.0])),
    load_ratio=ANY,
    busy_ratio=ANY,
    foreign_cores=ANY,
    io_full_ratio=ANY,
    running=st.integers(-1, 10_000),
    queued=st.integers(-1, 10_000),
    fresh_cores=st.one_of(st.floats(), st.just(0.0)),
    memory_calm=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(LOADS, st.integers(1, 10)), max_size=12),
    st.integers(1, 50),
    st.one_of(st.none(), st.integers(1, 100)),
    st.sampled_from(["adaptive", "fixed"]),
)
def test_the_limit_is_within_its_bounds_whatever_is_read(looks, least, most, mode):
    pool = PoolSettings(min=least, max=None if most is None else max(least, most), mode=mode)
    controller = Controller(pool, 2.0)
    now_s = 0.0
    for look, times in looks:
        for _ in range(times):
            now_s += 0.5
            before = controller.limit
            change = controller.step(look, now_s)
            assert isinstance(controller.limit, int)
            assert controller.limit >= (pool.max if mode == "fixed" and pool.max else 1)
            assert pool.max is None or controller.limit <= pool.max
            assert mode == "fixed" or controller.limit >= least
            assert (change is None) == (controller.limit == before)
            if change:
                assert (change.before, change.after) == (before, controller.limit)
                assert change.direction == ("up" if change.after > before else "down")


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 20), st.floats(0, 1), st.floats(0, 2), st.floats(0, 1), st.sampled_from([1.0, 2.0, 3.5, 16.0]))
def test_constant_readings_lead_to_a_constant_limit(load_ratio, busy, foreign, io_full, cores):
    """It goes one way and stays there: no flapping."""
    controller = Controller(PoolSettings(), cores)
    look = load(cores=cores, load_ratio=load_ratio, busy_ratio=busy, foreign_cores=foreign, io_full_ratio=io_full)
    limits = []
    for number in range(1, 200):
        controller.step(look, number * 0.5)
        limits.append(controller.limit)
    ways = {before < after for before, after in itertools.pairwise(limits) if before != after}
    assert len(ways) <= 1


# --- runs that began a moment ago ---------------------------------------------------------------------------


def test_a_fresh_run_counts_for_the_part_that_no_reading_has_seen():
    fresh = Fresh(1.0)
    fresh.started("a", 0.5, 10.0)
    assert [fresh.cores(at_s) for at_s in (10.0, 10.5, 11.0)] == [0.5, 0.25, 0.0]


def test_where_one_run_follows_another_nothing_counts_twice():
    fresh = Fresh(1.0)
    fresh.started("a", 1.0, 0.0)
    for number in range(1, 20):
        fresh.ended("a", number * 0.5)
        fresh.started("a", 1.0, number * 0.5)
        assert fresh.cores(number * 0.5 + 0.3) == pytest.approx(0.2 if number == 1 else 0.0, abs=1e-9)


def test_an_end_that_nobody_began_changes_nothing():
    fresh = Fresh(1.0)
    fresh.ended("x", 1.0)
    assert fresh.cores(1.0) == 0.0


# --- others crowd the machine, and ours mostly wait ------------------------------------------------------------


def test_where_ours_mostly_wait_a_crowd_of_others_is_no_reason_for_fewer():
    step = steps()
    step(4, wanted_cores=0.1)
    before = step.controller.limit
    assert before > 2
    crowd = {**CROWDED, "foreign_cores": 1.9}
    assert step(40, **crowd, wanted_cores=0.1, queued=0, running=before) == before
    assert step(40, **crowd, wanted_cores=1.0, queued=0, running=before) < before, "now ours are a part of the crowd"


def test_runs_that_mostly_wait_are_let_in_whatever_others_do():
    """A job that sleeps for hours must not hold up all others because a neighbour computes."""
    step = steps()
    crowd = {**CROWDED, "foreign_cores": 2.0}
    assert step(10, **crowd, wanted_cores=0.01) > 20
    step = steps()
    assert step(10, **crowd, wanted_cores=0.5, running=2) <= 2, "these do compute"
    step = steps()
    assert step(10, **crowd, wanted_cores=0.01, fresh_cores=0.5, running=2) <= 2, "of these nobody knows yet"
