"""What a reading of the load cannot have seen yet: runs that began within the time it is a mean over. Pure.

A mean over 1 s has seen 0.3 of a run that began 0.3 s ago. It still holds 0.7 of one that ended 0.3 s ago, so where one
run follows another in the same slot nothing is missing, and counting only the new one would count the slot twice.
"""

from collections import deque
from typing import Final

FRESH_RUNS_MAX: Final = 20_000  # ended runs remembered: more within a second no machine starts


class Fresh:
    """Runs that began or ended within `fresh_s` (which may be changed), with the cores that each is taken to use."""

    def __init__(self, fresh_s: float) -> None:
        self.fresh_s = fresh_s
        self._running: dict[str, tuple[float, float]] = {}  # by run id: cores, since; oldest first
        self._ended: deque[tuple[float, float, float]] = deque(maxlen=FRESH_RUNS_MAX)  # cores, how long, until

    def started(self, run_id: str, cores: float, now_mono_s: float) -> None:
        """A run began."""
        self._running[run_id] = (cores, now_mono_s)

    def ended(self, run_id: str, now_mono_s: float) -> None:
        """A run ended. One that is not known changes nothing."""
        found = self._running.pop(run_id, None)
        if found is not None:
            cores, since_s = found
            self._ended.append((cores, now_mono_s - since_s, now_mono_s))

    def cores(self, now_mono_s: float) -> float:
        """Cores of running runs that the mean misses, without those of ended ones that it still holds."""
        span_s = self.fresh_s
        while self._ended and now_mono_s - self._ended[0][2] >= span_s:
            self._ended.popleft()
        missing = 0.0
        for cores, since_s in reversed(self._running.values()):
            age_s = now_mono_s - since_s
            if age_s >= span_s:
                break
            missing += cores * (1 - max(0.0, age_s) / span_s)
        left = sum(cores * min(took_s, span_s - (now_mono_s - at_s)) / span_s for cores, took_s, at_s in self._ended)
        return max(0.0, missing - left)
