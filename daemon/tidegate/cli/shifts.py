"""Which jobs a change of the clocks moves. Pure: the moment to look from is an argument."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from tidegate.model.job import Job
from tidegate.triggers.preview import effect
from tidegate.triggers.zones import Change, next_changes

CHANGES_SHOWN: Final = 2  # of each zone: there and back


class Shift(Struct, frozen=True):
    """One change of a zone's offset that moves at least one fire."""

    timezone: str
    change: Change
    effects: tuple[tuple[str, str], ...]  # job, what becomes of it


def shifts(jobs: list[Job], after: datetime) -> list[Shift]:
    """Of the next two changes of each zone that the jobs use, those that move a fire; in order of time."""
    by_zone: dict[str, list[Job]] = {}
    for job in jobs:
        by_zone.setdefault(job.timezone, []).append(job)
    found = []
    for name, zone_jobs in by_zone.items():
        for change in next_changes(name, after, CHANGES_SHOWN):
            effects = tuple((job.name, words) for job in zone_jobs if (words := effect(job, change)))
            if effects:
                found.append(Shift(name, change, effects))
    return sorted(found, key=lambda shift: (shift.change.instant, shift.timezone))
