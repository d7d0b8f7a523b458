"""Memory: sixty hogs in a cgroup of 4 GiB, cold and then learned, beside fixed sizes and GNU parallel; ordinary jobs on
machines of next to nothing; a neighbour that takes half of the memory and gives it back.
"""

import json
import sys
import time
from itertools import pairwise
from typing import Any

from tests.bench import jobs
from tests.bench.bench import Bench, next_instant
from tests.bench.daemon import Tidegate
from tests.bench.fetch import REPOSITORY, say
from tests.bench.ground import Missed, sleep_until
from tests.bench.pool import daemons, loads
from tests.bench.pool.cell import Cell
from tests.bench.pool.contenders import program
from tests.bench.pool.loads import CELL_BYTES, GIB, MIB, Load
from tests.bench.pool.virtual import settled_s

Raw = dict[str, Any]

WITHIN_S = 900.0
PARALLEL_SLOTS = 8
NEIGHBOUR_BYTES = GIB * 3 // 2
NEIGHBOUR_COMES_S = 12.0
NEIGHBOUR_STAYS_S = 16.0
AFTER_S = 14.0
STEP_S = 0.5
LEAD_S = 4.0  # for the daemon to be ready
ORDINARY_S = 1.0
CAPACITIES = (256 * MIB, 512 * MIB, GIB)


def hog_lines(load: Load) -> daemons.Lines:
    return {f"hog-{number:02d}": command for number, command in enumerate(load.commands)}


def one_pass(daemon: Tidegate, cell: Cell, lines: daemons.Lines) -> Raw:
    killed, looked = cell.oom_kills, len(cell.used)
    begin_s = time.monotonic()
    daemons.trigger(daemon, list(lines))
    daemon.wait_for("run.finished", len(lines), WITHIN_S)
    found = daemons.account(daemon)
    found["elapsed_s"] = round(time.monotonic() - begin_s, 2)
    found["oom_kills"] = cell.oom_kills - killed
    found["used_mib"] = cell.used[looked:]
    return found


def ours(bench: Bench, load: Load) -> tuple[Raw, Raw]:
    """Nothing known of them; then once more by the next daemon on the same history."""
    lines = hog_lines(load)
    with Cell(bench.ground, CELL_BYTES) as cell:
        first = daemons.adaptive(bench, lines, cell=cell)
        with first:
            cold = one_pass(first, cell, lines)
        again = daemons.adaptive(bench, lines, cell=cell)
        again.state = first.state
        with again:
            warm = one_pass(again, cell, lines)
    return cold, warm


def unguarded(bench: Bench, load: Load, argv: list[str], lines: bool) -> Raw:
    """Others, in a cell of their own. What the kernel killed is not tried again, which makes them faster than true."""
    folder = bench.ground.folder("hogs")
    commands, printed = folder / "commands", folder / "printed"
    start = program()
    commands.write_text(
        "".join(f"{start} {' '.join(command)}\n" for command in load.commands)
        if lines
        else json.dumps([(start, *command) for command in load.commands])
    )
    with Cell(bench.ground, CELL_BYTES) as cell:
        begin_s = time.monotonic()
        child = bench.ground.start([cell.wrap(argv[0]), *argv[1:], str(commands)], stdout=printed, cwd=REPOSITORY)
        child.wait(WITHIN_S)
        return {"elapsed_s": round(time.monotonic() - begin_s, 2), "oom_kills": cell.oom_kills}


def fixed(bench: Bench, load: Load, size: int) -> Raw:
    return unguarded(bench, load, [sys.executable, "-m", "tests.bench.pool.fixed", str(size)], lines=False)


def parallel(bench: Bench, load: Load) -> Raw:
    assert bench.tools.parallel
    perl, *rest = bench.tools.parallel
    free = f"--memfree={load_peak_mib(load)}M"
    return unguarded(bench, load, [perl, *rest, f"-j{PARALLEL_SLOTS}", free, "-a"], lines=True)


def load_peak_mib(load: Load) -> int:
    return max(int(command[1]) for command in load.commands) // MIB


