"""Throughput: 2,000 × /bin/true queued at once, four in flight, the record of each kept.

tidegate and huey keep it durably (SQLite, synchronous = FULL, the default of both), dramatiq in
redis with and without syncing, the others in a file. Everywhere without an argument: with one, true reads the locale
first, and is another program (0.95 ms of CPU instead of 0.8).
"""

import resource
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tests.bench import bench as names
from tests.bench import jobs
from tests.bench.bench import Bench, next_instant, rotated
from tests.bench.daemon import Tidegate, all_succeeded
from tests.bench.fetch import BENCH, say
from tests.bench.ground import Missed, sleep_until, until
from tests.bench.machine import cpu_s

RUNS = 2000
IN_FLIGHT = 4
LEAD_S = 3.0
WITHIN_S = 120.0
SCRIPT = str(BENCH / "rivals" / "bare_apscheduler.py")
QUEUES = str(BENCH / "rivals" / "task_queues.py")
TRUE = "/bin/true"

Timing = tuple[float, float]  # wall seconds, CPU seconds of everything


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kept(records: Path, header_lines: int = 0) -> None:
    lines = len(records.read_bytes().splitlines()) - header_lines
    if lines != RUNS:
        raise Missed(f"{lines} records of {RUNS} runs in {records.name}")


def floor(bench: Bench, argv: list[str]) -> Timing:
    folder = bench.ground.folder("queue")
    records, printed = folder / "records", folder / "printed"
    before_s = children_cpu_s()
    child = bench.ground.start([*argv, "queue", str(RUNS), str(IN_FLIGHT), str(records), TRUE], stdout=printed)
    bench.ground.finish(child, WITHIN_S)
    kept(records)
    return float(printed.read_text()), children_cpu_s() - before_s


def parallel(bench: Bench) -> Timing:
    """`seq 2000 | parallel -j4 -N0 --joblog F /bin/true`: the whole command, from start to end."""
    assert bench.tools.parallel
    folder = bench.ground.folder("parallel")
    numbers, records = folder / "numbers", folder / "joblog"
    numbers.write_text("".join(f"{number}\n" for number in range(RUNS)))
    argv = [*bench.tools.parallel, f"-j{IN_FLIGHT}", "-N0", "--joblog", str(records), "-a", str(numbers), TRUE]
    before_s = children_cpu_s()
    begin_s = time.monotonic()
    child = bench.ground.start(argv)
    bench.ground.finish(child, WITHIN_S)
    elapsed_s = time.monotonic() - begin_s
    kept(records, header_lines=1)
    return elapsed_s, children_cpu_s() - before_s


def apscheduler(bench: Bench, kind: str) -> Timing:
    records = bench.ground.folder("aps") / "records"
    instant = next_instant(LEAD_S)
    before_s = children_cpu_s()
    child = bench.ground.start(
        [bench.tools.python, SCRIPT, "queue", kind, str(instant * 10**9), str(RUNS), str(IN_FLIGHT), str(records), TRUE]
    )
    bench.ground.finish(child, LEAD_S + WITHIN_S)
    kept(records)
    # the last line's own time: the script still shuts its scheduler down after it
    last_s = max(float(line.rsplit(b":", 1)[1].rstrip(b"}")) for line in records.read_bytes().splitlines())
    return last_s - instant, children_cpu_s() - before_s


def task_queue(bench: Bench, kind: str, place: str, before_s: float) -> Timing:
    assert bench.tools.queues
    folder = bench.ground.folder(kind)
    printed, said = folder / "printed", folder / "stderr"
    argv = [bench.tools.queues, QUEUES, kind, place, str(RUNS), str(IN_FLIGHT), TRUE]
    child = bench.ground.start(argv, stdout=printed, stderr=said)
    try:
        bench.ground.finish(child, WITHIN_S)
    except Missed as missed:
        raise Missed(f"{missed}\n{said.read_text()[-2000:]}") from None
    elapsed_s, stored = printed.read_text().split()
    if int(stored) != RUNS:
        raise Missed(f"{kind} has {stored} results of {RUNS} runs")
    return float(elapsed_s), children_cpu_s() - before_s


