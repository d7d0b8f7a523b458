"""[pool], key by key: each is written into a tidegate.toml, and whoever reads it then does something else.

A scenario is a function from settings to what came of them: the smallest thing that reads the key, or several of them
where it is read in several places.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import pytest
from engine_bench import job, starts
from test_controller import CROWDED, FULL, IDLE, Steps
from test_engine_memory import Machine, hungry
from test_pool_holdings import Pool as Tasks
from test_sensing import World, exits
from test_tiers import GONE, SHORT, THREE, runner
from test_tiers import watch as falling

from tidegate.cli.simulate import machine_of
from tidegate.engine.controller import Controller
from tidegate.engine.estimate import Basis, Estimator, Prediction, Used
from tidegate.engine.memory import MemoryWatch
from tidegate.engine.tiers import MemoryRetries, Runner, Tiers
from tidegate.model.event import PlanLoaded
from tidegate.model.job import Job, Overlap
from tidegate.model.plan import Plan
from tidegate.model.pool import GIB, MIB, PoolSettings
from tidegate.pool.gauge import Gauge
from tidegate.pool.minder import Minder
from tidegate.settings.read import load
from tidegate.settings.resolve_pool import key_of
from tidegate.simulate.replay import Capacity, borne_cores
from tidegate.supervisor import sensing

# --- CPU and disk: a controller whose looks are half a second apart, on two cores unless it says otherwise --------

SLIGHT: Final = {"load_ratio": 1.8, "busy_ratio": 1.0}  # too much, but not clearly
BURSTS: Final = {"load_ratio": 1.4, "busy_ratio": 0.8}  # threads wait although cores idle


def steps(pool: PoolSettings, limit: int = 16, cores: float = 2.0) -> Steps:
    """A limit that was never too high."""
    step = Steps(Controller(pool, cores))
    step.controller.limit = limit
    return step


def limits(step: Steps, *seen: dict[str, Any], **same: Any) -> list[int]:
    """The limit after each of these looks."""
    return [step(**same | each) for each in seen]


def one_look(pool: PoolSettings, **seen: Any) -> int:
    """The limit after one look at what begins with 2."""
    return steps(pool, 2)(**seen)


def two_looks(pool: PoolSettings, **seen: Any) -> int:
    """… and after two at 16 runs that want far more than the cores."""
    return steps(pool)(2, **CROWDED | {"running": 16} | seen)


def was_far_too_high(pool: PoolSettings) -> Steps:
    """A limit of 8, after 16 was too high."""
    step = steps(pool)
    assert step(2, **CROWDED, running=16) == 8
    return step


def was_a_little_too_high(pool: PoolSettings) -> Steps:
    """A limit of 15, after 16 was."""
    step = steps(pool)
    looks_until(step, 15, **SLIGHT, running=16)
    return step


def looks_until(step: Steps, limit: int, pause_s: float = 0.0, **seen: Any) -> int | None:
    """How many looks it takes until the limit is this one; None: more than two hundred."""
    for count in range(1, 200):
        step.now_s += pause_s
        if step(**seen) == limit:
            return count
    return None


def second_tries_s(pool: PoolSettings) -> list[float]:
    """After how long 16 is tried again, when it proved too high once, twice, three times."""
    step, found = steps(pool), []
    for _ in range(3):
        looks_until(step, 15, **SLIGHT, running=16)
        found.append((looks_until(step, 16) or 0) / 2)
    return found


def put_down_to(pool: PoolSettings, cores: float, foreign_cores: float) -> str:
    """The reason of a decrease, where others use so many cores."""
    step, running = steps(pool, int(4 * cores), cores), int(4 * cores)
    step(2, cores=cores, load_ratio=9.0, busy_ratio=1.0, running=running, foreign_cores=foreign_cores)
    return step.changes[0].reason_word


def reloaded(pool: PoolSettings, step: Steps) -> Steps:
    """One that began with defaults, and goes on with these settings."""
    step.controller.configure(pool, 2.0)
    return step


def grow_below(pool: PoolSettings) -> tuple[Any, ...]:
    return one_look(pool, load_ratio=1.3), one_look(pool, load_ratio=0.16), borne(pool, 8.0)


def shrink_to(pool: PoolSettings) -> tuple[Any, ...]:
    slight = steps(pool)(10, load_ratio=3.2, busy_ratio=1.0, running=16)
    return slight, two_looks(pool, load_ratio=2.0, foreign_cores=1.0)


def steady_s(pool: PoolSettings) -> tuple[Any, ...]:
    return tuple(
        looks_until(step, 15, **SLIGHT, running=16) for step in (steps(pool), reloaded(pool, steps(PoolSettings())))
    )


def cooldown_s(pool: PoolSettings) -> tuple[Any, ...]:
    return tuple(limits(steps(pool), *[CROWDED] * 4, running=16, foreign_cores=cores) for cores in (0.0, 1.0))


def mode(pool: PoolSettings) -> tuple[Any, ...]:
    step = Steps(Controller(pool, 2.0))
    return limits(step, {}, IDLE, CROWDED, CROWDED, running=7), gauge(pool).adaptive, simulated(pool).adaptive


def interval_s(pool: PoolSettings) -> tuple[Any, ...]:
    seldom = looks_until(steps(pool), 15, pause_s=1.9, **SLIGHT, running=16)  # 2.4 s apart: are they still one mean?
    few = looks_until(steps(pool), 15, **SLIGHT, running=16)  # which fill `steady`
    return readings(pool), load_seen(pool), load_gauged(pool), monitor_is_asked(pool, 1.2), seldom, few, minded(pool)


def fresh_s(pool: PoolSettings) -> tuple[Any, ...]:
    beside = limits(steps(pool), *[CROWDED] * 4, running=16, foreign_cores=1.0)  # a pause of this with a neighbour
    return load_seen(pool), load_gauged(pool), fresh_cores(pool), gauge_fresh_cores(pool), beside


def shrink_above(pool: PoolSettings) -> tuple[Any, ...]:
    burst = {"busy_ratio": 0.8, "foreign_cores": 1.0}
    beside = steps(pool, 2)
    for load_ratio in (1.2, 1.45, 1.2, 1.45):  # never twice too much, and yet so in the mean
        beside(load_ratio=load_ratio, **burst)
    slight = looks_until(steps(pool), 15, load_ratio=1.4, busy_ratio=1.0, running=16)
    return slight, beside.controller.limit, borne(pool, 2.0)


def crowded(pool: PoolSettings) -> tuple[Any, ...]:
    idle = {"load_ratio": 3.0, "busy_ratio": 0.9}  # many threads, and yet a core idles at times
    return (
        steps(pool)(10, **idle, running=16, queued=0),
        steps(pool, 8)(3, **idle),
        was_far_too_high(pool)(6, **idle),
    )


def shrink_most(pool: PoolSettings) -> tuple[Any, ...]:
    disk = steps(pool)(2, **FULL, io_full_ratio=1.0, running=16)
    unused = steps(pool)(2, **FULL, io_full_ratio=0.35, running=2)
    return two_looks(pool), two_looks(pool, load_ratio=20.0, foreign_cores=1.0), disk, unused


def idle_min(pool: PoolSettings) -> tuple[Any, ...]:
    calm = one_look(pool, load_ratio=1.0, busy_ratio=0.93)
    burst = was_far_too_high(pool)(8, load_ratio=1.4, busy_ratio=0.93)
    near = was_a_little_too_high(pool)
    near(3, load_ratio=1.0, busy_ratio=0.95)
    return calm, burst, near(load_ratio=1.0, busy_ratio=0.85)


def idle_full(pool: PoolSettings) -> tuple[Any, ...]:
    near = was_a_little_too_high(pool)
    near(1, load_ratio=1.4, busy_ratio=0.2)
    near(2, load_ratio=1.4, busy_ratio=0.99)
    full = {"busy_ratio": 0.99, "running": 16}
    return (
        two_looks(pool, **full),
        looks_until(steps(pool), 15, load_ratio=1.8, **full),
        near(load_ratio=1.4, busy_ratio=0.99),
    )


def stride(pool: PoolSettings) -> tuple[Any, ...]:
    return one_look(pool, **IDLE), one_look(pool, load_ratio=0.1), one_look(pool, load_ratio=0.2, busy_ratio=0.05)


def knee_near(pool: PoolSettings) -> tuple[Any, ...]:
    below, above = (limits(step, *[{}] * 32) for step in (was_far_too_high(pool), was_a_little_too_high(pool)))
    again = was_far_too_high(pool)
    assert again() == 10
    looks_until(again, 5, **CROWDED, running=10)  # is 10 near 16, so that it waits longer?
    return below[7], above[31], looks_until(again, 8), was_far_too_high(pool)(**IDLE)


def knee_s(pool: PoolSettings) -> tuple[Any, ...]:
    neighbour = was_a_little_too_high(pool)
    neighbour(6, **CROWDED, running=15, foreign_cores=1.9)
    looks_until(neighbour, 16)  # who has left: how often ours were too many is forgotten with him
    return (
        second_tries_s(pool),
        looks_until(reloaded(pool, was_a_little_too_high(PoolSettings())), 16),
        looks_until(was_far_too_high(pool), 9, **BURSTS),
        looks_until(neighbour, 17, load_ratio=1.4, busy_ratio=0.94),
    )


def rest_s(pool: PoolSettings) -> tuple[Any, ...]:
    unused = {"queued": 0, "running": 3}
    return looks_until(steps(pool), 6, **unused), looks_until(reloaded(pool, steps(PoolSettings())), 6, **unused)


def io_full(pool: PoolSettings) -> tuple[Any, ...]:
    return tuple(steps(pool)(2, io_full_ratio=ratio, running=16) for ratio in (0.4, 0.34, 0.25))


# --- a pool for programs, and the simulator -------------------------------------------------------------------


def gauge(pool: PoolSettings, world: World | None = None) -> Gauge:
    return Gauge(pool, monitor=None, machine=lambda: world or World(), apart=False)


def load_gauged(pool: PoolSettings) -> float:
    """What a gauge takes the load to be at the first reading since it rose from 1 to 4."""
    world = World()
    found = gauge(pool, world)
    for world.runnable in (2.0,) * 5 + (8.0,):
        world.now_s += pool.interval_s
        seen = found._sample(world.now_s)
    return round(seen.load_ratio or 0.0, 2)


def gauge_fresh_cores(pool: PoolSettings) -> tuple[float, float]:
    """Of two tasks that began a quarter of a second ago, and of them where another ended as they began."""
    task = Tasks().task("new")
    task.started_s = 100.0
    found = gauge(pool)
    return found._fresh([task] * 2, [], 100.25), found._fresh([task] * 2, [(99.75, 100.0)], 100.25)


def monitor_is_asked(pool: PoolSettings, age_s: float) -> bool:
    """Whether a monitor's sample of this age is too old."""
    kept, anew = (SimpleNamespace(cores=2.0, at_s=at_s, interval_s=0.5) for at_s in (0.0, age_s))
    monitor: Any = SimpleNamespace(current=lambda: kept, check=lambda: anew)
    return Gauge(pool, monitor=monitor, machine=World, apart=False)._sample(age_s) is anew


