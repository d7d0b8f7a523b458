"""Simulated work: a keeper whose processes are entries in a heap of things that will happen. No I/O.

`behave` says of each attempt how it goes; everything else (TERM, KILL, starts that fail) follows from it. What began is
held until its end is acknowledged, and lives on while no daemon listens. `truth` is what really became of each attempt,
for those who check the account; the daemon never reads it.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.event import Event, Exited, Started, StartFailed
from tidegate.model.job import Job
from tidegate.model.run import Run, Usage

SIGTERM: Final = 15
SIGKILL: Final = 9

Key = tuple[str, int]  # run id, attempt


class Behaviour(Struct, frozen=True):
    """How one attempt goes. Times in seconds."""

    duration_s: float = 1.0  # float("inf"): it hangs
    exit_code: int = 0
    start_delay_s: float = 0.001
    start_failure: str | None = None
    start_shortages: int = 0  # starts that fail for want of processes before one is tried
    term_delay_s: float | None = 0.01  # None: it ignores TERM
    kill_delay_s: float = 0.001


class Attempt(Struct):
    """What the keeper holds of one attempt."""

    run_id: str
    attempt: int
    run: Run
    job: Job
    pid: int
    pid_start: int
    started_mono_s: float
    exited: Exited | None = None
    timed_out: bool = False
    frozen_s: float = 0.0
    frozen: bool = False


class Truth(Struct):
    """What became of an attempt that began."""

    ended: bool = False
    exit_code: int | None = None
    lost: bool = False  # its keeper died before the daemon had said that it knows the end


class Work:
    """What runs at the moment, and what will become of it."""

    def __init__(self, behave: Callable[[Run, Job], Behaviour]) -> None:
        self._behave = behave
        self._events: list[tuple[float, int, Key, Event]] = []
        self._count = 0
        self._notes: dict[Key, tuple[Run, Job]] = {}  # asked for, not begun
        self._shortages: dict[Key, int] = {}
        self._listening = True
        self._orphans: dict[tuple[int, int], float] = {}  # pid and start → when it ends; no keeper knows it
        self.running: dict[Key, Behaviour] = {}  # asked for, and not ended
        self.held: dict[Key, Attempt] = {}  # begun, and not acknowledged
        self.truth: dict[Key, Truth] = {}
        self.frozen: dict[Key, float] = {}  # since when
        self._stalled: dict[Key, list[tuple[float, Event]]] = {}  # what waits for a thaw, and how long after it
        self.instance = "keeper-0"
        self.left_clean = ""  # the instance that left holding nothing, if the last one did
        self.lost_instances: set[str] = set()
        self._instances = 0
        self._is_there = True  # a keeper is; else the next daemon starts one

    def next(self) -> float | None:
        """When something happens next, monotonic seconds."""
        return self._events[0][0] if self._events else None

    # --- what the daemon asks for -------------------------------------------------------------------------

    def start(self, run: Run, job: Job, now_s: float) -> None:
        """Begin an attempt."""
        key = (run.run_id, run.attempt)
        assert key not in self.running, f"{key} was started twice"
        assert key not in self.truth, f"{key} was started again after it had begun"
        behaviour = self._behave(run, job)
        self.running[key] = behaviour
        begun_s = now_s + behaviour.start_delay_s
        tried = self._shortages.get(key, 0)
        if tried < behaviour.start_shortages:
            self._shortages[key] = tried + 1
            self._at(begun_s, key, StartFailed(*key, "no process could be made", transient=True))
        elif behaviour.start_failure is not None:
            self._at(begun_s, key, StartFailed(*key, behaviour.start_failure))
        else:
            self._notes[key] = (run, job)
            self._at(begun_s, key, Started(*key, self._count + 2, self._count))
            if behaviour.duration_s != float("inf"):
                usage = Usage(cpu_s=behaviour.duration_s / 2)
                self._at(begun_s + behaviour.duration_s, key, Exited(*key, behaviour.exit_code, None, usage))

    def signal(self, run_id: str, attempt: int, signal: int, now_s: float) -> None:
        """A signal to the tree of an attempt; to one that is gone it means nothing."""
        key = (run_id, attempt)
        behaviour = self.running.get(key)
        if behaviour is None or (key not in self._notes and key not in self.held):
            return
        self.thaw(run_id, attempt, now_s)
        delay_s = behaviour.kill_delay_s if signal == SIGKILL else behaviour.term_delay_s
        if delay_s is not None:
            # Not before it has begun: the keeper handles requests in order.
            self._at(now_s + behaviour.start_delay_s + delay_s, key, Exited(*key, None, signal, Usage()))

    def freeze(self, run_id: str, attempt: int, now_s: float) -> None:
        """Hold a running attempt still: it neither works nor heeds TERM."""
        key = (run_id, attempt)
        if key in self.running and key in self.held:
            self.frozen.setdefault(key, now_s)

    def thaw(self, run_id: str, attempt: int, now_s: float) -> None:
        """It goes on where it was."""
        key = (run_id, attempt)
        since_s = self.frozen.pop(key, None)
        for left_s, event in self._stalled.pop(key, ()):
            self._at(now_s + left_s, key, event)
        if since_s is not None and key in self.running:
            self._events = [
                (at_s + now_s - since_s, count, of, event) if of == key else (at_s, count, of, event)
                for at_s, count, of, event in self._events
            ]
            heapify(self._events)

    def acknowledge(self, run_id: str, attempt: int) -> None:
        """The end is on record. One that still runs is not let go."""
        held = self.held.get((run_id, attempt))
        if held is not None and held.exited is not None:
            del self.held[(run_id, attempt)]

    # --- what befalls it ------------------------------------------------------------------------------------

    def hang_up(self, now_s: float) -> None:
        """The daemon is gone. What it had asked for is done; from here on nothing is told, only held."""
        for key in [key for key in self.running if key not in self.held]:
            if key in self._notes:
                self._begin(key, self._count + 2, self._count, now_s)
                self._count += 1
            else:
                del self.running[key]  # a failed start is told to whoever listens, and kept for nobody
        self._listening = False
        for run_id, attempt in list(self.frozen):  # the keeper thaws what nobody looks after
            self.thaw(run_id, attempt, now_s)

    def listen(self, now_s: float) -> None:
        """A daemon is there again. What went over its time-out meanwhile was ended by the keeper."""
        for key in list(self.running):
            held = self.held[key]
            if held.started_mono_s + held.job.timeout_s + held.job.kill_grace_s < now_s:
                self._ended(key, Exited(*key, None, SIGKILL, Usage()), timed_out=True)
        self._listening = self._is_there = True

    def lose_all(self, now_s: float = 0.0, go_on_s: float = 0.0) -> None:
        """The keeper dies: nothing is heard of what ran. Its processes may go on for a while."""
        if not self._is_there:
            return
        for key, held in self.held.items():
            self.truth[key].lost = True
            if key in self.running and go_on_s:
                self._orphans[(held.pid, held.pid_start)] = now_s + go_on_s
        self.running.clear()
        self.held.clear()
        self.frozen.clear()
        self._stalled.clear()
        self._notes.clear()
        self.lost_instances.add(self.instance)
        self._next_instance("")

    def reboot(self) -> None:
        """The machine starts anew."""
        self.lose_all()
        self._orphans.clear()

    def leave(self) -> bool:
        """The keeper ends if it holds nothing, and says so; a new one will answer."""
        if self.running or self.held or not self._is_there:
            return False
        self._next_instance(self.instance)
        return True

    def alive(self, pid: int, pid_start: int, now_s: float) -> bool:
        """Whether this process goes on without a keeper."""
        return self._orphans.get((pid, pid_start), 0.0) > now_s

    def due(self, now_s: float) -> list[Event]:
        """What has happened up to now, in order. Of an attempt that has ended nothing more is heard."""
        events: list[Event] = []
        while self._events and self._events[0][0] <= now_s:
            at_s, _, key, event = heappop(self._events)
            if key not in self.running:
                continue
            if key in self.frozen and not (isinstance(event, Exited) and event.signal == SIGKILL):
                self._stalled.setdefault(key, []).append((max(0.0, at_s - self.frozen[key]), event))
                continue
            if isinstance(event, Started):
                if key not in self._notes:
                    continue  # begun when the daemon hung up
                self._begin(key, event.pid, event.pid_start or 0, at_s)
            elif isinstance(event, Exited):
                held = self.held[key]
                over = not self._listening and at_s > held.started_mono_s + held.job.timeout_s
                self._ended(key, event, timed_out=over)
            else:
                del self.running[key]
            if self._listening:
                events.append(event)
        return events

    def _begin(self, key: Key, pid: int, pid_start: int, at_s: float) -> None:
        run, job = self._notes.pop(key)
        self.truth[key] = Truth()
        self.held[key] = Attempt(key[0], key[1], run, job, pid, pid_start, at_s)

    def _ended(self, key: Key, event: Exited, *, timed_out: bool) -> None:
        del self.running[key]
        self.frozen.pop(key, None)
        self._stalled.pop(key, None)
        held, truth = self.held[key], self.truth[key]
        if timed_out:
            event = replace(event, exit_code=None, signal=SIGTERM)
            held.timed_out = True
        held.exited = event
        truth.ended, truth.exit_code = True, event.exit_code

    def _next_instance(self, left_clean: str) -> None:
        self._is_there = self._listening
        self._instances += 1
        self.left_clean = left_clean
        self.instance = f"keeper-{self._instances}"

    def _at(self, at_s: float, key: Key, event: Event) -> None:
        self._count += 1
        heappush(self._events, (at_s, self._count, key, event))
