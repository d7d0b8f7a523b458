"""Starts asked for ahead of their time: never early, in order, and taken back where they are stopped before."""

import math
import time

import pytest

from tidegate.executors.keeper_ahead import AHEAD_S_MAX, AT_ONCE, CLOSE_S, Ahead
from tidegate.executors.keeper_refusal import SpawnRefused


def request(run_id: str, at_mono_s: float | None) -> dict:
    message = {"type": "spawn", "run_id": run_id, "attempt": 1}
    return message if at_mono_s is None else message | {"start_mono_s": at_mono_s}


def given(ahead: Ahead) -> list[str]:
    return [message["run_id"] for message, _ in ahead.due()]


def test_a_request_without_an_instant_is_for_now():
    ahead = Ahead()
    assert not ahead.takes(request("now", None), b"")
    assert not ahead
    assert ahead.timeout_s() is None


def test_nothing_is_given_out_before_its_instant_and_what_is_close_is_waited_for_exactly():
    ahead = Ahead()
    at_mono_s = time.monotonic() + 0.02
    assert ahead.takes(request("a", at_mono_s), b"note")
    assert given(ahead) == []
    assert 0 <= ahead.timeout_s() <= 0.02 - CLOSE_S
    while not (out := list(ahead.due())):
        pass
    assert time.monotonic() >= at_mono_s
    assert out == [(request("a", at_mono_s), b"note")]
    assert not ahead


def test_what_is_due_together_comes_as_it_was_asked_for_and_a_few_at_a_time():
    ahead = Ahead()
    past = time.monotonic() - 1
    for number in range(AT_ONCE + 1):
        ahead.takes(request(f"r{number}", past), b"")
    ahead.takes(request("older", past - 1), b"")
    assert given(ahead) == ["older", *(f"r{number}" for number in range(AT_ONCE - 1))]
    assert given(ahead) == [f"r{AT_ONCE - 1}", f"r{AT_ONCE}"]


def test_one_that_is_stopped_before_it_began_is_forgotten():
    ahead = Ahead()
    ahead.takes(request("a", time.monotonic() - 1), b"")
    ahead.takes(request("b", time.monotonic() - 1), b"")
    assert ahead.drop({"run_id": "a", "attempt": 2}) is None
    assert ahead.drop({"run_id": "a", "attempt": 1}) == ("a", 1)
    assert given(ahead) == ["b"]


@pytest.mark.parametrize("ahead_s", [AHEAD_S_MAX + 0.01, math.inf, math.nan])
def test_what_is_too_far_ahead_is_refused_as_a_new_supervisor_waits_for_what_is_ahead(ahead_s: float):
    ahead = Ahead()
    with pytest.raises(SpawnRefused, match="ahead of its time"):
        ahead.takes(request("far", time.monotonic() + ahead_s), b"")
    assert not ahead