def minded(pool: PoolSettings, tier: int = 0) -> tuple[Any, ...]:
    """Of a pool's minder: the first look and the first whole one, each further one, and how many after the last."""
    found = gauge(pool)
    found.memory.tier = tier
    core: Any = SimpleNamespace(lock=RLock(), open=0)
    minder = Minder(core, "pool", found, int)
    minder._begins = True
    minder._look(0.0)
    first = minder._look_s, round(minder._step_s, 3)
    minder._next_look(0.0, True)
    pace_s, looks = minder._look_s, 0
    while minder._look_s is not None:
        minder._next_look(0.0, False)
        looks += 1
    return *first, pace_s, looks


def borne(pool: PoolSettings, cores: float) -> float:
    """Cores that runs may want at once, in the simulator."""
    return round(borne_cores(pool, {}, Capacity(cores, None, 8, True)), 2)


def simulated(pool: PoolSettings) -> Any:
    """The machine of two cores on which the simulator plays."""
    return machine_of(Plan(jobs={}, pool=pool), 2.0, GIB)


# --- looking ----------------------------------------------------------------------------------------------------


@contextmanager
def world(pool: PoolSettings, **fields: Any) -> Iterator[World]:
    """A made-up machine that is looked at."""
    made = World(settings=pool, **fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensing.clock, "monotonic_s", lambda: made.now_s)
        patch.setattr(sensing.asyncio, "get_running_loop", lambda: made)
        made.sensing.after_turn()
        yield made


