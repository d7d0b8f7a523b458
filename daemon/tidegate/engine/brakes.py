"""Runs that are held still, let go on, or killed for want of memory to be tried again. Pure. Whom it befalls is decided
in tiers.py.

The time-out of a run stands still while we hold it, and the frozen time is on its record. A kill for memory is not one
of its own tries: it has its own number of them, and the last one is made with nothing beside it.
"""

from msgspec.structs import replace

from tidegate.engine.lifecycle import move
from tidegate.engine.live import Live
from tidegate.engine.runs import SIGKILL, Runs
from tidegate.model.command import Fact, Freeze, SignalTree, Thaw
from tidegate.model.event import Now
from tidegate.model.run import Outcome, State


def freeze(runs: Runs, live: Live, reason: str, now: Now) -> None:
    """Hold a RUNNING run still."""
    assert live.run.state is State.RUNNING and live.frozen_mono_s is None, live.run
    live.frozen_mono_s = now.mono_s
    live.timeout_left_s = live.deadlines["timeout"] - now.mono_s
    runs.deadlines.drop(live, "timeout")
    runs.frozen += 1
    runs.out.append(Freeze(live.run.run_id, live.run.attempt))
    runs.record(Fact.RUN_FROZEN, live, now, reason)


def thaw(runs: Runs, live: Live, reason: str, now: Now) -> None:
    """Let it go on."""
    assert live.frozen_mono_s is not None, live.run
    runs.thawed(live)
    runs.deadlines.add(now.mono_s + live.timeout_left_s, "timeout", live)
    runs.out.append(Thaw(live.run.run_id, live.run.attempt))
    runs.record(Fact.RUN_THAWED, live, now, reason)


def evict(runs: Runs, live: Live, reason: str, now: Now) -> None:
    """KILL to its tree; when it is gone it is queued anew, or fails if it was killed too often."""
    assert live.run.state is State.RUNNING, live.run
    runs.thawed(live)
    live.evicted = True
    live.stop_outcome, live.stop_reason = Outcome.KILLED_FOR_MEMORY, reason
    runs.deadlines.drop(live)
    live.run = move(live.run, State.STOPPING, reason=reason, stop=Outcome.KILLED_FOR_MEMORY)
    live.run = replace(live.run, evictions=live.run.evictions + 1)
    runs.record(Fact.RUN_EVICTED, live, now, reason)
    runs.out.append(SignalTree(live.run.run_id, live.run.attempt, SIGKILL))
