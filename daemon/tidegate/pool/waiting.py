"""Tasks that could start, in the order in which they should: priority, then age, as in engine/queue.py. Waiting raises
priority at the same pace for all, so the place of a task is fixed when it is queued. Guarded by the lock of the core.
"""

from collections import Counter
from heapq import heapify, heappop, heappush
from typing import Any, Final

from tidegate.model.limits import AGING_S
from tidegate.pool.shared import Head, Shared
from tidegate.pool.staff import Watch
from tidegate.pool.task import Task

PASSED_MAX: Final = 64  # tasks that memory holds and that younger ones pass; beyond it nobody passes
COMPACT_MIN: Final = 64  # fewer cancelled tasks than this are not worth a sweep

Entry = tuple[float, int, Task[Any]]
Heap = list[Entry]


class Waiting:
    """The queue. Tasks that use the same resources form one heap, as they can only start in their order."""

    def __init__(self) -> None:
        self.free: Heap = []  # those that use no resource
        self.sharing: dict[tuple[tuple[str, int], ...], Heap] = {}  # the others; no heap here is empty
        self.aside: Heap = []  # of the first, those that memory holds: others pass
        self.anew = True  # … and are to be looked at again, from the oldest on
        self._passing = True  # no task that shares something is held by memory: those behind it may not take its units
        self._dead = 0

    def push(self, task: Task[Any], seq: int) -> None:
        rank = task.queued_s - task.priority * AGING_S
        if not task.uses:
            heappush(self.free, (rank, seq, task))
        else:
            heappush(self.sharing.setdefault(tuple(sorted(task.uses.items())), []), (rank, seq, task))

    def allowed(self, shared: Shared, watch: Watch, running: int) -> Heap | None:
        """As `first`, of those that memory does not hold."""
        if self.anew:
            self.back()
            self.anew = False
            watch.begin_walk()
        while (heap := self.first(shared, self._passing)) is not None:
            task = heap[0][2]
            if task.done() or not watch.holds(task, running):
                return heap
            if watch.closed or len(self.aside) >= PASSED_MAX:
                return None
            if heap is self.free:
                self.aside.append(heappop(self.free))
            else:
                self._passing = False
        return None

    def back(self) -> None:
        """All who were passed stand in line again."""
        self.anew = self._passing = True
        while self.aside:
            heappush(self.free, self.aside.pop())

    def first(self, shared: Shared, passing: bool = True) -> Heap | None:
        """The heap on top of which lies the task that should start next. Not `passing`: only of those that share
        nothing."""
        free = self.free
        if not self.sharing or not passing:
            return free or None
        place = shared.first(self.heads())
        top = free[:1]
        if place is not None and (not top or place < top[0][:2]):
            return next(heap for heap in self.sharing.values() if heap[0][:2] == place)
        return free or None

    def take(self, heap: Heap) -> Task[Any]:
        """The task on top, cancelled or not. Raises IndexError when a worker without the lock took it."""
        task = heappop(heap)[2]
        if not heap and heap is not self.free:
            self._sweep()
        return task

    def heads(self) -> list[Head]:
        """The first of each that share something."""
        for heap in self.sharing.values():
            while heap and heap[0][2].done():
                heappop(heap)
                self._dead -= 1
        self._sweep()
        return [(heap[0][:2], heap[0][2].uses) for heap in self.sharing.values()]

    def cancelled(self) -> None:
        """One of these was: its entry is dead and dropped on sight, or all are when there are many."""
        self._dead += 1
        self.anew = True  # it may have been the one that others had to wait behind
        if self._dead > COMPACT_MIN and self._dead * 2 > len(self):
            for heap in (self.free, self.aside, *self.sharing.values()):
                heap[:] = [entry for entry in heap if not entry[2].done()]
                heapify(heap)
            self._sweep()
            self._dead = 0

    def dropped(self) -> None:
        """A dead entry was taken."""
        self._dead -= 1

    def tasks(self) -> list[Task[Any]]:
        """All that were not cancelled, in the order in which they would start."""
        return [entry[2] for entry in sorted(self._entries()) if not entry[2].done()]

    def clear(self) -> None:
        """All go. In place: workers know the heap."""
        self.free.clear()
        self.aside.clear()
        self.sharing.clear()
        self._dead = 0

    def wanted(self) -> Counter[str]:
        """How many of these need of each resource."""
        heaps = self.sharing.values()
        return Counter(name for heap in heaps for entry in heap if not entry[2].done() for name in entry[2].uses)

    def __len__(self) -> int:
        return len(self.free) + len(self.aside) + sum(map(len, self.sharing.values()))

    def __bool__(self) -> bool:
        return bool(self.free or self.sharing or self.aside)

    def alive(self) -> int:
        """How many wait to start."""
        return max(0, len(self) - self._dead)

    def _entries(self) -> Heap:
        return [entry for heap in (self.free, self.aside, *self.sharing.values()) for entry in heap]

    def _sweep(self) -> None:
        for key in [key for key, heap in self.sharing.items() if not heap]:
            del self.sharing[key]
