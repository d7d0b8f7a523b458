"""What a replay shows: by hour of the day, by day, by job, where jobs collide, and in a few numbers that two replays
can be compared by. Values, and how they are made of a tally; prints nothing. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Final

from msgspec import Struct

from tidegate.model.job import Job
from tidegate.simulate.replay import Capacity
from tidegate.simulate.tally import MINUTE_S, Tally, Waits
from tidegate.triggers.build import build

HOURS: Final = 24
NAMES_MAX: Final = 1000  # jobs named for one collision
SATURATED_RATIO: Final = 0.1  # an hour of the day is saturated if so many of its minutes are
MINUTE: Final = timedelta(minutes=1)
INSTANT: Final = timedelta(microseconds=1)


class HourRow(Struct, frozen=True, kw_only=True):
    """One hour of the day, over all days. Ratios are of what there is; waits are of runs that were due in it."""

    hour: int
    fires: int
    running_mean: float
    running_max: int
    waiting_max: int
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float
    cpu_ratio: float
    memory_ratio: float | None  # most at one time
    saturated_ratio: float  # of its minutes


class DayRow(Struct, frozen=True):
    """One day: for each hour how full the machine was (the fullest of CPU, memory and slots; 1 is full) and how many
    minutes were saturated. None: outside of what was replayed."""

    date: str
    load_ratio: tuple[float | None, ...]
    saturated_minutes: tuple[int | None, ...]


class Collision(Struct, frozen=True):
    """A minute of the day in which time fires several jobs."""

    time: str  # 02:00
    times: int  # on how many days
    jobs_max: int
    worst_at: datetime
    jobs: tuple[str, ...]  # at the worst of them


class JobRow(Struct, frozen=True, kw_only=True):
    """One job. A wait is from the instant a run was due to its start, without what a calendar deferred it by."""

    job: str
    fires: int
    runs: int
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float
    run_mean_s: float
    timed_out: int
    skipped: dict[str, int]
    basis: str  # of its durations: history, given, expected, guess


class Measure(Struct, frozen=True, kw_only=True):
    """What two replays are compared by."""

    fires: int
    runs: int
    jobs_in_a_minute_max: int
    running_max: int
    waiting_max: int
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float
    saturated_minutes: int
    skipped: int
    timed_out: int


def measure(tally: Tally) -> Measure:
    """The whole in a few numbers."""
    waits = tally.all_waits()
    jobs = tally.jobs.values()
    return Measure(
        fires=sum(job.fires for job in jobs),
        runs=sum(job.runs for job in jobs),
        jobs_in_a_minute_max=max(tally.jobs_due, default=0),
        running_max=max(tally.running_max, default=0),
        waiting_max=max(tally.waiting_max, default=0),
        wait_p50_s=waits.quantile_s(0.5),
        wait_p95_s=waits.quantile_s(0.95),
        wait_max_s=waits.max_s,
        saturated_minutes=sum(map(tally.saturated, range(tally.minutes))),
        skipped=sum(sum(job.skipped.values()) for job in jobs),
        timed_out=sum(job.timed_out for job in jobs),
    )


def job_rows(tally: Tally, basis: Mapping[str, str]) -> list[JobRow]:
    """Every job that fired, the one that waits longest first."""
    rows = [
        JobRow(
            job=name,
            fires=job.fires,
            runs=job.runs,
            wait_p50_s=job.waits.quantile_s(0.5),
            wait_p95_s=job.waits.quantile_s(0.95),
            wait_max_s=job.waits.max_s,
            run_mean_s=job.run_s / job.runs if job.runs else 0.0,
            timed_out=job.timed_out,
            skipped=job.skipped,
            basis=basis[name],
        )
        for name, job in tally.jobs.items()
        if job.fires
    ]
    return sorted(rows, key=lambda row: (-row.wait_p95_s, -row.wait_max_s, -sum(row.skipped.values()), row.job))


class Wall:
    """The minutes of a replay as a clock on the wall shows them."""

    def __init__(self, start: datetime, minutes: int, zone: tzinfo) -> None:
        self.start = start
        self.zone = zone
        self.hour = bytearray(minutes)
        self.cells: dict[tuple[str, int], list[int]] = {}  # minutes by date and hour
        day, date = 0, ""
        for minute in range(minutes):
            local = (start + minute * MINUTE).astimezone(zone)
            if local.toordinal() != day:
                day, date = local.toordinal(), f"{local:%Y-%m-%d}"
            self.hour[minute] = local.hour
            self.cells.setdefault((date, local.hour), []).append(minute)

    def time(self, minute: int) -> str:
        """02:15"""
        return f"{(self.start + minute * MINUTE).astimezone(self.zone):%H:%M}"


def hour_rows(tally: Tally, wall: Wall, capacity: Capacity) -> list[HourRow]:
    """Those hours of the day that were replayed."""
    rows = []
    waits: dict[int, Waits] = {}
    for hour, found in tally.waits.items():
        minute = min(hour * 60, tally.minutes - 1)  # of that hour, as many minutes into it as the beginning was
        waits.setdefault(wall.hour[minute], Waits()).merge(found)
    for hour in range(HOURS):
        minutes = [minute for (_, of), cell in wall.cells.items() if of == hour for minute in cell]
        if not minutes:
            continue
        waited = waits.get(hour, Waits())
        span_s = len(minutes) * MINUTE_S
        rows.append(
            HourRow(
                hour=hour,
                fires=sum(tally.fires[minute] for minute in minutes),
                running_mean=sum(tally.running_s[minute] for minute in minutes) / span_s,
                running_max=max(tally.running_max[minute] for minute in minutes),
                waiting_max=max(tally.waiting_max[minute] for minute in minutes),
                wait_p50_s=waited.quantile_s(0.5),
                wait_p95_s=waited.quantile_s(0.95),
                wait_max_s=waited.max_s,
                cpu_ratio=sum(tally.cpu_s[minute] for minute in minutes) / (span_s * capacity.cores),
                memory_ratio=_memory_ratio(tally, minutes, capacity),
                saturated_ratio=sum(map(tally.saturated, minutes)) / len(minutes),
            )
        )
    return rows


def day_rows(tally: Tally, wall: Wall, capacity: Capacity) -> list[DayRow]:
    """Each day with its hours."""
    rows = []
    for date in dict.fromkeys(date for date, _ in wall.cells):
        cells = [wall.cells.get((date, hour)) for hour in range(HOURS)]
        load = tuple(None if cell is None else round(_load_ratio(tally, cell, capacity), 4) for cell in cells)
        saturated = tuple(None if cell is None else sum(map(tally.saturated, cell)) for cell in cells)
        rows.append(DayRow(date, load, saturated))
    return rows


def _load_ratio(tally: Tally, minutes: list[int], capacity: Capacity) -> float:
    cpu = sum(tally.cpu_s[minute] for minute in minutes) / (len(minutes) * MINUTE_S * capacity.cores)
    slots = max(tally.running_max[minute] for minute in minutes) / capacity.slots
    return max(cpu, slots, _memory_ratio(tally, minutes, capacity) or 0.0)


def _memory_ratio(tally: Tally, minutes: Iterable[int], capacity: Capacity) -> float | None:
    if capacity.memory_bytes is None:
        return None
    return max(tally.memory_bytes[minute] for minute in minutes) / capacity.memory_bytes


def collisions(tally: Tally, wall: Wall, jobs: Iterable[Job], limit: int) -> list[Collision]:
    """The minutes of the day in which most jobs come due at once, worst first."""
    worst: dict[str, int] = {}
    times: Counter[str] = Counter()
    for minute, due in enumerate(tally.jobs_due):
        if due > 1:
            time = wall.time(minute)
            times[time] += 1
            if time not in worst or due > tally.jobs_due[worst[time]]:
                worst[time] = minute
    ranked = sorted(worst, key=lambda time: (-tally.jobs_due[worst[time]], -times[time], time))[:limit]
    triggers = [(job.name, trigger) for job in jobs if job.enabled and (trigger := build(job)) is not None]
    found = []
    for time in ranked:
        at = wall.start + worst[time] * MINUTE
        names: list[str] = []
        for name, trigger in triggers:
            fire = trigger.after(at - INSTANT)
            if fire is not None and fire < at + MINUTE and len(names) < NAMES_MAX:
                names.append(name)
        found.append(Collision(time, times[time], tally.jobs_due[worst[time]], at.astimezone(wall.zone), tuple(names)))
    return found


def saturated_hours(rows: Iterable[HourRow]) -> list[int]:
    """Hours of the day in which the machine often has no more to give."""
    return [row.hour for row in rows if row.saturated_ratio >= SATURATED_RATIO]
