"""The gate for memory: a run starts if its predicted peak fits beside what is in use and what running runs have not
reached yet. Pure; how short memory is (engine/memory.py) and what a run needs (engine/estimate.py) is known elsewhere.
"""

from typing import Final

from msgspec import Struct

from tidegate.engine.backfill import Ending, may_pass
from tidegate.engine.estimate import Basis, Estimator, Prediction, Used
from tidegate.engine.fresh import Fresh
from tidegate.engine.live import Live
from tidegate.engine.memory import MemoryWatch, shown
from tidegate.engine.tiers import MemoryRetries
from tidegate.model.event import Now
from tidegate.model.pool import PoolSettings
from tidegate.model.run import Outcome, Usage

GROWTH_SHARE: Final = 0.5  # of the newest look in the growth of a run: one look may have met a moment


class Holding(Struct):
    """What one running run has and will have."""

    live: Live
    prediction: Prediction
    since_mono_s: float
    reserved_bytes: int  # of its predicted peak not reached yet
    present_bytes: int = 0
    growth_bytes_per_s: float = 0.0
    looked_mono_s: float | None = None


class MemoryGate:
    """Who holds how much, who will, and who waits for it."""

    name = "memory"

    def __init__(self) -> None:
        self.settings = PoolSettings()
        self.watch = MemoryWatch(self.settings)
        self.estimator = Estimator(self.settings)
        self.retries = MemoryRetries(self.settings)
        self.fresh = Fresh(self.settings.fresh_s)
        self.stale = False  # something has changed for those who wait
        self.head: Live | None = None  # first of those who wait for memory
        self.running: dict[str, Holding] = {}  # by run id
        self.reserved_bytes = 0
        self._waits: set[str] = set()  # run ids
        self._alone_waits: dict[str, Live] = {}  # tried for the last time, with nothing beside them
        self._alone: str | None = None  # the one that runs so
        self._canaries: dict[str, tuple[str, float]] = {}  # by job: run id, since when

    @property
    def whole(self) -> bool:
        """Where memory is short nothing starts, whoever it is."""
        return self.watch.tier > 0

    @property
    def reading(self) -> str:
        """How it stands, as a sentence."""
        watch = self.watch
        if watch.available_bytes is None:
            return "nothing is known of the memory"
        left = f"{shown(watch.available_bytes)} left, {shown(watch.reserve_bytes)} stay free"
        text = f"{left}, {shown(max(0, self.reserved_bytes))} reserved for what runs"
        return f"{text}; tier {watch.tier}" if watch.tier else text

    def configure(self, settings: PoolSettings) -> None:
        """A reload."""
        self.settings = settings
        self.watch.configure(settings)
        self.estimator.configure(settings)
        self.retries.configure(settings)
        self.fresh.fresh_s = settings.fresh_s
        self.stale = True

    # --- the gate -----------------------------------------------------------------------------------

    def holds(self, live: Live, now: Now) -> str | None:
        if not self.running:
            return self.watch.admits(0, 0, 0)
        if self._alone is not None:
            return f"run {self._alone} has the machine to itself: it ran out of memory before"
        if live.alone:
            return f"it ran out of memory {live.run.evictions} times: it waits until nothing else runs"
        if self._alone_waits:
            return f"run {next(iter(self._alone_waits))} waits to have the machine to itself"
        if self.watch.available_bytes is None:
            return None  # nobody can tell
        need = self._predict(live)
        canary = self._canaries.get(live.run.job)
        if not need.known and canary is not None and now.mono_s - canary[1] < self.settings.canary_s:
            return f"run {canary[0]} of the same job shows first what memory it needs"
        reason = self.watch.admits(need.bytes, self.reserved_bytes, len(self.running))
        return reason or self._behind_head(live, need, now)

    def took(self, live: Live) -> None:
        need = self._predict(live)
        self.running[live.run.run_id] = Holding(live, need, live.taken_mono_s, need.bytes)
        cores = self.estimator.predict_cpu(live.run.job, live.job.cpu_cores)
        self.fresh.started(live.run.run_id, cores, live.taken_mono_s)
        self.reserved_bytes += need.bytes
        if not need.known:
            self._canaries.setdefault(live.run.job, (live.run.run_id, live.taken_mono_s))
        if live.alone:
            self._alone = live.run.run_id
        self.left(live)
        self.stale = bool(self._waits)

    def gave(self, live: Live) -> None:
        holding = self.running.pop(live.run.run_id)
        self.reserved_bytes -= holding.reserved_bytes
        if self._canaries.get(live.run.job, ("", 0.0))[0] == live.run.run_id:
            del self._canaries[live.run.job]
        if self._alone == live.run.run_id:
            self._alone = None
        self.stale = bool(self._waits)

    def held(self, live: Live) -> None:
        """This gate holds it, and others may pass."""
        self._waits.add(live.run.run_id)
        if live.alone:
            self._alone_waits[live.run.run_id] = live
        if self.head is None:
            self.head = live

    def begin_walk(self) -> None:
        """All who wait are looked at again, in order."""
        self._waits.clear()
        self._alone_waits.clear()
        self.head = None

    def left(self, live: Live) -> None:
        """It waits for memory no more."""
        self._waits.discard(live.run.run_id)
        self._alone_waits.pop(live.run.run_id, None)
        if self.head is live:
            self.head = None
            self.stale = bool(self._waits)

    # --- what is seen of the runs -------------------------------------------------------------------

    def use(self, run_id: str, present_bytes: int, now: Now) -> None:
        """A run holds this much now: what it has reached need not be kept for it any more."""
        holding = self.running.get(run_id)
        if holding is None:
            return
        if holding.looked_mono_s is not None and now.mono_s > holding.looked_mono_s:
            growth = (present_bytes - holding.present_bytes) / (now.mono_s - holding.looked_mono_s)
            holding.growth_bytes_per_s += GROWTH_SHARE * (growth - holding.growth_bytes_per_s)
        holding.present_bytes, holding.looked_mono_s = present_bytes, now.mono_s
        key = holding.live.run.job
        peak = self.estimator.in_flight(key, holding.prediction, present_bytes)
        if not holding.prediction.known and now.mono_s - holding.since_mono_s >= self.settings.canary_s:
            peak = min(peak, int(present_bytes * self.settings.memory_in_flight))  # it has shown what it needs
        reserved = max(0, peak - present_bytes)
        self.reserved_bytes += reserved - holding.reserved_bytes
        holding.reserved_bytes = reserved

    def ended(self, live: Live, outcome: Outcome, duration_s: float | None, usage: Usage) -> None:
        """An attempt is over: what it used is what the next one is taken to need."""
        if duration_s is not None:
            killed = outcome is Outcome.KILLED_FOR_MEMORY
            working_s = max(0.0, duration_s - (usage.frozen_s or 0.0))
            self.estimator.finished(live.run.job, Used(working_s, usage.cpu_s, usage.memory_peak_bytes, killed))

    def _predict(self, live: Live) -> Prediction:
        if live.shares_a_process:
            return Prediction(live.job.memory_bytes or 0, True, Basis.SHARED)
        return self.estimator.predict_memory(live.run.job, live.job.memory_bytes, self.watch.limit_bytes or 0)

    def _behind_head(self, live: Live, need: Prediction, now: Now) -> str | None:
        head = self.head
        if head is None or head is live or now.mono_s - head.queued_mono_s <= self.settings.backfill_after_s:
            return None
        endings = [
            Ending(self._ends_mono_s(holding), max(holding.present_bytes, holding.prediction.bytes))
            for holding in self.running.values()
        ]
        duration_s = self.estimator.predict_duration(live.run.job)
        room_bytes = (self.watch.available_bytes or 0) - self.watch.reserve_bytes - self.reserved_bytes
        if may_pass(self._predict(head).bytes, room_bytes, endings, need.bytes, duration_s, now.mono_s):
            return None
        return f"run {head.run.run_id} of {head.run.job} has waited for memory for long: what comes back is kept for it"

    def _ends_mono_s(self, holding: Holding) -> float | None:
        duration_s = self.estimator.predict_duration(holding.live.run.job)
        return None if duration_s is None else holding.since_mono_s + duration_s
