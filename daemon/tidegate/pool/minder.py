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
from tidegate.pool.holdings import Holdings
from tidegate.pool.staff import Staff
from tidegate.pool.task import KilledForMemory, Task
from tidegate.pool.worker import Worker

DONE: Final = {"freeze": "is held still", "thaw": "goes on", "kill": "was ended, to be tried again"}
ABANDONED_MAX: Final = 256  # threads left behind at once that are replaced; beyond it the pool shrinks, and says so

log: Final = logging.getLogger("tidegate.pool")


class Minder:
    """`grown` tells the bytes by which this process has grown; only asked where tasks in it say what they need."""

    def __init__(self, core: Core, name: str, gauge: Gauge | None, grown: Callable[[], int]) -> None:
        self.gauge = gauge
        self._core = core
        self._name = name
        self._grown = grown
        self._changed = threading.Condition(core.lock)
        self._thread: threading.Thread | None = None
        self._later: list[tuple[float, int, Task[Any]]] = []
        self._armed: list[tuple[float, int, Worker, Task[Any], int]] = []
        self._seq = count()
        self._look_s: float | None = None  # the next look at the machine; None: nothing to look for
        self._step_s = 0.0  # … and the next whole one
        self._begins = False  # there was nothing to do for a while
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

    def after_kill(self, task: Task[Any]) -> float | None:
        """Tried again after it was ended for want of memory: when, and whether with nothing beside it."""
        again = None if self.gauge is None else self.gauge.holdings.retries.next(task.evictions)
        if again is None:
            return None
        task.alone = again.alone
        return again.delay_s

    # --- asked by the core, with its lock held ------------------------------------------------------------

    def work_begins(self) -> None:
        if self.gauge is not None and self._look_s is None and (self.gauge.adaptive or self._core.gated):
            self._look_s, self._begins = clock.monotonic_s(), True
            self._quiet = 0
            self._wake()

    @property
    def closed(self) -> bool:
        return self.gauge is not None and self.gauge.holdings.closed

    def begin_walk(self) -> None:
        if self.gauge is not None:
            self.gauge.holdings.begin_walk()

    def holds(self, task: Task[Any], running: int) -> str | None:
        return None if self.gauge is None else self.gauge.holdings.holds(task, running, clock.monotonic_s())

    def took(self, task: Task[Any]) -> None:
        if self.gauge is not None:
            self.gauge.holdings.took(task, clock.monotonic_s())

    def gave(self, task: Task[Any]) -> None:
        if self.gauge is not None:
            self.gauge.holdings.gave(task)

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
            for worker, task, attempt in late:
                self._leave_behind(worker, task, attempt)
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

    def _due_late(self, now_s: float) -> list[tuple[Worker, Task[Any], int]]:
        found = []
        armed = self._armed
        while armed and (armed[0][0] <= now_s or not armed[0][2].at(*armed[0][3:])):
            _, _, worker, task, attempt = heappop(armed)
            if worker.at(task, attempt):
                found.append((worker, task, attempt))
        return found

    def _leave_behind(self, worker: Worker, task: Task[Any], attempt: int) -> None:
        self._left = [each for each in self._left if each.thread.is_alive()]
        replace = len(self._left) < ABANDONED_MAX
        if not self._core.abandon(worker, task, attempt, replace):
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
        if self._begins:  # with a reading, so that the first whole look has an interval to judge
            gauge.first_reading()
            with core.lock:
                self._begins = False
                self._look_s, self._step_s = now_s + gauge.settings.runnable_s, now_s + gauge.settings.interval_s
            return
        with core.lock:
            at_work = [(worker, worker.task) for worker in core.staff if worker.task is not None]
            queued = core.waiting.alive() if core.waiting else 0
        self._weigh(gauge.holdings, at_work, now_s)
        if now_s < self._step_s:
            gauge.glance(now_s)
        else:
            self._step_s = now_s + gauge.settings.interval_s
            running = [task for _, task in at_work]
            change = gauge.look(running, list(core.account.spans), queued, now_s)
            if change is not None:
                core.set_limit(change.after)
        self._stop_one(gauge.holdings, now_s)
        core.gated = core.hinted or gauge.gates()
        if core.gated and queued:
            core.look_again()
        self._next_look(now_s, bool(at_work or queued))

    def _weigh(self, holdings: Holdings, at_work: list[tuple[Staff, Task[Any]]], now_s: float) -> None:
        """What running tasks hold by now. The kernel's files are read without the lock."""
        if not holdings.running:
            return
        if not holdings.apart:
            all_bytes = self._grown()
            with self._core.lock:
                holdings.grown(all_bytes)
            return
        found = [(task, worker.present_bytes()) for worker, task in at_work]
        with self._core.lock:
            for task, present_bytes in found:
                holdings.use(task, present_bytes, now_s)

    def _stop_one(self, holdings: Holdings, now_s: float) -> None:
        """As memory is short: hold one task still, let one go on, or end one that is tried again."""
        core = self._core
        with core.lock:
            waited = {*core.waiting.wanted(), *(name for each in core.shared.asked for name in each.uses)}
            decided = holdings.decide(waited, now_s)
            if decided is None:
                return
            act, holding = decided
            task = holding.task
            worker = next((each for each in core.staff if each.task is task), None)
        if worker is None:
            return
        match act.kind:
            case "freeze":
                done = worker.hold(task)
                holding.frozen_since_s = now_s if done else None
            case "thaw":
                worker.let_go(task)
                holding.frozen_since_s, done = None, True
            case "kill":
                task.evicted_bytes = holding.present_bytes
                done = worker.stop_task(task, KilledForMemory(act.reason))
                holding.frozen_since_s = None
                task.evicted_bytes = holding.present_bytes if done else None
        if done:
            log.info("%s: %s %s: %s", self._name, task.name or "a task", DONE[act.kind], act.reason)

    def _next_look(self, now_s: float, active: bool) -> None:
        """Looks go on for a while after the last task: the next may follow at once."""
        assert self.gauge is not None
        settings = self.gauge.settings
        pace_s = settings.look_s_min if self.gauge.memory.tier else settings.runnable_s
        with self._core.lock:
            self._quiet = 0 if active or self._core.open else self._quiet + 1
            over = self._quiet * settings.runnable_s > settings.interval_s
            self._look_s = None if over else now_s + pace_s
