"""One piece of work: what was asked for, and what became of it. A future that may wait between two attempts. Decides
nothing: when it starts is the core's business, how it is carried out the worker's."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeVar

from msgspec import Struct

T = TypeVar("T")
State = Literal["queued", "running", "retrying", "succeeded", "failed", "timed_out", "cancelled"]
Place = tuple[float, int]  # rank, then the order of submission

_GONE: Final = (CANCELLED, CANCELLED_AND_NOTIFIED)
_NOTHING: Final[Mapping[str, Any]] = {}


class TaskTimedOut(TimeoutError):
    """The task ran for longer than its timeout. Not the TimeoutError of `result(timeout=)`, which is only a wait."""


class KilledForMemory(MemoryError):
    """Memory ran out, and its process was ended so that others can go on; so often that it is not tried again."""


class Home(Protocol):
    """Where a task lives: told when somebody cancels it."""

    def withdrawn(self, task: "Task[Any]") -> None: ...


class Task(Future[T]):
    """A future with a name, attempts and times. Made by the pool only.

    What most tasks never change is an attribute of the class: a task should not cost more than its future.
    """

    name = ""
    priority = 0
    retries = 0
    attempts = 0
    timeout_s: float | None = None
    memory_bytes: int | None = None
    uses: Mapping[str, int] = {}
    measured = False  # one of submit_task: its CPU time is measured, and more may have been said of it
    queued_s = 0.0  # monotonic
    started_s: float | None = None  # of the newest attempt
    ended_s: float | None = None
    cpu_s: float | None = None  # of all attempts
    memory_peak_bytes: int | None = None
    evictions = 0  # attempts that were ended for want of memory
    evicted_bytes: int | None = None  # … what this one held when it was
    alone = False  # the last try after such: with nothing beside it
    frozen_s = 0.0  # of its newest attempt, held still as memory was short

    def __init__(self, home: Home, fn: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.home = home
        self.fn: Callable[..., T] | None = fn
        self.args = args
        self.kwargs = kwargs

    def claim(self) -> bool:
        """Begin an attempt. False: somebody cancelled it before."""
        with self._condition:
            if self._state != PENDING:
                return False
            self._state = RUNNING
            return True

    def unclaim(self) -> None:
        """The attempt failed and another is to follow: until then the task waits, and can be cancelled again."""
        with self._condition:
            self._state = PENDING

    def cancel(self) -> bool:
        """Give it up if it does not run. True: it is cancelled, and whoever waits for it knows at once."""
        with self._condition:
            if self._state in (RUNNING, FINISHED):
                return False
            if self._state in _GONE:
                return True
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # of every Future, and not in its stubs
        self.forget()
        self.home.withdrawn(self)
        return True

    def forget(self) -> None:
        """Let go of the call: a future may be kept for long after it."""
        self.fn, self.args, self.kwargs = None, (), _NOTHING

    def error(self) -> BaseException | None:
        """What its last attempt raised, once it is over."""
        return self._exception

    @property
    def state(self) -> State:
        """In one word."""
        if self._state == PENDING:
            return "retrying" if self.attempts else "queued"
        if self._state == RUNNING:
            return "running"
        if self._state in _GONE:
            return "cancelled"
        error = self._exception
        if error is None:
            return "succeeded"
        return "timed_out" if isinstance(error, TaskTimedOut) else "failed"


class Call(Struct, frozen=True):
    """One call of a batch, with what `submit_task` takes beside it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    name: str | None = None
    priority: int = 0
    retries: int = 0
    timeout: float | None = None
    memory: int | None = None
    uses: Mapping[str, int] = {}


class TaskStatus(Struct, frozen=True, kw_only=True):
    """A task as it is now. `started_at` and `duration_s` are those of its newest attempt."""

    name: str
    state: State
    priority: int
    attempts: int
    retries: int
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    queue_wait_s: float  # from being queued to the newest attempt; for one that has not begun, until now
    duration_s: float | None
    cpu_s: float | None
    memory_peak_bytes: int | None
    error: str | None


class TaskResult(Struct, frozen=True, kw_only=True):
    """What became of a task, or has become of it so far."""

    name: str
    success: bool
    result: Any
    error: BaseException | None
    attempts: int
    state: State
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    cpu_s: float | None
    memory_peak_bytes: int | None
