"""Permissions to start, on record before there is a slot. Pure.

A start must be on disk before it is done, and where runs are short and slots come free by the hundred a second, each
would wait for the disk of its own. So the next few in line are armed while all slots are in use: the record that such
a run may start is written ahead, and when its turn comes it starts at once. It stays QUEUED: whatever happens to
queued runs happens to it, and what comes first is decided when a slot is free.

After a crash a run that was armed has begun or not, and its keeper knows. Only where the keeper is gone too that cannot
be known; so nobody stays armed for longer than ARMED_S_MAX, and nobody is armed where slots seldom come free.
"""

from collections.abc import Iterable
from typing import Final

from tidegate.engine.live import Live
from tidegate.model.event import Now
from tidegate.model.run import State

ARM_AT_ONCE: Final = 32
ARM_BELOW: Final = 8  # armed runs left: time for more
FREED_S_MAX: Final = 0.1  # since a slot came free: then slots are no reason to hurry
ARMED_S_MAX: Final = 1.0


class Arming:
    """Who is armed. One that was cancelled meanwhile is dropped when its time is over."""

    def __init__(self) -> None:
        self.freed_mono_s = float("-inf")  # when a slot last came free
        self.watched = False  # a deadline looks after them
        self._armed: dict[str, tuple[Live, int, float]] = {}  # by run id: attempt, since when

    def wanted(self, now: Now) -> bool:
        """Whether to arm more; to be asked where all slots are in use."""
        if now.mono_s - self.freed_mono_s > FREED_S_MAX:
            return False
        return len(self._armed) < ARM_BELOW

    def started(self, run_id: str) -> None:
        """It has its slot."""
        self._armed.pop(run_id, None)

    def arm(self, next_in_line: Iterable[Live], now: Now) -> list[Live]:
        """Arm those who are not; whom it was."""
        fresh = [live for live in next_in_line if live.run.run_id not in self._armed]
        for live in fresh:
            self._armed[live.run.run_id] = (live, live.run.attempt, now.mono_s)
        return fresh

    def expired(self, now: Now) -> list[Live]:
        """Those who have waited for too long; they are armed no more."""
        over = [entry for entry in self._armed.values() if entry[2] + ARMED_S_MAX <= now.mono_s or not _waits(entry)]
        for live, _, _ in over:
            del self._armed[live.run.run_id]
        return [entry[0] for entry in over if _waits(entry)]

    def next_expiry(self) -> float | None:
        """When the first of them will have waited for too long, in monotonic seconds."""
        return min((since_s + ARMED_S_MAX for _, _, since_s in self._armed.values()), default=None)


def _waits(entry: tuple[Live, int, float]) -> bool:
    live, attempt, _ = entry
    return live.run.state is State.QUEUED and live.run.attempt == attempt
