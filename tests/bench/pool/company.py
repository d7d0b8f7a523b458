"""The pool in company: a neighbour that computes comes and goes, a burst and the steady load after it, a request loop
beside it, and what the daemon itself costs while a hundred runs go on.
"""

import os
import signal
import sys
import time
from typing import Any

from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.fetch import say
from tests.bench.machine import precise_cpu_s
from tests.bench.pool import contenders, daemons, loads
from tests.bench.pool.contenders import Sampler, Trace, program
from tests.bench.pool.makespans import search
from tests.bench.pool.names import BURST_MOST, CROWDED, DAEMON, IDLE
from tests.bench.pool.virtual import settled_s, turns
from tests.bench.stats import nearest_rank

from tidegate import AdaptivePool

Raw = dict[str, Any]

COMES_S = 12.0
STAYS_S = 13.0
AFTER_S = 13.0
HOGS = 2
BURST = 500
LEARN = 8  # runs before the burst: the job is known
STEADY_AFTER_S = 20.0
STEADY_S = 60.0
REQUEST_S = 0.02
REQUEST_CPU_S = 0.001
REQUESTS = 1000
CROWD = 100
OVERHEAD_S = 60.0
WAKING = "import time\nwhile True: time.sleep(0.5)"  # the floor of whoever looks now and then


def watched(bench: Bench, load: loads.Load, span_s: float, most: int | None, hogs: tuple[float, float] | None) -> Trace:
    """The limit of an AdaptivePool that has more to do than it can, for so long. `hogs`: when they come and go."""
    pool = AdaptivePool(most)
    tasks = contenders.calls(bench, load)
    contenders.finish([pool.submit(task) for task in tasks[:LEARN]])
    with Sampler(lambda: pool.limit) as sampler:
        begin_s = time.monotonic()
        for task in tasks:
            pool.submit(task)
        if hogs is not None:
            time.sleep(hogs[0])
            argv = [program(), "cpu", str(2 * span_s)]
            strangers = [bench.ground.stranger(argv) for _ in range(HOGS)]
            time.sleep(hogs[1] - hogs[0])
            for pid in strangers:
                os.kill(pid, signal.SIGKILL)
        time.sleep(max(0.0, begin_s + span_s - time.monotonic()))
    pool.shutdown(cancel_futures=True)
    return sampler.limits


def neighbour(bench: Bench) -> Raw:
    comes_s, leaves_s = COMES_S, COMES_S + STAYS_S
    ends_s = leaves_s + AFTER_S
    load = loads.mixed(1000, 1.0)
    limits = watched(bench, load, ends_s, None, (comes_s, leaves_s))
    settled = [settled_s(limits, comes_s, leaves_s), settled_s(limits, leaves_s, ends_s)]
    say(f"bench: neighbour, settled after {settled} s")
    return {
        "limits": limits,
        "comes_s": comes_s,
        "leaves_s": leaves_s,
        "ends_s": ends_s,
        "settled_s": settled,
        "words": load.words,
    }


def burst(bench: Bench) -> Raw:
    """Three seconds of it are the burst, the minute from the twentieth second on is the steady load."""
    trial = loads.mixed(bench.amount(80, 10), 1.0)
    sizes = trial.sizes if bench.full else tuple(size for size in trial.sizes if size in (8, 12, 16, 24))
    sizes = sizes[: bench.amount(len(sizes), 1)]
    best, took_s = search(trial, sizes, lambda size: contenders.fixed(bench, trial, size))
    seconds = STEADY_AFTER_S + (STEADY_S if bench.full else STEADY_S / 2)
    limits = watched(bench, loads.mixed(2 * BURST, 1.0), bench.amount(int(seconds), 8), BURST_MOST, None)
    return {
        "best": best,
        "search_s": {str(size): took for size, took in took_s.items()},
        "limits": limits,
        "in_3_s": [limit for at_s, limit in limits if at_s <= 3.0][-1],
        "most": max(limit for _, limit in limits),
        "turns": turns([each for each in limits if each[0] > STEADY_AFTER_S]),
        "steady_s": max(1.0, seconds - STEADY_AFTER_S),
    }


