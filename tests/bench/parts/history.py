"""History: what a claim and a whole run cost, and how long a million runs take to open and to ask.

The commits are real (FULL, on this disk). CPU is that of the whole process, loop and writer.
"""

import asyncio
import resource
import time
from itertools import product
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.fetch import say
from tests.unit.history_world import SETTINGS, Opened, a_run, at, finished, known, queued, started, starting
from tests.unit.test_history_read import fill

from tidegate.history.query import OUTCOMES, UNENDED
from tidegate.history.read import Reader
from tidegate.history.store import Store

RUNS = 2000
SINGLES = 300
MANY = 1_000_000


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def write(path: Path, singles: int, count: int) -> tuple[list[float], float]:
    """ms from each claim to the word that it is on disk; then µs of CPU for each of many runs, written one by one."""
    opened = Opened(path)
    await opened.wrote(known("backup"))
    claim_ms = []
    for n in range(singles):
        run = a_run(f"a{n:06}", n)
        begin_s = time.perf_counter()
        await opened.wrote(queued(run), starting(run))
        claim_ms.append(round(1000 * (time.perf_counter() - begin_s), 3))
        opened.history.write([started(run)], False)
        opened.history.write([finished(run)], False)
        await asyncio.sleep(0.002)
    runs = [a_run(f"b{n:06}", singles + n) for n in range(count)]
    told = [(queued(run), starting(run), started(run), finished(run)) for run in runs]
    ticket, begin_s = 0, cpu_s()
    for claim, start, begun, end in told:
        opened.history.write([claim, start], True)
        opened.history.write([begun], False)
        ticket = opened.history.write([end], False)
        await asyncio.sleep(0)
    await opened.written(ticket)
    used_us = 1e6 * (cpu_s() - begin_s) / count
    await opened.close()
    return claim_ms, round(used_us, 1)


def ask(path: Path, count: int) -> dict[str, float]:
    """ms: opened by a daemon, and the slowest answer over all filters."""
    begin_s = time.perf_counter()
    store = Store.open(path, SETTINGS, now=at(count + 1))
    open_ms = 1000 * (time.perf_counter() - begin_s)
    store.close()
    reader = Reader(path)
    slowest_ms = 0.0
    for filters in product(
        (None, "job-7", "none"),
        (None, *OUTCOMES, "skipped", "overlap"),
        (None, *UNENDED, "finished", "skipped"),
        (None, at(0.99 * count), at(-5)),
        (None, at(-5), at(count / 2)),
    ):
        begin_s = time.perf_counter()
        reader.runs(*filters)
        slowest_ms = max(slowest_ms, 1000 * (time.perf_counter() - begin_s))
    reader.close()
    return {"open_ms": round(open_ms, 2), "slowest_ms": round(slowest_ms, 2)}


def measure(bench: Bench) -> dict[str, object]:
    count = bench.amount(MANY, 50_000)
    claims_ms: list[list[float]] = []
    run_cpu_us: list[float] = []
    for turn in range(bench.rounds(usual=5)):
        say(f"bench: history, round {turn + 1}")
        path = bench.ground.folder("history") / "history.sqlite"
        claim_ms, used_us = asyncio.run(write(path, bench.amount(SINGLES, 50), bench.amount(RUNS, 200)))
        claims_ms.append(sorted(claim_ms))
        run_cpu_us.append(used_us)
    say(f"bench: history, {count} runs")
    path = bench.ground.folder("history") / "history.sqlite"
    store = Store.open(path, SETTINGS, now=at(0))
    fill(store.db, count)
    store.close()
    asked = [ask(path, count) for _ in range(bench.rounds(usual=3))]
    return {
        "claim_ms": claims_ms,
        "run_cpu_us": run_cpu_us,
        "runs": count,
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "asked": asked,
    }
