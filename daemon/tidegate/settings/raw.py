"""The shape of the files, as written: one Struct for each table, read by the fast path, the walker and the schema.

What msgspec can check (types, words, bounds of numbers) is stated here and nowhere else; what needs more than one
value or a calculation is in resolve.py. The daemon's own tables are in raw_daemon.py. No behaviour."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.model.job import CatchUp, During, Executor, Leftovers, OnInterrupted, Output, Overlap
from tidegate.model.limits import PYTHON_HOST_RUNS_DEFAULT, PYTHON_WORKER_RUNS_DEFAULT, RETRIES_MAX
from tidegate.settings.amounts import UMASK_PATTERN
from tidegate.settings.meta import (
    ENV_NAME_PATTERN,
    FREE,
    TARGET_PATTERN,
    UMASK,
    URL_PATTERN,
    default,
    duration,
    kind_of,
    size,
    text,
)
from tidegate.settings.raw_daemon import (
    RawCalendar,
    RawControl,
    RawDaemon,
    RawHistory,
    RawHook,
    RawHttp,
    RawMetrics,
)
from tidegate.settings.raw_pool import RawPool

UNITS_MAX = 1_000_000  # of one resource
CORES_MAX = 10_000.0
PIDS_MAX = 4_194_304  # PID_MAX_LIMIT of the kernel


class RawRetries(Struct, frozen=True, forbid_unknown_fields=True):
    """Tries beyond the first. Delay before try n+1: min(max_delay, delay × factor^(n−1)), ± jitter."""

    max: (
        Annotated[int, Meta(ge=0, le=RETRIES_MAX, description="Tries beyond the first.", extra_json_schema=default(0))]
        | UnsetType
    ) = UNSET
    delay: Annotated[str, duration("Wait before the first retry.", "10s")] | UnsetType = UNSET
    factor: (
        Annotated[
            float, Meta(ge=1, le=100, description="Each wait is this much longer.", extra_json_schema=default(2.0))
        ]
        | UnsetType
    ) = UNSET
    max_delay: Annotated[str, duration("No wait is longer than this.", "10m")] | UnsetType = UNSET
    jitter: (
        Annotated[
            float,
            Meta(
                ge=0, le=1, description="A share of the wait, 0 to 1, that is random.", extra_json_schema=default(0.1)
            ),
        ]
        | UnsetType
    ) = UNSET
    on_exit_codes: (
        Annotated[
            tuple[Annotated[int, Meta(ge=0, le=255)], ...],
            Meta(description="Retry only after these exit codes. Default: after every failure."),
        ]
        | UnsetType
    ) = UNSET


class RawWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """A calendar, and what a fire does that it forbids."""

    calendar: Annotated[str, text("Name of a calendar.")] | UnsetType = UNSET
    action: (
        Annotated[
            During,
            Meta(description="Skip the fire, or defer it until it may.", extra_json_schema=default("skip")),
        ]
        | UnsetType
    ) = UNSET


class RawPing(Struct, frozen=True, forbid_unknown_fields=True):
    """URLs of a dead-man's switch, asked by GET."""

    start: Annotated[str, text("When a run starts.", pattern=URL_PATTERN)] | UnsetType = UNSET
    success: Annotated[str, text("When it succeeds.", pattern=URL_PATTERN)] | UnsetType = UNSET
    failure: Annotated[str, text("When it ends otherwise.", pattern=URL_PATTERN)] | UnsetType = UNSET


