"""Claim: from the instant at which a run is asked for to the first instruction of its program, one fire at a time.

A single fire: the daemon has been idle for seconds, so that its log is written back and begins anew, which costs a
second sync. The same daemon three times, asked by turns: as it is (FULL), with durability = "normal", and with a
history that costs nothing (floors/free). What lies between the first and the last is what the durable claim adds; what
one bare fdatasync of as much takes on this disk, between the fires, stands beside it. Scheduled fires do not show it:
their claim is written in the last moments before they are due.
"""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from tests.bench import jobs
from tests.bench.bench import Bench, rotated
from tests.bench.daemon import Tidegate, all_succeeded
from tests.bench.fetch import BENCH, say
from tests.bench.ground import Missed
from tests.bench.stats import epoch_ns, read_stamps

FIRES = 25
WARM = 3  # unmeasured: imports, first pages
WITHIN_S = 20.0
REST_S = 0.7  # each daemon rests for four of these: its log is then written back, as it is before most single fires
SYNC_BYTES = 8 * 4120  # eight pages of log: what a claim writes
FULL = 'durability = "full", the default'
NORMAL = 'durability = "normal"'
FREE = "a history that costs nothing"
KINDS = {FULL: "full", NORMAL: "normal", FREE: "full"}


class Contender:
    """One kind of history, its daemon, and what was read from the clock at each fire."""

    def __init__(self, bench: Bench, kind: str) -> None:
        assert bench.tools.tidegate
        self.kind = kind
        self._stamps = bench.ground.folder("stamps") / "stamps"
        text = jobs.job("stamp", [bench.tools.stamp, str(self._stamps)])
        tables = f'[history]\ndurability = "{KINDS[kind]}"\n'
        env = {"PYTHONPATH": str(BENCH / "floors" / "free")} if kind == FREE else {}
        self.daemon = Tidegate(bench.ground, bench.tools.tidegate, text, tables=tables, env=env)
        self._asked_ns: list[int] = []
        self._answered_ns: list[int] = []
        self._queued_ns: list[int] = []

    def fire(self) -> None:
        with contextlib.closing(self.daemon.client()) as client:
            client.connect()
            self._asked_ns.append(time.time_ns())
            run = client.ask("POST", "/api/v1/jobs/stamp/runs", "{}")
            self._answered_ns.append(time.time_ns())
        self._queued_ns.append(epoch_ns(run["queued_at"]))
        self.daemon.wait_for("run.finished", len(self._asked_ns), WITHIN_S)
        time.sleep(REST_S)

    def found(self) -> dict[str, list[float]]:
        """ms of each fire: asked → first instruction, queued → first instruction, asked → answered (it is on disk)."""
        count = len(self._asked_ns)
        all_succeeded(self.daemon, count)
        with contextlib.closing(
            sqlite3.connect(f"file:{self.daemon.state / 'history.sqlite'}?mode=ro", uri=True)
        ) as db:
            kept = db.execute("SELECT count(*) FROM runs").fetchone()[0]
        if kept != (0 if self.kind == FREE else count):
            raise Missed(f"{self.kind}: {kept} of {count} runs on record: not what was to be measured")
        began_ns = [ns for ns, _label, _due in read_stamps(self._stamps)]
        columns = {
            "asked": zip(self._asked_ns, began_ns, strict=True),
            "queued": zip(self._queued_ns, began_ns, strict=True),
            "answered": zip(self._asked_ns, self._answered_ns, strict=True),
        }
        return {
            name: sorted(round((end - begin) / 1e6, 3) for begin, end in list(pairs)[WARM:])
            for name, pairs in columns.items()
        }


class Disk:
    """A file on the same disk, appended to and synced."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.sync_ms: list[float] = []

    def sync(self) -> None:
        begin_s = time.perf_counter()
        os.write(self._fd, b"\0" * SYNC_BYTES)
        os.fdatasync(self._fd)
        self.sync_ms.append(round(1000 * (time.perf_counter() - begin_s), 3))
        time.sleep(REST_S)

    def close(self) -> None:
        os.close(self._fd)


def one(bench: Bench, turn: int, count: int) -> dict[str, dict[str, list[float]]]:
    contenders = {kind: Contender(bench, kind) for kind in rotated(list(KINDS), turn)}
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(contextlib.closing(Disk(bench.ground.folder("disk") / "log")))
        for contender in contenders.values():
            stack.enter_context(contender.daemon)
        for fire in range(WARM + count):
            for kind in rotated(list(contenders), fire):
                contenders[kind].fire()
            disk.sync()
        found = {kind: contenders[kind].found() for kind in KINDS}
    return {**found, "disk": {"sync": sorted(disk.sync_ms)}}


def measure(bench: Bench) -> dict[str, object]:
    if not bench.tools.tidegate:
        return {}
    count = bench.amount(FIRES, 5)
    found: dict[str, list[dict[str, list[float]]]] = {kind: [] for kind in (*KINDS, "disk")}
    for turn in range(bench.rounds(usual=2)):
        say(f"bench: claim, round {turn + 1}, {count} fires of each")
        for kind, latencies in one(bench, turn, count).items():
            found[kind].append(latencies)
    disk = found.pop("disk")
    return {"fires": count, "ms": found, "sync_ms": [one_round["sync"] for one_round in disk]}
