"""Turns one fact into one log line: level, sentence and fields. Pure; how a line looks is for formats.py to say."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from tidegate.model.command import Fact, Record
from tidegate.model.plan import Diff, changes_text
from tidegate.model.run import Outcome, Run, Skip
from tidegate.model.text import duration

TRACE: Final = 5  # loguru's numbers
DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
CRITICAL: Final = 50
LEVEL_NUMBERS: Final = {"trace": TRACE, "debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

NAMES_MAX: Final = 10  # job names listed after a reload, of each kind

# The highest level a fact can have: what is quieter than the configured level is dropped before any formatting.
LOUDEST: Final[dict[Fact, int]] = {
    Fact.RUN_HELD: DEBUG,
    Fact.RUN_QUEUED: DEBUG,
    Fact.RUN_ARMED: TRACE,
    Fact.RUN_UNARMED: TRACE,
    Fact.RUN_STARTING: DEBUG,
    Fact.RUN_STARTED: INFO,
    Fact.RUN_RECOVERED: INFO,
    Fact.RUN_RESTORED: INFO,
    Fact.RUN_STOPPING: WARNING,
    Fact.RUN_RETRYING: WARNING,
    Fact.RUN_FINISHED: ERROR,
    Fact.RUN_SKIPPED: WARNING,
    Fact.JOB_PAUSED: INFO,
    Fact.JOB_RESUMED: INFO,
    Fact.CONFIG_RELOADED: INFO,
    Fact.POOL_RESIZED: INFO,
    Fact.POOL_BLIND: WARNING,
    Fact.MEMORY_TIER: WARNING,
    Fact.RUN_FROZEN: WARNING,
    Fact.RUN_THAWED: INFO,
    Fact.RUN_EVICTED: WARNING,
    Fact.DAEMON_DRAINING: INFO,
    Fact.DAEMON_DRAINED: INFO,
    Fact.REQUEST_REFUSED: WARNING,
    Fact.LEASE_WAITING: DEBUG,
    Fact.LEASE_GRANTED: INFO,
    Fact.LEASE_ENDED: INFO,
    Fact.CALENDAR_OPENED: INFO,
    Fact.CALENDAR_CLOSED: INFO,
    Fact.STARTS_HELD: ERROR,
    Fact.STARTS_RESUMED: INFO,
    Fact.DAEMON_STARTED: DEBUG,
    Fact.DAEMON_LEFT: INFO,
    Fact.CLOCK_STEPPED: WARNING,
}

_PREFIXES: Final[dict[Fact, str]] = {  # facts whose reason says all
    Fact.RUN_ARMED: "may start as soon as a slot is free",
    Fact.RUN_UNARMED: "waits for a slot, and for another record",
    Fact.POOL_RESIZED: "pool resized ",
    Fact.POOL_BLIND: "",
    Fact.MEMORY_TIER: "",
    Fact.DAEMON_DRAINING: "draining: ",
    Fact.REQUEST_REFUSED: "refused: ",
    Fact.LEASE_WAITING: "lease waits: ",
    Fact.LEASE_GRANTED: "lease granted: ",
    Fact.LEASE_ENDED: "lease ended: ",
    Fact.CALENDAR_OPENED: "",
    Fact.CALENDAR_CLOSED: "",
    Fact.STARTS_HELD: "nothing is started: ",
    Fact.STARTS_RESUMED: "starts go on; this holds ",
    Fact.DAEMON_STARTED: "",
    Fact.DAEMON_LEFT: "",
    Fact.CLOCK_STEPPED: "",
}

_BRAKES: Final = {
    Fact.RUN_FROZEN: "frozen",
    Fact.RUN_THAWED: "goes on",
    Fact.RUN_EVICTED: "killed for memory, to be queued anew",
}
_ASKED_FOR: Final = frozenset({Skip.PAUSED, Skip.CALENDAR})  # a person arranged it: no reason to warn
_VERBS: Final[dict[Outcome, str]] = {
    Outcome.SUCCEEDED: "succeeded",
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.CANCELLED: "cancelled",
    Outcome.FAILED_TO_START: "could not start",
    Outcome.KILLED_FOR_MEMORY: "killed for memory",
    Outcome.INTERRUPTED: "interrupted",
    Outcome.UNKNOWN: "fate unknown",
}


class Line(Struct, frozen=True, kw_only=True):
    """One log line before it has a form. `text` leaves the job's name out: some forms have a column for it."""

    at: datetime  # aware
    level: int
    event: str
    text: str
    job: str = ""
    fields: dict[str, Any] = {}  # beside event and job; what is unknown is left out
    trace: tuple[str, ...] = ()  # of an exception, line by line


def line_of(record: Record) -> Line:
    """The log line of a fact."""
    run = record.run
    level, text = _sentence(record)
    return Line(
        at=record.at,
        level=level,
        event=record.fact.value,
        text=text,
        job=record.job,
        fields=_fields(record, run) if run else {"reason": record.reason} if record.reason else {},
    )


