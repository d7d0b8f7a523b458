"""What is due of one trigger, and what a clock that was set back changes. Pure; the daemon's alarm and the
simulator's both call it, so that what the simulator proves is what the daemon does.
"""

from datetime import datetime, timedelta
from typing import Final

from tidegate.model.job import CatchUp
from tidegate.model.limits import CATCH_UP_FIRES_MAX, CLOCK_CORRECTION_S, CLOCK_STEP_S, MISSED_S
from tidegate.triggers.fire import FireTrigger

TICK: Final = timedelta(microseconds=1)


def due(trigger: FireTrigger, first: datetime, now: datetime, catch_up: CatchUp) -> tuple[list[datetime], bool]:
    """Instants in [first, now], rising, all aware UTC, and whether missed ones are left out.

    Of those long missed only what `catch_up` can want is listed, and the newest that it cannot, as the one that the
    account of all others is about: under "none" and "last" two, under "all" at most CATCH_UP_FIRES_MAX and one. A
    1-second trigger after a night's sleep costs no more than a daily one.
    """
    if first > now:
        return [], False
    following = trigger.after(first)
    if following is None or following > now:
        return [first], False
    edge = now - timedelta(seconds=MISSED_S)
    missed: list[datetime] = []
    older_missed = False
    if first < edge:
        limit = 1 + (CATCH_UP_FIRES_MAX if catch_up is CatchUp.ALL else 1)
        missed, older_missed = trigger.missed(first - TICK, edge - TICK, limit)
    current, _ = trigger.missed(max(first, edge) - TICK, now, CATCH_UP_FIRES_MAX)
    return missed + current, older_missed


def begin(trigger: FireTrigger, now: datetime, known: datetime | None) -> tuple[datetime | None, bool]:
    """The first instant of a trigger that a daemon takes up, and whether it came while no daemon was there.

    `known` is the instant up to which an earlier life has accounted for its fires; None: the trigger begins now, and
    a one-shot whose instant has passed was never ours to run.
    """
    if known is None:
        first = trigger.first(now)
        return (None if first is None or first <= now else first), False
    first = trigger.after(known)
    # A fire is claimed a little ahead of its instant; more than that, and the clock was set back meanwhile.
    if first is not None and known > now + timedelta(seconds=CLOCK_STEP_S):
        first = after_set_back(trigger, first, now, (known - now).total_seconds())
    return first, first is not None and first <= now


def after_set_back(trigger: FireTrigger, next_at: datetime, now: datetime, step_s: float) -> datetime:
    """The next instant of a trigger when the clock was set back by step_s > 0 seconds to `now`.

    cron(8): wildcard jobs and intervals follow the clock at once; fixed-time jobs have run and are not repeated.
    A step of three hours and more is a correction: everybody follows it.
    """
    if not trigger.wildcard and step_s < CLOCK_CORRECTION_S:
        return next_at
    following = trigger.after(now)
    return next_at if following is None else min(next_at, following)
