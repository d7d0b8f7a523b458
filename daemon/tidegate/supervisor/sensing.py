"""Looks at the machine while something runs or waits, and at nothing while nothing does. What a look means is decided
in the engine.

Three paces, one timer: the runnable threads are counted every [pool] runnable, everything is read every [pool]
interval, and memory as often as the engine wants it (50 to 250 ms); all of it seldom while nobody waits and much of the
memory is left. A look that is old is made anew before a turn decides what may start: a rush after an idle hour must not
be let in on yesterday's memory. Where memory falls or is waited for, the keeper is asked what each run holds, and with
its answer memory is looked at once more: what is left and what is still reserved for whom count at the same instant.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.event import Event, Exited, RunsUsed, Sensed
from tidegate.model.pool import PoolSettings
from tidegate.model.sample import Reading, Sample, sample
from tidegate.monitor.machine import Machine
from tidegate.monitor.recent import Recent
from tidegate.supervisor.hands import Hands

OLD_S: Final = 1.0  # a look at memory after which much may have changed
OLD_SAMPLE_S: Final = 15.0  # shown for so long after the last one …
OLD_SAMPLES: Final = 1.5  # … and longer where they come seldom: for so many intervals
ANSWER_S_MAX: Final = 5.0  # then the keeper that was asked is taken to have ended
OWN_SHARE_MAX: Final = 0.0005  # of a core, for looking at our own processes one by one while no run waits
OWN_S_MAX: Final = 10.0
LATE: Final = 1e-4  # a timer may come this much early


class Sensing:
    """Posts `Sensed` at its paces. Everything on the loop's thread; a look takes 0.1 to 1 ms."""

    def __init__(
        self,
        machine: Machine,
        dispatcher: Dispatcher,
        hands: Hands,
        post: Callable[[Event], None],
        settings: Callable[[], PoolSettings],
    ) -> None:
        self._machine, self._dispatcher, self._hands = machine, dispatcher, hands
        self._post, self._settings = post, settings
        self._timer: asyncio.TimerHandle | None = None
        self._looked_mono_s = -math.inf  # at memory
        self._counted_mono_s = -math.inf  # the runnable threads
        self._recent = Recent()
        self._sample: Sample | None = None
        self._rests = False  # nothing is near that must be seen at once
        self._whole: Reading | None = None  # the last one with what our own processes use
        self._own: Sample | None = None  # … and what came of it
        self._own_due_mono_s = -math.inf
        self._asked_mono_s: float | None = None  # afresh, and not answered yet
        self._pause: asyncio.TimerHandle | None = None  # from an answer until it may be asked again
        self._again = False  # there was a reason to ask meanwhile

    @property
    def last(self) -> Sample | None:
        """The newest sample; None where it says nothing of now."""
        newest = self._sample
        old_s = max(OLD_SAMPLE_S, OLD_SAMPLES * self._settings().interval_s_calm)
        if newest is None or clock.monotonic_s() - newest.at_s > old_s:
            return None
        return newest

    def before_turn(self, events: Sequence[Event]) -> Sensed | None:
        """A look at memory, where the last one is old or what runs hold was just looked at."""
        now_s = clock.monotonic_s()
        told = any(isinstance(event, RunsUsed) and event.afresh for event in events)
        if told:
            self._answered(now_s)
        if self._dispatcher.pressure.waits_for_memory and any(isinstance(event, Exited) for event in events):
            self._ask_afresh()  # what it gave back may be enough for whoever waits
        return self._look(now_s) if told or now_s - self._looked_mono_s >= OLD_S else None

    def after_turn(self) -> None:
        """Begin to look where there is a reason to."""
        if self._timer is not None and self._rests and not self._dispatcher.pressure.restful:
            self._timer.cancel()
            self._rests = False
            self._begin()
        elif self._timer is None and self._dispatcher.pressure.look_s() is not None:
            self._begin()

    def _begin(self) -> None:
        """What was while nothing ran, or nobody waited, says nothing of now."""
        self._recent.begin()
        self._whole = self._own = None
        self._own_due_mono_s = -math.inf
        self._arm(self._settings().runnable_s)

    def close(self) -> None:
        """Look no more."""
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        self._machine.close()

    # --- the timer ----------------------------------------------------------------------------------

    def _arm(self, in_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(in_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        look_s = self._dispatcher.pressure.look_s()
        if look_s is None:
            return  # the next turn that finds a reason begins anew
        settings, now_s = self._settings(), clock.monotonic_s()
        self._rests = self._dispatcher.pressure.restful
        interval_s = settings.interval_s_calm if self._rests else settings.interval_s
        look_s = max(look_s, self._dispatcher.pressure.calm_look_s) if self._rests else look_s
        newest = self._recent.newest
        sample_due_s = now_s if newest is None else newest.at_s + interval_s
        if now_s >= sample_due_s - LATE:
            self._post(self._read(now_s, settings))
            sample_due_s = now_s + interval_s
        elif now_s >= self._looked_mono_s + look_s - LATE:
            self._post(self._look(now_s))
            if self._dispatcher.pressure.memory_moves:
                self._ask_afresh()
        due_s = min(sample_due_s, self._looked_mono_s + look_s)
        if not self._rests:
            if now_s >= self._counted_mono_s + settings.runnable_s - LATE:
                self._machine.glance()
                self._counted_mono_s = now_s
            due_s = min(due_s, self._counted_mono_s + settings.runnable_s)
        self._arm(max(0.0, due_s - now_s))

    # --- what each run holds: one question at a time, and as long a pause as the last answer took --------

    def _ask_afresh(self) -> None:
        now_s = clock.monotonic_s()
        asked = self._asked_mono_s is not None and now_s - self._asked_mono_s < ANSWER_S_MAX
        self._again = asked or self._pause is not None
        if not self._again:
            self._asked_mono_s = now_s
            self._hands.ask_use(afresh=True)

    def _answered(self, now_s: float) -> None:
        if self._asked_mono_s is not None and self._pause is None:
            took_s = max(now_s - self._asked_mono_s, self._settings().look_s_min)
            self._pause = asyncio.get_running_loop().call_later(took_s, self._paused)
        self._asked_mono_s = None

    def _paused(self) -> None:
        self._pause = None
        if self._again:
            self._ask_afresh()

    # --- looks -----------------------------------------------------------------------------------------

    def _look(self, now_s: float) -> Sensed:
        self._looked_mono_s = now_s
        memory = self._machine.available()
        return Sensed(None, None) if memory is None else Sensed(memory.available_bytes, memory.limit_bytes)

    def _read(self, now_s: float, settings: PoolSettings) -> Sensed:
        """Everything since the last reading; the load over the last fresh_s, as single readings of it swing."""
        keeper_pid = self._hands.keeper_pid
        self._machine.watch(() if keeper_pid is None else (keeper_pid,))
        whole = self._dispatcher.pressure.crowded or now_s >= self._own_due_mono_s - LATE
        reading = self._machine.read(own=whole)
        if whole:
            self._note_own(reading, now_s)
        self._looked_mono_s = self._counted_mono_s = now_s
        newest = self._recent.add(reading, settings.fresh_s, settings.interval_s / 2)
        if newest.interval_s is None:
            return Sensed(reading.available_bytes, reading.memory_limit_bytes)
        newest = self._sample = self._with_own(newest)
        pressure = self._dispatcher.pressure
        if pressure.memory_moves or pressure.waits_for_memory:
            self._ask_afresh()
        else:
            self._hands.ask_use(afresh=False)
        return Sensed(reading.available_bytes, reading.memory_limit_bytes, newest)

    def _note_own(self, reading: Reading, began_mono_s: float) -> None:
        """What our processes used since they were looked at last. With hundreds of them that takes milliseconds: while
        no run waits for what would come of it, they are looked at the more seldom the longer it takes."""
        if self._whole is not None:
            self._own = sample(self._whole, reading)
            took_s = clock.monotonic_s() - began_mono_s
            self._own_due_mono_s = began_mono_s + min(took_s / OWN_SHARE_MAX, OWN_S_MAX)
        self._whole = reading

    def _with_own(self, newest: Sample) -> Sample:
        own = self._own
        if own is None:
            return newest
        if own.load_source == "run_delay" != newest.load_source:
            newest = replace(newest, load_ratio=own.load_ratio, load_source=own.load_source)
        return replace(
            newest,
            own_cores=own.own_cores,
            foreign_cores=own.foreign_cores,
            run_delay_ratio=own.run_delay_ratio,
        )
