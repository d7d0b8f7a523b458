"""Kills the real daemon with -9, over and over: at random instants, at every failpoint, with its keeper or without;
then lets it come to rest and holds its account against the ledger of the jobs.

    python tests/crash/driver.py --kills 1000 --runs 100000

prints totals and every finding, and ends with 1 if there is any. The same seed kills at the same points.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from scene import SETTINGS, Scene, job

from tidegate.failpoint import NAMES

LIFE_S_MAX = 8.0  # a life is killed after this even where it has not come to its point
STARTUP_S = 0.8  # a start takes about half of it
MORE = """
[history]
durability = "full"
[resources]
database = 2
[hooks.note]
command = ["/bin/true"]
"""


class Shape(Struct, frozen=True):
    """How hard it is."""

    seed: int = 1
    kills: int = 30
    runs: int = 400  # the lives are as long as it takes to come to about so many
    quick: int = 10  # jobs that do nothing, each second
    keeper_kills: int = 0  # of the kills, so many take the keeper down as well, or alone


class Outcome(Struct):
    """What came of it."""

    findings: list[str]
    totals: Counter[str]
    reached: Counter[str]  # failpoints that killed
    span_s: float

    def __str__(self) -> str:
        words = ("kills", "keeper kills", "runs", "skipped", "due", "starts", "catch-ups", "unknown")
        words += ("lost", "doubled", "wrong", "unrecorded", "untrue")
        line = ", ".join(f"{self.totals[word]} {word}" for word in words)
        points = ", ".join(f"{name} {count}" for name, count in sorted(self.reached.items()))
        return f"{line}; in {self.span_s:.0f} s\nkilled at: {points}"


def jobs(quick: int) -> str:
    """Every kind of job: many quick ones, and one or two of whatever a crash can meet."""
    every = 'every = "{}s"'.format
    retries = '{ max = 2, delay = "300ms", jitter = 0 }'
    texts = [job(f"quick-{index}", 'cron = "* * * * * *"', 0, 0) for index in range(quick)]
    texts += [
        job("slow", every(4), 3, 0, overlap='"queue"'),
        job("allow", every(1), 2, 0, overlap='"allow"'),
        job("replace", every(2), 3, 0, overlap='"replace"'),
        job("all", every(1), 0, 0, overlap='"allow"', catch_up='"all"'),
        job("none", every(1), 0, 0, catch_up='"none"'),
        job("flaky", every(2), 0, 7, -9, 0, retries=retries, overlap='"queue"'),
        job("failing", every(2), 0, 3, retries=retries, on_failure='["note"]'),
        job("rerun", every(2), 1, 0, on_interrupted='"rerun"'),
        job("after", 'after = ["quick-0"]', 0.2, 0),
        job("locked-a", every(1), 0.3, 0, uses="{ database = 2 }", overlap='"queue"'),
        job("locked-b", every(1), 0.2, 0, uses="{ database = 1 }", overlap='"queue"'),
    ]
    return "\n".join(texts)


class Driver:
    """One torture, from the first start to the verdict."""

    def __init__(self, shape: Shape, folder: Path) -> None:
        self.shape = shape
        self.scene = Scene(folder, jobs(shape.quick), SETTINGS + MORE)
        self._random = random.Random(shape.seed)
        self._kills: Counter[str] = Counter()
        self._reached: Counter[str] = Counter()
        self._patience = threading.Event()
        self._holders: list[subprocess.Popen[bytes]] = []

    def run(self) -> Outcome:
        """All lives, the rest, the verdict."""
        begun_s = time.monotonic()
        for number, plan in enumerate(self._plans()):
            self._live(plan, number)
        for holder in self._holders:
            holder.kill()
            holder.wait()
        self.scene.come_to_rest()
        verdict = self.scene.compare(unknown_allowed=self.shape.keeper_kills > 0)
        totals = verdict.totals + self._kills
        for kind in ("lost", "doubled", "wrong", "unrecorded", "untrue"):
            totals[kind] = len(getattr(verdict, kind))
        findings = verdict.findings() + self.scene.troubles
        findings += [f"left behind: {process}" for process in self.scene.left_behind()]
        return Outcome(findings, totals, self._reached, time.monotonic() - begun_s)

    def _plans(self) -> list[str]:
        """A word for each kill: every failpoint as often as the others, the rest at random instants."""
        kills = self.shape.kills
        keepers = ["keeper"] * self.shape.keeper_kills
        points = [NAMES[index % len(NAMES)] for index in range(max(min(len(NAMES), kills), kills * 2 // 5))]
        startups = ["startup"] * (kills // 8)
        chosen = (keepers + points + startups)[:kills]
        chosen += ["instant"] * (kills - len(chosen))
        self._random.shuffle(chosen)
        return chosen

    def _live(self, plan: str, number: int) -> None:
        scene, chance = self.scene, self._random
        share = self.shape.runs / self.shape.kills
        goal = scene.starts() + chance.uniform(0, 2 * share)
        if plan in NAMES:
            count = 1 if plan.startswith(("recover", "lease", "hook")) else chance.randint(1, 4)
            scene.start(TIDEGATE_TEST_BUILD="1", TIDEGATE_FAILPOINT=f"{plan}:{count}")
            self._until_dead(plan)
        elif plan == "startup":
            scene.start()
            self._patience.wait(chance.uniform(0, STARTUP_S))
        else:
            scene.start()
            self._until(lambda: scene.starts() >= goal)
            self._patience.wait(chance.uniform(0, 0.05))
        if plan == "keeper":
            self._kills["keeper kills"] += scene.kill_keeper()
            if chance.random() < 0.5:
                self._until(lambda: scene.starts() >= goal + share)
        self._kills["kills"] += 1
        if scene.alive:
            scene.kill()
        elif scene.buried() == -9:
            self._reached[plan] += 1
        else:
            scene.troubles.append(f"life {number} ended by itself at {plan}: {scene.troubles[-3:]}")

    def _until_dead(self, plan: str) -> None:
        """The failpoint kills; where it needs somebody to act, act."""
        asked = False

        def gone() -> bool:
            nonlocal asked
            if plan == "lease.granted" and not asked:
                asked = self._ask_lease()
            return not self.scene.alive

        self._until(gone, 3 * LIFE_S_MAX if plan == "lease.granted" else LIFE_S_MAX)

    def _ask_lease(self) -> bool:
        """Take units for a process that outlives this daemon, and not the next ones. Whether they were granted: on a
        slow machine older runs may stand before it for longer than the process lives."""
        self._holders = [each for each in self._holders if each.poll() is None]
        self._holders.append(subprocess.Popen(["sleep", "4"], stdin=subprocess.DEVNULL))
        body = {"uses": {"database": 1}, "wait_s": 5, "pid": self._holders[-1].pid}
        try:
            status, _ = self.scene.ask("POST", "/api/v1/leases", body, LIFE_S_MAX)
        except OSError:
            return False
        return status == 201

    def _until(self, true, most_s: float = LIFE_S_MAX) -> None:
        end_s = time.monotonic() + most_s
        while not true() and time.monotonic() < end_s:
            self._patience.wait(0.005)


def main() -> int:
    """Run one torture as asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in Shape.__struct_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Shape(), name))
    parser.add_argument("--folder", type=Path, help="where to work; kept if there are findings")
    args = vars(parser.parse_args())
    folder = args.pop("folder") or Path(tempfile.mkdtemp(prefix="tidegate-torture-"))
    driver = Driver(Shape(**args), folder / "scene")
    with suppress(KeyboardInterrupt):
        outcome = driver.run()
        print(outcome)
        print("\n".join(outcome.findings[:200]) or "no findings")
        if not outcome.findings:
            driver.scene.clean_up()
        return 1 if outcome.findings else 0
    driver.scene.clean_up()
    return 130


if __name__ == "__main__":
    sys.exit(main())
