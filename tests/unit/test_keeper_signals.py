"""What the keeper's loop hears of signals: nothing is lost between hearing and looking."""

import os
import select
import signal
from collections.abc import Iterator

import pytest

from tidegate.executors.keeper_signals import Signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGTERM)}
    heard = Signals()
    heard.begin()
    yield heard
    signal.set_wakeup_fd(-1)
    for number, action in before.items():
        signal.signal(number, action)


def readable(signals: Signals) -> bool:
    return bool(select.select([signals.fd], [], [], 0)[0])


def test_a_signal_is_known_at_once_and_heard_by_its_number(signals: Signals) -> None:
    assert not signals.waiting
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.waiting and readable(signals)
    assert signal.SIGTERM in signals.heard()
    assert not signals.waiting and not readable(signals)


def test_one_that_comes_after_the_rest_was_heard_wakes_the_loop_again(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGCHLD)
    signals.heard()
    os.kill(os.getpid(), signal.SIGCHLD)
    assert signals.waiting and readable(signals)
    assert signals.heard() == bytes([signal.SIGCHLD])


def test_nothing_to_hear_is_no_error(signals: Signals) -> None:
    assert signals.heard() == b""
