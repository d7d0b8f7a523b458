"""The dispatcher: decides what happens to every run. No I/O, no clock, no await.

`handle(events, now)` applies a batch and answers with commands in the order in which they must be performed;
`next_deadline()` is when it wants to be called again if nothing happens before.
"""

from collections.abc import Iterable
from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from tidegate.engine import fires, leases, restore
from tidegate.engine.lifecycle import NOT_STARTED
from tidegate.engine.live import Live
from tidegate.engine.pressure import Pressure
from tidegate.engine.runs import Runs
from tidegate.engine.verdict import goes_on
from tidegate.model.command import Acknowledge, Command, Fact, Record
from tidegate.model.event import (
    CancelRequested,
    ClaimRefused,
    DrainRequested,
    Event,
    Exited,
    Fired,
    Interrupted,
    KeeperLost,
    LearnedRestored,
    LeaseReleased,
    LeaseRequested,
    LeaseRestored,
    Now,
    PauseRequested,
    PausesRestored,
    PlanLoaded,
    Recovered,
    Restored,
    ResumeRequested,
    RunsUsed,
    Sensed,
    Started,
    StartFailed,
    StartsHeld,
    StopRequested,
    Triggered,
    WindowChanged,
)
from tidegate.model.job import Job
from tidegate.model.plan import Plan, diff
from tidegate.model.run import Cause, Outcome, Run, Skip, State
from tidegate.model.view import ResourceView

STOPPING_REASON: Final = "tidegate is stopping"


class Counts(Struct, frozen=True):
    """How full the pool is."""

    limit: int
    running: int  # holds a slot
    frozen: int  # … and is held still
    queued: int  # HELD and QUEUED
    retrying: int


