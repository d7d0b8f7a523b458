"""When the keeper looks at a run again: as often as its looks are cheap. And what it reads there."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_sampling import Sampling, with_others
from tidegate.executors.keeper_timers import RUN_S_MAX, Timers
from tidegate.executors.keeper_tree import CONTAIN_S, Trees, _field_bytes

LONG_S = 0.05  # to be put into a control group, or to look, on a busy machine


def waits() -> None:
    time.sleep(LONG_S)


def works() -> None:
    end_s = time.thread_time() + LONG_S
    while time.thread_time() < end_s:
        pass


def nothing() -> None:
    pass


def next_look_s(contain: Callable[[], None], look: Callable[[], None]) -> float:
    """From one look to the next, of a run that has just lived long enough for a control group."""

    class Slow(Trees):
        def contain(self, attempt: Attempt) -> None:
            contain()

        def memory_bytes(self, attempt: Attempt, leader_only: bool, share: float = 0.0) -> int | None:
            look()
            return 1

    sampling = Sampling(Slow(1, None), Timers(), lambda: False)
    attempt = Attempt({"run_id": "a", "attempt": 1}, b"")
    attempt.begin(1, 0, time.monotonic() - CONTAIN_S)
    begun = time.monotonic()
    sampling._sample(attempt)
    assert attempt.memory_peak_bytes == 1
    return attempt.sample_due_mono_s - begun


@pytest.mark.parametrize(
    ("contain", "look"), [(nothing, nothing), (works, nothing), (waits, nothing), (nothing, waits)]
)
def test_a_young_run_is_soon_looked_at_again_however_long_its_control_group_or_others_took(
    contain: Callable[[], None], look: Callable[[], None]
) -> None:
    """Or a run of some seconds ends before anybody saw what it holds."""
    assert next_look_s(contain, look) < 0.3


def test_a_look_that_costs_much_is_rare() -> None:
    assert next_look_s(nothing, works) >= 20 * LONG_S


@pytest.mark.parametrize(("every_s", "next_s"), [(1.0, 102.0), (4.9, 105.9), (5.0, 105.0), (10.0, 110.0)])
def test_looks_that_are_rare_come_together_and_never_later(every_s: float, next_s: float) -> None:
    assert with_others(101.0, every_s) == next_s


def test_many_looks_that_are_due_at_once_leave_time_for_whoever_asks_in_between() -> None:
    timers, looked = Timers(), []

    def look(attempt: Attempt | None) -> None:
        looked.append(attempt)
        end_s = time.monotonic() + RUN_S_MAX / 4
        while time.monotonic() < end_s:
            pass

    for _ in range(40):
        timers.after(0.0, look)
    timers.run()
    assert 1 <= len(looked) <= 5
    assert timers.timeout_s() == 0.0, "and go on right after"
    for _ in range(40):
        timers.run()
    assert len(looked) == 40 and timers.timeout_s() is None


def test_of_a_status_the_fields_asked_for_are_added_up_and_no_others(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nHugeRssAnon:\t 9 kB\nRssAnon:\t   300 kB\nRssFile:\t 7 kB\nRssShmem:\t  44 kB\n")
    assert _field_bytes(str(status), (b"RssAnon", b"RssShmem")) == 344 * 1024


def test_a_process_that_has_ended_has_none_of_them(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nState:\tZ (zombie)\n")
    assert _field_bytes(str(status), (b"RssAnon", b"RssShmem")) is None
