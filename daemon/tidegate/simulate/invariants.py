"""What must be true after every step of any history. A watcher that raises at the first breach. Pure.

Every fire is accounted for; every admitted run ends exactly once; what the engine calls running is what the
executor runs; limits, overlap, resources and calendars hold; nobody who could start is passed over. What a crash takes
is forgotten here too (`forget`); what must be true across crashes is account.py's.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

from tidegate.model.command import Command, Fact, Record, Start
from tidegate.model.event import (
    Event,
    Fired,
    Interrupted,
    LeaseRestored,
    Now,
    PlanLoaded,
    Recovered,
    Restored,
    WindowChanged,
)
from tidegate.model.job import During, Job, Overlap
from tidegate.model.limits import AGING_S
from tidegate.model.run import Cause, Run, State
from tidegate.simulate.world import World

FIRED = (Cause.SCHEDULE, Cause.BOOT)  # causes that a Fired event brings
REOPENED = (Fact.JOB_RESUMED, Fact.CALENDAR_OPENED, Fact.CALENDAR_CLOSED, Fact.CONFIG_RELOADED)

Entry = tuple[float, float, str, int]  # rank, due, run id, ticket


class InvariantError(AssertionError):
    """The engine did what it must never do."""


class Invariants:
    """Call it as a watcher, and `forget` after each life. It keeps its own books and never reads the engine's."""

    def __init__(self) -> None:
        self.fires = 0
        self.accounted = 0
        self.started = 0
        self.open: dict[str, Run] = {}
        self.ended: set[str] = set()
        self.outcomes: dict[str, int] = {}
        self._reset()

    def _reset(self) -> None:
        self._active: dict[str, int] = {}  # run id → attempt
        self._active_by_job: dict[str, int] = {}
        self._queue: list[Entry] = []
        self._ticket: dict[str, int] = {}
        self._rank: dict[str, float] = {}
        self._parked: list[Entry] = []
        self._uses: dict[str, dict[str, int]] = {}  # by run or lease that holds units
        self._used: dict[str, int] = {}
        self._units: dict[str, int] = {}
        self._most = self._units  # within a turn that changes them
        self._calendars: set[str] = set()  # open ones
        self._earlier: set[str] = set()  # runs of earlier lives: what the first word about them is depends

    def forget(self, world: World) -> None:
        """A life of the daemon is over: what is not on record never was."""
        self.open.clear()
        self.ended = set(world.book.ended)
        self._reset()

    def __call__(self, world: World, events: Sequence[Event], commands: Sequence[Command], now: Now) -> None:
        for event in events:
            match event:
                case Fired():
                    self.fires += len(event.times)
                case PlanLoaded():
                    # What was granted before it in the same turn was so under the plan before.
                    new, most = event.plan.resources, self._most
                    self._units, self._most = new, {n: max(new.get(n, 0), most.get(n, 0)) for n in {*new, *most}}
                    self._calendars &= event.plan.calendars.keys()
                case WindowChanged():
                    (self._calendars.add if event.open else self._calendars.discard)(event.calendar)
                case Restored() | Interrupted() | Recovered():
                    self._earlier.add(event.run.run_id)
                case LeaseRestored():  # whatever the units are today
                    self._take(event.lease.lease_id, event.lease.uses, within_units=False)
                case _:
                    pass
        starts = 0
        for command in commands:
            if isinstance(command, Record):
                self._record(world, command, now)
            elif isinstance(command, Start):
                starts += 1
        self._most = self._units
        self.started += starts
        self._check(self.fires == self.accounted, f"{self.fires} fires, {self.accounted} accounted for")
        running = dict(world.work.running.keys())
        if world.unsent:
            running |= dict(world.unsent)
        self._check(running == self._active, f"engine runs {self._active}, executor runs {running}")
        if starts:
            # A lowered limit kills nothing; but nothing new may have started above it.
            self._check(len(running) <= world.slots, f"{len(running)} run, limit {world.slots}")
            held = world.dispatcher.starts_held
            self._check(not held, f"{starts} started though starts are held: {held}")

    def at_rest(self) -> None:
        """When all load has ceased: nothing may be left over."""
        self._check(not self.open, f"never ended: {sorted(self.open)[:5]}")
        self._check(not self._active, f"still active: {self._active}")
        self._check(self.fires == self.accounted, f"{self.fires} fires, {self.accounted} accounted for")
        self._check(not self._used, f"units never given back: {self._used}")

    def _record(self, world: World, record: Record, now: Now) -> None:
        run = record.run
        if run is None:
            self._outside(record)
            return
        self._check(run.run_id not in self.ended, f"{run.run_id} goes on after its end: {record.fact}")
        before = self.open.get(run.run_id)
        match record.fact:
            case Fact.RUN_QUEUED | Fact.RUN_HELD:
                if before is None:
                    self._fresh(world, run)
                elif before.run_id in self._active:
                    self._leaves(run)  # could not be started now: it keeps its rank
                else:
                    self._rank.pop(run.run_id, None)
                self.open[run.run_id] = run
                if run.state is State.QUEUED:
                    self._enqueue(world, run, now.mono_s)
            case Fact.RUN_RESTORED:
                self._check(before is None, f"{run.run_id} is restored, but was never lost")
                self.open[run.run_id] = run
                if run.state is State.QUEUED:
                    age_s = max(0.0, (now.wall - run.queued_at).total_seconds()) if run.attempt == 1 else 0.0
                    self._enqueue(world, run, now.mono_s - age_s)
            case Fact.RUN_STARTING:
                self._check(before is not None, f"{run.run_id} starts out of nowhere")
                self._starts(world, run)
            case Fact.RUN_RECOVERED:
                self._check(before is None, f"{run.run_id} is recovered, but was never lost")
                self._enters(world, run)
            case Fact.RUN_STARTED | Fact.RUN_STOPPING:
                self._check(before is not None, f"{run.run_id}: {record.fact} out of nowhere")
                self.open[run.run_id] = run
            case Fact.RUN_RETRYING:
                self._leaves(run)
                self.open[run.run_id] = run
                self._check(run.outcome is not None, f"{run.run_id} retries without an outcome")
            case Fact.RUN_FINISHED:
                known = before is not None or run.run_id in self._earlier
                self._check(known and run.outcome is not None, f"{run.run_id} ended without a beginning")
                self._leaves(run)
                self._end(run)
            case Fact.RUN_SKIPPED:
                self._check(run.skip is not None and bool(run.reason), f"{run.run_id} skipped without a reason")
                if before is None and run.cause in FIRED and run.run_id not in self._earlier:
                    self.accounted += record.count
                self._end(run)
            case _:
                pass

    def _outside(self, record: Record) -> None:
        lease = record.lease
        if record.fact is Fact.REQUEST_REFUSED and record.reason.startswith("it fired"):
            self.accounted += record.count
        elif record.fact in REOPENED:
            for entry in self._parked:
                heappush(self._queue, entry)
            self._parked.clear()
        elif lease is not None and record.fact is Fact.LEASE_GRANTED:
            self._take(lease.lease_id, lease.uses, within_units=True)
        elif lease is not None and record.fact is Fact.LEASE_ENDED:
            self._give(lease.lease_id)

    def _fresh(self, world: World, run: Run) -> None:
        if run.cause in FIRED:
            self.accounted += 1
        job = world.dispatcher.job_of(run.run_id)
        if job is not None and run.cause is not Cause.MANUAL:
            self._check(
                not self._forbidden(job, During.SKIP), f"{run.run_id} ({run.job}) was let in by a shut calendar"
            )

    def _forbidden(self, job: Job, action: During) -> bool:
        return any(window.action is action and window.calendar in self._calendars for window in job.not_during) or any(
            window.action is action and window.calendar not in self._calendars for window in job.only_during
        )

    def _enqueue(self, world: World, run: Run, since_mono_s: float) -> None:
        job = world.dispatcher.job_of(run.run_id)
        if job is None or job.uses:  # ended within the same batch; the order of those who need units is resources.py's
            return
        ticket = self._ticket.get(run.run_id, 0) + 1
        self._ticket[run.run_id] = ticket
        rank = self._rank.setdefault(run.run_id, since_mono_s - job.priority * AGING_S)
        heappush(self._queue, (rank, run.scheduled_at.timestamp(), run.run_id, ticket))

    def _starts(self, world: World, run: Run) -> None:
        self._check(run.run_id not in self._active, f"{run.run_id} was started while it runs")
        job = world.dispatcher.job_of(run.run_id)
        if job is not None and run.cause is not Cause.MANUAL:
            self._check(not self._forbidden(job, During.DEFER), f"{run.run_id} ({run.job}) started in a shut calendar")
        if job is None or not job.uses:
            self._passes(world, run)
        self._enters(world, run, within_units=True)

    def _passes(self, world: World, run: Run) -> None:
        """It goes before all who have a better place and could start."""
        paused = world.dispatcher.paused
        while self._queue:
            entry = self._queue[0]
            rank, _, run_id, ticket = entry
            candidate = self.open.get(run_id)
            alive = candidate is not None and candidate.state is State.QUEUED and self._ticket.get(run_id) == ticket
            if alive and run_id != run.run_id and candidate and candidate.job not in paused:
                job = world.dispatcher.job_of(run_id)
                if job is None or candidate.cause is Cause.MANUAL or not self._forbidden(job, During.DEFER):
                    raise InvariantError(f"{run.run_id} ({run.job}) passed {run_id} ({candidate.job}) with rank {rank}")
            heappop(self._queue)
            if run_id == run.run_id and self._ticket.get(run_id) == ticket:
                break
            if alive:  # paused or deferred: it keeps its place
                self._parked.append(entry)

    def _enters(self, world: World, run: Run, *, within_units: bool = False) -> None:
        self.open[run.run_id] = run
        self._active[run.run_id] = run.attempt
        self._active_by_job[run.job] = count = self._active_by_job.get(run.job, 0) + 1
        job = world.dispatcher.job_of(run.run_id)
        if job is None:
            return
        if job.overlap is not Overlap.ALLOW and within_units:
            self._check(count == 1, f"{count} runs of {run.job} at once under overlap = {job.overlap}")
        if job.uses:
            self._take(run.run_id, job.uses, within_units=within_units)

    def _leaves(self, run: Run) -> None:
        if self._active.pop(run.run_id, None) is not None:
            self._active_by_job[run.job] -= 1
            self._give(run.run_id)

    def _take(self, holder: str, uses: dict[str, int], *, within_units: bool) -> None:
        self._uses[holder] = uses
        for name, units in uses.items():
            used = self._used[name] = self._used.get(name, 0) + units
            exist = self._most.get(name, 0)
            self._check(used <= exist or not within_units, f"{holder}: {used} of {name} in use, {exist} exist")

    def _give(self, holder: str) -> None:
        for name, units in self._uses.pop(holder, {}).items():
            self._used[name] -= units
            if not self._used[name]:
                del self._used[name]

    def _end(self, run: Run) -> None:
        for book in (self.open, self._ticket, self._rank):
            book.pop(run.run_id, None)
        self.ended.add(run.run_id)
        word = str(run.outcome or run.skip)
        self.outcomes[word] = self.outcomes.get(word, 0) + 1

    @staticmethod
    def _check(true: bool, message: str) -> None:
        if not true:
            raise InvariantError(message)
