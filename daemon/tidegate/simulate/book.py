"""A history without a disk: what a restarted daemon would find on record. It is fed the records of committed turns.

It keeps what history/ keeps for a start (unended runs, claims, pauses, leases, the last fire of each job), by the same
rules. What a crash took before it was committed is not in it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from tidegate.model.command import Fact, Record
from tidegate.model.job import Job
from tidegate.model.lease import Lease
from tidegate.model.run import Cause, Run, State

ENDED = (State.FINISHED, State.SKIPPED)
WAITS = (State.HELD, State.QUEUED)
MAY_START = (Fact.RUN_ARMED, Fact.RUN_STARTING)  # from here on its keeper may have it
CLAIMED_BY_INSTANT = (Cause.SCHEDULE, Cause.BOOT)


class Row(Struct):
    """A run without an end on record."""

    run: Run
    boot_id: str
    keeper: str  # who was asked to start its latest attempt; "": nobody was


class Known(Struct):
    """What is on record of a job."""

    timing: tuple[object, ...]
    since: datetime
    boot_id: str = ""
    last_fire_at: datetime | None = None
    era: int = 0


def timing(job: Job) -> tuple[object, ...]:
    """What the instants of a job depend on, its name aside."""
    return (job.trigger, job.timezone, job.jitter_s, job.enabled)


class Book:
    """The account. `write` is one transaction."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.ended: set[str] = set()
        self.jobs: dict[str, Known] = {}
        self.paused: set[str] = set()
        self.leases: dict[str, Lease] = {}  # granted, not ended
        self.era = 0
        self.boot_id = ""  # the boot whose @reboot jobs are claimed
        self.newest: datetime | None = None  # instant on record
        self._claims: dict[tuple[object, ...], str] = {}
        self.orphans: set[str] = set()  # runs whose claim was refused

    def know(self, jobs: dict[str, Job], at: datetime, boot_id: str) -> None:
        """A plan is live. Schedules that are new or changed begin now."""
        for name in self.jobs.keys() - jobs.keys():
            del self.jobs[name]
            self.paused.discard(name)
        for name, job in jobs.items():
            old, new = self.jobs.get(name), timing(job)
            if old is None:
                self.jobs[name] = Known(new, at, boot_id)
            elif old.timing != new:
                old.timing, old.since, old.boot_id, old.last_fire_at = new, at, boot_id, None

    def open(self, now: datetime) -> None:
        """A daemon begins. A clock that was set back meanwhile begins an era."""
        if self.newest is not None and (self.newest - now).total_seconds() > 5:
            self.era += 1

    def accounted_for(self, jobs: dict[str, Job]) -> dict[str, datetime]:
        """Up to which instant the fires of each job are on record."""
        known = {}
        for name, job in jobs.items():
            old = self.jobs.get(name)
            if old is not None and old.timing == timing(job):
                known[name] = old.last_fire_at or old.since
        return known

    def write(self, records: Iterable[Record], boot_id: str, keeper: str) -> Sequence[tuple[str, str]]:
        """One turn. Claims that were refused: the run, and the run that has this fire already."""
        refused: list[tuple[str, str]] = []
        for record in records:
            run = record.run
            self.newest = record.at
            if run is None:
                self._outside(record)
                continue
            run_id = run.run_id
            if run_id in self.orphans:
                continue
            row = self.rows.get(run_id)
            if row is None and (by := self._claim(run, boot_id)) is not None:
                self.orphans.add(run_id)
                if run.state not in ENDED:
                    refused.append((run_id, by))
                continue
            if run.state in ENDED:
                if row is not None:
                    del self.rows[run_id]
                self.ended.add(run_id)
            elif row is None:
                self.rows[run_id] = Row(run, boot_id, keeper if record.fact in MAY_START else "")
            else:
                row.run = run
                if record.fact in MAY_START:
                    row.boot_id, row.keeper = boot_id, keeper
                elif run.state in WAITS:
                    row.keeper = ""
        return refused

    def _claim(self, run: Run, boot_id: str) -> str | None:
        """Take the fire for this run. Who has it, if somebody has."""
        by_instant = run.cause in CLAIMED_BY_INSTANT
        if not by_instant and run.request_id is None:
            return None
        key = (run.job, run.cause, self.era, run.scheduled_at) if by_instant else (run.job, run.request_id)
        by = self._claims.setdefault(key, run.run_id)
        if by != run.run_id:
            return by
        job = self.jobs.get(run.job)
        if job is None or not by_instant:
            return None
        if run.cause is Cause.BOOT:
            job.boot_id = boot_id
        elif job.last_fire_at is None or job.era != self.era or run.scheduled_at > job.last_fire_at:
            job.last_fire_at, job.era = run.scheduled_at, self.era
        return None

    def _outside(self, record: Record) -> None:
        match record.fact:
            case Fact.JOB_PAUSED:
                self.paused.add(record.job)
            case Fact.JOB_RESUMED:
                self.paused.discard(record.job)
            case Fact.LEASE_GRANTED:
                assert record.lease is not None
                self.leases[record.lease.lease_id] = record.lease
            case Fact.LEASE_ENDED:
                assert record.lease is not None
                self.leases.pop(record.lease.lease_id, None)
            case Fact.CLOCK_STEPPED:
                self.era += bool(record.lateness_s and record.lateness_s < 0)
            case _:
                pass
