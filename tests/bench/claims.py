"""The goals that were set, each computed from the raw results: what was asked, what was reached, met or not. Pure."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec import Struct
from tests.bench import bench as names
from tests.bench.pool import goals
from tests.bench.stats import median, nearest_rank

Raw = dict[str, Any]  # one part's results, as JSON


class Claim(Struct, frozen=True):
    part: str
    goal: str
    reached: str
    met: bool


def burst_percentiles(raw: Raw) -> dict[str, tuple[float, float]]:
    """Contender → p50 and p99 in ms, each the median over the rounds."""
    found = {}
    for name, rounds in raw["burst_ms"].items():
        if rounds:
            found[name] = tuple(median(nearest_rank(late, percent) for late in rounds) for percent in (50, 99))
    return found


def lateness(raw: Raw) -> Iterator[Claim]:
    found = burst_percentiles(raw)
    if names.TIDEGATE in found:
        ours = found[names.TIDEGATE]
        aps = [found[name] for name in (names.APS_THREADS, names.APS_ASYNC)]
        rivals = {"the better bare APScheduler script": (min(one[0] for one in aps), min(one[1] for one in aps))}
        rivals |= {name: found[name] for name in (names.YACRON, names.CRON) if name in found}
        for at, percentile in enumerate(("p50", "p99")):
            floor = found[names.PYTHON_FLOOR][at]
            text = f"{ours[at]:.1f} ms, {ours[at] / floor:.2f} × {floor:.1f} ms"
            yield Claim("lateness", f"100 at once: {percentile} ≤ 1.5 × Python floor", text, ours[at] <= 1.5 * floor)
            for rival, reached in rivals.items():
                text = f"{ours[at]:.1f} ms against {reached[at]:.1f} ms"
                yield Claim("lateness", f"100 at once: {percentile} below {rival}", text, ours[at] < reached[at])
    each = raw["each_second_ms"].get(names.TIDEGATE)
    if each:
        for percent, limit_ms in ((50, 5.0), (99, 15.0)):
            reached_ms = nearest_rank(each, percent)
            goal = f"one a second for {len(each)} s: p{percent} ≤ {limit_ms:g} ms"
            yield Claim("lateness", goal, f"{reached_ms:.1f} ms", reached_ms <= limit_ms)


def runs_per_s(raw: Raw) -> dict[str, float]:
    return {
        name: raw["runs"] / median(elapsed for elapsed, _cpu in rounds)
        for name, rounds in raw["elapsed_s_and_cpu_s"].items()
        if rounds
    }


def throughput(raw: Raw) -> Iterator[Claim]:
    found = runs_per_s(raw)
    if names.TIDEGATE not in found:
        return
    ours = found[names.TIDEGATE]
    kept = "2,000 runs durably recorded, 4 in flight"
    for rival, factor, note in (
        (names.PYTHON_FLOOR, 0.5, ""),
        (names.PYTHON_FLOOR, 0.6, " (set for a daemon without history)"),
        (names.PARALLEL, 2.0, ""),
    ):
        if rival in found:
            ratio = ours / found[rival]
            text = f"{ours:.0f} a second, {ratio:.2f} × {found[rival]:.0f}"
            yield Claim("throughput", f"{kept}: ≥ {factor:g} × {rival}{note}", text, ratio >= factor)
    for rival in (names.HUEY, names.DRAMATIQ, names.DRAMATIQ_DURABLE, names.DRAMATIQ_STUB):
        if rival in found:
            text = f"{ours:.0f} a second against {found[rival]:.0f}"
            yield Claim("throughput", f"{kept}: above {rival}", text, ours > found[rival])


def output(raw: Raw) -> Iterator[Claim]:
    for kind, found in raw["kinds"].items():
        if found.get("tidegate"):
            ours_s = median(one["elapsed_s"] for one in found["tidegate"])
            for sign in (">", ">>"):
                shell_s = median(found[sign])
                ratio = shell_s / ours_s
                text = f"{ratio:.3f} × ({raw['bytes'] / ours_s / 1e6:.0f} of {raw['bytes'] / shell_s / 1e6:.0f} MB/s)"
                yield Claim("output", f"{kind}: speed ≥ 0.95 × a shell's {sign}", text, ratio >= 0.95)
            runs = [one for name in found if name.startswith("tidegate") for one in found[name]]
            growth_mib = max(max(one["rss_growth_mib"]) for one in runs)
            text = f"{growth_mib:.2f} MiB (the largest of supervisor and keeper in {len(runs)} runs)"
            yield Claim("output", f"{kind}: RSS grows by less than 2 MiB", text, growth_mib < 2)


def idle(raw: Raw) -> Iterator[Claim]:
    for count, limit_mib in (("100", 56), ("10000", 100)):
        ours = raw["jobs"].get(count, {}).get(names.TIDEGATE)
        if ours:
            text = f"{ours['pss_mib']:.1f} MiB"
            goal = f"{count} jobs: PSS of supervisor and keeper ≤ {limit_mib} MiB"
            yield Claim("idle", goal, text, ours["pss_mib"] <= limit_mib)
            if count == "100":
                used_s = ours["cpu_s_per_min"]
                yield Claim("idle", f"{count} jobs: CPU ≤ 0.05 s a minute", f"{used_s:.3f} s", used_s <= 0.05)


def start(raw: Raw) -> Iterator[Claim]:
    found = {name: median(times) for name, times in raw["ready_s"].items() if times}
    if names.TIDEGATE in found:
        rival_s = min(found[names.APS_THREADS], found[names.APS_ASYNC])
        ratio = found[names.TIDEGATE] / rival_s
        text = f"{found[names.TIDEGATE]:.2f} s, {ratio:.2f} × {rival_s:.2f} s"
        yield Claim("start", "10,000 jobs ready in ≤ 0.6 × the better bare APScheduler script", text, ratio <= 0.6)


def reload(raw: Raw) -> Iterator[Claim]:
    if raw.get("rounds"):
        slowest_s = max(one["reload_s"] for one in raw["rounds"])
        latest_ms = max(late for one in raw["rounds"] for late in one["late_ms"])
        text = f"{slowest_s:.2f} s, the slowest of {len(raw['rounds'])}"
        yield Claim("reload", "one job of 10,000 changed: ≤ 1 s", text, slowest_s <= 1)
        yield Claim(
            "reload", "no fire more than 100 ms late meanwhile", f"{latest_ms:.0f} ms at most", latest_ms <= 100
        )


def span_p99_ms(raw: Raw) -> dict[str, float]:
    return {
        kind: median(nearest_rank(late, 99) for late in rounds) for kind, rounds in raw["late_ms"].items() if rounds
    }


def scrape(raw: Raw) -> Iterator[Claim]:
    if raw.get("scrapes"):
        found = span_p99_ms(raw)
        for kind in [kind for kind in found if kind != "quiet"]:
            moved_ms = found[kind] - found["quiet"]
            goal = f"10,000 jobs, {kind}, without a pause: p99 lateness moves < 10 ms"
            text = f"{moved_ms:+.1f} ms ({found['quiet']:.1f} → {found[kind]:.1f} ms)"
            yield Claim("scrape", goal, text, moved_ms < 10)


def readers(raw: Raw) -> Iterator[Claim]:
    if raw.get("asked"):
        quiet_ms, read_ms = span_p99_ms(raw).values()
        goal = f"{raw['clients']} reading clients on the socket: p99 lateness moves < 10 ms"
        text = f"{read_ms - quiet_ms:+.1f} ms ({quiet_ms:.1f} → {read_ms:.1f} ms)"
        yield Claim("readers", goal, text, read_ms - quiet_ms < 10)


def keeper(raw: Raw) -> Iterator[Claim]:
    for state, words in (("idle", "idle"), ("held", f"holding {raw.get('held')} exit statuses")):
        if raw.get("rounds"):
            pss_mib = max(one[state]["pss_mib"] for one in raw["rounds"])
            yield Claim("keeper", f"{words}: PSS ≤ 12 MiB", f"{pss_mib:.1f} MiB", pss_mib <= 12)


def simulator(raw: Raw) -> Iterator[Claim]:
    for kind, rounds in raw.get("events_per_s", {}).items():
        reached = median(rounds)
        yield Claim("simulator", f"{kind}: ≥ 25,000 events a second", f"{reached:,.0f}", reached >= 25_000)


def claim_p50_ms(raw: Raw, measure: str) -> dict[str, float]:
    """Kind of history → p50 in ms, the median over the rounds."""
    return {kind: median(median(one[measure]) for one in rounds) for kind, rounds in raw["ms"].items() if rounds}


def claim(raw: Raw) -> Iterator[Claim]:
    if raw.get("ms"):
        for measure in ("queued", "asked"):
            full, _normal, free = claim_p50_ms(raw, measure).values()
            text = f"{full - free:+.2f} ms ({free:.2f} → {full:.2f} ms)"
            goal = f"{measure} → first instruction: the durable claim (FULL) adds ≤ 3 ms at p50"
            yield Claim("claim", goal, text, full - free <= 3)


def history(raw: Raw) -> Iterator[Claim]:
    if raw.get("asked"):
        claim_ms = median(median(late) for late in raw["claim_ms"])
        yield Claim("history", "claim to callback, FULL: p50 ≤ 1 ms", f"{claim_ms:.2f} ms", claim_ms <= 1)
        used_us = median(raw["run_cpu_us"])
        yield Claim("history", "CPU for each run ≤ 60 µs", f"{used_us:.0f} µs", used_us <= 60)
        open_ms = max(one["open_ms"] for one in raw["asked"])
        slowest_ms = max(one["slowest_ms"] for one in raw["asked"])
        many = f"{raw['runs']:,} runs"
        yield Claim("history", f"{many}: open in < 2 s", f"{open_ms:.0f} ms", open_ms < 2000)
        yield Claim("history", f"{many}: any filter in < 100 ms", f"{slowest_ms:.1f} ms at most", slowest_ms < 100)
    if raw.get("daemon"):
        for key, unit, words, limit in (
            ("ready_s", "s", "READY=1 in < 2 s", 2),
            ("first_runs_ms", "ms", "the API's first answer in < 100 ms", 100),
            ("command_ms", "ms", "the command `history` in < 100 ms, its own start included", 100),
        ):
            slowest = max(one[key] for one in raw["daemon"])
            text = f"{slowest:.3g} {unit}, the slowest of {len(raw['daemon'])}"
            yield Claim("history", f"{raw['runs']:,} runs: {words}", text, slowest < limit)


def embedded(raw: Raw) -> Iterator[Claim]:
    took_s = median(raw["retried_s"])
    goal = "AdaptivePool: 300 × 10 ms on 50 threads, six fail three times: ≤ 7.10 s (7.04 s is the limit)"
    yield Claim("embedded", goal, f"{took_s:.3f} s", took_s <= 7.10)
    floor_s = median(raw["calls_s"]["ThreadPoolExecutor"])
    for name, rounds in raw["calls_s"].items():
        if name != "ThreadPoolExecutor":
            ours_s = median(rounds)
            text = f"{ours_s * 1000:.0f} ms, {ours_s / floor_s:.2f} × {floor_s * 1000:.0f} ms"
            goal = f"{raw['calls']:,} no-op calls, {name}: ≤ 2 × ThreadPoolExecutor"
            yield Claim("embedded", goal, text, ours_s <= 2 * floor_s)


def told(part: str, of: Callable[[Raw], Iterator[tuple[str, str, bool]]], raw: Raw) -> Iterator[Claim]:
    """The goals of the pool, which stand in a room of their own."""
    return (Claim(part, goal, reached, met) for goal, reached, met in of(raw))


CLAIMS: dict[str, Callable[[Raw], Iterator[Claim]]] = {
    "lateness": lateness,
    "throughput": throughput,
    "output": output,
    "idle": idle,
    "start": start,
    "reload": reload,
    "scrape": scrape,
    "readers": readers,
    "keeper": keeper,
    "simulator": simulator,
    "claim": claim,
    "history": history,
    "embedded": embedded,
    "pool": partial(told, "pool", goals.makespans),
    "pool_memory": partial(told, "pool_memory", goals.memory),
    "pool_company": partial(told, "pool_company", goals.company),
}


def claims(results: dict[str, Raw]) -> list[Claim]:
    found = [claim for part, of in CLAIMS.items() if part in results for claim in of(results[part]["data"])]
    return found + list(told("pool", goals.overall, {part: one["data"] for part, one in results.items()}))
