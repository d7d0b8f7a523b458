"""The laws of the pool at work on a machine that is only arithmetic (tests/bench/pool/virtual.py).

The goals that can be judged without a real one; and that nothing deadlocks or starves, whatever the load."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bench.pool.virtual import (
    Fixed,
    Machine,
    Neighbour,
    Work,
    cpu_jobs,
    hog_rounds,
    hogs_unguarded,
    judge,
    mixed,
    settled_s,
    sleepers,
    turns,
)

from tidegate.engine.controller import Controller
from tidegate.engine.estimate import Estimator
from tidegate.model.pool import GIB, MIB, PoolSettings

CORES = 2


def machine(cores: float = CORES, **options) -> Machine:
    pool = options.get("settings") or PoolSettings()
    return Machine(Controller(pool, cores), cores, **options)


# --- makespan beside the best fixed size and the naive rule -----------------------------------------------


@pytest.mark.parametrize(
    ("load", "slower", "naive"),
    [(cpu_jobs(), 1.03, 1.3), (sleepers(), 1.08, 1.7), (mixed(600), 1.08, 1.1)],
    ids=["cpu", "sleep", "mixed"],
)
def test_it_is_nearly_as_fast_as_the_best_fixed_size_and_faster_than_the_naive_rule(load, slower, naive):
    found = judge("", load, CORES, (2, 4, 8, 12, 16, 32))
    assert found.ours.ended == len(load)
    assert found.ours.makespan_s <= slower * found.oracle_s
    assert found.naive_s >= naive * found.ours.makespan_s


def test_hogs_are_never_left_to_the_kernel_and_known_ones_never_killed():
    cold, warm, best_s = hog_rounds(sizes=(2, 3))
    assert (cold.oom_kills, warm.oom_kills) == (0, 0)
    assert (cold.failed, warm.failed, cold.ended, warm.ended) == (0, 0, 60, 60)
    assert cold.wasted <= 0.05
    assert warm.wasted <= 0.01
    assert warm.makespan_s <= 1.15 * best_s


def test_without_the_gate_the_same_hogs_are_killed_by_the_kernel():
    """Or the test before this one would show nothing."""
    assert hogs_unguarded(8).oom_kills > 0


# --- how fast, how steady ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "best"),
    [(cpu_jobs(500, 2.0), 2), (sleepers(500, 5.0), 32), (mixed(500, 2.0), 12)],
    ids=["cpu", "sleep", "mixed"],
)
def test_a_burst_has_its_slots_within_three_seconds_and_not_too_many(load, best):
    """`best`: the smallest fixed size that is within 3 % of the fastest; of 32 at most. The job has run before."""
    estimator = Estimator(PoolSettings())
    machine(estimator=estimator).run(load[:8])
    out = machine(settings=PoolSettings(max=32), estimator=estimator).run(load, until_s=20)
    assert [limit for at_s, limit in out.limits if at_s <= 3.0][-1] >= 0.9 * best
    assert max(limit for _, limit in out.limits) <= 1.5 * best


@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("kind", [cpu_jobs, mixed], ids=["cpu", "mixed"])
def test_it_settles_when_a_neighbour_comes_and_when_it_leaves(cores, kind):
    come = [Neighbour(20.0, threads=2), Neighbour(50.0)]
    out = machine(cores, neighbours=come).run(kind(600 * cores), until_s=75.0)
    assert settled_s(out.limits, 20.0, 50.0) <= 3.0
    assert settled_s(out.limits, 50.0, 75.0) <= 5.0


@pytest.mark.parametrize(("kind", "a_minute"), [(cpu_jobs, 0), (sleepers, 0), (mixed, 2)])
def test_a_steady_load_does_not_make_it_flap(kind, a_minute):
    out = machine().run(kind(3000), until_s=100.0)
    assert turns([each for each in out.limits if each[0] > 20.0]) <= a_minute * 80 / 60


# --- small, short and shared memory -------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [256 * MIB, 512 * MIB, GIB])
def test_small_machines_run_ordinary_jobs_several_at_once_and_kill_none(memory):
    load = [Work(key="a", phases=(("wait", 1.0),), peak_bytes=20 * MIB) for _ in range(30)]
    out = machine(memory_bytes=memory, base_bytes=90 * MIB).run(load, until_s=60.0)
    assert (out.ended, out.kills, out.freezes, out.oom_kills) == (30, 0, 0, 0)
    assert max(running for _, running in out.used) > 1


def test_a_neighbour_that_takes_all_memory_stops_starts_and_nothing_else():
    load = [Work(key="a", phases=(("wait", 1.0),), peak_bytes=100 * MIB) for _ in range(100)]
    out = machine(
        memory_bytes=8 * GIB, neighbours=[Neighbour(3.0, bytes=6 * GIB), Neighbour(13.0)], settings=PoolSettings(max=8)
    ).run(load)
    assert (out.ended, out.kills, out.oom_kills) == (100, 0, 0)


@pytest.mark.parametrize("left", [300 * MIB, 20 * MIB])
def test_where_there_is_hardly_any_memory_for_ever_one_run_follows_another(left):
    load = [Work(key="a", phases=(("wait", 1.0),), peak_bytes=10 * MIB) for _ in range(5)]
    out = machine(memory_bytes=8 * GIB, base_bytes=8 * GIB - left).run(load, until_s=600.0)
    assert out.ended == 5


def test_a_large_run_gets_its_turn_among_ever_more_small_ones():
    small = [Work(key="small", phases=(("wait", 4.0),), peak_bytes=800 * MIB, at_s=n * 0.25) for n in range(400)]
    large = Work(key="large", phases=(("wait", 1.0),), peak_bytes=7 * GIB, at_s=20.0)
    estimator = Estimator(PoolSettings())
    machine(memory_bytes=16 * GIB, estimator=estimator).run([*small[:10], large])
    out = machine(memory_bytes=16 * GIB, estimator=estimator, settings=PoolSettings(max=64)).run([*small, large])
    assert out.ended == 401
    assert out.waits_s["large"] <= 45.0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.builds(
            Work,
            key=st.sampled_from("abc"),
            phases=st.lists(
                st.tuples(st.sampled_from(["wait", "cpu"]), st.floats(0.01, 3.0)), min_size=1, max_size=3
            ).map(tuple),
            peak_bytes=st.integers(MIB, 6 * GIB),
            ramp_bytes_per_s=st.sampled_from([0.1 * GIB, GIB, 3.0 * GIB]),
            priority=st.integers(-1, 1),
            at_s=st.floats(0, 5),
        ),
        min_size=1,
        max_size=15,
    ),
    st.sampled_from([0.5, 1, 4]),
    st.sampled_from([GIB // 4, 2 * GIB, 8 * GIB]),
    st.lists(st.builds(Neighbour, st.floats(0, 20), st.integers(0, 4), st.integers(0, 6 * GIB)), max_size=3),
)
def test_every_run_ends_or_fails_in_the_end(load, cores, memory, neighbours):
    out = machine(cores, memory_bytes=memory, base_bytes=memory // 10, neighbours=neighbours).run(load)
    assert out.ended + out.failed == len(load)
    assert out.makespan_s < 3600


def test_a_fixed_pool_is_what_it_says():
    out = Machine(Fixed(3), CORES, guarded=False).run(sleepers(30), until_s=60)
    assert {limit for _, limit in out.limits} == {3}
