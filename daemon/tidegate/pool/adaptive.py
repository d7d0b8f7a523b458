"""AdaptivePool: the engine as a library. An Executor whose number of workers follows what the machine bears, with
priorities, other attempts, time-outs, shared resources and an account of every task. The door; the work is in core.py.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import Any, Final, Literal, ParamSpec, TypeVar, get_args

from msgspec.structs import replace

from tidegate.model.pool import PoolSettings
from tidegate.monitor.machine import Machine
from tidegate.monitor.resource_monitor import ResourceMonitor
from tidegate.pool import exits
from tidegate.pool.account import Summary
from tidegate.pool.chunks import batches, one_by_one, several
from tidegate.pool.core import Core
from tidegate.pool.gauge import Gauge
from tidegate.pool.memory import Grown
from tidegate.pool.minder import Minder
from tidegate.pool.shared import Change, ResourceUse
from tidegate.pool.shepherd import Process, Shepherd
from tidegate.pool.task import Call, Task, TaskResult, TaskStatus
from tidegate.pool.telling import Teller
from tidegate.pool.units import Units
from tidegate.pool.worker import Hiring, Worker

P = ParamSpec("P")
T = TypeVar("T")
Kind = Literal["thread", "process"]

KEPT_MAX: Final = 100_000  # tasks that wait_for_all can tell of; beyond it the oldest are forgotten, and counted
NAME_CHARS_MAX: Final = 200
RETRIES_MAX: Final = 1_000
IDLE_S: Final = 30.0  # a process that did nothing for as long ends: its memory may be wanted elsewhere

_numbers = count()


class AdaptivePool(Executor):
    """An Executor in place of ThreadPoolExecutor (kind "thread") or ProcessPoolExecutor ("process").

    Between `min_workers` and `max_workers` (None: 32 for each usable core) tasks run at once, as many as the machine
    bears; where the two are equal, always as many. Safe to use from any thread.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        kind: Kind = "thread",
        min_workers: int = 1,
        monitor: ResourceMonitor | None = None,
        retry_base_s: float = 1.0,
        retry_max_s: float = 60.0,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        mp_context: BaseContext | None = None,
        max_tasks_per_child: int | None = None,
        settings: PoolSettings | None = None,
    ) -> None:
        """Raises ValueError and TypeError for arguments that make no sense."""
        if kind not in get_args(Kind):
            raise ValueError(f'kind must be "thread" or "process", not {kind!r}')
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if min_workers < 1 or (max_workers is not None and min_workers > max_workers):
            raise ValueError(f"min_workers must be 1 to max_workers, not {min_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if not 0 <= retry_base_s <= retry_max_s:
            raise ValueError(f"retry_base_s must be 0 to retry_max_s ({retry_max_s}), not {retry_base_s}")
        if max_tasks_per_child is not None and max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        self.kind: Final = kind
        self._name = thread_name_prefix or f"AdaptivePool-{next(_numbers)}"
        fixed = min_workers == max_workers
        mode: Literal["adaptive", "fixed"] = "fixed" if fixed else "adaptive"
        self._settings = replace(settings or PoolSettings(), min=min_workers, max=max_workers, mode=mode)
        self._monitor = monitor
        gauge = None if fixed else self._new_gauge()
        limit = min_workers if gauge is None else gauge.controller.limit
        self._family: set[Process] = set()
        hire = self._hiring(retry_base_s, retry_max_s, initializer, initargs, mp_context, max_tasks_per_child)
        self._core = Core(limit, hire, IDLE_S if kind == "process" else None)
        self._minder = Minder(self._core, self._name, gauge, Grown())
        self._core.watch = self._minder
        self._core.gated = gauge is not None and gauge.gates()
        self._kept: deque[Task[Any]] = deque()
        self._forgotten = 0
        self._units = Units(self._core)
        self._teller = Teller(self._core)
        exits.register(self._core)
        # Threads know the core only: when nobody knows the pool any more, what was submitted is done, and they end.
        self._finalizer = weakref.finalize(self, self._core.shut)
        self._finalizer.atexit = False

    def _hiring(
        self,
        retry_base_s: float,
        retry_max_s: float,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        mp_context: BaseContext | None,
        max_tasks_per_child: int | None,
    ) -> Callable[[Core, Task[Any] | None], Worker]:
        numbers, name, kind, family = count(), self._name, self.kind, self._family
        context: BaseContext = mp_context or get_context("forkserver")

        def hire(core: Core, first: Task[Any] | None) -> Worker:
            assert isinstance(core.watch, Minder)
            hiring = Hiring(
                name=name,
                initializer=initializer,
                initargs=initargs,
                retry_base_s=retry_base_s,
                retry_max_s=retry_max_s,
                minder=core.watch,
                note=None if core.watch.gauge is None else core.watch.gauge.note,
            )
            if kind == "process":
                return Shepherd(core, hiring, next(numbers), context, family, max_tasks_per_child)
            return Worker(core, hiring, first, next(numbers))

        return hire

    def _new_gauge(self) -> Gauge:
        return Gauge(self._settings, monitor=self._monitor, machine=Machine, apart=self.kind == "process")

    # --- as every Executor ------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Queue a call. Raises RuntimeError after shutdown, BrokenExecutor when its initializer failed."""
        task: Task[T] = Task(self._core, fn, args, kwargs)
        self._core.enter(task)
        return task

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> "Iterator[T]":
        """As `Executor.map`. With kind "process" `chunksize` calls are handed over at once."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if self.kind == "thread" or chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = super().map(partial(several, fn), batches(zip(*iterables, strict=False), chunksize), timeout=timeout)
        return one_by_one(chunks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more. `cancel_futures`: cancel what does not run. `wait`: return when all is done and ended."""
        self._core.shut()
        if cancel_futures:
            self._core.withdraw_all()
        if wait:
            self._core.join()
            exits.forget(self._core)

    # --- tasks ------------------------------------------------------------------------------------------

    def submit_task(
        self,
        fn: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        priority: int = 0,
        retries: int = 0,
        timeout: float | None = None,
        memory: int | None = None,
        uses: Mapping[str, int] | None = None,
    ) -> Task[T]:
        """Queue a call with all that can be said of it. `timeout` in seconds for each attempt, `memory` in bytes at its
        peak. Raises ValueError for what can never start, RuntimeError after shutdown."""
        call = Call(fn, args, kwargs or {}, name, priority, retries, timeout, memory, uses or {})
        task: Task[T] = self._task(call)
        self._prepare([task])
        self._core.enter(task)
        self._keep([task])
        return task

    def submit_batch(self, calls: Iterable[Call | Callable[[], Any]]) -> list[Task[Any]]:
        """Queue many at once, all or none: the first starts when the last is queued, so that priorities hold among
        them. What is no `Call` is called without arguments."""
        tasks = [self._task(each if isinstance(each, Call) else Call(each)) for each in calls]
        self._prepare(tasks)
        self._core.enter_all(tasks)
        self._keep(tasks)
        return tasks

    def _task(self, call: Call) -> Task[Any]:
        if not callable(call.fn):
            raise TypeError(f"{call.fn!r} is not callable")
        if not 0 <= call.retries <= RETRIES_MAX:
            raise ValueError(f"retries must be 0 to {RETRIES_MAX}, not {call.retries}")
        if call.timeout is not None and not 0 < call.timeout < float("inf"):
            raise ValueError(f"timeout must be a number of seconds above 0, not {call.timeout}")
        if call.memory is not None and call.memory < 0:
            raise ValueError(f"memory must be a number of bytes, not {call.memory}")
        task: Task[Any] = Task(self._core, call.fn, call.args, dict(call.kwargs))
        task.name = (call.name or getattr(call.fn, "__qualname__", "") or type(call.fn).__qualname__)[:NAME_CHARS_MAX]
        task.measured = True
        task.priority, task.retries = call.priority, call.retries
        task.timeout_s, task.memory_bytes = call.timeout, call.memory
        if call.uses:
            task.uses = dict(call.uses)
        return task

    def _prepare(self, tasks: list[Task[Any]]) -> None:
        for task in tasks:
            if task.uses:
                self._units.check(task.uses)
        if any(task.memory_bytes is not None for task in tasks) and not self._core.hinted:
            self._minder.begin_gating(self._minder.gauge or self._new_gauge())

    def _keep(self, tasks: list[Task[Any]]) -> None:
        self._kept.extend(tasks)
        while len(self._kept) > KEPT_MAX:
            self._kept.popleft()
            self._forgotten += 1

    def cancel(self, task: Task[Any], *, kill: bool = False) -> bool:
        """Give a task up that does not run. `kill`: if it runs, end its process (kind "process"); it then raises
        CancelledError. False: it runs, or is over."""
        if task.cancel():
            return True
        return kill and self._teller.kill(task)

    def abort_pending(self) -> int:
        """Cancel whatever does not run, and whatever waits for another attempt. How many that were."""
        return self._core.withdraw_all()

    def wait_for_all(self, timeout: float | None = None) -> list[TaskResult]:
        """Wait until nothing is left to do, at most `timeout` seconds. What became of each task of submit_task and
        submit_batch, in the order of submission. Those that are over are told once; of those that are not in time, the
        state, and they are told again by the next call. Raises RuntimeError when a task of this pool asks."""
        self._core.refuse_own_worker("wait_for_all")
        self._core.wait(timeout)
        told = list(self._kept)
        self._kept = deque(task for task in self._kept if not task.done())
        return [self._teller.result(task) for task in told]

    # --- what there is to know ----------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """How many may run at once, now."""
        return self._core.limit

    def status(self, task: Task[Any]) -> TaskStatus:
        """A task as it is now."""
        return self._teller.status(task)

    def summary(self) -> Summary:
        """What the pool has done so far."""
        return self._teller.summary(self._forgotten)

    # --- named resources ------------------------------------------------------------------------------------

    def add_resource(self, name: str, units: int) -> None:
        """From now on there are so many units of it. What is in use beyond that is not taken away."""
        self._units.make(name, units)

    def resource(self, name: str, units: int = 1, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Hold units for a block. Raises ValueError for more than exist, ResourceTimedOut when they do not come in
        time. In the order of asking, together with the tasks that use them."""
        return self._units.hold({name: units}, timeout)

    def resources(self) -> dict[str, ResourceUse]:
        """Each resource as it is now."""
        return self._units.now()

    def resource_history(self, name: str) -> list[Change]:
        """When how many of its units were in use, the newest 1,000 changes. Raises KeyError for an unknown name."""
        return self._units.history(name)