def readings(pool: PoolSettings, seconds: float = 10.05, **fields: Any) -> int:
    with world(pool, **fields) as made:
        made.pass_s(seconds)
        return made.count("whole") + made.count("part")


def counts(pool: PoolSettings) -> tuple[float, int]:
    """Until the first look, and how often in two seconds the runnable threads are counted between others."""
    with world(pool, every_s=0.15) as made:
        first_s = made.timers[0][0] - made.now_s
        made.pass_s(2.05)
        return round(first_s, 3), made.count("count")


def load_seen(pool: PoolSettings) -> float:
    """What the load is taken to be at the first reading since it rose from 1 to 4."""
    with world(pool) as made:
        while len(made.samples) < 5:
            made.pass_s(0.01)
        made.runnable = 8.0
        while len(made.samples) < 6:
            made.pass_s(0.01)
        return round(made.samples[-1].load_ratio, 1)


def questions(pool: PoolSettings) -> int:
    """How often in a second it is asked what each run holds, where one ends every 10 ms and memory is waited for."""
    with world(pool, waits_for_memory=True, answers_in_s=0.002, every_s=None) as made:
        for _ in range(100):
            exits(made, 1)
            made.pass_s(0.01)
        return len(made.asked)


def shown_after_20_s(pool: PoolSettings) -> bool:
    """Whether the last sample is still shown then."""
    with world(pool) as made:
        made.pass_s(1.0)
        made.every_s = None
        made.pass_s(20.0)
        return made.sensing.last is not None


