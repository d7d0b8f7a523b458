"""The coming fires of many jobs, counted into cells of time. Pure: decides no colour and prints nothing."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from msgspec import Struct

from tidegate.cli.fires import fires
from tidegate.cli.wording import MONTHS, WEEKDAYS
from tidegate.model.job import Job

SPAN: Final = timedelta(hours=24)
JOB_FIRES_MAX: Final = 1500  # a job that fires each minute is counted in full; a faster one is estimated from so many
ALL_FIRES_MAX: Final = 300_000  # listing one fire takes about 5 µs: at most a few seconds for any configuration
JOB_FIRES_MIN: Final = 50  # an hourly job is counted in full, however many jobs there are


class Row(Struct, frozen=True):
    """One job: its fires in each cell, in all, and the first of all, which may lie beyond the span."""

    job: str
    cells: tuple[int, ...]
    total: int
    first: datetime | None
    minutes: frozenset[int] = frozenset()  # since the epoch; empty where the fires are estimated
    estimated: bool = False


class Busiest(Struct, frozen=True):
    """The minute with most fires."""

    minute: datetime
    fires: int
    jobs: tuple[str, ...]


class Timeline(Struct, frozen=True):
    """All rows over the same cells, sorted by first fire."""

    start: datetime
    cell: timedelta
    rows: tuple[Row, ...]
    busiest: Busiest | None

    def sums(self) -> tuple[int, ...]:
        """Fires of all jobs in each cell."""
        return tuple(map(sum, zip(*(row.cells for row in self.rows), strict=True)))


def timeline(jobs: list[Job], now: datetime, zone: tzinfo, cells: int) -> Timeline:
    """Count the fires after `now` up to the end of SPAN, which begins with the cell of local time that holds `now`."""
    cell = SPAN / cells
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    since_midnight = now.astimezone(zone).replace(tzinfo=None) - midnight.replace(tzinfo=None)
    start = (now - since_midnight % cell).astimezone(UTC)
    limit = min(JOB_FIRES_MAX, max(JOB_FIRES_MIN, ALL_FIRES_MAX // max(len(jobs), 1)))
    minutes: Counter[int] = Counter()
    rows = [_row(job, now, start, cell, cells, limit, minutes) for job in jobs]
    rows.sort(key=lambda row: (row.first is None, row.first or now, row.job))
    return Timeline(start, cell, tuple(rows), _busiest(minutes, rows))


def _row(
    job: Job, now: datetime, start: datetime, cell: timedelta, cells: int, limit: int, minutes: Counter[int]
) -> Row:
    """Count one job; its minutes are added to `minutes` unless they had to be estimated."""
    end = start + cell * cells
    found: list[datetime] = []
    first = None
    for fire in fires(job, now):
        first = first or fire
        if fire >= end or len(found) == limit:
            break
        found.append(fire)
    else:
        fire = end
    counts = [0] * cells
    for each in found:
        counts[(each - start) // cell] += 1
    if fire >= end:
        own = [int(each.timestamp()) // 60 for each in found]
        minutes.update(own)
        return Row(job.name, tuple(counts), len(found), first, frozenset(own))
    rate = len(found) / ((fire - now) / cell)  # fires a cell
    reached = (fire - start) // cell
    counts[reached:] = [max(1, round(rate))] * (cells - reached)
    return Row(job.name, tuple(counts), sum(counts), first, estimated=True)


def _busiest(minutes: Counter[int], rows: list[Row]) -> Busiest | None:
    """The earliest of the minutes with most fires; None where no two fires share one."""
    if not minutes:
        return None
    most = max(minutes.values())
    if most < 2:
        return None
    minute = min(minute for minute, count in minutes.items() if count == most)
    names = tuple(sorted(row.job for row in rows if minute in row.minutes))
    return Busiest(datetime.fromtimestamp(minute * 60, UTC), most, names)


def coming(jobs: list[Job], now: datetime) -> Iterator[tuple[datetime, str]]:
    """The fires of all jobs after `now`, in order of time, then name. Endless where a job is."""
    return heapq.merge(*(_named(job, now) for job in jobs))


def _named(job: Job, now: datetime) -> Iterable[tuple[datetime, str]]:
    return ((fire, job.name) for fire in fires(job, now))


def ruler(start: datetime, cell: timedelta, cells: int, zone: tzinfo) -> tuple[str, str]:
    """Two lines as wide as the cells: the days, and every second hour, in local time of the zone."""
    days, hours = [" "] * cells, [" "] * cells
    free = 0
    for index in range(cells):
        local = (start + cell * index).astimezone(zone)
        if local.hour == 0 and local.minute == 0 and index:
            _put(days, index, f"|{_day(local)}")
            free = free or index
        if local.minute == 0 and local.hour % 2 == 0:
            _put(hours, index, f"{local:%H}")
    label = _day(start.astimezone(zone))
    if not free or free > len(label):
        _put(days, 0, label)
    return "".join(days).rstrip(), "".join(hours).rstrip()


def _day(local: datetime) -> str:
    return f"{WEEKDAYS[local.weekday()]} {local.day} {MONTHS[local.month - 1]}"


def _put(line: list[str], index: int, text: str) -> None:
    """Write text into the line, if it fits and touches no other."""
    place = slice(index, index + len(text))
    if "".join(line[place]) == " " * len(text) and not line[max(index - 1, 0)].isalnum():
        line[place] = text
