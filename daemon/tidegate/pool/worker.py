"""A worker: a thread that carries out one task after the other, here or (pool/shepherd.py) in a process of its own.
What a task raises is its result, whatever it is. Holds the core, never the pool."""

import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures._base import LOGGER
from concurrent.futures.thread import BrokenThreadPool
from typing import Any, Final, Protocol

from msgspec import Struct

from tidegate import clock
from tidegate.pool.core import Core
from tidegate.pool.task import KilledForMemory, Task, TaskTimedOut

TRIES_DOUBLED_MAX: Final = 64  # 2ⁿ beyond it is no number any more; the longest delay rules long before


class Hiring(Struct, frozen=True, kw_only=True):
    """What all workers of a pool have in common."""

    name: str  # of their threads
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    retry_base_s: float
    retry_max_s: float
    minder: "Minder"
    note: Callable[[Task[Any], float, float, float | None], None] | None  # where something is learned of what ended


class Minder(Protocol):
    """What a worker asks of the thread that looks at the clock (pool/minder.py)."""

    def later(self, at_s: float, task: Task[Any]) -> None:
        """Another attempt at this time."""
        ...

    def arm(self, worker: "Worker", task: Task[Any], until_s: float) -> None:
        """Give it up at this time."""
        ...

    def after_kill(self, task: Task[Any]) -> float | None:
        """It was ended for want of memory: how long until it is tried again; None: often enough."""
        ...


