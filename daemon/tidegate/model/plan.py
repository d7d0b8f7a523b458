"""The whole configuration, resolved: what `settings/` makes of the files and every shell reads."""

from datetime import date, datetime
from operator import attrgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.job import Job
from tidegate.model.pool import PoolSettings
from tidegate.model.text import counted

TABLES: Final = ("daemon", "pool", "http", "metrics", "control", "history", "resources", "calendars", "hooks")
AT_START: Final = ("daemon.log_format", "http", "metrics", "control")  # read once: sockets and logs are open by then


class DaemonSettings(Struct, frozen=True, kw_only=True):
    """[daemon]"""

    timezone: str = "UTC"
    log_format: str = "auto"  # auto | journal | json | console
    log_level: str = "info"  # trace | debug | info | warning | error
    on_stop: str = "auto"  # auto | leave | drain
    drain_timeout_s: float = 300.0


class HttpSettings(Struct, frozen=True, kw_only=True):
    """[http]"""

    host: str | None = "127.0.0.1"  # None: TCP is off
    port: int = 9810
    token_file: str | None = None  # absolute; None: nothing over TCP changes anything
    allowed_hosts: tuple[str, ...] = ()  # Host headers let in besides loopback, the listen address, this machine


class MetricsSettings(Struct, frozen=True, kw_only=True):
    """[metrics]"""

    per_job_histograms: bool = True


class ControlSettings(Struct, frozen=True, kw_only=True):
    """[control]"""

    operators: str = ""  # a group that may operate over the socket; "": only the daemon's own user and root


class HistorySettings(Struct, frozen=True, kw_only=True):
    """[history]"""

    keep_s: float = 30 * 86400.0
    keep_runs: int = 1_000_000
    keep_bytes: int = 5 * 1024**3  # rows and output files together
    durability: str = "full"  # full | normal
    on_corruption: str = "continue"  # continue with a fresh file | stop
    reserve_bytes: int = 64 * 1024**2  # below this much free space in the state folder no run starts


class Calendar(Struct, frozen=True, kw_only=True):
    """[calendars.NAME]: open at the instants that any of its parts covers, in `timezone`."""

    cron: str = ""  # open during each minute that matches; "": none
    dates: tuple[tuple[date, date], ...] = ()  # first and last day, both inclusive
    file: str | None = None  # absolute, an .ics file
    spans: tuple[tuple[datetime, datetime], ...] = ()  # what the file says: from, until; aware UTC, rising, apart
    timezone: str = "UTC"


class Mail(Struct, frozen=True, kw_only=True):
    """Where a mail hook sends to."""

    to: tuple[str, ...]
    smtp: str = "localhost:25"
    sender: str = ""  # "": tidegate@this machine's name
    starttls: bool = False
    user: str = ""
    password_file: str | None = None  # absolute


class Hook(Struct, frozen=True, kw_only=True):
    """[hooks.NAME]: exactly one of command, webhook and mail."""

    name: str
    command: tuple[str, ...] | None = None
    webhook: str | None = None
    mail: Mail | None = None
    headers: dict[str, str] = {}  # of a webhook
    timeout_s: float = 30.0  # for each try
    retries: int = 5  # of a webhook or mail, with backoff


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that was configured, checked and resolved. `jobs` is keyed by name, in file order."""

    daemon: DaemonSettings = DaemonSettings()
    pool: PoolSettings = PoolSettings()
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
    control: ControlSettings = ControlSettings()
    history: HistorySettings = HistorySettings()
    resources: dict[str, int] = {}  # units that exist, by name
    calendars: dict[str, Calendar] = {}
    hooks: dict[str, Hook] = {}
    jobs: dict[str, Job] = {}
    files: tuple[str, ...] = ()  # what was read, for messages
    warnings: tuple[str, ...] = ()  # path:line: what is legal but probably not meant


class Diff(Struct, frozen=True):
    """What a reload changed: by job name, sorted, and by table."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    tables: tuple[str, ...] = ()  # that changed, in the order of TABLES
    restart_needed: tuple[str, ...] = ()  # of AT_START, what is not as it was when the daemon began


def diff(old: Plan, new: Plan, first: Plan) -> Diff:
    """What a reload from `old` to `new` changes in a daemon that began with `first`. A job that merely moved to another
    file or line is unchanged."""
    tables = tuple(name for name in TABLES if getattr(new, name) != getattr(old, name))
    jobs = changed_jobs(old.jobs, new.jobs)
    return replace(jobs, tables=tables, restart_needed=restart_needed(first, new))


def restart_needed(first: Plan, new: Plan) -> tuple[str, ...]:
    """What of `new` does not hold in a daemon that began with `first`, by its keys."""
    return tuple(keys for keys in AT_START if attrgetter(keys)(new) != attrgetter(keys)(first))


def changed_jobs(old: dict[str, Job], new: dict[str, Job]) -> Diff:
    """The jobs of two plans compared."""
    added = sorted(new.keys() - old.keys())
    removed = sorted(old.keys() - new.keys())
    changed = sorted(name for name in new.keys() & old.keys() if not new[name].same_as(old[name]))
    return Diff(tuple(added), tuple(changed), tuple(removed), len(new) - len(added) - len(changed))


def changes_text(changes: Diff, names_max: int) -> str:
    """What a reload changed, in a sentence: `added a, b; removed c; 12 unchanged; changed [pool]`. At most so many
    names of each kind."""
    parts = [
        f"{word} {_listed(names, names_max)}"
        for word, names in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
        if names
    ]
    jobs = counted(changes.unchanged, "job")
    if parts:
        parts.append(f"{changes.unchanged} unchanged")
    else:
        parts.append(f"{jobs} unchanged" if changes.tables else f"nothing changed ({jobs})")
    if changes.tables:
        parts.append(f"changed {', '.join(f'[{name}]' for name in changes.tables)}")
    if changes.restart_needed:
        parts.append(f"only a restart applies {', '.join(map(as_written, changes.restart_needed))}")
    return "; ".join(parts)


def as_written(keys: str) -> str:
    """http → [http], daemon.log_format → [daemon] log_format."""
    table, _, key = keys.partition(".")
    return f"[{table}] {key}".rstrip()


def _listed(names: tuple[str, ...], names_max: int) -> str:
    more = f" and {len(names) - names_max} more" if len(names) > names_max else ""
    return ", ".join(names[:names_max]) + more