# --- memory: a watch over 16 GiB, of which 1.6 stay free ----------------------------------------------------------


def watch(pool: PoolSettings, available: float, limit: float = 16 * GIB, *some: float) -> MemoryWatch:
    """After looks at this much left, a second apart, with these shares of the time waited for memory."""
    found = MemoryWatch(pool)
    for number, share in enumerate(some or (0.0,)):
        found.look(int(available), int(limit), share, float(number))
    return found


def filling(pool: PoolSettings, rate: float, left: float, seconds: float = 1.0, still_s: float = 0.0) -> MemoryWatch:
    """A tenth of a second between looks: nothing goes for some time, then so much each second down to what is left."""
    found = MemoryWatch(pool)
    for tenth in range(round(10 * (still_s + seconds)) + 1):
        until_s = min(seconds, still_s + seconds - tenth / 10)
        found.look(int(left + rate * until_s), 16 * GIB, 0.0, tenth / 10)
    return found


def reserve(pool: PoolSettings, limit: float) -> int:
    """What stays free of so much, in MiB."""
    return round(watch(pool, limit, limit).reserve_bytes / MIB)


def reached_in(pool: PoolSettings, seconds: float, reserve_part: float = 1.0) -> MemoryWatch:
    """This part of the reserve would be reached in so many seconds, at half a GiB each."""
    rate = GIB / 2
    left = filling(pool, rate, 8 * GIB).reserve_bytes * reserve_part
    return filling(pool, rate, left + rate * seconds)


def memory_worst_s(pool: PoolSettings) -> int:
    """The worst fill rate was 1 GiB a second an hour ago."""
    found = filling(pool, GIB, 12 * GIB)
    found.look(12 * GIB, 16 * GIB, 0.0, 3601.0)
    return round(found.worst_fill_bytes_per_s / MIB)


def memory_freeze_s(pool: PoolSettings) -> tuple[Any, ...]:
    found = reached_in(pool, 2.5)
    return found.tier, found.shortfall_bytes // MIB


def stuck_s(pool: PoolSettings) -> bool:
    """Whether one run is tried though memory ran out 19 seconds ago."""
    return watch(pool, GIB / 2, 16 * GIB, *[0.0] * 20).admits(MIB, 0, 0) is None


def look_s_min(pool: PoolSettings) -> tuple[Any, ...]:
    return filling(pool, 2 * GIB, 2.5 * GIB).next_look_s(), questions(pool), minded(pool, tier=1)


def look_s_max(pool: PoolSettings) -> tuple[Any, ...]:
    leap = filling(pool, GIB, 8 * GIB, seconds=0.1)  # is taken to be one of the time between two looks at least
    return (
        MemoryWatch(pool).next_look_s(),
        watch(pool, 8 * GIB).next_look_s(),
        round(leap.fill_bytes_per_s / MIB),
    )


# --- memory: what a run will take --------------------------------------------------------------------------------


def estimator(pool: PoolSettings, *peaks_mib: int, seconds: float = 10.0) -> Estimator:
    """After runs of job a with these peaks, half a core each."""
    found = Estimator(pool)
    for peak in peaks_mib:
        found.finished("a", Used(seconds, seconds / 2, peak * MIB))
    return found


def need(pool: PoolSettings, *peaks_mib: int, budget: int = 64 * GIB) -> int:
    """The next run's, in MiB."""
    return round(estimator(pool, *peaks_mib).predict_memory("a", None, budget).bytes / MIB)


def need_once_killed(pool: PoolSettings, held_mib: int) -> int:
    found = Estimator(pool)
    found.finished("a", Used(1.0, 1.0, held_mib * MIB, killed_for_memory=True))
    return round(found.predict_memory("a", MIB, 64 * GIB).bytes / MIB)


