"""What must be true of the account across crashes: it is held against the schedules and against what really became of
each attempt. Pure. Call it as one of the world's `on_commit`; it sees what is on record and nothing else.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Fact, Record
from tidegate.model.event import Now
from tidegate.model.job import CatchUp, Job, OnInterrupted
from tidegate.model.limits import CATCH_UP_FIRES_MAX, MISSED_S, RERUNS_MAX
from tidegate.model.run import Cause, Outcome, Run, Skip, State
from tidegate.simulate.book import timing
from tidegate.simulate.work import Key, Truth
from tidegate.simulate.world import Turn, World
from tidegate.triggers.build import build
from tidegate.triggers.fire import FireTrigger

TICK: Final = timedelta(microseconds=1)
EVERYTHING: Final = 10_000_000


class AccountError(AssertionError):
    """The account is not what the world was."""


class Epoch(Struct):
    """One schedule of a job, from when it became known."""

    timing: tuple[object, ...]
    trigger: FireTrigger
    since: datetime
    fires: set[datetime]  # that have a row of their own
    spans: list[tuple[datetime, datetime]]  # (after, until] that one row stands for
    newest: datetime


class Account:
    """No fire is lost or doubled; nothing is said of an attempt that is not so. At most one start of an attempt is
    Work's own to see to."""

    def __init__(self) -> None:
        self.instants = 0  # scheduled ones that were checked
        self.claimed: dict[str, Run] = {}  # unended, as last recorded
        self._epochs: dict[str, Epoch] = {}
        self._claims: set[tuple[str, datetime, int]] = set()
        self._boots: set[tuple[str, str]] = set()
        self._asked: dict[str, tuple[str, str]] = {}  # by run, keeper and boot of its latest attempt
        self._life = 0

    def __call__(self, world: World, turn: Turn, now: Now) -> None:
        if world.lives != self._life:  # what it read at its start was the plan of this moment
            self._life = world.lives
            self._plan(world.began_jobs, world.began_wall, graceful=False)
        for record in turn.records:
            run = record.run
            if run is None or run.run_id in world.book.orphans:
                continue
            if run.run_id not in self.claimed:
                self._claim(world, record, run)
            match record.fact:
                case Fact.RUN_ARMED:
                    self._asked[run.run_id] = (turn.keeper, world.boot_id)
                case Fact.RUN_STARTING:
                    self._asked[run.run_id] = (turn.keeper, world.boot_id)
                    _check(run.job not in world.book.paused, f"{run.run_id} started though {run.job} is paused")
                case Fact.RUN_RETRYING | Fact.RUN_FINISHED:
                    self._attempt_ended(world, run, record.fact is Fact.RUN_RETRYING, now)
                case _:
                    pass
            if run.state in (State.FINISHED, State.SKIPPED):
                self.claimed.pop(run.run_id, None)
                self._asked.pop(run.run_id, None)
            else:
                self.claimed[run.run_id] = run
        for jobs, at in turn.plans:  # what was due before is among the records
            self._plan(jobs, at, graceful=True)

    def at_rest(self, world: World) -> None:
        """When all load has ceased: each instant up to now has its account, and nothing goes on that has ended."""
        self._plan({}, world.clock.wall(), graceful=True)
        _check(not self.claimed, f"without an end: {sorted(self.claimed)[:5]}")
        _check(not world.book.rows, f"without an end in the book: {sorted(world.book.rows)[:5]}")
        _check(not world.work.running, f"runs on: {list(world.work.running)[:5]}")
        _check(not world.work.held, f"never acknowledged: {list(world.work.held)[:5]}")

    # --- fires ------------------------------------------------------------------------------------------

    def _plan(self, jobs: dict[str, Job], at: datetime, *, graceful: bool) -> None:
        """These are the schedules from here on. What was until now must be complete: up to this instant, or, where a
        schedule was changed while the daemon was down, up to the newest fire on record."""
        for name, epoch in list(self._epochs.items()):
            job = jobs.get(name)
            if job is None or timing(job) != epoch.timing:
                self._complete(name, epoch, at if graceful else epoch.newest)
                del self._epochs[name]
        for name, job in jobs.items():
            trigger = build(job) if name not in self._epochs and job.enabled else None
            if trigger is not None:
                self._epochs[name] = Epoch(timing(job), trigger, at, set(), [], at)

    def _complete(self, name: str, epoch: Epoch, until: datetime) -> None:
        due, _ = epoch.trigger.missed(epoch.since, until, EVERYTHING)
        self.instants += len(due)
        lost = [
            instant
            for instant in due
            if instant not in epoch.fires and not any(after < instant <= upto for after, upto in epoch.spans)
        ]
        _check(
            not lost,
            f"{name}: {len(lost)} of {len(due)} fires have no account: {[f'{at:%F %T.%f}' for at in lost[:3]]}",
        )

    def _claim(self, world: World, record: Record, run: Run) -> None:
        if run.cause is Cause.BOOT:
            key = (run.job, world.boot_id)
            _check(key not in self._boots, f"{run.job} fired twice in {world.boot_id}")
            self._boots.add(key)
        if run.cause is not Cause.SCHEDULE:
            return
        claim = (run.job, run.scheduled_at, world.book.era)
        _check(claim not in self._claims, f"{run.job} at {run.scheduled_at} is on record twice")
        self._claims.add(claim)
        epoch = self._epochs.get(run.job)
        _check(epoch is not None, f"{run.job} fired without a schedule")
        assert epoch is not None
        if run.skip is Skip.CATCH_UP:
            self._passed_over(world.dispatcher, record, run, epoch, world.began_wall)
        else:
            epoch.fires.add(run.scheduled_at)
        epoch.newest = max(epoch.newest, run.scheduled_at)

    @staticmethod
    def _passed_over(dispatcher: Dispatcher, record: Record, run: Run, epoch: Epoch, began: datetime) -> None:
        """One row stands for all from the newest fire before it; only what was missed may be passed over."""
        before = [at for at in (*epoch.fires, *(upto for _, upto in epoch.spans)) if at < run.scheduled_at]
        epoch.spans.append((max(before, default=epoch.since - TICK), run.scheduled_at))
        missed = run.scheduled_at < max(record.at - timedelta(seconds=MISSED_S), began)
        _check(missed, f"{run.job} at {run.scheduled_at} was passed over, but not missed")
        job = dispatcher.jobs.get(run.job)
        if job is not None and job.catch_up is CatchUp.ALL:
            old = run.scheduled_at < record.at - timedelta(seconds=job.catch_up_window_s)
            many = f"{CATCH_UP_FIRES_MAX}" in record.reason
            _check(old or many, f"{run.job} at {run.scheduled_at} was passed over under catch_up = all")

    # --- attempts ---------------------------------------------------------------------------------------

    def _attempt_ended(self, world: World, run: Run, again: bool, now: Now) -> None:
        key: Key = (run.run_id, run.attempt)
        before = self.claimed.get(run.run_id)
        truth = world.work.truth.get(key)
        job = world.dispatcher.job_of(run.run_id) or world.plan.jobs.get(run.job)
        match run.outcome:
            case Outcome.SUCCEEDED:
                true = truth is not None and truth.ended and truth.exit_code == 0
            case Outcome.FAILED:
                true = truth is not None and truth.ended and truth.exit_code != 0
            case Outcome.FAILED_TO_START:
                true = truth is None
            case Outcome.UNKNOWN | Outcome.INTERRUPTED:
                true = self._is_lost(world, run, truth)
            case _:
                true = truth is None or truth.ended or truth.lost
        if (
            run.outcome not in (Outcome.UNKNOWN, Outcome.INTERRUPTED)
            and before is not None
            and before.state is State.STOPPING
        ):
            true = true and (run.outcome is before.stop)
        _check(true, f"{key} is said to have {run.outcome} ({run.reason}), but the truth is {truth}")
        if not again or job is None:
            return
        lost = run.outcome in (Outcome.UNKNOWN, Outcome.INTERRUPTED)
        tries = job.retries.max + (RERUNS_MAX if job.on_interrupted is OnInterrupted.RERUN else 0)
        _check(run.attempt <= tries, f"{key} is tried again, but {tries} tries beyond the first are all")
        if lost:
            _check(job.on_interrupted is OnInterrupted.RERUN, f"{key} is run again though nobody asked for that")
            goes_on = run.pid is not None and world.work.alive(run.pid, run.pid_start or 0, now.mono_s)
            _check(not goes_on, f"{key} is run again while its process goes on")

    def _is_lost(self, world: World, run: Run, truth: Truth | None) -> bool:
        """Only a keeper that died, alone or with its machine, makes an end unknowable."""
        keeper, boot_id = self._asked.get(run.run_id, ("", world.boot_id))
        if run.outcome is Outcome.INTERRUPTED:
            return boot_id != world.boot_id
        return keeper in world.work.lost_instances if truth is None else truth.lost


def _check(true: bool, message: str) -> None:
    if not true:
        raise AccountError(message)
