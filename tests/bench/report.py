"""RESULTS.md from the raw results of the last run of each part: tables, and each goal with what was reached. Pure."""

from tests.bench import bench as names
from tests.bench.claims import Raw, burst_percentiles, claims, span_p99_ms
from tests.bench.pool import sections
from tests.bench.stats import median, nearest_rank
from tests.bench.tables import table

HEAD = """\
# What `make bench` measured

Written by `python -m tests.bench`; raw numbers in `results/*.json`. Rivals and floors ran in the same run as tidegate,
taking turns; compare inside a table, not with other machines or days. Percentiles are by nearest rank, figures over
several rounds are medians of the rounds. Floors are programs that do nothing but the work itself (`floors/`).
"""


def lateness(raw: Raw) -> str:
    floor = burst_percentiles(raw)[names.PYTHON_FLOOR]
    rows = []
    for name, (p50, p99) in sorted(burst_percentiles(raw).items(), key=lambda item: item[1][0]):
        worst = max(max(late) for late in raw["burst_ms"][name])
        ratios = f"{p50 / floor[0]:.2f} · {p99 / floor[1]:.2f}"
        rows.append([name, f"{p50:.1f}", f"{p99:.1f}", f"{worst:.1f}", ratios, len(raw["burst_ms"][name])])
    text = (
        f"{raw['at_once']} jobs due at the same instant; ms from it to the first instruction of each job's program.\n"
    )
    text += "tidegate runs with `nice = 0`, as all others do, but for the row that says otherwise.\n\n"
    text += table(["", "p50", "p99", "max", "p50 · p99 by the Python floor's", "rounds"], rows)
    each = [
        [name, f"{nearest_rank(late, 50):.1f}", f"{nearest_rank(late, 99):.1f}", f"{max(late):.1f}", len(late)]
        for name, late in raw["each_second_ms"].items()
    ]
    return text + "\nOne job each second, ms:\n\n" + table(["", "p50", "p99", "max", "fires"], each)


def throughput(raw: Raw) -> str:
    rounds = {name: found for name, found in raw["elapsed_s_and_cpu_s"].items() if found}
    floor_s = median(elapsed for elapsed, _cpu in rounds[names.PYTHON_FLOOR])
    rows = []
    for name, found in sorted(rounds.items(), key=lambda item: median(elapsed for elapsed, _cpu in item[1])):
        elapsed_s = median(elapsed for elapsed, _cpu in found)
        cpu_s = median(cpu for _elapsed, cpu in found) / raw["runs"] * 1000
        each = ", ".join(f"{raw['runs'] / elapsed:.0f}" for elapsed, _cpu in found)
        rows.append([name, f"{raw['runs'] / elapsed_s:.0f}", f"{floor_s / elapsed_s:.2f}", f"{cpu_s:.2f}", each])
    text = f"{raw['runs']} × `/bin/true` queued at once, {raw['in_flight']} in flight, a record of each kept:\n"
    text += "by tidegate and huey durably (SQLite, FULL), by dramatiq in redis, by the others in a file.\n\n"
    return text + table(["", "runs a second", "by the Python floor's", "CPU s per 1,000", "each round"], rows)


def output(raw: Raw) -> str:
    rows = []
    for kind, found in raw["kinds"].items():
        shell_s = median(found[">"])
        for name, rounds in found.items():
            if rounds:
                shown = name if name.startswith("tidegate") else f"`sh -c '… {name} file'`"
                times = [one["elapsed_s"] if isinstance(one, dict) else one for one in rounds]
                growth = [one["rss_growth_mib"] for one in rounds if isinstance(one, dict)]
                grown = "" if not growth else " · ".join(f"{max(column):.2f}" for column in zip(*growth, strict=True))
                speed = raw["bytes"] / median(times) / 1e6
                rows.append([kind, shown, f"{speed:.0f}", f"{shell_s / median(times):.3f}", grown, len(times)])
    text = f"{raw['bytes'] / 2**20:.0f} MiB from one job to a file: `head -c … /dev/zero`, and `cat` of a log.\n\n"
    heads = ["", "", "MB/s", "by that of `>`", "RSS growth MiB at most, supervisor · keeper", "rounds"]
    return text + table(heads, rows)


