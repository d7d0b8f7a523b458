"""The pump: the one place where events meet the engine. It drains the inbox, reads the clock once, asks the engine,
and performs the answer in order. It decides nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, assert_never

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Acknowledge, Command, Record, SignalTree, Start
from tidegate.model.event import Event, Now
from tidegate.model.job import Job
from tidegate.model.run import Run


class Executor(Protocol):
    """Who starts and stops work. None of these block; what comes of them arrives as events."""

    def start(self, run: Run, job: Job) -> None: ...

    def signal(self, run_id: str, attempt: int, signal: int) -> None: ...

    def acknowledge(self, run_id: str, attempt: int) -> None: ...

    def flush(self) -> None: ...


class Pump:
    """Single-threaded, on the loop. `post` may be called from anywhere on the loop, also from within a turn."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        executor: Executor,
        observe: Callable[[Record], None],
        lag: Callable[[float], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._executor = executor
        self._observe = observe
        self._lag = lag
        self._inbox: list[Event] = []
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_mono_s: float | None = None
        self._after_turn: list[Callable[[], None]] = []
        self.turned_mono_s = clock.monotonic_s()

    def post(self, event: Event) -> None:
        """Put a fact into the inbox; the next turn takes all of them together."""
        self._inbox.append(event)
        self.wake()

    def wake(self) -> None:
        """Turn once, even with nothing in the inbox."""
        if self._soon is None:
            self._soon = self._loop.call_soon(self._turn)

    def after_each_turn(self, callback: Callable[[], None]) -> None:
        """Call this when a turn is over (drain finished? watchdog fed?)."""
        self._after_turn.append(callback)

    def _turn(self) -> None:
        self._soon = None
        events, self._inbox = self._inbox, []
        now = Now(clock.wall(), clock.monotonic_s())
        if self._timer_at_mono_s is not None and now.mono_s >= self._timer_at_mono_s:
            self._lag(now.mono_s - self._timer_at_mono_s)
        self._perform(self._dispatcher.handle(events, now))
        self._arm()
        self.turned_mono_s = now.mono_s
        for callback in self._after_turn:
            callback()

    def _perform(self, commands: list[Command]) -> None:
        """In order. Readers of records come last: a log line must not delay a start."""
        executor = self._executor
        records: list[Record] = []
        for command in commands:
            match command:
                case Record():
                    records.append(command)
                case Start():
                    executor.start(command.run, command.job)
                case SignalTree():
                    executor.signal(command.run_id, command.attempt, command.signal)
                case Acknowledge():
                    executor.acknowledge(command.run_id, command.attempt)
                case _:
                    assert_never(command)
        executor.flush()
        for record in records:
            self._observe(record)

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
