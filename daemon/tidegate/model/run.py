"""A run: what becomes of one fire. Frozen; each transition makes a copy (`engine/lifecycle.py` is the door)."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Cause(StrEnum):
    """Why a job fired."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    AFTER = "after"
    BOOT = "boot"


class State(StrEnum):
    """Where a run is. The table of allowed transitions is in engine/lifecycle.py."""

    HELD = "held"  # waits for an earlier run of the same job (overlap)
    QUEUED = "queued"  # ready; waits for the gates
    STARTING = "starting"  # handed to the executor, not yet confirmed
    RUNNING = "running"
    STOPPING = "stopping"  # TERM was sent: time-out, cancel, replace or drain
    RETRYING = "retrying"  # between two attempts; holds its overlap, but no slot
    FINISHED = "finished"  # has an outcome
    SKIPPED = "skipped"  # never started; has a reason


class Outcome(StrEnum):
    """How a run, or one attempt of it, ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    FAILED_TO_START = "failed_to_start"
    KILLED_FOR_MEMORY = "killed_for_memory"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


class Skip(StrEnum):
    """Why a fire did not become a started run: the fixed words; the sentence stands in `reason`."""

    OVERLAP = "overlap"
    PAUSED = "paused"
    CALENDAR = "calendar"
    START_DEADLINE = "start_deadline"
    CATCH_UP = "catch_up"
    QUEUE_FULL = "queue_full"
    UPSTREAM = "upstream"
    REPLACED = "replaced"


class Usage(Struct, frozen=True):
    """What one attempt used. What is unknown is None."""

    cpu_s: float | None = None  # user + system, the whole reaped tree
    memory_peak_bytes: int | None = None  # largest sample of anon + shmem over the tree
    output_bytes: int = 0  # written to the run's output file
    output_dropped_bytes: int = 0  # of these, given back from the middle
    output_note: str = ""  # what went wrong with the output file, e.g. a cap that could not be kept
    io_read_bytes: int | None = None  # from and to storage, the whole reaped tree
    io_write_bytes: int | None = None
    frozen_s: float | None = None  # held still by tidegate; part of the duration


class Run(Struct, frozen=True, kw_only=True):
    """One run as everybody sees it: history, API, hooks, logs. Times are wall time in UTC."""

    run_id: str
    job: str
    task: str = ""
    cause: Cause = Cause.SCHEDULE
    request_id: str | None = None
    attempt: int = 1
    evictions: int = 0  # attempts that we killed for want of memory: not among its tries
    scheduled_at: datetime
    queued_at: datetime
    started_at: datetime | None = None  # of the latest attempt
    ended_at: datetime | None = None
    state: State = State.QUEUED
    outcome: Outcome | None = None
    skip: Skip | None = None
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    duration_s: float | None = None  # of the latest attempt, monotonic
    usage: Usage = Usage()
    catch_up: bool = False
    pid: int | None = None
    pid_start: int | None = None  # clock ticks from boot to the start of that process: no other has both
    stop: Outcome | None = None  # STOPPING: what it will have been
    args: dict[str, str] = {}  # of a manual run, given as TIDEGATE_ARG_name; to a python job as keyword arguments
    result: str | None = None  # JSON text: what a python job returned
    error: str = ""  # of a python job: the traceback, or why its result is not kept
