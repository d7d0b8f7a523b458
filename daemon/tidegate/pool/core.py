"""The core of a pool: who waits, who works, how many may, and the hand-over between them. One lock guards all of it;
what a task does, its callbacks among it, is never called with the lock held.

Threads know the core and not the pool, so that a pool that nobody holds any more ends. Work is not pushed to a worker
but fetched: whoever ends a task takes the next, and asleep is only who finds none. So the order is that of the queue
whoever is awake, and a short task costs no change of threads.
"""

import logging
import sys
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final
from weakref import WeakSet

from tidegate import clock
from tidegate.pool.account import Account
from tidegate.pool.shared import Shared
from tidegate.pool.staff import Staff, Watch
from tidegate.pool.task import Task
from tidegate.pool.waiting import Heap, Waiting

TASKS_MAX: Final = 1_000_000  # not over, about 1 KB each: a loop that submits without end is a fault to be told
UNCOUNTED_MAX: Final = 256  # tasks that one worker may end before they are counted
WHOLE: Final = getattr(sys, "_is_gil_enabled", lambda: True)()  # a heap is popped in one step
SHUT: Final = "cannot schedule new futures after shutdown"
EXITING: Final = "cannot schedule new futures after interpreter shutdown"
FORKED: Final = "cannot schedule new futures: this pool belongs to the process that was forked; make one here"

log: Final = logging.getLogger("tidegate.pool")


class PoolFull(RuntimeError):
    """TASKS_MAX tasks wait or run already."""


