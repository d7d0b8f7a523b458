"""Simulated work: an executor whose processes are entries in a heap of things that will happen. No I/O.

`behave` says of each attempt how it goes; everything else (TERM, KILL, starts that fail) follows from it.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from msgspec import Struct

from tidegate.model.event import Event, Exited, Started, StartFailed
from tidegate.model.job import Job
from tidegate.model.run import Run, Usage

SIGKILL = 9


class Behaviour(Struct, frozen=True):
    """How one attempt goes. Times in seconds."""

    duration_s: float = 1.0  # float("inf"): it hangs
    exit_code: int = 0
    start_delay_s: float = 0.001
    start_failure: str | None = None
    term_delay_s: float | None = 0.01  # None: it ignores TERM
    kill_delay_s: float = 0.001


class Work:
    """What runs at the moment, and what will become of it."""

    def __init__(self, behave: Callable[[Run, Job], Behaviour]) -> None:
        self._behave = behave
        self._events: list[tuple[float, int, tuple[str, int], Event]] = []
        self._count = 0
        self.running: dict[tuple[str, int], Behaviour] = {}

    def next(self) -> float | None:
        """When something happens next, monotonic seconds."""
        return self._events[0][0] if self._events else None

    def start(self, run: Run, job: Job, now_s: float) -> None:
        """Begin an attempt."""
        key = (run.run_id, run.attempt)
        assert key not in self.running, f"{key} was started twice"
        behaviour = self._behave(run, job)
        self.running[key] = behaviour
        begun_s = now_s + behaviour.start_delay_s
        if behaviour.start_failure is not None:
            self._at(begun_s, key, StartFailed(*key, behaviour.start_failure))
            return
        self._at(begun_s, key, Started(*key, self._count + 2))
        if behaviour.duration_s != float("inf"):
            usage = Usage(cpu_s=behaviour.duration_s / 2)
            self._at(begun_s + behaviour.duration_s, key, Exited(*key, behaviour.exit_code, None, usage))

    def signal(self, run_id: str, attempt: int, signal: int, now_s: float) -> None:
        """A signal to the tree of an attempt; to one that is gone it means nothing."""
        key = (run_id, attempt)
        behaviour = self.running.get(key)
        if behaviour is None or behaviour.start_failure is not None:
            return
        delay_s = behaviour.kill_delay_s if signal == SIGKILL else behaviour.term_delay_s
        if delay_s is not None:
            # Not before it has begun: the keeper handles requests in order.
            self._at(now_s + behaviour.start_delay_s + delay_s, key, Exited(*key, None, signal, Usage()))

    def lose_all(self) -> None:
        """The keeper dies: nothing is heard of what ran."""
        self.running.clear()

    def due(self, now_s: float) -> list[Event]:
        """What has happened up to now, in order. Of an attempt that has ended nothing more is heard."""
        events = []
        while self._events and self._events[0][0] <= now_s:
            _, _, key, event = heappop(self._events)
            if key in self.running:
                if not isinstance(event, Started):
                    del self.running[key]
                events.append(event)
        return events

    def _at(self, at_s: float, key: tuple[str, int], event: Event) -> None:
        self._count += 1
        heappush(self._events, (at_s, self._count, key, event))
