"""AdaptivePool with processes when memory gets short: held still, let go on, ended and tried again, and who may pass.
The processes and what they hold are real, what the machine has left is worked out from it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pool_work import count_to, grow_to, pid_after

from tidegate import AdaptivePool
from tidegate.model.pool import PoolSettings
from tidegate.model.sample import Reading, Sample, sample
from tidegate.monitor.machine import Machine
from tidegate.pool import KilledForMemory, Task, TaskTimedOut

pytestmark = pytest.mark.live

MIB = 1 << 20
FACT_S = 20.0
QUICK = PoolSettings(
    interval_s=0.05, runnable_s=0.02, freeze_every_s=0.1, thaw_every_s=0.2, freeze_s_max=0.5, kill_pause_s=0.1,
    memory_retry_s=0.01, memory_retry_s_max=0.05, memory_tries=2,
)  # fmt: skip


def until(fact: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + FACT_S
    while not fact():
        assert time.monotonic() < deadline_s, "it did not happen"
        threading.Event().wait(0.005)


class Small:
    """A machine of 1 GiB, of which others hold all but `left`, and the pool's processes what they hold."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.pool: AdaptivePool | None = None
        self._machine = Machine()
        self._last: Reading | None = None

    def check(self) -> Sample:
        before, self._last = self._last, self._machine.read()
        staff = [] if self.pool is None else list(self.pool._core.staff)
        left = self.left - sum(worker.present_bytes() for worker in staff)
        idle = {"load_ratio": 0.1, "busy_ratio": 0.05, "foreign_cores": 0.0, "io_full_ratio": 0.0}
        memory = {"memory_some_ratio": 0.0, "available_bytes": max(0, left), "memory_limit_bytes": 1 << 30}
        return replace(sample(before, self._last), cores=4.0, **idle, **memory)

    current = check


def small(left: int, **changes: Any) -> tuple[Small, AdaptivePool]:
    machine = Small(left)
    pool = AdaptivePool(4, kind="process", monitor=machine, settings=replace(QUICK, **changes))  # type: ignore[arg-type]
    machine.pool = pool
    return machine, pool


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the tasks wait for."""
    return tmp_path / "gate"


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Open at the end, whatever happens: nobody waits for ever."""
    try:
        yield
    finally:
        gate.touch()


def worker_of(pool: AdaptivePool, task: "Task[Any]") -> Any:
    return next(worker for worker in pool._core.staff if worker.task is task)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_time_out_of_a_task_that_is_held_still_stands_still(tmp_path: Path) -> None:
    with AdaptivePool(2, min_workers=2, kind="process") as pool:
        path = tmp_path / "at"
        task = pool.submit_task(count_to, str(path), 50, timeout=2.0)
        until(path.exists)
        worker = worker_of(pool, task)
        assert worker.hold(task) and not worker.hold(task)
        until(lambda: state(worker.process.pid) == "T")
        there = path.read_text()
        assert pool.submit_task(pid_after, 2.5).result(FACT_S), "the others go on"
        assert path.read_text() == there and not task.done()
        worker.let_go(task)
        assert task.result(FACT_S) == 50
        assert task.frozen_s > 2.4
        late = pool.submit_task(pid_after, 60, timeout=0.5)
        until(lambda: late.started_s is not None and worker_of(pool, late)._asks)
        worker_of(pool, late).hold(late)
        worker_of(pool, late).let_go(late)
        assert isinstance(late.exception(FACT_S), TaskTimedOut)


def test_a_task_that_is_held_still_can_be_cancelled_and_its_place_taken() -> None:
    with AdaptivePool(1, kind="process") as pool:
        task = pool.submit_task(pid_after, 60)
        until(lambda: task.started_s is not None and worker_of(pool, task)._asks)
        assert worker_of(pool, task).hold(task)
        assert pool.cancel(task, kill=True)
        assert pool.submit_task(pid_after, 0).result(FACT_S)


def test_where_memory_runs_out_the_younger_is_held_ended_and_tried_again_alone(gate: Path) -> None:
    machine, pool = small(left=600 * MIB, memory_tries=1)
    with pool, opened(gate):
        first = pool.submit_task(grow_to, 4, str(gate), retries=1, name="first")
        until(lambda: first.started_s is not None)
        second = pool.submit_task(grow_to, 500, str(gate), retries=1, name="second")
        until(lambda: second.alone)
        assert not first.done() and second.evictions == 1 == pool.summary().evicted
        machine.left = 900 * MIB
        gate.touch()
        assert (first.result(FACT_S), second.result(FACT_S)) == (1, 125)
        assert (first.attempts, second.attempts, second.evictions) == (1, 2, 1)


def test_after_its_tries_it_fails_and_what_may_not_be_tried_again_is_never_ended(gate: Path) -> None:
    machine, pool = small(left=600 * MIB, memory_tries=0)
    with pool, opened(gate):
        first = pool.submit_task(grow_to, 4, str(gate))
        until(lambda: first.started_s is not None)
        once = pool.submit_task(grow_to, 200, str(gate))
        until(lambda: once.started_s is not None)
        again = pool.submit_task(grow_to, 500, str(gate), retries=1, name="again")
        error = again.exception(FACT_S)
        assert isinstance(error, KilledForMemory) and isinstance(error, MemoryError)
        assert "memory" in str(error)
        gate.touch()
        machine.left = 900 * MIB
        assert (first.result(FACT_S), once.result(FACT_S)) == (1, 50)
        assert (pool.summary().evicted, pool.status(again).state) == (1, "failed")


def test_a_small_task_passes_one_that_does_not_fit(gate: Path) -> None:
    _, pool = small(left=600 * MIB)
    with pool, opened(gate):
        pool.submit_task(pid_after, 0, memory=MIB).result(FACT_S)
        first = pool.submit_task(grow_to, 4, str(gate), memory=300 * MIB)
        large = pool.submit_task(pid_after, 0, memory=300 * MIB, name="large")
        assert pool.submit_task(pid_after, 0, memory=MIB).result(FACT_S)
        assert not first.done() and not large.done()
        gate.touch()
        assert large.result(FACT_S)


def test_a_worker_that_is_held_still_when_the_program_is_killed_ends(tmp_path: Path) -> None:
    code = """
        import sys, time
        from tidegate import AdaptivePool
        from pool_work import pid_after
        if __name__ == "__main__":
            pool = AdaptivePool(1, kind="process")
            print(pool.submit_task(pid_after, 0).result(), flush=True)
            task = pool.submit_task(pid_after, 0.5)
            while task.started_s is None or not next(iter(pool._core.staff)).hold(task):
                time.sleep(0.01)
            print("held", flush=True)
            time.sleep(60)
    """
    script = tmp_path / "held.py"
    script.write_text("\n".join(line[8:] for line in code.splitlines()))
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert program.stdout.readline() == "held\n"
        until(lambda: state(pid) == "T")
        program.send_signal(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or state(pid) == "Z")