class RawDefaults(Struct, frozen=True, forbid_unknown_fields=True):
    """Keys for all jobs that do not say otherwise."""

    timezone: Annotated[str, text("IANA name. Default: the daemon's.", examples=("Europe/Berlin",))] | UnsetType = UNSET
    jitter: Annotated[str, duration("Each fire is late by up to this, stable by job name.", "0s")] | UnsetType = UNSET
    timeout: Annotated[str, duration("For each attempt: TERM to the whole tree, then KILL.", "24h")] | UnsetType = UNSET
    kill_grace: Annotated[str, duration("Between TERM and KILL.", "10s")] | UnsetType = UNSET
    leftovers: (
        Annotated[
            Leftovers,
            Meta(description="Processes that outlive the run's leader.", extra_json_schema=default("kill")),
        ]
        | UnsetType
    ) = UNSET
    retries: Annotated[RawRetries, Meta(description="Tries beyond the first.")] | UnsetType = UNSET
    success_exit_codes: (
        Annotated[
            tuple[Annotated[int, Meta(ge=0, le=255)], ...],
            Meta(min_length=1, description="Exit codes that mean success.", extra_json_schema=default([0])),
        ]
        | UnsetType
    ) = UNSET
    overlap: (
        Annotated[
            Overlap,
            Meta(description="A fire while a run is not yet ended.", extra_json_schema=default("skip")),
        ]
        | UnsetType
    ) = UNSET
    catch_up: (
        Annotated[
            CatchUp,
            Meta(
                description="Which fires missed while the machine slept, or over a clock step, are made up for.",
                extra_json_schema=default("last"),
            ),
        ]
        | UnsetType
    ) = UNSET
    catch_up_window: Annotated[str, duration("Fires missed longer ago are not made up for.", "24h")] | UnsetType = UNSET
    start_deadline: Annotated[str, duration("Queued longer: skipped. Default: none.")] | UnsetType = UNSET
    priority: (
        Annotated[
            int,
            Meta(ge=-100, le=100, description="Higher first; waiting raises it.", extra_json_schema=default(0)),
        ]
        | UnsetType
    ) = UNSET
    umask: (
        Annotated[str, text("File mode bits to clear, octal.", "022", UMASK_PATTERN, UMASK, ("022", "077"))] | UnsetType
    ) = UNSET
    nice: (
        Annotated[int, Meta(ge=-20, le=19, description="CPU niceness.", extra_json_schema=default(10))] | UnsetType
    ) = UNSET
    cwd: (
        Annotated[
            str,
            text(
                "Working directory: absolute, or from ~, or from this file's folder (./ or ../). Default: user's home."
            ),
        ]
        | UnsetType
    ) = UNSET
    env: (
        Annotated[
            dict[str, str],
            Meta(
                description="Environment variables; the environment is built from empty.",
                extra_json_schema={"propertyNames": {"pattern": ENV_NAME_PATTERN}},
            ),
        ]
        | UnsetType
    ) = UNSET
    env_file: (
        Annotated[str, text("File of NAME=value lines, read at each start; relative to this file's folder.")]
        | UnsetType
    ) = UNSET
    output: (
        Annotated[Output, Meta(description="Where stdout and stderr go.", extra_json_schema=default("file"))]
        | UnsetType
    ) = UNSET
    output_max: (
        Annotated[
            str,
            size("Head and tail are kept, the middle is dropped.", "64MiB"),
        ]
        | UnsetType
    ) = UNSET
    enabled: (
        Annotated[bool, Meta(description="false: never fires by itself.", extra_json_schema=default(True))] | UnsetType
    ) = UNSET
    uses: (
        Annotated[
            dict[str, Annotated[int, Meta(ge=1, le=UNITS_MAX)]],
            Meta(description="Units of [resources] that it holds while it runs.", examples=[{"database": 1}]),
        ]
        | UnsetType
    ) = UNSET
    only_during: (
        Annotated[
            tuple[str | RawWindow, ...],
            Meta(description="Calendars of which all must be open: names (skip), or { calendar, action }."),
        ]
        | UnsetType
    ) = UNSET
    not_during: (
        Annotated[
            tuple[str | RawWindow, ...],
            Meta(description="Calendars of which none may be open: names (skip), or { calendar, action }."),
        ]
        | UnsetType
    ) = UNSET
    on_failure: (
        Annotated[tuple[str, ...], Meta(description="Hooks for when it ends badly and is not tried again.")] | UnsetType
    ) = UNSET
    on_success: Annotated[tuple[str, ...], Meta(description="Hooks for when it succeeds.")] | UnsetType = UNSET
    on_retry: (
        Annotated[tuple[str, ...], Meta(description="Hooks for when an attempt ended badly and another follows.")]
        | UnsetType
    ) = UNSET
    on_skip: Annotated[tuple[str, ...], Meta(description="Hooks for when a fire is skipped.")] | UnsetType = UNSET
    on_recovery: (
        Annotated[tuple[str, ...], Meta(description="Hooks for when it succeeds for the first time after failures.")]
        | UnsetType
    ) = UNSET
    on_overrun: (
        Annotated[
            tuple[str, ...],
            Meta(description="Hooks for when it runs longer than `expected`, or than its own 99th percentile."),
        ]
        | UnsetType
    ) = UNSET
    on_absence: (
        Annotated[tuple[str, ...], Meta(description="Hooks for when it did not succeed for two periods.")] | UnsetType
    ) = UNSET
    expected: Annotated[str, duration("Longer is an overrun. Default: its own 99th percentile.")] | UnsetType = UNSET
    on_interrupted: (
        Annotated[
            OnInterrupted,
            Meta(description="When the fate of a run cannot be known.", extra_json_schema=default("ignore")),
        ]
        | UnsetType
    ) = UNSET
    user: Annotated[str, text("Whom it runs as. Default: the daemon's user. Needs root.")] | UnsetType = UNSET
    group: Annotated[str, text("Default: the user's own group. Needs root.")] | UnsetType = UNSET
    groups: (
        Annotated[
            tuple[str, ...],
            Meta(description="Supplementary groups. Default: those of the user database. Needs root."),
        ]
        | UnsetType
    ) = UNSET
    memory: Annotated[str, size("What it needs at most, for its first runs. Later ones are known by those before.")] | (
        UnsetType
    ) = UNSET
    cpu: Annotated[float, Meta(gt=0, le=CORES_MAX, description="Cores it uses, for its first runs.")] | UnsetType = (
        UNSET
    )
    memory_max: Annotated[str, size("The kernel lets it have no more memory.")] | UnsetType = UNSET
    cpu_max: (
        Annotated[float, Meta(ge=0.01, le=CORES_MAX, description="Cores; the kernel gives no more.")] | UnsetType
    ) = UNSET
    pids_max: Annotated[int, Meta(ge=1, le=PIDS_MAX, description="Processes and threads at once.")] | UnsetType = UNSET
    io_weight: (
        Annotated[int, Meta(ge=1, le=10_000, description="Its share of the disk; others have 100.")] | UnsetType
    ) = UNSET
    oom_score_adj: (
        Annotated[int, Meta(ge=-1000, le=1000, description="Whom the kernel kills first: higher.")] | UnsetType
    ) = UNSET

    executor: (
        Annotated[
            Executor,
            Meta(
                description="Where a python function is called: in a process of its own, or with others in one.",
                extra_json_schema=default("process"),
            ),
        ]
        | UnsetType
    ) = UNSET
    interpreter: (
        Annotated[str, text("Python of python jobs, 3.8 or later: a name on PATH, or a path.", "python3")] | UnsetType
    ) = UNSET
    python_path: (
        Annotated[
            tuple[str, ...],
            Meta(
                description="Folders that are searched for modules first: absolute, ~/, or ./ and ../ from this file."
            ),
        ]
        | UnsetType
    ) = UNSET
    host_runs: (
        Annotated[
            int,
            Meta(
                ge=1, le=10_000, description="Threads or coroutines in one process.",
                extra_json_schema=default(PYTHON_HOST_RUNS_DEFAULT),
            ),
        ]
        | UnsetType
    ) = UNSET  # fmt: skip
    worker_runs: (
        Annotated[
            int,
            Meta(
                ge=1, le=1_000_000, description="Calls, then their process is replaced.",
                extra_json_schema=default(PYTHON_WORKER_RUNS_DEFAULT),
            ),
        ]
        | UnsetType
    ) = UNSET  # fmt: skip


