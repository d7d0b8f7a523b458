"""`python -m tests.bench.pool.virtual`: the laws of the pool on a machine that exists only as arithmetic, against the
best fixed size and a naive rule. Seconds for what takes an hour; what holds here is then tried on a real machine.

The machine shares its cores evenly among all threads that want one (processor sharing), and its memory is what its runs
and its neighbour leave. The controller, estimator, watch and tiers are the daemon's own.
"""

import itertools
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, Protocol

from msgspec import Struct

from tidegate.engine.backfill import Ending, may_pass
from tidegate.engine.controller import Controller, Load
from tidegate.engine.estimate import Estimator, Prediction, Used
from tidegate.engine.fresh import Fresh
from tidegate.engine.memory import MemoryWatch
from tidegate.engine.tiers import MemoryRetries, Runner, Tiers
from tidegate.model.pool import GIB, MIB, PoolSettings

SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SPAWN: Final = (("wait", 0.004), ("cpu", 0.002))  # what a start costs
CRAWL_BYTES: Final = 20 * MIB  # of a process that has just begun
LOOK_S: Final = 0.02  # how often the machine is asked whether memory is gone
LOOKAHEAD: Final = 50  # held runs that others are looked for behind
HORIZON_S: Final = 4 * 3600.0  # whatever has not ended then never does


class Work(Struct, frozen=True, kw_only=True):
    """One run: phases of wanting a core and of waiting for something else; memory that rises to its peak."""

    key: str
    phases: tuple[tuple[str, float], ...]
    peak_bytes: int = CRAWL_BYTES
    ramp_bytes_per_s: float = inf
    priority: int = 0
    at_s: float = 0.0  # when it is fired


class Neighbour(Struct, frozen=True):
    """What others take, from `at_s` on."""

    at_s: float
    threads: int = 0
    bytes: int = 0


class Law(Protocol):
    """How many at once."""

    limit: int

    def step(self, look: Load, now_s: float) -> object:
        """Readings of the last half second."""


class Fixed:
    """A pool of a fixed size."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def step(self, look: Load, now_s: float) -> None:
        """It looks at nothing."""


class Naive:
    """What many pools do: shrink above 80 % CPU, grow below 60 %, once a second."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._looks: list[float] = []

    def step(self, look: Load, now_s: float) -> None:
        """One look in two is acted upon, on the mean of both."""
        self._looks.append(look.busy_ratio or 0.0)
        if len(self._looks) == 2:
            busy = sum(self._looks) / 2
            self._looks.clear()
            if busy > 0.8:
                self.limit = max(1, self.limit - 1)
            elif busy < 0.6:
                self.limit += 1


class Active:
    """A run that has begun."""

    def __init__(self, work: Work, number: int, prediction: Prediction, now_s: float) -> None:
        self.work = work
        self.number = number
        self.run_id = f"r{number}"
        self.prediction = prediction
        self.began_s = now_s
        self.phase = -1
        self.cpu_s = 0.0
        self.cpu_since = 0.0  # service received by each thread when its CPU phase began
        self.frozen_since_s: float | None = None
        self.frozen_s = 0.0
        self.left_s = 0.0  # of the wait in which it was frozen
        self.alone = False
        self.seen_bytes = 0  # at the last look: what is available was read then too

    def bytes(self, now_s: float) -> int:
        """Memory it holds."""
        until_s = now_s if self.frozen_since_s is None else self.frozen_since_s
        age_s = max(0.0, until_s - self.began_s - self.frozen_s)
        work = self.work
        if work.ramp_bytes_per_s == inf:
            return work.peak_bytes
        return int(min(work.peak_bytes, CRAWL_BYTES + work.ramp_bytes_per_s * age_s))

    def growing(self, now_s: float) -> float:
        """Bytes a second."""
        if self.frozen_since_s is not None or self.bytes(now_s) >= self.work.peak_bytes:
            return 0.0
        return self.work.ramp_bytes_per_s


