"""What reaches the laws of the pool, and what becomes of their answers: the engine with [pool] as its limit, and
samples of a machine that are written by hand."""

from typing import Any

import pytest
from engine_bench import EPOCH, Bench, job, records, starts
from msgspec.structs import replace

from tidegate.model.command import Command, Fact, Freeze, RetireIdle
from tidegate.model.event import LearnedRestored, PlanLoaded, RunsUsed, RunUse, Sensed
from tidegate.model.job import Executor, Job, Overlap, Python
from tidegate.model.plan import Plan
from tidegate.model.pool import PoolSettings
from tidegate.model.run import State
from tidegate.model.sample import Sample

MIB = 1 << 20
GIB = 1 << 30
CORES = 2.0


class Pool(Bench):
    """An engine whose limit is [pool]'s, on a machine of two cores and 16 GiB."""

    def __init__(self, *jobs: Job, **settings: Any) -> None:
        self._jobs = {one.name: one for one in jobs}
        self.available = 16 * GIB
        super().__init__()
        self.configure(**settings)

    def load(self, *jobs: Job, slots: int = 8) -> list[Command]:
        del jobs, slots
        return []

    def configure(self, cores: float = CORES, **settings: Any) -> list[Command]:
        pool = PoolSettings(**settings)
        return self.tell(PlanLoaded(Plan(jobs=self._jobs, pool=pool), None, cores))

    @property
    def limit(self) -> int:
        return self.dispatcher.pressure._runs.pool.limit

    def waits_for(self) -> dict[str, str]:
        return {run.run_id: gate for run, gate, _ in self.dispatcher.waiting(self.now(), 1000)}

    def sense(self, *uses: RunUse, **seen: Any) -> list[Command]:
        fields = dict.fromkeys(Sample.__struct_fields__) | {
            "at": EPOCH, "at_s": self.now_s, "cores": CORES, "cpus": int(CORES), "load_ratio": 0.1, "busy_ratio": 0.05,
            "foreign_cores": 0.0, "io_full_ratio": 0.0, "memory_some_ratio": 0.0,
        } | seen  # fmt: skip
        return self.tell(RunsUsed(uses), Sensed(self.available, 16 * GIB, Sample(**fields)))

    def sense_for(self, seconds: float, **seen: Any) -> list[Command]:
        said: list[Command] = []
        for _ in range(round(seconds / 0.5)):
            said += self.wait(0.5)
            said += self.sense(**seen)
        return said

    def crowd(self, name: str, count: int) -> list[Command]:
        return [command for _ in range(count) for command in self.fire(name)]


def many(name: str = "a", **fields: Any) -> Job:
    return job(name, overlap=Overlap.ALLOW, memory_bytes=MIB, **fields)


def test_the_limit_grows_while_runs_wait_for_a_slot_and_cores_idle() -> None:
    bench = Pool(many())
    bench.crowd("a", 100)
    said = bench.sense_for(5)
    assert bench.limit > 8
    assert len(starts(said)) == bench.limit - 2
    assert records(said, Fact.POOL_RESIZED)[0].resize.word == "growth"


def test_and_not_where_memory_is_what_they_wait_for() -> None:
    bench = Pool(job("a", overlap=Overlap.ALLOW, memory_bytes=10 * GIB))
    bench.sense()
    bench.crowd("a", 10)
    bench.sense_for(5)
    assert bench.limit == 2
    [first] = starts(bench.said)
    assert set(bench.waits_for().values()) == {"memory"}
    assert first.state is State.STARTING


def test_and_not_while_memory_is_short() -> None:
    bench = Pool(many())
    bench.crowd("a", 100)
    bench.sense_for(5, memory_some_ratio=0.5)
    assert bench.limit == 2
    bench.sense_for(5, memory_some_ratio=0.01)
    assert bench.limit > 2


def test_runs_that_just_began_count_as_load_that_is_not_seen_yet() -> None:
    """Thirty-two that are said to use a core each cannot all have been seen after half a second."""
    hungry, idle = Pool(many(cpu_cores=1.0), min=32), Pool(many(cpu_cores=0.01), min=32)
    for bench in (hungry, idle):
        bench.crowd("a", 100)
        bench.wait(0.5)
        bench.sense()
    assert (hungry.limit, idle.limit > 32) == (32, True)


