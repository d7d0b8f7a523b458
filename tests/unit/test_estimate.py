"""What runs are taken to need, from what the ones before them took."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.estimate import BUCKETS_MAX, Estimator, Learned, Used, added, quantile
from tidegate.model.pool import GIB, MIB, PoolSettings


def used(mib: float, duration_s: float = 10.0, cpu_s: float = 5.0, killed: bool = False) -> Used:
    return Used(duration_s, cpu_s, int(mib * MIB), killed)


@pytest.fixture
def estimator() -> Estimator:
    return Estimator(PoolSettings())


def mib(estimator: Estimator, key: str = "a", hint: int | None = None, budget: int = 64 * GIB) -> float:
    return estimator.predict_memory(key, hint, budget).bytes / MIB


# --- memory -------------------------------------------------------------------------------------------------


def test_of_an_unknown_job_a_gib_is_guessed_and_a_fifth_of_a_small_machine(estimator):
    guess = estimator.predict_memory("a", None, 64 * GIB)
    assert (guess.bytes, guess.known) == (GIB, False)
    assert mib(estimator, budget=256 * MIB) == pytest.approx(51.2, abs=0.1)


def test_a_hint_is_what_an_unknown_job_needs_and_no_guess(estimator):
    found = estimator.predict_memory("a", 300 * MIB, 64 * GIB)
    assert (found.bytes, found.known) == (300 * MIB, True)


def test_of_few_runs_the_largest_counts_and_the_hint_if_it_is_more(estimator):
    for peak in (100, 200, 100):
        estimator.finished("a", used(peak))
    assert mib(estimator) == pytest.approx(220)
    assert mib(estimator, hint=400 * MIB) == 400
    assert estimator.predict_memory("a", None, GIB).known


def test_of_many_runs_nearly_all_count_and_the_hint_does_not(estimator):
    for _ in range(30):
        estimator.finished("a", used(100))
    assert 110 <= mib(estimator, hint=10 * GIB) <= 110 * 1.1


def test_the_largest_of_the_last_ten_always_counts(estimator):
    for _ in range(30):
        estimator.finished("a", used(100))
    estimator.finished("a", used(400))
    assert mib(estimator) >= 1.1 * 400
    for _ in range(10):
        estimator.finished("a", used(100))
    assert mib(estimator) < 1.1 * 400 * 1.1
    for _ in range(60):
        estimator.finished("a", used(100))
    assert mib(estimator) <= 110 * 1.1, "and is forgotten in the end"


def test_a_kill_for_memory_raises_what_it_needs_until_it_ends_well(estimator):
    estimator.finished("a", used(100))
    estimator.finished("a", used(200, killed=True))
    assert mib(estimator) == 300
    estimator.finished("a", used(2000, killed=True))
    assert mib(estimator) == 2400
    estimator.finished("a", used(500))
    assert mib(estimator) == pytest.approx(550)


def test_each_further_kill_asks_for_more(estimator):
    wanted = []
    for _ in range(3):
        estimator.finished("a", Used(None, None, None, True))
        wanted.append(mib(estimator, budget=0))
    assert wanted == sorted(set(wanted))


def test_a_killed_canary_is_still_unknown(estimator):
    estimator.finished("a", used(3000, killed=True))
    found = estimator.predict_memory("a", None, 64 * GIB)
    assert (found.bytes, found.known) == (3600 * MIB, False)


def test_in_flight_it_follows_what_is_used(estimator):
    guess = estimator.predict_memory("a", None, 64 * GIB)
    assert estimator.in_flight("a", guess, 100 * MIB) == GIB
    assert estimator.in_flight("a", guess, 2 * GIB) == pytest.approx(2.2 * GIB, abs=1)


def test_where_most_jobs_are_large_an_unknown_one_is_taken_to_be(estimator):
    for number in range(20):
        estimator.finished(f"large{number}", used(3000))
    assert mib(estimator, "other") == pytest.approx(3000, rel=0.01)
    for number in range(100):
        estimator.finished(f"small{number}", used(10))
    assert mib(estimator, "other") == 1024


def test_a_prediction_says_where_it_is_from(estimator):
    assert "nothing is known" in estimator.predict_memory("a", None, GIB).why
    assert "memory = 64 MiB" in estimator.predict_memory("a", 64 * MIB, GIB).why
    estimator.finished("a", used(100))
    assert "the most of 1 run was 100 MiB" in estimator.predict_memory("a", None, GIB).why
    for _ in range(20):
        estimator.finished("a", used(100))
    assert "nearly all of its runs took up to" in estimator.predict_memory("a", None, GIB).why
    estimator.finished("a", used(200, killed=True))
    assert estimator.predict_memory("a", None, GIB).why == "300 MiB: it was killed for memory with less"


# --- CPU and time -------------------------------------------------------------------------------------------


def test_cpu_is_the_hint_then_what_was_used_then_what_all_use_then_a_quarter(estimator):
    assert estimator.predict_cpu("a", None) == 0.25
    assert estimator.predict_cpu("a", 2.0) == 2.0
    for _ in range(10):
        estimator.finished("a", used(1, 10.0, 8.0))
    assert estimator.predict_cpu("a", None) == pytest.approx(0.8)
    assert estimator.predict_cpu("a", 2.0) == pytest.approx(0.8)
    assert estimator.predict_cpu("b", None) == pytest.approx(0.8)


def test_cpu_follows_a_job_that_changes(estimator):
    for _ in range(30):
        estimator.finished("a", used(1, 10.0, 1.0))
    for _ in range(40):
        estimator.finished("a", used(1, 10.0, 20.0))
    assert 1.6 < estimator.predict_cpu("a", None) <= 2.0


def test_durations_are_what_nine_of_ten_do_not_exceed(estimator):
    assert estimator.predict_duration("a") is None
    for number in range(200):
        estimator.finished("a", used(1, 30.0 if number % 20 == 0 else 10.0))
    assert 10.0 <= estimator.predict_duration("a") <= 11.0


# --- what is kept -------------------------------------------------------------------------------------------


def test_it_is_the_same_after_a_restart(estimator):
    for number in range(40):
        estimator.finished("a", used(100 + number * 7, 5.0 + number, 2.0))
    data = msgspec.json.encode(estimator.state())
    again = Estimator(PoolSettings())
    again.restore(msgspec.json.decode(data, type=dict[str, Learned]))
    assert again.predict_memory("a", None, GIB) == estimator.predict_memory("a", None, GIB)
    assert again.predict_cpu("a", None) == estimator.predict_cpu("a", None)
    assert again.predict_duration("a") == estimator.predict_duration("a")
    assert again.learned("a") == estimator.learned("a")


def test_what_this_life_knows_is_not_replaced_by_an_earlier_one(estimator):
    estimator.finished("a", used(100))
    estimator.restore({"a": Learned(runs=9), "b": Learned(runs=3)})
    assert (estimator.learned("a").runs, estimator.learned("b").runs) == (1, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 6.0))
def test_a_key_takes_at_most_600_bytes(seed, spread):
    chance = random.Random(seed)
    estimator = Estimator(PoolSettings())
    for _ in range(120):
        peak_mib = min(10_000_000.0, chance.lognormvariate(8, spread))
        duration_s = min(1e7, chance.lognormvariate(5, spread))
        estimator.finished("a", used(peak_mib, duration_s, duration_s * 3.3333))
    assert len(msgspec.json.encode(estimator.learned("a"))) <= 600


def test_too_many_keys_forget_the_one_that_ran_longest_ago_and_count_it():
    estimator = Estimator(PoolSettings(), keys_max=2)
    for key in ("a", "b", "a", "c"):
        estimator.finished(key, used(1))
    assert set(estimator.state()) == {"a", "c"}
    assert estimator.forgotten == 1


def test_only_what_changed_is_given_to_be_written(estimator):
    estimator.restore({"old": Learned(runs=1)})
    estimator.finished("a", used(1))
    assert set(estimator.changed()) == {"a"}
    assert estimator.changed() == {}


def test_what_is_not_known_of_a_run_teaches_nothing(estimator):
    estimator.finished("a", Used(None, None, None))
    estimator.finished("a", Used(0.0, float("nan"), 0))
    estimator.finished("a", Used(float("inf"), 1.0, None))
    assert estimator.predict_memory("a", None, 64 * GIB).bytes == GIB
    assert estimator.predict_cpu("a", None) == 0.25
    assert estimator.predict_duration("a") is None


# --- histograms ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=40))
def test_a_quantile_is_at_least_the_value_and_at_most_a_bucket_more(values):
    weights: dict[int, float] = {}
    for value in values:
        weights = added(weights, value)
    if len(values) <= BUCKETS_MAX:  # of more the lightest bucket may be gone
        assert max(values) * 0.999 <= quantile(weights, 1.0, 1.0) or max(values) < 0.5
    assert quantile(weights, 1.0, 1.0) <= max(max(values), 0.5) * 1.1001
    assert len(weights) <= BUCKETS_MAX


def test_a_hundred_runs_ago_counts_for_nothing():
    weights = added({}, 1000.0)
    for _ in range(100):
        weights = added(weights, 10.0)
    assert quantile(weights, 1.0, 1.0) < 12
