"""What an earlier life of the daemon left: runs that go on under the keeper, runs that wait, runs of which nobody
knows the end. Pure; which of these a run is, the shell has found out (supervisor/recover.py).
"""

from datetime import timedelta

from msgspec.structs import replace

from tidegate.engine.lifecycle import NOT_STARTED, move
from tidegate.engine.live import Live
from tidegate.engine.retry import delay_s
from tidegate.engine.runs import SIGTERM, Runs
from tidegate.model.command import Fact, SignalTree, Thaw
from tidegate.model.event import Interrupted, Now, Recovered
from tidegate.model.job import Job
from tidegate.model.run import Cause, Outcome, Run, Skip, State


def running(runs: Runs, event: Recovered, now: Now) -> Live | None:
    """Take up a run that its keeper still holds. Its time-out goes on counting from its start.

    None for one that is known already, or was and has its end on record: an end is never taken back.
    """
    run, job = event.run, event.job
    if not runs.is_foreign(run.run_id):
        return None
    started_at = run.started_at or run.queued_at
    age_s = max(0.0, (now.wall - started_at).total_seconds())
    was_stopping = run.state is State.STOPPING and run.stop is not None
    live = Live(
        replace(
            run,
            state=State.STOPPING if was_stopping else State.RUNNING,
            pid=event.pid,
            pid_start=event.pid_start,
            started_at=started_at,
        ),
        job,
        now.mono_s - age_s,
    )
    live.started_mono_s = now.mono_s - age_s + event.frozen_s  # its time-out stood still as long
    runs.enter(live)
    runs.take(live, now)
    runs.record(Fact.RUN_RECOVERED, live, now, "it outlived the daemon that started it")
    if event.frozen:  # the looks that froze it are forgotten
        runs.out.append(Thaw(run.run_id, run.attempt))
    if was_stopping:
        live.stop_outcome, live.stop_reason = run.stop, run.reason
        live.evicted = run.stop is Outcome.KILLED_FOR_MEMORY
        runs.out.append(SignalTree(run.run_id, run.attempt, SIGTERM))  # the first one may not have been sent
        runs.deadlines.add(now.mono_s + job.kill_grace_s, "kill", live)
    else:
        runs.deadlines.add(live.started_mono_s + job.timeout_s, "timeout", live)
    return live


def waiting(runs: Runs, run: Run, job: Job | None, now: Now) -> None:
    """Take up a run that waited: it keeps its place, its age and its deadlines. Old fires are not run for ever."""
    if not runs.is_foreign(run.run_id):
        return
    live = Live(run, job or Job(name=run.job), now.mono_s)
    first = run.attempt == 1
    if first:
        live.queued_mono_s = now.mono_s - max(0.0, (now.wall - run.queued_at).total_seconds())
    if run.state is State.STARTING:
        live.run = move(run, State.QUEUED, reason="an earlier start never came to be")
    elif run.state is State.HELD and run.job not in runs.by_job:
        live.run = move(run, State.QUEUED, reason="the run before it has ended")
    runs.enter(live)
    if job is None or not job.enabled:
        gone = "removed" if job is None else "disabled"
        outcome = run.outcome if run.state is State.RETRYING and run.outcome else Outcome.CANCELLED
        runs.withdraw(live, outcome, f"its job was {gone} while tidegate was down", now)
        return
    if live.run.state in NOT_STARTED and first and _is_stale(run, job, now):
        reason = (
            f"it was claimed, and tidegate ended before it could start; now it is older than catch_up_window "
            f"({job.catch_up_window_s:.0f} s)"
        )
        runs.skip_live(live, Skip.CATCH_UP, reason, now)
        return
    if live.run.state is State.RETRYING:
        due_at = (run.ended_at or now.wall) + timedelta(seconds=delay_s(run.run_id, run.attempt, job.retries))
        wait_s = min(max(0.0, (due_at - now.wall).total_seconds()), job.retries.max_delay_s * 2)
        runs.deadlines.add(now.mono_s + wait_s, "retry", live)
    elif first and job.start_deadline_s is not None:
        runs.deadlines.add(live.queued_mono_s + job.start_deadline_s, "start", live)
    if live.run.state is State.QUEUED:
        runs.waiting.push(live)
    runs.record(Fact.RUN_RESTORED, live, now, "it waited when tidegate ended")


def interrupted(runs: Runs, event: Interrupted, now: Now) -> None:
    """End an attempt whose fate cannot be known; with on_interrupted = "rerun" another one follows."""
    run = event.run
    if not runs.is_foreign(run.run_id):
        return
    job = event.job or Job(name=run.job)
    live = Live(replace(run, state=State.RUNNING), job, now.mono_s)
    runs.enter(live)
    runs.take(live, now)
    runs.unknown(live, event.outcome, event.reason, now, gone=event.gone and event.job is not None)


def _is_stale(run: Run, job: Job, now: Now) -> bool:
    if run.cause is not Cause.SCHEDULE:
        return False
    return run.scheduled_at < now.wall - timedelta(seconds=job.catch_up_window_s)