def steady(bench: Bench) -> Raw:
    """Jobs that compute all the time: the limit has nothing to look for."""
    limits = watched(bench, loads.cpu(400, 0.5), bench.amount(60 if bench.full else 30, 8), None, None)
    return {"limits": limits, "turns": turns(limits), "steady_s": limits[-1][0]}


def requests(bench: Bench) -> list[float]:
    """Latency of each, ms."""
    printed = bench.ground.folder("loop") / "printed"
    count = bench.amount(REQUESTS if bench.full else REQUESTS // 2, 200)
    child = bench.ground.start([program(), "loop", str(REQUEST_S), str(count), str(REQUEST_CPU_S)], stdout=printed)
    bench.ground.finish(child, 20 * count * REQUEST_S)
    return [float(line) for line in printed.read_text().split()]


def busy_daemon(bench: Bench, nice: int) -> Tidegate:
    lines: daemons.Lines = {f"cpu-{number:03d}": ("cpu", "0.5") for number in range(200)}
    return daemons.adaptive(bench, lines, nice=nice, memory='"4MiB"')


def beside(bench: Bench) -> Raw:
    """A loop of requests, each of a millisecond of CPU, beside jobs that compute all the time."""
    found: dict[str, list[list[float]]] = {IDLE: [], DAEMON: [], CROWDED: []}
    for _ in range(3 if bench.full else 1):
        found[IDLE].append(requests(bench))
        with busy_daemon(bench, nice=10) as daemon:
            daemons.trigger(daemon, [f"cpu-{number:03d}" for number in range(200)])
            found[DAEMON].append(requests(bench))
        argv = ["sh", "-c", f"while :; do {program()} cpu 0.5; done"]
        children = [bench.ground.start(argv) for _ in range(8)]
        found[CROWDED].append(requests(bench))
        for child in children:
            bench.ground.stop(child)
    p99 = {name: [nearest_rank(one, 99) for one in rounds] for name, rounds in found.items()}
    say(f"bench: requests, p99 ms: {p99}")
    return {"ms": found, "period_s": REQUEST_S, "cpu_s": REQUEST_CPU_S}


def overhead(bench: Bench) -> Raw:
    """CPU of supervisor and keeper while a hundred runs sleep."""
    span_s = bench.amount(int(OVERHEAD_S if bench.full else OVERHEAD_S / 2), 5)
    lines: daemons.Lines = {f"job-{number:03d}": ("wait", str(span_s + 90)) for number in range(CROWD)}
    daemon = daemons.adaptive(bench, lines, most=2 * CROWD, memory='"4MiB"')
    daemon.config.write_text(daemon.config.read_text().replace("min = 1\n", f"min = {CROWD}\n"))
    with daemon:
        daemons.trigger(daemon, list(lines))
        daemon.wait_for("run.started", CROWD, 60.0)
        time.sleep(5.0)  # what follows the starts is not meant
        waking = bench.ground.start([sys.executable, "-c", WAKING])
        time.sleep(1.0)
        before_s = {pid: precise_cpu_s(pid) for pid in (*daemon.pids, waking.pid)}
        begin_s = time.monotonic()
        time.sleep(span_s)
        took_s = time.monotonic() - begin_s
        spent_s = {pid: precise_cpu_s(pid) - before for pid, before in before_s.items()}
        waking_s = spent_s.pop(waking.pid)
        used_s = sum(spent_s.values())
        bench.ground.stop(waking)
        ended = daemon.seen("run.finished")
        for run in daemon.client().ask("GET", "/api/v1/pool")["running"]:
            os.kill(run["pid"], 9)
        daemon.wait_for("run.finished", CROWD, 30.0)
    say(f"bench: {CROWD} running: {used_s / took_s:.2%} of a core")
    return {
        "running": CROWD,
        "ended": ended,
        "used_s": round(used_s, 4),
        "waking_s": round(waking_s, 4),
        "span_s": round(took_s, 3),
    }


def measure(bench: Bench) -> Raw:
    return {
        "neighbour": neighbour(bench),
        "burst": burst(bench),
        "steady": steady(bench),
        "beside": beside(bench),
        "overhead": overhead(bench),
    }
