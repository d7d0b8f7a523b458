"""Entries to what one transaction writes: the last word about each run, job and lease, in the order in which each came
first. Pure; what it makes is encoded once, so that SQLite unpacks it without the interpreter lock."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, assert_never

import msgspec

from tidegate.history.entry import Entry, JobsKnown, Learned, Meta, Note, Unended
from tidegate.history.rows import attempt_row, lease_row, micros, run_row
from tidegate.model.command import Fact, Record
from tidegate.model.limits import REASON_CHARS_MAX
from tidegate.model.plan import changes_text
from tidegate.model.run import Cause, Outcome, Run, State

# These stand in `runs` and `leases` already. A queued run is one only where a reason says what it waits for.
NO_DECISION: Final = frozenset(
    {
        Fact.RUN_ARMED,
        Fact.RUN_UNARMED,
        Fact.RUN_STARTING,
        Fact.RUN_STARTED,
        Fact.RUN_FINISHED,
        Fact.RUN_SKIPPED,
        Fact.LEASE_WAITING,
        Fact.LEASE_GRANTED,
        Fact.LEASE_ENDED,
    }
)
LEASES: Final = frozenset({Fact.LEASE_WAITING, Fact.LEASE_GRANTED, Fact.LEASE_ENDED})
MAY_START: Final = frozenset({Fact.RUN_ARMED, Fact.RUN_STARTING})  # from here on its keeper may have it
WAITS: Final = frozenset({State.HELD, State.QUEUED})
ENDED: Final = frozenset({State.FINISHED, State.SKIPPED})
# Asked for at every record, and Python 3.11 takes ten times as long to find a member in its class.
STARTING: Final = Fact.RUN_STARTING
TRIED: Final = Fact.RUN_RETRYING
FINISHED: Final = Fact.RUN_FINISHED
NAMES_MAX: Final = 20  # jobs that a reload's decision names for each kind of change
encode = msgspec.json.Encoder().encode


class JobFacts(msgspec.Struct):
    """What the runs of a batch say about their job; None where they say nothing. Instants in microseconds."""

    fire_at: int | None = None
    fire_era: int = 0
    boot_id: str | None = None
    last_run_id: str | None = None
    last_run_at: int | None = None
    last_success_at: int | None = None
    last_outcome: str | None = None


class Told(msgspec.Struct, frozen=True):
    """The last word about a run. It becomes a row when all is heard: a batch often tells of one run three times."""

    run: Run
    era: int
    fires: int
    boot_id: str
    keeper: str

    def row(self) -> tuple[Any, ...]:
        """In the order of RUN_COLUMNS."""
        return run_row(self.run, era=self.era, fires=self.fires, boot_id=self.boot_id, keeper=self.keeper)


class Batch(msgspec.Struct):
    """What one transaction writes, by table."""

    era: int
    runs: dict[str, Told] = {}  # by run id
    ended: set[str] = set()  # what of `runs` is over
    lives: dict[str, Unended] = {}  # … and what is not
    attempts: list[tuple[Any, ...]] = []
    decisions: list[tuple[Any, ...]] = []
    leases: dict[str, tuple[Any, ...]] = {}
    facts: dict[str, JobFacts] = {}
    jobs: list[JobsKnown] = []
    pauses: dict[str, tuple[str, str | None, int | None]] = {}
    meta: dict[str, str] = {}
    learned: dict[str, str] = {}
    output_bytes: int = 0  # that attempts which ended here wrote


def fold(work: Iterable[tuple[Sequence[Entry], str]], *, era: int, boot_id: str, known: Mapping[str, Unended]) -> Batch:
    """One batch of all entries, each list with the keeper that was asked while it was written.

    `known` are the unended runs that have their row: the first record of any other is its claim.
    """
    batch = Batch(era)
    for entries, keeper in work:
        for entry in entries:
            match entry:
                case Record():
                    _record(batch, entry, keeper, boot_id, known)
                case JobsKnown():
                    batch.jobs.append(entry)
                case Meta():
                    batch.meta[entry.key] = entry.value
                case Note():
                    batch.decisions.append(decision(entry.at, entry.fact, entry.job, "", entry.reason))
                case Learned():
                    batch.learned |= entry.values
                case _:
                    assert_never(entry)
    return batch


def _record(batch: Batch, record: Record, keeper: str, boot_id: str, known: Mapping[str, Unended]) -> None:
    fact = record.fact
    if record.run is not None:
        _run(batch, record, record.run, keeper, boot_id, known)
    elif fact is Fact.CLOCK_STEPPED and record.lateness_s is not None and record.lateness_s < 0:
        batch.era += 1
    elif fact is Fact.JOB_PAUSED:
        batch.pauses[record.job] = (record.job, record.reason.removeprefix("by "), micros(record.at))
    elif fact is Fact.JOB_RESUMED:
        batch.pauses[record.job] = (record.job, None, None)
    if fact in LEASES and record.lease is not None:
        batch.leases[record.lease.lease_id] = lease_row(record.lease, record.reason)
    if fact not in NO_DECISION and (fact is not Fact.RUN_QUEUED or record.reason):
        reason = changes_text(record.diff, NAMES_MAX) if record.diff is not None else record.reason
        run_id = record.run.run_id if record.run else ""
        batch.decisions.append(decision(record.at, fact, record.job, run_id, reason))


def decision(at: datetime, fact: str, job: str, run_id: str, reason: str) -> tuple[Any, ...]:
    """A row of `decisions`."""
    return (micros(at), fact, job, run_id, reason[:REASON_CHARS_MAX])


def _run(batch: Batch, record: Record, run: Run, keeper: str, boot_id: str, known: Mapping[str, Unended]) -> None:
    run_id, fact = run.run_id, record.fact
    written = batch.runs.get(run_id)
    before = batch.lives.get(run_id) or known.get(run_id)
    if fact not in MAY_START:
        # Who waits was asked of nobody, whatever became of an attempt before.
        keeper = before.keeper if before is not None and run.state not in WAITS else ""
        boot_id = before.boot_id if before is not None else boot_id
    # What a fire is (its era, too) is only written by its claim.
    era = batch.era if written is None else written.era
    batch.runs[run_id] = Told(run, era, record.count, boot_id, keeper)
    if run.state in ENDED:
        batch.lives.pop(run_id, None)
        batch.ended.add(run_id)
    else:
        batch.lives[run_id] = Unended(run, boot_id, keeper)
    if written is None and before is None:
        _claimed(batch, run, boot_id)
    if fact is STARTING:
        _facts(batch, run).last_run_id = run_id
    elif fact is TRIED:
        batch.attempts.append(attempt_row(run))
        batch.output_bytes += run.usage.output_bytes - run.usage.output_dropped_bytes
    elif fact is FINISHED:
        _finished(batch, run, record.at)
        if before is None or before.run.state is not State.RETRYING:  # that attempt has been counted
            batch.output_bytes += run.usage.output_bytes - run.usage.output_dropped_bytes


def _finished(batch: Batch, run: Run, at: datetime) -> None:
    facts = _facts(batch, run)
    facts.last_run_id = run.run_id
    facts.last_run_at = micros(run.ended_at or at)
    facts.last_outcome = run.outcome
    if run.outcome is Outcome.SUCCEEDED:
        facts.last_success_at = facts.last_run_at


def _claimed(batch: Batch, run: Run, boot_id: str) -> None:
    if run.cause is Cause.SCHEDULE:
        facts = _facts(batch, run)
        at = micros(run.scheduled_at)
        # After the clock was set back earlier instants are the newest.
        if facts.fire_at is None or facts.fire_era != batch.era or at > facts.fire_at:
            facts.fire_at, facts.fire_era = at, batch.era
    elif run.cause is Cause.BOOT:
        _facts(batch, run).boot_id = boot_id


def _facts(batch: Batch, run: Run) -> JobFacts:
    facts = batch.facts.get(run.job)
    if facts is None:
        facts = batch.facts[run.job] = JobFacts()
    return facts
