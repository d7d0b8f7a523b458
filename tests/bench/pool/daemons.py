"""The daemon as it comes, adaptive, on the benchmarks' jobs; and what its log says of the pool afterwards."""

import time
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.ground import Missed
from tests.bench.pool.cell import Cell
from tests.bench.pool.contenders import program
from tests.bench.pool.loads import Command

SLOTS = 200  # what daemon.py is asked for, to be taken out again

Raw = dict[str, Any]
Lines = dict[str, Command]  # job → its command line


def adaptive(
    bench: Bench, commands: Lines, *, cell: Cell | None = None, nice: int = 10, most: int | None = None, **keys: str
) -> Tidegate:
    """`keys` are keys of every job, as TOML. No schedule: they are triggered."""
    assert bench.tools.tidegate
    start = bench.tools.tidegate if cell is None else cell.wrap(bench.tools.tidegate)
    text = "".join(jobs.job(name, (program(), *command), **keys) for name, command in commands.items())
    daemon = Tidegate(bench.ground, start, text, slots=SLOTS, nice=nice)
    pool = "min = 1\n" + ("" if most is None else f"max = {most}\n")
    settings = daemon.config.read_text()
    settings = settings.replace(f"min = {SLOTS}\nmax = {SLOTS}\n", pool).replace('memory = "4MiB"\n', "")
    daemon.config.write_text(settings)
    return daemon


def trigger(daemon: Tidegate, names: list[str]) -> None:
    client = daemon.client()
    for name in names:
        client.ask("POST", f"/api/v1/jobs/{name}/runs", "{}")
    client.close()


def wait_ended(daemon: Tidegate, count: int, within_s: float) -> float:
    """Seconds from now until so many more runs are over."""
    begin_s = time.monotonic()
    return daemon.wait_for("run.finished", daemon.seen("run.finished") + count, within_s) - begin_s


def at_s(record: Raw) -> float:
    return datetime.fromisoformat(str(record["time"])).timestamp()


def account(daemon: Tidegate) -> Raw:
    """What became of all runs so far, and how much work was done twice."""
    started: dict[str, float] = {}
    frozen: dict[str, float] = {}
    stood_s: dict[str, float] = {}
    found: Raw = {"ended": 0, "bad": [], "evicted": 0, "frozen": 0, "worked_s": 0.0, "wasted_s": 0.0}
    for event in merged(daemon, "run.started", "run.frozen", "run.thawed", "run.evicted", "run.finished"):
        run, now_s, word = str(event["run_id"]), at_s(event), event["event"]
        if word == "run.started":
            started[run], stood_s[run] = now_s, 0.0
        elif word == "run.frozen":
            frozen[run] = now_s
            found["frozen"] += 1
        elif word == "run.thawed" and run in frozen:
            stood_s[run] = stood_s.get(run, 0.0) + now_s - frozen.pop(run)
        elif word in ("run.evicted", "run.finished") and run in started:
            stood_s[run] += now_s - frozen.pop(run, now_s)
            worked_s = max(0.0, now_s - started.pop(run) - stood_s[run])
            found["worked_s"] += worked_s
            if word == "run.evicted":
                found["evicted"] += 1
                found["wasted_s"] += worked_s
        if word == "run.finished":
            found["ended"] += 1
            if event["outcome"] != "succeeded":
                found["bad"].append(str(event["message"])[:200])
    return found


def merged(daemon: Tidegate, *events: str) -> list[Raw]:
    return sorted((dict(one) for event in events for one in daemon.records(event)), key=at_s)


def running(daemon: Tidegate, step_s: float, since_s: float) -> list[tuple[float, float]]:
    """How many ran in the mean of each step, since a time of the wall clock."""
    changes = [(since_s, 0)]
    count = 0
    for event in merged(daemon, "run.started", "run.evicted", "run.finished"):
        count += 1 if event["event"] == "run.started" else -1
        changes.append((max(since_s, at_s(event)), count))
    if len(changes) < 2:
        raise Missed("nothing ran")
    steps = [0.0] * (int((changes[-1][0] - since_s) / step_s) + 1)
    for (begin_s, many), (end_s, _) in pairwise(changes):
        now_s = begin_s
        while now_s < end_s:
            step = int((now_s - since_s) / step_s)
            until_s = min(end_s, since_s + (step + 1) * step_s)
            if until_s <= now_s:  # a rounding error: no step forward
                break
            steps[step] += many * (until_s - now_s) / step_s
            now_s = until_s
    return [(round((step + 1) * step_s, 2), round(mean, 2)) for step, mean in enumerate(steps)]


def limits(daemon: Tidegate, since_s: float, first: int) -> list[tuple[float, int]]:
    """The limit after each change, from what the log says: "from 2 to 8 at once: …"."""
    found = [(0.0, first)]
    for record in daemon.records("pool.resized"):
        words = str(record["reason"]).split()
        found.append((round(at_s(dict(record)) - since_s, 2), int(words[3])))
    return found
