"""The whole configuration, resolved: what `settings/` makes of the files and every shell reads."""

from datetime import date, datetime

from msgspec import Struct

from tidegate.model.job import Job
from tidegate.model.pool import PoolSettings


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
    """What a reload changed, by job name, sorted."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0


def diff(old: dict[str, Job], new: dict[str, Job]) -> Diff:
    """Compare two plans' jobs. A job that merely moved to another file or line is unchanged."""
    added = sorted(new.keys() - old.keys())
    removed = sorted(old.keys() - new.keys())
    changed = sorted(name for name in new.keys() & old.keys() if not new[name].same_as(old[name]))
    return Diff(tuple(added), tuple(changed), tuple(removed), len(new) - len(added) - len(changed))
