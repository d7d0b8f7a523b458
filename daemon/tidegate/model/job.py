"""What a person wrote, resolved: jobs with every default filled in. Frozen; equal values compare equal,
so a reload is a diff."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.limits import (
    KILL_GRACE_S_DEFAULT,
    OUTPUT_BYTES_DEFAULT,
    PYTHON_HOST_RUNS_DEFAULT,
    PYTHON_WORKER_RUNS_DEFAULT,
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


class OnInterrupted(StrEnum):
    """What becomes of a run whose fate cannot be known: its machine went down, or its keeper did."""

    IGNORE = "ignore"
    RERUN = "rerun"


class During(StrEnum):
    """What a fire does that a calendar forbids."""

    SKIP = "skip"
    DEFER = "defer"


class Output(StrEnum):
    """Where a run's stdout and stderr go."""

    FILE = "file"
    JOURNAL = "journal"
    DISCARD = "discard"


class Executor(StrEnum):
    """Where a function of a python job is called."""

    PROCESS = "process"  # in a process of its own
    THREAD = "thread"  # in a thread of a process that it shares
    ASYNC = "async"  # as a coroutine, the same


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


class Window(Struct, frozen=True):
    """One entry of only_during or not_during: a calendar, and what happens to a fire that it forbids."""

    calendar: str
    action: During = During.SKIP


class HookLists(Struct, frozen=True):
    """Names of hooks for each occasion."""

    failure: tuple[str, ...] = ()
    success: tuple[str, ...] = ()
    retry: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    recovery: tuple[str, ...] = ()  # the first success after failures
    overrun: tuple[str, ...] = ()  # runs longer than `expected_s`, or than its own p99
    absence: tuple[str, ...] = ()  # no success in two periods


class Ping(Struct, frozen=True):
    """URLs of a dead-man's switch; "" is none."""

    start: str = ""
    success: str = ""
    failure: str = ""


class Limits(Struct, frozen=True):
    """Hard limits, kept by the kernel. None: no limit."""

    memory_bytes: int | None = None
    cpu_cores: float | None = None
    pids: int | None = None
    io_weight: int | None = None  # 1 to 10000, 100 is what others have


class RunAs(Struct, frozen=True):
    """Whose credentials a run gets. None: the daemon's own; `groups` None: those of the user database."""

    user: str | None = None
    group: str | None = None
    groups: tuple[str, ...] | None = None


class Python(Struct, frozen=True, kw_only=True):
    """A function, called with these. Everything in args and kwargs is JSON-able."""

    target: str = ""  # module:function
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    executor: Executor = Executor.PROCESS
    interpreter: str = "python3"  # without a slash it is looked for on the run's PATH
    python_path: tuple[str, ...] = ()  # before everything else that the interpreter would search
    host_runs: int = PYTHON_HOST_RUNS_DEFAULT  # threads or coroutines in one process
    worker_runs: int = PYTHON_WORKER_RUNS_DEFAULT  # then a process is replaced


class Job(Struct, frozen=True, kw_only=True):
    """One job, every default resolved. Durations in seconds, sizes in bytes."""

    name: str
    command: tuple[str, ...] | None = None  # exactly one of command, shell and python
    shell: str | None = None
    python: Python | None = None
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
    uses: dict[str, int] = {}  # units of shared resources held while it runs
    only_during: tuple[Window, ...] = ()  # a fire passes only while every one of these is open
    not_during: tuple[Window, ...] = ()  # … and none of these
    hooks: HookLists = HookLists()
    expected_s: float | None = None  # None: its own p99
    ping: Ping = Ping()
    on_interrupted: OnInterrupted = OnInterrupted.IGNORE
    run_as: RunAs = RunAs()
    limits: Limits = Limits()
    memory_bytes: int | None = None  # what the first runs will need at most, as a person knows it; None: learned
    cpu_cores: float | None = None  # … and will use
    oom_score_adj: int | None = None  # −1000 to 1000; None: the keeper's
    source: str = ""  # "path:line" of the definition, for messages; not part of what the job is

    def same_as(self, other: "Job") -> bool:
        """Equal but for where it is written: moving a job between files changes nothing."""
        if self != (other if self.source == other.source else replace(other, source=self.source)):
            return False
        return self.python is None or written(self.python) == written(other.python)


def written(python: Python | None) -> bytes:
    """A call as bytes, for == takes 1, 1.0 and true for the same argument."""
    return msgspec.msgpack.encode(python, order="deterministic")
