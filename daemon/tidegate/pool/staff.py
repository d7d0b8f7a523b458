"""What the core of a pool asks of its workers and of its minder. Types only."""

import threading
from typing import Any, Protocol

from tidegate.pool.account import Tally
from tidegate.pool.task import Task


class Staff(Protocol):
    """What the core asks of a worker (pool/worker.py)."""

    task: Task[Any] | None
    counted: bool  # as one that runs; a task that is over is let go of before the core has counted it
    given: Task[Any] | None  # its next task, from whoever woke it
    thread: threading.Thread
    tally: Tally
    wake: threading.Lock
    gone: bool  # given up, or not needed: it comes back to find that it is needed no more
    holds_slot: bool  # … and has not been replaced
    ended: int  # tasks that it has ended and the core has not counted yet

    def start(self) -> None: ...
    def at(self, task: Task[Any], attempt: int) -> bool: ...
    def stop_task(self, task: Task[Any], error: BaseException) -> bool: ...
    def hold(self, task: Task[Any]) -> bool: ...
    def let_go(self, task: Task[Any]) -> None: ...
    def present_bytes(self) -> int: ...


class Watch(Protocol):
    """What the core tells the thread that looks at the clock and the machine (pool/minder.py)."""

    def work_begins(self) -> None:
        """There was nothing to do, and there is now."""
        ...

    def holds(self, task: Task[Any], running: int) -> str | None:
        """Why this task may not start for want of memory."""
        ...

    @property
    def closed(self) -> bool:
        """Whether nothing may start, whoever it is."""
        ...

    def begin_walk(self) -> None:
        """All who wait are asked about again, in order."""
        ...

    def took(self, task: Task[Any]) -> None: ...

    def gave(self, task: Task[Any]) -> None: ...

    def closing(self) -> None: ...

    def join(self) -> None: ...
