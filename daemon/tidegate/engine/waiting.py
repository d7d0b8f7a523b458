"""Runs that could start: those in the queue, and those that a single gate holds while others pass. Pure.

Whom a gate holds is set aside, so that nobody looks at it again until something has changed for that gate. Runs that
wait for units or for memory stand in lines, one for each thing they wait for, of which only the first is looked at: a
thousand that wait for the same cost no more than one.
"""

from collections import Counter
from collections.abc import Hashable

from tidegate.engine.admission import Gate
from tidegate.engine.live import Live
from tidegate.engine.memory_gate import MemoryGate
from tidegate.engine.queue import ReadyQueue, place_of
from tidegate.engine.resources import ResourceGate
from tidegate.model.event import Now
from tidegate.model.run import State


class Waiting:
    """The queue and the lines beside it."""

    def __init__(self, resources: ResourceGate, memory: MemoryGate) -> None:
        self.ready = ReadyQueue()
        self._resources = resources
        self._memory = memory
        self._parked: list[tuple[Live, str]] = []  # held for something of their own, by the gate of this name
        self._for_units: dict[Hashable, ReadyQueue] = {}  # by the resources they need
        self._for_memory: dict[Hashable, ReadyQueue] = {}  # by job: what one needs, all of them do

    def push(self, live: Live) -> None:
        """Queue it with the age that it has."""
        self.ready.push(live)

    def park(self, live: Live, gate: Gate) -> None:
        """This gate holds it, and others may pass."""
        if gate is self._resources:
            self._resources.held(live)
            # What cannot be had since a reload waits in a line of its own: it would stop all behind it for ever.
            names = frozenset(live.job.uses if self._resources.can_be_had(live) else (live.run.run_id,))
            self._for_units.setdefault(names, ReadyQueue()).push(live)
            return
        self._resources.left(live)  # it cannot start: nothing is set aside for it meanwhile
        if gate is self._memory:
            self._memory.held(live)
            self._for_memory.setdefault(live.run.job, ReadyQueue()).push(live)
        else:
            self._parked.append((live, gate.name))

    def call_up(self, now: Now) -> None:
        """Units or memory came back: whoever is first in a line and may pass now, queues again."""
        if self._resources.stale:
            self._resources.stale = False
            self._call_up(self._for_units, self._resources, now)
        if self._memory.stale:
            self._memory.stale = False
            self._memory.head = _first(self._for_memory)
            if self._memory.head is not None:
                self._call_up(self._for_memory, self._memory, now)

    def unpark(self) -> None:
        """What holds single runs has changed (a pause, a calendar, the units that exist): all of them queue again,
        with the age they had. Also those in line: who is paused now must set nothing aside."""
        self._resources.begin_walk()
        self._memory.begin_walk()
        parked = [live for live, _ in self._parked]
        self._parked.clear()
        for lines in (self._for_units, self._for_memory):
            for line in lines.values():
                while (live := line.pop()) is not None:
                    parked.append(live)
            lines.clear()
        for live in parked:
            if live.run.state is State.QUEUED:
                self.push(live)

    def in_order(self, limit: int) -> list[Live]:
        """The first in the queue, then the first of those that are held singly."""
        parked = [live for live, _ in self._parked if live.run.state is State.QUEUED]
        found = self.ready.in_order(limit) + parked[:limit]
        for line in (*self._for_units.values(), *self._for_memory.values()):
            found += line.in_order(limit)
        return found[:limit]

    def _call_up(self, lines: dict[Hashable, ReadyQueue], gate: Gate, now: Now) -> None:
        for key, line in list(lines.items()):
            while (live := line.peek()) is not None and gate.holds(live, now) is None:
                line.pop()
                self.push(live)
                if gate is self._memory:
                    break  # the next one is asked when this one has taken what it needs
            if line.peek() is None:
                del lines[key]

    def counts(self) -> Counter[str]:
        """How many each gate holds; "": those in the queue, of whom the first is held by a gate that holds all."""
        found = Counter(name for live, name in self._parked if live.run.state is State.QUEUED)
        found[""] = len(self.ready)
        found[self._resources.name] += sum(map(len, self._for_units.values()))
        found[self._memory.name] += sum(map(len, self._for_memory.values()))
        return found

    @property
    def waits(self) -> bool:
        """Whether anybody waits for a slot or for memory."""
        return bool(self._for_memory) or self.ready.peek() is not None

    @property
    def held_by(self) -> str:
        """The gate that holds those who are not in the queue; "" where there are none."""
        if self._for_memory:
            return self._memory.name
        return self._resources.name if self._for_units else ""


def _first(lines: dict[Hashable, ReadyQueue]) -> Live | None:
    heads = (line.peek() for line in lines.values())
    return min((live for live in heads if live is not None), key=place_of, default=None)
