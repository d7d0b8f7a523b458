"""The shape of the files, as written: one Struct for each table, read by the fast path, the walker and the schema.

What msgspec can check (types, words, bounds of numbers) is stated here and nowhere else; what needs more than one
value or a calculation is in resolve.py. No behaviour."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.model.job import CatchUp, Leftovers, Output, Overlap
from tidegate.model.limits import NAME_CHARS_MAX, QUEUE_RUNS_MAX, RETRIES_MAX
from tidegate.settings.amounts import DURATION_PATTERN, SIZE_PATTERN, UMASK_PATTERN

NAME_PATTERN = f"^[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{NAME_CHARS_MAX - 1}}}$"
ENV_NAME_PATTERN = "^(?!TIDEGATE_)[A-Za-z_][A-Za-z0-9_]*$"
DURATION, SIZE, UMASK = "duration", "size", "umask"  # kinds of text, for the walker's advice


def text(
    description: str, default: str = "", pattern: str = "", kind: str = "", examples: tuple[str, ...] = ()
) -> Meta:
    """Meta for a text key. The pattern is for editors only: resolve.py checks with better words."""
    extra: dict[str, Any] = {}
    if default:
        extra["default"] = default
    if pattern:
        extra["pattern"] = pattern
    return Meta(
        description=description,
        examples=list(examples) or None,
        extra_json_schema=extra or None,
        extra={"kind": kind} if kind else None,
    )


def duration(description: str, default: str = "") -> Meta:
    """Meta for a duration."""
    return text(description, default, DURATION_PATTERN, DURATION, ("90s", "1h30m", "2d", "500ms"))


def default(value: object) -> dict[str, Any]:
    """What the schema says of a key that is not written."""
    return {"default": value}


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
            text("Head and tail are kept, the middle is dropped.", "64MiB", SIZE_PATTERN, SIZE, ("64MiB", "2GB")),
        ]
        | UnsetType
    ) = UNSET
    enabled: (
        Annotated[bool, Meta(description="false: never fires by itself.", extra_json_schema=default(True))] | UnsetType
    ) = UNSET


class RawJob(RawDefaults, frozen=True, forbid_unknown_fields=True):
    """One job: what to run (command or shell), when (cron, every, at or after), and how."""

    command: (
        Annotated[
            tuple[str, ...],
            Meta(min_length=1, description="Program and arguments, no shell. ./ and ../ are from this file's folder."),
        ]
        | UnsetType
    ) = UNSET
    shell: Annotated[str, text("Text for /bin/sh -c.")] | UnsetType = UNSET
    description: Annotated[str, text("For people.")] | UnsetType = UNSET
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


class RawDaemon(Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon itself."""

    jobs: (
        Annotated[
            tuple[str, ...],
            Meta(
                description="Job files, relative to this file; * ? [ ] and ** are wildcards.",
                extra_json_schema=default(["jobs.d/*.toml"]),
            ),
        ]
        | UnsetType
    ) = UNSET
    timezone: Annotated[str, text("IANA name. Default: the system's.", examples=("Europe/Berlin",))] | UnsetType = UNSET
    log_format: (
        Annotated[Literal["auto", "journal", "json", "console"], Meta(extra_json_schema=default("auto"))] | UnsetType
    ) = UNSET
    log_level: (
        Annotated[Literal["trace", "debug", "info", "warning", "error"], Meta(extra_json_schema=default("info"))]
        | UnsetType
    ) = UNSET
    on_stop: (
        Annotated[
            Literal["auto", "leave", "drain"],
            Meta(
                description="What SIGTERM does with running jobs. This version drains in any case.",
                extra_json_schema=default("auto"),
            ),
        ]
        | UnsetType
    ) = UNSET
    drain_timeout: Annotated[str, duration("Running jobs get this long when draining.", "5m")] | UnsetType = UNSET


class RawPool(Struct, frozen=True, forbid_unknown_fields=True):
    """How many runs at once."""

    min: (
        Annotated[
            int, Meta(ge=1, le=QUEUE_RUNS_MAX, description="Never fewer slots than this.", extra_json_schema=default(1))
        ]
        | UnsetType
    ) = UNSET
    max: (
        Annotated[
            Literal["auto"] | Annotated[int, Meta(ge=1, le=QUEUE_RUNS_MAX)],
            Meta(description="Never more.", extra_json_schema=default("auto")),
        ]
        | UnsetType
    ) = UNSET


class RawHttp(Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics, health, the page and the API over loopback TCP."""

    listen: (
        Annotated[str, text('address:port; "" turns TCP off.', "127.0.0.1:9810", examples=("127.0.0.1:9810", ""))]
        | UnsetType
    ) = UNSET
    allowed_hosts: (
        Annotated[tuple[str, ...], Meta(description="Host headers let in besides loopback and the listen address.")]
        | UnsetType
    ) = UNSET


class RawMetrics(Struct, frozen=True, forbid_unknown_fields=True):
    """Prometheus metrics."""

    per_job_histograms: (
        Annotated[bool, Meta(description="Off for very many jobs.", extra_json_schema=default(True))] | UnsetType
    ) = UNSET


class RawJobsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of jobs.d/."""

    jobs: dict[str, RawJob] = {}


class RawMainFile(RawJobsFile, frozen=True, forbid_unknown_fields=True):
    """tidegate.toml. It may hold jobs too."""

    daemon: RawDaemon = RawDaemon()
    pool: RawPool = RawPool()
    http: RawHttp = RawHttp()
    metrics: RawMetrics = RawMetrics()
    defaults: RawDefaults = RawDefaults()


LATER: dict[type, frozenset[str]] = {  # promised, and refused until it works: half-honoured keys are worse
    RawMainFile: frozenset({"control", "history", "resources", "calendars", "hooks"}),
    RawHttp: frozenset({"token_file"}),
    RawDefaults: frozenset(
        {
            "memory",
            "cpu",
            "memory_max",
            "cpu_max",
            "pids_max",
            "io_weight",
            "user",
            "group",
            "groups",
            "executor",
            "interpreter",
            "python_path",
            "uses",
            "only_during",
            "not_during",
            "on_failure",
            "on_success",
            "on_retry",
            "on_skip",
            "on_recovery",
            "on_overrun",
            "on_absence",
            "expected",
            "ping",
            "on_interrupted",
        }
    ),
}
LATER[RawJob] = LATER[RawDefaults] | {"python", "tasks", "args", "kwargs"}
