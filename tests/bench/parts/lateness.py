"""Lateness: from the scheduled instant to the first instruction of the job's program, 100 at once and one a second."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import bench as names
from tests.bench import jobs
from tests.bench.bench import Bench, next_instant, next_minute, rotated
from tests.bench.daemon import Tidegate, all_succeeded
from tests.bench.fetch import BENCH, say
from tests.bench.ground import Missed, sleep_until, until
from tests.bench.rivals import minute
from tests.bench.stats import read_stamps, second_lateness_ms

AT_ONCE = 100
SECONDS = 60
LEAD_S = 3.0  # every contender is up and at rest well before the instant
LATE_S_MAX = 30.0
SCRIPT = str(BENCH / "rivals" / "bare_apscheduler.py")
SLOTS = 200  # more than AT_ONCE: the same number in flight as the floors

Burst = Callable[[Bench, Path], int]  # starts, waits for the instant and for all stamps; gives the instant, s


def all_stamped(stamps: Path, count: int) -> None:
    until(lambda: len(read_stamps(stamps)) >= count, LATE_S_MAX, f"{count} stamps in {stamps.name}", poll_s=0.05)


def one_shot(bench: Bench, argv: list[str], tail: list[str], stamps: Path) -> int:
    instant = next_instant(LEAD_S)
    child = bench.ground.start([*argv, str(instant * 10**9), str(AT_ONCE), *tail, bench.tools.stamp, str(stamps)])
    bench.ground.finish(child, LEAD_S + LATE_S_MAX)
    return instant


def tidegate(bench: Bench, stamps: Path, nice: int) -> int:
    assert bench.tools.tidegate
    instant = next_instant(LEAD_S)
    text = jobs.at_once(AT_ONCE, [bench.tools.stamp, str(stamps), "{}"], instant)
    with Tidegate(bench.ground, bench.tools.tidegate, text, slots=SLOTS, nice=nice) as daemon:
        if time.time() > instant - 0.5:
            raise Missed(f"tidegate was ready only {daemon.ready_s:.1f} s after its start")
        all_stamped(stamps, AT_ONCE)
        daemon.wait_for("run.finished", AT_ONCE, LATE_S_MAX)
        all_succeeded(daemon, AT_ONCE)
    return instant


def at_minute(bench: Bench, stamps: Path, start: Callable[[], "subprocess.Popen[bytes]"]) -> int:
    instant = next_minute(LEAD_S)
    say(f"bench:   waiting {instant - time.time():.0f} s for the minute")
    sleep_until(instant - LEAD_S)
    child = start()
    all_stamped(stamps, AT_ONCE)
    bench.ground.stop(child)
    return instant


def cron(bench: Bench, stamps: Path) -> int:
    program = bench.tools.cron
    assert program
    commands = [f"{bench.tools.stamp} {stamps} {number}" for number in range(AT_ONCE)]
    return at_minute(bench, stamps, lambda: minute.start_cron(bench.ground, program, commands, "* * * * *"))


def yacron(bench: Bench, stamps: Path) -> int:
    program = bench.tools.yacron
    assert program
    work = {f"j{number}": ([bench.tools.stamp, str(stamps), str(number)], "* * * * *") for number in range(AT_ONCE)}
    return at_minute(bench, stamps, lambda: minute.start_yacron(bench.ground, program, work))


def supercronic(bench: Bench, stamps: Path) -> int:
    program = bench.tools.supercronic
    assert program
    instant = next_instant(LEAD_S)
    crontab = bench.ground.folder("supercronic") / "crontab"
    when = time.strftime("%S %M %H * * *", time.gmtime(instant))
    crontab.write_text("".join(f"{when} {bench.tools.stamp} {stamps} {n}\n" for n in range(AT_ONCE)))
    child = bench.ground.start([program, str(crontab)], env={"TZ": "UTC", "PATH": "/usr/bin:/bin"})
    all_stamped(stamps, AT_ONCE)
    bench.ground.stop(child)
    return instant


def burst_contenders(bench: Bench) -> dict[str, Burst]:
    tools = bench.tools
    aps = [tools.python, SCRIPT, "burst"]
    found: dict[str, Burst] = {
        names.C_FLOOR: lambda b, s: one_shot(b, [tools.c_floor, "burst"], [], s),
        names.PYTHON_FLOOR: lambda b, s: one_shot(b, [*tools.python_floor, "burst"], [], s),
        names.APS_THREADS: lambda b, s: one_shot(b, [*aps, "threads"], [], s),
        names.APS_ASYNC: lambda b, s: one_shot(b, [*aps, "async"], [], s),
    }
    if tools.supercronic:
        found[names.SUPERCRONIC] = supercronic
    if tools.tidegate:
        found[names.TIDEGATE] = lambda b, s: tidegate(b, s, nice=0)
        found[names.TIDEGATE_NICE] = lambda b, s: tidegate(b, s, nice=10)
    return found


def burst(bench: Bench) -> dict[str, list[list[float]]]:
    """Contender → turns → 100 latenesses in ms, rising. Those that know only minutes get every other turn."""
    fast = burst_contenders(bench)
    slow: dict[str, Burst] = {}
    if bench.tools.cron:
        slow[names.CRON] = cron
    if bench.tools.yacron:
        slow[names.YACRON] = yacron
    found: dict[str, list[list[float]]] = {name: [] for name in [*fast, *slow]}
    gaps = max(len(slow), 1 if bench.quick else 2)
    for turn in range(bench.rounds(usual=3) * gaps):
        # one that knows only minutes, then in the rest of its minute all that know seconds
        for name in [*list(slow)[turn % gaps : turn % gaps + 1], *rotated(list(fast), turn)]:
            say(f"bench: lateness, {AT_ONCE} at once, turn {turn + 1}: {name}")
            found[name].append(burst_once(bench, name, {**fast, **slow}[name]))
    return found


def burst_once(bench: Bench, name: str, run: Burst) -> list[float]:
    stamps = bench.ground.folder("stamps") / "stamps"
    instant = run(bench, stamps)
    late = [round((ns - instant * 10**9) / 1e6, 3) for ns, _label, _due in read_stamps(stamps)]
    if len(late) != AT_ONCE:
        raise Missed(f"{name}: {len(late)} stamps of {AT_ONCE}")
    return sorted(late)


def each_one_shot(bench: Bench, argv: list[str], seconds: int) -> list[float]:
    stamps = bench.ground.folder("stamps") / "stamps"
    first = next_instant(LEAD_S)
    child = bench.ground.start([*argv, str(first), str(seconds), bench.tools.stamp, str(stamps)])
    bench.ground.finish(child, seconds + LEAD_S + LATE_S_MAX)
    return second_lateness_ms(read_stamps(stamps), first, seconds)


def each_tidegate(bench: Bench, seconds: int) -> list[float]:
    assert bench.tools.tidegate
    stamps = bench.ground.folder("stamps") / "stamps"
    text = jobs.job("each", [bench.tools.stamp, str(stamps)], cron='"* * * * * *"')
    with Tidegate(bench.ground, bench.tools.tidegate, text):
        first = next_instant(1.0)
        sleep_until(first + seconds + 0.9)
        return second_lateness_ms(read_stamps(stamps), first, seconds)


def each_second(bench: Bench) -> dict[str, list[float]]:
    """Contender → one lateness a second in ms, in the order of time."""
    tools = bench.tools
    seconds = bench.amount(SECONDS, 10)
    found = {}
    runs: dict[str, Callable[[], list[float]]] = {
        names.PYTHON_FLOOR: lambda: each_one_shot(bench, [*tools.python_floor, "each"], seconds),
        names.APS_ASYNC: lambda: each_one_shot(bench, [tools.python, SCRIPT, "each", "async"], seconds),
    }
    if tools.tidegate:
        runs[names.TIDEGATE] = lambda: each_tidegate(bench, seconds)
    for name, run in runs.items():
        say(f"bench: lateness, one a second for {seconds} s: {name}")
        late = [round(value, 3) for value in run()]
        if len(late) != seconds:
            raise Missed(f"{name}: {len(late)} of {seconds} seconds fired")
        found[name] = late
    return found


def measure(bench: Bench) -> dict[str, object]:
    return {"at_once": AT_ONCE, "burst_ms": burst(bench), "each_second_ms": each_second(bench)}
