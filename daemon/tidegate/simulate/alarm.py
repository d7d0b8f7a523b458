"""The alarm clock in virtual time: what supervisor/alarm.py does with APScheduler, by the same triggers and rules."""

from collections.abc import Mapping
from datetime import datetime
from heapq import heapify, heappop, heappush

from tidegate.model.event import Fired
from tidegate.model.job import Job
from tidegate.model.limits import CLOCK_STEP_S, WAKEUP_S_MAX
from tidegate.simulate.book import timing
from tidegate.simulate.clock import VirtualClock
from tidegate.triggers.build import build
from tidegate.triggers.due import after_set_back, begin, due
from tidegate.triggers.fire import FireTrigger


class VirtualAlarm:
    """The triggers of the live plan. One for each life of the daemon."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._triggers: dict[str, tuple[Job, FireTrigger]] = {}
        self._next_at: dict[str, datetime] = {}
        self._down_until: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._offset_s = clock.wall_minus_boot_s()
        self._stopped = False
        self.look_mono_s = clock.mono_s  # when to look next

    def load(self, jobs: dict[str, Job], known: Mapping[str, datetime] | None = None) -> None:
        """Follow a plan; only triggers that changed are touched. `known`: see supervisor/alarm.py."""
        now = self._clock.wall()
        gone = self._triggers.keys() - jobs.keys()
        for job in jobs.values():
            old = self._triggers.get(job.name)
            if old is not None and timing(old[0]) == timing(job):
                self._triggers[job.name] = (job, old[1])
                continue
            gone.discard(job.name)
            self._forget(job.name)
            trigger = build(job) if job.enabled else None
            if trigger is None:
                continue
            first, was_down = begin(trigger, now, None if known is None else known.get(job.name))
            if first is not None:
                self._triggers[job.name] = (job, trigger)
                self._next_at[job.name] = first
                if was_down:
                    self._down_until[job.name] = now
        for name in gone:
            self._forget(name)
        self._sort()

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopped = True
        self.look_mono_s = float("inf")

    def step_s(self) -> float | None:
        """Notice that the wall clock was set; by how much."""
        offset_s = self._clock.wall_minus_boot_s()
        step_s = offset_s - self._offset_s
        if abs(step_s) < CLOCK_STEP_S:
            return None
        self._offset_s = offset_s
        if step_s < 0:
            now = self._clock.wall()
            for name, at in list(self._next_at.items()):
                self._next_at[name] = after_set_back(self._triggers[name][1], at, now, -step_s)
            self._sort()
        return step_s

    def collect(self) -> list[Fired]:
        """Everything due by now; sets the next look."""
        events: list[Fired] = []
        if self._stopped:
            return events
        now = self._clock.wall()
        while self._heap and self._heap[0][0] <= now:
            at, name = heappop(self._heap)
            if self._next_at.get(name) != at:
                continue
            job, trigger = self._triggers[name]
            times, older = due(trigger, at, now, job.catch_up)
            down_until = self._down_until.pop(name, None) if self._down_until else None
            events.append(Fired(name, tuple(times), older_missed=older, down_until=down_until))
            following = trigger.get_next_fire_time(times[-1], now)
            if following is None:
                self._forget(name)
            else:
                self._next_at[name] = following
                heappush(self._heap, (following, name))
        self._set_timer()
        return events

    def _forget(self, name: str) -> None:
        self._triggers.pop(name, None)
        self._next_at.pop(name, None)
        self._down_until.pop(name, None)

    def _sort(self) -> None:
        self._heap = [(at, name) for name, at in self._next_at.items()]
        heapify(self._heap)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._stopped:
            return
        wait_s = WAKEUP_S_MAX
        if self._heap:
            wait_s = min(wait_s, max(0.0, (self._heap[0][0] - self._clock.wall()).total_seconds()))
        # A microsecond on top, so that rounding never wakes before the instant.
        self.look_mono_s = self._clock.mono_s + (wait_s + 1e-6 if wait_s else 0.0)
