"""Histories under pressure: the engine on a machine with cores and memory that are numbers, and that kills what takes
more memory than there is. Runs ramp up, hold, and end; a neighbour comes and goes. In virtual time, 50 ms a step.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Acknowledge, Command, Fact, Freeze, Record, RetireIdle, SignalTree, Start, Thaw
from tidegate.model.event import Event, Exited, Fired, Now, PlanLoaded, RunsUsed, RunUse, Sensed, Started
from tidegate.model.job import Job, Overlap, Retries
from tidegate.model.plan import Plan
from tidegate.model.run import Run, Usage
from tidegate.model.sample import Sample

STEP_S: Final = 0.05
EPOCH: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MIB: Final = 1 << 20
GIB: Final = 1 << 30


class Kind(Struct, frozen=True):
    """How the runs of one job go."""

    peak_bytes: int
    ramp_bytes_per_s: float
    work_s: float  # of a core each, if `busy`; else of waiting
    busy: bool


class Going(Struct):
    """A run that has a process."""

    run: Run
    kind: Kind
    peak_bytes: int
    memory_bytes: float = 0.0
    done_s: float = 0.0
    age_s: float = 0.0
    killed: bool = False
    frozen: bool = False


class Machine:
    """Cores, memory, a neighbour; and the daemon's engine on it."""

    def __init__(self, seed: int, kinds: dict[str, Kind], jobs: dict[str, Job], cores: int, limit_bytes: int) -> None:
        self.random = random.Random(seed)
        self.kinds, self.cores, self.limit_bytes = kinds, cores, limit_bytes
        self.neighbour_bytes, self.neighbour_cores = 0.0, 0.0
        self.now_s = 0.0
        self.dispatcher = Dispatcher(salt=seed & 0xFFFF)
        self.going: dict[tuple[str, int], Going] = {}
        self.finished: list[Run] = []
        self.oom_kills = self.lone_kills = self.evictions = self.freezes = 0
        self.wasted_s = self.useful_s = 0.0
        self.limits: list[tuple[float, int]] = []
        self._busy: list[float] = []  # runnable threads, by step
        self._used: list[float] = []  # cores in use, by step
        self._own: list[float] = []
        self._looked_s = self._sampled_s = 0.0
        self._inbox: list[Event] = [PlanLoaded(Plan(jobs=jobs), cores=float(cores)), self._look()]

    # --- time ---------------------------------------------------------------------------------------

    def fire(self, job: str) -> None:
        """It is due now."""
        self._inbox.append(Fired(job, (self._wall(),)))

    def step(self) -> None:
        """50 ms."""
        self.now_s += STEP_S
        self._work()
        self._fill()
        look_s = self.dispatcher.pressure.look_s()
        if look_s is not None and self.now_s - self._sampled_s >= 0.5:
            self._sampled_s = self._looked_s = self.now_s
            pressure = self.dispatcher.pressure
            self._inbox += [self._uses(pressure.memory_moves or pressure.waits_for_memory), self._look(self._sample())]
        elif look_s is not None and self.now_s - self._looked_s >= look_s - 1e-9:
            self._looked_s = self.now_s
            self._inbox += [self._uses(True), self._look()] if self.dispatcher.pressure.memory_moves else [self._look()]
        deadline_s = self.dispatcher.next_deadline()
        while self._inbox or (deadline_s is not None and deadline_s <= self.now_s):
            events, self._inbox = self._inbox, []
            self._do(self.dispatcher.handle(events, Now(self._wall(), self.now_s)))
            deadline_s = self.dispatcher.next_deadline()

    def _wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now_s)

    # --- what the machine does ------------------------------------------------------------------------

    def _work(self) -> None:
        moving = [each for each in self.going.values() if not each.frozen]
        busy = [each for each in moving if each.kind.busy]
        wanted = len(busy) + self.neighbour_cores
        share = min(1.0, self.cores / wanted) if wanted else 1.0
        self._busy.append(wanted)
        self._used.append(min(float(self.cores), wanted))
        self._own.append(len(busy) * share)
        for each in moving:
            each.age_s += STEP_S
            each.done_s += STEP_S * (share if each.kind.busy else 1.0)
            each.memory_bytes = min(each.peak_bytes, each.memory_bytes + each.kind.ramp_bytes_per_s * STEP_S)
        for key, each in list(self.going.items()):
            if each.killed or each.done_s >= each.kind.work_s:
                self._end(key, each, 9 if each.killed else None)

    def _fill(self) -> None:
        """The kernel kills the largest when nothing is left."""
        while self.going and self._available() <= 0:
            key = max(self.going, key=lambda each: self.going[each].memory_bytes)
            left = self.limit_bytes - self.neighbour_bytes - self.going[key].memory_bytes
            if left > 0.05 * self.limit_bytes:
                self.oom_kills += 1
            else:  # it alone does not fit beside the neighbour: nobody can help it
                self.lone_kills += 1
            self._end(key, self.going[key], 9)

    def _available(self) -> float:
        return self.limit_bytes - self.neighbour_bytes - sum(each.memory_bytes for each in self.going.values())

    def _end(self, key: tuple[str, int], each: Going, signal: int | None) -> None:
        del self.going[key]
        if signal is None:
            self.useful_s += each.done_s
        else:
            self.wasted_s += each.done_s
        usage = Usage(cpu_s=each.done_s if each.kind.busy else 0.0, memory_peak_bytes=int(each.memory_bytes))
        self._inbox.append(Exited(*key, None if signal else 0, signal, usage, each.age_s))

    # --- what is seen of it ---------------------------------------------------------------------------

    def _look(self, sample: Sample | None = None) -> Sensed:
        return Sensed(max(0, int(self._available())), self.limit_bytes, sample)

    def _uses(self, afresh: bool) -> RunsUsed:
        return RunsUsed(tuple(RunUse(*key, int(each.memory_bytes)) for key, each in self.going.items()), afresh)

    def _sample(self) -> Sample:
        def mean(values: list[float], seconds: float) -> float:
            last = values[-round(seconds / STEP_S) :]
            return sum(last) / len(last)

        runnable = mean(self._busy, 1.0) + self.random.uniform(-0.2, 0.2)  # ten looks a second are not exact
        fields = dict.fromkeys(Sample.__struct_fields__)
        fields |= {
            "at": self._wall(),
            "at_s": self.now_s,
            "interval_s": 0.5,
            "cores": float(self.cores),
            "cpus": self.cores,
            "load_ratio": max(0.0, runnable) / self.cores,
            "load_source": "runnable",
            "busy_ratio": mean(self._used, 0.5) / self.cores,
            "foreign_cores": max(0.0, mean(self._used, 0.5) - mean(self._own, 0.5)),
            "pressure_of": "machine",
        }
        return Sample(**fields)

    # --- what the daemon does ---------------------------------------------------------------------------

    def _do(self, commands: list[Command]) -> None:
        first = self._first()
        for command in commands:
            match command:
                case Start(run, job):
                    kind = self.kinds[job.name]
                    peak = int(kind.peak_bytes * self.random.uniform(0.8, 1.1))
                    self.going[run.run_id, run.attempt] = Going(run, kind, peak)
                    self._inbox.append(Started(run.run_id, run.attempt, 100))
                case SignalTree():
                    self._of(command).killed = True
                case Freeze():
                    assert command.run_id != first, "the oldest of the highest priority was frozen"
                    self.freezes += 1
                    self._of(command).frozen = True
                case Thaw():
                    self._of(command).frozen = False
                case Record():
                    self._note(command, first)
                case Acknowledge() | RetireIdle():
                    pass

    def _of(self, command: SignalTree | Freeze | Thaw) -> Going:
        return self.going[command.run_id, command.attempt]

    def _first(self) -> str:
        ranked = [(live.job.priority, -live.taken_mono_s, live.run.run_id) for live in self.dispatcher._runs.active()]
        return max(ranked, default=(0, 0.0, ""))[2]

    def _note(self, record: Record, first: str) -> None:
        match record.fact:
            case Fact.RUN_FINISHED:
                assert record.run is not None
                self.finished.append(record.run)
            case Fact.RUN_EVICTED:
                assert record.run is not None
                assert record.run.run_id != first, "the oldest of the highest priority was killed"
                self.evictions += 1
            case Fact.POOL_RESIZED:
                assert record.resize is not None
                self.limits.append((self.now_s, record.resize.after))
            case _:
                pass


