"""Start: 10,000 jobs read, checked and scheduled, against a bare APScheduler script that reads the same file."""

import time

from tests.bench import bench as names
from tests.bench import jobs
from tests.bench.bench import Bench, rotated
from tests.bench.daemon import Tidegate
from tests.bench.fetch import BENCH, say

JOBS = 10_000
WITHIN_S = 120.0
SCRIPT = str(BENCH / "rivals" / "bare_apscheduler.py")


def apscheduler(bench: Bench, kind: str, text: str) -> float:
    file = bench.ground.folder("aps") / "jobs.toml"
    file.write_text(text)
    ready = bench.ground.ready()
    env = {"NOTIFY_SOCKET": str(ready.path), "PATH": "/usr/bin:/bin"}
    begin_s = time.monotonic()
    child = bench.ground.start([bench.tools.python, SCRIPT, "load", kind, str(file)], env=env)
    taken_s = ready.wait(WITHIN_S, child) - begin_s
    ready.close()
    bench.ground.stop(child)
    return taken_s


def tidegate(bench: Bench, text: str) -> float:
    assert bench.tools.tidegate
    with Tidegate(bench.ground, bench.tools.tidegate, text) as daemon:
        return daemon.ready_s


def measure(bench: Bench) -> dict[str, object]:
    """Seconds from exec to READY=1. One unmeasured start of each first: byte code and file in the page cache."""
    text = jobs.idle_jobs(JOBS)
    runs = {
        names.APS_THREADS: lambda: apscheduler(bench, "threads", text),
        names.APS_ASYNC: lambda: apscheduler(bench, "async", text),
    }
    if bench.tools.tidegate:
        runs[names.TIDEGATE] = lambda: tidegate(bench, text)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(bench.rounds(usual=5) + 1):
        for name in rotated(list(runs), turn):
            say(f"bench: start, {JOBS} jobs, {f'round {turn}' if turn else 'warming up'}: {name}")
            taken_s = runs[name]()
            if turn:
                found[name].append(round(taken_s, 4))
    return {"jobs": JOBS, "bytes": len(text), "ready_s": found}
