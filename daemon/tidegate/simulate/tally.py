"""What happened in a replay, counted by minute, by hour of the day and by job. Bounded: a few numbers for each minute
and each job, however many runs there were. Pure.
"""

from array import array
from collections import Counter
from math import exp, log
from typing import Final

from msgspec import Struct

MINUTE_S: Final = 60.0
STEP: Final = log(1.05)  # waits are told apart by 5 %
WAIT_S_MIN: Final = 0.001  # less is none
BUSY_RATIO: Final = 0.95  # of the cores, over a minute: nothing more is to be had


class Waits:
    """How long runs waited: counted in steps of 5 %, so that a year of them takes a few hundred numbers."""

    __slots__ = ("_steps", "count", "max_s")

    def __init__(self) -> None:
        self.count = 0
        self.max_s = 0.0
        self._steps: Counter[int] = Counter()  # of those that waited at all

    def add(self, wait_s: float) -> None:
        """One more."""
        self.count += 1
        if wait_s >= WAIT_S_MIN:
            self._steps[int(log(wait_s / WAIT_S_MIN) / STEP)] += 1
            if wait_s > self.max_s:
                self.max_s = wait_s

    def quantile_s(self, share: float) -> float:
        """The wait that so many did not exceed, to 5 %."""
        beyond = self.count - share * self.count
        for step in sorted(self._steps, reverse=True):
            beyond -= self._steps[step]
            if beyond < 0:
                return min(self.max_s, WAIT_S_MIN * exp((step + 0.5) * STEP))
        return 0.0

    def merge(self, other: "Waits") -> None:
        """These too."""
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)
        self._steps += other._steps


class JobTally(Struct):
    """One job."""

    waits: Waits
    fires: int = 0
    runs: int = 0  # started
    timed_out: int = 0
    skipped: dict[str, int] = {}  # fires that never started, by the word of the reason
    run_s: float = 0.0
    last_minute: int = -1


class Level(Struct):
    """How things stand until something happens."""

    running: int
    waiting: int  # ready, and held by a slot, CPU, memory or shared resources
    held_by_machine: bool  # one of them by something else than a shared resource
    busy_cores: float
    memory_bytes: int


class Tally:
    """The account of one replay of `minutes` minutes."""

    def __init__(self, minutes: int, cores: float, lead_s: float = 0.0) -> None:
        self.minutes = minutes
        self.lead_s = lead_s  # from the full hour before the beginning to the beginning
        self.cores = cores
        self.jobs: dict[str, JobTally] = {}
        self.jobs_due = array("L", bytes(8 * minutes))  # jobs that time fired in this minute
        self.fires = array("L", bytes(8 * minutes))
        self.running_s = array("d", bytes(8 * minutes))  # summed over the runs
        self.running_max = array("L", bytes(8 * minutes))
        self.waiting_max = array("L", bytes(8 * minutes))
        self.cpu_s = array("d", bytes(8 * minutes))
        self.memory_bytes = array("Q", bytes(8 * minutes))  # most at one time
        self.held = bytearray(minutes)  # somebody waited for the machine
        self.waits: dict[int, Waits] = {}  # by the hour in which the run was due, counted from that of the beginning

    def job(self, name: str) -> JobTally:
        """That of one job."""
        found = self.jobs.get(name)
        if found is None:
            found = self.jobs[name] = JobTally(Waits(), skipped={})
        return found

    def due(self, name: str, at_s: float) -> None:
        """Time fires a job."""
        minute = min(self.minutes - 1, int(at_s / MINUTE_S))
        self.fires[minute] += 1
        job = self.job(name)
        if job.last_minute != minute:
            job.last_minute = minute
            self.jobs_due[minute] += 1

    def started(self, name: str, due_s: float, wait_s: float) -> None:
        """A run starts that was due at due_s."""
        job = self.job(name)
        job.runs += 1
        job.waits.add(wait_s)
        hour = int((due_s + self.lead_s) / 3600)
        waits = self.waits.get(hour)
        if waits is None:
            waits = self.waits[hour] = Waits()
        waits.add(wait_s)

    def skipped(self, name: str, word: str, count: int) -> None:
        """Fires that never start."""
        skipped = self.job(name).skipped
        skipped[word] = skipped.get(word, 0) + count

    def passed(self, from_s: float, to_s: float, level: Level) -> None:
        """So it stood for a while."""
        minute = int(from_s / MINUTE_S)
        while from_s < to_s and minute < self.minutes:
            until_s = min(to_s, (minute + 1) * MINUTE_S)
            span_s = until_s - from_s
            if level.running:
                self.running_s[minute] += level.running * span_s
                self.cpu_s[minute] += level.busy_cores * span_s
                if level.running > self.running_max[minute]:
                    self.running_max[minute] = level.running
                if level.memory_bytes > self.memory_bytes[minute]:
                    self.memory_bytes[minute] = level.memory_bytes
            if level.waiting > self.waiting_max[minute]:
                self.waiting_max[minute] = level.waiting
            if level.held_by_machine:
                self.held[minute] = 1
            from_s = until_s
            minute += 1

    def saturated(self, minute: int) -> bool:
        """Whether somebody waited for the machine, or all cores were busy."""
        return bool(self.held[minute]) or self.cpu_s[minute] >= BUSY_RATIO * self.cores * MINUTE_S

    def all_waits(self) -> Waits:
        """Of all runs."""
        together = Waits()
        for waits in self.waits.values():
            together.merge(waits)
        return together