def _fields(record: Record, run: Run) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if run.task:
        fields["task"] = run.task
    fields["run_id"] = run.run_id
    fields["attempt"] = run.attempt
    fields["scheduled_at"] = run.scheduled_at
    if run.outcome is not None:
        fields["outcome"] = run.outcome.value
    if run.skip is not None:
        fields["skip"] = run.skip.value
        fields["count"] = record.count
    reason = record.reason or run.reason
    if reason:
        fields["reason"] = reason
    if run.exit_code is not None:
        fields["exit_code"] = run.exit_code
    if run.signal is not None:
        fields["signal"] = run.signal
    if run.duration_s is not None:
        fields["duration_s"] = round(run.duration_s, 6)
    if run.usage.memory_peak_bytes is not None:
        fields["memory_peak_bytes"] = run.usage.memory_peak_bytes
    return fields


def _sentence(record: Record) -> tuple[int, str]:
    match record.fact:
        case Fact.RUN_FINISHED | Fact.RUN_RETRYING:
            return _ended(record)
        case Fact.RUN_STARTED | Fact.RUN_STARTING | Fact.RUN_QUEUED | Fact.RUN_HELD:
            return _under_way(record)
        case Fact.RUN_SKIPPED:
            asked_for = record.run is not None and record.run.skip in _ASKED_FOR
            return INFO if asked_for else WARNING, f"skipped: {record.reason}"
        case Fact.RUN_RECOVERED:
            return INFO, f"still running: {record.reason}"
        case Fact.RUN_RESTORED:
            return INFO, f"waits again: {record.reason}"
        case Fact.RUN_STOPPING:
            return WARNING, f"stopping: {record.reason}"
        case Fact.RUN_FROZEN | Fact.RUN_THAWED | Fact.RUN_EVICTED:
            return LOUDEST[record.fact], f"{_BRAKES[record.fact]}: {record.reason}"
        case Fact.MEMORY_TIER if record.tier < 2:
            return INFO, record.reason
        case Fact.JOB_PAUSED:
            return INFO, f"paused {record.reason}".rstrip()
        case Fact.JOB_RESUMED:
            return INFO, f"resumed {record.reason}".rstrip()
        case Fact.CONFIG_RELOADED:
            return INFO, f"configuration reloaded: {reload_text(record.diff or Diff())}"
        case Fact.DAEMON_DRAINED:
            return INFO, "drained: nothing runs any more"
        case _:
            return LOUDEST[record.fact], f"{_PREFIXES[record.fact]}{record.reason}"


def _under_way(record: Record) -> tuple[int, str]:
    run = record.run
    again = f", attempt {run.attempt}" if run and run.attempt > 1 else ""
    match record.fact:
        case Fact.RUN_STARTED:
            pid = f" (pid {run.pid})" if run and run.pid is not None else ""
            return INFO, f"started{again}{pid}"
        case Fact.RUN_STARTING:
            waited = f" after waiting {duration(record.wait_s)}" if record.wait_s and record.wait_s >= 0.1 else ""
            return DEBUG, f"starting{again}{waited}"
        case Fact.RUN_HELD:
            return DEBUG, f"held: {record.reason}"
        case _:
            late = f", {duration(record.lateness_s)} late" if record.lateness_s and record.lateness_s >= 0.1 else ""
            return DEBUG, f"queued{again}{late}"


def _ended(record: Record) -> tuple[int, str]:
    run = record.run
    assert run is not None and run.outcome is not None, record
    verb = _VERBS[run.outcome]
    attempt = f" (attempt {run.attempt})" if run.attempt > 1 else ""
    if run.outcome is Outcome.SUCCEEDED:
        took = f" in {duration(run.duration_s)}" if run.duration_s is not None else ""
        return INFO, f"{verb}{took}{attempt}{_used(run)}"
    took = f" after {duration(run.duration_s)}" if run.duration_s is not None else ""
    reason = record.reason or run.reason
    why = f": {reason}" if reason else ""
    text = f"{verb}{took}{attempt}{_used(run)}{why}"
    if record.fact is Fact.RUN_RETRYING or run.outcome is Outcome.CANCELLED:
        return WARNING, text
    return ERROR, text


def _used(run: Run) -> str:
    usage = run.usage
    text = f", {size(usage.memory_peak_bytes)} peak" if usage.memory_peak_bytes else ""
    if usage.output_dropped_bytes:
        text += f", {size(usage.output_dropped_bytes)} of its output dropped"
    if usage.output_note:
        text += f"; {usage.output_note}"
    return text


def reload_text(changes: Diff) -> str:
    """What a reload changed, in a sentence: `added a, b; removed c; 12 unchanged`."""
    return changes_text(changes, NAMES_MAX)


def size(size_bytes: int) -> str:
    """Bytes for a person: `512 B`, `1.5 KiB`, `12 MiB`."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1023.5:
            return f"{amount:.1f} {unit}" if amount < 9.95 and unit != "B" else f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