def idle(raw: Raw) -> str:
    rows = []
    for count, group in raw["jobs"].items():
        for name, found in group.items():
            footprint = "" if found["footprint_mib"] is None else f"{found['footprint_mib']:.1f}"
            sizes = [f"{found[key]:.1f}" for key in ("pss_mib", "uss_mib", "rss_mib")]
            rows.append([count, name, *sizes, footprint, f"{found['cpu_s_per_min']:.4f}"])
    text = (
        f"Jobs that do not fire meanwhile; CPU over {raw['window_s']} s. tidegate is supervisor and keeper together.\n"
    )
    text += "Footprint counts each physical page once: the PSS if no other process of the machine shared any.\n\n"
    return text + table(["jobs", "", "PSS MiB", "USS", "RSS", "footprint", "CPU s a minute"], rows)


def start(raw: Raw) -> str:
    rows = [
        [name, f"{median(times):.2f}", ", ".join(f"{taken:.2f}" for taken in times)]
        for name, times in sorted(raw["ready_s"].items(), key=lambda item: median(item[1]))
    ]
    text = f"{raw['jobs']} jobs, one TOML file of {raw['bytes'] / 1e6:.1f} MB; seconds from exec to READY=1.\n\n"
    return text + table(["", "ready after s", "each round"], rows)


def reload(raw: Raw) -> str:
    rows = []
    for turn, one in enumerate(raw["rounds"], 1):
        late = one["late_ms"]
        rows.append([turn, f"{one['reload_s']:.2f}", len(late), f"{nearest_rank(late, 50):.1f}", f"{max(late):.1f}"])
    text = f"One job of {raw['jobs']} changed, SIGHUP; {raw['stamping']} jobs fire each second meanwhile.\n\n"
    return text + table(["round", "config.reloaded after s", "fires", "late p50 ms", "late max ms"], rows)


def late_table(raw: Raw) -> str:
    p99 = span_p99_ms(raw)
    rows = []
    for kind, rounds in raw["late_ms"].items():
        all_late = [late for one in rounds for late in one]
        rows.append(
            [kind, len(all_late), f"{nearest_rank(all_late, 50):.1f}", f"{p99[kind]:.1f}", f"{max(all_late):.1f}"]
        )
    return table(["", "fires", "late p50 ms", "p99 (median of rounds)", "max"], rows)


def scrape(raw: Raw) -> str:
    text = (
        f"{raw['jobs']} jobs loaded, {raw['stamping']} fire each second, by turns quiet and scraped without a pause.\n"
    )
    for encoding in ("identity", "gzip"):
        made = [one for one in raw["scrapes"] if one["encoding"] == encoding]
        if made:
            took_s = median(one["scrape_s_p50"] for one in made)
            text += f"A scrape ({encoding}) has {made[0]['bytes'] / 1e6:.1f} MB and takes {took_s:.2f} s.\n"
    return text + "\n" + late_table(raw)


def readers(raw: Raw) -> str:
    asked = raw["asked"]
    per_s, p50_ms, p99_ms = (median(one[key] for one in asked) for key in ("per_s", "p50_ms", "p99_ms"))
    cut = sum(sum(one["cut"].values()) for one in asked)
    text = (
        f"{raw['jobs']} jobs loaded, {raw['stamping']} fire each second, by turns quiet and with {raw['clients']}\n"
        "clients in one process that ask for the last 20 runs, all jobs and the pool without a pause, over the\n"
        f"control socket. They get {per_s:.0f} answers a second, p50 after {p50_ms:.0f} ms and p99 {p99_ms:.0f};\n"
        f"{cut} connections were cut.\n"
    )
    return text + "\n" + late_table(raw)


def keeper(raw: Raw) -> str:
    shown = {"idle": "idle", "running": f"{raw['held']} runs", "held": f"{raw['held']} exit statuses, no daemon"}
    rows = []
    for state, words in shown.items():
        cells = []
        for key in ("pss_mib", "uss_mib", "rss_mib", "footprint_mib"):
            sizes = [one[state][key] for one in raw["rounds"]]
            cells.append("" if None in sizes else f"{max(sizes):.1f}")
        rows.append([words, *cells])
    text = (
        "The keeper alone, the largest of the rounds. Its daemon was killed with -9 while all ran; each exit status\n"
    )
    text += "was on record, and true, after the next one had started.\n\n"
    return text + table(["", "PSS MiB", "USS", "RSS", "footprint"], rows)


