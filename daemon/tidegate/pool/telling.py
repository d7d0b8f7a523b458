"""What a pool tells of its tasks and of itself: status, results, the summary. Monotonic instants become wall time here,
by one look at both clocks when the pool is made, so that the differences between two of them are true."""

from concurrent.futures import CancelledError
from datetime import datetime, timedelta
from typing import Any

from tidegate import clock
from tidegate.pool.account import Summary, concurrency, most_at_once
from tidegate.pool.core import Core
from tidegate.pool.task import Task, TaskResult, TaskStatus


class Teller:
    """Reads the core; changes nothing but for `kill`, which asks a worker to."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._wall = clock.wall()
        self._begin_s = clock.monotonic_s()

    def _at(self, mono_s: float | None) -> datetime | None:
        return None if mono_s is None else self._wall + timedelta(seconds=mono_s - self._begin_s)

    def status(self, task: Task[Any]) -> TaskStatus:
        """As it is now."""
        state, error = task.state, task.error()
        now_s = clock.monotonic_s()
        until_s = task.started_s if task.started_s is not None else task.ended_s or now_s
        return TaskStatus(
            name=task.name,
            state=state,
            priority=task.priority,
            attempts=task.attempts,
            retries=task.retries,
            queued_at=self._at(task.queued_s) or self._wall,
            started_at=self._at(task.started_s),
            ended_at=self._at(task.ended_s) if task.done() else None,
            queue_wait_s=max(0.0, until_s - task.queued_s),
            duration_s=self._duration_s(task, now_s),
            cpu_s=task.cpu_s,
            memory_peak_bytes=task.memory_peak_bytes,
            error=None if error is None else f"{type(error).__name__}: {error}",
        )

    def result(self, task: Task[Any]) -> TaskResult:
        """What became of it."""
        state, error = task.state, task.error()
        return TaskResult(
            name=task.name,
            success=state == "succeeded",
            result=task.result(0) if state == "succeeded" else None,
            error=CancelledError() if state == "cancelled" else error,
            attempts=task.attempts,
            state=state,
            queued_at=self._at(task.queued_s) or self._wall,
            started_at=self._at(task.started_s),
            ended_at=self._at(task.ended_s) if task.done() else None,
            duration_s=self._duration_s(task, clock.monotonic_s()),
            cpu_s=task.cpu_s,
            memory_peak_bytes=task.memory_peak_bytes,
        )

    def _duration_s(self, task: Task[Any], now_s: float) -> float | None:
        if task.started_s is None:
            return None
        ended_s = task.ended_s if task.ended_s is not None and task.ended_s >= task.started_s else now_s
        return max(0.0, ended_s - task.started_s)

    def kill(self, task: Task[Any]) -> bool:
        """End the process in which it runs."""
        for worker in list(self._core.staff):
            if worker.task is task:
                return worker.stop_task(task, CancelledError("it was cancelled, and its process was killed"))
        return False

    def summary(self, forgotten: int) -> Summary:
        """What the pool has done so far."""
        core, account = self._core, self._core.account
        now_s = clock.monotonic_s()
        with core.lock:
            running, unfinished, limit = core.running, core.open, core.limit
            since = [worker.task.started_s for worker in core.staff if worker.task is not None]
            ended = list(account.spans)
            succeeded, failed, timed_out, retried, evicted = map(
                account.total, ("succeeded", "failed", "timed_out", "retried", "evicted")
            )
        spans = [*ended, *((start_s, now_s) for start_s in since if start_s is not None)]
        over = succeeded + failed
        span_s = max((end for _, end in ended), default=0.0) - min((start for start, _ in ended), default=0.0)
        return Summary(
            succeeded=succeeded,
            failed=failed,
            timed_out=timed_out,
            cancelled=account.cancelled,
            retried=retried,
            evicted=evicted,
            abandoned=account.abandoned,
            running=running,
            queued=max(0, unfinished - running),
            limit=limit,
            success_rate=succeeded / over if over else None,
            elapsed_s=now_s - self._begin_s,
            throughput_per_s=len(ended) / span_s if span_s > 0 else 0.0,
            concurrency=concurrency(spans, self._begin_s, max((end for _, end in spans), default=now_s)),
            concurrency_max=most_at_once(spans),
            forgotten=forgotten,
        )
