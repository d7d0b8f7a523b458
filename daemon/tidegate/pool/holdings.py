"""Who of a pool's running tasks holds how much memory, who may start beside them or pass who may not, and who is held
still or ended when it gets short. The laws are the daemon's (engine/memory.py, backfill.py, tiers.py). No thread, no
process of its own; called with the lock of the core held.
"""

from itertools import count
from typing import Any, Final

from msgspec import Struct

from tidegate.engine.backfill import Ending, may_pass
from tidegate.engine.estimate import Estimator
from tidegate.engine.memory import MemoryWatch
from tidegate.engine.memory_gate import GROWTH_SHARE
from tidegate.engine.tiers import Act, MemoryRetries, Runner, Tiers
from tidegate.model.pool import PoolSettings
from tidegate.pool.task import Task


class Need(Struct, frozen=True):
    """What a task is taken to need at its peak."""

    bytes: int
    known: bool = True  # False: a guess, so that only one such task may be in flight


class Holding(Struct):
    """What one running task has and will have."""

    task: Task[Any]
    key: str
    need: Need
    since_s: float
    reserved_bytes: int
    present_bytes: int = 0
    growth_bytes_per_s: float = 0.0
    looked_s: float | None = None
    frozen_since_s: float | None = None


class Holdings:
    """`apart`: each task has a process of its own, so that its memory is known, and can be stopped."""

    def __init__(self, settings: PoolSettings, memory: MemoryWatch, estimator: Estimator, apart: bool) -> None:
        self.apart: Final = apart
        self.retries = MemoryRetries(settings)
        self.running: dict[Task[Any], Holding] = {}
        self.reason = ""  # why the first in the queue does not start
        self._settings, self._memory, self._estimator = settings, memory, estimator
        self._tiers = Tiers(settings)
        self._reserved_bytes = 0
        self._grown_bytes = 0  # of all together, where they share a process
        self._head: Task[Any] | None = None  # first of those who wait for memory
        self._alone_waits = False
        self._held: set[tuple[str, int | None]] = set()  # what needs the same waits for the same
        self._keys = count()

    @property
    def outstanding_bytes(self) -> int:
        """O: of predicted peaks, what is not reached yet."""
        return max(0, self._reserved_bytes - self._grown_bytes)

    @property
    def foreseen_bytes(self) -> int:
        """What is held of what was predicted: to grow into that is no alarm."""
        if not self.apart:
            return min(self._grown_bytes, self._reserved_bytes)
        return sum(min(each.present_bytes, each.need.bytes) for each in self.running.values())

    # --- who may start ------------------------------------------------------------------------------------

    def begin_walk(self) -> None:
        """All who wait are looked at again, in order."""
        self._head, self._alone_waits = None, False
        self._held.clear()

    @property
    def closed(self) -> bool:
        """To everybody: memory is short, or somebody has the machine to itself."""
        return self._memory.tier > 0 or self._alone_waits or self._alone_runs

    @property
    def _alone_runs(self) -> bool:
        return len(self.running) == 1 and next(iter(self.running)).alone

    def holds(self, task: Task[Any], running: int, now_s: float) -> str | None:
        """Why it may not start now."""
        alike = (task.name, task.memory_bytes)
        if running and alike in self._held and not task.alone:
            return self.reason
        reason = self._weigh(task, running, now_s)
        if reason is not None:
            self.reason = reason
            self._head = self._head or task
            if not task.alone:
                self._held.add(alike)
        return reason

    def _weigh(self, task: Task[Any], running: int, now_s: float) -> str | None:
        if not running:
            return self._memory.admits(0, 0, 0)
        if self._alone_runs:
            return "another has the machine to itself: it ran out of memory before"
        if task.alone:
            self._alone_waits = True
            return f"it ran out of memory {task.evictions} times: it waits until nothing else runs"
        if self._memory.available_bytes is None:
            return None  # nobody can tell
        need = self._need(task)
        if not need.known and self._shows(task.name, now_s):
            return f"another {task.name} shows first what memory it needs"
        reason = self._memory.admits(need.bytes, self.outstanding_bytes, running)
        return reason or self._behind_head(task, now_s)

    def _need(self, task: Task[Any]) -> Need:
        """Its hint, or what such tasks took before. What nobody knows is held back only where memory is not plenty:
        most calls take little, and a program must not wait for the first of each to end."""
        if not self.apart or not task.name:
            return Need(task.memory_bytes or 0)
        found = self._estimator.predict_memory(task.name, task.memory_bytes, self._memory.limit_bytes or 0)
        if found.known or found.bytes == 0:
            return Need(found.bytes)
        return Need(0) if self._plenty() else Need(found.bytes, known=False)

    def _plenty(self) -> bool:
        memory = self._memory
        if memory.available_bytes is None or memory.limit_bytes is None:
            return True
        left_bytes = memory.available_bytes - memory.reserve_bytes - self.outstanding_bytes
        return left_bytes >= self._settings.calm_share * memory.limit_bytes

    def _shows(self, name: str, now_s: float) -> bool:
        return any(
            each.task.name == name and not each.need.known and now_s - each.since_s < self._settings.canary_s
            for each in self.running.values()
        )

    def _behind_head(self, task: Task[Any], now_s: float) -> str | None:
        """EASY backfill: a head that waited for long is passed only by who ends before its turn, or leaves it room."""
        head = self._head
        if head is None or head is task or now_s - head.queued_s <= self._settings.backfill_after_s:
            return None
        endings = [
            Ending(self._ends_s(each), max(each.present_bytes, each.need.bytes)) for each in self.running.values()
        ]
        memory = self._memory
        room_bytes = (memory.available_bytes or 0) - memory.reserve_bytes - self.outstanding_bytes
        takes_s = self._estimator.predict_duration(task.name)
        if may_pass(self._charge(head), room_bytes, endings, self._charge(task), takes_s, now_s):
            return None
        return f"{head.name or 'another'} has waited for memory for long: what comes back is kept for it"

    def _charge(self, task: Task[Any]) -> int:
        """As `_need`, but what nobody knows is guessed: behind what needs nothing a head would wait for ever."""
        if not self.apart:
            return task.memory_bytes or 0
        return self._estimator.predict_memory(task.name, task.memory_bytes, self._memory.limit_bytes or 0).bytes

    def _ends_s(self, holding: Holding) -> float | None:
        takes_s = self._estimator.predict_duration(holding.task.name)
        return None if takes_s is None else holding.since_s + takes_s

    # --- who runs -------------------------------------------------------------------------------------------

    def took(self, task: Task[Any], now_s: float) -> None:
        """It starts."""
        need = self._need(task)
        if self.apart or need.bytes:
            self.running[task] = Holding(task, str(next(self._keys)), need, now_s, need.bytes)
            self._reserved_bytes += need.bytes

    def gave(self, task: Task[Any]) -> None:
        """Its attempt is over."""
        holding = self.running.pop(task, None)
        if holding is not None:
            self._reserved_bytes -= holding.reserved_bytes

    def grown(self, all_bytes: int) -> None:
        """What tasks that share a process hold by now, all together."""
        self._grown_bytes = all_bytes

    def use(self, task: Task[Any], present_bytes: int, now_s: float) -> None:
        """It holds this much now: what it has reached need not be kept for it any more."""
        holding = self.running.get(task)
        if holding is None:
            return
        if holding.looked_s is not None and now_s > holding.looked_s:
            growth = (present_bytes - holding.present_bytes) / (now_s - holding.looked_s)
            holding.growth_bytes_per_s += GROWTH_SHARE * (growth - holding.growth_bytes_per_s)
        holding.present_bytes, holding.looked_s = present_bytes, now_s
        most_bytes = max(holding.need.bytes, int(present_bytes * self._settings.memory_in_flight))
        reserved_bytes = max(0, most_bytes - present_bytes)
        self._reserved_bytes += reserved_bytes - holding.reserved_bytes
        holding.reserved_bytes = reserved_bytes

    # --- when it gets short -----------------------------------------------------------------------------------

    @property
    def urgent(self) -> bool:
        """Whether somebody may have to be stopped, or let go on."""
        return self.apart and (self._memory.tier > 1 or any(each.frozen_since_s for each in self.running.values()))

    def decide(self, waited: set[str], now_s: float) -> tuple[Act, Holding] | None:
        """At most one thing to do now. `waited`: names of resources that somebody waits for. Only what may be tried
        again is ever ended: a call that runs twice without having said that it may is worse than one that fails."""
        if not self.urgent:
            return None
        by_key = {each.key: each for each in self.running.values()}
        act = self._tiers.decide([_runner(each, waited) for each in by_key.values()], self._memory, now_s)
        return None if act is None else (act, by_key[act.run_id])


def _runner(holding: Holding, waited: set[str]) -> Runner:
    task = holding.task
    return Runner(
        run_id=holding.key,
        priority=task.priority,
        started_mono_s=holding.since_s,
        present_bytes=holding.present_bytes,
        growth_bytes_per_s=holding.growth_bytes_per_s,
        predicted_bytes=holding.need.bytes,
        retriable=task.retries > 0,
        frozen_since_mono_s=holding.frozen_since_s,
        holds_waited_resource=not waited.isdisjoint(task.uses),
    )
