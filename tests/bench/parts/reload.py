"""Reload: one job of 10,000 changes, SIGHUP; the time until config.reloaded, and how late fires were meanwhile."""

import signal
import time

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.fetch import say
from tests.bench.ground import Missed
from tests.bench.stats import lateness_ms, read_stamps

JOBS = 10_000
STAMPING = 20
WITHIN_S = 60.0
PAUSE_S = 2.5
OFFSETS_S = (0.95, 0.15, 0.35, 0.55, 0.75)  # of a second, when SIGHUP comes: fires fall everywhere in the reload


def stamping_jobs(stamp: str, stamps: object, count: int) -> str:
    """Half of them each second on the second, half with a phase of their own, spread over the second."""
    text = ""
    for number in range(count):
        due = {"cron": '"* * * * * *"'} if number % 2 else {"every": '"1s"'}
        text += jobs.job(f"stamp-{number:02d}", [stamp, str(stamps), f"{number:02d}"], **due)
    return text


def at_offset(offset_s: float) -> None:
    now_s = time.time()
    wait_s = (offset_s - now_s) % 1.0
    time.sleep(wait_s)


def one(daemon: Tidegate, text: str, turn: int) -> dict[str, object]:
    """Change one job, send SIGHUP; seconds to the log record, and the wall times between which fires are judged."""
    daemon.jobs_file.write_text(text.replace('"Nightly export of shard 77"', f'"Changed in round {turn}"', 1))
    time.sleep(PAUSE_S)
    at_offset(OFFSETS_S[turn % len(OFFSETS_S)])
    before = daemon.seen("config.reloaded")
    begin_wall_s, begin_s = time.time(), time.monotonic()
    daemon.child.send_signal(signal.SIGHUP)
    end_s = daemon.wait_for("config.reloaded", before + 1, WITHIN_S)
    return {"reload_s": round(end_s - begin_s, 4), "window_s": [begin_wall_s - 0.1, time.time() + 0.5]}


def measure(bench: Bench) -> dict[str, object]:
    if not bench.tools.tidegate:
        return {}
    stamps = bench.ground.folder("stamps") / "stamps"
    text = jobs.idle_jobs(JOBS) + stamping_jobs(bench.tools.stamp, stamps, STAMPING)
    rounds = []
    with Tidegate(bench.ground, bench.tools.tidegate, text) as daemon:
        time.sleep(3.0)
        for turn in range(bench.rounds(usual=10)):
            say(f"bench: reload, one of {JOBS} jobs, round {turn + 1}")
            rounds.append(one(daemon, text, turn))
        time.sleep(1.5)
        said = [record.get("changed") for record in daemon.records("config.reloaded")]
    found = read_stamps(stamps)
    for one_round in rounds:
        begin_s, end_s = one_round.pop("window_s")
        inside = [stamp for stamp in found if begin_s <= stamp[0] / 1e9 <= end_s]
        if len(inside) < STAMPING // 2:
            raise Missed(f"only {len(inside)} fires around a reload, of {STAMPING} each second")
        one_round["late_ms"] = [round(late, 2) for late in sorted(lateness_ms(inside))]
    return {
        "jobs": JOBS,
        "stamping": STAMPING,
        "rounds": rounds,
        "changed_said": said,
        "whole_run_late_ms_max": round(max(lateness_ms(found)), 2),
    }
