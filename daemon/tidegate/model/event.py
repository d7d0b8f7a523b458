"""What happens to the engine. Events carry facts from the shells; the time is handed in beside them."""

from datetime import datetime

from msgspec import Struct

from tidegate.model.job import Job
from tidegate.model.lease import Lease
from tidegate.model.plan import Plan
from tidegate.model.run import Cause, Outcome, Run, Usage
from tidegate.model.sample import Sample


class Now(Struct, frozen=True):
    """Both readings of one instant: fires are wall time, deadlines are monotonic."""

    wall: datetime  # aware, UTC
    mono_s: float


class PlanLoaded(Struct, frozen=True):
    """A configuration was read and is good. The first one starts the engine, later ones are reloads."""

    plan: Plan
    slots: int | None = None  # a limit that nothing moves; None: what [pool] says
    cores: float = 1.0  # usable by us now


class Fired(Struct, frozen=True):
    """A trigger is due. More than one instant where a wake-up came late; oldest first."""

    job: str
    times: tuple[datetime, ...]  # aware, UTC, rising
    cause: Cause = Cause.SCHEDULE
    older_missed: bool = False  # there were more missed instants before times[0] than are listed
    down_until: datetime | None = None  # instants before this came while no daemon was there: missed, however recent


class Triggered(Struct, frozen=True):
    """A person or a program asked for a run now."""

    job: str
    request_id: str
    by: str
    args: dict[str, str] = {}


class Started(Struct, frozen=True):
    """The executor started an attempt."""

    run_id: str
    attempt: int
    pid: int
    pid_start: int | None = None  # clock ticks from boot
    note: str = ""  # what of the job's limits is kept less than it says, as a sentence


class StartFailed(Struct, frozen=True):
    """The attempt could not be started; `reason` is a sentence for a person."""

    run_id: str
    attempt: int
    reason: str
    transient: bool = False  # the machine is short of something (EAGAIN, ENOMEM, EMFILE): worth trying again as it is


class Exited(Struct, frozen=True):
    """An attempt ended. Exactly one of exit_code and signal is set, or neither where it cannot be known."""

    run_id: str
    attempt: int
    exit_code: int | None
    signal: int | None
    usage: Usage
    duration_s: float | None = None  # as its keeper saw it; None: from the Started and Exited events
    oom: bool = False  # the kernel killed something of it for want of memory
    timed_out: bool = False  # its keeper ended it at its time-out while no supervisor was there
    result: str | None = None  # JSON text: what a python job returned
    error: str = ""  # of a python job: the traceback, or why its result is not kept


class Recovered(Struct, frozen=True):
    """A keeper that outlived its supervisor still holds this attempt; its end, if it has ended, follows as Exited."""

    run: Run
    job: Job
    pid: int
    pid_start: int | None = None
    frozen_s: float = 0.0  # held still by an earlier life, altogether: its time-out stood still, too
    frozen: bool = False  # and is so now


class Restored(Struct, frozen=True):
    """A run that history has as waiting (HELD, QUEUED, RETRYING), or as STARTING though it provably never started.

    `job` is the definition of today's plan; None: there is none any more.
    """

    run: Run
    job: Job | None


class Interrupted(Struct, frozen=True):
    """A run that history has as active, and whose end nobody can tell: `outcome` is `unknown` or `interrupted`; of one
    that was stopped before it had begun, what it was stopped as."""

    run: Run
    job: Job | None
    outcome: Outcome
    reason: str
    gone: bool  # nothing of it runs any more, so that it may be rerun


class PausesRestored(Struct, frozen=True):
    """Jobs that were paused when the daemon ended."""

    jobs: frozenset[str]


class ClaimRefused(Struct, frozen=True):
    """History has a run for this fire already: this one must not start."""

    run_id: str
    by_run_id: str


class WindowChanged(Struct, frozen=True):
    """A calendar opened or closed."""

    calendar: str
    open: bool


class StartsHeld(Struct, frozen=True):
    """Something outside the engine must be mended before anything may start; an empty reason lifts it."""

    gate: str  # history | storage
    reason: str


class LeaseRequested(Struct, frozen=True):
    """Somebody asks for units of shared resources. Answered by lease records."""

    lease: Lease
    wait_s: float | None  # not granted within this: it ends; None: waits for ever


class LeaseReleased(Struct, frozen=True):
    """The holder gave it back or ended, or nobody waits for it any more."""

    lease_id: str
    reason: str


class LeaseRestored(Struct, frozen=True):
    """A lease that history has as granted, and whose holder is alive."""

    lease: Lease


class RunUse(Struct, frozen=True):
    """What one attempt holds of the machine now."""

    run_id: str
    attempt: int
    memory_bytes: int


class RunsUsed(Struct, frozen=True):
    """What the running attempts hold, as their keeper sees it."""

    uses: tuple[RunUse, ...]
    afresh: bool = False  # looked at just now; else at the keeper's own pace, up to seconds ago


class Sensed(Struct, frozen=True):
    """A look at the machine. What cannot be known is None."""

    available_bytes: int | None  # memory that can still be taken
    limit_bytes: int | None  # all that could ever be
    sample: Sample | None = None  # everything, at the controller's pace


class LearnedRestored(Struct, frozen=True):
    """What an earlier life learned of jobs, as it wrote it down (JSON), by name."""

    values: dict[str, str]


class KeeperLost(Struct, frozen=True):
    """The keeper died; the fate of what it held cannot be known."""

    reason: str
    alive: frozenset[str] = frozenset()  # ids of runs whose leader is seen to go on without it


class CancelRequested(Struct, frozen=True):
    """End this run: TERM to its tree, then KILL."""

    run_id: str
    by: str


class PauseRequested(Struct, frozen=True):
    """No new fires of this job, and no queued run of it starts."""

    job: str
    by: str


class ResumeRequested(Struct, frozen=True):
    """Undo a pause."""

    job: str
    by: str


class DrainRequested(Struct, frozen=True):
    """Start nothing new; let what runs end within timeout_s, then TERM, then KILL."""

    timeout_s: float
    by: str


class StopRequested(Struct, frozen=True):
    """KILL every tree now and end."""

    by: str


Event = (
    PlanLoaded
    | Fired
    | Triggered
    | Started
    | StartFailed
    | Exited
    | Recovered
    | Restored
    | Interrupted
    | PausesRestored
    | ClaimRefused
    | WindowChanged
    | StartsHeld
    | LeaseRequested
    | LeaseReleased
    | LeaseRestored
    | RunsUsed
    | Sensed
    | LearnedRestored
    | KeeperLost
    | CancelRequested
    | PauseRequested
    | ResumeRequested
    | DrainRequested
    | StopRequested
)
