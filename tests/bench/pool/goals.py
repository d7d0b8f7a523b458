"""The goals of the adaptive pool, each computed from the raw results. Pure."""

import math
from collections.abc import Iterator
from typing import Any

from tests.bench.pool.names import BURST_MOST, DAEMON, IDLE, LOAD, NAIVE, ORACLE, OURS
from tests.bench.stats import median, nearest_rank

Raw = dict[str, Any]
Found = tuple[str, str, bool]  # the goal, what was reached, met

ROWS = {"cpu": "CPU", "processes": "CPU, kind = process", "sleep": "sleep", "mixed": "mixed"}
BY_ORACLE = {"cpu": 1.03, "processes": 1.03, "sleep": 1.08, "mixed": 1.08}
BY_NAIVE = {"cpu": 1.35, "mixed": 1.7}
MEAN, WORST, WARM = 1.07, 1.15, 1.15
LEVEL_S = 3.0  # the end of a phase, in which it has settled
WIDE = 4  # at once, before anybody comes


def medians(row: Raw) -> dict[str, float]:
    return {name: median(times) for name, times in row["elapsed_s"].items() if times}


def ratios(raw: Raw) -> dict[str, float]:
    """Row → AdaptivePool by the best fixed size."""
    return {row: medians(raw[row])[OURS] / medians(raw[row])[ORACLE] for row in ROWS if row in raw}


def makespans(raw: Raw) -> Iterator[Found]:
    for row, ratio in ratios(raw).items():
        found, least = medians(raw[row]), BY_ORACLE[row]
        text = f"{found[OURS]:.2f} s, {ratio:.3f} × {found[ORACLE]:.2f} s ({raw[row]['best']} at once)"
        yield f"{ROWS[row]}: ≤ {least:g} × the best fixed size", text, ratio <= least
        if row in BY_NAIVE and NAIVE in found:
            faster = found[NAIVE] / found[OURS]
            goal = f"{ROWS[row]}: ≥ {BY_NAIVE[row]:g} × faster than the 80 % rule"
            text = f"{faster:.2f} × ({found[NAIVE]:.2f} s); the best fixed size is {found[NAIVE] / found[ORACLE]:.2f} ×"
            yield goal, text, faster >= BY_NAIVE[row]
        if row == "sleep" and LOAD in found:
            by_load = found[OURS] / found[LOAD]
            text = f"{by_load:.3f} × {'more than ' if LOAD in raw[row]['cut'] else ''}{found[LOAD]:.2f} s"
            yield "sleep: ≤ 1.1 × GNU parallel --load", text, by_load <= 1.1


def oracle_s(hogs: Raw) -> float | None:
    """Of the fixed sizes under which the kernel kills none, the fastest."""
    survived = [one["elapsed_s"] for one in hogs["fixed"].values() if not one["oom_kills"]]
    return min(survived) if survived else None


def warm_ratio(hogs: Raw) -> float | None:
    best_s = oracle_s(hogs)
    return None if best_s is None else median(one["elapsed_s"] for one in hogs["warm"]) / best_s


def wasted(one: Raw) -> float:
    return float(one["wasted_s"] / one["worked_s"]) if one["worked_s"] else 0.0


def memory(raw: Raw) -> Iterator[Found]:
    hogs = raw["hogs"]
    for name, most in (("cold", 0.05), ("warm", 0.01)):
        passes = hogs[name]
        kills = sum(one["oom_kills"] for one in passes)
        bad = sum(len(one["bad"]) for one in passes)
        text = f"{kills}, {bad} failed, in {len(passes)} passes"
        yield f"hogs, {name}: 0 kernel OOM kills, none fails", text, not kills and not bad
        worst = max(wasted(one) for one in passes)
        yield f"hogs, {name}: wasted work ≤ {most:.0%}", f"{worst:.1%}", worst <= most
    ratio, best_s = warm_ratio(hogs), oracle_s(hogs)
    if ratio is not None:
        text = f"{ratio:.2f} × {best_s:.1f} s"
        yield f"hogs, warm: ≤ {WARM:g} × the best fixed size that survives", text, ratio <= WARM
    for size, one in raw["ordinary"].items():
        kills = one["oom_kills"] + one["evicted"]
        good = not kills and not one["bad"] and one["ended"] == one["count"] and one["standstill_s"] < 10
        text = f"{one['ended']} of {one['count']} in {one['elapsed_s']:.1f} s, {kills} killed, "
        text += f"at most {one['standstill_s']:.1f} s without a start or an end"
        yield f"ordinary jobs with {size} in all: they run, no kills, no standstill (10 s)", text, good
    if raw.get("neighbour"):
        yield from settled("a neighbour takes memory", raw["neighbour"], raw["neighbour"]["running"])
        kills = raw["neighbour"]["oom_kills"]
        yield "a neighbour takes memory: 0 kernel OOM kills", f"{kills}", not kills