def hogs(bench: Bench) -> Raw:
    load = loads.hogs(bench.amount(60, 10))
    found: Raw = {"words": load.words, "cold": [], "warm": [], "fixed": {}}
    sizes = load.sizes if bench.full else tuple(size for size in load.sizes if size in (3, 4))
    for size in sizes[: bench.amount(len(sizes), 1)]:
        found["fixed"][str(size)] = fixed(bench, load, size)
        say(f"bench: hogs, {size} at once: {found['fixed'][str(size)]}")
    for turn in range(3 if bench.full else 1):
        cold, warm = ours(bench, load)
        found["cold"].append(cold)
        found["warm"].append(warm)
        for name, one in (("cold", cold), ("warm", warm)):
            shown = {key: value for key, value in one.items() if key != "used_mib"}
            say(f"bench: hogs, round {turn + 1}, {name}: {shown}")
    if bench.tools.parallel:
        name = f"GNU parallel -j{PARALLEL_SLOTS} --memfree {load_peak_mib(load)}M"
        found["parallel"] = {name: parallel(bench, load)}
    return found


def ordinary(bench: Bench, limit_bytes: int) -> Raw:
    """Jobs as people have them, of which nothing is known, on a machine with so little: does it work at all."""
    count = bench.amount(30, 8)
    lines: daemons.Lines = {
        f"job-{number:02d}": ("hold", str((number % 4 + 1) * 5 * MIB), str(100 * MIB), f"{ORDINARY_S}")
        for number in range(count)
    }
    with Cell(bench.ground, limit_bytes) as cell:
        with daemons.adaptive(bench, lines, cell=cell) as daemon:
            found = one_pass(daemon, cell, lines)
            ends_s = [daemons.at_s(one) for one in daemons.merged(daemon, "run.started", "run.finished")]
            found["standstill_s"] = round(max(after - before for before, after in pairwise(ends_s)), 2)
        found["count"] = count
        return found


def neighbour(bench: Bench) -> Raw:
    """Runs of 200 MiB each, as many as fit; then somebody takes 1.5 of 4 GiB, and leaves again."""
    comes_s, stays_s = NEIGHBOUR_COMES_S, NEIGHBOUR_STAYS_S
    ends_s = comes_s + stays_s + AFTER_S
    lines: daemons.Lines = {
        f"job-{number:03d}": ("hold", str(200 * MIB), str(400 * MIB), "1.5") for number in range(600)
    }
    with Cell(bench.ground, CELL_BYTES) as cell:
        wall_s = float(next_instant(LEAD_S))
        due = jobs.toml_instant(wall_s)
        with daemons.adaptive(bench, lines, cell=cell, memory='"210MiB"', at=due) as daemon:
            sleep_until(wall_s)
            begin_s = time.monotonic()
            time.sleep(max(0.0, begin_s + comes_s - time.monotonic()))
            hold_s = stays_s - NEIGHBOUR_BYTES / GIB
            taker = [cell.wrap(program()), "hold", str(NEIGHBOUR_BYTES), str(GIB), str(hold_s)]
            bench.ground.finish(bench.ground.start(taker), stays_s * 3)
            left_s = time.monotonic() - begin_s
            time.sleep(max(0.0, begin_s + ends_s - time.monotonic()))
            trace = daemons.running(daemon, STEP_S, wall_s)
            found = daemons.account(daemon)
            if daemon.seen("run.finished") >= len(lines):
                raise Missed("the load ended before the neighbour left: nothing was measured")
        oom_kills = cell.oom_kills
    halved = [(at_s, round(many)) for at_s, many in trace if at_s <= ends_s]
    return {
        "running": trace,
        "comes_s": comes_s,
        "leaves_s": round(left_s, 2),
        "ends_s": ends_s,
        "settled_s": [settled_s(halved, comes_s, left_s), settled_s(halved, left_s, ends_s)],
        "oom_kills": oom_kills,
        "evicted": found["evicted"],
    }


def measure(bench: Bench) -> Raw:
    found: Raw = {"hogs": hogs(bench), "ordinary": {}}
    for limit_bytes in CAPACITIES:
        found["ordinary"][f"{limit_bytes // MIB} MiB"] = one = ordinary(bench, limit_bytes)
        say(f"bench: {limit_bytes // MIB} MiB in all: {one['elapsed_s']} s, at most {one['standstill_s']} s of nothing")
    found["neighbour"] = neighbour(bench)
    return found