def test_what_cannot_be_read_is_told_once_and_so_is_that_it_can_be_again() -> None:
    bench = Pool(many())
    bench.crowd("a", 10)
    blind = records(bench.sense_for(3, load_ratio=None), Fact.POOL_BLIND)
    assert [one.reason for one in blind] == ["how many threads want a core cannot be read: the limit stands still"]
    seeing = records(bench.sense_for(3), Fact.POOL_BLIND)
    assert [one.reason for one in seeing] == ["how many threads want a core can be read again"]


def test_a_reload_counts_for_the_limit_and_for_memory_at_once() -> None:
    bench = Pool(many(), min=3)
    assert (bench.limit, records(bench.said, Fact.POOL_RESIZED)) == (3, [])
    [record] = records(bench.configure(mode="fixed", max=7), Fact.POOL_RESIZED)
    assert (bench.limit, record.resize.word, record.reason) == (
        7,
        "settings",
        "from 3 to 7 at once: [pool] was changed",
    )
    bench.sense_for(5)
    assert bench.limit == 7
    bench.available = 4 * GIB
    bench.sense_for(2)
    assert bench.dispatcher.pressure.memory_tier == 0
    bench.configure(mode="fixed", max=7, memory_reserve=0.24, memory_reserve_most_bytes=8 * GIB)
    bench.sense_for(2)
    assert bench.dispatcher.pressure.memory_tier > 0


def test_what_a_run_holds_counts_only_for_its_own_attempt_and_only_until_it_is_told_anew() -> None:
    bench = Pool(job("a", memory_bytes=4 * GIB))
    run = bench.running("a")
    memory = bench.dispatcher.pressure._runs.memory
    bench.sense(RunUse(run.run_id, run.attempt + 1, GIB))
    assert memory.reserved_bytes == 4 * GIB
    bench.sense(RunUse(run.run_id, run.attempt, GIB))
    assert memory.reserved_bytes == 3 * GIB
    looked_mono_s = memory.running[run.run_id].looked_mono_s
    bench.wait(1)
    bench.tell(Sensed(bench.available, 16 * GIB))
    assert memory.running[run.run_id].looked_mono_s == looked_mono_s


def test_growth_into_what_is_reserved_is_no_alarm() -> None:
    bench = Pool(job("a", memory_bytes=12 * GIB))
    run = bench.running("a")
    bench.sense(RunUse(run.run_id, run.attempt, 0))
    for step in range(1, 9):
        bench.wait(0.5)
        bench.available = 16 * GIB - step * GIB
        bench.sense(RunUse(run.run_id, run.attempt, step * GIB))
        assert bench.dispatcher.pressure.memory_tier == 0, step


def test_threads_are_never_frozen() -> None:
    """Nor could they be: what froze one would freeze its neighbours."""
    python = Python(target="a:b", interpreter="/usr/bin/python3", executor=Executor.THREAD)
    frozen = []
    grows = job("a", memory_bytes=MIB)
    for each in (grows, replace(grows, command=None, python=python)):
        bench = Pool(job("old", memory_bytes=MIB), each, min=4)
        old = bench.running("old")
        bench.wait(1)
        run = bench.running("a")
        held = GIB
        said: list[Command] = []
        for _ in range(12):
            bench.wait(0.25)
            held += 100 * MIB
            bench.available = 4 * GIB - held
            said += bench.sense(RunUse(old.run_id, 1, MIB), RunUse(run.run_id, 1, held))
        frozen.append({command.run_id for command in said if isinstance(command, Freeze)} == {run.run_id})
    assert frozen == [True, False]


def test_what_an_earlier_life_learned_is_used_from_the_first_fire_and_what_it_wrote_otherwise_is_not() -> None:
    old = Pool(many())
    run = old.running("a")
    old.sense(RunUse(run.run_id, 1, MIB))
    old.exited(run)
    learned = old.dispatcher.pressure.learned_of_late()
    assert set(learned) == {"a"} and old.dispatcher.pressure.learned_of_late() == {}
    bench = Pool(many(), many("b"))
    bench.tell(LearnedRestored(learned | {"b": '{"runs": "of another version"}'}))
    assert bench.dispatcher.pressure.learned(bench.dispatcher.jobs["a"]).runs == 1
    assert bench.dispatcher.pressure.learned(bench.dispatcher.jobs["b"]) is None


