"""The pool's sections of RESULTS.md, from the raw results. Pure."""

from typing import Any

from tests.bench.pool.goals import ROWS, medians, p99_ms, wasted
from tests.bench.pool.names import ORACLE
from tests.bench.stats import median, nearest_rank
from tests.bench.tables import table

Raw = dict[str, Any]


def makespans(raw: Raw) -> str:
    text = (
        "From the first `submit` to the last end. AdaptivePool comes as it is; the oracle is the best fixed size,\n"
        "searched for once and then taking turns with the others: ThreadPoolExecutor with the same programs.\n"
    )
    for row, words in ROWS.items():
        if row not in raw:
            continue
        one = raw[row]
        found = medians(one)
        best_s = found[ORACLE]
        rows = []
        for name, took_s in sorted(found.items(), key=lambda item: item[1]):
            shown = f"oracle: {one['best']} at once" if name == ORACLE else name
            more = "> " if name in one["cut"] else ""
            each = ", ".join(f"{taken:.2f}" for taken in one["elapsed_s"][name])
            rows.append([shown, f"{more}{took_s:.2f}", f"{more}{took_s / best_s:.3f}", each])
        sizes = ", ".join(f"{size}: {took:.1f}" for size, took in one["search_s"].items())
        text += f"\n{words}: {one['words']}. The search, s: {sizes}.\n\n"
        text += table(["", "s", "by the oracle's", "each round"], rows)
    return text + "\n![how many at once](results/pool.png)\n"


def memory(raw: Raw) -> str:
    hogs = raw["hogs"]
    rows = []
    for name in ("cold", "warm"):
        passes = hogs[name]
        rows.append(
            [
                f"tidegate, {'nothing known of them' if name == 'cold' else 'learned'}",
                f"{median(one['elapsed_s'] for one in passes):.1f}",
                sum(one["oom_kills"] for one in passes),
                f"{max(wasted(one) for one in passes):.1%}",
                sum(one["frozen"] for one in passes),
                f"{max(used for one in passes for _, used in one['used_mib']):.0f}",
            ]
        )
    others = {f"ThreadPoolExecutor({size})": one for size, one in hogs["fixed"].items()} | hogs.get("parallel", {})
    rows += [[name, f"{one['elapsed_s']:.1f}", one["oom_kills"], "", "", ""] for name, one in others.items()]
    text = f"Hogs: {hogs['words']}, the daemon among them. What the kernel killed is not done again\n"
    text += "by the others, so their time is too short then; `--memfree` looks at the machine, not at the cgroup.\n\n"
    heads = ["", "s", "killed by the kernel", "work done twice", "freezes", "MiB at most"]
    text += table(heads, rows) + "\n![memory](results/pool_memory.png)\n"
    rows = [
        [size, f"{one['ended']} of {one['count']}", f"{one['elapsed_s']:.1f}", one["oom_kills"] + one["evicted"]]
        + [f"{one['standstill_s']:.1f}"]
        for size, one in raw["ordinary"].items()
    ]
    text += "\nOrdinary jobs (5 to 20 MiB for a second), on a machine with so little in all, the daemon included:\n\n"
    return text + table(["", "ran", "s", "killed", "s without a start or an end, at most"], rows)


def company(raw: Raw) -> str:
    found, beside = p99_ms(raw["beside"]), raw["beside"]
    rows = [
        [name, f"{median(nearest_rank(one, 50) for one in beside['ms'][name]):.1f}", f"{p99:.1f}"]
        for name, p99 in found.items()
    ]
    over = raw["overhead"]
    return (
        f"A request of {beside['cpu_s'] * 1e3:g} ms of CPU each {beside['period_s'] * 1e3:g} ms, beside jobs that "
        "compute all the time:\n\n"
        + table(["", "p50 ms", "p99 ms"], rows)
        + f"\nSupervisor and keeper used {over['used_s']:.3f} s of CPU in {over['span_s']:.0f} s with {over['running']}"
        " runs that sleep.\n\n![limits](results/pool_company.png)\n"
    )
