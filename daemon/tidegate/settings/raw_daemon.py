"""The shape of tidegate.toml but for the jobs and their defaults: one Struct for each table. No behaviour."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tidegate.settings.meta import DATE, FREE, URL_PATTERN, default, duration, kind_of, size, text

KEEP_RUNS_MAX = 100_000_000
HOOK_RETRIES_MAX = 100


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
                description="What SIGTERM does with running jobs: leave them to the next daemon, or wait.",
                extra_json_schema=default("auto"),
            ),
        ]
        | UnsetType
    ) = UNSET
    drain_timeout: Annotated[str, duration("Running jobs get this long when draining.", "5m")] | UnsetType = UNSET


class RawHttp(Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics, health, the page and the API over loopback TCP."""

    listen: (
        Annotated[str, text('address:port; "" turns TCP off.', "127.0.0.1:9810", examples=("127.0.0.1:9810", ""))]
        | UnsetType
    ) = UNSET
    token_file: (
        Annotated[str, text("File with the token that whatever changes state over TCP must show. Default: none may.")]
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


class RawControl(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may operate over the socket."""

    operators: (
        Annotated[
            str,
            text(
                "A group that may trigger, cancel, pause and reload. Default: only the daemon's own user and root.",
                examples=("adm",),
            ),
        ]
        | UnsetType
    ) = UNSET


class RawHistory(Struct, frozen=True, forbid_unknown_fields=True):
    """The account of runs: how long it is kept, and how hard it is held on to."""

    keep: Annotated[str, duration("Runs older than this are forgotten, with their output.", "30d")] | UnsetType = UNSET
    keep_runs: (
        Annotated[int, Meta(ge=1, le=KEEP_RUNS_MAX, description="No more runs.", extra_json_schema=default(1_000_000))]
        | UnsetType
    ) = UNSET
    keep_bytes: Annotated[str, size("No more than this, rows and output files together.", "5GiB")] | UnsetType = UNSET
    durability: (
        Annotated[
            Literal["full", "normal"],
            Meta(description="normal may forget the last instants at a power cut.", extra_json_schema=default("full")),
        ]
        | UnsetType
    ) = UNSET
    on_corruption: (
        Annotated[
            Literal["continue", "stop"],
            Meta(
                description="A damaged account: put it aside and begin a new one, or stop.",
                extra_json_schema=default("continue"),
            ),
        ]
        | UnsetType
    ) = UNSET
    reserve: (
        Annotated[str, size("With less free space than this in the state folder no run starts.", "64MiB")] | UnsetType
    ) = UNSET


class RawCalendar(Struct, frozen=True, forbid_unknown_fields=True):
    """A named window: open at the instants that any of its parts covers."""

    cron: (
        Annotated[
            str,
            text("Open during each minute that matches; 5 fields.", examples=("* 9-17 * * mon-fri", "* 0-5 * * *")),
        ]
        | UnsetType
    ) = UNSET
    dates: (
        Annotated[
            tuple[str, ...],
            Meta(
                min_length=1,
                description="Days, and ranges of days with both ends included.",
                examples=[["2026-12-25", "2026-12-27/2026-12-31"]],
                extra=kind_of(DATE),
            ),
        ]
        | UnsetType
    ) = UNSET
    file: Annotated[str, text("An .ics file, relative to this file's folder.")] | UnsetType = UNSET
    timezone: Annotated[str, text("IANA name. Default: the daemon's.", examples=("Europe/Berlin",))] | UnsetType = UNSET


class RawMail(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a mail goes, and through which server."""

    to: Annotated[tuple[str, ...], Meta(min_length=1, description="Addresses.")] | UnsetType = UNSET
    smtp: Annotated[str, text("host:port of the server.", "localhost:25")] | UnsetType = UNSET
    sender: Annotated[str, text("Address it comes from. Default: tidegate at this machine.")] | UnsetType = field(
        default=UNSET, name="from"
    )
    starttls: (
        Annotated[bool, Meta(description="Encrypt with STARTTLS.", extra_json_schema=default(False))] | UnsetType
    ) = UNSET
    user: Annotated[str, text("Name to log in with; needs password_file.")] | UnsetType = UNSET
    password_file: (
        Annotated[str, text("File with the password, readable by nobody else; relative to this file's folder.")]
        | UnsetType
    ) = UNSET


class RawHook(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody to tell: exactly one of command, webhook and mail."""

    command: (
        Annotated[
            tuple[str, ...],
            Meta(min_length=1, description="Program and arguments, no shell.", extra=kind_of(FREE)),
        ]
        | UnsetType
    ) = UNSET
    webhook: Annotated[str, text("URL that gets the run as JSON by POST.", pattern=URL_PATTERN)] | UnsetType = UNSET
    mail: Annotated[RawMail, Meta(description="A mail by SMTP.")] | UnsetType = UNSET
    headers: Annotated[dict[str, str], Meta(description="More headers of a webhook.")] | UnsetType = UNSET
    timeout: Annotated[str, duration("For each try.", "30s")] | UnsetType = UNSET
    retries: (
        Annotated[
            int, Meta(ge=0, le=HOOK_RETRIES_MAX, description="Tries beyond the first.", extra_json_schema=default(5))
        ]
        | UnsetType
    ) = UNSET
