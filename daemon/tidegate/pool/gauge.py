"""What the machine bears, for one pool: readings to the controller's limit, and the gate for memory. The laws are those
of the daemon (engine/controller.py, engine/memory.py, engine/estimate.py). Called by one thread."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tidegate import clock
from tidegate.engine.controller import Change, Controller, Load
from tidegate.engine.estimate import Estimator, Used
from tidegate.engine.memory import MemoryWatch
from tidegate.model.pool import PoolSettings
from tidegate.model.sample import Sample, wanted_cores
from tidegate.monitor.machine import Machine
from tidegate.monitor.recent import Recent
from tidegate.monitor.resource_monitor import ResourceMonitor
from tidegate.pool.holdings import Holdings
from tidegate.pool.task import Task

LEARN_MAX: Final = 1_000  # ended attempts between two looks; more of them tell nothing new
CHANGES_MAX: Final = 1_000  # of the limit, kept for `limit_changes`
WEIGHT: Final = 0.3  # of the newest look in what a task takes of a core
STALE_INTERVALS: Final = 2.0  # a monitor's sample that is older is no reading of now

log: Final = logging.getLogger("tidegate.pool")


class Gauge:
    """One pool's view of the machine. A `monitor` is asked where there is one; else this looks for itself."""

    def __init__(
        self,
        settings: PoolSettings,
        *,
        monitor: ResourceMonitor | None,
        machine: Callable[[], Machine],
        apart: bool,
    ) -> None:
        self.settings = settings
        self.adaptive = settings.mode == "adaptive" and settings.min != settings.max
        self.estimator = Estimator(settings)
        self.memory = MemoryWatch(settings)
        self.ended: deque[tuple[str, Used]] = deque(maxlen=LEARN_MAX)
        self.changes: deque[tuple[float, Change]] = deque(maxlen=CHANGES_MAX)
        self.holdings = Holdings(settings, self.memory, self.estimator, apart)
        self._monitor = monitor
        self._machine = None if monitor is not None else machine()
        self._recent = Recent()
        self._cores_each = settings.cpu_default
        self.controller = Controller(settings, self._cores())

    # --- looking ---------------------------------------------------------------------------------------

    def _cores(self) -> float:
        if self._monitor is not None:
            return self._monitor.current().cores
        assert self._machine is not None
        return self._machine.read().cores

    def first_reading(self) -> None:
        """There was nothing to do for a while: what happened meanwhile is no interval."""
        if self._machine is not None:
            self._recent.begin(self._machine.read())

    def glance(self, now_s: float) -> None:
        """Between two looks: runnable threads, and memory."""
        if self._machine is None:
            return
        self._machine.glance()
        left = self._machine.available()
        if left is not None:
            self._memory(left.available_bytes, left.limit_bytes, None, now_s)

    def _memory(self, available: int | None, limit: int | None, waits: float | None, now_s: float) -> None:
        held = self.holdings
        self.memory.look(available, limit, waits, now_s, held.outstanding_bytes, held.foreseen_bytes)

    def look(
        self, running: list[Task[Any]], ended: list[tuple[float, float]], queued: int, now_s: float
    ) -> Change | None:
        """A whole look, and what the controller makes of it. `ended`: begin and end of the newest attempts."""
        seen = self._sample(now_s)
        self._learn()
        self._memory(seen.available_bytes, seen.memory_limit_bytes, seen.memory_some_ratio, now_s)
        if not self.adaptive:
            return None
        self._weigh(seen, len(running))
        load = Load(
            cores=seen.cores,
            load_ratio=seen.load_ratio,
            busy_ratio=seen.busy_ratio,
            foreign_cores=seen.foreign_cores,
            wanted_cores=wanted_cores(seen),
            io_full_ratio=seen.io_full_ratio,
            running=len(running),
            queued=queued,
            fresh_cores=self._fresh(running, ended, now_s),
            memory_calm=self.memory.calm,
        )
        change = self.controller.step(load, now_s)
        if change is not None:
            self.changes.append((now_s, change))
            log.debug("at most %d at once, not %d: %s", change.after, change.before, change.reason)
        return change

    def _sample(self, now_s: float) -> Sample:
        if self._monitor is not None:
            seen = self._monitor.current()
            old = now_s - seen.at_s > STALE_INTERVALS * self.settings.interval_s
            return self._monitor.check() if old or seen.interval_s is None else seen
        assert self._machine is not None
        return self._recent.add(self._machine.read(), self.settings.fresh_s, self.settings.interval_s / 2)

    def _weigh(self, seen: Sample, running: int) -> None:
        """What a task of which nothing is known takes of a core: what ours took in the mean lately."""
        if seen.own_cores is not None and running:
            each = min(1.0, seen.own_cores / running)
            self._cores_each += WEIGHT * (each - self._cores_each)

    def _fresh(self, running: list[Task[Any]], ended: list[tuple[float, float]], now_s: float) -> float:
        """Cores that the mean of the load cannot have seen yet, as in engine/fresh.py: what began within fresh_s,
        without what it still holds of tasks that have ended."""
        span_s = self.settings.fresh_s
        missing = 0.0
        for task in running:
            age_s = now_s - (task.started_s or now_s)
            if age_s < span_s:
                known = task.name and self.estimator.learned(task.name) is not None
                cores = self.estimator.predict_cpu(task.name, None) if known else self._cores_each
                missing += cores * (1 - max(0.0, age_s) / span_s)
        left = 0.0
        for since_s, until_s in reversed(ended):
            if now_s - until_s >= span_s:
                break
            left += self._cores_each * min(until_s - since_s, span_s - (now_s - until_s)) / span_s
        return max(0.0, missing - max(0.0, left))

    # --- learning ---------------------------------------------------------------------------------------

    def note(self, task: Task[Any], began_s: float, ended_s: float, cpu_s: float | None) -> None:
        """An attempt is over. By its worker, at any time: only kept until the next look."""
        if task.evicted_bytes is not None:
            self.ended.append((task.name, Used(None, None, task.evicted_bytes, killed_for_memory=True)))
            return
        peak = task.memory_peak_bytes if self.holdings.apart else None
        self.ended.append((task.name, Used(ended_s - began_s - task.frozen_s, cpu_s, peak)))

    def _learn(self) -> None:
        while self.ended:
            name, used = self.ended.popleft()
            self.estimator.finished(name, used)

    # --- the gate for memory -----------------------------------------------------------------------------

    def gates(self) -> bool:
        """Whether the gate has a say, even where no task says what it needs."""
        return self.memory.tier > 0 or self.holdings.apart

    def first_look(self) -> None:
        """Before the first task that says what it needs: how much there is."""
        if self.memory.available_bytes is None:
            now_s = clock.monotonic_s()
            seen = self._sample(now_s)
            self.memory.look(seen.available_bytes, seen.memory_limit_bytes, seen.memory_some_ratio, now_s)

    def close(self) -> None:
        """Let go of the kernel's files."""
        if self._machine is not None:
            self._machine.close()
