"""`python -m tests.bench [PART...]`: measure, keep the raw numbers, write RESULTS.md.

Without PART all parts run, within 30 minutes; --full repeats more and searches finer, for hours. --quick runs each once
and small, to see that it works; its figures go to build/bench/quick/ and not into RESULTS.md.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.bench import Bench
from tests.bench.claims import CLAIMS
from tests.bench.fetch import BENCH, BUILD, say, tools
from tests.bench.ground import Ground, Missed
from tests.bench.pool import plots
from tests.bench.report import goals, render

PARTS = tuple(CLAIMS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds of each measure (default: each part's own)")
    parser.add_argument("--quick", action="store_true", help="once and small, to see that it works")
    parser.add_argument("--full", action="store_true", help="all that there is to measure: hours")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where RESULTS.md and results/ go")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.repeat is not None and options.repeat < 1:
        parser.error("--repeat: at least 1")
    return options


def one_part(name: str, bench: Bench) -> dict[str, Any]:
    described = machine.description()
    begin_s = time.monotonic()
    data = importlib.import_module(f"tests.bench.parts.{name}").measure(bench)
    took_s = round(time.monotonic() - begin_s, 1)
    return {"part": name, "machine": described, "quick": bench.quick, "took_s": took_s, "data": data}


def read_results(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.stem in PARTS}


def main() -> int:
    options = arguments()
    home = options.into or (BUILD / "quick" if options.quick else BENCH)
    results = home / "results"
    results.mkdir(parents=True, exist_ok=True)
    have = tools()
    failed = []
    for name in options.parts or PARTS:
        say(f"bench: {name}")
        try:
            with Ground(BUILD) as ground:
                found = one_part(name, Bench(have, ground, options.repeat, options.quick, options.full))
        except Missed as missed:
            say(f"bench: {name} failed: {missed}")
            failed.append(name)
            continue
        (results / f"{name}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
    kept = read_results(results)
    (home / "RESULTS.md").write_text(render(kept))
    plots.draw(kept, results)
    print(goals(kept))
    say(f"bench: written to {home / 'RESULTS.md'}")
    if failed:
        say(f"bench: not measured: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