def test_each_gate_is_shown_with_how_many_it_holds() -> None:
    bench = Pool(many(), job("big", memory_bytes=15 * GIB))
    bench.sense()
    bench.crowd("a", 5)
    gates = {gate.name: (gate.holds, gate.reading) for gate in bench.dispatcher.pressure.gates(bench.now())}
    assert gates["pool"][0] == 3 and gates["pool"][1].startswith("2 of 2 slots in use")
    assert gates["memory"][0] == 0
    bench.configure(min=8)
    bench.fire("big")
    gates = {gate.name: (gate.holds, gate.reading) for gate in bench.dispatcher.pressure.gates(bench.now())}
    assert (gates["pool"][0], gates["memory"][0]) == (0, 1)
    assert "reserved for what runs" in gates["memory"][1]


def test_somebody_who_waits_for_memory_is_reason_enough_to_look() -> None:
    bench = Pool(job("a", memory_bytes=10 * GIB, overlap=Overlap.ALLOW))
    pressure = bench.dispatcher.pressure
    assert (pressure.look_s(), pressure.crowded) == (None, False)
    bench.sense()
    bench.crowd("a", 2)
    assert (pressure.look_s() is not None, pressure.crowded) == (True, True)


def test_who_waits_for_memory_is_told_from_who_waits_for_nothing() -> None:
    bench = Pool(job("a", memory_bytes=10 * GIB, overlap=Overlap.ALLOW))
    bench.sense()
    bench.fire("a")
    assert not bench.dispatcher.pressure.waits_for_memory
    bench.fire("a")
    assert bench.dispatcher.pressure.waits_for_memory


def test_memory_moves_while_it_gets_less_and_while_it_is_short_although_it_gets_less_no_more() -> None:
    bench = Pool(many())
    pressure = bench.dispatcher.pressure
    bench.sense()
    assert not pressure.memory_moves
    for _ in range(5):
        bench.wait(0.5)
        bench.available -= 100 * MIB
        bench.sense()
    assert (pressure.memory_tier, pressure.memory_moves) == (0, True)
    bench.available = GIB
    bench.sense_for(5)
    watch = pressure._runs.memory.watch
    assert (pressure.short_of_memory, watch.falling, pressure.memory_moves) == (True, False, True)


# --- when it may look seldom ------------------------------------------------------------------------------


def test_it_rests_while_nobody_waits_and_calm_share_of_memory_is_left_beside_the_reserve() -> None:
    bench = Pool(many())
    pressure = bench.dispatcher.pressure
    assert not pressure.restful, "nothing was read yet"
    bench.sense()
    assert pressure.restful
    bench.available = 9 * GIB
    bench.sense()
    assert not pressure.restful, "7.4 of 16 GiB beside the reserve"
    bench.configure(calm_share=0.4)
    assert pressure.restful


def test_it_does_not_rest_where_what_is_left_is_reserved_for_what_runs() -> None:
    bench = Pool(job("a", memory_bytes=4 * GIB, overlap=Overlap.ALLOW))
    bench.sense()
    bench.crowd("a", 1)
    assert bench.dispatcher.pressure.restful
    bench.crowd("a", 1)
    assert not bench.dispatcher.pressure.crowded
    assert not bench.dispatcher.pressure.restful


def test_it_does_not_rest_while_somebody_waits() -> None:
    bench = Pool(many())
    bench.sense()
    bench.crowd("a", 2)
    assert bench.dispatcher.pressure.restful
    bench.crowd("a", 1)
    assert not bench.dispatcher.pressure.restful


def test_a_calm_look_comes_before_one_process_could_have_taken_half_of_what_is_left() -> None:
    bench = Pool(many())
    pressure = bench.dispatcher.pressure
    bench.sense()
    assert pressure.calm_look_s == 2.0
    bench.configure(look_s_calm=1.0)
    assert pressure.calm_look_s == 1.0
    bench.configure()
    bench.available = 5 * GIB
    bench.sense()
    assert pressure.calm_look_s == pytest.approx(1.7, abs=0.01), "half of 3.4 GiB, at 1 GiB/s"


