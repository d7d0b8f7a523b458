"""Runs that share the cores of one machine, in virtual time: who gets how much, and when each will have ended. Pure.

A fluid model. A run alone takes its duration, of which it computes a share and waits for the rest (disk, network,
sleep). While all that compute want more cores than there are, computing is slowed for all by one factor, and waiting is
not: who mostly waits is hardly slower. Runs of nearly one share advance at one pace, so a level of shares needs one
sum and one heap, however many they are.
"""

from heapq import heappop, heappush
from typing import Final

from msgspec import Struct

LEVELS: Final = 10  # of shares, a tenth apart
SOLVE_STEPS_MAX: Final = 20  # Newton's method on a convex falling curve: four are usual
EPSILON_S: Final = 1e-6  # what ends within a microsecond ends now

Key = tuple[str, int]  # an attempt: run id and number


class Level(Struct):
    """Runs that compute the same share of their time."""

    share: float
    demand_cores: float = 0.0
    count: int = 0
    pace: float = 1.0  # seconds of work done in a second
    done_s: float = 0.0  # work that a run has done that was always there
    ends: list[tuple[float, Key]] = []  # heap: `done_s` at which a run has ended


class Shares:
    """The cores, and all who run on them. Time is handed in and must not go back."""

    def __init__(self, cores: float) -> None:
        assert cores > 0, cores
        self.cores = cores
        self.demand_cores = 0.0  # what all runs would use if there were enough
        self._now_s = 0.0
        self._levels = [Level(level / LEVELS) for level in range(LEVELS + 1)]
        self._active: list[Level] = []  # levels with a run
        self._runs: dict[Key, tuple[Level, float]] = {}
        self._next_s: float | None = None
        self._settled = True

    @property
    def busy_cores(self) -> float:
        """Cores in use."""
        return min(self.cores, self.demand_cores)

    def add(self, key: Key, duration_s: float, cores: float) -> None:
        """A run begins, which alone would take duration_s and `cores` on average."""
        level = self._levels[round(min(1.0, cores) * LEVELS)]
        if not level.count:
            self._active.append(level)
        level.demand_cores += cores
        level.count += 1
        heappush(level.ends, (level.done_s + duration_s, key))
        self._runs[key] = (level, cores)
        self.demand_cores += cores
        self._settled = False

    def end(self, key: Key) -> bool:
        """A run ends, now. Whether it was there."""
        found = self._runs.pop(key, None)
        if found is None:
            return False
        level, cores = found
        level.count -= 1
        # Sums that shrink to nothing are nothing, whatever rounding has left of them.
        level.demand_cores = level.demand_cores - cores if level.count else 0.0
        self.demand_cores = self.demand_cores - cores if self._runs else 0.0
        if not level.count:
            level.ends.clear()
            self._active.remove(level)
        self._settled = False
        return True

    def move_to(self, now_s: float) -> list[Key]:
        """Time passes; who has ended by then, first to last. They are still to be told with `end`."""
        self._settle()
        span_s = now_s - self._now_s
        self._now_s = now_s
        ended: list[Key] = []
        for level in self._active:
            level.done_s += span_s * level.pace
            while level.ends and level.ends[0][0] <= level.done_s + EPSILON_S:
                _, key = heappop(level.ends)
                if key in self._runs:
                    ended.append(key)
        if ended:
            self._settled = False
        return ended

    def next_end_s(self) -> float | None:
        """When the next run ends, if nobody comes or goes before; None: nobody runs."""
        self._settle()
        return self._next_s

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        slowing = self._slowing()
        self._next_s = None
        for level in self._active:
            level.pace = 1.0 / (1.0 + level.share * (slowing - 1.0))
            while level.ends[0][1] not in self._runs:
                heappop(level.ends)
            at_s = self._now_s + max(0.0, level.ends[0][0] - level.done_s) / level.pace
            if self._next_s is None or at_s < self._next_s:
                self._next_s = at_s

    def _slowing(self) -> float:
        """By which factor computing is slower, s ≥ 1: that with which Σ demand / (1 + share·(s − 1)) = cores."""
        if self.demand_cores <= self.cores:
            return 1.0
        levels = [level for level in self._active if level.share]
        waiting_cores = sum(level.demand_cores for level in self._active if not level.share)
        target = max(self.cores - waiting_cores, self.cores / 2)  # those who only wait take next to nothing each
        slowing = 1.0
        for _ in range(SOLVE_STEPS_MAX):
            excess, slope = -target, 0.0
            for level in levels:
                divisor = 1.0 + level.share * (slowing - 1.0)
                excess += level.demand_cores / divisor
                slope += level.demand_cores * level.share / divisor**2
            if excess <= 1e-9 * target or not slope:
                break
            slowing += excess / slope
        return slowing


def slowing_max(demand_cores: float, cores: float) -> float:
    """No run takes more than so many times its duration while no more than this is wanted of the cores: all that give
    way compute for half a level of their time at least, and half of the cores is theirs."""
    return 1.0 + 4 * LEVELS * max(0.0, demand_cores / cores)