class Core:
    """State and hand-over. Methods that begin with an underscore want the lock held."""

    def __init__(self, limit: int, hire: Callable[["Core", Task[Any] | None], Staff], idle_s: float | None) -> None:
        self.lock = threading.Lock()
        self.rest = threading.Condition(self.lock)  # nothing is left to do
        self.limit = limit  # workers that may be awake
        self.waiting = Waiting()
        self.shared = Shared()
        self.account = Account()
        self.staff: set[Staff] = set()
        self.leaving: WeakSet[threading.Thread] = WeakSet()  # they ask for no more tasks, and may not have ended yet
        self.idle: list[Staff] = []  # asleep; the last to fall asleep is woken first, its memory is still warm
        self.busy = 0  # awake
        self.running = 0  # of these, with a task in hand
        self.open = 0  # tasks that are not over
        self.resting: set[Task[Any]] = set()  # between two attempts
        self.closed: str | None = None  # nothing new is taken, and why
        self.broken: BaseException | None = None
        self.watch: Watch | None = None
        self.hinted = False  # some tasks say what memory they need
        self.gated = False  # … or it is known, or short: the gate for memory has a say
        self._hire = hire
        self._idle_s = -1.0 if idle_s is None else idle_s
        self._seq = 0
        self._restful = 0  # threads in `rest`
        self._short = False  # of threads, and told

    # --- in ------------------------------------------------------------------------------------------

    def enter(self, task: Task[Any]) -> None:
        """Queue a task. Raises RuntimeError when the pool takes none."""
        task.queued_s = now_s = clock.monotonic_s()
        with self.lock:
            if self.closed is not None or self.broken is not None or self.open >= TASKS_MAX:
                self._admit(1)
            self._seq = seq = self._seq + 1
            self.open += 1
            if task.priority or task.uses:
                self.waiting.push(task, seq)
            else:
                heappush(self.waiting.free, (now_s, seq, task))
            if self.open == 1 and self.watch is not None:
                self.watch.work_begins()
            if self.busy < self.limit:
                self._rouse()

    def enter_all(self, tasks: list[Task[Any]]) -> None:
        """Queue many at once: nothing starts before all are in their places. All or none."""
        now_s = clock.monotonic_s()
        with self.lock:
            self._admit(len(tasks))
            idle = not self.open
            for task in tasks:
                task.queued_s = now_s
                self._queue(task)
            if idle and tasks and self.watch is not None:
                self.watch.work_begins()
            self._fill()

    def again(self, task: Task[Any]) -> None:
        """The wait before another attempt is over."""
        with self.lock:
            self.resting.discard(task)
            if task.state != "retrying":
                return
            self._seq += 1
            self.waiting.push(task, self._seq)
            self._fill()

    def _admit(self, count: int) -> None:
        if self.broken is not None:
            raise self.broken
        if self.closed is not None:
            raise RuntimeError(self.closed)
        if self.open + count > TASKS_MAX:
            raise PoolFull(f"{self.open} tasks are not over yet, and {TASKS_MAX} is the limit")

    def _queue(self, task: Task[Any]) -> None:
        self._seq += 1
        self.waiting.push(task, self._seq)
        self.open += 1

    # --- the hand-over -------------------------------------------------------------------------------

    def next_for(self, worker: Staff) -> Task[Any] | None:
        """The next task of a worker, when there is one: until then it sleeps. None: it is needed no more."""
        waiting = self.waiting
        if worker.task is not None and self.busy <= self.limit and worker.ended < UNCOUNTED_MAX and WHOLE:
            # Nothing has to be weighed: from one task to the next without the lock. A heap is popped in one step of the
            # interpreter, so nobody comes between; what was ended is counted later.
            while waiting.free and not waiting.sharing and not self.gated and not worker.gone:
                try:
                    task = heappop(waiting.free)[2]
                except IndexError:
                    break
                if task.claim():
                    worker.task = task
                    return task
                with self.lock:
                    waiting.dropped()
        return self._next_in_order(worker)

    def _next_in_order(self, worker: Staff) -> Task[Any] | None:
        lock = self.lock
        worker.task = None  # before the wait for the lock: whoever asked for it may be done with it
        lock.acquire()
        try:
            self._count(worker)
            while not worker.gone:
                task, worker.given = worker.given, None
                if task is None and self.busy <= self.limit:
                    task = self._pop()
                if task is not None:
                    worker.task, worker.counted = task, True
                    if self.busy < self.limit and self.waiting:
                        self._rouse()
                    return task
                self.busy -= 1
                if self.closed is not None and not self.open:
                    self._leave(worker)
                    self._rouse_all()
                    return None
                if len(self.staff) > self.limit:
                    self._leave(worker)
                    return None
                self.idle.append(worker)
                lock.release()
                try:
                    woken = worker.wake.acquire(timeout=self._idle_s)
                finally:
                    lock.acquire()
                if not woken:
                    if worker in self.idle:
                        self.idle.remove(worker)
                        self._leave(worker)
                        return None
                    worker.wake.acquire()  # it was woken in the moment in which it gave up
            if worker.holds_slot:
                self.busy -= 1
                self._fill()
            return None
        finally:
            lock.release()

    def _count(self, worker: Staff) -> None:
        if worker.counted:
            worker.counted = False
            self.running -= 1
            self.waiting.anew = True
        if worker.ended:
            ended, worker.ended = worker.ended, 0
            self._close(ended)

    def _pop(self) -> Task[Any] | None:
        waiting = self.waiting
        while (heap := self._first()) is not None:
            try:
                task = waiting.take(heap)
            except IndexError:  # another worker was faster
                continue
            if not task.claim():
                waiting.dropped()
                continue
            self.running += 1
            if task.uses:
                self.shared.take(task.uses, clock.monotonic_s())
            if self.gated and self.watch is not None:
                self.watch.took(task)
            if self.shared.asked and self.busy >= self.limit:
                self._grant()  # no slot is left for those in the queue: nothing is set aside for them
            return task
        return None

    def _first(self) -> Heap | None:
        if self.gated and self.watch is not None:
            return self.waiting.allowed(self.shared, self.watch, self.running)
        return self.waiting.first(self.shared)

    def _leave(self, worker: Staff) -> None:
        self.staff.discard(worker)
        self.leaving.add(worker.thread)
        self.account.left(worker.tally)

    def _rouse(self) -> bool:
        """One more worker, with the next task: who fell asleep last, or a new one. False: nothing may start."""
        if self.idle:
            task = self._pop()
            if task is None:
                return False
            self.busy += 1
            worker = self.idle.pop()
            worker.given = task
            worker.wake.release()
            return True
        return bool(self.waiting) and self._begin(None)

    def _begin(self, first: Task[Any] | None) -> bool:
        worker = self._hire(self, first)
        self.staff.add(worker)
        try:
            worker.start()  # it comes no further than to the lock
        except (RuntimeError, OSError):  # no thread can be had
            self.staff.discard(worker)
            if not self.staff:
                raise
            if not self._short:
                self._short = True
                log.warning("no more than %d threads can be had: the pool goes on with these", len(self.staff))
            return False
        worker.given = None if first is not None else self._pop()
        self.busy += 1
        return worker.given is not None

    def _fill(self) -> None:
        """As many workers as there are tasks for, up to the limit."""
        while self.busy < self.limit and self.waiting and self._rouse():
            pass

    def _rouse_all(self) -> None:
        while self.idle:
            self.busy += 1
            self.idle.pop().wake.release()

    def set_limit(self, limit: int) -> None:
        """From now on so many at once. Who is beyond it ends: who sleeps at once, the longest asleep first, who works
        when its task is over."""
        with self.lock:
            self.limit = limit
            self._fill()
            while self.idle and len(self.staff) > limit:
                worker = self.idle.pop(0)
                worker.gone = True
                self._leave(worker)
                worker.wake.release()

    def look_again(self) -> None:
        """What held tasks back may be over."""
        with self.lock:
            self.waiting.back()
            self._fill()

    # --- out -----------------------------------------------------------------------------------------

    def free(self, task: Task[Any]) -> None:
        """An attempt is over: what it used is given back. Before anybody hears of it, so that they can have it."""
        if task.uses or self.gated:
            with self.lock:
                self.shared.give(task.uses, clock.monotonic_s())
                if self.watch is not None:
                    self.watch.gave(task)
                self.waiting.anew = True
                self.units_changed()

    def rests(self, task: Task[Any]) -> None:
        """It waits for its next attempt."""
        with self.lock:
            self.resting.add(task)

    def withdrawn(self, task: Task[Any]) -> None:
        """It was cancelled while it waited."""
        with self.lock:
            self.account.cancelled += 1
            if task in self.resting:
                self.resting.discard(task)
            else:
                self.waiting.cancelled()
            self._close(1)
            if task.uses:
                self.units_changed()

    def _close(self, count: int) -> None:
        self.open -= count
        if self.open == 0:
            if self._restful:
                self.rest.notify_all()
            if self.closed is not None:
                self._rouse_all()
                if self.watch is not None:
                    self.watch.closing()

    def abandon(self, worker: Staff, task: Task[Any], attempt: int, replace: bool) -> bool:
        """Its thread does not come back. `replace`: another takes its place and tells those who wait for the task.
        False: the attempt was over in the last moment."""
        with self.lock:
            if not worker.at(task, attempt):
                return False
            worker.gone = True
            worker.task, worker.counted = None, False
            self.staff.discard(worker)
            self.running -= 1
            self.account.abandoned += 1
            if replace:
                self.busy -= 1
                self._begin(task)
            else:
                worker.holds_slot = True
            return True

    def over(self) -> None:
        """A task whose worker was given up is over."""
        with self.lock:
            self._close(1)

    def break_all(self, error: BaseException) -> None:
        """Nothing will ever run: no worker can begin."""
        with self.lock:
            if self.broken is None:
                self.broken = error
            queued = [*self.waiting.tasks(), *self.resting]
            self.waiting.clear()
            self.resting.clear()
        failed = 0
        for task in queued:
            if task.claim():
                task.forget()
                task.set_exception(error)
                failed += 1
        with self.lock:
            if failed:
                self._close(failed)

    def lost(self, worker: Staff) -> None:
        """A worker ends without having asked for a task: all of them are broken."""
        with self.lock:
            self._leave(worker)
            self.busy -= 1
            task, worker.given = worker.given, None
        if task is not None and self.broken is not None:
            task.forget()
            task.set_exception(self.broken)
            with self.lock:
                self.running -= 1
                self._close(1)

    # --- named resources: the lock is held by whoever calls (pool/units.py) ---------------------------------

    def number(self) -> int:
        """The next in the order of submission."""
        self._seq += 1
        return self._seq

    def units_changed(self) -> None:
        """Somebody asked, gave back or left the line."""
        self._grant()
        self._fill()

    def _grant(self) -> None:
        if self.shared.asked:
            self.shared.grant(self.waiting.heads() if self.busy < self.limit else (), clock.monotonic_s())

    def refuse_own_worker(self, what: str) -> None:
        """Raises RuntimeError in a thread of this pool: it would wait for itself."""
        thread = threading.current_thread()
        if any(worker.thread is thread for worker in list(self.staff)):
            raise RuntimeError(f"{what} from a task of the same pool would wait for itself")

    # --- the end -------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None) -> bool:
        """Until every task is over. False: not in time."""
        with self.lock:
            self._restful += 1
            try:
                return self.rest.wait_for(lambda: not self.open, timeout_s)
            finally:
                self._restful -= 1

    def shut(self, why: str = SHUT) -> None:
        """Take nothing new; what is queued is still done."""
        with self.lock:
            if self.closed is None or self.closed == SHUT:
                self.closed = why
            if not self.open:
                self._rouse_all()
                if self.watch is not None:
                    self.watch.closing()

    def withdraw_all(self) -> int:
        """Cancel whatever does not run; how many that were."""
        with self.lock:
            queued = [*self.waiting.tasks(), *sorted(self.resting, key=lambda task: task.queued_s)]
        return sum(task.cancel() for task in queued)

    def join(self) -> None:
        """Until every task is over and every thread has ended. Only after `shut`."""
        self.refuse_own_worker("shutdown(wait=True)")
        self.wait(None)
        while True:
            with self.lock:
                left = [worker.thread for worker in self.staff]
                left += [thread for thread in self.leaving if thread.is_alive()]
            if not left:
                break
            for thread in left:
                thread.join()
        if self.watch is not None:
            self.watch.join()

    def forked(self) -> None:
        """In the child of a fork: no thread of ours exists here, and a lock may be held for ever."""
        self.lock = threading.Lock()
        self.rest = threading.Condition(self.lock)
        self.closed = FORKED
        self.open = 0
        self.staff, self.leaving, self.idle, self.watch = set(), WeakSet(), [], None
        self.waiting, self.resting = Waiting(), set()
