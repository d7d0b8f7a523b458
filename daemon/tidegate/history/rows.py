"""Runs and leases as rows, and back. Pure."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tidegate.history.entry import JobMemory, Unended
from tidegate.model.lease import Lease
from tidegate.model.limits import REASON_CHARS_MAX
from tidegate.model.run import Cause, Outcome, Run, Skip, State, Usage
from tidegate.model.view import AttemptView, RunView, of_run

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

# What a fire is never changes; how its run stands does.
CLAIM_COLUMNS: Final = (
    "run_id", "job", "task", "cause", "request_id", "scheduled_at", "era", "fires", "queued_at", "catch_up", "args",
)  # fmt: skip
STATE_COLUMNS: Final = (
    "attempt", "started_at", "ended_at", "state", "outcome", "skip", "reason", "exit_code", "signal", "duration_s",
    "cpu_s", "memory_peak_bytes", "output_bytes", "output_dropped_bytes", "output_note", "io_read_bytes",
    "io_write_bytes", "frozen_s", "pid", "pid_start", "stop", "returned", "error",
    "evictions",
)  # fmt: skip
START_COLUMNS: Final = ("boot_id", "keeper")  # kept as they are unless the attempt starts
RUN_COLUMNS: Final = CLAIM_COLUMNS + STATE_COLUMNS + START_COLUMNS
SELECTED: Final = ", ".join(RUN_COLUMNS)
ATTEMPT_COLUMNS: Final = (
    "run_id", "attempt", "started_at", "ended_at", "outcome", "reason", "exit_code", "signal", "duration_s", "cpu_s",
    "memory_peak_bytes", "output_bytes", "error",
)  # fmt: skip
LEASE_COLUMNS: Final = (
    "lease_id", "uses", "holder", "pid", "pid_start", "run_id", "asked_at", "granted_at", "ended_at", "reason",
)  # fmt: skip
JOB_COLUMNS: Final = (
    "name", "timing", "since", "last_fire_at", "boot_id", "paused_by", "paused_at", "last_run_id", "last_run_at",
    "last_success_at", "last_outcome",
)  # fmt: skip


def micros(at: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (at - EPOCH) // MICROSECOND


def optional_micros(at: datetime | None) -> int | None:
    """The same, of what may be unknown."""
    return None if at is None else (at - EPOCH) // MICROSECOND


def instant(at_us: int) -> datetime:
    """The aware instant, in UTC."""
    return EPOCH + timedelta(microseconds=at_us)


def optional_instant(at_us: int | None) -> datetime | None:
    """The same, of what may be unknown."""
    return None if at_us is None else EPOCH + timedelta(microseconds=at_us)


def run_row(run: Run, *, era: int, fires: int, boot_id: str, keeper: str) -> tuple[Any, ...]:
    """In the order of RUN_COLUMNS."""
    usage = run.usage
    return (
        run.run_id,
        run.job,
        run.task,
        run.cause,
        run.request_id,
        micros(run.scheduled_at),
        era,
        fires,
        micros(run.queued_at),
        1 if run.catch_up else 0,
        json.dumps(run.args) if run.args else None,
        run.attempt,
        optional_micros(run.started_at),
        optional_micros(run.ended_at),
        run.state,
        run.outcome,
        run.skip,
        run.reason[:REASON_CHARS_MAX],
        run.exit_code,
        run.signal,
        run.duration_s,
        usage.cpu_s,
        usage.memory_peak_bytes,
        usage.output_bytes,
        usage.output_dropped_bytes,
        usage.output_note,
        usage.io_read_bytes,
        usage.io_write_bytes,
        usage.frozen_s,
        run.pid,
        run.pid_start,
        run.stop,
        run.result,
        run.error or None,
        run.evictions,
        boot_id,
        keeper,
    )


def run_of(row: Sequence[Any]) -> Run:
    """A row of RUN_COLUMNS as a run. Raises ValueError for words that no tidegate wrote."""
    at = dict(zip(RUN_COLUMNS, row, strict=False))
    return Run(
        run_id=at["run_id"],
        job=at["job"],
        task=at["task"],
        cause=Cause(at["cause"]),
        request_id=at["request_id"],
        attempt=at["attempt"],
        scheduled_at=instant(at["scheduled_at"]),
        queued_at=instant(at["queued_at"]),
        started_at=optional_instant(at["started_at"]),
        ended_at=optional_instant(at["ended_at"]),
        state=State(at["state"]),
        outcome=Outcome(at["outcome"]) if at["outcome"] else None,
        skip=Skip(at["skip"]) if at["skip"] else None,
        reason=at["reason"],
        exit_code=at["exit_code"],
        signal=at["signal"],
        duration_s=at["duration_s"],
        usage=Usage(
            cpu_s=at["cpu_s"],
            memory_peak_bytes=at["memory_peak_bytes"],
            output_bytes=at["output_bytes"],
            output_dropped_bytes=at["output_dropped_bytes"],
            output_note=at["output_note"],
            io_read_bytes=at["io_read_bytes"],
            io_write_bytes=at["io_write_bytes"],
            frozen_s=at["frozen_s"],
        ),
        catch_up=bool(at["catch_up"]),
        pid=at["pid"],
        pid_start=at["pid_start"],
        stop=Outcome(at["stop"]) if at["stop"] else None,
        args=json.loads(at["args"]) if at["args"] else {},
        result=at["returned"],
        error=at["error"] or "",
        evictions=at["evictions"],
    )


def unended_of(row: Sequence[Any]) -> Unended:
    """A row of RUN_COLUMNS with what recovery needs beside the run."""
    return Unended(run_of(row), row[-2], row[-1])


def view_of(row: Sequence[Any]) -> RunView:
    """A row of RUN_COLUMNS as people see it."""
    return of_run(run_of(row), row[CLAIM_COLUMNS.index("fires")])


def attempt_row(run: Run) -> tuple[Any, ...]:
    """In the order of ATTEMPT_COLUMNS."""
    return (
        run.run_id,
        run.attempt,
        optional_micros(run.started_at),
        optional_micros(run.ended_at),
        run.outcome or "",
        run.reason[:REASON_CHARS_MAX],
        run.exit_code,
        run.signal,
        run.duration_s,
        run.usage.cpu_s,
        run.usage.memory_peak_bytes,
        run.usage.output_bytes - run.usage.output_dropped_bytes,
        run.error or None,
    )


def attempt_view(row: Sequence[Any]) -> AttemptView:
    """A row of ATTEMPT_COLUMNS as people see it."""
    at = dict(zip(ATTEMPT_COLUMNS, row, strict=True))
    del at["run_id"], at["output_bytes"]
    at["started_at"] = optional_instant(at["started_at"])
    at["ended_at"] = optional_instant(at["ended_at"])
    return AttemptView(**at)


def lease_row(lease: Lease, reason: str) -> tuple[Any, ...]:
    """In the order of LEASE_COLUMNS."""
    return (
        lease.lease_id,
        json.dumps(lease.uses),
        lease.holder,
        lease.pid,
        lease.pid_start,
        lease.run_id,
        micros(lease.asked_at),
        optional_micros(lease.granted_at),
        optional_micros(lease.ended_at),
        reason[:REASON_CHARS_MAX],
    )


def lease_of(row: Sequence[Any]) -> Lease:
    """A row of LEASE_COLUMNS as a lease."""
    at = dict(zip(LEASE_COLUMNS, row, strict=True))
    return Lease(
        lease_id=at["lease_id"],
        uses=json.loads(at["uses"]),
        holder=at["holder"],
        pid=at["pid"],
        pid_start=at["pid_start"],
        run_id=at["run_id"],
        asked_at=instant(at["asked_at"]),
        granted_at=optional_instant(at["granted_at"]),
        ended_at=optional_instant(at["ended_at"]),
    )


def read_jobs(db: sqlite3.Connection) -> dict[str, JobMemory]:
    """All jobs of the file."""
    found = {}
    for row in db.execute(f"SELECT {', '.join(JOB_COLUMNS)} FROM jobs"):
        name, timing, since, fire, boot, paused_by, paused, run_id, run, success, outcome = row
        found[name] = JobMemory(
            timing=timing,
            since=instant(since),
            last_fire_at=optional_instant(fire),
            boot_id=boot,
            paused_by=paused_by,
            paused_at=optional_instant(paused),
            last_run_id=run_id,
            last_run_at=optional_instant(run),
            last_success_at=optional_instant(success),
            last_outcome=outcome,
        )
    return found
