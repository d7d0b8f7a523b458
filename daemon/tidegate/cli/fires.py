"""The coming fires of jobs, within limits. Pure: the moment to start from is an argument."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from tidegate.model.job import Job
from tidegate.triggers.build import build


def fires(job: Job, after: datetime) -> Iterator[datetime]:
    """Instants at which the job fires, strictly after the moment, rising. None for a job that no time fires.

    Whether the job is enabled is not asked: a person who looks at a disabled job wants to know its times too.
    """
    trigger = build(job)
    moment = trigger.after(after) if trigger else None
    while trigger and moment:
        yield moment
        moment = trigger.after(moment)


def next_fires(job: Job, after: datetime, count: int) -> list[datetime]:
    """The first fires after the moment, at most `count`."""
    return list(islice(fires(job, after), count))


def next_fire(job: Job, after: datetime) -> datetime | None:
    """The first fire after the moment; None for a disabled job."""
    return next(fires(job, after), None) if job.enabled else None