def simulator(raw: Raw) -> str:
    rows = [
        [kind, f"{median(rounds):,.0f}", ", ".join(f"{value:,.0f}" for value in rounds)]
        for kind, rounds in raw["events_per_s"].items()
    ]
    text = (
        f"{raw['jobs']} jobs, {raw['slots']} slots, {raw['virtual_s'] / 3600:g} virtual hours, seed {raw['seed']}.\n\n"
    )
    return text + table(["", "events a second", "each round"], rows)


def claim(raw: Raw) -> str:
    rows = []
    for kind, rounds in raw["ms"].items():
        cells = [
            f"{median(nearest_rank(one[measure], percent) for one in rounds):.2f}"
            for measure in ("asked", "queued", "answered")
            for percent in (50, 99)
        ]
        rows.append([kind, *cells, len(rounds)])
    text = f"{raw['fires']} runs a round of each, by turns, asked for over the control socket; ms. "
    p50_ms, p99_ms = (median(nearest_rank(one, percent) for one in raw["sync_ms"]) for percent in (50, 99))
    text += "The answer says that\nthe claim is on disk. A bare fdatasync of as much took "
    text += f"{p50_ms:.2f} ms there, p99 {p99_ms:.2f}.\n\n"
    heads = ["asked → exec", "queued → exec", "asked → answered"]
    return text + table(["", *(f"{head} {word}" for head in heads for word in ("p50", "p99")), "rounds"], rows)


def history(raw: Raw) -> str:
    rows = [
        [turn, f"{median(late):.2f}", f"{nearest_rank(late, 99):.2f}", f"{used:.0f}"]
        for turn, (late, used) in enumerate(zip(raw["claim_ms"], raw["run_cpu_us"], strict=True), start=1)
    ]
    text = "Each claim committed with durability = full; then whole runs, in bulk.\n\n"
    text += table(["round", "claim p50 ms", "p99 ms", "CPU µs a run"], rows)
    asked = [[f"{one['open_ms']:.1f}", f"{one['slowest_ms']:.1f}"] for one in raw["asked"]]
    text += f"\n{raw['runs']:,} runs, {raw['file_mib']} MiB:\n\n"
    text += table(["open ms", "slowest filter ms"], asked)
    if raw.get("daemon"):
        keys = ("ready_s", "first_runs_ms", "runs_ms", "command_ms")
        started = [[f"{one[key]:.3g}" for key in keys] for one in raw["daemon"]]
        text += (
            "\nThe daemon on the same file, asked for the last 20 runs over the control socket and by the command:\n\n"
        )
        heads = ["READY=1 after s", "first answer ms", "then p99 ms", "`tidegate history` ms, start and all"]
        text += table(heads, started)
    return text


def embedded(raw: Raw) -> str:
    rows = [
        [name, f"{1000 * median(rounds):.0f}", f"{min(rounds) * 1000:.0f}", len(rounds)]
        for name, rounds in raw["calls_s"].items()
    ]
    text = f"{raw['calls']:,} calls of nothing to {raw['workers']} workers, until all results are read; ms.\n\n"
    text += table(["", "median", "least", "rounds"], rows)
    each = ", ".join(f"{took:.3f}" for took in raw["retried_s"])
    return text + f"\n300 tasks of 10 ms on 50 threads, of which six fail three times (1, 2, 4 s): {each} s.\n"


SECTIONS = {
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
    "pool": sections.makespans,
    "pool_memory": sections.memory,
    "pool_company": sections.company,
}


def goals(results: dict[str, Raw]) -> str:
    rows = [[one.part, one.goal, one.reached, "met" if one.met else "**not met**"] for one in claims(results)]
    return table(["part", "goal", "reached", ""], rows) if rows else "tidegate was not measured.\n"


def render(results: dict[str, Raw]) -> str:
    """`results`: part → {"machine": …, "took_s": …, "data": …}."""
    text = HEAD + "\n## Goals\n\n" + goals(results)
    for part, section in SECTIONS.items():
        if part in results and results[part]["data"]:
            machine = results[part]["machine"]
            text += f"\n## {part.capitalize().replace('_', ': ')}\n\n" + section(results[part]["data"])
            text += (
                f"\n{machine['at']}, commit {machine['commit']}, {machine['cores']} × {machine['cpu']}, "
                f"{machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']}, "
                f"load before {machine['load_1min']}; took {results[part]['took_s']:.0f} s.\n"
            )
    return text
