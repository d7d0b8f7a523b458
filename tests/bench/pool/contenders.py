"""Who runs a load: AdaptivePool, pools of a fixed size, the 80 % rule, GNU parallel. Each gets the same programs to
start, and is timed from the first `submit` to the last end.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from functools import partial

import psutil
from msgspec import Struct
from tests.bench.bench import Bench
from tests.bench.fetch import BENCH, compiled
from tests.bench.ground import MARK, Missed
from tests.bench.pool.loads import Load

from tidegate import AdaptivePool
from tidegate.model.pool import PoolSettings

NAIVE_S = 1.0
LOOK_S = 0.1
WITHIN_S = 600.0
SLOTS_PER_CORE = PoolSettings().max_per_core

Trace = list[tuple[float, int]]


class Timing(Struct):
    elapsed_s: float
    limits: Trace  # seconds since the begin, how many at once were allowed
    cut: bool = False  # it took longer, and was stopped


def program() -> str:
    return compiled(BENCH / "pool" / "work.c", "-O2", "-static")


def spawn(argv: tuple[str, ...], environment: dict[str, str]) -> None:
    """Start, wait, and fail unless it ended well. Called in threads."""
    pid = os.posix_spawn(argv[0], argv, environment)
    _, status = os.waitpid(pid, 0)
    if status:
        raise Missed(f"{argv} ended with status {status}")


def burn(span_s: float) -> None:
    """CPU time of a Python function. Called in processes."""
    until_s = time.thread_time() + span_s
    while time.thread_time() < until_s:
        sum(range(5000))


class Sampler:
    """A context: what `limit()` says, ten times a second and whenever it is entered or left."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._begin_s = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.limits: Trace = []

    def _look(self) -> None:
        self.limits.append((round(time.monotonic() - self._begin_s, 3), self._limit()))

    def _live(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def __enter__(self) -> "Sampler":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()


class NaivePool:
    """What many pools do: above 80 % CPU one less, below it one more, once a second."""

    def __init__(self) -> None:
        self.limit = os.cpu_count() or 1
        self._running = 0
        self._room = threading.Condition()
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(256)
        self._looks = threading.Thread(target=self._live, daemon=True)
        psutil.cpu_percent()  # the first answer means nothing
        self._looks.start()

    def _live(self) -> None:
        while not self._over.wait(NAIVE_S):
            busy = psutil.cpu_percent() > 80
            with self._room:
                self.limit = max(1, self.limit - 1) if busy else self.limit + 1
                self._room.notify_all()

    def submit(self, call: Callable[[], None]) -> "Future[None]":
        """Queue it, without waiting."""
        return self._threads.submit(self._one, call)

    def _one(self, call: Callable[[], None]) -> None:
        with self._room:
            self._room.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            call()
        finally:
            with self._room:
                self._running -= 1
                self._room.notify_all()

    def shutdown(self) -> None:
        self._over.set()
        self._threads.shutdown()
        self._looks.join()


def calls(bench: Bench, load: Load) -> list[Callable[[], None]]:
    start, environment = program(), {MARK: str(bench.ground.root)}
    return [partial(spawn, (start, *command), environment) for command in load.commands]


def finish(submitted: Sequence["Future[None]"]) -> None:
    done, late = wait(submitted, WITHIN_S)
    if late:
        raise Missed(f"{len(late)} of {len(submitted)} tasks did not end within {WITHIN_S:g} s")
    for one in done:
        one.result()


def timed(pool: Executor | NaivePool, tasks: Sequence[Callable[[], None]], limit: Callable[[], int]) -> Timing:
    with Sampler(limit) as sampler:
        begin_s = time.monotonic()
        try:
            finish([pool.submit(task) for task in tasks])
            elapsed_s = time.monotonic() - begin_s
        finally:
            pool.shutdown()
    return Timing(round(elapsed_s, 4), sampler.limits)


def ours(bench: Bench, load: Load, max_workers: int | None = None) -> Timing:
    pool = AdaptivePool(max_workers)
    return timed(pool, calls(bench, load), lambda: pool.limit)


def fixed(bench: Bench, load: Load, size: int) -> Timing:
    return timed(ThreadPoolExecutor(size), calls(bench, load), lambda: size)


def naive(bench: Bench, load: Load) -> Timing:
    pool = NaivePool()
    return timed(pool, calls(bench, load), lambda: pool.limit)


def burns(load: Load) -> list[Callable[[], None]]:
    return [partial(burn, float(span)) for _, span in load.commands]


def our_processes(load: Load) -> Timing:
    pool = AdaptivePool(kind="process")
    return timed(pool, burns(load), lambda: pool.limit)


def fixed_processes(load: Load, size: int) -> Timing:
    return timed(ProcessPoolExecutor(size), burns(load), lambda: size)


def parallel(bench: Bench, load: Load, slots: int, *options: str, within_s: float = WITHIN_S) -> Timing:
    """The whole command, from start to end; each line of its input is a command. Stopped when it takes too long."""
    assert bench.tools.parallel
    folder = bench.ground.folder("parallel")
    lines, start = folder / "commands", program()
    lines.write_text("".join(f"{start} {' '.join(command)}\n" for command in load.commands))
    argv = [*bench.tools.parallel, f"-j{slots}", *options, "-a", str(lines)]
    begin_s = time.monotonic()
    child = bench.ground.start(argv)
    try:
        child.wait(within_s)
    except subprocess.TimeoutExpired:
        bench.ground.stop(child, signal.SIGKILL)  # with TERM it would wait for its jobs
        return Timing(within_s, [], cut=True)
    bench.ground.finish(child, 1.0)
    return Timing(round(time.monotonic() - begin_s, 4), [])
