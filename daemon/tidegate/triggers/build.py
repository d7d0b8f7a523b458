"""The trigger of a job: cron, every, at, as APScheduler triggers. Pure: no clock, no zone but the one that is named."""

from datetime import UTC, datetime
from typing import Final, assert_never

from tidegate.model.job import At, Boot, Cron, Every, Job
from tidegate.triggers.cron import parse
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.fire import FireTrigger
from tidegate.triggers.kinds import AtTrigger, CronTrigger, EveryTrigger
from tidegate.triggers.shifts import shifts_of

ANY_YEAR: Final = datetime(2025, 1, 1, tzinfo=UTC)
FEW_HOURS: Final = 3  # no more hours than a gap can swallow


def build(job: Job) -> FireTrigger | None:
    """The trigger of a job; None for @reboot and for a job without one. Raises TriggerError."""
    match job.trigger:
        case Cron(expression):
            fields = parse(expression, job.name)
            trigger = CronTrigger(
                job.name, job.jitter_s, fields, shifts_of(job.timezone, fields.unit_s, fields.wildcard)
            )
            # The dates match, but each of its times may fall into a gap: `* 2 * 3 7L` in Berlin.
            if fields.wildcard and fields.hours.bit_count() <= FEW_HOURS and trigger.after(ANY_YEAR) is None:
                raise TriggerError(f"never fires: the hours it names do not exist on its days in {job.timezone}")
            return trigger
        case Every(period_s):
            return EveryTrigger(job.name, job.jitter_s, period_s)
        case At(instant):
            return AtTrigger(job.name, job.jitter_s, instant)
        case Boot() | None:
            return None
        case _:
            assert_never(job.trigger)
