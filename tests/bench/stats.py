"""Percentiles by nearest rank, medians over repeats, and the reading of stamps. Pure."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

__all__ = ["Stamp", "epoch_ns", "lateness_ms", "median", "nearest_rank", "read_stamps", "second_lateness_ms", "summary"]

Stamp = tuple[int, str, str]  # CLOCK_REALTIME in ns, label, scheduled_at or "-"


def nearest_rank(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed. No interpolation."""
    ranked = sorted(values)
    if not ranked:
        raise ValueError("a percentile of nothing")
    return ranked[max(math.ceil(percent / 100 * len(ranked)), 1) - 1]


def summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "count": len(values),
        "p50": round(nearest_rank(values, 50), 4),
        "p99": round(nearest_rank(values, 99), 4),
        "max": round(max(values), 4),
    }


def read_stamps(path: Path) -> list[Stamp]:
    """What stamp.c wrote, in the order of the instants."""
    if not path.exists():
        return []
    stamps = []
    for line in path.read_text().splitlines():
        ns, label, scheduled_at = line.split(" ")
        stamps.append((int(ns), label, scheduled_at))
    return sorted(stamps)


def epoch_ns(instant: str) -> int:
    """An ISO 8601 time in ns since the epoch, exact to its microseconds."""
    due = datetime.fromisoformat(instant)
    return (int(due.replace(microsecond=0).timestamp()) * 1_000_000 + due.microsecond) * 1000


def lateness_ms(stamps: Iterable[Stamp]) -> list[float]:
    """Lateness against the scheduled instant that the scheduler itself told the job, ms."""
    return [(ns - epoch_ns(scheduled_at)) / 1e6 for ns, _label, scheduled_at in stamps]


def second_lateness_ms(stamps: Iterable[Stamp], first_s: int, count: int) -> list[float]:
    """Lateness of one job a second, from `first_s` on: each stamp takes the oldest due second not yet taken.

    A second that the scheduler left out altogether therefore makes all that follow a second late: it shows.
    """
    late = []
    due_s = first_s
    for ns, _label, _scheduled_at in sorted(stamps):
        if ns < due_s * 1_000_000_000 or due_s >= first_s + count:
            continue
        late.append((ns - due_s * 1_000_000_000) / 1e6)
        due_s += 1
    return late
