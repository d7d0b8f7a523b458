"""A plan replayed in virtual time: the real triggers, calendars and engine, with runs that share one machine. No faults
are injected and no record is kept (world.py does both); nothing runs and nothing is read.

The pool: as many slots as the plan says, and what the adaptive pool settles at, as two resources that each run takes of
for its predicted use. So runs are held in one line by age, as they are for resources of the person's own.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Command, Fact, Record, SignalTree, Start
from tidegate.model.event import Event, Exited, Fired, Now, PlanLoaded, Started, WindowChanged
from tidegate.model.job import During, Job
from tidegate.model.plan import Plan
from tidegate.model.pool import PoolSettings
from tidegate.model.run import Outcome, Run, Usage
from tidegate.simulate.outlook import Outlook
from tidegate.simulate.shares import Shares, slowing_max
from tidegate.simulate.tally import MINUTE_S, Level, Tally
from tidegate.triggers.build import build
from tidegate.triggers.calendar import CalendarWindow, build_window
from tidegate.triggers.fire import FireTrigger

CPU, MEMORY = "(cpu)", "(memory)"  # no resource of a person's can be named so
CORE_UNITS: Final = 1000
MEMORY_UNIT_BYTES: Final = 1024**2
FIRES_MAX: Final = 5_000_000  # some ten minutes of computing; a plan with more is looked at in parts
LOOKS: Final = 200  # times at which progress is told
QUEUED: Final = (Fact.RUN_QUEUED, Fact.RUN_HELD)
NO_USAGE: Final = Usage()  # the engine is not asked to learn here


class Capacity(Struct, frozen=True):
    """What there is to run on. `memory_bytes` None: not known, and no run waits for it."""

    cores: float
    memory_bytes: int | None  # for runs, without the reserve
    slots: int
    adaptive: bool  # whether CPU use holds starts back, as in the adaptive pool


class Ending(Struct, frozen=True):
    """How far a replay came."""

    at_s: float  # since its beginning
    fires: int
    complete: bool  # False: FIRES_MAX was reached
    running: int
    waiting: int


class Replay:
    """One replay of `plan` from `start` on, for as many whole minutes as `tally` has."""

    def __init__(
        self, plan: Plan, outlooks: dict[str, Outlook], capacity: Capacity, start: datetime, tally: Tally
    ) -> None:
        self._start = start
        self._tally = tally
        self._outlooks = outlooks
        self._shares = Shares(capacity.cores)
        self._memory_bytes = 0
        self._begun: dict[str, tuple[float, int, str]] = {}  # runs that have a process: since when, memory, job
        self._now_s = 0.0
        self._due_s: dict[str, float] = {}  # by id of a run that has not started: since when it may
        self._waiting: dict[str, bool] = {}  # by id: whether something else than a shared resource may hold it
        self._waiting_plain = 0
        self._deferred: dict[str, Job] = {}
        self._windows = {name: build_window(calendar) for name, calendar in plan.calendars.items()}
        self._open: set[str] = set()
        self._changes: list[tuple[float, str]] = []
        self._fires: list[tuple[float, str]] = []
        self._triggers: dict[str, FireTrigger] = {}
        self._dispatcher = Dispatcher()
        self._plan = fitted(plan, outlooks, capacity)
        self._plain = {job.name for job in plan.jobs.values() if not job.uses}
        self._defers = {job.name for job in plan.jobs.values() if defers(job)}
        most_cores = max((expected.most_cores for expected in outlooks.values()), default=0.0)
        self._slowing_max = slowing_max(capacity.slots * min(most_cores, capacity.cores), capacity.cores)
        self._begin(capacity)

    def run(self, progress: Callable[[float], None] | None = None) -> Ending:
        """To the end. `progress` hears from time to time which part is done."""
        end_s = self._tally.minutes * MINUTE_S
        look_s, fires = 0.0, 0
        while (next_s := self._next_s()) < end_s and fires < FIRES_MAX:
            next_s = max(next_s, self._now_s)
            self._pass(next_s)
            if progress is not None and next_s >= look_s:
                progress(next_s / end_s)
                look_s += end_s / LOOKS
            events: list[Event] = [
                Exited(run_id, attempt, 0, None, self._ended(run_id, attempt))
                for run_id, attempt in self._shares.move_to(next_s)
            ]
            events += self._changed()
            fired = self._fired()
            fires += len(fired)
            events += fired
            self._turn(events)
        complete = fires < FIRES_MAX
        if complete:
            self._pass(end_s)
        counts = self._dispatcher.counts()
        return Ending(self._now_s, fires, complete, counts.running, counts.queued)

    # --- time -----------------------------------------------------------------------------------------

    def _begin(self, capacity: Capacity) -> None:
        now = self._wall(0.0)
        for job in self._plan.jobs.values():
            trigger = build(job) if job.enabled else None
            first = trigger.after(now - timedelta(microseconds=1)) if trigger is not None else None
            if trigger is not None and first is not None:
                self._triggers[job.name] = trigger
                self._fires.append((self._since(first), job.name))
        heapify(self._fires)
        events: list[Event] = [PlanLoaded(self._plan, capacity.slots, capacity.cores)]
        for name, window in self._windows.items():
            if window.open_at(now):
                self._open.add(name)
                events.append(WindowChanged(name, True))
            self._expect(name, window, now)
        self._turn(events)

    def _next_s(self) -> float:
        soonest_s = self._fires[0][0] if self._fires else float("inf")
        if (end_s := self._shares.next_end_s()) is not None and end_s < soonest_s:
            soonest_s = end_s
        if (deadline_s := self._dispatcher.next_deadline()) is not None and deadline_s < soonest_s:
            soonest_s = deadline_s
        if self._changes and self._changes[0][0] < soonest_s:
            soonest_s = self._changes[0][0]
        return soonest_s

    def _pass(self, to_s: float) -> None:
        level = Level(
            running=len(self._begun),
            waiting=len(self._waiting),
            held_by_machine=self._waiting_plain > 0,
            busy_cores=self._shares.busy_cores,
            memory_bytes=self._memory_bytes,
        )
        self._tally.passed(self._now_s, to_s, level)
        self._now_s = to_s

    def _wall(self, at_s: float) -> datetime:
        return self._start + timedelta(seconds=at_s)

    def _since(self, instant: datetime) -> float:
        return (instant - self._start).total_seconds()

    # --- what happens -----------------------------------------------------------------------------------

    def _fired(self) -> list[Fired]:
        """Everything due by now, by time and name."""
        events = []
        while self._fires and self._fires[0][0] <= self._now_s:
            at_s, name = heappop(self._fires)
            at = self._wall(at_s)
            self._tally.due(name, at_s)
            events.append(Fired(name, (at,)))
            following = self._triggers[name].after(at)
            if following is not None:
                heappush(self._fires, (self._since(following), name))
        return events

    def _changed(self) -> list[WindowChanged]:
        """Calendars that open or shut by now; they go before fires, as in the daemon."""
        events = []
        while self._changes and self._changes[0][0] <= self._now_s:
            at_s, name = heappop(self._changes)
            at = self._wall(at_s)
            is_open = self._windows[name].open_at(at)
            if is_open is not (name in self._open):
                self._open ^= {name}
                events.append(WindowChanged(name, is_open))
            self._expect(name, self._windows[name], at)
        if events:
            for run_id, job in list(self._deferred.items()):
                if not self._is_deferred(job):
                    del self._deferred[run_id]
                    self._due_s[run_id] = self._now_s  # until now it waited for its calendar, as it was meant to
                    self._wait(run_id, job.name)
        return events

    def _expect(self, name: str, window: CalendarWindow, at: datetime) -> None:
        change = window.next_change(at)
        if change is not None:
            heappush(self._changes, (self._since(change), name))

    def _is_deferred(self, job: Job) -> bool:
        return any(one.action is During.DEFER and one.calendar in self._open for one in job.not_during) or any(
            one.action is During.DEFER and one.calendar not in self._open for one in job.only_during
        )

    def _turn(self, events: list[Event]) -> None:
        """The engine decides, and what it decides is done at once."""
        now = Now(self._wall(self._now_s), self._now_s)
        while True:
            answers: list[Event] = []
            for command in self._dispatcher.handle(events, now):
                self._do(command, answers)
            if not answers:
                return
            events = answers

    def _do(self, command: Command, answers: list[Event]) -> None:
        """What it tells of a keeper that is sound and never forgets (acknowledgements and such) needs no answer."""
        if isinstance(command, Record):
            if command.run is not None:
                self._record(command, command.run)
        elif isinstance(command, Start):
            run = command.run
            draw = self._outlooks[run.job].draw()
            self._shares.add((run.run_id, run.attempt), draw.duration_s, min(draw.cores, self._shares.cores))
            self._begun[run.run_id] = (self._now_s, draw.memory_bytes, run.job)
            self._memory_bytes += draw.memory_bytes
            # That it has started is told for its time-out: where none can be, a third of all events is saved.
            if draw.duration_s * self._slowing_max >= command.job.timeout_s:
                answers.append(Started(run.run_id, run.attempt, 1))
        elif isinstance(command, SignalTree) and command.run_id in self._begun:  # TERM ends it; none resists
            usage = self._ended(command.run_id, command.attempt)
            answers.append(Exited(command.run_id, command.attempt, None, command.signal, usage))

    def _ended(self, run_id: str, attempt: int) -> Usage:
        self._shares.end((run_id, attempt))
        begun_s, memory_bytes, job = self._begun.pop(run_id)
        self._memory_bytes -= memory_bytes
        self._tally.job(job).run_s += self._now_s - begun_s
        return NO_USAGE

    # --- what it tells ------------------------------------------------------------------------------------

    def _record(self, record: Record, run: Run) -> None:
        fact = record.fact
        if fact in QUEUED:
            if record.lateness_s is not None:  # new, and no retry and no run whose turn has come
                self._due_s[run.run_id] = self._since(run.scheduled_at)
                self._tally.job(run.job).fires += 1
            if fact is Fact.RUN_QUEUED:
                if run.job in self._defers and self._is_deferred(job := self._plan.jobs[run.job]):
                    self._deferred[run.run_id] = job
                else:
                    self._wait(run.run_id, run.job)
        elif fact is Fact.RUN_STARTING:
            self._unwait(run.run_id)
            due_s = self._due_s.pop(run.run_id, None)
            if due_s is not None:
                self._tally.started(run.job, due_s, self._now_s - due_s)
        elif fact is Fact.RUN_SKIPPED:
            if self._due_s.pop(run.run_id, None) is None:
                self._tally.job(run.job).fires += record.count
            self._unwait(run.run_id)
            self._tally.skipped(run.job, run.skip or "", record.count)
        elif fact is Fact.RUN_FINISHED:
            self._unwait(run.run_id)
            self._due_s.pop(run.run_id, None)
            self._finished(run)
        elif fact is Fact.RUN_RETRYING:
            self._finished(run)

    def _finished(self, run: Run) -> None:
        if run.outcome is Outcome.TIMED_OUT:
            self._tally.job(run.job).timed_out += 1

    def _wait(self, run_id: str, job: str) -> None:
        plain = job in self._plain
        self._waiting[run_id] = plain
        self._waiting_plain += plain

    def _unwait(self, run_id: str) -> None:
        self._deferred.pop(run_id, None)
        self._waiting_plain -= self._waiting.pop(run_id, False)


def defers(job: Job) -> bool:
    """Whether a calendar can hold its fires."""
    return any(one.action is During.DEFER for one in (*job.only_during, *job.not_during))


def fitted(plan: Plan, outlooks: dict[str, Outlook], capacity: Capacity) -> Plan:
    """The plan in which each run takes of the machine what it is predicted to use. One that is predicted to use more
    than there is takes all."""
    resources = dict(plan.resources)
    memory_units = None if capacity.memory_bytes is None else max(1, capacity.memory_bytes // MEMORY_UNIT_BYTES)
    cpu_units = max(1, round(borne_cores(plan.pool, outlooks, capacity) * CORE_UNITS)) if capacity.adaptive else None
    if memory_units is not None:
        resources[MEMORY] = memory_units
    if cpu_units is not None:
        resources[CPU] = cpu_units
    jobs = {}
    for job in plan.jobs.values():
        expected = outlooks[job.name]
        uses = dict(job.uses)
        if memory_units is not None and (need := -(-expected.memory_bytes // MEMORY_UNIT_BYTES)):
            uses[MEMORY] = min(memory_units, need)
        if cpu_units is not None and (need := round(min(expected.cores, capacity.cores) * CORE_UNITS)):
            uses[CPU] = min(cpu_units, need)
        jobs[job.name] = replace(job, uses=uses)
    return replace(plan, jobs=jobs, resources=resources)


def borne_cores(pool: PoolSettings, outlooks: dict[str, Outlook], capacity: Capacity) -> float:
    """How many cores the adaptive pool lets runs ask for: it starts one more while fewer than grow_below a core are
    wanted, and takes some back above shrink_above."""
    largest = max((min(1.0, expected.cores) for expected in outlooks.values()), default=1.0)
    return min(pool.shrink_above * capacity.cores, pool.grow_below * capacity.cores + largest)
