"""The world around the engine in virtual time: triggers that come due, work that ends, and what is done to it.

One `step` moves time to the next thing that happens and lets the engine decide about it. Watchers see every step. A
turn is done as the daemon's pump does it: records to the book, and what waits for them when they are in it. The daemon
can die at each of these places, and begin again with what the book and the keeper have.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from heapq import heappop, heappush
from typing import Protocol, assert_never

from msgspec import Struct

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import (
    Acknowledge,
    Command,
    Fact,
    Freeze,
    Record,
    RetireIdle,
    SignalTree,
    Start,
    Thaw,
)
from tidegate.model.event import (
    ClaimRefused,
    DrainRequested,
    Event,
    KeeperLost,
    LeaseReleased,
    LeaseRequested,
    Now,
    PlanLoaded,
    StartsHeld,
    WindowChanged,
)
from tidegate.model.job import Job
from tidegate.model.lease import Lease
from tidegate.model.plan import Plan
from tidegate.model.run import State
from tidegate.simulate.alarm import VirtualAlarm
from tidegate.simulate.book import Book
from tidegate.simulate.clock import VirtualClock
from tidegate.simulate.takeup import first_events
from tidegate.simulate.work import Key, Work


class Watcher(Protocol):
    """Sees every step: what went in, what came out, and the world after it was done."""

    def __call__(self, world: "World", events: Sequence[Event], commands: Sequence[Command], now: Now) -> None: ...


class Death(StrEnum):
    """Where in a turn the daemon dies."""

    BEFORE_COMMIT = "before_commit"  # nothing of the turn was written or done
    SIGNALLED = "signalled"  # … but signals were sent, which wait for nothing
    AFTER_COMMIT = "after_commit"  # it is on record; starts and acknowledgements were not sent
    AFTER_PERFORM = "after_perform"


class Turn(Struct):
    """What a turn decided, until it is on record."""

    records: list[Record]
    waiting: list[Command]
    keeper: str
    plans: list[tuple[dict[str, Job], datetime]]  # that became live with it, each with the instant


class World:
    """The simulator's shell."""

    def __init__(self, plan: Plan, slots: int, start: datetime, work: Work, watchers: Sequence[Watcher] = ()) -> None:
        self.clock = VirtualClock(start)
        self.work = work
        self.book = Book()
        self.plan = plan
        self.slots = slots
        self.up = False
        self.boot = 0
        self.lives = 0
        self.ends = 0
        self.events_count = 0
        self.armed: set[Key] = set()  # attempts that may start without another word
        self.unsent: set[Key] = set()  # attempts whose start waits for its record
        self.open_calendars: set[str] = set()
        self.on_commit: list[Callable[[World, Turn, Now], None]] = []
        self.on_end: list[Callable[[World], None]] = []  # a life of the daemon is over
        self._watchers = watchers
        self._acts: list[tuple[float, int, Callable[[], None]]] = []
        self._acts_count = 0
        self._inbox: list[Event] = []
        self._unwritten: deque[Turn] = deque()
        self._new_plans: list[tuple[dict[str, Job], datetime]] = []
        self._dropped: set[Key] = set()  # starts that must not be done any more
        self._disk_is_full = False
        self._dies: tuple[Death, float] | None = None
        self._meanwhile: Callable[[], None] | None = None
        self._down_s: float | None = None  # ends when drained, for so long
        self._holders: dict[str, float] = {}  # of leases, with the monotonic second of their end
        self.begin()

    # --- the life of the daemon -------------------------------------------------------------------------

    def begin(self) -> None:
        """A daemon starts, with what the book and the keeper have."""
        if self.up:
            return
        now = self.clock.now()
        self.up = True
        self.began_wall, self.began_jobs = now.wall, self.plan.jobs
        self.dispatcher = Dispatcher(salt=self.lives)
        self.lives += 1
        self.alarm = VirtualAlarm(self.clock)
        self._disk_is_full = self._has_begun = False
        self.work.listen(now.mono_s)
        self.book.open(now.wall)
        # Jobs that are new here never fired before: @reboot jobs among them wait for the next boot.
        seen = self.boot_id if self.book.boot_id == self.boot_id else ""
        known = self.book.accounted_for(self.plan.jobs)
        self._tell_known([(self.plan.jobs, now.wall)], seen)
        self._inbox, findings = first_events(
            self.book, self.work, self.plan, self.slots, self.boot_id, self.open_calendars, self._holders, now
        )
        for one in findings.acknowledge:
            self.work.acknowledge(one.run_id, one.attempt)
        self.alarm.load(self.plan.jobs, known)

    @property
    def boot_id(self) -> str:
        """Of the machine's present boot."""
        return f"boot-{self.boot}"

    def crash(self, where: Death, down_s: float, meanwhile: Callable[[], None] | None = None) -> None:
        """The daemon dies in its next turn that decides something, and begins again after down_s. `meanwhile` is what
        happens half-way."""
        if self.up:
            self._dies = (where, down_s)
            self._meanwhile = meanwhile

    def leave(self, down_s: float) -> None:
        """SIGTERM under on_stop = "leave": everything decided is on record and done."""
        if self.up and not self._disk_is_full:
            self._end(down_s)

    def drain(self, timeout_s: float, down_s: float) -> None:
        """SIGTERM under on_stop = "drain"."""
        if self.up and self._down_s is None:
            self.alarm.stop()
            self.post(DrainRequested(timeout_s, "the test"))
            self._down_s = down_s

    def reboot(self, down_s: float) -> None:
        """The machine goes down as if its plug were pulled, and comes back."""
        if self.up:
            self._end(down_s)
        self.work.reboot()
        self.boot += 1
        self._holders.clear()

    def _end(self, down_s: float) -> None:
        self.up = False
        self.ends += 1
        self._dies = self._down_s = None
        self.work.hang_up(self.clock.mono_s)
        self._inbox.clear()
        self._unwritten.clear()
        self._new_plans.clear()
        self.armed.clear()
        self.unsent.clear()
        self._dropped.clear()
        for callback in self.on_end:
            callback(self)
        if self._meanwhile is not None:
            self.at(self.clock.mono_s + down_s / 2, self._meanwhile)
            self._meanwhile = None
        self.at(self.clock.mono_s + down_s, self.begin)

    # --- what can be done to the world ------------------------------------------------------------------

    def load(self, plan: Plan, slots: int | None = None) -> None:
        """Give the engine a plan; one that is down, or about to be, reads it when it begins."""
        self.slots = slots if slots is not None else self.slots
        self.plan = plan
        if not self.up or self._down_s is not None:
            return
        self._inbox += self.alarm.collect()  # what was due before this plan came is not lost with its trigger
        self._inbox.append(PlanLoaded(plan, self.slots))
        self._new_plans.append((plan.jobs, self.clock.wall()))
        self.alarm.load(plan.jobs)

    def post(self, event: Event) -> None:
        """An event from outside: a request, a drain. Nobody hears it while the daemon is down."""
        if self.up:
            self._inbox.append(event)

    def at(self, mono_s: float, act: Callable[[], None]) -> None:
        """Do something to the world at this monotonic second."""
        self._acts_count += 1
        heappush(self._acts, (mono_s, self._acts_count, act))

    def kill_keeper(self, go_on_s: float = 0.0) -> None:
        """Everything that runs is lost sight of; its processes may go on for a while."""
        now_s = self.clock.mono_s
        self.work.lose_all(now_s, go_on_s)
        runs = self.dispatcher.runs() if self.up else []
        alive = {run.run_id for run in runs if run.pid and self.work.alive(run.pid, run.pid_start or 0, now_s)}
        self.post(KeeperLost("the keeper was killed", frozenset(alive)))

    def set_calendar(self, name: str, open: bool) -> None:
        """A calendar opens or closes."""
        if open:
            self.open_calendars.add(name)
        else:
            self.open_calendars.discard(name)
        if name in self.plan.calendars:
            self.post(WindowChanged(name, open))

    def hold_lease(self, lease: Lease, holder_s: float, wait_s: float | None) -> None:
        """A program asks for units, and lives for holder_s."""
        if self.up:
            self._holders[lease.lease_id] = self.clock.mono_s + holder_s
            self.post(LeaseRequested(lease, wait_s))
            self.at(
                self.clock.mono_s + holder_s, lambda: self.post(LeaseReleased(lease.lease_id, "its holder has ended"))
            )

    def fill_disk(self, span_s: float, notice_s: float = 0.2) -> None:
        """Nothing can be written for a while: what was decided waits, and so does what waits for its record. The writer
        finds out when its first transaction fails, which may take it a while."""
        if self.up and not self._disk_is_full:
            self._disk_is_full = True
            life = self.lives
            self.at(self.clock.mono_s + notice_s, lambda: self._say_disk("history cannot be written: disk full", life))
            self.at(self.clock.mono_s + notice_s + span_s, lambda: self._mend_disk(life))

    def _say_disk(self, reason: str, life: int) -> None:
        if life == self.lives:
            self.post(StartsHeld("history", reason))

    def _mend_disk(self, life: int) -> None:
        if self.up and life == self.lives and self._disk_is_full:
            self._disk_is_full = False
            self._commit(self.clock.now())
            self._say_disk("", life)

    def step_clock(self, by: timedelta) -> None:
        """Set the wall clock. The daemon notices at its next look."""
        self.clock.step(by)

    def suspend(self, span: timedelta) -> None:
        """Sleep. Timers do not run; the daemon sees the wall clock at its next look."""
        self.clock.suspend(span)

    def calm(self) -> None:
        """Nothing befalls it any more; a daemon that is down begins, and a disk that is full is mended."""
        self._acts.clear()
        self._dies = None
        self.begin()
        self._mend_disk(self.lives)
        for lease_id in self._holders:
            self.post(LeaseReleased(lease_id, "its holder has ended"))

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
        if not self.up:
            self.work.due(self.clock.mono_s)
            return True
        events = self._inbox
        self._inbox = []
        if self.clock.mono_s >= self.alarm.look_mono_s:
            self._look(events)
        events += self.work.due(self.clock.mono_s)
        deadline_s = self.dispatcher.next_deadline()
        if events or (deadline_s is not None and deadline_s <= self.clock.mono_s):
            self._turn(events)
        return True

    def _next_s(self) -> float:
        if self._inbox:
            return self.clock.mono_s
        soonest_s = self._acts[0][0] if self._acts else float("inf")
        if (work_s := self.work.next()) is not None and work_s < soonest_s:
            soonest_s = work_s
        if self.up:
            soonest_s = min(soonest_s, self.alarm.look_mono_s)
            if (deadline_s := self.dispatcher.next_deadline()) is not None and deadline_s < soonest_s:
                soonest_s = deadline_s
        return soonest_s

    def _look(self, events: list[Event]) -> None:
        step_s = self.alarm.step_s()
        if step_s is not None:
            record = Record(fact=Fact.CLOCK_STEPPED, at=self.clock.wall(), lateness_s=step_s)
            self._unwritten.append(Turn([record], [], self.work.instance, []))
            self._commit(self.clock.now())
        if self.up:
            events += self.alarm.collect()

    # --- the pump ---------------------------------------------------------------------------------------

    def _turn(self, events: list[Event]) -> None:
        now = self.clock.now()
        commands = self.dispatcher.handle(events, now)
        self.events_count += len(events)
        if self._dies is not None and commands and self._dies[0] is Death.BEFORE_COMMIT:
            self._end(self._dies[1])
            return
        for event in events:
            if isinstance(event, ClaimRefused):
                self.unsent = {key for key in self.unsent if key[0] != event.run_id}
        turn = Turn([], [], self.work.instance, self._new_plans)
        self._new_plans = []
        for command in commands:
            match command:
                case Record():
                    turn.records.append(command)
                case Start():
                    key = (command.run.run_id, command.run.attempt)
                    if key in self.armed:  # that it may start is in the book
                        self.work.start(command.run, command.job, now.mono_s)
                    else:
                        turn.waiting.append(command)
                        self.unsent.add(key)
                case SignalTree():
                    if (command.run_id, command.attempt) in self.unsent:
                        turn.waiting.append(command)
                    else:
                        self.work.signal(command.run_id, command.attempt, command.signal, now.mono_s)
                case Acknowledge():
                    if (key := (command.run_id, command.attempt)) in self.unsent:
                        self._dropped.add(key)  # it is over before it was sent: it must not be started after that
                        self.unsent.discard(key)
                    turn.waiting.append(command)
                case Freeze() | Thaw() | RetireIdle():
                    self._brake(command, now)
                case _:
                    assert_never(command)
        if self._dies is not None and commands and self._dies[0] is Death.SIGNALLED:
            self._end(self._dies[1])
            return
        self._unwritten.append(turn)
        if not self._disk_is_full:
            self._commit(now)
        if not self.up:
            return
        for watcher in self._watchers:
            watcher(self, events, commands, now)
        if self._dies is not None and commands and self._dies[0] is Death.AFTER_PERFORM:
            self._end(self._dies[1])
        elif self._down_s is not None and self.dispatcher.drained:
            self.work.leave()
            self._end(self._down_s)

    def _commit(self, now: Now) -> None:
        """Write down what waits, in order, and do what waited for it."""
        while self._unwritten and not self._disk_is_full:
            turn = self._unwritten.popleft()
            self._tell_known(turn.plans, self.boot_id)
            refused = self.book.write(turn.records, self.boot_id, turn.keeper)
            self._note_armed(turn.records)
            if self._has_begun:  # behind the claims of the @reboot jobs
                self.book.boot_id = self.boot_id
            self._has_begun = True
            for callback in self.on_commit:
                callback(self, turn, now)
            if self._dies is not None and turn.records and self._dies[0] is Death.AFTER_COMMIT:
                self._end(self._dies[1])
                return
            for run_id, by_run_id in refused:
                self._inbox.append(ClaimRefused(run_id, by_run_id))
            self._perform(turn.waiting, now)

    def _note_armed(self, records: list[Record]) -> None:
        for record in records:
            if record.run is not None:
                key = (record.run.run_id, record.run.attempt)
                if record.fact is Fact.RUN_ARMED:
                    self.armed.add(key)
                elif record.run.state is not State.QUEUED or record.fact is Fact.RUN_UNARMED:
                    self.armed.discard(key)

    def _perform(self, commands: list[Command], now: Now) -> None:
        for command in commands:
            match command:
                case Start():
                    key = (command.run.run_id, command.run.attempt)
                    if key in self._dropped:
                        self._dropped.discard(key)
                    elif command.run.run_id not in self.book.orphans:  # else unsent until the engine knows
                        self.unsent.discard(key)
                        self.work.start(command.run, command.job, now.mono_s)
                case SignalTree():
                    self.work.signal(command.run_id, command.attempt, command.signal, now.mono_s)
                case Acknowledge():
                    self.work.acknowledge(command.run_id, command.attempt)
                case Record() | Freeze() | Thaw() | RetireIdle():
                    raise AssertionError("written or done at once, and waits for nothing")
                case _:
                    assert_never(command)

    def _brake(self, command: Freeze | Thaw | RetireIdle, now: Now) -> None:
        match command:
            case Freeze():
                self.work.freeze(command.run_id, command.attempt, now.mono_s)
            case Thaw():
                self.work.thaw(command.run_id, command.attempt, now.mono_s)
            case RetireIdle():
                pass  # no warm workers here
            case _:
                assert_never(command)

    def _tell_known(self, plans: list[tuple[dict[str, Job], datetime]], boot_id: str) -> None:
        for jobs, at in plans:
            self.book.know(jobs, at, boot_id)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """An aware instant, for short tests."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)
