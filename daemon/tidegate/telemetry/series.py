"""The numbers of one job and of the pool, and histograms of plain ints: what metrics.py counts in and exposition.py
writes out.

No prometheus-client child objects: 10,000 jobs with a Counter and a Histogram child each took 255 MB and 10.6 s a
scrape; these take about 0.7 KB a job. Label text is made once, here, and escaped here.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from tidegate.model.command import Record
from tidegate.model.run import Outcome, Skip
from tidegate.model.sample import Sample

OUTCOMES: Final = tuple(Outcome)
OUTCOME_INDEX: Final = {outcome: index for index, outcome in enumerate(OUTCOMES)}
ALWAYS_SHOWN: Final = 3  # succeeded, failed and timed_out stand first and are shown from the start, at zero
assert OUTCOMES[:ALWAYS_SHOWN] == (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT)

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def label_value(text: str) -> str:
    """A label's value as the text format wants it. Lone surrogates, which UTF-8 has no bytes for, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_ESCAPES)


class Bounds:
    """Upper bounds of a histogram's buckets, rising, with their text."""

    __slots__ = ("texts", "values")

    def __init__(self, *values: float) -> None:
        self.values = values
        self.texts = (*(repr(float(value)) for value in values), "+Inf")


DURATION: Final = Bounds(0.1, 1, 10, 60, 600, 3600, 21600, 86400)
QUEUE_WAIT: Final = Bounds(0.01, 0.1, 1, 10, 60, 600, 3600)
LATENESS: Final = Bounds(0.005, 0.02, 0.1, 0.5, 2, 10, 60)
WRITE: Final = Bounds(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)
LOOP_LAG: Final = Bounds(0.001, 0.005, 0.02, 0.1, 0.5, 2)


class Histogram:
    """Counts by bucket (not cumulative) and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * len(bounds.texts)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value. Bounds are inclusive, as `le` says."""
        self.counts[bisect_left(self.bounds.values, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(le, count up to it) for each bucket."""
        rows: list[tuple[str, float]] = []
        count = 0
        for text, own in zip(self.bounds.texts, self.counts, strict=True):
            count += own
            rows.append((text, count))
        return rows


class JobSeries:
    """Everything counted for one job. What is None has not been seen yet and is not shown."""

    __slots__ = (
        "attempts",
        "caught_up",
        "cpu_s",
        "created_s",
        "duration",
        "expected_s",
        "failed",
        "label",
        "last_run_s",
        "last_success_s",
        "memory_peak_bytes",
        "name",
        "queue_wait",
        "queued",
        "running",
        "runs",
        "skipped",
    )

    def __init__(self, name: str, created_s: float) -> None:
        self.name = name
        self.label = f'job_name="{label_value(name)}"'
        self.created_s = created_s
        self.expected_s: float | None = None  # as its definition says
        self.failed: int | None = None  # 1: its last run did not succeed; cancelled ones count as none
        self.runs: list[int] | None = None
        self.attempts: list[int] | None = None
        self.skipped: dict[Skip, int] | None = None
        self.caught_up: int | None = None
        self.running = 0
        self.queued = 0
        self.last_run_s: float | None = None
        self.last_success_s: float | None = None
        self.memory_peak_bytes: int | None = None
        self.cpu_s: float | None = None
        self.duration: Histogram | None = None
        self.queue_wait: Histogram | None = None


class PoolSeries:
    """What became of the pool and of the history, as far as records tell it."""

    def __init__(self) -> None:
        self.resizes: dict[tuple[str, ...], float] = {}  # by direction and word
        self.evictions = 0
        self.frozen: set[str] = set()  # run ids
        self.memory_tier = 0
        self.holds = 0  # reasons why nothing may start at all
        self.history_failing = 0
        self.history_errors = 0

    def resized(self, record: Record) -> None:
        """The limit was moved; where nothing moved it by itself, nothing is counted."""
        if record.resize is not None:
            key = (record.resize.direction, record.resize.word)
            self.resizes[key] = self.resizes.get(key, 0) + 1

    def tiered(self, record: Record) -> None:
        """Memory is shorter, or less short."""
        self.memory_tier = record.tier

    def held(self, _record: Record) -> None:
        """One more reason why nothing may start."""
        self.holds += 1

    def let_go(self, _record: Record) -> None:
        """One reason less."""
        self.holds = max(0, self.holds - 1)

    def froze(self, record: Record) -> None:
        """A run is held still."""
        assert record.run is not None, record
        self.frozen.add(record.run.run_id)

    def thawed(self, record: Record) -> None:
        """It goes on."""
        assert record.run is not None, record
        self.frozen.discard(record.run.run_id)

    def history_state(self, reason: str) -> None:
        """Writing the history fails for this reason; an empty one: it is written again."""
        if reason and not self.history_failing:
            self.history_errors += 1
        self.history_failing = int(bool(reason))


def pressures_of(sample: Sample | None) -> Mapping[str, float]:
    """Shares of the sample's time that were lost for want of something, by resource; what the kernel does not tell is
    left out. Of io only the time in which nobody got on: somebody waits for a disk nearly always."""
    if sample is None:
        return {}
    ratios = {"cpu": sample.cpu_some_ratio, "memory": sample.memory_some_ratio, "io": sample.io_full_ratio}
    return {resource: ratio for resource, ratio in ratios.items() if ratio is not None}
