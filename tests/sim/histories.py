"""Random histories: from one seed a plan, how its work goes, and what befalls the daemon."""

import random
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from msgspec.structs import replace

from tidegate.model.command import Record
from tidegate.model.event import CancelRequested, PauseRequested, ResumeRequested, Triggered
from tidegate.model.job import CatchUp, Cron, Every, Job, Overlap, Retries
from tidegate.model.plan import Plan
from tidegate.simulate.invariants import Invariants
from tidegate.simulate.work import Behaviour, Work
from tidegate.simulate.world import World

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata")
CRONS = ("* * * * *", "*/5 * * * *", "15 2 * * *", "0,30 1-4 * * *", "H H * * *", "*/10 * * * * *", "0 * * * mon-fri")


class History:
    """One seeded world with its faults, its books and its trace."""

    def __init__(self, seed: int, hours: float = 24.0, faults: bool = True) -> None:
        self.seed = seed
        self.span_s = hours * 3600
        self._random = random.Random(seed)
        self.invariants = Invariants()
        self._trace = blake2b(digest_size=16)
        self.plan = self._plan()
        start = datetime(2018 + self._random.randrange(10), 1, 1, tzinfo=UTC) + timedelta(
            hours=self._random.randrange(24 * 365)
        )
        slots = self._random.choice((1, 2, 4, 8, 32))
        self.work = Work(self._behave)
        self.world = World(self.plan, slots, start, self.work, (self.invariants, self._watch))
        if faults:
            self._befall()

    def run(self) -> None:
        """Play it, then let all load cease and everything end."""
        self.world.run_for(self.span_s)
        quiet = {name: replace(job, enabled=False, after=()) for name, job in self.plan.jobs.items()}
        self.world.load(Plan(jobs=quiet), slots=8)
        for name in self.plan.jobs:
            self.world.post(ResumeRequested(name, "the test"))
        for _ in range(30 * 24):
            if not self.invariants.open:
                break
            self.world.run_for(3600)
        self.invariants.at_rest()

    @property
    def trace(self) -> str:
        """A digest of every record in order."""
        return self._trace.hexdigest()

    def _watch(self, world, events, commands, now) -> None:
        for command in commands:
            if isinstance(command, Record):
                run = command.run
                self._trace.update(f"{now.mono_s:.6f} {command.fact} {run and (run.run_id, run.attempt)}".encode())

    def _plan(self) -> Plan:
        return Plan(jobs={job.name: job for job in (self._job(i) for i in range(self._random.randrange(3, 16)))})

    def _job(self, i: int) -> Job:
        r = self._random
        trigger = r.choice((Cron(r.choice(CRONS)), Every(r.choice((7.0, 60.0, 900.0, 3600.0))), None))
        return Job(
            name=f"job{i}",
            command=("work",),
            trigger=trigger,
            after=(f"job{r.randrange(i)}",) if i and (trigger is None or r.random() < 0.1) else (),
            timezone=r.choice(ZONES),
            jitter_s=r.choice((0.0, 0.0, 5.0)),
            timeout_s=r.choice((5.0, 60.0, 1800.0)),
            kill_grace_s=r.choice((0.0, 2.0, 10.0)),
            retries=Retries(max=r.choice((0, 0, 1, 5)), delay_s=r.choice((0.0, 1.0, 30.0))),
            overlap=r.choice(list(Overlap)),
            catch_up=r.choice(list(CatchUp)),
            catch_up_window_s=r.choice((600.0, 86400.0)),
            start_deadline_s=r.choice((None, None, 30.0)),
            priority=r.randrange(-5, 6),
        )

    def _behave(self, run, job) -> Behaviour:
        # A function of seed, run and attempt: reordering one draw would otherwise change all later ones.
        r = random.Random(f"{self.seed}:{run.run_id}:{run.attempt}")
        kind = r.random()
        return Behaviour(
            duration_s=float("inf") if kind < 0.02 else r.expovariate(1 / r.choice((0.5, 10.0, 120.0))),
            exit_code=r.choice((0, 0, 0, 0, 1, 75)),
            start_failure="no such program" if 0.02 <= kind < 0.04 else None,
            term_delay_s=None if r.random() < 0.1 else r.random(),
            start_delay_s=r.choice((0.0, 0.001, 0.5)),
        )

    def _befall(self) -> None:
        r = self._random
        world = self.world
        names = list(self.plan.jobs)
        for _ in range(r.randrange(4, 30)):
            at_s = r.random() * self.span_s
            name = r.choice(names)
            match r.randrange(8):
                case 0:
                    world.at(at_s, lambda name=name: world.post(PauseRequested(name, "ops")))
                    world.at(at_s + r.random() * 3600, lambda name=name: world.post(ResumeRequested(name, "ops")))
                case 1:
                    pick = r.random()
                    world.at(at_s, lambda pick=pick: self._cancel(pick))
                case 2:
                    world.at(at_s, lambda name=name, at_s=at_s: world.post(Triggered(name, f"r{at_s}", "ops")))
                case 3:
                    by = timedelta(seconds=r.choice((-7200, -3600, -60, 60, 3600, 7200, 86400, -86400)))
                    world.at(at_s, lambda by=by: world.step_clock(by))
                case 4:
                    span = timedelta(seconds=r.choice((60, 3600, 8 * 3600)))
                    world.at(at_s, lambda span=span: world.suspend(span))
                case 5:
                    world.at(at_s, world.kill_keeper)
                case _:
                    pick = r.random()
                    world.at(at_s, lambda name=name, pick=pick: self._reload(name, pick))

    def _cancel(self, pick: float) -> None:
        runs = self.world.dispatcher.runs()
        if runs:
            self.world.post(CancelRequested(runs[int(pick * len(runs))].run_id, "ops"))

    def _reload(self, name: str, pick: float) -> None:
        jobs = dict(self.plan.jobs)
        if pick < 0.3:
            del jobs[name]
        elif pick < 0.6:
            jobs[name] = replace(jobs[name], trigger=Every(30.0), enabled=True)
        self.world.load(Plan(jobs=jobs), slots=1 + int(pick * 8))
