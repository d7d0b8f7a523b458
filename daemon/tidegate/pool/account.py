"""What the pool has done: counts, and the newest tasks' times, from which throughput and concurrency are worked out
when somebody asks. While tasks run it only appends. No lock: each worker counts for itself."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from tidegate.pool.task import Task

SPANS_MAX: Final = 10_000  # tasks whose times are kept, about 150 bytes each
PARTS: Final = 60  # of the time that a summary looks at


class Tally:
    """What one worker has ended."""

    __slots__ = ("evicted", "failed", "retried", "succeeded", "timed_out")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.timed_out = self.retried = self.evicted = 0


class Concurrency(Struct, frozen=True):
    """How many tasks ran at once in the mean over a part of the time."""

    from_s: float  # seconds since the pool was made
    until_s: float
    mean: float


class Summary(Struct, frozen=True, kw_only=True):
    """What a pool has done so far."""

    succeeded: int
    failed: int  # timed out among them
    timed_out: int
    cancelled: int
    retried: int  # attempts beyond the first
    evicted: int  # attempts that were ended for want of memory
    abandoned: int  # threads that did not end in time and were given up
    running: int
    queued: int  # and waiting for another attempt
    limit: int  # at once, now
    success_rate: float | None  # of those that succeeded or failed
    elapsed_s: float  # since the pool was made
    throughput_per_s: float  # tasks that ended, over the time from the first start to the last end of those kept
    concurrency: tuple[Concurrency, ...]  # over the newest 10,000 tasks
    concurrency_max: int  # among the same
    forgotten: int  # tasks that wait_for_all does not know any more


class Account:
    """Counts by worker, and spans of attempts: begun, ended."""

    def __init__(self) -> None:
        self._past = Tally()  # of workers that ended
        self._tallies: list[Tally] = [self._past]
        self.spans: deque[tuple[float, float]] = deque(maxlen=SPANS_MAX)
        self.cancelled = 0
        self.abandoned = 0

    def hired(self) -> Tally:
        tally = Tally()
        self._tallies.append(tally)
        return tally

    def left(self, tally: Tally) -> None:
        """Its worker ends. With the lock of the core held."""
        if tally in self._tallies:
            self._tallies.remove(tally)
            for each in Tally.__slots__:
                setattr(self._past, each, getattr(self._past, each) + getattr(tally, each))

    def total(self, what: str) -> int:
        return sum(getattr(tally, what) for tally in list(self._tallies))


def concurrency(spans: list[tuple[float, float]], begin_s: float, end_s: float) -> tuple[Concurrency, ...]:
    """The mean number of spans at once in each of PARTS equal parts; times since `begin_s`."""
    if end_s <= begin_s or not spans:
        return ()
    first_s = min(start for start, _ in spans)
    part_s = (end_s - first_s) / PARTS
    if part_s <= 0:
        return ()
    sums = [0.0] * PARTS
    for start, end in spans:
        at = max(0, min(PARTS - 1, int((start - first_s) / part_s)))
        while at < PARTS and first_s + at * part_s < end:
            sums[at] += min(end, first_s + (at + 1) * part_s) - max(start, first_s + at * part_s)
            at += 1
    zero_s = first_s - begin_s
    return tuple(
        Concurrency(round(zero_s + at * part_s, 6), round(zero_s + (at + 1) * part_s, 6), round(total / part_s, 3))
        for at, total in enumerate(sums)
    )


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """The largest number of spans that overlap."""
    most = now = 0
    for _, change in sorted([*((start, 1) for start, _ in spans), *((end, -1) for _, end in spans)]):
        now += change
        most = max(most, now)
    return most


def present(tasks: Iterable[Task[Any] | None]) -> list[float]:
    """Since when those run that run now."""
    return [task.started_s for task in tasks if task is not None and task.started_s is not None]