class Outcome(Struct):
    """What came of it."""

    makespan_s: float = 0.0
    ended: int = 0
    failed: int = 0
    oom_kills: int = 0
    kills: int = 0
    freezes: int = 0
    worked_s: float = 0.0
    wasted_s: float = 0.0
    waits_s: dict[str, float] = {}  # the longest, by key
    limits: list[tuple[float, int]] = []
    used: list[tuple[float, int]] = []

    @property
    def turns(self) -> int:
        """Changes of direction of the limit."""
        return turns(self.limits)

    @property
    def wasted(self) -> float:
        """Share of the work that had to be done again."""
        return self.wasted_s / self.worked_s if self.worked_s else 0.0


class Machine:
    """Runs a load under a law, from an empty machine to the last end."""

    def __init__(
        self,
        law: Law,
        cores: float,
        *,
        memory_bytes: int = 64 * GIB,
        base_bytes: int = GIB,
        settings: PoolSettings | None = None,
        estimator: Estimator | None = None,
        guarded: bool = True,
        neighbours: Sequence[Neighbour] = (),
        seed: int = 1,
    ) -> None:
        self.law, self.cores = law, cores
        self.settings = settings or PoolSettings()
        self.memory_bytes, self.base_bytes = memory_bytes, base_bytes
        self.estimator = estimator or Estimator(self.settings)
        self.guarded = guarded  # False: memory is looked at by nobody but the kernel
        self.watch, self.tiers = MemoryWatch(self.settings), Tiers(self.settings)
        self.retries, self.fresh = MemoryRetries(self.settings), Fresh(self.settings.fresh_s)
        self.out = Outcome(limits=[], used=[], waits_s={})
        self.now_s = 0.0
        self.noise = random.Random(seed)
        self.until_s = HORIZON_S
        self._neighbours = deque(sorted(neighbours, key=lambda each: each.at_s))
        self._foreign = Neighbour(0.0)
        self._queue: list[tuple[int, float, int, Work]] = []  # -priority, since, number
        self._later: list[tuple[float, int, Work]] = []
        self._running: dict[int, Active] = {}
        self._canaries: dict[str, tuple[int, float]] = {}
        self._kills: Counter[int] = Counter()
        self._alone: set[int] = set()
        self._service = 0.0  # CPU seconds that each thread has had since the beginning
        self._cpu: list[tuple[float, int]] = []  # service at which its phase ends
        self._waits: list[tuple[float, int]] = []
        self._threads = 0
        self._busy_s = self._foreign_s = self._wanted_s = 0.0  # since the last step
        self._counts: deque[float] = deque(maxlen=max(1, round(self.settings.fresh_s / self.settings.runnable_s)))
        self._stale = True
        self._held_back = 0  # of the queue: they wait for memory, not for a slot

    # --- the machine ----------------------------------------------------------------------------------

    def run(self, load: Sequence[Work], until_s: float = HORIZON_S) -> Outcome:
        """All of it, or as far as `until_s`."""
        for number, work in enumerate(load):
            heappush(self._later, (work.at_s, number, work))
        next_count_s, next_step_s, next_look_s = self.settings.runnable_s, self.settings.interval_s, 0.0
        next_check_s = LOOK_S if self.memory_bytes < 64 * GIB else inf
        while (self._later or self._queue or self._running) and self.now_s < until_s:
            at_s = min(next_count_s, next_step_s, next_look_s, next_check_s, self._next_end(), until_s)
            if self._later:
                at_s = min(at_s, self._later[0][0])
            if self._neighbours:
                at_s = min(at_s, self._neighbours[0].at_s)
            self._advance(max(at_s, self.now_s))
            self._arrive()
            self._ends()
            if self.now_s >= next_check_s:
                self._kernel()
                next_check_s = self.now_s + LOOK_S
            if self.now_s >= next_count_s:
                self._counts.append(self._threads + self._foreign.threads)
                next_count_s += self.settings.runnable_s
            if self.now_s >= next_look_s:
                next_look_s = self.now_s + self._look()
            if self.now_s >= next_step_s:
                self._step()
                next_step_s += self.settings.interval_s
            if self._stale:
                self._admit()
        self.out.makespan_s = self.now_s
        return self.out

    def _rate(self) -> float:
        wanted = self._threads + self._foreign.threads
        return min(1.0, self.cores / wanted) if wanted else 1.0

    def _next_end(self) -> float:
        wait_s = self._waits[0][0] if self._waits else inf
        cpu_s = self.now_s + max(0.0, self._cpu[0][0] - self._service) / self._rate() if self._cpu else inf
        return min(wait_s, cpu_s)

    def _advance(self, at_s: float) -> None:
        span_s, rate = at_s - self.now_s, self._rate()
        self._service += span_s * rate
        self._busy_s += span_s * rate * (self._threads + self._foreign.threads)
        self._foreign_s += span_s * rate * self._foreign.threads
        self._wanted_s += span_s * self._threads
        self.now_s = at_s

    def _arrive(self) -> None:
        while self._neighbours and self._neighbours[0].at_s <= self.now_s:
            self._foreign = self._neighbours.popleft()
        while self._later and self._later[0][0] <= self.now_s:
            _, number, work = heappop(self._later)
            self._push(number, work)

    def _push(self, number: int, work: Work) -> None:
        heappush(self._queue, (-work.priority, self.now_s, number, work))
        self._stale = True

    def _ends(self) -> None:
        while True:
            if self._cpu and self._cpu[0][0] <= self._service + 1e-9:
                number = heappop(self._cpu)[1]
                self._threads -= 1
            elif self._waits and self._waits[0][0] <= self.now_s + 1e-9:
                number = heappop(self._waits)[1]
            else:
                return
            self._next_phase(self._running[number])

    def _next_phase(self, run: Active) -> None:
        phases = SPAWN + run.work.phases
        if run.phase >= 0 and phases[run.phase][0] == "cpu":
            run.cpu_s += phases[run.phase][1]
        run.phase += 1
        if run.phase == len(phases):
            self._end(run)
            return
        kind, span_s = phases[run.phase]
        if kind == "cpu":
            heappush(self._cpu, (self._service + span_s, run.number))
            self._threads += 1
        else:
            heappush(self._waits, (self.now_s + span_s, run.number))

    # --- runs -----------------------------------------------------------------------------------------

    def _admit(self) -> None:
        self._stale = False
        held: list[tuple[int, float, int, Work]] = []
        while self._queue and len(self._running) < self.law.limit and len(held) < LOOKAHEAD:
            entry = heappop(self._queue)
            if self.guarded and self._held(entry, held):
                held.append(entry)
                if not self._running:
                    break
            else:
                self._begin(entry)
        self._held_back = len(held)
        for entry in held:
            heappush(self._queue, entry)

    def _held(self, entry: tuple[int, float, int, Work], before: list[tuple[int, float, int, Work]]) -> bool:
        work, number = entry[3], entry[2]
        if not self._running:
            return self.watch.admits(0, 0, 0) is not None
        if number in self._alone or any(run.alone for run in self._running.values()):
            return True
        if any(each[2] in self._alone for each in before):
            return True
        need = self._predict(work)
        canary = self._canaries.get(work.key)
        if not need.known and canary is not None and self.now_s - canary[1] < self.settings.canary_s:
            return True
        if self.watch.admits(need.bytes, self._reserved(), len(self._running)) is not None:
            return True
        if not before or self.now_s - before[0][1] <= self.settings.backfill_after_s:
            return False
        room = (self.watch.available_bytes or 0) - self.watch.reserve_bytes - self._reserved()
        endings = []
        for run in self._running.values():
            took_s = self.estimator.predict_duration(run.work.key)
            ends_s = None if took_s is None else run.began_s + took_s
            endings.append(Ending(ends_s, max(run.prediction.bytes, run.seen_bytes)))
        took_s = self.estimator.predict_duration(work.key)
        return not may_pass(self._predict(before[0][3]).bytes, room, endings, need.bytes, took_s, self.now_s)

    def _predict(self, work: Work) -> Prediction:
        return self.estimator.predict_memory(work.key, None, self.memory_bytes)

    def _reserved(self) -> int:
        total = 0
        for run in self._running.values():
            peak = self.estimator.in_flight(run.work.key, run.prediction, run.seen_bytes)
            total += max(0, peak - run.seen_bytes)
        return total

    def _begin(self, entry: tuple[int, float, int, Work]) -> None:
        _, since_s, number, work = entry
        need = self._predict(work)
        run = Active(work, number, need, self.now_s)
        run.alone = number in self._alone
        self.out.waits_s[work.key] = max(self.out.waits_s.get(work.key, 0.0), self.now_s - since_s)
        self._running[number] = run
        if not need.known:
            self._canaries.setdefault(work.key, (number, self.now_s))
        self.fresh.started(run.run_id, self.estimator.predict_cpu(work.key, None), self.now_s)
        self._next_phase(run)

    def _leave(self, run: Active) -> float:
        """It is gone; how long it worked."""
        del self._running[run.number]
        self.fresh.ended(run.run_id, self.now_s)
        if self._canaries.get(run.work.key, (-1, 0.0))[0] == run.number:
            del self._canaries[run.work.key]
        self._alone.discard(run.number)
        self._stale = True
        frozen_s = run.frozen_s + (0.0 if run.frozen_since_s is None else self.now_s - run.frozen_since_s)
        worked_s = max(1e-6, self.now_s - run.began_s - frozen_s)
        self.out.worked_s += worked_s
        return worked_s

    def _end(self, run: Active) -> None:
        worked_s = self._leave(run)
        self.out.ended += 1
        self.estimator.finished(run.work.key, Used(worked_s, run.cpu_s, run.bytes(self.now_s)))

    def _kill(self, run: Active) -> None:
        self._unplan(run)
        peak = run.bytes(self.now_s)
        self.out.wasted_s += self._leave(run)
        self.estimator.finished(run.work.key, Used(None, None, peak, True))
        self._kills[run.number] += 1
        retry = self.retries.next(self._kills[run.number])
        if retry is None:
            self.out.failed += 1
            return
        if retry.alone:
            self._alone.add(run.number)
        heappush(self._later, (self.now_s + retry.delay_s, run.number, run.work))

    def _unplan(self, run: Active) -> float:
        """Take it out of the plan; what is left of its wait."""
        for at_s, number in self._waits:
            if number == run.number:
                self._waits = [each for each in self._waits if each[1] != run.number]
                heapify(self._waits)
                return at_s - self.now_s
        if any(number == run.number for _, number in self._cpu):
            self._cpu = [each for each in self._cpu if each[1] != run.number]
            heapify(self._cpu)
            self._threads -= 1
        return run.left_s

    # --- what is looked at ------------------------------------------------------------------------------

    def _available(self) -> int:
        used = self.base_bytes + self._foreign.bytes + sum(run.bytes(self.now_s) for run in self._running.values())
        return self.memory_bytes - used

    def _kernel(self) -> None:
        """Out of memory: the kernel kills the largest."""
        while self._running and self._available() <= 0:
            self.out.oom_kills += 1
            self._kill(max(self._running.values(), key=lambda run: run.bytes(self.now_s)))

    def _look(self) -> float:
        if not self.guarded:
            return inf
        for run in self._running.values():
            run.seen_bytes = run.bytes(self.now_s)
        foreseen = sum(min(run.bytes(self.now_s), run.prediction.bytes) for run in self._running.values())
        self.watch.look(self._available(), self.memory_bytes, 0.0, self.now_s, self._reserved(), foreseen)
        if self._queue:
            self._stale = True
        if self.watch.tier > 1 or any(run.frozen_since_s is not None for run in self._running.values()):
            self._act()
        return self.watch.next_look_s() or inf

    def _act(self) -> None:
        runners = [
            Runner(
                run_id=run.run_id,
                priority=run.work.priority,
                started_mono_s=run.began_s,
                present_bytes=run.bytes(self.now_s),
                growth_bytes_per_s=run.growing(self.now_s),
                predicted_bytes=run.prediction.bytes,
                retriable=True,
                frozen_since_mono_s=run.frozen_since_s,
            )
            for run in self._running.values()
        ]
        act = self.tiers.decide(runners, self.watch, self.now_s)
        if act is None:
            return
        run = self._running[int(act.run_id[1:])]
        if act.kind == "kill":
            self.out.kills += 1
            self._kill(run)
        elif act.kind == "freeze":
            self.out.freezes += 1
            run.left_s, run.frozen_since_s = self._unplan(run), self.now_s
        else:
            run.frozen_s += self.now_s - (run.frozen_since_s or self.now_s)
            run.frozen_since_s = None
            heappush(self._waits, (self.now_s + run.left_s, run.number))

    def _step(self) -> None:
        span_s, cores = self.settings.interval_s, self.cores
        look = Load(
            cores=cores,
            load_ratio=sum(self._counts) / len(self._counts) / cores if self._counts else None,
            busy_ratio=min(1.0, self._busy_s / span_s / cores),
            foreign_cores=self._foreign_s / span_s,
            wanted_cores=self._wanted_s / span_s,
            io_full_ratio=None,
            running=len(self._running),
            queued=max(0, len(self._queue) - self._held_back) if self._held_back < LOOKAHEAD else 0,
            fresh_cores=self.fresh.cores(self.now_s),
            memory_calm=self.watch.calm,
        )
        self._busy_s = self._foreign_s = self._wanted_s = 0.0
        before = self.law.limit
        self.law.step(look, self.now_s)
        if self.law.limit != before:
            self._stale = True
        self.out.limits.append((self.now_s, self.law.limit))
        self.out.used.append((self.now_s, len(self._running)))


