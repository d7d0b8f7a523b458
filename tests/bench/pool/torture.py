"""`python -m tests.bench.pool.torture [--repeats N] [--hogs N]`: memory hogs in a cgroup of 4 GiB, cold and then
learned, over and over. Ends with 1 if the kernel had to kill anything, or a run failed."""

import argparse
import sys

from tests.bench import fetch
from tests.bench.bench import Bench
from tests.bench.ground import Ground
from tests.bench.pool import goals, loads, starving


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pool.torture", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--hogs", type=int, default=60)
    options = parser.parse_args()
    kills, bad = 0, 0
    for turn in range(1, options.repeats + 1):
        with Ground(fetch.BUILD) as ground:
            bench = Bench(fetch.tools(), ground, None, quick=False)
            for words, one in zip(("cold", "learned"), starving.ours(bench, loads.hogs(options.hogs)), strict=True):
                kills += one["oom_kills"]
                bad += len(one["bad"])
                print(
                    f"{turn}, {words}: {one['elapsed_s']:.0f} s, {one['frozen']} frozen, {one['evicted']} killed by us,"
                    f" {goals.wasted(one):.1%} done twice, {one['oom_kills']} killed by the kernel, {one['bad']}",
                    flush=True,
                )
    print(f"{options.repeats} × {options.hogs} hogs, twice: {kills} killed by the kernel, {bad} failed")
    return 1 if kills or bad else 0


if __name__ == "__main__":
    sys.exit(main())
