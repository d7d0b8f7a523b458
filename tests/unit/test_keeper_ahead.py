"""Starts asked for ahead of their time: never early, in order, and taken back where they are stopped before."""

import math
import time

import pytest

from tidegate.executors.keeper_ahead import AHEAD_S_MAX, AT_ONCE, CLOSE_S, READY_AT_ONCE, Ahead
from tidegate.executors.keeper_refusal import SpawnRefused


def request(run_id: str, at_mono_s: float | None) -> dict:
    message = {"type": "spawn", "run_id": run_id, "attempt": 1}
    return message if at_mono_s is None else message | {"start_mono_s": at_mono_s}


def given(ahead: Ahead) -> list[str]:
    return [later.message["run_id"] for later in ahead.due()]


class Prepared:
    """What is made ready, without a file."""

    def __init__(self, message: dict, fd: int = 3) -> None:
        self.message, self.fd, self.given_up = message, fd, False

    def give_up(self) -> None:
        self.given_up = True


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
    assert [(later.message, later.note, later.ready) for later in out] == [(request("a", at_mono_s), b"note", None)]
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


def test_what_is_to_come_is_made_ready_a_few_at_a_time_and_given_out_so():
    ahead = Ahead()
    at_mono_s = time.monotonic() + 0.1
    for number in range(READY_AT_ONCE + 1):
        ahead.takes(request(f"r{number}", at_mono_s), b"")
    made: list[Prepared] = []
    ahead.make_ready(lambda message: made.append(Prepared(message)) or made[-1])
    assert [one.message["run_id"] for one in made] == [f"r{number}" for number in range(READY_AT_ONCE)]
    assert ahead.timeout_s() == 0.0, "the last one is not ready yet"
    ahead.make_ready(lambda message: made.append(Prepared(message)) or made[-1])
    assert ahead.timeout_s() > 0.0
    while not (out := list(ahead.due())):
        pass
    assert [later.ready for later in out] == made


def test_what_was_stopped_is_made_ready_no_more_and_what_was_ready_is_given_up():
    ahead = Ahead()
    at_mono_s = time.monotonic() + 0.1
    ahead.takes(request("a", at_mono_s), b"")
    made: list[Prepared] = []
    ahead.make_ready(lambda message: made.append(Prepared(message)) or made[-1])
    ahead.takes(request("b", at_mono_s), b"")
    assert ahead.drop({"run_id": "a", "attempt": 1}) and ahead.drop({"run_id": "b", "attempt": 1})
    ahead.takes(request("c", at_mono_s), b"")
    ahead.make_ready(lambda message: made.append(Prepared(message)) or made[-1])
    assert [(one.message["run_id"], one.given_up) for one in made] == [("a", True), ("c", False)]


def test_what_cannot_be_made_ready_is_left_to_its_instant():
    ahead = Ahead()
    ahead.takes(request("a", time.monotonic() + 0.02), b"")

    def refuse(message: dict) -> Prepared:
        raise SpawnRefused("no room")

    ahead.make_ready(refuse)
    assert ahead.timeout_s() > 0.0
    while not (out := list(ahead.due())):
        pass
    assert [(later.message["run_id"], later.ready) for later in out] == [("a", None)]


@pytest.mark.parametrize("more", [{"birth": {}}, {"python": {}}])
def test_another_user_a_limit_and_a_function_are_seen_to_at_the_instant(more: dict):
    ahead = Ahead()
    ahead.takes(request("a", time.monotonic() + 0.1) | more, b"")
    ahead.make_ready(pytest.fail)
    assert ahead.timeout_s() > 0.0


def test_half_of_the_descriptors_are_left_to_what_runs():
    ahead = Ahead()
    at_mono_s = time.monotonic() + 0.1
    for name in "ab":
        ahead.takes(request(name, at_mono_s), b"")
    made: list[Prepared] = []
    ahead.make_ready(lambda message: made.append(Prepared(message, fd=1 << 30)) or made[-1])
    assert [one.given_up for one in made] == [True]


def test_nothing_is_made_ready_when_the_instant_is_close():
    ahead = Ahead()
    ahead.takes(request("a", time.monotonic() + CLOSE_S / 2), b"")
    ahead.make_ready(pytest.fail)
    assert ahead


def test_requests_given_out_before_they_were_ready_are_forgotten():
    ahead = Ahead()
    ahead.takes(request("a", time.monotonic()), b"")
    assert given(ahead) == ["a"]
    ahead.make_ready(pytest.fail)
    assert ahead.timeout_s() is None


def test_requests_that_were_stopped_before_they_were_ready_are_forgotten():
    ahead = Ahead()
    ahead.takes(request("a", time.monotonic() + 0.1), b"")
    assert ahead.drop({"run_id": "a", "attempt": 1})
    ahead.make_ready(pytest.fail)
    assert ahead.timeout_s() is None
