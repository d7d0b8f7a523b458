"""What the engine tells its shell to do, in order. The order is the durability rule: a Record that stands
before a Start is written before that Start is performed."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from tidegate.model.event import Event
from tidegate.model.job import Job
from tidegate.model.lease import Lease
from tidegate.model.plan import Diff
from tidegate.model.run import Run


class Fact(StrEnum):
    """The fixed words of the record stream; they are also the `event` field of logs."""

    RUN_HELD = "run.held"
    RUN_QUEUED = "run.queued"
    RUN_ARMED = "run.armed"  # it waits for a slot, and may start without another word
    RUN_UNARMED = "run.unarmed"  # it waits, and may not
    RUN_STARTING = "run.starting"
    RUN_STARTED = "run.started"
    RUN_RECOVERED = "run.recovered"
    RUN_RESTORED = "run.restored"  # it waited when an earlier life of the daemon ended, and waits again
    RUN_STOPPING = "run.stopping"
    RUN_RETRYING = "run.retrying"  # one attempt ended, another will follow; run.outcome is the attempt's
    RUN_FINISHED = "run.finished"
    RUN_SKIPPED = "run.skipped"
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    CONFIG_RELOADED = "config.reloaded"
    POOL_RESIZED = "pool.resized"
    POOL_BLIND = "pool.blind"  # what the limit is moved by cannot be read, or can again; the reason says which
    MEMORY_TIER = "memory.tier"  # how short memory is: 0 not at all, 1 nothing starts, 2 runs are frozen, 3 killed
    RUN_FROZEN = "run.frozen"
    RUN_THAWED = "run.thawed"
    RUN_EVICTED = "run.evicted"  # killed for want of memory, to be tried again; not one of its own tries
    DAEMON_DRAINING = "daemon.draining"
    DAEMON_DRAINED = "daemon.drained"
    REQUEST_REFUSED = "request.refused"
    LEASE_WAITING = "lease.waiting"  # units of a resource are asked for, and not free
    LEASE_GRANTED = "lease.granted"
    LEASE_ENDED = "lease.ended"  # given back, or its holder ended, or it was not granted in time
    CALENDAR_OPENED = "calendar.opened"
    CALENDAR_CLOSED = "calendar.closed"
    STARTS_HELD = "starts.held"  # nothing starts, and the reason says why
    STARTS_RESUMED = "starts.resumed"
    DAEMON_STARTED = "daemon.started"
    DAEMON_LEFT = "daemon.left"  # ended with runs left to the keeper
    CLOCK_STEPPED = "clock.stepped"


class Resize(Struct, frozen=True):
    """The limit of the pool was moved."""

    before: int
    after: int
    word: str  # why: cpu, io, foreign …, for a label

    @property
    def direction(self) -> str:
        """up or down"""
        return "up" if self.after > self.before else "down"


class Record(Struct, frozen=True, kw_only=True):
    """One fact, many readers: history, metrics, logs, API and hooks read this stream and nothing else."""

    fact: Fact
    at: datetime  # wall, UTC
    job: str = ""
    run: Run | None = None  # the run after the transition
    reason: str = ""  # why, as a sentence
    lateness_s: float | None = None  # run.queued: due → queued
    wait_s: float | None = None  # run.starting: queued → handed to the executor
    diff: Diff | None = None  # config.reloaded
    count: int = 1  # fires that one run.skipped record stands for
    lease: Lease | None = None  # lease.*
    resize: Resize | None = None  # pool.resized
    tier: int = 0  # memory.tier
    asked: Event | None = None  # request.refused: this very request


class Start(Struct, frozen=True):
    """Start one attempt of a run."""

    run: Run
    job: Job
    memory_bytes: int = 0  # that it is taken to need


class SignalTree(Struct, frozen=True):
    """Send a signal to every process of an attempt's tree."""

    run_id: str
    attempt: int
    signal: int


class Freeze(Struct, frozen=True):
    """Hold every process of an attempt's tree still."""

    run_id: str
    attempt: int


class Thaw(Struct, frozen=True):
    """Let it go on."""

    run_id: str
    attempt: int


class RetireIdle(Struct, frozen=True):
    """Warm workers that do nothing end, the largest first, until so many are left, those at work among them. Memory is
    short: none stays idle. Or the limit fell: what is beyond it is not needed."""

    keep: int = 0


class Acknowledge(Struct, frozen=True):
    """The end of this attempt is on record; its keeper may forget it."""

    run_id: str
    attempt: int


Command = Record | Start | SignalTree | Freeze | Thaw | RetireIdle | Acknowledge