# --- looks that know what each run holds -------------------------------------------------------------------


def unforeseen_gib_per_s(*told_afresh: bool | None) -> float:
    """While a stranger takes a GiB a second, beside a run for which 8 GiB are reserved and which takes nothing. Before
    each look: what the run holds, looked at with it or not; None: nothing is told."""
    bench = Pool(job("a", memory_bytes=8 * GIB))
    bench.sense()
    run = bench.running("a")
    for afresh in told_afresh:
        bench.wait(0.25)
        bench.available -= GIB // 4
        told = [] if afresh is None else [RunsUsed((RunUse(run.run_id, run.attempt, 0),), afresh)]
        bench.tell(*told, Sensed(bench.available, 16 * GIB))
    return bench.dispatcher.pressure._runs.memory.watch.unforeseen_bytes_per_s / GIB


def test_what_a_stranger_takes_is_found_out_by_looks_that_know_what_each_run_holds() -> None:
    assert unforeseen_gib_per_s(*[True] * 5) == pytest.approx(1.0)


def test_looks_that_do_not_know_it_take_it_for_the_growth_of_what_runs() -> None:
    assert unforeseen_gib_per_s(*[False] * 5) == pytest.approx(0.0)


def test_what_was_told_afresh_counts_for_one_look() -> None:
    assert unforeseen_gib_per_s(True, *[None] * 5) == pytest.approx(0.0)


def test_what_was_taken_while_nothing_ran_was_taken_by_nobody_who_runs_now() -> None:
    """Each look is exact while nothing runs. Or the growth of the next run would be an alarm: all that is reserved for
    it would count as taken before it began."""
    bench = Pool(job("a", memory_bytes=4 * GIB), job("b", memory_bytes=4 * GIB))
    run = bench.running("a")
    bench.tell(RunsUsed((RunUse(run.run_id, run.attempt, 0),), True), Sensed(bench.available, 16 * GIB))
    bench.exited(run)
    for _ in range(12):
        bench.wait(10)
        bench.available -= GIB // 2
        bench.sense()
    bench.running("b")
    for _ in range(6):
        bench.wait(0.25)
        bench.available -= GIB // 4
        bench.tell(Sensed(bench.available, 16 * GIB))
    assert bench.dispatcher.pressure._runs.memory.watch.unforeseen_bytes_per_s == 0


# --- workers that are left over when the limit falls --------------------------------------------------------


def kept(said: list[Command]) -> list[int]:
    return [command.keep for command in said if isinstance(command, RetireIdle)]


def test_idle_workers_beyond_the_limit_are_told_to_end_when_it_falls_until_no_more_run_than_may() -> None:
    bench = Pool(many(), min=2, max=6)
    bench.configure(mode="fixed", max=6)
    runs = starts(bench.crowd("a", 6))
    assert kept(bench.sense_for(3)) == []
    bench.configure(mode="fixed", max=4)
    assert kept(bench.sense_for(2)) == [4] * 4, "what ends from now on leaves its worker idle"
    for run in runs[:2]:
        bench.started(run)
        bench.exited(run)
    assert kept(bench.sense_for(3)) == [4], "once more, when the last of them has ended"
    bench.configure(mode="fixed", max=8)
    assert kept(bench.sense_for(3)) == []


def test_the_last_run_beyond_the_limit_is_looked_after_although_nothing_runs_any_more() -> None:
    bench = Pool(many())
    bench.configure(mode="fixed", max=4)
    runs = starts(bench.crowd("a", 3))
    bench.configure(mode="fixed", max=1)
    assert kept(bench.sense_for(1)) == [1, 1]
    for run in runs:
        bench.started(run)
        bench.exited(run)
    assert bench.dispatcher.pressure.look_s() is not None
    assert kept(bench.sense_for(1)) == [1]
    assert bench.dispatcher.pressure.look_s() is None


def test_a_limit_that_rises_again_but_not_to_what_runs_leaves_workers_over_still() -> None:
    bench = Pool(many())
    bench.configure(mode="fixed", max=6)
    bench.crowd("a", 6)
    bench.configure(mode="fixed", max=4)
    bench.configure(mode="fixed", max=5)
    assert kept(bench.sense_for(1)) == [5, 5]
