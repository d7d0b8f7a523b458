"""When somebody is to be told: occasions from the record stream and from time. Pure: no clock, nothing is sent.

An overrun is measured on the monotonic clock (a clock step makes no run longer), an absence on the wall clock (a night
of suspend is a night without a backup).
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator, Mapping, Set
from datetime import datetime, timedelta
from typing import Final

from tidegate.hooks.notice import Notice, Occasion
from tidegate.model.command import Fact, Record
from tidegate.model.event import Now
from tidegate.model.job import Job
from tidegate.model.limits import DURATIONS_MAX, DURATIONS_MIN, OVERRUN_MARGIN_S
from tidegate.model.run import Outcome, Run, Skip

ASKED_FOR: Final = frozenset({Skip.PAUSED, Skip.CALENDAR})  # somebody arranged it: nobody wants to be told each time
NO_FAILURE: Final = frozenset({Outcome.SUCCEEDED, Outcome.CANCELLED})
STALE_MAX: Final = 1000  # entries of a heap that are out of date, beyond as many as count
PERIODS: Final = 2  # of silence: one may be a run that is late or is tried again


class Running:
    """A run whose length is watched."""

    __slots__ = ("due_mono_s", "run", "started_mono_s", "told")

    def __init__(self, run: Run, started_mono_s: float) -> None:
        self.run = run
        self.started_mono_s = started_mono_s
        self.due_mono_s: float | None = None
        self.told = False


class Watch:
    """What is known of the jobs that have hooks."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._failing: set[str] = set()
        self._runs: dict[str, Running] = {}
        self._lengths: dict[str, deque[float]] = {}  # durations of successes, oldest first
        self._overruns: list[tuple[float, str]] = []  # heaps; entries that are out of date are passed over
        self._absences: list[tuple[datetime, str]] = []
        self._absent_at: dict[str, datetime] = {}  # the entry of a job that counts
        self._periods: dict[str, timedelta] = {}
        self._since: dict[str, datetime] = {}  # from when on a job is silent
        self._succeeded: dict[str, datetime] = {}
        self._paused: set[str] = set()

    # --- what is watched --------------------------------------------------------------------------------

    def load(self, jobs: Mapping[str, Job], now: datetime) -> None:
        """Watch these jobs from now on. What is known of those that stay is kept, but for a schedule that changed."""
        old, self._jobs = self._jobs, dict(jobs)
        for name in old.keys() - jobs.keys():
            self._forget(name)
        for name, job in jobs.items():
            before = old.get(name)
            if before is not None and (before.trigger, before.timezone, before.enabled) != (
                job.trigger,
                job.timezone,
                job.enabled,
            ):
                self._periods.pop(name, None)
                self._absent_at.pop(name, None)
                self._since[name] = now
            self._since.setdefault(name, now)
            if not job.hooks.absence or not job.enabled:
                self._absent_at.pop(name, None)

    def restore(
        self,
        last_success: Mapping[str, datetime],
        last_outcome: Mapping[str, str],
        since: Mapping[str, datetime],
        paused: Set[str] = frozenset(),
    ) -> None:
        """What an earlier life of the daemon knew."""
        for name in self._jobs:
            known = max((at for at in (since.get(name), last_success.get(name)) if at is not None), default=None)
            if known is not None:
                self._since[name] = known
            if name in last_success:
                self._succeeded[name] = last_success[name]
            if name in last_outcome and last_outcome[name] not in NO_FAILURE:
                self._failing.add(name)
            if name in paused:
                self._paused.add(name)
            self._await_success(name)

    def without_period(self) -> list[Job]:
        """Jobs whose absence is to be told, and of which nobody has said the period yet."""
        return [job for name, job in self._jobs.items() if job.hooks.absence and name not in self._periods]

    def period(self, job: Job, period: timedelta) -> None:
        """Say the period of a job."""
        current = self._jobs.get(job.name)
        if current is not None and (current.trigger, current.timezone) == (job.trigger, job.timezone):
            self._periods[job.name] = period
            self._await_success(job.name)

    def lacks_lengths(self, name: str) -> bool:
        """Whether this job is measured by its own past, and that has not been told yet."""
        job = self._jobs.get(name)
        return job is not None and bool(job.hooks.overrun) and job.expected_s is None and name not in self._lengths

    def lengths(self, name: str, newest_first: list[float]) -> None:
        """Say how long the newest successes of a job took."""
        if name in self._jobs:
            self._lengths[name] = deque(reversed(newest_first[:DURATIONS_MAX]), DURATIONS_MAX)
            for running in self._runs.values():
                if running.run.job == name:
                    self._await_end(running)

    # --- what happens -----------------------------------------------------------------------------------

    def observe(self, record: Record, now: Now) -> list[tuple[Notice, tuple[str, ...]]]:
        """A fact; what is to be told to which hooks."""
        job, run = self._jobs.get(record.job), record.run
        if job is None:
            return []
        match record.fact:
            case Fact.JOB_PAUSED:
                self._paused.add(job.name)
                self._absent_at.pop(job.name, None)
            case Fact.JOB_RESUMED:
                self._paused.discard(job.name)
                self._since[job.name] = record.at
                self._await_success(job.name)
            case _:
                return [] if run is None else self._of_run(record, job, run, now)
        return []

    def _of_run(self, record: Record, job: Job, run: Run, now: Now) -> list[tuple[Notice, tuple[str, ...]]]:
        match record.fact:
            case Fact.RUN_STARTED | Fact.RUN_RECOVERED:
                if job.hooks.overrun:
                    self._began(run, now)
            case Fact.RUN_RETRYING:
                if run.run_id in self._runs:
                    self._runs[run.run_id].due_mono_s = None
                return self._told(Occasion.RETRY, record, job.hooks.retry)
            case Fact.RUN_SKIPPED:
                if run.skip not in ASKED_FOR:
                    return self._told(Occasion.SKIP, record, job.hooks.skip)
            case Fact.RUN_FINISHED:
                self._runs.pop(run.run_id, None)
                if run.outcome is Outcome.SUCCEEDED:
                    return self._succeeds(record, job, run)
                if run.outcome not in NO_FAILURE:
                    self._failing.add(job.name)
                    return self._told(Occasion.FAILURE, record, job.hooks.failure)
            case _:
                pass
        return []

    def _succeeds(self, record: Record, job: Job, run: Run) -> list[tuple[Notice, tuple[str, ...]]]:
        self._succeeded[job.name] = self._since[job.name] = record.at
        self._await_success(job.name)
        if run.duration_s is not None and job.name in self._lengths:
            self._lengths[job.name].append(run.duration_s)
        if job.name not in self._failing:
            return self._told(Occasion.SUCCESS, record, job.hooks.success)
        self._failing.discard(job.name)
        # Who is told of the recovery need not be told of the success as well.
        others = tuple(name for name in job.hooks.success if name not in job.hooks.recovery)
        return self._told(Occasion.RECOVERY, record, job.hooks.recovery) + self._told(Occasion.SUCCESS, record, others)

    def _told(self, event: Occasion, record: Record, hooks: tuple[str, ...]) -> list[tuple[Notice, tuple[str, ...]]]:
        if not hooks:
            return []
        run = record.run
        reason = record.reason or (run.reason if run is not None else "")
        if record.count > 1:
            reason = f"{record.count} fires: {reason}"
        return [(Notice(event=event, job=record.job, at=record.at, run=run, reason=reason), hooks)]

    # --- overruns and absences --------------------------------------------------------------------------

    def next_deadline(self) -> tuple[float | None, datetime | None]:
        """When to ask `expire` again: a monotonic and a wall instant, whichever comes first."""
        while self._overruns and not self._is_due(*self._overruns[0]):
            heapq.heappop(self._overruns)
        while self._absences and self._absent_at.get(self._absences[0][1]) != self._absences[0][0]:
            heapq.heappop(self._absences)
        return (
            self._overruns[0][0] if self._overruns else None,
            self._absences[0][0] if self._absences else None,
        )

    def expire(self, now: Now) -> list[tuple[Notice, tuple[str, ...]]]:
        """What time alone makes worth telling."""
        return [*self._expire_overruns(now), *self._expire_absences(now)]

    def _expire_overruns(self, now: Now) -> Iterator[tuple[Notice, tuple[str, ...]]]:
        while (due := self.next_deadline()[0]) is not None and due <= now.mono_s:
            _, run_id = heapq.heappop(self._overruns)
            running = self._runs[run_id]
            running.due_mono_s, running.told = None, True
            job = self._jobs[running.run.job]
            limit_s = due - running.started_mono_s
            whose = "expected" if job.expected_s is not None else "99 % of its runs"
            reason = f"still running after {now.mono_s - running.started_mono_s:.1f} s; {whose}: {limit_s:.1f} s"
            if job.hooks.overrun:
                notice = Notice(event=Occasion.OVERRUN, job=job.name, at=now.wall, run=running.run, reason=reason)
                yield notice, job.hooks.overrun

    def _expire_absences(self, now: Now) -> Iterator[tuple[Notice, tuple[str, ...]]]:
        while (due := self.next_deadline()[1]) is not None and due <= now.wall:
            _, name = heapq.heappop(self._absences)
            del self._absent_at[name]  # once, until the next success
            success = self._succeeded.get(name)
            last = f"the last success was at {success.isoformat(timespec='seconds')}" if success else "it never did"
            reason = f"no success within two periods ({self._periods[name]} each); {last}"
            yield Notice(event=Occasion.ABSENCE, job=name, at=now.wall, reason=reason), self._jobs[name].hooks.absence

    def _began(self, run: Run, now: Now) -> None:
        # The wall clock tells for how long a run that was found again had been running.
        ran_s = max((now.wall - run.started_at).total_seconds(), 0.0) if run.started_at is not None else 0.0
        running = Running(run, now.mono_s - ran_s)
        before = self._runs.get(run.run_id)
        running.told = before is not None and before.told
        self._runs[run.run_id] = running
        self._await_end(running)

    def _await_end(self, running: Running) -> None:
        limit_s = self._limit_s(self._jobs[running.run.job])
        if limit_s is not None and not running.told:
            running.due_mono_s = running.started_mono_s + limit_s
            heapq.heappush(self._overruns, (running.due_mono_s, running.run.run_id))
            if len(self._overruns) > 2 * len(self._runs) + STALE_MAX:
                runs = [(one.due_mono_s, run_id) for run_id, one in self._runs.items() if one.due_mono_s is not None]
                self._overruns = sorted(runs)

    def _limit_s(self, job: Job) -> float | None:
        if job.expected_s is not None:
            return job.expected_s
        known = sorted(self._lengths.get(job.name, ()))
        if len(known) < DURATIONS_MIN:
            return None
        return known[math.ceil(0.99 * len(known)) - 1] + OVERRUN_MARGIN_S

    def _is_due(self, due_mono_s: float, run_id: str) -> bool:
        running = self._runs.get(run_id)
        return running is not None and running.due_mono_s == due_mono_s

    def _await_success(self, name: str) -> None:
        job, period = self._jobs[name], self._periods.get(name)
        if period is None or not job.hooks.absence or not job.enabled or name in self._paused:
            return
        due = self._since[name] + PERIODS * period
        self._absent_at[name] = due
        heapq.heappush(self._absences, (due, name))
        if len(self._absences) > 2 * len(self._absent_at) + STALE_MAX:
            self._absences = sorted((at, name) for name, at in self._absent_at.items())

    def _forget(self, name: str) -> None:
        for table in (self._lengths, self._absent_at, self._periods, self._since, self._succeeded):
            table.pop(name, None)
        self._failing.discard(name)
        self._paused.discard(name)
        for run_id in [run_id for run_id, running in self._runs.items() if running.run.job == name]:
            del self._runs[run_id]
