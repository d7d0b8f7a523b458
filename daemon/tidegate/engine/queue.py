"""Runs that could start, in the order in which they should, and the instants at which something is due.
Plain heaps with lazy deletion; no policy beyond the order, no I/O.

Priority, then age, then due time, then id. Waiting raises priority at the same pace for everybody (one step for
each AGING_S), so the order of two runs never changes while they wait, and the key of a run is fixed when it is
queued: seconds of age plus AGING_S for each step of priority.
"""

from heapq import heapify, heappop, heappush, nsmallest
from typing import Final

from tidegate.engine.live import Live
from tidegate.model.limits import AGING_S
from tidegate.model.run import State

Place = tuple[float, float, str]  # rank, due at, id

COMPACT_MIN: Final = 64  # below this many dead entries a sweep costs more than it frees


def place_of(live: Live) -> Place:
    """The place of a run: one that is less goes first."""
    return (live.queued_mono_s - live.job.priority * AGING_S, live.run.scheduled_at.timestamp(), live.run.run_id)


class ReadyQueue:
    """QUEUED runs by rank. An entry whose run has left QUEUED, or was queued anew, is dead and dropped on sight."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, float, str, int, Live]] = []

    def push(self, live: Live) -> None:
        """Enter a QUEUED run, with the age that it has."""
        live.ticket += 1
        heappush(self._heap, (*place_of(live), live.ticket, live))

    def __len__(self) -> int:
        """How many wait in it; counted anew each time."""
        return sum(entry[4].run.state is State.QUEUED and entry[4].ticket == entry[3] for entry in self._heap)

    def peek(self) -> Live | None:
        """The run that should start next, left in place."""
        heap = self._heap
        while heap:
            live = heap[0][4]
            if live.run.state is State.QUEUED and live.ticket == heap[0][3]:
                return live
            heappop(heap)
        return None

    def pop(self) -> Live | None:
        """The run that should start next, taken out."""
        live = self.peek()
        if live is not None:
            heappop(self._heap)
            live.ticket += 1
        return live

    def first(self, count: int) -> list[Live]:
        """The next few, next one first, without a look at all others."""
        heap = self._heap
        found: list[Live] = []
        ordered = [(heap[0][:4], 0)] if heap else []  # places in the heap; what follows one is among its children
        while ordered and len(found) < count:
            _, place = heappop(ordered)
            entry = heap[place]
            if entry[4].run.state is State.QUEUED and entry[4].ticket == entry[3]:
                found.append(entry[4])
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(heap):
                    heappush(ordered, (heap[child][:4], child))
        return found

    def in_order(self, limit: int) -> list[Live]:
        """The first runs in the queue, next one first."""
        alive = (entry for entry in self._heap if entry[4].run.state is State.QUEUED and entry[4].ticket == entry[3])
        return [entry[4] for entry in nsmallest(limit, alive, key=lambda entry: entry[:4])]


class Deadlines:
    """Monotonic instants at which a run, or the engine itself (""), must be looked at."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, Live | None]] = []
        self._dead = 0

    def add(self, at_mono_s: float, kind: str, live: Live | None) -> None:
        """`live.deadlines[kind]` is the truth; a heap entry that differs from it is dead."""
        if live is not None:
            if kind in live.deadlines:
                self._dead += 1
            live.deadlines[kind] = at_mono_s
        heappush(self._heap, (at_mono_s, kind, live))

    def drop(self, live: Live, *kinds: str) -> None:
        """Forget these deadlines of a run; with no kinds, all of them."""
        if not live.deadlines:
            return
        for kind in kinds or tuple(live.deadlines):
            if live.deadlines.pop(kind, None) is not None:
                self._dead += 1
        if self._dead > COMPACT_MIN and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if self._valid(entry)]
            heapify(self._heap)
            self._dead = 0

    def next(self) -> float | None:
        """The earliest instant something is due, in monotonic seconds."""
        heap = self._heap
        while heap and not self._valid(heap[0]):
            heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now_mono_s: float) -> tuple[str, Live | None] | None:
        """One deadline that has passed, earliest first."""
        at_mono_s = self.next()
        if at_mono_s is None or at_mono_s > now_mono_s:
            return None
        _, kind, live = heappop(self._heap)
        if live is not None:
            del live.deadlines[kind]
        return kind, live

    @staticmethod
    def _valid(entry: tuple[float, str, Live | None]) -> bool:
        at_mono_s, kind, live = entry
        return live is None or live.deadlines.get(kind) == at_mono_s
