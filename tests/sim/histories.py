"""Random histories: from one seed a plan, how its work goes, and what befalls daemon, keeper and machine."""

import random
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from msgspec.structs import replace

from tidegate.model.event import CancelRequested, PauseRequested, ResumeRequested, StartsHeld, Triggered
from tidegate.model.job import Boot, CatchUp, Cron, During, Every, Job, OnInterrupted, Overlap, Retries, Window
from tidegate.model.lease import Lease
from tidegate.model.plan import Calendar, Plan
from tidegate.simulate.account import Account
from tidegate.simulate.invariants import Invariants
from tidegate.simulate.work import Behaviour, Work
from tidegate.simulate.world import Death, World

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata")
CRONS = ("* * * * *", "*/5 * * * *", "15 2 * * *", "0,30 1-4 * * *", "H H * * *", "0 * * * mon-fri", "*/20 */4 * * * *")
CALENDARS = {"day": Calendar(), "freeze": Calendar()}  # when they are open, the history says
DOWN_S = (0.0, 1.0, 1.0, 30.0, 30.0, 600.0, 600.0, 7200.0, 7200.0, 20_000.0, 20_000.0, 3 * 86400.0)


class History:
    """One seeded world with its faults, its books and its trace."""

    def __init__(self, seed: int, hours: float = 24.0, faults: bool = True) -> None:
        self.seed = seed
        self.span_s = hours * 3600
        self._random = random.Random(seed)
        self._asked = 0
        self.invariants = Invariants()
        self.account = Account()
        self._trace = blake2b(digest_size=16)
        self.plan = self._plan()
        start = datetime(2018 + self._random.randrange(10), 1, 1, tzinfo=UTC) + timedelta(
            hours=self._random.randrange(24 * 365)
        )
        slots = self._random.choice((1, 2, 4, 8, 32))
        self.work = Work(self._behave)
        self.world = World(self.plan, slots, start, self.work, (self.invariants,))
        self.world.on_commit += [self.account, self._written]
        self.world.on_end.append(self.invariants.forget)
        if faults:
            self._befall()

    def run(self) -> None:
        """Play it, then let all load cease and everything end."""
        world = self.world
        world.run_for(self.span_s)
        world.calm()
        world.set_calendar("day", True)
        world.set_calendar("freeze", False)
        for gate in ("history", "storage"):
            world.post(StartsHeld(gate, ""))
        quiet = {name: replace(job, enabled=False, after=()) for name, job in self.plan.jobs.items()}
        world.load(replace(self.plan, jobs=quiet), slots=8)
        for name in self.plan.jobs:
            world.post(ResumeRequested(name, "the test"))
        for _ in range(30 * 24):
            world.run_for(3600)
            if not self.invariants.open and not world.work.held:
                break
        self.invariants.at_rest()
        self.account.at_rest(world)

    @property
    def trace(self) -> str:
        """A digest of every record in order."""
        return self._trace.hexdigest()

    def _written(self, world, turn, now) -> None:
        for record in turn.records:
            run = record.run
            self._trace.update(f"{now.mono_s:.6f} {record.fact} {run and (run.run_id, run.attempt)}".encode())

    # --- the plan and its work --------------------------------------------------------------------------

    def _plan(self) -> Plan:
        jobs = [self._job(i) for i in range(self._random.randrange(3, 10))]
        return Plan(jobs={job.name: job for job in jobs}, resources={"db": 2, "gpu": 1}, calendars=CALENDARS)

    def _job(self, i: int) -> Job:
        r = self._random
        kinds = (
            Cron(r.choice(CRONS)),
            Cron(r.choice(CRONS)),
            Every(r.choice((91.0, 600.0, 900.0, 3600.0))),
            None,
            Boot(),
        )
        trigger = r.choice(kinds)
        window = Window(r.choice(("day", "freeze")), r.choice(list(During)))
        windowed = r.random() < 0.25
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
            uses=r.choice(({}, {}, {}, {"db": 1}, {"db": 2}, {"db": 1, "gpu": 1})),
            only_during=(window,) if windowed and window.calendar == "day" else (),
            not_during=(window,) if windowed and window.calendar == "freeze" else (),
            on_interrupted=r.choice(list(OnInterrupted)),
        )

    def _behave(self, run, job) -> Behaviour:
        # A function of seed, run and attempt: reordering one draw would otherwise change all later ones.
        r = random.Random(f"{self.seed}:{run.run_id}:{run.attempt}")
        kind = r.random()
        return Behaviour(
            duration_s=float("inf") if kind < 0.02 else r.expovariate(1 / r.choice((0.5, 10.0, 120.0))),
            exit_code=r.choice((0, 0, 0, 0, 1, 75)),
            start_failure="no such program" if 0.02 <= kind < 0.04 else None,
            start_shortages=r.randrange(1, 4) if 0.04 <= kind < 0.05 else 0,
            term_delay_s=None if r.random() < 0.1 else r.random(),
            start_delay_s=r.choice((0.0, 0.001, 0.5)),
        )

    # --- what befalls it --------------------------------------------------------------------------------

    def _befall(self) -> None:
        r = self._random
        kinds = (self._ask, self._ask, self._set_clock, self._break, self._break, self._close, self._reload)
        for _ in range(r.randrange(6, 40)):
            at_s = r.random() * self.span_s
            r.choice(kinds)(at_s, random.Random(r.getrandbits(64)))

    def _ask(self, at_s, r) -> None:
        """What people and programs want."""
        world, name = self.world, r.choice(list(self.plan.jobs))
        match r.randrange(4):
            case 0:
                world.at(at_s, lambda: world.post(PauseRequested(name, "ops")))
                world.at(at_s + r.random() * 3600, lambda: world.post(ResumeRequested(name, "ops")))
            case 1:
                world.at(at_s, lambda: self._cancel(r.random()))
            case 2:
                asked = Triggered(name, f"r{at_s}", "ops", {"n": "1"})
                world.at(at_s, lambda: world.post(asked))
                if r.random() < 0.3:  # asked again, as no answer came
                    world.at(at_s + r.random() * 60, lambda: world.post(asked))
            case _:
                self._asked += 1
                uses = r.choice(({"db": 1}, {"db": 2}, {"gpu": 1}, {"db": 1, "gpu": 1}))
                lease_id, span_s, wait_s = f"lease{self._asked}", r.expovariate(1 / 600), r.choice((None, 0.0, 60.0))
                world.at(at_s, lambda: self._hold(lease_id, uses, span_s, wait_s))

    def _set_clock(self, at_s, r) -> None:
        if r.random() < 0.5:
            by = timedelta(seconds=r.choice((-7200, -3600, -60, 60, 3600, 7200, 86400, -86400)))
            self.world.at(at_s, lambda: self.world.step_clock(by))
        else:
            span = timedelta(seconds=r.choice((60, 3600, 8 * 3600)))
            self.world.at(at_s, lambda: self.world.suspend(span))

    def _break(self, at_s, r) -> None:
        """The daemon, its keeper, its disk or its machine."""
        world, down_s, part = self.world, r.choice(DOWN_S), r.random()
        match r.randrange(9):
            case 0 | 1 | 2:
                where = r.choice(list(Death))
                meanwhile = r.choice((None, None, lambda: world.kill_keeper(1800 * part), self._leave_keeper))
                world.at(at_s, lambda: world.crash(where, down_s, meanwhile))
            case 3:
                world.at(at_s, lambda: world.kill_keeper(r.choice((0.0, 0.0, 600.0))))
            case 4:
                world.at(at_s, lambda: world.reboot(down_s))
            case 5:
                world.at(at_s, lambda: world.leave(down_s))
                world.at(at_s + down_s / 2, self._leave_keeper)
            case 6:
                world.at(at_s, lambda: world.drain(r.choice((0.0, 10.0, 600.0)), down_s))
            case 7:
                world.at(at_s, lambda: world.fill_disk(300 * part, r.choice((0.2, 100.0))))
                if part < 0.3:
                    world.at(at_s + 100 * part, lambda: world.crash(Death.BEFORE_COMMIT, down_s))
                elif part < 0.7:
                    world.at(at_s + 100 * part, world.kill_keeper)
            case _:
                world.at(at_s, lambda: world.post(StartsHeld("storage", "little space")))
                world.at(at_s + 600 * part, lambda: world.post(StartsHeld("storage", "")))

    def _close(self, at_s, r) -> None:
        """A calendar."""
        name, opens = r.choice(list(CALENDARS)), r.random() < 0.5
        self.world.at(at_s, lambda: self.world.set_calendar(name, opens))
        if r.random() < 0.7:
            self.world.at(at_s + r.random() * 7200, lambda: self.world.set_calendar(name, not opens))

    def _reload(self, at_s, r) -> None:
        name, pick = r.choice(list(self.plan.jobs)), r.random()
        self.world.at(at_s, lambda: self._load(name, pick))

    def _leave_keeper(self) -> None:
        if not self.world.up:
            self.work.leave()

    def _hold(self, lease_id, uses, span_s, wait_s) -> None:
        lease = Lease(lease_id=lease_id, uses=uses, holder="ops", asked_at=self.world.clock.wall())
        self.world.hold_lease(lease, span_s, wait_s)

    def _cancel(self, pick: float) -> None:
        runs = self.world.dispatcher.runs()
        if runs:
            self.world.post(CancelRequested(runs[int(pick * len(runs))].run_id, "ops"))

    def _load(self, name: str, pick: float) -> None:
        jobs = dict(self.plan.jobs)
        if pick < 0.3:
            del jobs[name]
        elif pick < 0.6:
            jobs[name] = replace(jobs[name], trigger=Every(30.0), enabled=True)
        resources = {"db": 1, "gpu": 1} if pick > 0.8 else self.plan.resources
        self.world.load(replace(self.plan, jobs=jobs, resources=resources), slots=1 + int(pick * 8))