class RawJob(RawDefaults, frozen=True, forbid_unknown_fields=True):
    """One job: what to run (command, shell or python), when (cron, every, at or after), and how."""

    command: (
        Annotated[
            tuple[str, ...],
            Meta(
                min_length=1,
                description="Program and arguments, no shell. ./ and ../ are from this file's folder.",
                extra=kind_of(FREE),
            ),
        ]
        | UnsetType
    ) = UNSET
    shell: Annotated[str, text("Text for /bin/sh -c.")] | UnsetType = UNSET
    python: (
        Annotated[str, text("module:function to call.", pattern=TARGET_PATTERN, examples=("shop.jobs:reindex",))]
        | UnsetType
    ) = UNSET
    args: Annotated[tuple[Any, ...], Meta(description="Arguments of the python function, in order.")] | UnsetType = (
        UNSET
    )
    kwargs: (
        Annotated[dict[str, Any], Meta(description="… and by name; --arg of trigger goes over them.")] | UnsetType
    ) = UNSET
    description: Annotated[str, text("For people.", kind=FREE)] | UnsetType = UNSET
    cron: (
        Annotated[
            str,
            text(
                "5 fields, 6 with seconds first, or @daily, @reboot …; H spreads by job name.",
                examples=("15 2 * * *", "*/5 * * * *", "0 9 * * mon-fri", "H 3 * * *", "@daily", "@reboot"),
            ),
        ]
        | UnsetType
    ) = UNSET
    every: Annotated[str, duration("Interval, with a phase that is stable by job name; at least 1s.")] | UnsetType = (
        UNSET
    )
    at: (
        Annotated[datetime, Meta(description="Once. Without an offset it is read in the job's time zone.")] | UnsetType
    ) = UNSET
    after: Annotated[tuple[str, ...], Meta(description="Fires each time one of these jobs succeeds.")] | UnsetType = (
        UNSET
    )
    ping: Annotated[RawPing, Meta(description="Dead-man's switch: URLs that are told.")] | UnsetType = UNSET


class RawJobsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of jobs.d/."""

    jobs: dict[str, RawJob] = {}


class RawMainFile(RawJobsFile, frozen=True, forbid_unknown_fields=True):
    """tidegate.toml. It may hold jobs too."""

    daemon: RawDaemon = RawDaemon()
    pool: RawPool = RawPool()
    http: RawHttp = RawHttp()
    metrics: RawMetrics = RawMetrics()
    control: RawControl = RawControl()
    history: RawHistory = RawHistory()
    resources: Annotated[
        dict[str, Annotated[int, Meta(ge=1, le=UNITS_MAX)]],
        Meta(description="Named, shared: how many units exist."),
    ] = {}
    calendars: Annotated[dict[str, RawCalendar], Meta(description="Named windows that jobs use or avoid.")] = {}
    hooks: Annotated[dict[str, RawHook], Meta(description="Whom to tell.")] = {}
    defaults: RawDefaults = RawDefaults()


LATER: dict[type, frozenset[str]] = {  # promised, and refused until it works: half-honoured keys are worse
    RawJob: frozenset({"tasks"}),
}
