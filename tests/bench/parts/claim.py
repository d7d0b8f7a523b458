"""Claim: from the instant at which a run is asked for to the first instruction of its program, one fire at a time.

The same daemon three times: as it is (FULL), with durability = "normal", and with a history that costs nothing
(floors/free). What lies between the first and the last is what the durable claim adds. Scheduled fires do not show it:
their claim is written in the last moments before they are due.
"""

import sqlite3
import time
from pathlib import Path

from tests.bench import jobs
from tests.bench.bench import Bench, rotated
from tests.bench.daemon import Tidegate, all_succeeded
from tests.bench.fetch import BENCH, say
from tests.bench.ground import Missed
from tests.bench.stats import epoch_ns, read_stamps

FIRES = 60
WARM = 5  # unmeasured: imports, first pages
WITHIN_S = 20.0
REST_S = 0.1  # until nothing of the last fire is left to be written
FULL = 'durability = "full", the default'
NORMAL = 'durability = "normal"'
FREE = "a history that costs nothing"
KINDS = {FULL: "full", NORMAL: "normal", FREE: "full"}


def on_record(state: Path) -> int:
    with sqlite3.connect(f"file:{state / 'history.sqlite'}?mode=ro", uri=True) as db:
        return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])


def one(bench: Bench, kind: str, count: int) -> dict[str, list[float]]:
    """ms of each fire: asked → first instruction, queued → first instruction, asked → answered (claimed, on disk)."""
    assert bench.tools.tidegate
    stamps = bench.ground.folder("stamps") / "stamps"
    tables = f'[history]\ndurability = "{KINDS[kind]}"\n'
    env = {"PYTHONPATH": str(BENCH / "floors" / "free")} if kind == FREE else {}
    text = jobs.job("stamp", [bench.tools.stamp, str(stamps)])
    asked_ns, answered_ns, queued_ns = [], [], []
    with Tidegate(bench.ground, bench.tools.tidegate, text, tables=tables, env=env) as daemon:
        client = daemon.client()
        for turn in range(WARM + count):
            asked_ns.append(time.time_ns())
            run = client.ask("POST", "/api/v1/jobs/stamp/runs", "{}")
            answered_ns.append(time.time_ns())
            queued_ns.append(epoch_ns(run["queued_at"]))
            daemon.wait_for("run.finished", turn + 1, WITHIN_S)
            time.sleep(REST_S)
        client.close()
        all_succeeded(daemon, WARM + count)
        kept = on_record(daemon.state)
    expected = 0 if kind == FREE else WARM + count
    if kept != expected:
        raise Missed(f"{kind}: {kept} runs on record, not {expected}: not what was to be measured")
    began_ns = [ns for ns, _label, _due in read_stamps(stamps)]
    columns = {
        "asked": zip(asked_ns, began_ns, strict=True),
        "queued": zip(queued_ns, began_ns, strict=True),
        "answered": zip(asked_ns, answered_ns, strict=True),
    }
    return {
        name: sorted(round((end - begin) / 1e6, 3) for begin, end in list(pairs)[WARM:])
        for name, pairs in columns.items()
    }


def measure(bench: Bench) -> dict[str, object]:
    if not bench.tools.tidegate:
        return {}
    count = bench.amount(FIRES, 15)
    found: dict[str, list[dict[str, list[float]]]] = {kind: [] for kind in KINDS}
    for turn in range(bench.rounds(usual=5)):
        for kind in rotated(list(KINDS), turn):
            say(f"bench: claim, round {turn + 1}: {kind}")
            found[kind].append(one(bench, kind, count))
    return {"fires": count, "ms": found}
