"""The thread that looks at the clock and the machine for one pool: other attempts, time-outs of threads, the limit. It
exists once there is a reason for it and sleeps without an end while there is nothing to wait for."""

import logging
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from tidegate import clock
from tidegate.pool.core import Core
from tidegate.pool.gauge import Gauge
from tidegate.pool.task import Task
from tidegate.pool.worker import Worker

ABANDONED_MAX: Final = 256  # threads left behind at once that are replaced; beyond it the pool shrinks, and says so

log: Final = logging.getLogger("tidegate.pool")


class Minder:
    """`present` tells the bytes that the running tasks hold by now; only asked where some say what they need."""

    def __init__(self, core: Core, name: str, gauge: Gauge | None, present: Callable[[], int]) -> None:
        self.gauge = gauge
        self._core = core
        self._name = name
        self._present = present
        self._changed = threading.Condition(core.lock)
        self._thread: threading.Thread | None = None
        self._later: list[tuple[float, int, Task[Any]]] = []
        self._armed: list[tuple[float, int, Worker, Task[Any], int]] = []
        self._seq = count()
        self._look_s: float | None = None  # the next look at the machine; None: nothing to look for
        self._step_s = 0.0  # … and the next whole one
        self._quiet = 0  # looks in a row with nothing to do
        self._left: list[Worker] = []  # abandoned and replaced
        self._told = False

    def begin_gating(self, gauge: Gauge) -> None:
        """From now on tasks say what memory they need."""
        gauge.first_look()
        with self._core.lock:
            self.gauge = gauge
            self._core.hinted = self._core.gated = True
            if self._core.open:
                self.work_begins()

    # --- asked by workers -------------------------------------------------------------------------------

    def later(self, at_s: float, task: Task[Any]) -> None:
        """Another attempt at this time."""
        with self._core.lock:
            heappush(self._later, (at_s, next(self._seq), task))
            if self._later[0][2] is task:
                self._wake()

    def arm(self, worker: Worker, task: Task[Any], until_s: float) -> None:
        """Give it up at this time."""
        with self._core.lock:
            heappush(self._armed, (until_s, next(self._seq), worker, task, task.attempts))
            if self._armed[0][3] is task:
                self._wake()

    # --- asked by the core, with its lock held ------------------------------------------------------------

    def work_begins(self) -> None:
        if self.gauge is not None and self._look_s is None and (self.gauge.adaptive or self._core.gated):
            settings = self.gauge.settings
            now_s = clock.monotonic_s()
            self.gauge.begin()
            self._look_s, self._step_s = now_s + settings.runnable_s, now_s + settings.interval_s
            self._quiet = 0
            self._wake()

    def holds(self, task: Task[Any], running: int) -> str | None:
        return None if self.gauge is None else self.gauge.holds(task, running)

    def took(self, task: Task[Any]) -> None:
        if self.gauge is not None:
            self.gauge.took(task)

    def closing(self) -> None:
        self._changed.notify()

    def join(self) -> None:
        """Until the thread has ended: when the pool is shut and everything is over."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
            self._thread = None

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name=f"{self._name}_minder", daemon=True)
            self._thread.start()
        else:
            self._changed.notify()

    # --- its life -----------------------------------------------------------------------------------------

    def _live(self) -> None:
        while True:
            with self._core.lock:
                now_s = clock.monotonic_s()
                again = self._due_again(now_s)
                late = self._due_late(now_s)
                looks = self._look_s is not None and self._look_s <= now_s
                if not again and not late and not looks:
                    if self._core.closed is not None and not self._core.open:
                        break
                    self._changed.wait(self._wait_s(now_s))
                    continue
            for task in again:
                self._core.again(task)
            for worker, task in late:
                self._leave_behind(worker, task)
            if looks:
                self._look(now_s)
        if self.gauge is not None:
            self.gauge.close()

    def _wait_s(self, now_s: float) -> float | None:
        times = [entry[0] for entry in self._later[:1]]
        times += [entry[0] for entry in self._armed[:1]]
        if self._look_s is not None:
            times.append(self._look_s)
        return max(0.0, min(times) - now_s) if times else None

    def _due_again(self, now_s: float) -> list[Task[Any]]:
        found = []
        while self._later and self._later[0][0] <= now_s:
            found.append(heappop(self._later)[2])
        return found

    def _due_late(self, now_s: float) -> list[tuple[Worker, Task[Any]]]:
        found = []
        armed = self._armed
        while armed and (armed[0][0] <= now_s or not _holds(armed[0])):
            entry = heappop(armed)
            if _holds(entry):
                found.append((entry[2], entry[3]))
        return found

    def _leave_behind(self, worker: Worker, task: Task[Any]) -> None:
        self._left = [each for each in self._left if each.thread.is_alive()]
        replace = len(self._left) < ABANDONED_MAX
        if not self._core.abandon(worker, task, replace):
            return
        if replace:
            self._left.append(worker)
            return
        if not self._told:
            self._told = True
            log.warning("%d threads were left behind and still run: no more of them are replaced", ABANDONED_MAX)
        worker.give_up(task)

    def _look(self, now_s: float) -> None:
        gauge, core = self.gauge, self._core
        assert gauge is not None
        with core.lock:
            tasks = [worker.task for worker in core.staff]
            running = [task for task in tasks if task is not None]
            queued = core.waiting.alive() if core.waiting else 0
            hints = sum(task.reserved_bytes for task in running)
        if hints or gauge.outstanding_bytes:
            present_bytes = self._present() if hints else 0
            with core.lock:
                gauge.reserved(hints, present_bytes)
        if now_s < self._step_s:
            gauge.glance(now_s)
        else:
            self._step_s = now_s + gauge.settings.interval_s
            change = gauge.look(running, list(core.account.spans), queued, now_s)
            if change is not None:
                core.set_limit(change.after)
        core.gated = core.hinted or gauge.gates()
        if core.gated and queued:
            core.look_again()
        self._next_look(now_s, bool(running or queued))

    def _next_look(self, now_s: float, active: bool) -> None:
        """Looks go on for a while after the last task: the next may follow at once."""
        assert self.gauge is not None
        settings = self.gauge.settings
        with self._core.lock:
            self._quiet = 0 if active or self._core.open else self._quiet + 1
            over = self._quiet * settings.runnable_s > settings.interval_s
            self._look_s = None if over else now_s + settings.runnable_s


def _holds(entry: tuple[float, int, Worker, Task[Any], int]) -> bool:
    """Whether the worker is still at that attempt."""
    _, _, worker, task, attempt = entry
    return worker.armed and worker.task is task and task.attempts == attempt and not worker.gone
