"""All runs that have not ended, and everything that can become of one. Pure: facts in, commands appended.

Policy about fires (catch-up, overlap) is in fires.py, about the whole daemon in dispatcher.py.
"""

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from tidegate.engine.admission import Blocked, CountingGate, Gate, HeldGate, PauseGate, PoolGate
from tidegate.engine.arming import ARM_AT_ONCE, ARMED_S_MAX, Arming
from tidegate.engine.ids import RunIds
from tidegate.engine.lifecycle import HOLDS_SLOT, NOT_STARTED, move
from tidegate.engine.live import Live
from tidegate.engine.memory_gate import MemoryGate
from tidegate.engine.queue import Deadlines
from tidegate.engine.resources import ResourceGate
from tidegate.engine.retry import delay_s, may_rerun, should_retry
from tidegate.engine.verdict import judge
from tidegate.engine.waiting import Waiting
from tidegate.engine.windows import WindowGate
from tidegate.model.command import Acknowledge, Command, Fact, Record, SignalTree, Start
from tidegate.model.event import Exited, Now, Started, StartFailed
from tidegate.model.job import Job
from tidegate.model.limits import FORK_RETRY_S, FORK_RETRY_S_MAX
from tidegate.model.run import Cause, Outcome, Run, Skip, State, Usage
from tidegate.model.text import duration

SIGTERM: Final = 15
SIGKILL: Final = 9


