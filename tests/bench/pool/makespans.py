"""How long a load takes: AdaptivePool beside the best fixed size, the 80 % rule and GNU parallel, by turns.

The oracle is searched for coarsely, each size once; the best one then takes part in every round like the others, so it
owes nothing to the luck of the search.
"""

import os
from collections.abc import Callable

from tests.bench.bench import Bench
from tests.bench.fetch import say
from tests.bench.pool import contenders
from tests.bench.pool.contenders import SLOTS_PER_CORE, Timing
from tests.bench.pool.loads import Load
from tests.bench.pool.names import LOAD, NAIVE, ORACLE, OURS

UNKNOWN_S = 20.0  # what the best took, where no size was tried
CUT = 4.0  # times the best, after which a rival is stopped
SLACK = 1.03  # a size within this of the fastest is as good, and the smallest of these is the best: others need room

Raw = dict[str, object]


def search(load: Load, sizes: tuple[int, ...], run: Callable[[int], Timing]) -> tuple[int, dict[int, float]]:
    """The best fixed size, and what each took."""
    if len(sizes) == 1:
        return sizes[0], {}
    took_s = {}
    for size in sizes:
        took_s[size] = run(size).elapsed_s
        say(f"bench: {load.name}, {size} at once: {took_s[size]:.1f} s")
    return smallest(took_s), took_s


def smallest(took_s: dict[int, float]) -> int:
    return min(size for size, took in took_s.items() if took <= SLACK * min(took_s.values()))


ROUNDS = 3


def often(bench: Bench) -> int:
    """Rounds of each load: medians want three."""
    return bench.repeat or (1 if bench.quick else ROUNDS if not bench.full else 5)


def rounds(load: Load, runs: dict[str, Callable[[], Timing]], count: int) -> dict[str, list[Timing]]:
    """ABBA: every other round goes backwards, so that a machine that slows down favours none."""
    found: dict[str, list[Timing]] = {name: [] for name in runs}
    for turn in range(count):
        for name in runs if turn % 2 == 0 else reversed(runs):
            found[name].append(runs[name]())
            say(f"bench: {load.name}, round {turn + 1}: {name}: {found[name][-1].elapsed_s:.1f} s")
    return found


def measure(
    bench: Bench, load: Load, *, naive: bool, load_rule: bool, parallel: bool, beyond: int | None = None
) -> Raw:
    """`beyond`: a size that the oracle may not have, beside it."""
    best, took_s = search(load, load.sizes, lambda size: contenders.fixed(bench, load, size))
    runs: dict[str, Callable[[], Timing]] = {
        OURS: lambda: contenders.ours(bench, load),
        ORACLE: lambda: contenders.fixed(bench, load, best),
    }
    if naive:
        runs[NAIVE] = lambda: contenders.naive(bench, load)
    if bench.tools.parallel and load_rule:
        most = SLOTS_PER_CORE * (os.cpu_count() or 1)
        cut_s = max(20.0, CUT * min(took_s.values(), default=UNKNOWN_S))
        runs[LOAD] = lambda: contenders.parallel(bench, load, most, "--load", "100%", within_s=cut_s)
    if bench.tools.parallel and parallel:
        runs[f"GNU parallel -j{best}"] = lambda: contenders.parallel(bench, load, best)
    if beyond is not None:
        runs[f"ThreadPoolExecutor({beyond})"] = lambda: contenders.fixed(bench, load, beyond)
    return told(load, best, took_s, rounds(load, runs, often(bench)))


def measure_processes(bench: Bench, load: Load) -> Raw:
    """The same work as Python functions in processes of the pool's own."""
    best, took_s = search(load, load.sizes, lambda size: contenders.fixed_processes(load, size))
    runs = {OURS: lambda: contenders.our_processes(load), ORACLE: lambda: contenders.fixed_processes(load, best)}
    return told(load, best, took_s, rounds(load, runs, often(bench)))


def told(load: Load, best: int, took_s: dict[int, float], found: dict[str, list[Timing]]) -> Raw:
    return {
        "words": load.words,
        "best": best,
        "search_s": {str(size): took for size, took in took_s.items()},
        "elapsed_s": {name: [one.elapsed_s for one in timings] for name, timings in found.items()},
        "cut": [name for name, timings in found.items() if any(one.cut for one in timings)],
        "limits": {name: found[name][-1].limits for name in (OURS, NAIVE) if name in found},
    }
