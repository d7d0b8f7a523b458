"""The whole configuration, resolved: what `settings/` makes of the files and every shell reads."""

from msgspec import Struct

from tidegate.model.job import Job


class DaemonSettings(Struct, frozen=True, kw_only=True):
    """[daemon]"""

    timezone: str = "UTC"
    log_format: str = "auto"  # auto | journal | json | console
    log_level: str = "info"  # trace | debug | info | warning | error
    on_stop: str = "auto"  # auto | leave | drain
    drain_timeout_s: float = 300.0


class PoolSettings(Struct, frozen=True, kw_only=True):
    """[pool]"""

    min: int = 1
    max: int | None = None  # None: "auto"


class HttpSettings(Struct, frozen=True, kw_only=True):
    """[http]"""

    host: str | None = "127.0.0.1"  # None: TCP is off
    port: int = 9810
    allowed_hosts: tuple[str, ...] = ()  # Host headers let in besides loopback, the listen address, this machine


class MetricsSettings(Struct, frozen=True, kw_only=True):
    """[metrics]"""

    per_job_histograms: bool = True


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that was configured, checked and resolved. `jobs` is keyed by name, in file order."""

    daemon: DaemonSettings = DaemonSettings()
    pool: PoolSettings = PoolSettings()
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
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