class Runs:
    """The runs, the queue, the deadlines and the gates. `out` collects the commands of the current batch."""

    def __init__(self, salt: int) -> None:
        self.out: list[Command] = []
        self.lives: dict[str, Live] = {}
        self.by_job: dict[str, list[Live]] = {}
        self.succeeded: list[Run] = []  # ended well in this batch, downstream jobs not yet fired
        self.deadlines = Deadlines()
        self.held = HeldGate()
        self.pool = PoolGate()
        self.pause = PauseGate()
        self.arming = Arming()
        self.windows = WindowGate()
        self.resources = ResourceGate()
        self.memory = MemoryGate()
        self.waiting = Waiting(self.resources, self.memory)
        self.blocked = Blocked()
        self._gates: tuple[Gate, ...] = (
            self.held, self.pool, self.pause, self.windows, self.resources, self.memory,
        )  # fmt: skip
        self._counting: tuple[CountingGate, ...] = (self.pool, self.resources, self.memory)
        self._ids = RunIds(salt)
        self._foreign: set[str] = set()  # ids of earlier lives taken up here; as many as had not ended then
        self.frozen = 0  # runs that we hold still
        self._short_s = 0.0  # how long starts wait, as the machine is short of something

    # --- a fire becomes a run, or does not ----------------------------------------------------------

    def accept(
        self,
        job: Job,
        scheduled_at: datetime,
        cause: Cause,
        now: Now,
        *,
        catch_up: bool = False,
        request_id: str | None = None,
        args: dict[str, str] | None = None,
        held_by: Live | None = None,
    ) -> Live:
        """A new run, QUEUED, or HELD behind an earlier one of the same job."""
        run = Run(
            run_id=self._ids.make(now.wall),
            job=job.name,
            cause=cause,
            request_id=request_id,
            scheduled_at=scheduled_at,
            queued_at=now.wall,
            state=State.HELD if held_by else State.QUEUED,
            catch_up=catch_up,
            reason=f"waits for run {held_by.run.run_id} of the same job" if held_by else "",
            args=args or {},
        )
        live = Live(run, job, now.mono_s)
        self.enter(live)
        if job.start_deadline_s is not None:
            self.deadlines.add(now.mono_s + job.start_deadline_s, "start", live)
        if not held_by:
            self.waiting.push(live)
        self.out.append(
            Record(
                fact=Fact.RUN_HELD if held_by else Fact.RUN_QUEUED,
                at=now.wall,
                job=job.name,
                run=run,
                reason=run.reason,
                lateness_s=max(0.0, (now.wall - scheduled_at).total_seconds()),
            )
        )
        return live

    def skip_fire(
        self,
        job_name: str,
        scheduled_at: datetime,
        cause: Cause,
        skip: Skip,
        reason: str,
        now: Now,
        *,
        count: int = 1,
        request_id: str | None = None,
    ) -> None:
        """Record fires that never become runs; `count` fires up to `scheduled_at` in one record."""
        run = Run(
            run_id=self._ids.make(now.wall),
            job=job_name,
            cause=cause,
            request_id=request_id,
            scheduled_at=scheduled_at,
            queued_at=now.wall,
            ended_at=now.wall,
            state=State.SKIPPED,
            skip=skip,
            reason=reason,
        )
        self.out.append(Record(fact=Fact.RUN_SKIPPED, at=now.wall, job=job_name, run=run, reason=reason, count=count))

    def refuse_claim(self, live: Live, by_run_id: str, now: Now) -> None:
        """History has this fire as another run: this one must never start. Its Start is not performed."""
        reason = f"this fire is on record already, as run {by_run_id}"
        if live.run.state in NOT_STARTED:
            self.skip_live(live, Skip.OVERLAP, reason, now)
        elif live.run.state is State.STARTING:
            self._attempt_ended(live, Outcome.CANCELLED, reason, now, None, None, Usage())

    def skip_live(self, live: Live, skip: Skip, reason: str, now: Now) -> None:
        """A run that never started never will."""
        assert live.run.attempt == 1, "a run that has started is finished, not skipped"
        live.run = move(live.run, State.SKIPPED, skip=skip, reason=reason, ended_at=now.wall)
        self.record(Fact.RUN_SKIPPED, live, now, reason)
        self._forget(live, now)

    # --- starting -----------------------------------------------------------------------------------

    def admit(self, now: Now) -> None:
        """Start what may start, in order. A gate that is closed for all ends the walk."""
        while True:
            self.waiting.call_up(now)
            self.blocked.by(self._walk(now), now)
            if not self.memory.stale:
                return

    def _walk(self, now: Now) -> str:
        """The gate at which the walk ended; "" where nobody is left in the queue."""
        ready = self.waiting.ready
        while (live := ready.peek()) is not None:
            for gate in self._gates:
                if gate.holds(live, now) is not None:
                    if gate.whole:
                        if gate is self.pool and self.arming.wanted(now):
                            self._arm(now)
                        return gate.name
                    ready.pop()
                    self.waiting.park(live, gate)
                    break
            else:
                ready.pop()
                self._start(live, now)
        return self.waiting.held_by

    def _arm(self, now: Now) -> None:
        for live in self.arming.arm(self.waiting.ready.first(ARM_AT_ONCE), now):
            self.record(Fact.RUN_ARMED, live, now, "")
        if not self.arming.watched:
            self.arming.watched = True
            self.deadlines.add(now.mono_s + ARMED_S_MAX, "armed", None)

    def disarm(self, now: Now) -> None:
        """Who has been armed for long may not start without another word."""
        for live in self.arming.expired(now):
            self.record(Fact.RUN_UNARMED, live, now, "")
        due_mono_s = self.arming.next_expiry()
        self.arming.watched = due_mono_s is not None
        if due_mono_s is not None:
            self.deadlines.add(due_mono_s, "armed", None)

    def closed_to(self, live: Live, now: Now) -> Gate | None:
        """The first gate that holds this run."""
        return next((gate for gate in self._gates if gate.holds(live, now) is not None), None)

    def held_by_gate(self, now: Now, limit: int) -> list[tuple[Run, str, str]]:
        """The first queued runs in order, each with the gate that holds it and why."""
        rows = []
        for live in self.waiting.in_order(limit):
            gate = self.closed_to(live, now)
            if gate is not None:
                rows.append((live.run, gate.name, gate.holds(live, now) or ""))
        return rows

    def _start(self, live: Live, now: Now) -> None:
        self.take(live, now)
        self.arming.started(live.run.run_id)
        self.deadlines.drop(live, "start")
        live.run = run = move(live.run, State.STARTING, reason="")
        wait_s = now.mono_s - live.queued_mono_s
        self.out.append(Record(fact=Fact.RUN_STARTING, at=now.wall, job=run.job, run=run, wait_s=wait_s))
        self.out.append(Start(run, live.job, self.memory.running[run.run_id].prediction.bytes))

    def started(self, live: Live, event: Started, now: Now) -> None:
        """The executor has started it. One that was stopped meanwhile stays STOPPING, and is now known to live."""
        if live.started_mono_s is not None:
            return  # said twice
        live.started_mono_s = now.mono_s
        self._short_s = 0.0
        facts = {"pid": event.pid, "pid_start": event.pid_start, "started_at": now.wall}
        if live.run.state is State.STARTING:
            live.run = move(live.run, State.RUNNING, **facts)
            self.deadlines.add(now.mono_s + live.job.timeout_s, "timeout", live)
            self.record(Fact.RUN_STARTED, live, now, "")
        else:
            live.run = replace(live.run, **facts)

    # --- runs of an earlier life (engine/restore.py) ----------------------------------------------------

    def is_foreign(self, run_id: str) -> bool:
        """Whether this run is of an earlier life and not known yet; it counts as known from here on."""
        if run_id in self._foreign or self._ids.made(run_id):
            return False
        self._foreign.add(run_id)
        return True

    def enter(self, live: Live) -> None:
        """The run counts as one that has not ended."""
        self.lives[live.run.run_id] = live
        self.by_job.setdefault(live.run.job, []).append(live)

    def take(self, live: Live, now: Now) -> None:
        """It holds its slot and what it uses, whatever the gates would say."""
        live.taken_mono_s = now.mono_s
        for gate in self._counting:
            gate.took(live)

    # --- stopping -----------------------------------------------------------------------------------

    def stop(self, live: Live, outcome: Outcome, reason: str, now: Now) -> None:
        """TERM to the tree now, KILL after kill_grace. `outcome` is what it will have been."""
        live.stop_outcome = outcome
        live.stop_reason = reason
        self.deadlines.drop(live, "timeout")
        live.run = move(live.run, State.STOPPING, reason=reason, stop=outcome)
        self.record(Fact.RUN_STOPPING, live, now, reason)
        # TERM first: programs flush and clean up on it.
        self.out.append(SignalTree(live.run.run_id, live.run.attempt, SIGTERM))
        self.deadlines.add(now.mono_s + live.job.kill_grace_s, "kill", live)

    def kill(self, live: Live) -> None:
        """KILL to the tree of a STOPPING run."""
        self.deadlines.drop(live, "kill")
        self.out.append(SignalTree(live.run.run_id, live.run.attempt, SIGKILL))

    def withdraw(self, live: Live, outcome: Outcome, reason: str, now: Now) -> None:
        """End a run that has no process now: HELD, QUEUED or RETRYING."""
        live.run = move(live.run, State.FINISHED, outcome=outcome, reason=reason, ended_at=now.wall)
        self.record(Fact.RUN_FINISHED, live, now, reason)
        self._forget(live, now)

    # --- the end of an attempt ----------------------------------------------------------------------

    def exited(self, live: Live, event: Exited, now: Now) -> None:
        """The leader of the attempt has ended."""
        outcome, reason = judge(live, event)
        if event.result is not None or event.error:  # of an attempt before it has none: requeue took it away
            live.run = replace(live.run, result=event.result, error=event.error)
        self._attempt_ended(live, outcome, reason, now, event.exit_code, event.signal, event.usage, event.duration_s)

    def start_failed(self, live: Live, event: StartFailed, now: Now) -> None:
        """The attempt never had a process. One that was stopped meanwhile is over as it was meant to be: no retry."""
        if live.stop_outcome is not None:
            self._attempt_ended(live, live.stop_outcome, live.stop_reason, now, None, None, Usage())
        elif event.transient and live.run.state is State.STARTING:
            self._start_later(live, event.reason, now)
        else:
            self._attempt_ended(live, Outcome.FAILED_TO_START, event.reason, now, None, None, Usage())

    def _start_later(self, live: Live, reason: str, now: Now) -> None:
        """The machine is short of processes, memory or descriptors: the same attempt later, no other start before."""
        for gate in self._counting:
            gate.gave(live)
        self.deadlines.drop(live)
        live.run = move(live.run, State.QUEUED, reason=reason)
        self.waiting.push(live)
        self.record(Fact.RUN_QUEUED, live, now, f"could not be started now: {reason}")
        if "executor" not in self.held.reasons:
            self._short_s = min(max(FORK_RETRY_S, self._short_s * 2), FORK_RETRY_S_MAX)
            self.deadlines.add(now.mono_s + self._short_s, "executor", None)
            text = f"{reason}; the next start is tried in {self._short_s:g} s"
            self.hold("executor", text, now)

    def hold(self, gate: str, reason: str, now: Now) -> None:
        """Start nothing for this reason; an empty one lifts it."""
        before = self.held.reasons.get(gate, "")
        if reason:
            self.held.reasons[gate] = reason
        else:
            self.held.reasons.pop(gate, None)
        if reason and not before:
            self.out.append(Record(fact=Fact.STARTS_HELD, at=now.wall, reason=reason))
        elif before and not reason:
            self.out.append(Record(fact=Fact.STARTS_RESUMED, at=now.wall, reason=f"no longer: {before}"))

    def unknown(self, live: Live, outcome: Outcome, reason: str, now: Now, *, gone: bool) -> None:
        """What became of the attempt cannot be known. Never a guess; tried again only where the job asks for it."""
        again = live.stop_outcome is None and may_rerun(live.run, live.job, gone)
        self._attempt_ended(live, outcome, reason, now, None, None, Usage(), rerun=again)

    def _attempt_ended(
        self,
        live: Live,
        outcome: Outcome,
        reason: str,
        now: Now,
        exit_code: int | None,
        signal: int | None,
        usage: Usage,
        duration_s: float | None = None,
        rerun: bool = False,
    ) -> None:
        run = live.run
        if duration_s is None and live.started_mono_s is not None:
            duration_s = now.mono_s - live.started_mono_s
        facts = {
            "outcome": outcome,
            "reason": reason,
            "exit_code": exit_code,
            "signal": signal,
            "usage": usage,
            "duration_s": duration_s,
            "ended_at": now.wall,
        }
        self.thawed(live)
        self.memory.ended(live, outcome, duration_s, usage)
        self.memory.fresh.ended(run.run_id, now.mono_s)
        for gate in self._counting:
            gate.gave(live)
        self.arming.freed_mono_s = now.mono_s
        self.deadlines.drop(live)
        attempt = run.attempt
        ended = move(run, State.FINISHED, **facts)
        again = self._again(live, ended, rerun)
        if again is not None:
            live.run = move(run, State.RETRYING, **facts)
            self.deadlines.add(now.mono_s + again[0], "retry", live)
            self.record(Fact.RUN_RETRYING, live, now, f"{reason}; {again[1]}")
        else:
            live.run = ended
            self.record(Fact.RUN_FINISHED, live, now, reason)
            self._forget(live, now)
            if outcome is Outcome.SUCCEEDED:
                self.succeeded.append(ended)
        self.out.append(Acknowledge(run.run_id, attempt))

    def _again(self, live: Live, ended: Run, rerun: bool) -> tuple[float, str] | None:
        """In how many seconds another attempt follows, and why; None: none does."""
        if rerun:
            return 0.0, "on_interrupted = rerun"
        if live.evicted:
            live.evicted = False
            retry = self.memory.retries.next(ended.evictions)
            if retry is None:
                return None
            live.alone = retry.alone
            beside = " with nothing beside it" if retry.alone else ""
            return retry.delay_s, f"queued anew in {duration(retry.delay_s)}{beside}"
        if not should_retry(ended, live.job.retries):
            return None
        wait_s = delay_s(ended.run_id, ended.attempt, live.job.retries)
        tried = ended.attempt - ended.evictions
        return wait_s, f"try {tried + 1} of {live.job.retries.max + 1} in {duration(wait_s)}"

    def thawed(self, live: Live) -> None:
        """It is held still no more: let go on, or ended."""
        if live.frozen_mono_s is not None:
            live.frozen_mono_s = None
            self.frozen -= 1

    def requeue(self, live: Live, now: Now) -> None:
        """The delay before the next attempt is over."""
        live.queued_mono_s = now.mono_s
        live.started_mono_s = None
        live.stop_outcome = None
        live.stop_reason = ""
        live.run = move(
            live.run,
            State.QUEUED,
            attempt=live.run.attempt + 1,
            outcome=None,
            reason="",
            exit_code=None,
            signal=None,
            usage=Usage(),
            duration_s=None,
            started_at=None,
            ended_at=None,
            pid=None,
            pid_start=None,
            stop=None,
            result=None,
            error="",
        )
        self.waiting.push(live)
        self.record(Fact.RUN_QUEUED, live, now, "")

    # --- shared -------------------------------------------------------------------------------------

    def active(self) -> list[Live]:
        """Runs that hold a slot."""
        return [live for live in self.lives.values() if live.run.state in HOLDS_SLOT]

    def _forget(self, live: Live, now: Now) -> None:
        """Drop an ended run; the next one of its job that was HELD behind it may queue."""
        self.deadlines.drop(live)
        self.resources.left(live)
        self.memory.left(live)
        del self.lives[live.run.run_id]
        siblings = self.by_job[live.run.job]
        siblings.remove(live)
        if not siblings:
            del self.by_job[live.run.job]
            return
        first = siblings[0]
        if first.run.state is State.HELD:
            first.run = move(first.run, State.QUEUED, reason="")
            first.queued_mono_s = now.mono_s
            self.waiting.push(first)
            self.record(Fact.RUN_QUEUED, first, now, "the run before it has ended")

    def record(self, fact: Fact, live: Live, now: Now, reason: str) -> None:
        """Tell a fact about a run."""
        self.out.append(Record(fact=fact, at=now.wall, job=live.run.job, run=live.run, reason=reason))