def settled(words: str, raw: Raw, trace: list[list[float]]) -> Iterator[Found]:
    """A pool that is narrow before anybody comes has nothing to give up: that settles nothing."""
    ends_s = (raw["comes_s"], raw["leaves_s"], raw["ends_s"])
    levels = [median(many for at_s, many in trace if end_s - LEVEL_S < at_s <= end_s) for end_s in ends_s]
    shown = " → ".join(f"{level:.0f}" for level in levels)
    wide = levels[0] >= WIDE
    for what, most_s, took_s in zip(("came", "left"), (3, 5), raw["settled_s"], strict=True):
        yield f"{words}: settled ≤ {most_s} s after it {what}", f"{took_s:.1f} s ({shown})", wide and took_s <= most_s


def p99_ms(raw: Raw) -> dict[str, float]:
    return {name: median(nearest_rank(one, 99) for one in rounds) for name, rounds in raw["ms"].items()}


def company(raw: Raw) -> Iterator[Found]:
    yield from settled("two CPU hogs", raw["neighbour"], raw["neighbour"]["limits"])
    burst = raw["burst"]
    text = f"{burst['in_3_s']} of {burst['best']} (at most {BURST_MOST} tried)"
    yield "burst of 500: ≥ 0.9 × the best fixed size within 3 s", text, burst["in_3_s"] >= 0.9 * burst["best"]
    text = f"{burst['most']}, {burst['most'] / burst['best']:.2f} × {burst['best']}"
    yield "burst of 500: never > 1.5 × the best fixed size", text, burst["most"] <= 1.5 * burst["best"]
    for words, one in (("mixed", burst), ("CPU", raw["steady"])):
        a_minute = one["turns"] * 60 / one["steady_s"]
        goal = f"steady load, {words}: ≤ 2 changes of direction a minute"
        yield goal, f"{a_minute:.1f} ({one['turns']} in {one['steady_s']:.0f} s)", a_minute <= 2
    found = p99_ms(raw["beside"])
    moved_ms = found[DAEMON] - found[IDLE]
    text = f"{moved_ms:+.1f} ms ({found[IDLE]:.1f} → {found[DAEMON]:.1f} ms)"
    yield "a request loop beside it: p99 ≤ idle + 3 ms", text, moved_ms <= 3
    over = raw["overhead"]
    share = over["used_s"] / over["span_s"]
    text = f"{share:.2%}"
    if "waking_s" in over:
        text += f"; Python that only wakes up twice a second: {over['waking_s'] / over['span_s']:.2%}"
    yield f"{over['running']} running jobs: ≤ 0.5 % of a core", text, share <= 0.005 and not over["ended"]


def overall(results: dict[str, Raw]) -> Iterator[Found]:
    """Over all loads that have an oracle."""
    found = list(ratios(results["pool"]).values()) if "pool" in results else []
    if "pool_memory" in results and (warm := warm_ratio(results["pool_memory"]["hogs"])) is not None:
        found.append(warm)
    if found:
        mean = math.prod(found) ** (1 / len(found))
        text = f"{mean:.3f} over {len(found)} loads"
        yield f"all loads: geometric mean ≤ {MEAN:g} × the best fixed size", text, mean <= MEAN
        yield f"all loads: the worst ≤ {WORST:g} ×", f"{max(found):.3f}", max(found) <= WORST