def memory_few_runs(pool: PoolSettings) -> tuple[Any, ...]:
    found = estimator(pool, 100, 200, 100)
    return found.predict_memory("a", None, GIB).basis, found.predict_cpu("a", 2.0)


def duration_quantile(pool: PoolSettings) -> bool:
    """Whether it is taken to be long, as three of ten runs were."""
    found = Estimator(pool)
    for seconds in (10.0, 10.0, 100.0) * 3 + (10.0,):
        found.finished("a", Used(seconds, 1.0, MIB))
    return (found.predict_duration("a") or 0.0) > 50


# --- memory: the gate, on a machine of 10 GiB; and that of a pool for programs -------------------------------------


def machine(pool: PoolSettings, *jobs: Job) -> Machine:
    found = Machine(*jobs)
    found.tell(PlanLoaded(Plan(jobs={each.name: each for each in jobs}, pool=pool), 100))
    found.look()
    return found


def unknown(**fields: Any) -> Job:
    return job("new", overlap=Overlap.ALLOW, **fields)


def gate(found: Machine) -> Any:
    return found.dispatcher._runs.memory


def fresh_cores(pool: PoolSettings) -> float:
    """Of a run of one core, a quarter of a second old."""
    found = machine(pool, unknown(cpu_cores=1.0))
    found.fire("new")
    return gate(found).fresh.cores(0.25)


def canary_s(pool: PoolSettings) -> tuple[Any, ...]:
    daemons, shown, tasks = machine(pool, unknown()), machine(pool, unknown()), scarce(pool)
    daemons.fire("new")
    daemons.fire("new")
    shown.held[shown.running("new").run_id] = 100 * MIB
    shown.look_for(10)
    begun = tasks.start()
    tasks.now_s += 10
    return len(starts(daemons.look_for(10))), gate(shown).reserved_bytes // MIB, begun, tasks.start()


def scarce(pool: PoolSettings, available: int = 4 * GIB) -> Tasks:
    """Two tasks that nobody knows wait, where memory is not plenty."""
    found = tasks_of(pool)
    found.available = available
    found.look()
    found.task("new")
    found.task("new")
    return found


def tasks_of(pool: PoolSettings) -> Tasks:
    return Tasks(**{field: getattr(pool, field) for field in pool.__struct_fields__})


def memory_in_flight(pool: PoolSettings) -> tuple[Any, ...]:
    found, tasks = machine(pool, unknown()), tasks_of(pool)
    found.held[found.running("new").run_id] = 100 * MIB
    found.look_for(40)
    task = tasks.task("one", MIB)
    tasks.start()
    tasks.use(task, 100 * MIB)
    return (
        Estimator(pool).in_flight("a", Prediction(MIB, True, Basis.FEW), 100 * MIB) // MIB,
        gate(found).reserved_bytes // MIB,
        tasks.holdings.outstanding_bytes // MIB,
    )


def backfill_after_s(pool: PoolSettings) -> tuple[Any, ...]:
    """Whether a small one passes a head that has waited for ten seconds for one of which nobody knows when it ends."""
    found, tasks = machine(pool, hungry("big", 6 * GIB), hungry("small", 64 * MIB)), tasks_of(pool)
    found.began("big", 64 * MIB)
    found.fire("big")
    found.look_for(10)
    tasks.task("big", 6 * GIB)
    tasks.task("head", 6 * GIB)
    tasks.start()
    tasks.now_s += 10
    tasks.task("small", 64 * MIB)
    return len(starts(found.fire("small"))), tasks.start()


def calm_share(pool: PoolSettings) -> tuple[Any, ...]:
    """Seven of ten GiB are left: whether that is plenty."""
    found = machine(pool, unknown())
    found.others = 2 * GIB
    found.look_for(2)
    return found.dispatcher.pressure.restful, scarce(pool, 8 * GIB).start()


# --- when memory gets short: three runs, of which "old" is never touched -------------------------------------------


def act(pool: PoolSettings, available: float, *runners: Runner, rate: float = 0.1 * GIB) -> tuple[str, str] | None:
    found = Tiers(pool).decide(runners, falling(available, rate), 100.0)
    return None if found is None else (found.kind, found.run_id)


SMALL: Final = [runner(name, number, present_bytes=60 * MIB) for number, name in enumerate(("old", "middle", "young"))]


def memory_matters(pool: PoolSettings) -> tuple[str, str] | None:
    return act(pool, GONE, *THREE[:2], runner("young", 3.0, present_bytes=400 * MIB))


