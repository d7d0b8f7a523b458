"""Idle: memory and CPU of schedulers whose jobs do not fire meanwhile, with 100 and with 10,000 of them."""

import subprocess
import time

from tests.bench import bench as names
from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.fetch import BENCH, say
from tests.bench.ground import until
from tests.bench.machine import memory, precise_cpu_s
from tests.bench.rivals import minute

FEW, MANY = 100, 10_000
WINDOW_S = 60
SETTLE_S = 5
SCRIPT = str(BENCH / "rivals" / "bare_apscheduler.py")


def at_rest(pid: int, within_s: float) -> None:
    """Until a process has used next to no CPU for a second: it is ready, whatever it says."""
    last = [precise_cpu_s(pid)]

    def rests() -> bool:
        time.sleep(1.0)
        last.append(precise_cpu_s(pid))
        return last[-1] - last[-2] < 0.01

    until(rests, within_s, f"process {pid} at rest")


def cpu_window(groups: dict[str, list[int]], seconds: float) -> dict[str, float]:
    """CPU seconds a minute of each group of processes, over one common window."""
    begin = {name: sum(map(precise_cpu_s, pids)) for name, pids in groups.items()}
    begin_s = time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - begin_s) / 60
    return {name: round((sum(map(precise_cpu_s, pids)) - begin[name]) / minutes, 5) for name, pids in groups.items()}


def tidegate(bench: Bench, count: int, seconds: float) -> dict[str, object]:
    assert bench.tools.tidegate
    with Tidegate(bench.ground, bench.tools.tidegate, jobs.idle_jobs(count)) as daemon:
        time.sleep(SETTLE_S)
        pids = daemon.pids
        cpu = cpu_window({"supervisor": pids[:1], "keeper": pids[1:]}, seconds)
        each = {name: memory([pid]) for name, pid in zip(("supervisor", "keeper"), pids, strict=False)}
        return {
            **memory(pids),
            "cpu_s_per_min": round(sum(cpu.values()), 5),
            "parts": {"cpu_s_per_min": cpu, **each},
        }


def apscheduler(bench: Bench, count: int) -> "subprocess.Popen[bytes]":
    file = bench.ground.folder("aps") / "jobs.toml"
    file.write_text(jobs.idle_jobs(count))
    child = bench.ground.start([bench.tools.python, SCRIPT, "load", "async", str(file)])
    at_rest(child.pid, 60)
    return child


def yacron(bench: Bench, program: str, count: int) -> "subprocess.Popen[bytes]":
    now_s = time.time()
    work = {f"job-{n:05d}": (["/bin/true", str(n)], jobs.idle_cron(n, now_s)) for n in range(count)}
    child = minute.start_yacron(bench.ground, program, work)
    at_rest(child.pid, 60)
    return child


def cron(bench: Bench, program: str, count: int) -> "subprocess.Popen[bytes]":
    now_s = time.time()
    crontab = bench.ground.folder("cron") / "crontab"
    lines = [f"{jobs.idle_cron(n, now_s)} /bin/true {n}\n" for n in range(count)]
    crontab.write_text("".join(lines))
    child = minute.start_crontab(bench.ground, program, crontab)
    at_rest(child.pid, 60)
    return child


def rivals(bench: Bench, seconds: float) -> dict[str, dict[str, dict[str, object]]]:
    """Memory of each while it is the only rival up, then the CPU of all over one window."""
    found: dict[str, dict[str, dict[str, object]]] = {str(FEW): {}, str(MANY): {}}
    running: dict[str, subprocess.Popen[bytes]] = {}
    tools = bench.tools
    starts = [(names.APS_ASYNC, count, lambda count=count: apscheduler(bench, count)) for count in (FEW, MANY)]
    if tools.cron:
        starts += [
            (names.CRON, count, lambda count=count: cron(bench, str(tools.cron), count)) for count in (FEW, MANY)
        ]
    if tools.yacron:  # with 10,000 it uses a whole core and never gets ready: not even tried
        starts.append((names.YACRON, FEW, lambda: yacron(bench, str(tools.yacron), FEW)))
    for name, count, start in starts:
        say(f"bench: idle, {count} jobs: {name}")
        child = start()
        running[f"{count} {name}"] = child
        found[str(count)][name] = {**memory([child.pid])}
    say(f"bench: idle, CPU of all rivals over {seconds:g} s")
    for key, used in cpu_window({key: [child.pid] for key, child in running.items()}, seconds).items():
        count_text, _, name = key.partition(" ")
        found[count_text][name]["cpu_s_per_min"] = used
        bench.ground.stop(running[key])
    return found


def measure(bench: Bench) -> dict[str, object]:
    seconds = bench.amount(WINDOW_S, 10)
    found = {}
    if bench.tools.tidegate:
        for count in (FEW, MANY):
            say(f"bench: idle, {count} jobs: tidegate, {seconds} s")
            found[str(count)] = {names.TIDEGATE: tidegate(bench, count, seconds)}
    for key, group in rivals(bench, seconds).items():
        found[key] = {**found.get(key, {}), **group}
    return {"window_s": seconds, "jobs": found}
