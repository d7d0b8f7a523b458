"""History: what a claim and a whole run cost, and how long a million runs take to open and to ask.

The commits are real (FULL, on this disk). CPU is that of the whole process, loop and writer. Then the real daemon
starts on the million, which are of the 50 jobs that it has.
"""

import asyncio
import os
import resource
import subprocess
import time
from itertools import product
from pathlib import Path

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Client, Tidegate
from tests.bench.fetch import say
from tests.bench.stats import nearest_rank
from tests.unit.history_world import SETTINGS, Opened, a_run, at, finished, known, queued, started, starting
from tests.unit.test_history_read import fill

from tidegate.history.query import OUTCOMES, UNENDED
from tidegate.history.read import Reader
from tidegate.history.store import Store

RUNS = 2000
SINGLES = 300
MANY = 1_000_000
ASKED = 50
JOBS = 50  # those of `fill`
KEEP = '[history]\nkeep = "3650d"\nkeep_runs = 2_000_000\nkeep_bytes = "100GiB"\n'  # all of it stays while we measure
LAST = "/api/v1/runs?limit=20"


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


def start(bench: Bench, path: Path) -> dict[str, float]:
    """The daemon on this file: ready, asked over the socket, asked by the command. The file is moved there and back."""
    assert bench.tools.tidegate
    now_s = time.time()
    text = "".join(jobs.job(f"job-{n}", ["/bin/true"], cron=f'"{jobs.idle_cron(n, now_s)}"') for n in range(JOBS))
    daemon = Tidegate(bench.ground, bench.tools.tidegate, text, tables=KEEP)
    there = daemon.state / "history.sqlite"
    path.rename(there)
    with daemon:
        client = daemon.client()
        took_ms = [asked_ms(client) for _ in range(ASKED)]
        client.close()
        argv = [bench.tools.tidegate, "history", "--limit", "20", "--json"]
        env = {**os.environ, "STATE_DIRECTORY": str(daemon.state), "RUNTIME_DIRECTORY": str(daemon.runtime)}
        begin_s = time.perf_counter()
        subprocess.run(argv, env=env, check=True, capture_output=True)
        command_ms = 1000 * (time.perf_counter() - begin_s)
        ready_s = daemon.ready_s
    there.rename(path)
    return {
        "ready_s": round(ready_s, 3),
        "first_runs_ms": round(took_ms[0], 2),
        "runs_ms": round(nearest_rank(took_ms[1:], 99), 2),
        "command_ms": round(command_ms, 1),
    }


def asked_ms(client: Client) -> float:
    begin_s = time.perf_counter()
    found = client.ask("GET", LAST)
    assert len(found["items"]) == 20, found
    return 1000 * (time.perf_counter() - begin_s)


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
    started = []
    if bench.tools.tidegate:
        for turn in range(bench.rounds(usual=5)):
            say(f"bench: history, the daemon on {count} runs, round {turn + 1}")
            started.append(start(bench, path))
    return {
        "claim_ms": claims_ms,
        "run_cpu_us": run_cpu_us,
        "runs": count,
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "asked": asked,
        "daemon": started,
    }
