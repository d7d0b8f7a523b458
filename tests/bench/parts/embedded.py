"""Embedded: AdaptivePool in a program, beside ThreadPoolExecutor: what a call costs, how exact other attempts are."""

import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

from tests.bench.bench import Bench, rotated
from tests.bench.fetch import say
from tests.bench.ground import Missed

from tidegate import AdaptivePool

CALLS = 10_000
WORKERS = 8
CONTENDERS: dict[str, Callable[[], Executor]] = {
    "ThreadPoolExecutor": lambda: ThreadPoolExecutor(WORKERS),
    "AdaptivePool, fixed width": lambda: AdaptivePool(WORKERS, min_workers=WORKERS),
    "AdaptivePool, adaptive": lambda: AdaptivePool(WORKERS),
}


def nothing() -> None:
    """What is called."""


def calls_s(make: Callable[[], Executor]) -> float:
    begin_s = time.perf_counter()
    with make() as pool:
        for future in [pool.submit(nothing) for _ in range(CALLS)]:
            future.result()
    return round(time.perf_counter() - begin_s, 4)


def retried_s() -> float:
    """300 × 10 ms on 50 threads; the first six fail three times, so they wait for 1, 2 and 4 s."""
    failures = dict.fromkeys(range(6), 3)

    def work(number: int) -> None:
        time.sleep(0.01)
        if failures.get(number):
            failures[number] -= 1
            raise ValueError(number)

    with AdaptivePool(50, min_workers=50) as pool:
        begin_s = time.perf_counter()
        for number in range(300):
            pool.submit_task(work, number, retries=3)
        told = pool.wait_for_all()
        took_s = round(time.perf_counter() - begin_s, 4)
    if len(told) != 300 or not all(each.success for each in told):
        raise Missed("not all of the 300 tasks succeeded")
    return took_s


def measure(bench: Bench) -> dict[str, object]:
    rounds = bench.rounds(usual=5)
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(bench.amount(15, 3)):
        for name in rotated(list(CONTENDERS), turn):
            found[name].append(calls_s(CONTENDERS[name]))
    say(f"bench: embedded, {rounds} rounds of 7 s")
    return {"calls": CALLS, "workers": WORKERS, "calls_s": found, "retried_s": [retried_s() for _ in range(rounds)]}
