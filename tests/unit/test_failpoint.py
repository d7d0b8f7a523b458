"""Failpoints: nothing without a test build, exactly one hit with it, and each of them in its place in the source."""

import errno
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tidegate import failpoint

SOURCE = Path(failpoint.__file__).parent


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoint.arm({})


@pytest.fixture
def killed(monkeypatch):
    """Signals that this process would have sent."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def arm(text):
    failpoint.arm({"TIDEGATE_FAILPOINT": text, "TIDEGATE_TEST_BUILD": "1"})


def test_without_the_variable_nothing_happens(killed):
    failpoint.arm({"TIDEGATE_TEST_BUILD": "1"})
    for name in failpoint.NAMES:
        failpoint.hit(name)
    assert killed == []


@pytest.mark.parametrize("allowed", [{}, {"TIDEGATE_TEST_BUILD": ""}, {"TIDEGATE_TEST_BUILD": "0"}])
def test_outside_a_test_build_it_is_refused(allowed, killed):
    with pytest.raises(failpoint.FailpointError, match="TIDEGATE_TEST_BUILD=1"):
        failpoint.arm({"TIDEGATE_FAILPOINT": "fire.before_claim", **allowed})
    failpoint.hit("fire.before_claim")
    assert killed == []


def test_the_counted_hit_kills_and_no_other(killed):
    arm("claim.before_commit:3")
    failpoint.hit("claim.before_commit")
    failpoint.hit("claim.before_commit")
    failpoint.hit("claim.after_commit")
    assert killed == []
    failpoint.hit("claim.before_commit")
    assert killed == [(os.getpid(), signal.SIGKILL)]
    failpoint.hit("claim.before_commit")
    assert len(killed) == 1


def test_the_first_hit_is_the_default(killed):
    arm("ack.after_send")
    failpoint.hit("ack.after_send")
    assert len(killed) == 1


def test_an_error_is_that_of_the_system():
    arm("claim.before_commit=error:ENOSPC")
    with pytest.raises(OSError, match="No space left on device") as caught:
        failpoint.hit("claim.before_commit")
    assert caught.value.errno == errno.ENOSPC
    failpoint.hit("claim.before_commit")


def test_a_stall_stands_still():
    arm("start.before_send=stall:0.05")
    begun_s = time.monotonic()
    failpoint.hit("start.before_send")
    assert time.monotonic() - begun_s >= 0.05


def test_several_can_be_armed_at_once(killed):
    arm("fire.before_claim:2, recover.begin=error:EIO")
    with pytest.raises(OSError):
        failpoint.hit("recover.begin")
    failpoint.hit("fire.before_claim")
    failpoint.hit("fire.before_claim")
    assert len(killed) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fire.before", "there is no failpoint"),
        ("fire.before_claim:0", "1 or more"),
        ("fire.before_claim:-1", "1 or more"),
        ("fire.before_claim:x", "1 or more"),
        ("fire.before_claim=explode", "expected nothing"),
        ("fire.before_claim=error:ENONSENSE", "expected nothing"),
        ("fire.before_claim=error:errorcode", "expected nothing"),
        ("fire.before_claim=stall:long", "expected nothing"),
        ("fire.before_claim=stall:-1", "expected nothing"),
        ("fire.before_claim=stall:nan", "expected nothing"),
    ],
)
def test_what_cannot_be_armed_is_told(text, told):
    with pytest.raises(failpoint.FailpointError, match=told):
        arm(text)


def test_a_hit_costs_next_to_nothing():
    failpoint.arm({})
    best_s = min(_seconds_of(10_000) for _ in range(5))
    assert best_s / 10_000 < 500e-9  # 25 ns where nothing else runs


def _seconds_of(hits):
    begun_s = time.perf_counter()
    for _ in range(hits):
        failpoint.hit("fire.before_claim")
    return time.perf_counter() - begun_s


def test_each_name_is_hit_somewhere_and_nothing_else_is():
    texts = [path.read_text() for path in SOURCE.rglob("*.py") if path.name != "failpoint.py"]
    hits = {name for text in texts for name in re.findall(r'\bhit\(\s*f?"([a-z_.]+)"', text)}
    # The writer tells claims from outcomes, and names the point in a variable.
    hits |= {name for name in failpoint.NAMES for text in texts if f'"{name}"' in text}
    assert hits == set(failpoint.NAMES)
