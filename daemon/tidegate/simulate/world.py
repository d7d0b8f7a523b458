"""The world around the engine in virtual time: triggers that come due, work that ends, and what is done to it.

One `step` moves time to the next thing that happens and lets the engine decide about it. Watchers see every step.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Protocol, assert_never

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Acknowledge, Command, Record, SignalTree, Start
from tidegate.model.event import Event, Fired, KeeperLost, Now, PlanLoaded
from tidegate.model.job import Job
from tidegate.model.limits import CLOCK_STEP_S, WAKEUP_S_MAX
from tidegate.model.plan import Plan
from tidegate.simulate.clock import VirtualClock
from tidegate.simulate.work import Work
from tidegate.triggers import FireTrigger, build
from tidegate.triggers.due import after_set_back, due


class Watcher(Protocol):
    """Sees every step: what went in, what came out, and the world after it was done."""

    def __call__(self, world: "World", events: Sequence[Event], commands: Sequence[Command], now: Now) -> None: ...


class World:
    """The simulator's shell."""

    def __init__(self, plan: Plan, slots: int, start: datetime, work: Work, watchers: Sequence[Watcher] = ()) -> None:
        self.clock = VirtualClock(start)
        self.dispatcher = Dispatcher(salt=0)
        self.work = work
        self.slots = slots
        self.events_count = 0
        self._watchers = watchers
        self._triggers: dict[str, tuple[Job, FireTrigger]] = {}
        self._next_at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._acts: list[tuple[float, int, Callable[[], None]]] = []
        self._acts_count = 0
        self._inbox: list[Event] = []
        self._look_mono_s = 0.0
        self._offset_s = self.clock.wall_minus_boot_s()
        self.load(plan, slots)

    # --- what can be done to the world ------------------------------------------------------------------

    def load(self, plan: Plan, slots: int | None = None) -> None:
        """Give the engine a plan; only triggers that changed are touched, as in the daemon."""
        self.slots = slots if slots is not None else self.slots
        self._inbox.append(PlanLoaded(plan, self.slots))
        now = self.clock.wall()
        for name in self._triggers.keys() - plan.jobs.keys():
            del self._triggers[name], self._next_at[name]
        for job in plan.jobs.values():
            old = self._triggers.get(job.name)
            if old is not None and (old[0].trigger, old[0].timezone, old[0].jitter_s, old[0].enabled) == (
                job.trigger,
                job.timezone,
                job.jitter_s,
                job.enabled,
            ):
                self._triggers[job.name] = (job, old[1])
                continue
            self._triggers.pop(job.name, None)
            self._next_at.pop(job.name, None)
            trigger = build(job) if job.enabled else None
            first = trigger.get_next_fire_time(None, now) if trigger else None
            if trigger is not None and first is not None:
                self._triggers[job.name] = (job, trigger)
                self._next_at[job.name] = first
        self._sort()

    def post(self, event: Event) -> None:
        """An event from outside: a request, a drain."""
        self._inbox.append(event)

    def at(self, mono_s: float, act: Callable[[], None]) -> None:
        """Do something to the world at this monotonic second."""
        self._acts_count += 1
        heappush(self._acts, (mono_s, self._acts_count, act))

    def kill_keeper(self) -> None:
        """Everything that runs is lost sight of."""
        self.work.lose_all()
        self.post(KeeperLost("the keeper was killed"))

    def step_clock(self, by: timedelta) -> None:
        """Set the wall clock. The daemon notices at its next look."""
        self.clock.step(by)

    def suspend(self, span: timedelta) -> None:
        """Sleep. Timers do not run; the daemon sees the wall clock at its next look."""
        self.clock.suspend(span)

    # --- time -------------------------------------------------------------------------------------------

    def run_for(self, span_s: float) -> None:
        """Let this many monotonic seconds pass."""
        end_s = self.clock.mono_s + span_s
        while self.step(end_s):
            pass
        self.clock.move_to(max(end_s, self.clock.mono_s))

    def step(self, end_s: float) -> bool:
        """Go to the next thing that happens, not beyond end_s. False: nothing more happens before that."""
        at_s = self._next_s()
        if at_s > end_s:
            return False
        self.clock.move_to(max(at_s, self.clock.mono_s))
        while self._acts and self._acts[0][0] <= self.clock.mono_s:
            heappop(self._acts)[2]()
        events = self._inbox
        self._inbox = []
        self._look(events)
        events += self.work.due(self.clock.mono_s)
        deadline_s = self.dispatcher.next_deadline()
        if events or (deadline_s is not None and deadline_s <= self.clock.mono_s):
            self._turn(events)
        return True

    def _next_s(self) -> float:
        if self._inbox:
            return self.clock.mono_s
        candidates = [self._look_mono_s, self.dispatcher.next_deadline(), self.work.next()]
        if self._acts:
            candidates.append(self._acts[0][0])
        return min(at_s for at_s in candidates if at_s is not None)

    def _turn(self, events: list[Event]) -> None:
        now = self.clock.now()
        commands = self.dispatcher.handle(events, now)
        self.events_count += len(events)
        for command in commands:
            match command:
                case Start():
                    self.work.start(command.run, command.job, now.mono_s)
                case SignalTree():
                    self.work.signal(command.run_id, command.attempt, command.signal, now.mono_s)
                case Record() | Acknowledge():
                    pass
                case _:
                    assert_never(command)
        for watcher in self._watchers:
            watcher(self, events, commands, now)

    # --- the alarm clock --------------------------------------------------------------------------------

    def _look(self, events: list[Event]) -> None:
        """What the daemon's alarm does when its timer ends: notice steps, collect what is due, set the timer."""
        if self.clock.mono_s < self._look_mono_s:
            return
        offset_s = self.clock.wall_minus_boot_s()
        step_s = offset_s - self._offset_s
        if abs(step_s) >= CLOCK_STEP_S:
            self._offset_s = offset_s
            if step_s < 0:
                self._set_back(-step_s)
        now = self.clock.wall()
        while self._heap and self._heap[0][0] <= now:
            at, name = heappop(self._heap)
            if self._next_at.get(name) != at:
                continue
            job, trigger = self._triggers[name]
            times, older = due(trigger, at, now, job.catch_up)
            events.append(Fired(name, tuple(times), older_missed=older))
            following = trigger.get_next_fire_time(times[-1], now)
            if following is None:
                del self._next_at[name], self._triggers[name]
            else:
                self._next_at[name] = following
                heappush(self._heap, (following, name))
        self._set_timer()

    def _set_back(self, step_s: float) -> None:
        now = self.clock.wall()
        for name, at in list(self._next_at.items()):
            self._next_at[name] = after_set_back(self._triggers[name][1], at, now, step_s)
        self._sort()

    def _sort(self) -> None:
        self._heap = [(at, name) for name, at in self._next_at.items()]
        heapify(self._heap)
        self._set_timer()

    def _set_timer(self) -> None:
        wait_s = WAKEUP_S_MAX
        if self._heap:
            wait_s = min(wait_s, max(0.0, (self._heap[0][0] - self.clock.wall()).total_seconds()))
        # A microsecond on top, so that rounding never wakes before the instant.
        self._look_mono_s = self.clock.mono_s + (wait_s + 1e-6 if wait_s else 0.0)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """An aware instant, for short tests."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)
