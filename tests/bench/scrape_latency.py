"""How late does a timer on the event loop get while Prometheus scrapes 10,000 jobs? Three ways to render, side by side.

Run it: `python -m tests.bench.scrape_latency [--jobs N] [--seconds S]`. A timer is due every 20 ms and does what a
fire does to the interpreter lock (a few small system calls, each of which lets go of it). Measured: nothing scraped;
the slices that tidegate uses, with and without a pause after each; the same text made at once in a thread;
prometheus-client's own writer in a thread. On a busy machine the pauses matter: a loop that never sleeps is no longer
let in front of other programs by the kernel when a fire is due.
"""

import argparse
import asyncio
import gc
import gzip
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from unittest import mock

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tidegate.api import routes
from tidegate.api.routes import Status, application
from tidegate.api.serve import serve_tcp
from tidegate.model.command import Fact, Record
from tidegate.model.job import Job
from tidegate.model.plan import HttpSettings, Plan
from tidegate.model.run import Outcome, Run, State, Usage
from tidegate.telemetry.metrics import Metrics

PERIOD_S = 0.02
ROUNDS = 5  # taken in turns: other programs on the machine disturb single ones, with and without scrapes
SYSCALLS = 10  # of one fire: to the keeper, to the history, to epoll
T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def metrics_of(jobs: int) -> Metrics:
    """Every job has run once, so that every series is there."""
    names = [f"job-{number:05}" for number in range(jobs)]
    fires = dict.fromkeys(names, 1.8e9)
    metrics = Metrics("bench", pool=lambda: (8, 1, 0), next_fires=lambda: fires, logs_dropped=lambda: 0)
    metrics.load(Plan(jobs={name: Job(name=name, command=("true",)) for name in names}), T0)
    usage = Usage(0.1, 1 << 20)
    for name in names:
        run = Run(
            run_id=name, job=name, scheduled_at=T0, queued_at=T0, duration_s=1.5, usage=usage, state=State.FINISHED
        )
        for fact in (Fact.RUN_QUEUED, Fact.RUN_STARTING):
            metrics.observe(Record(fact=fact, at=T0, job=name, run=run, lateness_s=0.001, wait_s=0.001))
        done = Run(**{field: getattr(run, field) for field in run.__struct_fields__} | {"outcome": Outcome.SUCCEEDED})
        metrics.observe(Record(fact=Fact.RUN_FINISHED, at=T0, job=name, run=done))
    return metrics


class Parsed(Collector):
    """The same series as objects of prometheus-client, made beforehand: only its writer is measured."""

    def __init__(self, metrics: Metrics) -> None:
        text = b"".join(metrics.render()).decode()
        self._families = list(text_string_to_metric_families(text))

    def collect(self) -> list[Metric]:
        """All of them."""
        return self._families


async def lateness(seconds: float) -> list[float]:
    """Milliseconds by which each firing, its system calls included, ended after it was due."""
    loop = asyncio.get_running_loop()
    null = os.open("/dev/null", os.O_WRONLY)
    late_ms: list[float] = []
    start = loop.time() + PERIOD_S
    for number in range(int(seconds / PERIOD_S)):
        due = start + number * PERIOD_S
        await asyncio.sleep(max(0.0, due - loop.time()))
        for _ in range(SYSCALLS):
            os.write(null, b"x")
        late_ms.append((loop.time() - due) * 1000)
    os.close(null)
    return late_ms


# A process of its own, as Prometheus is: reading and spawning must not count.
SCRAPER = """
import http.client, sys, time
print("ready", flush=True)
while True:
    begin_s = time.monotonic()
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]))
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    size = len(connection.getresponse().read())
    connection.close()
    print(time.monotonic() - begin_s, flush=True)
    time.sleep(0.05)
"""


class Scraper:
    """Prometheus without the waiting: one scrape after the other."""

    def __init__(self, host: str, port: int) -> None:
        command = [sys.executable, "-c", SCRAPER, host, str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._out = self._process.stdout
        assert self._out.readline()

    def stop(self) -> list[float]:
        """Seconds of each whole scrape."""
        self._process.kill()
        took_s = [float(line) for line in self._out.read().splitlines() if line]
        self._process.wait()
        return took_s


async def in_threads(work: Callable[[], object], took_s: list[float]) -> None:
    """Render in a thread, again and again."""
    while True:
        before = time.perf_counter()
        await asyncio.to_thread(work)
        took_s.append(time.perf_counter() - before)
        await asyncio.sleep(0.05)


def report(name: str, late_ms: list[float], took_s: list[float]) -> float:
    """One line; answers with the p99."""
    late_ms.sort()
    p50, p99, worst = (late_ms[int(len(late_ms) * share)] for share in (0.5, 0.99, 0.9999))
    took = f"{len(took_s)} scrapes of {sum(took_s) / len(took_s):.2f} s" if took_s else "no scrapes"
    print(f"{name:<30} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   max {worst:7.2f} ms   {took}", flush=True)
    return p99


async def over_http(name: str, seconds: float, host: str, port: int) -> float:
    """Lateness while another process scrapes."""
    scraper = Scraper(host, port)
    late_ms = await lateness(seconds)
    return report(name, late_ms, scraper.stop())


async def by_thread(name: str, seconds: float, work: Callable[[], object]) -> float:
    """Lateness while a thread of this process renders."""
    took_s: list[float] = []
    rendering = asyncio.create_task(in_threads(work, took_s))
    late_ms = await lateness(seconds)
    rendering.cancel()
    return report(name, late_ms, took_s)


async def compare(jobs: int, seconds: float) -> None:
    """All ways, one after the other, back to back scrapes in each."""
    metrics = metrics_of(jobs)
    gc.freeze()  # as the daemon does after its start
    server = await serve_tcp(
        application(metrics, Status("bench", float, lambda: None, lambda: None)), HttpSettings(port=0)
    )
    host, port = server.addresses[0]
    idle: list[float] = []
    ours: list[float] = []
    for _ in range(ROUNDS):
        idle.append(report("no scrape", await lateness(seconds), []))
        ours.append(await over_http("tidegate: slices with pauses", seconds, host, port))
    with mock.patch.object(routes, "PAUSE_S", 0.0):
        await over_http("slices without pauses", seconds, host, port)
    await by_thread("own writer in a thread", seconds, lambda: gzip.compress(b"".join(metrics.render()), 1))
    registry = CollectorRegistry()
    registry.register(Parsed(metrics))
    gc.freeze()
    await by_thread("prometheus-client in a thread", seconds, lambda: gzip.compress(generate_latest(registry), 1))
    await server.close()
    moved_ms = statistics.median(ours) - statistics.median(idle)
    print(f"scrapes of {jobs} jobs move p99 by {moved_ms:.2f} ms (median of {ROUNDS} rounds each; bound: 10 ms)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    asyncio.run(compare(options.jobs, options.seconds))
