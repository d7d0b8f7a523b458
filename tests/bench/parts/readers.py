"""Readers: how much 100 clients that ask the control socket without a pause move the lateness of fires."""

import json
import subprocess
import sys
import time

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.fetch import BENCH, say
from tests.bench.ground import Missed
from tests.bench.parts.reload import stamping_jobs
from tests.bench.parts.scrape import late_in
from tests.bench.stats import read_stamps

IDLE = 100
STAMPING = 20
CLIENTS = 100
SPAN_S = 15
SETTLE_S = 3.0
WITHIN_S = 60.0
QUIET, READ = "quiet", "read by 100 clients"
PATHS = ("/api/v1/runs?limit=20", "/api/v1/jobs", "/api/v1/pool")
CROWD = str(BENCH / "crowd.py")


def crowd(daemon: Tidegate, span_s: float) -> dict[str, object]:
    """A process of its own, with the same right to the machine as the daemon."""
    argv = [sys.executable, CROWD, str(daemon.runtime / "tidegate.sock"), str(CLIENTS), str(span_s), *PATHS]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=span_s + WITHIN_S)
    if done.returncode != 0:
        raise Missed(f"the crowd of readers ended with {done.returncode}: {done.stderr[-500:]}")
    return dict(json.loads(done.stdout))


def measure(bench: Bench) -> dict[str, object]:
    if not bench.tools.tidegate:
        return {}
    stamps = bench.ground.folder("stamps") / "stamps"
    text = jobs.idle_jobs(IDLE) + stamping_jobs(bench.tools.stamp, stamps, STAMPING)
    span_s = bench.amount(SPAN_S, 5)
    spans: list[tuple[str, float, float]] = []
    asked = []
    with Tidegate(bench.ground, bench.tools.tidegate, text) as daemon:
        crowd(daemon, 1.0)  # unmeasured: whatever is imported or built once
        time.sleep(SETTLE_S)
        for turn in range(bench.rounds(usual=5)):
            for kind in (QUIET, READ):
                say(f"bench: readers, round {turn + 1}: {kind} for {span_s} s")
                begin_s = time.time()
                if kind == READ:
                    asked.append(crowd(daemon, span_s))
                else:
                    time.sleep(span_s)
                spans.append((kind, begin_s, time.time()))
                time.sleep(0.5)
    late = late_in(spans, read_stamps(stamps), STAMPING)
    return {"jobs": IDLE + STAMPING, "stamping": STAMPING, "clients": CLIENTS, "late_ms": late, "asked": asked}