def turns(limits: Sequence[tuple[float, int]]) -> int:
    """How often a rise is followed by a fall, or a fall by a rise."""
    count, direction = 0, 0
    for (_, before), (_, after) in itertools.pairwise(limits):
        if after != before:
            now = 1 if after > before else -1
            count += direction == -now
            direction = now
    return count


def settled_s(limits: Sequence[tuple[float, int]], since_s: float, until_s: float, slack: float = 0.25) -> float:
    """Seconds after `since_s` from which on the limit stays within `slack` of its median up to `until_s`."""
    part = [(at_s, limit) for at_s, limit in limits if since_s < at_s <= until_s]
    final = sorted(limit for _, limit in part[len(part) // 2 :])[len(part[len(part) // 2 :]) // 2]
    late = [at_s for at_s, limit in part if abs(limit - final) > max(1, slack * final)]
    return max(late, default=since_s) - since_s


# --- the loads ----------------------------------------------------------------------------------------------


def cpu_jobs(count: int = 200, span_s: float = 0.5, seed: int = 7) -> list[Work]:
    """Each wants a core all the time."""
    chance = random.Random(seed)
    return [Work(key="cpu", phases=(("cpu", span_s * chance.uniform(0.9, 1.1)),)) for _ in range(count)]


def sleepers(count: int = 1000, span_s: float = 1.0, seed: int = 7) -> list[Work]:
    """Each only waits."""
    chance = random.Random(seed)
    return [Work(key="sleep", phases=(("wait", span_s * chance.uniform(0.95, 1.05)),)) for _ in range(count)]


def mixed(count: int = 400, span_s: float = 1.0, share: float = 0.2, parts: int = 5, seed: int = 7) -> list[Work]:
    """Each waits and computes by turns, one fifth of its time."""
    chance = random.Random(seed)

    def one() -> Work:
        phases: list[tuple[str, float]] = []
        for _ in range(parts):
            phases.append(("wait", span_s * (1 - share) / parts * chance.uniform(0.5, 1.5)))
            phases.append(("cpu", span_s * share / parts * chance.uniform(0.5, 1.5)))
        return Work(key="mixed", phases=tuple(phases))

    return [one() for _ in range(count)]


def hogs(count: int = 60, seed: int = 7, scale: float = 1.0) -> list[Work]:
    """0.2 to 6 GiB, at up to 1 GiB a second, then some seconds at the peak."""
    chance = random.Random(seed)

    def one(number: int) -> Work:
        peak = int(chance.uniform(0.2, 6.0) * GIB * scale)
        ramp = chance.uniform(0.2, 1.0) * GIB * scale
        return Work(
            key=f"hog{number}",
            phases=(("wait", peak / ramp + chance.uniform(1.0, 4.0)),),
            peak_bytes=peak,
            ramp_bytes_per_s=ramp,
        )

    return [one(number) for number in range(count)]


# --- the judge ----------------------------------------------------------------------------------------------


class Verdict(Struct):
    """One load on one machine."""

    name: str
    cores: float
    ours: Outcome
    oracle_s: float
    oracle_size: int
    naive_s: float


def judge(name: str, load: Sequence[Work], cores: float, sizes: Sequence[int] = SIZES) -> Verdict:
    """Ours beside the best fixed size and the naive rule."""
    ours = Machine(Controller(PoolSettings(), cores), cores).run(load)
    fixed = {size: Machine(Fixed(size), cores, guarded=False).run(load).makespan_s for size in sizes}
    best = min(fixed, key=lambda size: (round(fixed[size], 3), size))
    naive = Machine(Naive(max(1, int(cores))), cores, guarded=False).run(load).makespan_s
    return Verdict(name, cores, ours, fixed[best], best, naive)


def hog_rounds(
    memory_bytes: int = 16 * GIB, cores: float = 8, sizes: Sequence[int] = SIZES, seed: int = 7
) -> tuple[Outcome, Outcome, float]:
    """60 hogs cold, then warm, and the time of the best fixed size under which the kernel kills none."""
    settings, load = PoolSettings(), hogs(seed=seed, scale=memory_bytes / (16 * GIB))
    estimator = Estimator(settings)
    cold, warm = (
        Machine(Controller(settings, cores), cores, memory_bytes=memory_bytes, estimator=estimator).run(load)
        for _ in range(2)
    )
    best_s = inf
    for size in sizes:
        found = hogs_unguarded(size, memory_bytes, cores, seed)
        if not found.oom_kills:
            best_s = min(best_s, found.makespan_s)
    return cold, warm, best_s


def hogs_unguarded(size: int, memory_bytes: int = 16 * GIB, cores: float = 8, seed: int = 7) -> Outcome:
    """The same under a fixed size, with nobody but the kernel to look after memory."""
    load = hogs(seed=seed, scale=memory_bytes / (16 * GIB))
    return Machine(Fixed(size), cores, memory_bytes=memory_bytes, guarded=False).run(load)


LOADS: Final[dict[str, Callable[[], list[Work]]]] = {
    "200 × 0.5 s of CPU": cpu_jobs,
    "1000 × 1 s of sleep": sleepers,
    "mixed, 80 % wait": mixed,
}


def main() -> int:
    """The table."""
    print(f"{'load':<22}{'cores':>6}{'ours s':>9}{'oracle s':>10}{'size':>6}{'×':>7}{'naive ×':>9}{'turns/min':>11}")
    for cores in (1, 2, 4, 8, 16):
        for name, load in LOADS.items():
            found = judge(name, load(), cores)
            ours_s = found.ours.makespan_s
            print(
                f"{name:<22}{cores:>6}{ours_s:>9.1f}{found.oracle_s:>10.1f}{found.oracle_size:>6}"
                f"{ours_s / found.oracle_s:>7.3f}{found.naive_s / ours_s:>9.2f}{found.ours.turns * 60 / ours_s:>11.1f}"
            )
    cold, warm, best_s = hog_rounds()
    for name, out in (("hogs, cold", cold), ("hogs, warm", warm)):
        tail = f"{out.freezes} frozen, {out.wasted:.1%} wasted, {out.failed} failed"
        print(
            f"{name:<22}{8:>6}{out.makespan_s:>9.1f}{best_s:>10.1f}{'':>6}{out.makespan_s / best_s:>7.3f}"
            f"  {out.oom_kills} killed by the kernel, {out.kills} by us, {tail}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
