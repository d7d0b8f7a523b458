"""All runs that have not ended, and everything that can become of one. Pure: facts in, commands appended.

Policy about fires (catch-up, overlap) is in fires.py, about the whole daemon in dispatcher.py.
"""

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from tidegate.engine.admission import Gate, PauseGate, PoolGate
from tidegate.engine.ids import RunIds
from tidegate.engine.lifecycle import HOLDS_SLOT, move
from tidegate.engine.live import Live
from tidegate.engine.queue import Deadlines, ReadyQueue
from tidegate.engine.retry import delay_s, should_retry
from tidegate.model.command import Acknowledge, Command, Fact, Record, SignalTree, Start
from tidegate.model.event import Exited, Now
from tidegate.model.job import Job
from tidegate.model.run import Cause, Outcome, Run, Skip, State, Usage

SIGTERM: Final = 15
SIGKILL: Final = 9
SIGNAL_NAMES: Final = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
    10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU",
    25: "SIGXFSZ", 31: "SIGSYS",
}  # fmt: skip


class Runs:
    """The runs, the queue, the deadlines and the gates. `out` collects the commands of the current batch."""

    def __init__(self, salt: int) -> None:
        self.out: list[Command] = []
        self.lives: dict[str, Live] = {}
        self.by_job: dict[str, list[Live]] = {}
        self.succeeded: list[Run] = []  # ended well in this batch, downstream jobs not yet fired
        self.deadlines = Deadlines()
        self.pool = PoolGate()
        self.pause = PauseGate()
        self.retry_allowed = True  # not while draining
        self._gates: tuple[Gate, ...] = (self.pool, self.pause)
        self._parked: list[Live] = []  # held by a gate that lets others pass
        self._ready = ReadyQueue()
        self._ids = RunIds(salt)
        self._recovered: set[str] = set()  # ids of earlier lives; as many as were running when this one began

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
        )
        live = Live(run, job, now.mono_s)
        self.lives[run.run_id] = live
        self.by_job.setdefault(job.name, []).append(live)
        if job.start_deadline_s is not None:
            self.deadlines.add(now.mono_s + job.start_deadline_s, "start", live)
        if not held_by:
            self._ready.push(live, now.mono_s)
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

    def skip_live(self, live: Live, skip: Skip, reason: str, now: Now) -> None:
        """A run that never started never will."""
        assert live.run.attempt == 1, "a run that has started is finished, not skipped"
        live.run = move(live.run, State.SKIPPED, skip=skip, reason=reason, ended_at=now.wall)
        self._record(Fact.RUN_SKIPPED, live, now, reason)
        self._forget(live, now)

    # --- starting -----------------------------------------------------------------------------------

    def admit(self, now: Now) -> None:
        """Start what may start, in order. A gate that is closed for all ends the walk."""
        while (live := self._ready.peek()) is not None:
            for gate in self._gates:
                if gate.holds(live, now) is not None:
                    if gate.whole:
                        return
                    self._ready.pop()
                    self._parked.append(live)
                    break
            else:
                self._ready.pop()
                self._start(live, now)

    def unpark(self) -> None:
        """A gate that held single runs has changed: they queue again, with the age they had."""
        parked, self._parked = self._parked, []
        for live in parked:
            if live.run.state is State.QUEUED:
                self._ready.push(live, live.queued_mono_s)

    def held_by_gate(self, now: Now) -> list[tuple[Run, str, str]]:
        """Queued runs in order, each with the gate that holds it and why."""
        rows = []
        for live in self._ready.in_order() + [live for live in self._parked if live.run.state is State.QUEUED]:
            for gate in self._gates:
                reason = gate.holds(live, now)
                if reason is not None:
                    rows.append((live.run, gate.name, reason))
                    break
        return rows

    def _start(self, live: Live, now: Now) -> None:
        for gate in self._gates:
            gate.took(live)
        self.deadlines.drop(live, "start")
        live.run = move(live.run, State.STARTING, reason="")
        self.out.append(
            Record(
                fact=Fact.RUN_STARTING,
                at=now.wall,
                job=live.run.job,
                run=live.run,
                wait_s=now.mono_s - live.queued_mono_s,
            )
        )
        self.out.append(Start(live.run, live.job))

    def started(self, live: Live, pid: int, now: Now) -> None:
        """The executor has started it. One that was stopped meanwhile stays STOPPING, and is now known to live."""
        if live.started_mono_s is not None:
            return  # said twice
        live.started_mono_s = now.mono_s
        if live.run.state is State.STARTING:
            live.run = move(live.run, State.RUNNING, pid=pid, started_at=now.wall)
            self.deadlines.add(now.mono_s + live.job.timeout_s, "timeout", live)
            self._record(Fact.RUN_STARTED, live, now, "")
        else:
            live.run = replace(live.run, pid=pid, started_at=now.wall)

    def recover(self, run: Run, job: Job, pid: int, now: Now) -> Live | None:
        """Take up a run that an earlier life of the daemon started. Its time-out goes on counting from its start.

        None for one that is known already, or was and has its end on record: an end is never taken back.
        """
        if run.run_id in self._recovered or self._ids.made(run.run_id):
            return None
        self._recovered.add(run.run_id)
        started_at = run.started_at or run.queued_at
        age_s = max(0.0, (now.wall - started_at).total_seconds())
        live = Live(replace(run, state=State.RUNNING, pid=pid, started_at=started_at), job, now.mono_s - age_s)
        live.started_mono_s = now.mono_s - age_s
        self.lives[run.run_id] = live
        self.by_job.setdefault(run.job, []).append(live)
        for gate in self._gates:
            gate.took(live)
        self.deadlines.add(live.started_mono_s + job.timeout_s, "timeout", live)
        self._record(Fact.RUN_RECOVERED, live, now, "it outlived the daemon that started it")
        return live

    # --- stopping -----------------------------------------------------------------------------------

    def stop(self, live: Live, outcome: Outcome, reason: str, now: Now) -> None:
        """TERM to the tree now, KILL after kill_grace. `outcome` is what it will have been."""
        live.stop_outcome = outcome
        live.stop_reason = reason
        self.deadlines.drop(live, "timeout")
        live.run = move(live.run, State.STOPPING, reason=reason)
        self._record(Fact.RUN_STOPPING, live, now, reason)
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
        self._record(Fact.RUN_FINISHED, live, now, reason)
        self._forget(live, now)

    # --- the end of an attempt ----------------------------------------------------------------------

    def exited(self, live: Live, event: Exited, now: Now) -> None:
        """The leader of the attempt has ended."""
        outcome, reason = _judge(live, event)
        self._attempt_ended(live, outcome, reason, now, event.exit_code, event.signal, event.usage, event.duration_s)

    def start_failed(self, live: Live, reason: str, now: Now) -> None:
        """The attempt never had a process. One that was stopped meanwhile is over as it was meant to be: no retry."""
        outcome = Outcome.FAILED_TO_START
        if live.stop_outcome is not None:
            outcome, reason = live.stop_outcome, live.stop_reason
        self._attempt_ended(live, outcome, reason, now, None, None, Usage())

    def lost(self, live: Live, reason: str, now: Now) -> None:
        """What became of the attempt cannot be known. Never a guess, never retried by itself."""
        self._attempt_ended(live, Outcome.UNKNOWN, reason, now, None, None, Usage())

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
        for gate in self._gates:
            gate.gave(live)
        self.deadlines.drop(live)
        attempt = run.attempt
        ended = move(run, State.FINISHED, **facts)
        if self.retry_allowed and should_retry(ended, live.job.retries):
            wait_s = delay_s(run.run_id, attempt, live.job.retries)
            live.run = move(run, State.RETRYING, **facts)
            self.deadlines.add(now.mono_s + wait_s, "retry", live)
            tries = live.job.retries.max + 1
            self._record(Fact.RUN_RETRYING, live, now, f"{reason}; try {attempt + 1} of {tries} in {wait_s:.1f} s")
        else:
            live.run = ended
            self._record(Fact.RUN_FINISHED, live, now, reason)
            self._forget(live, now)
            if outcome is Outcome.SUCCEEDED:
                self.succeeded.append(ended)
        self.out.append(Acknowledge(run.run_id, attempt))

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
        )
        self._ready.push(live, now.mono_s)
        self._record(Fact.RUN_QUEUED, live, now, "")

    # --- shared -------------------------------------------------------------------------------------

    def active(self) -> list[Live]:
        """Runs that hold a slot."""
        return [live for live in self.lives.values() if live.run.state in HOLDS_SLOT]

    def _forget(self, live: Live, now: Now) -> None:
        """Drop an ended run; the next one of its job that was HELD behind it may queue."""
        self.deadlines.drop(live)
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
            self._ready.push(first, now.mono_s)
            self._record(Fact.RUN_QUEUED, first, now, "the run before it has ended")

    def _record(self, fact: Fact, live: Live, now: Now, reason: str) -> None:
        self.out.append(Record(fact=fact, at=now.wall, job=live.run.job, run=live.run, reason=reason))


def _judge(live: Live, event: Exited) -> tuple[Outcome, str]:
    """Outcome and reason of an attempt whose leader ended. Why it was stopped goes before how it exited."""
    if live.stop_outcome is not None:
        return live.stop_outcome, live.stop_reason
    if event.timed_out:
        return Outcome.TIMED_OUT, f"ran longer than its timeout of {live.job.timeout_s:g} s while tidegate was down"
    if event.signal is not None:
        return Outcome.FAILED, f"killed by {SIGNAL_NAMES.get(event.signal, f'signal {event.signal}')}"
    if event.exit_code is None:
        return Outcome.UNKNOWN, "its exit status cannot be known"
    if event.exit_code in live.job.success_exit_codes:
        return Outcome.SUCCEEDED, ""
    return Outcome.FAILED, f"exit code {event.exit_code}"
