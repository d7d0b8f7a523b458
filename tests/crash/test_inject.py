"""Calls of the system that fail, one at a time: the n-th open, write, fsync or clone of the daemon, or of its keeper.
No traceback, nothing starts unrecorded, and the daemon goes on or ends with a clear message. All n with
TIDEGATE_INJECT=all (`make torture`), a sample in the suite.
"""

import os
import random
import signal

import pytest
import scene as stage
from daemon_process import until
from inject import FAULTS, Attached, Fault, counted, injected, span, under

pytestmark = pytest.mark.live

ALL = os.environ.get("TIDEGATE_INJECT") == "all"
STARTS = 1  # of each fault in the suite
N_MAX = 400  # of one kind of call of one thread, at work: none comes near


@pytest.fixture
def scene(tmp_path):
    made = stage.Scene(tmp_path / "scene", stage.job("tick", 'cron = "* * * * * *"', 0, 0))
    yield made
    made.clean_up()


def name_of(fault: Fault) -> str:
    return f"{fault.syscalls.split(',')[0]}-{fault.error}"


def fires_again(scene) -> None:
    """The next fires come and end, whatever came before."""
    ends = len(scene.ledger().ends)
    until(lambda: len(scene.ledger().ends) >= ends + 2, 20, "two more fires")


def at_the_end(scene) -> None:
    """Without a fault from here on: everything comes to rest, and the books agree."""
    if not scene.alive:
        scene.start()
    scene.wait_ready()
    fires_again(scene)
    scene.come_to_rest()
    verdict = scene.compare()
    assert scene.troubles == []
    # What a fault did to a run of its own is true too: it could not be started, and says why.
    findings = [text for text in verdict.findings() if "failed_to_start" not in text]
    assert findings == [], "\n".join(findings)


def one_start(scene, fault: Fault, n: int) -> bool:
    """A life in which the n-th call fails, until its job has fired twice. Whether the call came at all."""
    trace = scene.folder / "trace"
    trace.unlink(missing_ok=True)
    ends = len(scene.ledger().ends)
    scene.start(program=under(fault, n, trace))
    until(lambda: not scene.alive or len(scene.ledger().ends) >= ends + 2, 30, f"two fires with {fault.at(n)}")
    failed = injected(trace)
    code, text = scene.leave()
    if code:
        assert failed, text
        assert code > 0, f"{fault.at(n)}: it ended by signal {-code}:\n{text}"
        assert '"daemon.failed"' in text or "Error: " in text, f"{fault.at(n)}: it ended without a word:\n{text}"
    assert scene.troubles == [], fault.at(n)
    return failed


def spans(scene) -> dict[str, tuple[int, int]]:
    """For each kind of call, the first and the last n that a start can come to."""
    trace = scene.folder / "trace"
    kinds = {fault.syscalls for fault in FAULTS}
    scene.start(program=counted(",".join(sorted(kinds)), trace))
    until(lambda: len(scene.ledger().ends) >= 2, 30, "two fires")
    code, text = scene.leave()
    assert code == 0, text
    # Until it reads its configuration, only the interpreter and its imports have opened anything.
    found = {kind: span(trace, kind, str(scene.config) if kind == "openat" else "") for kind in kinds}
    assert all(0 < first <= last for first, last in found.values()), found
    return found


def test_a_start_in_which_one_call_fails_goes_on_or_ends_with_a_message(scene):
    reach = spans(scene)
    chance = random.Random(7)
    hits = 0
    for fault in FAULTS:
        first, last = reach[fault.syscalls]
        every = range(first, last + 1)
        early = every[: -(-len(every) * 2 // 3)]  # the last ones come in some lives only
        for n in every if ALL else chance.sample(early, min(STARTS, len(early))):
            hits += one_start(scene, fault, n)
    assert hits >= len(FAULTS) - 1
    at_the_end(scene)


def fail_one(scene, pid: int, fault: Fault, n: int, *, threads: bool) -> bool:
    """At work, the n-th call from now fails. Whether it came within a few fires."""
    with Attached(pid, fault, n, scene.folder / "trace", threads=threads) as attached:
        ends = len(scene.ledger().ends)
        until(lambda: attached.injected() or not scene.alive or len(scene.ledger().ends) >= ends + 3, 20, "three fires")
    # It has let go: nothing fails any more.
    if attached.lost_signal():
        os.kill(pid, signal.SIGCHLD)
    return attached.injected()


@pytest.mark.parametrize("whose", ["daemon", "keeper"])
def test_a_call_that_fails_at_work_costs_at_most_its_own_run(scene, whose):
    scene.start()
    scene.wait_ready()
    hits = 0
    for index, fault in enumerate(FAULTS):
        for n in range(1, N_MAX) if ALL else (1 + index % 2,):
            if not scene.alive:
                code, text = scene.leave()
                assert code > 0, text
                assert '"daemon.failed"' in text, text
                scene.start()
                scene.wait_ready()
            pid = scene.process.pid if whose == "daemon" else until(scene.keeper_pid, 10, "a keeper")
            if not fail_one(scene, pid, fault, n, threads=whose == "daemon"):
                break
            hits += 1
            if scene.alive:
                fires_again(scene)
            assert scene.troubles == [], fault.at(n)
    # At work the daemon opens nothing and starts no thread: it writes and syncs. The keeper syncs nothing.
    assert hits >= (3 if whose == "daemon" else 4)
    at_the_end(scene)
