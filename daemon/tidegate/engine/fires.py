"""What a fire becomes: catch-up first, then overlap. Every fire ends as one run or one recorded skip. Pure."""

from datetime import datetime, timedelta
from typing import Final

from tidegate.engine.lifecycle import NOT_STARTED
from tidegate.engine.live import Live
from tidegate.engine.runs import Runs
from tidegate.model.event import Fired, Now
from tidegate.model.job import CatchUp, During, Job, Overlap
from tidegate.model.limits import CATCH_UP_FIRES_MAX, JOB_QUEUE_RUNS_MAX, MISSED_S, QUEUE_RUNS_MAX
from tidegate.model.run import Cause, Outcome, Skip, State

MISSED: Final = timedelta(seconds=MISSED_S)


def scheduled(runs: Runs, job: Job, event: Fired, now: Now) -> None:
    """Instants at which a trigger was due. Those long past were missed (sleep, clock step, downtime)."""
    if event.cause is not Cause.SCHEDULE:
        for instant in event.times:
            offer(runs, job, instant, event.cause, now)
        return
    edge = now.wall - MISSED
    if event.down_until is not None:
        edge = max(edge, event.down_until)
    missed = [instant for instant in event.times if instant < edge]
    current = event.times[len(missed) :]
    chosen: list[datetime] = []
    if missed:
        chosen = _make_up(job, missed, bool(current), now)
        passed_over = missed[: len(missed) - len(chosen)]
        if passed_over:
            count = len(passed_over)
            runs.skip_fire(
                job.name,
                passed_over[-1],
                Cause.SCHEDULE,
                Skip.CATCH_UP,
                _missed_reason(job, passed_over, event, len(chosen), bool(current)),
                now,
                count=count,
            )
    for instant in chosen:
        offer(runs, job, instant, Cause.SCHEDULE, now, catch_up=True)
    for instant in current:
        offer(runs, job, instant, Cause.SCHEDULE, now)


def _make_up(job: Job, missed: list[datetime], has_current: bool, now: Now) -> list[datetime]:
    """The missed instants that are run after all: always the newest ones of the list."""
    oldest = now.wall - timedelta(seconds=job.catch_up_window_s)
    inside = [instant for instant in missed if instant >= oldest]
    match job.catch_up:
        case CatchUp.ALL:
            return inside[-CATCH_UP_FIRES_MAX:]
        case CatchUp.LAST:
            return [] if has_current else inside[-1:]
        case CatchUp.NONE:
            return []


def _missed_reason(job: Job, passed: list[datetime], event: Fired, made_up: int, has_current: bool) -> str:
    many = f"{len(passed)} fires" if len(passed) > 1 else "a fire"
    if event.older_missed:
        many = f"at least {many}"
    span = f"{passed[0]:%Y-%m-%d %H:%M:%S}"
    if len(passed) > 1:
        span += f" to {passed[-1]:%Y-%m-%d %H:%M:%S}"
    if job.catch_up is CatchUp.LAST and (made_up or has_current):
        why = "the latest fire stands for them"
    elif job.catch_up is CatchUp.NONE:
        why = 'catch_up = "none"'
    elif made_up == CATCH_UP_FIRES_MAX:
        why = f"no more than {CATCH_UP_FIRES_MAX} are made up for at once"
    else:
        why = f"older than catch_up_window ({job.catch_up_window_s:.0f} s)"
    when = "while asleep or across a clock step" if event.down_until is None else "while tidegate was down"
    return f"missed {many} ({span} UTC) {when}; {why}"


def offer(
    runs: Runs,
    job: Job,
    scheduled_at: datetime,
    cause: Cause,
    now: Now,
    *,
    catch_up: bool = False,
    request_id: str | None = None,
    args: dict[str, str] | None = None,
) -> Live | None:
    """One fire against pause, calendars, limits and overlap. None: it was skipped, and the record says why."""

    def skip(word: Skip, reason: str) -> None:
        runs.skip_fire(job.name, scheduled_at, cause, word, reason, now, request_id=request_id)

    if job.name in runs.pause.jobs:
        skip(Skip.PAUSED, "the job is paused")
        return None
    # A person who asks for a run now means now: calendars are for what fires by itself.
    forbidden = None if cause is Cause.MANUAL else runs.windows.forbids(job)
    if forbidden is not None and forbidden[0] is During.SKIP:
        skip(Skip.CALENDAR, forbidden[1])
        return None
    if len(runs.lives) >= QUEUE_RUNS_MAX:
        skip(Skip.QUEUE_FULL, f"{QUEUE_RUNS_MAX} runs are waiting or running already")
        return None
    earlier = runs.by_job.get(job.name)
    held_by: Live | None = None
    if earlier:
        if len(earlier) >= JOB_QUEUE_RUNS_MAX:
            skip(Skip.QUEUE_FULL, f"{JOB_QUEUE_RUNS_MAX} runs of this job are waiting or running already")
            return None
        match job.overlap:
            case Overlap.SKIP:
                skip(Skip.OVERLAP, _overlap_reason(earlier[0]))
                return None
            case Overlap.REPLACE:
                held_by = _replace(runs, list(earlier), now)
            case Overlap.QUEUE:
                held_by = earlier[-1]
            case Overlap.ALLOW:
                pass
    return runs.accept(
        job, scheduled_at, cause, now, catch_up=catch_up, request_id=request_id, args=args, held_by=held_by
    )


def _replace(runs: Runs, earlier: list[Live], now: Now) -> Live | None:
    """Make way for a newer fire: what waits is dropped, what runs is stopped. The run still to wait for, if any."""
    blocking: Live | None = None
    # Newest first: a HELD run must be gone before the one it waits for, or it would be promoted.
    for live in reversed(earlier):
        state = live.run.state
        if state in NOT_STARTED and live.run.attempt == 1:
            runs.skip_live(live, Skip.REPLACED, 'a newer fire came (overlap = "replace")', now)
        elif state in NOT_STARTED or state is State.RETRYING:
            runs.withdraw(live, Outcome.CANCELLED, 'a newer fire came (overlap = "replace")', now)
        else:
            if state is not State.STOPPING:
                runs.stop(live, Outcome.CANCELLED, 'a newer fire came (overlap = "replace")', now)
            blocking = live
    return blocking


def _overlap_reason(live: Live) -> str:
    run = live.run
    if run.state in NOT_STARTED:
        return f"run {run.run_id} has waited since {run.queued_at:%Y-%m-%d %H:%M:%S} UTC and has not started"
    since = run.started_at or run.queued_at
    if run.state is State.RETRYING:
        return f"run {run.run_id} waits for its next try (first queued {run.queued_at:%Y-%m-%d %H:%M:%S} UTC)"
    return f"run {run.run_id} is still {run.state} (since {since:%Y-%m-%d %H:%M:%S} UTC)"
