"""The pump: the one place where events meet the engine. It drains the inbox, reads the clock once, asks the engine, has
the answer written down, and performs it in order. It decides nothing.

What is started was first written down: the records of a turn go to the history at once, and what waits for them
(starts, acknowledgements) is done when the history says that they are on disk. TERM waits too, for a moment: a run that
was ended by us and not on record as such would, after a crash, be one that failed by itself, and be tried again. KILL
waits for nothing but its own start.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from signal import SIGTERM
from typing import Final, Protocol, assert_never

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.failpoint import hit
from tidegate.model.command import Acknowledge, Command, Fact, Freeze, Record, RetireIdle, SignalTree, Start, Thaw
from tidegate.model.event import ClaimRefused, Event, Now
from tidegate.model.job import Job
from tidegate.model.run import Run

TERM_S_MAX: Final = 1.0  # a disk that is full must not keep a time-out from ending what runs


ARMS: Final = frozenset({Fact.RUN_ARMED, Fact.RUN_UNARMED, Fact.RUN_FINISHED, Fact.RUN_SKIPPED})  # or disarms
ANSWERS: Final = frozenset({Fact.RUN_QUEUED, Fact.RUN_HELD, Fact.RUN_SKIPPED})  # to a request: what came of it


class Executor(Protocol):
    """Who starts and stops work. None of these block; what comes of them arrives as events."""

    def start(self, run: Run, job: Job, memory_bytes: int) -> None: ...

    def signal(self, run_id: str, attempt: int, signal: int) -> None: ...

    def freeze(self, run_id: str, attempt: int) -> None: ...

    def thaw(self, run_id: str, attempt: int) -> None: ...

    def retire_idle(self, keep: int) -> None: ...

    def acknowledge(self, run_id: str, attempt: int) -> None: ...

    def flush(self) -> None: ...


class Account(Protocol):
    """Who writes records down. Answers with a ticket at once; `Pump.written` is to be called when it is on disk."""

    def write(self, entries: Sequence[Record], urgent: bool) -> int: ...


class Pump:
    """Single-threaded, on the loop. `post` may be called from anywhere on the loop, also from within a turn."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        executor: Executor,
        account: Account,
        observe: Callable[[Record], None],
        lag: Callable[[float], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._executor = executor
        self._account = account
        self._observe = observe
        self._lag = lag
        self._before_turn: Callable[[Sequence[Event]], Event | None] = lambda _: None
        self._inbox: list[Event] = []
        self._unwritten: deque[tuple[int, list[Command]]] = deque()  # commands that wait, by ticket, rising
        self._unsent: set[tuple[str, int]] = set()  # attempts whose start is among them
        self._owed: set[SignalTree] = set()  # TERMs among them, neither on record nor sent
        self._late: set[SignalTree] = set()  # TERMs that were sent before they were on record
        self._armed: dict[tuple[str, int], int] = {}  # attempts that may start, by the ticket that says so
        self._over: set[tuple[str, int]] = set()  # … and of these what has ended already, and must not be started
        self._refused: set[str] = set()  # runs whose start must not be performed
        self._settling: list[tuple[int, asyncio.Future[None]]] = []
        self._ticket = 0  # the last one that was given out
        self._written = 0
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_mono_s: float | None = None
        self._after_turn: list[Callable[[], None]] = []
        self._stopped = False
        self.turned_mono_s = clock.monotonic_s()

    def post(self, event: Event) -> None:
        """Put a fact into the inbox; the next turn takes all of them together."""
        self._inbox.append(event)
        self.wake()

    def wake(self) -> None:
        """Turn once, even with nothing in the inbox."""
        if self._soon is None and not self._stopped:
            self._soon = self._loop.call_soon(self._turn)

    def stop(self) -> None:
        """Turn no more and start nothing any more: what waits for the history is the next life's."""
        self._stopped = True
        self._unwritten.clear()
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()

    def after_each_turn(self, callback: Callable[[], None]) -> None:
        """Call this when a turn is over (drain finished? watchdog fed?)."""
        self._after_turn.append(callback)

    def before_each_turn(self, look: Callable[[Sequence[Event]], Event | None]) -> None:
        """Ask this first in each turn that has something to decide; its answer is the last of the turn's events."""
        self._before_turn = look

    def record(self, record: Record) -> None:
        """A fact of the shell itself, for all readers of the stream."""
        self._ticket = self._account.write([record], False)
        self._observe(record)

    async def settled(self) -> None:
        """Wait until everything that has been decided so far is on disk."""
        if self._written >= self._ticket:
            return
        done: asyncio.Future[None] = self._loop.create_future()
        self._settling.append((self._ticket, done))
        await done

    def refuse(self, run_id: str, by_run_id: str) -> None:
        """History has this fire as another run. Told before the ticket is: its start is not performed."""
        self._refused.add(run_id)
        self.post(ClaimRefused(run_id, by_run_id))

    def written(self, ticket: int) -> None:
        """Everything up to this ticket is on disk: do what waited for it."""
        self._written = max(self._written, ticket)
        if self._stopped:
            return
        waiting = self._unwritten
        while waiting and waiting[0][0] <= ticket:
            for command in waiting.popleft()[1]:
                self._do(command)
        self._executor.flush()
        if self._settling:
            for _, done in [entry for entry in self._settling if entry[0] <= ticket]:
                if not done.done():
                    done.set_result(None)
            self._settling = [entry for entry in self._settling if entry[0] > ticket]

    def _turn(self) -> None:
        self._soon = None
        events = self._inbox
        seen = self._before_turn(events) if events else None
        self._inbox = []
        if seen is not None:
            events.append(seen)
        now = Now(clock.wall(), clock.monotonic_s())
        if self._timer_at_mono_s is not None and now.mono_s >= self._timer_at_mono_s:
            self._lag(now.mono_s - self._timer_at_mono_s)
        self._perform(self._dispatcher.handle(events, now))
        self._arm()
        self.turned_mono_s = now.mono_s
        for callback in self._after_turn:
            callback()

    def _perform(self, commands: list[Command]) -> None:
        """Records to the history, the rest in order: at once, or when the records are on disk."""
        records: list[Record] = []
        arms: list[Record] = []
        waiting: list[Command] = []
        urgent = False
        for command in commands:
            match command:
                case Record():
                    records.append(command)
                    urgent = urgent or _is_waited_for(command)
                    if command.fact in ARMS:
                        arms.append(command)
                case Start():
                    key = (command.run.run_id, command.run.attempt)
                    armed_ticket = self._armed.pop(key, None)
                    self._unsent.add(key)
                    if armed_ticket is not None and armed_ticket <= self._written:
                        self._do(command)  # that it may start is on disk
                        continue
                    waiting.append(command)
                    urgent = True
                case SignalTree():
                    unsent = (command.run_id, command.attempt) in self._unsent
                    if not unsent and command.signal != SIGTERM:
                        self._do(command)
                        continue
                    waiting.append(command)
                    urgent = True
                    if not unsent:
                        self._owed.add(command)
                        self._loop.call_later(TERM_S_MAX, self._signal_at_last, command)
                case Acknowledge():
                    key = (command.run_id, command.attempt)
                    if key in self._unsent:  # it ended as unknown, with its keeper, before its start was on disk
                        self._unsent.discard(key)
                        self._over.add(key)
                    waiting.append(command)
                case Freeze() | Thaw() | RetireIdle():  # a brake that waits for a disk is none
                    self._do(command)
                case _:
                    assert_never(command)
        if records:
            hit("fire.before_claim")
            self._ticket = self._account.write(records, urgent)
            self._note_armed(arms)
        if waiting:
            self._unwritten.append((self._ticket, waiting))
            if not records and self._written >= self._ticket:
                self.written(self._ticket)
        self._executor.flush()
        for record in records:
            self._observe(record)

    def _note_armed(self, records: list[Record]) -> None:
        for record in records:
            if record.run is not None:
                if record.fact is Fact.RUN_ARMED:
                    self._armed[record.run.run_id, record.run.attempt] = self._ticket
                else:
                    self._armed.pop((record.run.run_id, record.run.attempt), None)

    def _do(self, command: Command) -> None:
        match command:
            case Start(run, job, memory_bytes):
                key = (run.run_id, run.attempt)
                self._unsent.discard(key)
                if run.run_id in self._refused or key in self._over:
                    self._refused.discard(run.run_id)
                    self._over.discard(key)
                    return
                hit("start.before_send")
                self._executor.start(run, job, memory_bytes)
                hit("start.after_send")
            case SignalTree():
                if command not in self._late:
                    self._executor.signal(command.run_id, command.attempt, command.signal)
                self._owed.discard(command)
                self._late.discard(command)
            case Freeze():
                self._executor.freeze(command.run_id, command.attempt)
            case Thaw():
                self._executor.thaw(command.run_id, command.attempt)
            case RetireIdle():
                self._executor.retire_idle(command.keep)
            case Acknowledge():
                self._executor.acknowledge(command.run_id, command.attempt)
                hit("ack.after_send")
            case Record():
                raise AssertionError("a record is written, not done")
            case _:
                assert_never(command)

    def _signal_at_last(self, command: SignalTree) -> None:
        if command in self._owed and not self._stopped:
            self._owed.discard(command)
            self._late.add(command)
            self._executor.signal(command.run_id, command.attempt, command.signal)
            self._executor.flush()

    def _arm(self) -> None:
        """The engine's next deadline is the only time-out there is."""
        at_mono_s = self._dispatcher.next_deadline()
        if at_mono_s == self._timer_at_mono_s and self._timer is not None and not self._timer.cancelled():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at_mono_s = at_mono_s
        if at_mono_s is not None:
            # The loop's clock is the same monotonic clock.
            self._timer = self._loop.call_at(at_mono_s, self._fire_timer)

    def _fire_timer(self) -> None:
        self._timer = None
        self.wake()


def _is_waited_for(record: Record) -> bool:
    """Whether a person or a program waits for the answer."""
    if record.fact is Fact.RUN_ARMED:
        return True  # it may be its turn in a millisecond
    if record.run is not None:
        return record.run.request_id is not None and record.fact in ANSWERS
    return record.lease is not None or record.fact in (Fact.JOB_PAUSED, Fact.JOB_RESUMED)