def machine(seed: int) -> tuple[Machine, Iterator[str]]:
    """A machine and a night of work for it, from one seed."""
    rng = random.Random(seed)
    cores = rng.choice([1, 2, 4, 8])
    limit = rng.choice([512 * MIB, 2 * GIB, 8 * GIB, 16 * GIB])
    kinds, jobs = {}, {}
    for index in range(rng.randint(1, 8)):
        name = f"job{index}"
        peak = int(limit * rng.choice([0.01, 0.05, 0.2, 0.5]))
        # At most a GiB a second, and no more than a tenth of the machine: faster than that no brake is.
        ramp = min(GIB, limit / 10) * rng.uniform(0.02, 1.0)
        kinds[name] = Kind(peak, ramp, rng.uniform(0.5, 20.0), rng.random() < 0.5)
        hint = peak if rng.random() < 0.3 else None
        jobs[name] = Job(
            name=name,
            command=("work",),
            overlap=Overlap.ALLOW,
            priority=rng.randint(-2, 2),
            memory_bytes=hint,
            retries=Retries(max=rng.randint(0, 1)),
        )
    names = list(jobs)
    return Machine(seed, kinds, jobs, cores, limit), iter(rng.choices(names, k=rng.randint(5, 60)))


def play(seed: int, seconds: float = 3600.0) -> Machine:
    """One night, until all has ended. A neighbour takes a part of the machine for a while."""
    world, work = machine(seed)
    rng = random.Random(seed + 1)
    comes_s, goes_s = rng.uniform(5, 30), rng.uniform(40, 90)
    wants = rng.choice([0.0, 0.0, 0.3, 0.6]) * world.limit_bytes
    fired = 0
    while world.now_s < seconds:
        if world.now_s < 30 and rng.random() < 0.2:
            for _ in range(rng.choice([1, 1, 5])):
                name = next(work, None)
                if name is not None:
                    world.fire(name)
                    fired += 1
        here = comes_s <= world.now_s < goes_s
        world.neighbour_cores = 2.0 if here else 0.0
        target = wants if here else 0.0
        most = min(GIB, world.limit_bytes / 20) * STEP_S
        world.neighbour_bytes += max(-most * 4, min(most, target - world.neighbour_bytes))
        world.step()
        assert world.dispatcher.counts().limit >= 1
        if world.now_s > 100 and not world.dispatcher.runs():
            break
    assert not world.dispatcher.runs(), f"seed {seed}: never ended: {world.dispatcher.runs()[:3]}"
    assert len(world.finished) == fired, f"seed {seed}: {fired} fires, {len(world.finished)} ends"
    return world
