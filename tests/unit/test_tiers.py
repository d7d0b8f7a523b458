"""Who gives way when memory gets short, who never does, and who may pass a head that waits for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.backfill import Ending, may_pass, turn
from tidegate.engine.memory import MemoryWatch
from tidegate.engine.tiers import MemoryRetries, Runner, Tiers, protected
from tidegate.model.pool import GIB, MIB, PoolSettings

LIMIT = 16 * GIB  # 1.6 GiB of it stay free


def runner(run_id: str, started_s: float = 0.0, **changes) -> Runner:
    usual = {
        "priority": 0, "present_bytes": 2 * GIB, "growth_bytes_per_s": float(GIB // 4), "predicted_bytes": 3 * GIB,
        "retriable": True,
    }  # fmt: skip
    return Runner(run_id=run_id, started_mono_s=started_s, **{**usual, **changes})


def watch(available: float, rate: float = 0.1 * GIB, until_s: float = 100.0) -> MemoryWatch:
    """A second of falling at this rate."""
    found = MemoryWatch(PoolSettings())
    for number in range(11):
        found.look(int(available + rate * (1 - number / 10)), LIMIT, 0.0, until_s - 1 + number / 10)
    return found


SHORT = 1.5 * GIB  # tier 2
GONE = 0.7 * GIB  # tier 3
THREE = [runner("old", 1.0), runner("middle", 2.0), runner("young", 3.0)]


def acts(runners, seen, now_s=100.0):
    act = Tiers(PoolSettings()).decide(runners, seen, now_s)
    return None if act is None else (act.kind, act.run_id)


# --- tier 2 -------------------------------------------------------------------------------------------------


def test_the_youngest_of_the_lowest_priority_is_frozen():
    assert acts(THREE, watch(SHORT)) == ("freeze", "young")
    assert acts([*THREE, runner("lower", 0.5, priority=-1)], watch(SHORT)) == ("freeze", "lower")


@pytest.mark.parametrize(
    "changes", [{"growth_bytes_per_s": 0.0}, {"holds_waited_resource": True}, {"frozen_since_mono_s": 99.0}], ids=str
)
def test_who_does_not_grow_or_is_waited_for_or_is_frozen_is_not_frozen(changes):
    assert acts([runner("old", 1.0), runner("middle", 2.0), runner("young", 3.0, **changes)], watch(SHORT)) == (
        "freeze",
        "middle",
    )


def test_nobody_is_touched_while_memory_does_not_fall():
    assert acts(THREE, watch(SHORT, 0.0)) is None
    assert acts(THREE, watch(GONE, 0.0)) is None


def test_nobody_is_touched_for_a_neighbours_hunger():
    small = [runner(run.run_id, run.started_mono_s, present_bytes=10 * MIB) for run in THREE]
    assert acts(small, watch(SHORT, GIB)) is None
    assert acts(small, watch(GONE, GIB)) is None
    assert acts(THREE, watch(SHORT, GIB)) is not None


def test_one_is_frozen_each_half_second():
    tiers, seen = Tiers(PoolSettings()), watch(SHORT)
    assert tiers.decide(THREE, seen, 100.0).run_id == "young"
    frozen = [*THREE[:2], runner("young", 3.0, frozen_since_mono_s=100.0)]
    assert tiers.decide(frozen, seen, 100.4) is None
    assert tiers.decide(frozen, seen, 100.5).run_id == "middle"


def test_the_frozen_go_on_one_by_one_the_first_of_the_queue_first_when_they_fit():
    tiers, seen = Tiers(PoolSettings()), watch(8 * GIB, 0.0)
    frozen = [THREE[0], *(runner(run.run_id, run.started_mono_s, frozen_since_mono_s=90.0) for run in THREE[1:])]
    act = tiers.decide(frozen, seen, 100.0)
    assert (act.kind, act.run_id) == ("thaw", "middle")
    left = [*THREE[:2], frozen[2]]
    assert tiers.decide(left, seen, 102.9) is None
    assert tiers.decide(left, seen, 103.0).run_id == "young"


def test_who_does_not_fit_stays_frozen():
    frozen = [THREE[0], runner("young", 3.0, frozen_since_mono_s=90.0, predicted_bytes=9 * GIB)]
    assert acts(frozen, watch(8 * GIB, 0.0)) is None


def test_frozen_for_too_long_is_killed_where_it_still_does_not_fit():
    frozen = [THREE[0], runner("young", 3.0, frozen_since_mono_s=69.0, predicted_bytes=9 * GIB)]
    assert acts(frozen, watch(8 * GIB, 0.0)) == ("kill", "young")
    fits = [THREE[0], runner("young", 3.0, frozen_since_mono_s=69.0)]
    assert acts(fits, watch(8 * GIB, 0.0)) == ("thaw", "young")


def test_who_is_waited_for_while_frozen_goes_on():
    frozen = [THREE[0], runner("young", 3.0, frozen_since_mono_s=99.0, holds_waited_resource=True)]
    assert acts(frozen, watch(SHORT)) == ("thaw", "young")


def test_who_becomes_the_protected_one_while_frozen_goes_on_at_once():
    assert acts([runner("last", 3.0, frozen_since_mono_s=100.0)], watch(GONE)) == ("thaw", "last")


# --- tier 3 -------------------------------------------------------------------------------------------------


def test_the_youngest_of_the_lowest_priority_is_killed():
    assert acts(THREE, watch(GONE)) == ("kill", "young")


def test_not_who_is_too_small_to_matter_nor_who_may_not_be_tried_again():
    small = runner("young", 3.0, present_bytes=20 * MIB)
    assert acts([*THREE[:2], small], watch(GONE)) == ("kill", "middle")
    never = runner("young", 3.0, retriable=False, growth_bytes_per_s=0.0)
    assert acts([*THREE[:2], never], watch(GONE)) == ("kill", "middle")


def test_where_all_are_small_the_largest_is_killed():
    runners = [THREE[0], *(runner(f"r{n}", n, present_bytes=n * 50 * MIB) for n in (2, 4, 3))]
    assert acts(runners, watch(GONE, 0.2 * GIB)) == ("kill", "r4")


def test_no_second_kill_until_the_memory_of_the_first_is_back():
    tiers, seen = Tiers(PoolSettings()), watch(GONE)
    idle = [runner(run.run_id, run.started_mono_s, growth_bytes_per_s=0.0) for run in THREE]
    assert tiers.decide(idle, seen, 100.0).run_id == "young"
    assert tiers.decide(idle, seen, 101.0) is None, "not reaped"
    assert tiers.decide(idle[:2], seen, 101.0) is None, "reaped, but its memory is not back"
    assert tiers.decide(idle[:2], watch(GONE + GIB + 1, 2 * GIB), 101.0).run_id == "middle"


def test_or_until_the_pause_is_over_which_is_longer_for_large_ones():
    for size, pause_s in ((2 * GIB, 2.0), (10 * GIB, 3.0)):
        tiers, seen = Tiers(PoolSettings()), watch(GONE)
        runners = [runner("old", 1.0), runner("middle", 2.0, growth_bytes_per_s=0.0)]
        young = runner("young", 3.0, present_bytes=size)
        assert tiers.decide([*runners, young], seen, 100.0).run_id == "young"
        assert tiers.decide(runners, seen, 100.0 + pause_s - 0.1) is None
        assert tiers.decide(runners, seen, 100.0 + pause_s).run_id == "middle"


RUNNERS = st.lists(
    st.builds(
        Runner,
        run_id=st.sampled_from([f"r{number}" for number in range(30)]),
        priority=st.integers(-2, 2),
        started_mono_s=st.floats(0, 100),
        present_bytes=st.integers(0, 8 * GIB),
        growth_bytes_per_s=st.floats(-GIB, GIB),
        predicted_bytes=st.integers(0, 8 * GIB),
        retriable=st.booleans(),
        frozen_since_mono_s=st.one_of(st.none(), st.floats(0, 100)),
        holds_waited_resource=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda run: run.run_id,
)


@settings(max_examples=60, deadline=None)
@given(RUNNERS, st.integers(0, LIMIT), st.floats(-GIB, 4 * GIB))
def test_the_protected_run_is_never_frozen_nor_killed(runners, available, rate):
    act = Tiers(PoolSettings()).decide(runners, watch(available, rate), 100.0)
    if act is None:
        return
    known = {run.run_id: run for run in runners}
    if act.kind != "thaw":
        assert act.run_id != protected(runners).run_id
    assert (known[act.run_id].frozen_since_mono_s is not None) or act.kind != "thaw"
    assert act.kind != "kill" or known[act.run_id].retriable
    assert act.reason


def test_the_protected_run_is_the_oldest_of_the_highest_priority():
    assert protected([*THREE, runner("high", 9.0, priority=1), runner("higher", 10.0, priority=1)]).run_id == "high"


# --- tries after kills --------------------------------------------------------------------------------------


def test_three_tries_from_a_second_to_a_minute_the_last_alone_and_then_it_fails():
    retries = MemoryRetries(PoolSettings())
    found = [retries.next(kills) for kills in (1, 2, 3)]
    assert [retry.delay_s for retry in found] == [1.0, pytest.approx(7.746, abs=0.001), 60.0]
    assert [retry.alone for retry in found] == [False, False, True]
    assert retries.next(4) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_requeued_work_ends(tries, first_s, last_s):
    retries = MemoryRetries(PoolSettings(memory_tries=tries, memory_retry_s=first_s, memory_retry_s_max=last_s))
    delays = []
    for kills in range(1, tries + 2):
        retry = retries.next(kills)
        if retry is None:
            break
        delays.append(retry.delay_s)
        assert retry.alone == (kills == tries)
    assert len(delays) == tries
    assert delays == sorted(delays)


# --- backfill -----------------------------------------------------------------------------------------------

RUNNING = [Ending(10.0, 2 * GIB), Ending(30.0, 4 * GIB)]


def test_the_head_gets_its_turn_when_enough_has_ended():
    assert turn(3 * GIB, GIB, RUNNING, 0.0) == (10.0, 0)
    assert turn(4 * GIB, GIB, RUNNING, 0.0) == (30.0, 3 * GIB)
    assert turn(9 * GIB, GIB, RUNNING, 0.0)[1] == 0


def test_who_ends_before_the_heads_turn_may_pass():
    assert may_pass(4 * GIB, GIB, RUNNING, GIB, 29.0, 0.0)
    assert not may_pass(4 * GIB, GIB, [*RUNNING[:1], Ending(30.0, GIB)], GIB, 31.0, 0.0)


def test_who_takes_only_what_the_head_leaves_may_pass():
    assert may_pass(4 * GIB, GIB, RUNNING, GIB, None, 0.0)
    assert not may_pass(6 * GIB, GIB, RUNNING, 2 * GIB, None, 0.0)


def test_behind_what_nobody_can_predict_nobody_passes():
    unknown = [Ending(None, 8 * GIB)]
    assert not may_pass(4 * GIB, GIB, unknown, GIB, 0.1, 0.0)


def test_what_should_have_ended_ends_now():
    assert turn(3 * GIB, GIB, RUNNING, 20.0) == (20.0, 0)
    assert not may_pass(3 * GIB, GIB, RUNNING, GIB, 1.0, 20.0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 16),
    st.integers(0, 4),
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 50)), st.integers(0, 8)), max_size=6),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(0, 60)),
)
def test_who_passes_never_delays_the_head(head, room, running, candidate, took):
    """By the predictions: with the candidate among what runs, the head's turn is no later."""
    endings = [Ending(None if end is None else float(end), size) for end, size in running]
    took_s = None if took is None else float(took)
    if candidate > room or room >= head or not may_pass(head, room, endings, candidate, took_s, 0.0):
        return
    before = turn(head, room, endings, 0.0)[0]
    after = turn(head, room - candidate, [*endings, Ending(took_s, candidate)], 0.0)[0]
    assert after <= before
