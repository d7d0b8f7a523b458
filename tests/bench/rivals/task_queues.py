"""Task queues as their own pages set them up: COUNT tasks that each spawn PROGRAM, queued, then worked off by WORKERS.

    task_queues.py huey FILE COUNT WORKERS PROGRAM         SqliteHuey, results stored, its consumer's threads
    task_queues.py dramatiq SOCKET COUNT WORKERS PROGRAM   redis on a Unix socket, results stored, a worker's threads
    task_queues.py dramatiq - COUNT WORKERS PROGRAM        StubBroker and StubBackend: memory of this process only

Prints the seconds from the start of the workers to the last stored result, and how many results are stored. Run by
the benchmarks in an environment that has the queues, never imported.
"""

import os
import sys
import threading
import time

WITHIN_S = 110.0
QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
]


def spawned(program: str) -> int:
    """The cheapest way that Python has to run a program and learn its exit status."""
    pid = os.posix_spawn(program, [program], os.environ, file_actions=QUIET)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Countdown:
    """Knows when the last of many was done; called from any thread."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._over = threading.Event()

    def one(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._over.set()

    def wait(self) -> None:
        if not self._over.wait(WITHIN_S):
            sys.exit(f"{self._left} tasks left after {WITHIN_S:g} s")


def with_huey(path: str, count: int, workers: int, program: str) -> None:
    from huey import SqliteHuey
    from huey.signals import SIGNAL_COMPLETE

    huey = SqliteHuey(filename=path)
    over = Countdown(count)

    @huey.task()
    def run(number: int) -> int:
        return spawned(program)

    @huey.signal(SIGNAL_COMPLETE)
    def stored(signal: str, task: object) -> None:  # huey puts the result first
        over.one()

    for number in range(count):
        run(number)
    consumer = huey.create_consumer(workers=workers, periodic=False)
    begin_s = time.monotonic()
    consumer.start()
    over.wait()
    elapsed_s = time.monotonic() - begin_s
    print(f"{elapsed_s:.6f} {huey.result_count()}", flush=True)
    consumer.stop(graceful=True)


def with_dramatiq(socket: str, count: int, workers: int, program: str) -> None:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.brokers.stub import StubBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend, StubBackend

    over = Countdown(count)

    class Watch(dramatiq.Middleware):
        def after_process_message(self, broker: object, message: object, **_: object) -> None:
            over.one()

    if socket == "-":
        broker, backend = StubBroker(), StubBackend()
    else:
        url = f"unix://{socket}"
        broker, backend = RedisBroker(url=url), RedisBackend(url=url)
    broker.add_middleware(Results(backend=backend, store_results=True))
    broker.add_middleware(Watch(), before=Results)  # what comes after a message goes through them backwards
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def run(number: int) -> int:
        return spawned(program)

    messages = [run.send(number) for number in range(count)]
    worker = dramatiq.Worker(broker, worker_threads=workers)
    begin_s = time.monotonic()
    worker.start()
    over.wait()
    elapsed_s = time.monotonic() - begin_s
    stored = sum(backend.get_result(message) == 0 for message in messages)
    print(f"{elapsed_s:.6f} {stored}", flush=True)
    worker.stop()


def main() -> None:
    match sys.argv[1:]:
        case ["huey", path, count, workers, program]:
            with_huey(path, int(count), int(workers), program)
        case ["dramatiq", socket, count, workers, program]:
            with_dramatiq(socket, int(count), int(workers), program)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
