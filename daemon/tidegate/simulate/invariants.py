"""What must be true after every step of any history. A watcher that raises at the first breach. Pure.

Every fire is accounted for; every admitted run ends exactly once; what the engine calls running is what the
executor runs; limits and overlap hold; nobody who could start is passed over.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

from tidegate.model.command import Command, Fact, Record
from tidegate.model.event import Event, Fired, Now
from tidegate.model.job import Overlap
from tidegate.model.limits import AGING_S
from tidegate.model.run import Cause, Run, State
from tidegate.simulate.world import World

FIRED = (Cause.SCHEDULE, Cause.BOOT)  # causes that a Fired event brings


class InvariantError(AssertionError):
    """The engine did what it must never do."""


class Invariants:
    """Call it as a watcher. It keeps its own books and never reads the engine's."""

    def __init__(self) -> None:
        self.fires = 0
        self.accounted = 0
        self.open: dict[str, Run] = {}
        self.ended: set[str] = set()
        self.outcomes: dict[str, int] = {}
        self._active: dict[str, int] = {}  # run id → attempt
        self._active_by_job: dict[str, int] = {}
        self._queue: list[tuple[float, float, str, int]] = []
        self._ticket: dict[str, int] = {}
        self._parked: list[tuple[float, float, str, int]] = []

    def __call__(self, world: World, events: Sequence[Event], commands: Sequence[Command], now: Now) -> None:
        for event in events:
            if isinstance(event, Fired):
                self.fires += len(event.times)
        for command in commands:
            if isinstance(command, Record):
                self._record(world, command, now)
        running = dict(world.work.running.keys())
        self._check(running == self._active, f"engine runs {self._active}, executor runs {running}")
        limit = world.slots
        if len(running) > limit:
            # A lowered limit kills nothing; but nothing new may have started above it.
            self._check(not any(type(c).__name__ == "Start" for c in commands), f"{len(running)} run, limit {limit}")

    def at_rest(self) -> None:
        """When all load has ceased: nothing may be left over."""
        self._check(not self.open, f"never ended: {sorted(self.open)[:5]}")
        self._check(not self._active, f"still active: {self._active}")
        self._check(self.fires == self.accounted, f"{self.fires} fires, {self.accounted} accounted for")

    def _record(self, world: World, record: Record, now: Now) -> None:
        run = record.run
        if run is None:
            if record.fact is Fact.REQUEST_REFUSED and record.reason.startswith("it fired"):
                self.accounted += record.count
            elif record.fact is Fact.JOB_RESUMED:
                for entry in self._parked:
                    heappush(self._queue, entry)
                self._parked.clear()
            return
        self._check(run.run_id not in self.ended, f"{run.run_id} goes on after its end: {record.fact}")
        before = self.open.get(run.run_id)
        match record.fact:
            case Fact.RUN_QUEUED | Fact.RUN_HELD:
                if before is None and run.cause in FIRED:
                    self.accounted += 1
                self.open[run.run_id] = run
                if run.state is State.QUEUED:
                    self._enqueue(world, run, now)
            case Fact.RUN_STARTING:
                self._check(before is not None, f"{run.run_id} starts out of nowhere")
                self._starts(world, run)
            case Fact.RUN_RECOVERED:
                self._check(before is None, f"{run.run_id} is recovered, but was never lost")
                self.open[run.run_id] = run
                self._active[run.run_id] = run.attempt
                self._active_by_job[run.job] = self._active_by_job.get(run.job, 0) + 1
            case Fact.RUN_STARTED | Fact.RUN_STOPPING:
                self._check(before is not None, f"{run.run_id}: {record.fact} out of nowhere")
                self.open[run.run_id] = run
            case Fact.RUN_RETRYING:
                self._leaves(run)
                self.open[run.run_id] = run
                self._check(run.outcome is not None, f"{run.run_id} retries without an outcome")
            case Fact.RUN_FINISHED:
                self._check(before is not None and run.outcome is not None, f"{run.run_id} ended without a beginning")
                self._leaves(run)
                self._end(run)
            case Fact.RUN_SKIPPED:
                self._check(run.skip is not None and bool(run.reason), f"{run.run_id} skipped without a reason")
                if before is None and run.cause in FIRED:
                    self.accounted += record.count
                self._end(run)
            case _:
                pass

    def _enqueue(self, world: World, run: Run, now: Now) -> None:
        job = world.dispatcher.job_of(run.run_id)
        if job is None:  # ended within the same batch
            return
        ticket = self._ticket.get(run.run_id, 0) + 1
        self._ticket[run.run_id] = ticket
        rank = now.mono_s - job.priority * AGING_S
        heappush(self._queue, (rank, run.scheduled_at.timestamp(), run.run_id, ticket))

    def _starts(self, world: World, run: Run) -> None:
        self._check(run.run_id not in self._active, f"{run.run_id} was started while it runs")
        while self._queue:
            entry = self._queue[0]
            rank, _, run_id, ticket = entry
            candidate = self.open.get(run_id)
            alive = candidate is not None and candidate.state is State.QUEUED and self._ticket.get(run_id) == ticket
            if alive and run_id != run.run_id and candidate and candidate.job not in world.dispatcher.paused:
                raise InvariantError(f"{run.run_id} ({run.job}) passed {run_id} ({candidate.job}) with rank {rank}")
            heappop(self._queue)
            if run_id == run.run_id and self._ticket.get(run_id) == ticket:
                break
            if alive:  # paused: it keeps its place
                self._parked.append(entry)
        self.open[run.run_id] = run
        self._active[run.run_id] = run.attempt
        self._active_by_job[run.job] = count = self._active_by_job.get(run.job, 0) + 1
        job = world.dispatcher.job_of(run.run_id)
        if job is not None and job.overlap is not Overlap.ALLOW:
            self._check(count == 1, f"{count} runs of {run.job} at once under overlap = {job.overlap}")

    def _leaves(self, run: Run) -> None:
        if self._active.pop(run.run_id, None) is not None:
            self._active_by_job[run.job] -= 1

    def _end(self, run: Run) -> None:
        self.open.pop(run.run_id, None)
        self._ticket.pop(run.run_id, None)
        self.ended.add(run.run_id)
        word = str(run.outcome or run.skip)
        self.outcomes[word] = self.outcomes.get(word, 0) + 1

    @staticmethod
    def _check(true: bool, message: str) -> None:
        if not true:
            raise InvariantError(message)
