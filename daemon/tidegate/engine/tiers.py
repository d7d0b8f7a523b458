"""What happens to running runs when memory gets short: one is frozen, let go on, or killed and queued anew. At most one
at a time and in its own time, so that what the last one brought is seen before the next. No I/O, no clock.

A frozen run takes no more, but gives nothing back: a brake. Only a killed one gives its memory back: the cure. Neither
helps where a neighbour takes the memory, so both wait until enough of it is ours.
"""

import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from tidegate.engine.memory import MemoryWatch, shown
from tidegate.model.pool import PoolSettings

Kind = Literal["freeze", "thaw", "kill"]


class Runner(Struct, frozen=True, kw_only=True):
    """A run that has processes."""

    run_id: str
    priority: int  # its own, or that of who waits for a resource it holds
    started_mono_s: float
    present_bytes: int
    growth_bytes_per_s: float
    predicted_bytes: int
    retriable: bool  # it may be killed and queued anew
    frozen_since_mono_s: float | None = None
    holds_waited_resource: bool = False  # somebody waits for what it holds: frozen, it would hold up others


class Act(Struct, frozen=True):
    """What is to be done with one run."""

    kind: Kind
    run_id: str
    reason: str


class Tiers:
    """Ask `decide` after every look at memory. It takes for granted that what it answers is done."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._froze_mono_s = -math.inf
        self._thawed_mono_s = -math.inf
        self._killed: Runner | None = None
        self._killed_mono_s = -math.inf
        self._killed_available_bytes = 0
        self._most_available_bytes = 0  # since then: what came back may have been taken by others meanwhile

    def configure(self, settings: PoolSettings) -> None:
        """Other settings, from the next answer on."""
        self._settings = settings

    def decide(self, runners: Sequence[Runner], watch: MemoryWatch, now_mono_s: float) -> Act | None:
        """At most one thing to do now. The protected run is never frozen nor killed."""
        self._most_available_bytes = max(self._most_available_bytes, watch.available_bytes or 0)
        if not runners:
            return None
        safe = protected(runners)
        if safe.frozen_since_mono_s is not None:  # whoever was protected before it has ended
            return self._thaw(safe, "it is the oldest of the highest priority now", now_mono_s)
        others = [runner for runner in runners if runner.run_id != safe.run_id]
        return (
            self._kill_one(others, watch, now_mono_s)
            or self._end_long_freeze(others, watch, now_mono_s)
            or self._freeze_one(others, watch, now_mono_s)
            or self._thaw_one(others, watch, now_mono_s)
        )

    # --- tier 3 -----------------------------------------------------------------------------------------

    def _kill_one(self, others: list[Runner], watch: MemoryWatch, now_mono_s: float) -> Act | None:
        if watch.tier < 3 or not watch.falling or not self._ours(others, watch):
            return None
        if not self._may_kill(others, now_mono_s):
            return None
        able = [runner for runner in others if runner.retriable]
        large = [
            runner for runner in able if runner.present_bytes >= self._settings.memory_matters * watch.shortfall_bytes
        ]
        if not able:
            return None
        victim = min(large, key=_least) if large else max(able, key=lambda runner: runner.present_bytes)
        return self._kill(victim, watch, f"{watch.reason}; it holds {shown(victim.present_bytes)}", now_mono_s)

    def _may_kill(self, runners: list[Runner], now_mono_s: float) -> bool:
        """Whether what the last kill brought has been seen."""
        last = self._killed
        if last is None:
            return True
        pause_s = max(self._settings.kill_pause_s, self._settings.kill_pause_s_per_gib * last.present_bytes / (1 << 30))
        if now_mono_s - self._killed_mono_s >= pause_s:
            return True
        reaped = all(runner.run_id != last.run_id for runner in runners)
        back = self._most_available_bytes - self._killed_available_bytes
        return reaped and back >= last.present_bytes / 2

    def _end_long_freeze(self, others: list[Runner], watch: MemoryWatch, now_mono_s: float) -> Act | None:
        """A run that was frozen for freeze_s_max and still does not fit is killed, whatever the tier."""
        settings = self._settings
        for runner in sorted(others, key=_least):
            since_s = runner.frozen_since_mono_s
            if since_s is None or now_mono_s - since_s < settings.freeze_s_max or not runner.retriable:
                continue
            if not _fits(runner, watch) and self._may_kill(others, now_mono_s):
                reason = f"frozen for {settings.freeze_s_max:g} s, and there is still no memory for it"
                return self._kill(runner, watch, reason, now_mono_s)
        return None

    def _kill(self, victim: Runner, watch: MemoryWatch, reason: str, now_mono_s: float) -> Act:
        self._killed, self._killed_mono_s = victim, now_mono_s
        self._killed_available_bytes = self._most_available_bytes = watch.available_bytes or 0
        return Act("kill", victim.run_id, reason)

    # --- tier 2 -----------------------------------------------------------------------------------------

    def _freeze_one(self, others: list[Runner], watch: MemoryWatch, now_mono_s: float) -> Act | None:
        if watch.tier < 2 or not watch.falling or not self._ours(others, watch):
            return None
        if now_mono_s - self._froze_mono_s < self._settings.freeze_every_s:
            return None
        able = [
            runner
            for runner in others
            if runner.frozen_since_mono_s is None
            and runner.growth_bytes_per_s > self._settings.freeze_growing_bytes
            and not runner.holds_waited_resource
        ]
        if not able:
            return None
        victim = min(able, key=_least)
        self._froze_mono_s = self._thawed_mono_s = now_mono_s  # what was just frozen is not at once let go
        reason = f"{watch.reason}; it grows by {shown(int(victim.growth_bytes_per_s))} each second"
        return Act("freeze", victim.run_id, reason)

    def _thaw_one(self, others: list[Runner], watch: MemoryWatch, now_mono_s: float) -> Act | None:
        frozen = [runner for runner in others if runner.frozen_since_mono_s is not None]
        if not frozen or now_mono_s - self._thawed_mono_s < self._settings.thaw_every_s:
            return None
        first = max(frozen, key=_least)
        if first.holds_waited_resource:
            return self._thaw(first, "somebody waits for what it holds", now_mono_s)
        if watch.tier >= 2 or watch.falling or not _fits(first, watch):
            return None
        return self._thaw(first, f"there is memory for it again: {shown(watch.available_bytes or 0)}", now_mono_s)

    def _thaw(self, runner: Runner, reason: str, now_mono_s: float) -> Act:
        self._thawed_mono_s = now_mono_s
        return Act("thaw", runner.run_id, reason)

    def _ours(self, others: list[Runner], watch: MemoryWatch) -> bool:
        """Whether enough of what is missing is held by runs that may be touched."""
        held_bytes = sum(runner.present_bytes for runner in others)
        return held_bytes > 0 and held_bytes >= self._settings.memory_own_min * watch.shortfall_bytes


def protected(runners: Sequence[Runner]) -> Runner:
    """The oldest of the highest priority: whatever happens, it goes on, so something always ends."""
    return max(runners, key=_least)


def _least(runner: Runner) -> tuple[int, float, str]:
    """Least first: lowest priority, then youngest."""
    return runner.priority, -runner.started_mono_s, runner.run_id


def _fits(runner: Runner, watch: MemoryWatch) -> bool:
    """Whether what it will still take is there."""
    if watch.available_bytes is None:
        return True
    more_bytes = max(0, runner.predicted_bytes - runner.present_bytes)
    return watch.available_bytes - watch.reserve_bytes >= more_bytes


class Retry(Struct, frozen=True):
    """How a run that was killed for memory is tried again."""

    delay_s: float
    alone: bool  # with nothing beside it: the last try


class MemoryRetries:
    """Kills for memory are counted apart from attempts: a run is not to blame for what others took."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings

    def configure(self, settings: PoolSettings) -> None:
        """Other settings, from the next kill on."""
        self._settings = settings

    def next(self, kills: int) -> Retry | None:
        """What follows the kill with this number, from 1 on. None: it had its tries, and fails.

        From memory_retry_s to memory_retry_s_max in equal factors, the last one alone.
        """
        settings = self._settings
        tries = settings.memory_tries
        if kills > tries:
            return None
        first_s, last_s = settings.memory_retry_s, max(settings.memory_retry_s, settings.memory_retry_s_max)
        share = (kills - 1) / (tries - 1) if tries > 1 else 1.0
        growth = last_s / first_s if first_s > 0 else 1.0
        return Retry(round(first_s * growth**share, 3), alone=kills == tries)
