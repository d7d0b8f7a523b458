"""What to tell the engine at a start: history's account of the runs that had not ended, held against what the keeper
holds. Pure but for the questions that it is handed; it guesses nothing: what cannot be known is told as such.

A run that history has as active is
- under the keeper still (or ended there, its status kept): it goes on, with its true status;
- provably not begun: it was to be started by the very keeper that answers now, or that left with empty hands, and that
  keeper never held it. It waits again and runs once;
- provably not begun, and stopped before that (it was replaced, cancelled): it is over, as what it was stopped as;
- armed (engine/arming.py): it stands as waiting, and may have begun all the same; the same holds for it;
- neither: `interrupted` where the machine was restarted since, else `unknown`.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from tidegate.engine.verdict import goes_on
from tidegate.model.event import Event, Exited, Interrupted, Recovered, Restored
from tidegate.model.job import Job
from tidegate.model.run import Outcome, Run, State

ACTIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
NOT_BEGUN = frozenset({State.STARTING, State.QUEUED})  # as far as is on record


class Row(Protocol):
    """A run that has no end on record."""

    @property
    def run(self) -> Run: ...

    @property
    def boot_id(self) -> str:
        """Of the boot in which its latest attempt was to start."""

    @property
    def keeper(self) -> str:
        """The instance that was asked to start it; "": none was."""


class Held(Protocol):
    """An attempt that a keeper holds."""

    @property
    def run_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def pid(self) -> int: ...

    @property
    def pid_start(self) -> int | None: ...

    @property
    def started_mono_s(self) -> float: ...

    @property
    def run(self) -> Run | None:
        """As it was when it was started; None where an unknown version wrote it."""

    @property
    def job(self) -> Job | None: ...

    @property
    def exited(self) -> Exited | None:
        """None: it still runs."""

    @property
    def frozen_s(self) -> float:
        """Held still by us until now, altogether."""

    @property
    def frozen(self) -> bool:
        """It is so now."""

    @property
    def timed_out(self) -> bool:
        """The keeper ended it at its time-out, as no supervisor was there."""


AnyHeld = TypeVar("AnyHeld", bound=Held)


class Facts(Struct, frozen=True):
    """What is known beside history's rows."""

    boot_id: str
    keeper: str  # instance that answers now
    left_clean: str  # instance that left holding nothing; "" if none did
    now: datetime
    mono_s: float
    alive: Callable[[int, int], bool]  # whether the process of this pid and start goes on
    ended: Callable[[str], bool]  # whether history has this run as ended


class Findings(Struct, Generic[AnyHeld], frozen=True):
    """Events for the engine, oldest run first; attempts whose end is on record; attempts that nobody knows."""

    events: tuple[Event, ...]
    acknowledge: tuple[AnyHeld, ...]
    strays: tuple[AnyHeld, ...]

    @property
    def text(self) -> str:
        """How many of what, for people."""
        kinds = {"running": Recovered, "waiting": Restored, "of unknown fate": Interrupted}
        counts = {word: sum(isinstance(event, kind) for event in self.events) for word, kind in kinds.items()}
        return "found " + ", ".join(f"{count} {word}" for word, count in counts.items())


def reconcile(unended: Iterable[Row], held: Iterable[AnyHeld], jobs: dict[str, Job], facts: Facts) -> Findings[AnyHeld]:
    """Decide what became of every run. Ends that were kept come last: what an end sets off must find all others."""
    by_attempt = {(one.run_id, one.attempt): one for one in held}
    events: list[Event] = []
    ends: list[Event] = []
    acknowledge: list[AnyHeld] = []
    for row in unended:
        run = row.run
        one = by_attempt.pop((run.run_id, run.attempt), None)
        if run.state is State.RETRYING or (one is None and run.state not in ACTIVE and not row.keeper):
            events.append(Restored(run, jobs.get(run.job)))
            if one is not None:
                acknowledge.append(one)  # the end of this attempt is on record, only that was not told any more
        elif one is not None:
            events.append(_goes_on(run, one, jobs, facts))
            ends += _kept_end(one)
        else:
            events.append(_vanished(row, jobs.get(run.job), facts))
    strays: list[AnyHeld] = []
    for one in by_attempt.values():
        if facts.ended(one.run_id):
            if one.exited is not None:
                acknowledge.append(one)  # else its end is heard, and answered, when it comes
        elif one.run is None:
            strays.append(one)
        else:
            events.append(_goes_on(one.run, one, jobs, facts))
            ends += _kept_end(one)
    return Findings((*events, *ends), tuple(acknowledge), tuple(strays))


def _goes_on(run: Run, one: Held, jobs: dict[str, Job], facts: Facts) -> Recovered:
    """The keeper has it. It knows when it began; the run was written down before that, and may have waited for long."""
    age_s = max(0.0, facts.mono_s - one.started_mono_s)
    job = one.job or jobs.get(run.job) or Job(name=run.job)
    run = replace(run, started_at=facts.now - timedelta(seconds=age_s))
    return Recovered(run, job, one.pid, one.pid_start, one.frozen_s, one.frozen)


def _kept_end(one: Held) -> list[Event]:
    return [] if one.exited is None else [replace(one.exited, timed_out=one.timed_out)]


def _vanished(row: Row, job: Job | None, facts: Facts) -> Event:
    run = row.run
    rebooted = bool(row.boot_id) and bool(facts.boot_id) and row.boot_id != facts.boot_id
    proof = bool(row.keeper) and row.keeper in (facts.keeper, facts.left_clean) and not rebooted
    if run.state in NOT_BEGUN and proof:
        return Restored(run, job)
    if run.state is State.STOPPING and run.pid is None and proof:  # else its keeper would hold its end
        never = f"{run.reason}; it had not begun" if run.reason else "it had not begun"
        return Interrupted(run, job, run.stop or Outcome.CANCELLED, never, False)
    if rebooted:
        word = "was about to start" if run.state in NOT_BEGUN else "ran"
        return Interrupted(run, job, Outcome.INTERRUPTED, f"the machine was restarted while it {word}", True)
    if run.pid is None or run.pid_start is None:
        reason = "the keeper ended while tidegate was down; whether it had begun cannot be known"
        return Interrupted(run, job, Outcome.UNKNOWN, reason, False)
    alive = facts.alive(run.pid, run.pid_start)
    reason = "the keeper ended while tidegate was down; its exit status cannot be known"
    if alive:
        reason += f"; {goes_on(run)}"
    return Interrupted(run, job, Outcome.UNKNOWN, reason, not alive)
