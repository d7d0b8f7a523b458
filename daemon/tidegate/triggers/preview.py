"""What a change of a zone's offset does to a job, as a sentence for `tidegate next`. Pure."""

from datetime import date, timedelta
from typing import Final

from tidegate.model.job import Cron, Job
from tidegate.model.limits import CLOCK_CORRECTION_S
from tidegate.triggers.cron import parse
from tidegate.triggers.fire import EPOCH
from tidegate.triggers.masks import DAY_S, CronFields, next_local
from tidegate.triggers.shifts import LATE_S
from tidegate.triggers.zones import Change

TIMES_MAX: Final = 10_000  # counted at most, so that a once-a-second job on a skipped day costs milliseconds


def effect(job: Job, change: Change) -> str | None:
    """What the change, one of the job's own zone, does to its fires; None where it moves none of them."""
    if not isinstance(job.trigger, Cron):
        return None
    fields = parse(job.trigger.expression, job.name)
    instant_s = (change.instant - EPOCH) // timedelta(seconds=1)
    old_s, new_s = instant_s + change.before_s, instant_s + change.after_s
    if fields.wildcard and _keeps_step(fields, old_s, new_s):
        return None
    times = _matches(fields, min(old_s, new_s), max(old_s, new_s))
    if not times:
        return None
    skipped_s = new_s - old_s
    many = len(times) > 1
    shown = _shown(times, fields)
    if skipped_s < 0:
        again = fields.wildcard or -skipped_s > CLOCK_CORRECTION_S
        return f"{shown} {'come' if many else 'comes'} twice: runs {'both times' if again else 'the first time only'}"
    missing = f"{shown} {'do' if many else 'does'} not exist: "
    if skipped_s <= LATE_S or (not fields.wildcard and skipped_s < CLOCK_CORRECTION_S):
        return f"{missing}runs {'once, ' if many else ''}at {_clock(new_s, fields)}"
    return missing + (f"{len(times)} runs fall away" if many else "does not run")


def _keeps_step(fields: CronFields, old_s: int, new_s: int) -> bool:
    """Whether the job goes on at the same distance in real time: `*/15 * * * *` does, `0 2 * * *` does not."""
    minutes = ((new_s - old_s) // 60) % 60
    if (new_s - old_s) % 60 or fields.hours.bit_count() < 24:
        return False
    turned = (fields.minutes << minutes | fields.minutes >> 60 - minutes) & ((1 << 60) - 1)
    days = range(min(old_s, new_s) // DAY_S, max(old_s, new_s) // DAY_S + 1)
    return turned == fields.minutes and all(fields.days.next(day) == day for day in days)


def _matches(fields: CronFields, from_s: int, to_s: int) -> list[int]:
    """The nominal local times in [from_s, to_s)."""
    times: list[int] = []
    found = next_local(fields, from_s)
    while found is not None and found < to_s and len(times) < TIMES_MAX:
        times.append(found)
        found = next_local(fields, found + 1)
    return times


def _shown(times: list[int], fields: CronFields) -> str:
    dated = times[0] // DAY_S != times[-1] // DAY_S or times[-1] - times[0] > DAY_S // 2
    first, last = (_clock(time, fields, dated) for time in (times[0], times[-1]))
    if len(times) == 1:
        return first
    return f"{first} and {last}" if len(times) == 2 else f"{first} to {last}"


def _clock(local_s: int, fields: CronFields, dated: bool = False) -> str:
    day, second = divmod(local_s, DAY_S)
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    if fields.unit_s == 1 or second % 60:
        text += f":{second % 60:02}"
    return f"{date(1970, 1, 1) + timedelta(days=day)} {text}" if dated else text