def huey(bench: Bench) -> Timing:
    return task_queue(bench, "huey", str(bench.ground.folder("huey") / "huey.sqlite"), children_cpu_s())


def dramatiq(bench: Bench, durable: bool) -> Timing:
    """Beside a redis of its own. As redis comes it saves now and then; `durable`: each change, before it answers."""
    before_s = children_cpu_s()
    if not bench.tools.redis:
        return task_queue(bench, "dramatiq", "-", before_s)
    folder = bench.ground.folder("redis")
    socket = bench.ground.sockets / f"{folder.name}.sock"
    settings = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    if durable:
        settings += ["--appendonly", "yes", "--appendfsync", "always"]
    server = bench.ground.start([*bench.tools.redis, *settings], stdout=folder / "log", stderr=folder / "log")
    until(socket.exists, 10.0, "redis listens")
    elapsed_s, _ = task_queue(bench, "dramatiq", str(socket), before_s)
    bench.ground.stop(server)
    return elapsed_s, children_cpu_s() - before_s


def tidegate(bench: Bench) -> Timing:
    """From the instant at which all are due to the time of the last run.finished in the log."""
    assert bench.tools.tidegate
    instant = next_instant(LEAD_S)
    text = jobs.at_once(RUNS, [TRUE], instant)
    with Tidegate(bench.ground, bench.tools.tidegate, text, slots=IN_FLIGHT) as daemon:
        if time.time() > instant - 0.5:
            raise Missed(f"tidegate was ready only {daemon.ready_s:.1f} s after its start")
        pids = daemon.pids
        before_s = sum(cpu_s(pid, with_reaped=True) for pid in pids)
        sleep_until(instant)
        until(lambda: daemon.seen("run.finished") >= RUNS, WITHIN_S, "the last run's end", poll_s=0.1)
        used_s = sum(cpu_s(pid, with_reaped=True) for pid in pids) - before_s
        all_succeeded(daemon, RUNS)
        # the line's own time: it is written up to 50 ms later, and looking more often would take time from the runs
        last = max(str(record["time"]) for record in daemon.records("run.finished"))
    return datetime.fromisoformat(last).timestamp() - instant, used_s


def measure(bench: Bench) -> dict[str, object]:
    tools = bench.tools
    runs: dict[str, Callable[[], Timing]] = {
        names.C_FLOOR: lambda: floor(bench, [tools.c_floor]),
        names.PYTHON_FLOOR: lambda: floor(bench, list(tools.python_floor)),
        names.APS_THREADS: lambda: apscheduler(bench, "threads"),
        names.APS_ASYNC: lambda: apscheduler(bench, "async"),
    }
    if tools.parallel:
        runs[names.PARALLEL] = lambda: parallel(bench)
    if tools.queues:
        runs[names.HUEY] = lambda: huey(bench)
        runs[names.DRAMATIQ if tools.redis else names.DRAMATIQ_STUB] = lambda: dramatiq(bench, durable=False)
    if tools.queues and tools.redis:
        runs[names.DRAMATIQ_DURABLE] = lambda: dramatiq(bench, durable=True)
    if tools.tidegate:
        runs[names.TIDEGATE] = lambda: tidegate(bench)
    found: dict[str, list[Timing]] = {name: [] for name in runs}
    for turn in range(bench.rounds(usual=5)):
        for name in rotated(list(runs), turn):
            say(f"bench: throughput, round {turn + 1}: {name}")
            elapsed_s, used_s = runs[name]()
            found[name].append((round(elapsed_s, 4), round(used_s, 3)))
    return {"runs": RUNS, "in_flight": IN_FLIGHT, "elapsed_s_and_cpu_s": found}
