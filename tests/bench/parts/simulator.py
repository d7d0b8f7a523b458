"""Simulator: events a second that the real engine and triggers take under virtual time, in one core.

An event is what the engine is handed: a fire, a start, an exit. The world is a plain one: 100 jobs of all kinds, a
tenth of the attempts fail and are retried. Once with the invariants checked after every step, as in the tests, and
once bare.
"""

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.bench.bench import Bench
from tests.bench.fetch import say

from tidegate.model.job import Cron, Every, Job, Overlap, Retries
from tidegate.model.plan import Plan
from tidegate.model.run import Run
from tidegate.simulate.invariants import Invariants
from tidegate.simulate.work import Behaviour, Work
from tidegate.simulate.world import Watcher, World

JOBS = 100
SLOTS = 16
SEED = 20261120
VIRTUAL_S = 3 * 3600
START = datetime(2026, 3, 2, tzinfo=UTC)
TRIGGERS = (Cron("* * * * *"), Cron("*/10 * * * * *"), Every(7.0), Every(60.0), Cron("*/5 * * * *"))


def plan() -> Plan:
    overlaps = list(Overlap)
    jobs = {}
    for number in range(JOBS):
        name = f"job-{number:03d}"
        jobs[name] = Job(
            name=name,
            command=("work",),
            trigger=TRIGGERS[number % len(TRIGGERS)],
            overlap=overlaps[number // len(TRIGGERS) % len(overlaps)],
            retries=Retries(max=number % 3, delay_s=1.0),
            priority=number % 5 - 2,
        )
    return Plan(jobs=jobs)


def world(watchers: Sequence[Watcher]) -> World:
    dice = random.Random(SEED)

    def behave(run: Run, job: Job) -> Behaviour:
        del run, job
        return Behaviour(duration_s=dice.expovariate(1 / 2.0), exit_code=int(dice.random() < 0.1))

    return World(plan(), SLOTS, START, Work(behave), watchers)


def events_per_s(watchers: Sequence[Watcher], virtual_s: float) -> float:
    simulated = world(watchers)
    begin_s = time.perf_counter()
    simulated.run_for(virtual_s)
    return simulated.events_count / (time.perf_counter() - begin_s)


def measure(bench: Bench) -> dict[str, object]:
    virtual_s = bench.amount(VIRTUAL_S, 1800)
    kinds = {"bare": lambda: (), "invariants checked": lambda: (Invariants(),)}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    events_per_s((), 600)  # unmeasured: imports, time zones, caches of triggers
    for turn in range(bench.rounds(usual=5)):
        for kind, watchers in kinds.items():
            say(f"bench: simulator, round {turn + 1}: {kind}")
            found[kind].append(round(events_per_s(watchers(), virtual_s)))
    return {"jobs": JOBS, "slots": SLOTS, "seed": SEED, "virtual_s": virtual_s, "events_per_s": found}