def freeze_growing_bytes(pool: PoolSettings) -> tuple[str, str] | None:
    return act(pool, SHORT, *THREE[:2], runner("young", 3.0, growth_bytes_per_s=2.0 * MIB))


def freeze_s_max(pool: PoolSettings) -> tuple[str, str] | None:
    return act(pool, 8 * GIB, THREE[0], frozen("young", 69.0, predicted_bytes=9 * GIB), rate=0.0)


def pause_s(pool: PoolSettings, seen: MemoryWatch, runners: list[Runner], after: list[Runner]) -> float:
    """Between what is done with the first of these and with the second."""
    tiers = Tiers(pool)
    assert tiers.decide(runners, seen, 100.0) is not None
    return next(eighth / 8 for eighth in range(1, 1000) if tiers.decide(after, seen, 100.0 + eighth / 8))


def frozen(run_id: str, since_s: float, **fields: Any) -> Runner:
    return runner(run_id, 3.0 if run_id == "young" else 2.0, frozen_since_mono_s=since_s, **fields)


def pause_after_kill_s(pool: PoolSettings, held: int) -> float:
    left = [runner("old", 1.0), runner("middle", 2.0, growth_bytes_per_s=0.0)]
    return pause_s(pool, falling(GONE), [*left, runner("young", 3.0, present_bytes=held)], left)


def pause_after_freeze_s(pool: PoolSettings) -> float:
    return pause_s(pool, falling(SHORT), THREE, [*THREE[:2], frozen("young", 100.0)])


def pause_after_thaw_s(pool: PoolSettings) -> float:
    both, one = [frozen("middle", 90.0), frozen("young", 90.0)], [THREE[1], frozen("young", 90.0)]
    return pause_s(pool, falling(8 * GIB, 0.0), [THREE[0], *both], [THREE[0], *one])


def tries_s(pool: PoolSettings) -> list[float]:
    """How long each try after a kill for memory waits."""
    found = [MemoryRetries(pool).next(kills) for kills in range(1, 10)]
    return [each.delay_s for each in found if each is not None]


# --- every key ------------------------------------------------------------------------------------------------------


class Effect(NamedTuple):
    """What comes of a scenario by default, and with the key written so."""

    written: str | float
    scenario: Callable[[PoolSettings], Any]
    usually: Any
    then: Any
    beside: str = ""  # what else is written, in both


