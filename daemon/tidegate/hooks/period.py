"""How long a schedule is silent at most: the period that an absence is measured in. Pure."""

from datetime import datetime, timedelta
from typing import Final

from tidegate.model.job import Cron, Every, Job
from tidegate.triggers.build import build

FIRES_MAX: Final = 50  # gaps looked at one by one; rarer than weekly, this is a year and more
SPANS: Final = (timedelta(days=8), timedelta(days=366))  # a week with its nights and weekend; a year
SAMPLES_MAX: Final = 300  # of each span: 38 minutes apart, 29 hours apart; 10 ms in all
BACK: Final = timedelta(days=3660)  # a fire before the sample: no schedule that fires at all is silent for longer


def period_of(job: Job, now: datetime) -> timedelta | None:
    """The largest gap between fires to come; None where there are no two of them.

    A gap longer than the distance of two samples holds a sample, so the gap around each sample is looked at.
    """
    jitter = timedelta(seconds=job.jitter_s)
    if isinstance(job.trigger, Every):
        return timedelta(seconds=job.trigger.period_s) + jitter
    trigger = build(job)
    if trigger is None or not isinstance(job.trigger, Cron):
        return None
    largest = timedelta(0)
    fire = trigger.after(now)
    for _ in range(FIRES_MAX):
        following = trigger.after(fire) if fire is not None else None
        if fire is None or following is None:
            break
        largest, fire = max(largest, following - fire), following
    if not largest:
        return None
    for span in SPANS:
        at, until = now, now + span
        while at < until:
            at += max(largest, span / SAMPLES_MAX)
            before, _ = trigger.missed(at - BACK, at, 1)
            after = trigger.after(at)
            if before and after is not None:
                largest = max(largest, after - before[0])
    return largest + jitter