class Unsent(Exception):
    """The call itself cannot be handed to a process: no other attempt would change that."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Worker:
    """One thread. `first` is a task whose thread was given up: to tell those who wait for it is its first business."""

    broken_type: type[BrokenExecutor] = BrokenThreadPool
    kills = False  # it ends a task that takes too long; otherwise the minder gives it up

    def __init__(self, core: Core, hiring: Hiring, first: Task[Any] | None, number: int) -> None:
        self.core = core
        self.hiring = hiring
        self.task: Task[Any] | None = None
        self.counted = False
        self.given: Task[Any] | None = None
        self.gone = False
        self.holds_slot = False
        self.ended = 0
        self.armed = False  # the minder watches its task
        self.wake = threading.Lock()
        self.wake.acquire()
        self.tally = core.account.hired()
        self.spans = core.account.spans
        self._first = first
        self.thread = threading.Thread(target=self._live, name=f"{hiring.name}_{number}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def at(self, task: Task[Any], attempt: int) -> bool:
        """Whether it is still at that attempt, which has a timeout."""
        return self.armed and self.task is task and task.attempts == attempt and not self.gone

    def stop_task(self, task: Task[Any], error: BaseException) -> bool:
        """End a task that runs. A thread cannot be ended."""
        del task, error
        return False

    def hold(self, task: Task[Any]) -> bool:
        """Hold a task that runs still. A thread cannot be."""
        del task
        return False

    def let_go(self, task: Task[Any]) -> None:
        """Let it go on."""

    def present_bytes(self) -> int:
        """What its task holds, where that can be told apart."""
        return 0

    # --- its life --------------------------------------------------------------------------------------

    def _live(self) -> None:
        core = self.core
        if self._first is not None:
            self.give_up(self._first)
            self._first = None
        if not self.begin():
            core.lost(self)
            return
        try:
            while (task := core.next_for(self)) is not None:
                self.carry(task)
                del task
        finally:
            self.end()

    def begin(self) -> bool:
        """Whether it can work."""
        if self.hiring.initializer is None:
            return True
        try:
            self.hiring.initializer(*self.hiring.initargs)
        except BaseException:  # noqa: BLE001  # whatever it raises is told, and breaks the pool
            LOGGER.critical("Exception in initializer:", exc_info=True)
            reason = "A thread initializer failed, the thread pool is not usable anymore"
            self.core.break_all(self.broken_type(reason))
            return False
        return True

    def end(self) -> None:
        """Whatever it leaves behind."""

    def call(self, task: Task[Any]) -> Any:
        """The result, or whatever it raises."""
        assert task.fn is not None
        began_s = clock.thread_cpu_s()
        try:
            return task.fn(*task.args, **task.kwargs)
        finally:
            if not self.gone:
                task.cpu_s = (task.cpu_s or 0.0) + clock.thread_cpu_s() - began_s
            del task  # an error keeps this frame, and the task the error

    # --- one task --------------------------------------------------------------------------------------

    def carry(self, task: Task[Any]) -> None:
        """From the beginning of an attempt until all who wait for it know."""
        if task.measured or self.kills:
            self._carry_measured(task)
            return
        task.attempts = 1
        task.started_s = began_s = clock.monotonic_s()
        try:
            assert task.fn is not None
            result = task.fn(*task.args, **task.kwargs)
        except BaseException as error:  # noqa: BLE001  # whatever a task raises is its result
            task.ended_s = clock.monotonic_s()
            self._refuse(task, error)
            self.spans.append((began_s, task.ended_s))
            del task  # an error keeps this frame, and the task the error
        else:
            task.ended_s = ended_s = clock.monotonic_s()
            self.spans.append((began_s, ended_s))
            self.tally.succeeded += 1
            task.forget()
            task.set_result(result)
        self.ended += 1

    def _carry_measured(self, task: Task[Any]) -> None:
        """The same with all that may have been said of it."""
        task.attempts += 1
        before_cpu_s = task.cpu_s or 0.0
        task.started_s = began_s = clock.monotonic_s()
        if task.timeout_s is not None and not self.kills:
            self.armed = True
            self.hiring.minder.arm(self, task, began_s + task.timeout_s)
        try:
            result = self.call(task)
        except BaseException as error:  # noqa: BLE001  # whatever a task raises is its result
            if self._ends(task, before_cpu_s):
                self._failed(task, error)
            del task  # an error keeps this frame, and the task the error
        else:
            if self._ends(task, before_cpu_s):
                self.tally.succeeded += 1
                task.forget()
                task.set_result(result)
                self.ended += 1

    def _ends(self, task: Task[Any], before_cpu_s: float) -> bool:
        """The attempt is over. False: it was given up before, and is no business of this worker any more."""
        ended_s, began_s = clock.monotonic_s(), task.started_s or 0.0
        if self.armed and not self._disarm():
            return False
        task.ended_s = ended_s
        self.spans.append((began_s, ended_s))
        if task.name and (note := self.hiring.note) is not None:
            note(task, began_s, ended_s, None if task.cpu_s is None else task.cpu_s - before_cpu_s)
        if task.uses or self.core.gated:
            self.core.free(task)
        return True

    def _disarm(self) -> bool:
        with self.core.lock:
            self.armed = False
            return not self.gone

    def _failed(self, task: Task[Any], error: BaseException) -> None:
        final = isinstance(error, Unsent) or not isinstance(error, Exception)
        if isinstance(error, Unsent):
            error = error.error
        over = final or not (self._after_kill(task) if isinstance(error, KilledForMemory) else self._again(task))
        if over:
            self._refuse(task, error)
        self.ended += over

    def _again(self, task: Task[Any]) -> bool:
        """Whether there is another attempt; if so, it is arranged."""
        tries = task.attempts - task.evictions  # it is not to blame for what others took
        if tries > task.retries or self.core.broken is not None:
            return False
        hiring = self.hiring
        delay_s = min(hiring.retry_max_s, hiring.retry_base_s * 2.0 ** min(tries - 1, TRIES_DOUBLED_MAX))
        self._rests(task, delay_s)
        return True

    def _after_kill(self, task: Task[Any]) -> bool:
        self.tally.evicted += 1
        task.evictions += 1
        delay_s = self.hiring.minder.after_kill(task)
        if delay_s is None or self.core.broken is not None:
            return False
        task.evicted_bytes = None
        self._rests(task, delay_s)
        return True

    def _rests(self, task: Task[Any], delay_s: float) -> None:
        self.tally.retried += 1
        self.core.rests(task)
        task.unclaim()
        self.hiring.minder.later(clock.monotonic_s() + delay_s, task)

    def _refuse(self, task: Task[Any], error: BaseException) -> None:
        self.tally.failed += 1
        self.tally.timed_out += isinstance(error, TaskTimedOut)
        task.forget()
        task.set_exception(error)

    def give_up(self, task: Task[Any]) -> None:
        """Its thread took too long and was left behind: another attempt, or the end of it."""
        began_s = task.started_s or 0.0
        task.ended_s = clock.monotonic_s()
        self.spans.append((began_s, task.ended_s))
        self.core.free(task)
        if not self._again(task):
            self._refuse(task, TaskTimedOut(f"{task.name or 'the task'} ran for longer than {task.timeout_s:g} s"))
            self.core.over()
