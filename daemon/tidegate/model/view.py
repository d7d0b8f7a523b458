"""What people and programs are shown: the frozen shapes of the API, of `--json` and of hooks. The names are promises;
times are ISO 8601 with offset, what is unknown is None. Made from the model's values, never the other way round."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, structs

from tidegate.model.lease import Lease
from tidegate.model.run import Run


class RunView(Struct, frozen=True, kw_only=True):
    """One run."""

    run_id: str
    job: str
    task: str
    cause: str
    request_id: str | None
    attempt: int
    scheduled_at: datetime
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    state: str
    outcome: str | None
    skip: str | None  # the fixed word of a skipped fire
    reason: str
    exit_code: int | None
    signal: int | None
    duration_s: float | None
    frozen_s: float | None
    cpu_s: float | None
    memory_peak_bytes: int | None
    io_read_bytes: int | None
    io_write_bytes: int | None
    output_bytes: int
    output_incomplete: bool
    catch_up: bool
    pid: int | None
    result: Any = None  # what a python job returned; JSON
    error: str | None = None  # of a python job: the traceback, or why its result is not kept
    fires: int = 1  # fires that a skipped row stands for


class RunningView(RunView, frozen=True, kw_only=True):
    """One that runs, with what it holds now. `cpu_s` is what it used so far."""

    memory_bytes: int | None = None  # at the last look
    frozen: bool = False  # held still, as memory is short


class AttemptView(Struct, frozen=True, kw_only=True):
    """One ended attempt of a run that was tried again."""

    attempt: int
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str
    reason: str
    exit_code: int | None
    signal: int | None
    duration_s: float | None
    cpu_s: float | None
    memory_peak_bytes: int | None
    error: str | None = None


class LearnedView(Struct, frozen=True, kw_only=True):
    """What the next run of a job is taken to need, from those before it."""

    runs: int
    memory_bytes: int
    memory_reason: str
    cpu_cores: float
    duration_s: float | None  # nine of ten end within it


class JobView(Struct, frozen=True, kw_only=True):
    """One job and how it stands."""

    name: str
    description: str
    schedule: str  # as `list` shows it: the expression, "every 15m", "after backup"
    timezone: str
    enabled: bool
    paused: bool
    next_fire_at: datetime | None
    running: int
    queued: int
    retrying: int = 0  # wait for their next attempt
    last_run: RunView | None
    last_success_at: datetime | None
    learned: LearnedView | None = None  # what its next run is taken to need; None before its first


class WaitingView(Struct, frozen=True, kw_only=True):
    """A queued run and what holds it."""

    run: RunView
    gate: str
    reason: str


class GateView(Struct, frozen=True, kw_only=True):
    """One condition for starting: how it stands, and how many it holds."""

    name: str
    reading: str  # as a sentence
    holds: int  # queued runs
    blocked_s: float  # for how long it has held whoever was next, since the daemon began


class PoolView(Struct, frozen=True, kw_only=True):
    """How full the pool is."""

    limit: int
    running: int
    queued: int
    retrying: int
    held: str  # why nothing starts at all; "" where starts go on
    frozen: int = 0  # of those that run
    memory_tier: int = 0  # 0 enough, 1 nothing starts, 2 runs are frozen, 3 killed
    gates: tuple[GateView, ...] = ()


class HoldingView(Struct, frozen=True, kw_only=True):
    """Who holds units of a resource, or waits for them."""

    holder: str
    units: int
    run_id: str
    lease_id: str
    since: datetime
    waiting: bool


class ResourceView(Struct, frozen=True, kw_only=True):
    """A shared resource."""

    name: str
    units: int
    used: int
    holdings: tuple[HoldingView, ...]


class LeaseView(Struct, frozen=True, kw_only=True):
    """A lease, granted or waiting or over."""

    lease_id: str
    uses: dict[str, int]
    holder: str
    state: str  # waiting | granted | ended
    reason: str
    asked_at: datetime
    granted_at: datetime | None
    ended_at: datetime | None


class ReloadView(Struct, frozen=True, kw_only=True):
    """What a reload did."""

    ok: bool
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    tables: tuple[str, ...] = ()  # of tidegate.toml, that changed
    restart_needed: tuple[str, ...] = ()  # tables, and keys as daemon.log_format, that only a restart applies
    problems: tuple[str, ...] = ()


class DecisionView(Struct, frozen=True, kw_only=True):
    """One entry of `why`: what was decided, when, and from which facts."""

    at: datetime
    fact: str  # run.queued, run.skipped, job.paused, config.reloaded …
    job: str
    run_id: str
    reason: str


def of_run(run: Run, fires: int = 1) -> RunView:
    """The view of a run."""
    usage = run.usage
    return RunView(
        run_id=run.run_id,
        job=run.job,
        task=run.task,
        cause=run.cause.value,
        request_id=run.request_id,
        attempt=run.attempt,
        scheduled_at=run.scheduled_at,
        queued_at=run.queued_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        state=run.state.value,
        outcome=run.outcome.value if run.outcome else None,
        skip=run.skip.value if run.skip else None,
        reason=run.reason,
        exit_code=run.exit_code,
        signal=run.signal,
        duration_s=run.duration_s,
        frozen_s=usage.frozen_s,
        cpu_s=usage.cpu_s,
        memory_peak_bytes=usage.memory_peak_bytes,
        io_read_bytes=usage.io_read_bytes,
        io_write_bytes=usage.io_write_bytes,
        output_bytes=usage.output_bytes,
        output_incomplete=bool(usage.output_note or usage.output_dropped_bytes),
        catch_up=run.catch_up,
        pid=run.pid,
        result=msgspec.json.decode(run.result) if run.result is not None else None,
        error=run.error or None,
        fires=fires,
    )


def running_view(run: Run, memory_bytes: int | None, frozen: bool) -> RunningView:
    """The view of one that runs."""
    return RunningView(**structs.asdict(of_run(run)), memory_bytes=memory_bytes, frozen=frozen)


def of_lease(lease: Lease, reason: str = "") -> LeaseView:
    """The view of a lease."""
    state = "ended" if lease.ended_at else "granted" if lease.granted_at else "waiting"
    return LeaseView(
        lease_id=lease.lease_id,
        uses=lease.uses,
        holder=lease.holder,
        state=state,
        reason=reason,
        asked_at=lease.asked_at,
        granted_at=lease.granted_at,
        ended_at=lease.ended_at,
    )