class Dispatcher:
    """The engine. One instance for the life of a shell; `salt` keeps its run ids apart from other lives'."""

    def __init__(self, salt: int = 0) -> None:
        self._jobs: dict[str, Job] = {}
        self._plan = Plan()
        self._first: Plan | None = None  # without its jobs: what was read once, as the daemon began
        self._downstream: dict[str, list[Job]] = {}
        self._runs = Runs(salt)
        self.pressure = Pressure(self._runs)  # how the machine stands, and what was learned of jobs
        self._draining = False
        self._drained = False
        self._stop_reason = ""  # why nothing may go on running; empty while it may

    # --- what shells call -----------------------------------------------------------------------------

    def handle(self, events: list[Event], now: Now) -> list[Command]:
        """Apply events in order, then what is due, then start what may start."""
        runs = self._runs
        out: list[Command] = []
        runs.out = out
        for event in events:
            self._apply(event, now)
            if runs.succeeded:
                self._fire_downstream(now)
        while (due := runs.deadlines.pop_due(now.mono_s)) is not None:
            self._expire(due[0], due[1], now)
        if self._draining:
            self._finish_drain(now)
        else:
            runs.admit(now)
        leases.grant(runs, now)
        return out

    def next_deadline(self) -> float | None:
        """Monotonic seconds at which `handle` must be called even without an event; None: never."""
        return self._runs.deadlines.next()

    def runs(self) -> list[Run]:
        """Every run that has not ended, oldest first."""
        return [live.run for live in self._runs.lives.values()]

    def run(self, run_id: str) -> Run | None:
        """A run that has not ended."""
        live = self._runs.lives.get(run_id)
        return live.run if live else None

    def is_busy(self, job: str) -> bool:
        """Whether a run of this job has not ended."""
        return job in self._runs.by_job

    def runs_of(self, job: str) -> list[Run]:
        """Runs of a job that have not ended, oldest first."""
        return [live.run for live in self._runs.by_job.get(job, ())]

    def resources(self) -> list[ResourceView]:
        """Every shared resource: units, who holds them, who waits."""
        return self._runs.resources.views()

    @property
    def resource_units(self) -> dict[str, tuple[int, int]]:
        """Units that exist and units in use, by resource."""
        return self._runs.resources.used()

    @property
    def starts_held(self) -> str:
        """Why nothing starts at all; "" where starts go on."""
        return "; ".join(self._runs.held.reasons.values())

    def held_by(self, gate: str) -> str:
        """Why this gate lets nothing start; "" where it does."""
        return self._runs.held.reasons.get(gate, "")

    @property
    def blocked_s(self) -> dict[str, float]:
        """For how long each gate has held back whoever was next, in seconds."""
        return self._runs.blocked.seconds

    def job_of(self, run_id: str) -> Job | None:
        """The definition a run that has not ended was fired with."""
        live = self._runs.lives.get(run_id)
        return live.job if live else None

    def waiting(self, now: Now, limit: int) -> list[tuple[Run, str, str]]:
        """The first queued runs in order, each with the name of the gate that holds it and the reason."""
        return self._runs.held_by_gate(now, limit)

    def counts(self) -> Counts:
        """Totals over all runs that have not ended."""
        queued = sum(live.run.state in NOT_STARTED for live in self._runs.lives.values())
        running = self._runs.pool.used
        retrying = len(self._runs.lives) - queued - running
        return Counts(self._runs.pool.limit, running, self._runs.frozen, queued, retrying)

    @property
    def jobs(self) -> dict[str, Job]:
        """The live plan's jobs by name."""
        return self._jobs

    @property
    def paused(self) -> frozenset[str]:
        """Names of the paused jobs."""
        return frozenset(self._runs.pause.jobs)

    @property
    def draining(self) -> bool:
        """Nothing starts any more, also where somebody asks for it."""
        return self._draining

    @property
    def drained(self) -> bool:
        """Draining is over: nothing runs and nothing will."""
        return self._drained

    # --- events ---------------------------------------------------------------------------------------

    def _apply(self, event: Event, now: Now) -> None:
        match event:
            case Fired():
                self._fired(event, now)
            case Started():
                live = self._attempt(event.run_id, event.attempt)
                if live:
                    self._runs.started(live, event, now)
            case Exited():
                live = self._attempt(event.run_id, event.attempt)
                if live:
                    self._runs.exited(live, event, now)
                else:  # its end is on record, or nobody knows it: its keeper need not hold it for ever
                    self._runs.out.append(Acknowledge(event.run_id, event.attempt))
            case StartFailed():
                live = self._attempt(event.run_id, event.attempt)
                if live:
                    self._runs.start_failed(live, event, now)
            case KeeperLost():
                for live in self._runs.active():
                    gone = live.run.run_id not in event.alive
                    reason = event.reason if gone else f"{event.reason}; {goes_on(live.run)}"
                    self._runs.unknown(live, Outcome.UNKNOWN, reason, now, gone=gone)
            case PlanLoaded():
                self._plan_loaded(event, now)
            case Recovered() | Restored() | Interrupted() | PausesRestored() | LeaseRestored():
                self._restore(event, now)
            case LeaseRequested() | LeaseReleased() | WindowChanged() | StartsHeld() | ClaimRefused():
                self._outside(event, now)
            case Sensed() | RunsUsed() | LearnedRestored():
                self._seen(event, now)
            case _:
                self._asked(event, now)

    def _asked(
        self,
        event: Triggered | CancelRequested | PauseRequested | ResumeRequested | DrainRequested | StopRequested,
        now: Now,
    ) -> None:
        """What a person or a program wants."""
        match event:
            case Triggered():
                self._triggered(event, now)
            case CancelRequested():
                self._cancel(event, now)
            case PauseRequested() | ResumeRequested():
                self._set_pause(event, now)
            case DrainRequested():
                self._drain(event, now)
            case StopRequested():
                self._stop_now(event, now)
            case _:
                assert_never(event)

    def _restore(self, event: Recovered | Restored | Interrupted | PausesRestored | LeaseRestored, now: Now) -> None:
        """What an earlier life left."""
        match event:
            case Recovered():
                live = restore.running(self._runs, event, now)
                if live is not None and self._stop_reason and live.run.state is not State.STOPPING:
                    self._runs.stop(live, Outcome.CANCELLED, self._stop_reason, now)
            case Restored():
                restore.waiting(self._runs, event.run, event.job, now)
            case Interrupted():
                restore.interrupted(self._runs, event, now)
            case PausesRestored():
                self._runs.pause.jobs |= event.jobs
            case LeaseRestored():
                self._runs.resources.restore(event.lease)
            case _:
                assert_never(event)

    def _outside(
        self, event: LeaseRequested | LeaseReleased | WindowChanged | StartsHeld | ClaimRefused, now: Now
    ) -> None:
        """What the world around the runs does."""
        match event:
            case LeaseRequested():
                leases.ask(self._runs, event, now)
            case LeaseReleased():
                leases.end(self._runs, event.lease_id, event.reason, now)
            case WindowChanged():
                self._runs.windows.set(event.calendar, event.open)
                fact = Fact.CALENDAR_OPENED if event.open else Fact.CALENDAR_CLOSED
                word = "opened" if event.open else "closed"
                self._runs.out.append(Record(fact=fact, at=now.wall, reason=f"calendar {event.calendar} {word}"))
                self._runs.waiting.unpark()
            case StartsHeld():
                self._runs.hold(event.gate, event.reason, now)
            case ClaimRefused():
                live = self._runs.lives.get(event.run_id)
                if live is not None:
                    self._runs.refuse_claim(live, event.by_run_id, now)
            case _:
                assert_never(event)

    def _seen(self, event: Sensed | RunsUsed | LearnedRestored, now: Now) -> None:
        """What is known of the machine and of what runs take of it."""
        match event:
            case Sensed():
                self.pressure.sensed(event, now)
            case RunsUsed():
                self.pressure.used(event, now)
            case LearnedRestored():
                self.pressure.restore(event)
            case _:
                assert_never(event)

    def _attempt(self, run_id: str, attempt: int) -> Live | None:
        """The run an executor speaks of; None for an attempt that is over (a late word about it changes nothing)."""
        live = self._runs.lives.get(run_id)
        if live is None or live.run.attempt != attempt:
            return None
        return live if live.run.state in (State.STARTING, State.RUNNING, State.STOPPING) else None

    def _fired(self, event: Fired, now: Now) -> None:
        job = self._jobs.get(event.job)
        if job is None or not job.enabled:
            self._refuse(event.job, now, "it fired after it had been removed or disabled", len(event.times))
        else:
            fires.scheduled(self._runs, job, event, now)

    def _triggered(self, event: Triggered, now: Now) -> None:
        job = self._jobs.get(event.job)
        if job is None:
            self._refuse(event.job, now, f"{event.by} asked for a run, but there is no such job", asked=event)
        elif self._draining:
            self._refuse(event.job, now, f"{event.by} asked for a run, but {STOPPING_REASON}", asked=event)
        else:
            fires.offer(self._runs, job, now.wall, Cause.MANUAL, now, request_id=event.request_id, args=event.args)

    def _fire_downstream(self, now: Now) -> None:
        succeeded, self._runs.succeeded = self._runs.succeeded, []
        for run in succeeded:
            for job in self._downstream.get(run.job, ()):
                fires.offer(self._runs, job, now.wall, Cause.AFTER, now)

    def _plan_loaded(self, event: PlanLoaded, now: Now) -> None:
        before, self._plan, self._jobs = self._plan, event.plan, event.plan.jobs
        self._downstream = {}
        for job in self._jobs.values():
            if job.enabled:
                for upstream in job.after:
                    self._downstream.setdefault(upstream, []).append(job)
        for name in self._runs.pause.jobs - self._jobs.keys():
            # Nobody could resume it any more, and its removal must not set free what the pause held back.
            self._withdraw_waiting(self._runs.by_job.get(name, []), "its job was removed while it was paused", now)
            self._runs.pause.jobs.discard(name)
        if self._first is None:
            self._first = replace(event.plan, jobs={})
        else:
            changes = diff(before, event.plan, self._first)
            self._runs.out.append(Record(fact=Fact.CONFIG_RELOADED, at=now.wall, diff=changes))
        self.pressure.load(event, now)
        self._runs.resources.load(event.plan.resources)
        leases.refuse(self._runs, now)
        self._runs.windows.keep(event.plan.calendars)
        self._runs.waiting.unpark()

    def _cancel(self, event: CancelRequested, now: Now) -> None:
        live = self._runs.lives.get(event.run_id)
        if live is None:
            reason = f"{event.by} asked to cancel run {event.run_id}, which is not there or has ended"
            self._refuse("", now, reason, asked=event)
            return
        reason = f"cancelled by {event.by}"
        match live.run.state:
            case State.HELD | State.QUEUED | State.RETRYING:
                self._runs.withdraw(live, Outcome.CANCELLED, reason, now)
            case State.STARTING | State.RUNNING:
                self._runs.stop(live, Outcome.CANCELLED, reason, now)
            case _:
                reason = f"{event.by} asked to cancel run {event.run_id}: it is being stopped"
                self._refuse(live.run.job, now, reason, asked=event)

    def _set_pause(self, event: PauseRequested | ResumeRequested, now: Now) -> None:
        if event.job not in self._jobs:
            reason = f"{event.by} asked to pause or resume it, but there is no such job"
            self._refuse(event.job, now, reason, asked=event)
            return
        if isinstance(event, PauseRequested):
            self._runs.pause.jobs.add(event.job)
            fact = Fact.JOB_PAUSED
        else:
            self._runs.pause.jobs.discard(event.job)
            fact = Fact.JOB_RESUMED
        self._runs.waiting.unpark()
        self._runs.out.append(Record(fact=fact, at=now.wall, job=event.job, reason=f"by {event.by}"))

    # --- the end of the daemon ------------------------------------------------------------------------

    def _drain(self, event: DrainRequested, now: Now) -> None:
        if self._draining:
            return
        self._draining = True
        running = self._runs.pool.used
        kept = len(self._runs.lives) - running
        later = f"; {kept} that wait are kept for the next start" if kept else ""
        reason = f"{event.by}: waits up to {event.timeout_s:.0f} s for {running} running{later}"
        self._runs.out.append(Record(fact=Fact.DAEMON_DRAINING, at=now.wall, reason=reason))
        self._runs.deadlines.add(now.mono_s + event.timeout_s, "drain", None)

    def _stop_now(self, event: StopRequested, now: Now) -> None:
        self._draining = True
        self._stop_reason = f"{event.by}: stop at once"
        for live in self._runs.active():
            if live.run.state is not State.STOPPING:
                self._runs.stop(live, Outcome.CANCELLED, self._stop_reason, now)
            self._runs.kill(live)

    def _withdraw_waiting(self, lives: Iterable[Live], why: str, now: Now) -> None:
        # Newest first: a HELD run must be gone before the one it waits for, or it would be promoted.
        for live in reversed(list(lives)):
            if live.run.state is State.RETRYING:
                outcome = live.run.outcome or Outcome.FAILED
                reason = f"{live.run.reason}; no further try: {why}"
                self._runs.withdraw(live, outcome, reason, now)
            elif live.run.state in NOT_STARTED:
                self._runs.withdraw(live, Outcome.CANCELLED, f"not started: {why}", now)

    def _finish_drain(self, now: Now) -> None:
        if not self._runs.pool.used and not self._drained:
            self._drained = True
            self._runs.out.append(Record(fact=Fact.DAEMON_DRAINED, at=now.wall))

    # --- deadlines ------------------------------------------------------------------------------------

    def _expire(self, kind: str, live: Live | None, now: Now) -> None:
        if live is None:
            self._expire_own(kind, now)
            return
        match kind:
            case "timeout":
                reason = f"ran longer than its timeout of {live.job.timeout_s:g} s"
                self._runs.stop(live, Outcome.TIMED_OUT, reason, now)
            case "kill":
                self._runs.kill(live)
            case "retry":
                self._runs.requeue(live, now)
            case "start":
                limit_s = live.job.start_deadline_s
                reason = f"not started within its start_deadline of {limit_s:g} s"
                self._runs.skip_live(live, Skip.START_DEADLINE, reason, now)
            case _:
                raise AssertionError(kind)

    def _expire_own(self, kind: str, now: Now) -> None:
        """A deadline that is no single run's."""
        match kind:
            case "drain":
                self._stop_reason = f"{STOPPING_REASON}: drain_timeout is over"
                for active in self._runs.active():
                    if active.run.state is not State.STOPPING:
                        self._runs.stop(active, Outcome.CANCELLED, self._stop_reason, now)
            case "executor":
                self._runs.hold("executor", "", now)
            case "lease":
                leases.expire(self._runs, now)
            case "armed":
                self._runs.disarm(now)
            case _:
                raise AssertionError(kind)

    def _refuse(self, job: str, now: Now, reason: str, count: int = 1, asked: Event | None = None) -> None:
        refused = Record(fact=Fact.REQUEST_REFUSED, at=now.wall, job=job, reason=reason, count=count, asked=asked)
        self._runs.out.append(refused)
