"""What the engine is told before its first turn: what history remembers, what the keeper holds, what the clock has
passed over. It gathers and hands on; what becomes of each run is decided in the engine.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
from loguru import logger

from tidegate import clock
from tidegate.engine.recovery import Facts, Findings, reconcile
from tidegate.executors.link import Held
from tidegate.history.entry import HistoryError, JobsKnown, Memory, NoHistoryError
from tidegate.history.read import Reader
from tidegate.model.event import Event, Fired, LeaseReleased, LeaseRestored, PausesRestored
from tidegate.model.job import Boot, Job
from tidegate.model.run import Cause, Outcome, State
from tidegate.supervisor.process import is_alive

TIMING_BYTES: Final = 8
ENDED: Final = (State.FINISHED.value, State.SKIPPED.value)


def timing(job: Job) -> str:
    """A text that tells one trigger from another: what a job's instants depend on, its name aside."""
    facts = msgspec.json.encode((job.trigger, job.timezone, job.jitter_s, job.enabled))
    return blake2b(facts, digest_size=TIMING_BYTES).hexdigest()


def jobs_known(memory: Memory, jobs: dict[str, Job], now: datetime, boot_id: str) -> JobsKnown | None:
    """What history does not know yet of this plan; None where it knows all. Jobs that are new here never fired before:
    @reboot jobs among them wait for the next boot if `boot_id` says that this one has been seen."""
    fresh = []
    for job in jobs.values():
        text = timing(job)
        old = memory.jobs.get(job.name)
        if old is None or old.timing != text:
            fresh.append((job.name, text, now, boot_id))
    removed = tuple(name for name in memory.jobs if name not in jobs)
    return JobsKnown(tuple(fresh), removed) if fresh or removed else None


def changed_jobs(old: dict[str, Job], new: dict[str, Job], now: datetime, boot_id: str) -> JobsKnown | None:
    """What a reload changed of the schedules."""
    fresh = [
        (job.name, timing(job), now, boot_id)
        for job in new.values()
        if (before := old.get(job.name)) is not job and (before is None or timing(before) != timing(job))
    ]
    removed = tuple(name for name in old if name not in new)
    return JobsKnown(tuple(fresh), removed) if fresh or removed else None


def accounted_for(memory: Memory, jobs: dict[str, Job]) -> dict[str, datetime]:
    """Up to which instant the fires of each job are on record; those after it were missed. Only for triggers that are
    what they were: a schedule that was changed meanwhile begins now."""
    known = {}
    for job in jobs.values():
        old = memory.jobs.get(job.name)
        if old is not None and old.timing == timing(job):
            known[job.name] = old.last_fire_at or old.since
    return known


def boot_fires(memory: Memory, jobs: dict[str, Job], boot_id: str) -> list[Fired]:
    """@reboot jobs of a boot that no daemon has seen to its end yet. Each is claimed with its run, so that one that was
    claimed before a crash is not fired again."""
    if not is_first_of_boot(memory, boot_id):
        return []
    now = clock.wall()
    fires = []
    for job in jobs.values():
        old = memory.jobs.get(job.name)
        if isinstance(job.trigger, Boot) and job.enabled and not (boot_id and old and old.boot_id == boot_id):
            fires.append(Fired(job.name, (now,), Cause.BOOT))
    return fires


def is_first_of_boot(memory: Memory, boot_id: str) -> bool:
    """Whether no daemon has got as far as firing @reboot jobs in this boot. Without an id each start counts as one:
    better a job too often than never again."""
    return not boot_id or memory.meta.get("boot_id") != boot_id


def taken_up(
    memory: Memory,
    held: Sequence[Held],
    jobs: dict[str, Job],
    history_path: Path,
    *,
    boot_id: str,
    keeper: str,
    left_clean: str,
) -> Findings[Held]:
    """What became of every run that had not ended."""
    reader: Reader | None = None
    try:
        reader = Reader(history_path)
    except NoHistoryError:
        pass  # nothing was written so far
    except sqlite3.Error as error:
        raise HistoryError(f"{history_path} cannot be read: {error}") from error

    def ended(run_id: str) -> bool:
        run = None if reader is None else reader.run(run_id)
        return run is not None and run.state in ENDED

    facts = Facts(
        boot_id=boot_id,
        keeper=keeper,
        left_clean=left_clean,
        now=clock.wall(),
        mono_s=clock.monotonic_s(),
        alive=is_alive,
        ended=ended,
    )
    try:
        findings = reconcile(memory.runs, held, jobs, facts)
    except sqlite3.Error as error:
        raise HistoryError(f"{history_path} cannot be read: {error}") from error
    finally:
        if reader is not None:
            reader.close()
    for one in findings.strays:
        logger.bind(event="keeper.stray", run_id=one.run_id).warning(
            "the keeper holds run {} of which no account is left; it is let run to its end", one.run_id
        )
    return findings


def pauses(memory: Memory, jobs: dict[str, Job]) -> PausesRestored:
    """Who was paused stays paused."""
    return PausesRestored(frozenset(name for name, job in memory.jobs.items() if job.paused_by and name in jobs))


def leases(memory: Memory) -> list[Event]:
    """Leases outlive a restart as long as their holders live."""
    events: list[Event] = []
    for lease in memory.leases:
        events.append(LeaseRestored(lease))
        if lease.pid is None or lease.pid_start is None or not is_alive(lease.pid, lease.pid_start):
            events.append(LeaseReleased(lease.lease_id, "its holder ended while tidegate was down"))
    return events


def last_seen(memory: Memory) -> list[tuple[str, datetime, datetime | None, datetime | None]]:
    """Job, known since, last run, last success: for the metrics."""
    return [(name, job.since, job.last_run_at, job.last_success_at) for name, job in memory.jobs.items()]


def for_hooks(memory: Memory) -> tuple[dict[str, datetime], dict[str, str], dict[str, datetime], frozenset[str]]:
    """By job: last success, last outcome, known since; and who is paused."""
    jobs = memory.jobs.items()
    return (
        {name: job.last_success_at for name, job in jobs if job.last_success_at is not None},
        {name: job.last_outcome for name, job in jobs if job.last_outcome is not None},
        {name: job.since for name, job in jobs},
        frozenset(name for name, job in jobs if job.paused_by),
    )


def failed_last(memory: Memory) -> frozenset[str]:
    """Jobs whose last run neither succeeded nor was cancelled: for the metrics."""
    fine = (None, Outcome.SUCCEEDED, Outcome.CANCELLED)
    return frozenset(name for name, job in memory.jobs.items() if job.last_outcome not in fine)