EFFECTS: Final = {
    "min": Effect(5, lambda p: (Controller(p, 2.0).limit, gauge(p).adaptive), (2, True), (5, False), beside="max = 5"),
    "max": Effect(1, lambda p: (steps(p, 1)(20), gauge(p).adaptive, simulated(p).slots), (64, True, 64), (1, False, 1)),
    "mode": Effect("fixed", mode, ([4, 7, 7, 3], True, True), ([7, 7, 7, 7], False, False), beside="max = 7"),
    "max_per_core": Effect(3, lambda p: (steps(p, 1)(20), simulated(p).slots), (64, 64), (6, 6)),
    "interval_s": Effect(
        "0.7s",
        interval_s,
        (20, 2.5, 2.5, True, None, 10, (0.1, 0.5, 0.1, 6)),
        (15, 4.0, 4.0, False, 7, 7, (0.1, 0.7, 0.1, 7)),
    ),
    "runnable_s": Effect(
        "250ms", lambda p: (counts(p), minded(p)), ((0.1, 16), (0.1, 0.5, 0.1, 6)), ((0.25, 4), (0.25, 0.5, 0.25, 3))
    ),
    "fresh_s": Effect(
        "500ms",
        fresh_s,
        (2.5, 2.5, 0.75, (0.375, 0.3125), [16, 4, 4, 1]),
        (4.0, 4.0, 0.5, (0.25, 0.125), [16, 4, 1, 1]),
    ),
    "grow_below": Effect(1.4, grow_below, (2, 4, 10.2), (4, 8, 12.0)),
    "shrink_above": Effect(1.3, shrink_above, (None, 3, 3.0), (10, 2, 2.6)),
    "shrink_to": Effect(1.0, shrink_to, (14, 10), (13, 8)),
    "shrink_clear": Effect(6.5, two_looks, 8, 16),
    "steady_s": Effect("2s", steady_s, (10, 10), (4, 4)),
    "crowd": Effect(0.9, two_looks, 8, 16),
    "crowded": Effect(2.5, crowded, (16, 10, 9), (14, 8, 8)),
    "neighbour_cores": Effect(0.7, lambda p: put_down_to(p, cores=4.0, foreign_cores=0.6), "foreign", "cpu"),
    "neighbour_share": Effect(0.25, lambda p: put_down_to(p, cores=2.0, foreign_cores=0.45), "foreign", "cpu"),
    "neighbour_many": Effect(0.1, lambda p: put_down_to(p, cores=64.0, foreign_cores=4.0), "foreign", "cpu"),
    "shrink_most": Effect(0.75, shrink_most, (8, 4, 8, 6), (12, 9, 12, 10)),
    "cooldown_s": Effect("500ms", cooldown_s, ([16, 8, 8, 8], [16, 4, 4, 1]), ([16, 8, 4, 2], [16, 4, 1, 1])),
    "idle_min": Effect(0.1, idle_min, (4, 10, 16), (2, 8, 15)),
    "own_min": Effect(0.1, lambda p: two_looks(p, wanted_cores=0.3, queued=0), 16, 8),
    "light": Effect(0.05, lambda p: one_look(p, **CROWDED, wanted_cores=0.15, running=2), 3, 2),
    "idle_full": Effect(0.005, idle_full, (8, 10, 15), (16, None, 16)),
    "early_idle": Effect(0.25, lambda p: steps(p, 8)(3, **BURSTS), 12, 8),
    "fill": Effect(1.0, lambda p: steps(p, 8)(3, **BURSTS), 12, 9),
    "stride": Effect(8.0, stride, (8, 8, 8), (16, 4, 16)),
    "in_use_min": Effect(1.0, lambda p: steps(p, 4)(running=3), 8, 4),
    "growth": Effect(1.0, lambda p: was_far_too_high(p)(), 10, 12),
    "knee_near": Effect(0.4, knee_near, (14, 64, 3, 11), (11, 23, 65, 10)),
    "knee_s": Effect("4s", knee_s, ([2.0, 16.0, 60.0], 4, 4, 4), ([4.0, 32.0, 60.0], 8, 8, 8)),
    "knee_backoff": Effect(2.0, second_tries_s, [2.0, 16.0, 60.0], [2.0, 4.0, 8.0]),
    "knee_s_max": Effect("10s", second_tries_s, [2.0, 16.0, 60.0], [2.0, 10.0, 10.0]),
    "rest_s": Effect("5s", rest_s, (21, 21), (13, 13)),
    "cpu_default": Effect(
        1.0,
        lambda p: (Estimator(p).predict_cpu("a", None), gauge_fresh_cores(p)),
        (0.25, (0.375, 0.3125)),
        (1.0, (1.5, 1.25)),
    ),
    "io_grow": Effect(1.0, lambda p: one_look(p, io_full_ratio=0.25), 2, 4),
    "io_full": Effect(0.35, io_full, (11, 14, 16), (13, 16, 32)),
    "memory_reserve": Effect(0.2, lambda p: reserve(p, 16 * GIB), 1638, 3277),
    "memory_reserve_least_bytes": Effect("600MiB", lambda p: reserve(p, 4 * GIB), 512, 600),
    "memory_reserve_least_share": Effect(0.2, lambda p: reserve(p, GIB), 154, 205),
    "memory_reserve_most_bytes": Effect("8GiB", lambda p: reserve(p, 256 * GIB), 4096, 8192),
    "memory_reserve_most_share": Effect(
        0.2, lambda p: filling(p, 100 * GIB, 12 * GIB).reserve_bytes // MIB, 4096, 3276
    ),
    "memory_fill_s": Effect("1s", lambda p: filling(p, GIB, 12 * GIB).reserve_bytes // MIB, 1945, 2662),
    "memory_window_s": Effect(
        "2s", lambda p: filling(p, GIB, 8 * GIB, still_s=2.0).fill_bytes_per_s // MIB, 1024.0, 512.0
    ),
    "memory_falling": Effect(0.01, lambda p: filling(p, 100 * MIB, 8 * GIB).falling, True, False),
    "memory_worst_s": Effect("30m", memory_worst_s, 512, 256),
    "memory_margin": Effect(1.2, lambda p: watch(p, 2.3 * GIB).tier, 1, 0),
    "memory_soon_s": Effect("8s", lambda p: reached_in(p, 9.0).tier, 1, 0),
    "memory_freeze_s": Effect("2s", memory_freeze_s, (2, 256), (1, 0)),
    "memory_kill_below": Effect(0.4, lambda p: watch(p, 0.7 * GIB).tier, 3, 2),
    "memory_kill_s": Effect("100ms", lambda p: reached_in(p, 0.5, reserve_part=0.5).tier, 3, 2),
    "memory_pressure": Effect(0.2, lambda p: watch(p, 8 * GIB, 16 * GIB, 0.15).tier, 1, 0),
    "memory_pressure_leave": Effect(0.08, lambda p: watch(p, 8 * GIB, 16 * GIB, 0.15, 0.07).tier, 1, 0),
    "memory_own_min": Effect(0.5, lambda p: act(p, SHORT, *SMALL), ("freeze", "young"), None),
    "memory_default_bytes": Effect("2GiB", need, 1024, 2048),
    "memory_default_share": Effect(0.5, lambda p: need(p, budget=256 * MIB), 51, 128),
    "canary_s": Effect("5s", canary_s, (0, 924, ["new"], []), (1, 10, ["new"], ["new"])),
    "memory_few_runs": Effect(3, memory_few_runs, (Basis.FEW, 2.0), (Basis.MANY, 0.5)),
    "memory_few": Effect(2.0, lambda p: need(p, 100, 200, 100), 220, 400),
    "memory_quantile": Effect(0.5, lambda p: need(p, *[400] * 5, *[100] * 12), 446, 117),
    "memory_known": Effect(2.0, lambda p: need(p, *[100] * 5), 117, 213),
    "memory_in_flight": Effect(1.5, memory_in_flight, (110, 10, 10), (150, 50, 50)),
    "memory_killed": Effect(1.5, lambda p: need_once_killed(p, 1000), 1200, 1500),
    "memory_killed_more_bytes": Effect("200MiB", lambda p: need_once_killed(p, 100), 200, 300),
    "memory_matters": Effect(0.5, memory_matters, ("kill", "young"), ("kill", "middle")),
    "freeze_growing_bytes": Effect("4MiB", freeze_growing_bytes, ("freeze", "young"), ("freeze", "middle")),
    "freeze_every_s": Effect("250ms", pause_after_freeze_s, 0.5, 0.25),
    "thaw_every_s": Effect("1s", pause_after_thaw_s, 3.0, 1.0),
    "freeze_s_max": Effect("60s", freeze_s_max, ("kill", "young"), None),
    "kill_pause_s": Effect("3s", lambda p: pause_after_kill_s(p, 2 * GIB), 2.0, 3.0),
    "kill_pause_s_per_gib": Effect("500ms", lambda p: pause_after_kill_s(p, 10 * GIB), 3.0, 5.0),
    "memory_tries": Effect(2, tries_s, [1.0, 7.746, 60.0], [1.0, 60.0]),
    "memory_retry_s": Effect("15s", tries_s, [1.0, 7.746, 60.0], [15.0, 30.0, 60.0]),
    "memory_retry_s_max": Effect("4s", tries_s, [1.0, 7.746, 60.0], [1.0, 2.0, 4.0]),
    "stuck_s": Effect("15s", stuck_s, False, True),
    "duration_quantile": Effect(0.5, duration_quantile, True, False),
    "backfill_after_s": Effect("5s", backfill_after_s, (1, ["small"]), (0, [])),
    "look_s_min": Effect("200ms", look_s_min, (0.05, 20, (0.1, 0.5, 0.05, 6)), (0.2, 5, (0.1, 0.5, 0.2, 6))),
    "look_s_max": Effect("400ms", look_s_max, (0.25, 0.25, 410), (0.4, 0.4, 256)),
    "calm_share": Effect(0.75, calm_share, (True, ["new", "new"]), (False, ["new"])),
    "look_s_calm": Effect("3s", lambda p: machine(p).dispatcher.pressure.calm_look_s, 2.0, 3.0),
    "interval_s_calm": Effect(
        "20s", lambda p: (readings(p, 60.05, restful=True), shown_after_20_s(p)), (6, False), (3, True)
    ),
}


def test_every_key_has_an_effect():
    assert list(EFFECTS) == list(PoolSettings.__struct_fields__)


@pytest.mark.parametrize("field", EFFECTS)
def test_a_key_that_is_written_has_its_effect(field, tmp_path):
    effect = EFFECTS[field]

    def with_key(*lines: str) -> Any:
        text = "\n".join(["[daemon]", "jobs = []", "[pool]", effect.beside, *lines])
        (tmp_path / "tidegate.toml").write_text(text)
        return effect.scenario(load(tmp_path).pool)

    written = f'"{effect.written}"' if isinstance(effect.written, str) else effect.written
    assert effect.usually != effect.then
    assert with_key() == effect.usually
    assert with_key(f"{key_of(field)} = {written}") == effect.then
