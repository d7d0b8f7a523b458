"""What a person wrote, resolved: jobs with every default filled in. Frozen; equal values compare equal,
so a reload is a diff."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.limits import (
    KILL_GRACE_S_DEFAULT,
    OUTPUT_BYTES_DEFAULT,
    TIMEOUT_S_DEFAULT,
)


class Overlap(StrEnum):
    """What a fire does while a run of the same job is not yet ended."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """Which of the fires missed while down or asleep are made up for."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class Leftovers(StrEnum):
    """What happens to processes of the tree that outlive their leader."""

    KILL = "kill"
    LEAVE = "leave"


class Output(StrEnum):
    """Where a run's stdout and stderr go."""

    FILE = "file"
    JOURNAL = "journal"
    DISCARD = "discard"


class Cron(Struct, frozen=True, tag="cron"):
    """A cron expression as written: 5 fields, 6 with seconds first, or an @name but @reboot."""

    expression: str


class Every(Struct, frozen=True, tag="every"):
    """An interval in seconds, with a phase that is stable by job name."""

    period_s: float


class At(Struct, frozen=True, tag="at"):
    """Once, at an aware instant (UTC)."""

    instant: datetime


class Boot(Struct, frozen=True, tag="boot"):
    """@reboot: once per boot id."""


Trigger = Cron | Every | At | Boot


class Retries(Struct, frozen=True):
    """Tries beyond the first. Delay before try n+1: min(max_delay_s, delay_s × factor^(n−1)), ± jitter."""

    max: int = 0
    delay_s: float = 10.0
    factor: float = 2.0
    max_delay_s: float = 600.0
    jitter: float = 0.1  # a share of the delay, 0 to 1
    on_exit_codes: tuple[int, ...] | None = None  # None: every failure


class Job(Struct, frozen=True, kw_only=True):
    """One job, every default resolved. Durations in seconds, sizes in bytes."""

    name: str
    command: tuple[str, ...] | None = None  # exactly one of command and shell
    shell: str | None = None
    description: str = ""
    trigger: Trigger | None = None  # None: fired by `after` or by hand
    after: tuple[str, ...] = ()
    timezone: str = "UTC"  # IANA name
    jitter_s: float = 0.0
    timeout_s: float = TIMEOUT_S_DEFAULT
    kill_grace_s: float = KILL_GRACE_S_DEFAULT
    leftovers: Leftovers = Leftovers.KILL
    retries: Retries = Retries()
    success_exit_codes: tuple[int, ...] = (0,)
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    catch_up_window_s: float = 86400.0
    start_deadline_s: float | None = None
    priority: int = 0
    umask: int = 0o022
    nice: int = 10
    cwd: str | None = None  # None: the user's home
    env: dict[str, str] = {}
    env_file: str | None = None  # absolute; read at each start
    output: Output = Output.FILE
    output_max_bytes: int = OUTPUT_BYTES_DEFAULT
    enabled: bool = True
    source: str = ""  # "path:line" of the definition, for messages; not part of what the job is

    def same_as(self, other: "Job") -> bool:
        """Equal but for where it is written: moving a job between files changes nothing."""
        return self == (other if self.source == other.source else replace(other, source=self.source))
