"""Which schedules could be spread with `H`, so that fewer jobs come due in one minute. Pure; it changes no file.

Only the minute is moved, and only within its hour (or its step): a job at 02:00 stays a job of two o'clock.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import islice, pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.job import Cron, Job
from tidegate.triggers.build import build
from tidegate.triggers.cron import NICKNAMES, parse
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.fire import FireTrigger

FIRES_LOOKED: Final = 200  # of each job: a week of hourly fires tells whom it meets
MINUTES: Final = 60


class Change(Struct, frozen=True):
    """One line to change."""

    job: str
    source: str  # path:line of the job
    before: str
    after: str
    minutes: tuple[int, ...]  # that this job then gets


def spread(expression: str) -> str | None:
    """The same schedule with its minute left to the job's name; None where there is no fixed minute to move."""
    texts = NICKNAMES.get(expression.lower(), expression).split()
    if len(texts) != 5:
        return None  # with seconds a person means the very second; @reboot has no time
    minute = texts[0]
    if minute.isascii() and minute.isdigit():
        spread_minute = "H"
    elif minute.startswith("*/") and minute[2:].isascii() and minute[2:].isdigit():
        step = int(minute[2:])
        if not 2 <= step < MINUTES:
            return None
        spread_minute = f"H/{step}"
    elif (even_step := _even_step(minute)) is not None:
        spread_minute = f"H/{even_step}"
    else:
        return None
    return " ".join([spread_minute, *texts[1:]])


def _even_step(minute: str) -> int | None:
    """30 for 0,30 and 20 for 5,25,45; None for a list with other gaps."""
    terms = minute.split(",")
    if len(terms) < 2 or not all(term.isascii() and term.isdigit() for term in terms):
        return None
    values = sorted(map(int, terms))
    step, rest = divmod(MINUTES, len(values))
    if rest or step < 2 or any(later - earlier != step for earlier, later in pairwise(values)):
        return None
    return step


def changes(jobs: Iterable[Job], start: datetime) -> list[Change]:
    """The jobs with a fixed minute that meet another such job within their first fires, in the order of the files."""
    candidates: list[tuple[Job, str, list[int]]] = []
    met: Counter[int] = Counter()
    for job in jobs:
        if not job.enabled or not isinstance(job.trigger, Cron) or job.jitter_s:
            continue
        after = spread(job.trigger.expression)
        trigger = build(job)
        if after is None or trigger is None:
            continue
        minutes = list(islice(_fire_minutes(trigger, start), FIRES_LOOKED))
        candidates.append((job, after, minutes))
        met.update(minutes)
    found = []
    for job, after, minutes in candidates:
        if any(met[minute] > 1 for minute in minutes) and _can_be(job, after):
            assert isinstance(job.trigger, Cron)
            mask = parse(after, job.name).minutes
            got = tuple(minute for minute in range(MINUTES) if mask >> minute & 1)
            found.append(Change(job.name, job.source, job.trigger.expression, after, got))
    return found


def _fire_minutes(trigger: FireTrigger, start: datetime) -> Iterable[int]:
    at = trigger.after(start)
    while at is not None:
        yield int(at.timestamp() // 60)
        at = trigger.after(at)


def _can_be(job: Job, expression: str) -> bool:
    try:
        return build(replace(job, trigger=Cron(expression))) is not None
    except TriggerError:
        return False


def staggered(jobs: dict[str, Job], wanted: Iterable[Change]) -> dict[str, Job]:
    """The jobs with these lines changed."""
    after = {change.job: change.after for change in wanted}
    return {name: replace(job, trigger=Cron(after[name])) if name in after else job for name, job in jobs.items()}
