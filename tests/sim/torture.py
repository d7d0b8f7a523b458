"""Many random histories, in as many processes as asked for: `python -m tests.sim.torture --seeds 10000`."""

import argparse
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # run as a module, and in worker processes too

from histories import History

CHUNK = 20  # seeds that a worker plays between two words


@dataclass
class Totals:
    """What was played, and what was found."""

    seeds: int = 0
    hours: float = 0.0
    runs: int = 0
    instants: int = 0
    crashes: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: "Totals") -> None:
        self.seeds += other.seeds
        self.hours += other.hours
        self.runs += other.runs
        self.instants += other.instants
        self.crashes += other.crashes
        self.violations += other.violations

    def __str__(self) -> str:
        return (
            f"{self.seeds:,} seeds, {self.hours:,.0f} virtual hours, {self.runs:,} starts, {self.instants:,} scheduled "
            f"instants checked, {self.crashes:,} ends of the daemon, {len(self.violations)} violations"
        )


def play(seeds: Iterable[int], hours: float) -> Totals:
    """One history after another. A breach is told with its seed, which plays it again."""
    totals = Totals()
    for seed in seeds:
        history = History(seed, hours)
        try:
            history.run()
        except (AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            totals.violations.append(f"seed {seed}: {type(error).__name__}: {error}")
        totals.seeds += 1
        totals.hours += history.world.clock.mono_s / 3600
        totals.runs += history.invariants.started
        totals.instants += history.account.instants
        totals.crashes += history.world.ends
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--hours", type=float, default=24.0, help="virtual hours of each")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    begun_s = said_s = time.monotonic()
    totals = Totals()
    last = asked.first + asked.seeds
    chunks = [range(at, min(at + CHUNK, last)) for at in range(asked.first, last, CHUNK)]
    with ProcessPoolExecutor(asked.processes) as pool:
        for part in pool.map(play, chunks, [asked.hours] * len(chunks)):
            totals.add(part)
            for violation in part.violations:
                print(violation, flush=True)
            if time.monotonic() > said_s + 60:
                said_s = time.monotonic()
                print(f"simulator: {totals} so far", flush=True)
    print(f"simulator: {totals}, in {time.monotonic() - begun_s:.0f} s")
    return 1 if totals.violations else 0


if __name__ == "__main__":
    sys.exit(main())
