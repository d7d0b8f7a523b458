"""The engine on a machine whose memory is a number: who starts, waits, is frozen, killed and queued anew."""

from datetime import timedelta

import pytest
from engine_bench import EPOCH, Bench, job, records, starts
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidegate.engine.lifecycle import HOLDS_SLOT
from tidegate.model.command import Command, Fact, Freeze, RetireIdle, SignalTree, Start, Thaw
from tidegate.model.event import Exited, PauseRequested, PlanLoaded, Recovered, RunsUsed, RunUse, Sensed
from tidegate.model.job import Job, Overlap, Retries
from tidegate.model.plan import Plan
from tidegate.model.run import Outcome, Run, State, Usage
from tidegate.model.sample import Sample

MIB = 1 << 20
GIB = 1 << 30


class Machine(Bench):
    """A bench with memory: what each run holds, what others hold, and looks at it."""

    def __init__(self, *jobs: Job, limit: int = 10 * GIB, slots: int = 100) -> None:
        super().__init__(*jobs, slots=slots)
        self.limit = limit
        self.others = 0
        self.afresh = False
        self.held: dict[str, int] = {}
        self.look()

    @property
    def available(self) -> int:
        return max(0, self.limit - self.others - sum(self.held.values()))

    def look(self) -> list[Command]:
        """Memory now, and what each run holds: as it was looked at just now (`afresh`), or as it was known before."""
        uses = tuple(
            RunUse(run.run_id, run.attempt, self.held[run.run_id])
            for run in self.dispatcher.runs()
            if run.run_id in self.held
        )
        return self.tell(RunsUsed(uses, self.afresh), Sensed(self.available, self.limit))

    def look_for(self, seconds: float, every_s: float = 0.25, grow: dict[str, int] | None = None) -> list[Command]:
        """Looks at a steady pace, while the runs named grow by so many bytes a second."""
        said: list[Command] = []
        for _ in range(round(seconds / every_s)):
            for run_id, rate in (grow or {}).items():
                if run_id in self.held:
                    self.held[run_id] += int(rate * every_s)
            said += self.wait(every_s)
            said += self.look()
            for command in said:
                if isinstance(command, Freeze) and grow:
                    grow.pop(command.run_id, None)
        return said

    def began(self, name: str, holds: int = 0) -> Run:
        """A run that has come to hold this much, slowly enough to alarm nobody."""
        self.now_s += 1
        run = self.running(name)
        self.held[run.run_id] = 0
        while self.held[run.run_id] < holds:
            self.held[run.run_id] = min(holds, self.held[run.run_id] + 16 * MIB)
            self.wait(0.25)
            self.look()
        self.look_for(2)
        return run

    def ended(
        self, run: Run, *, code: int | None = 0, signal: int | None = None, peak: int | None = None
    ) -> list[Command]:
        self.held.pop(run.run_id, None)
        return self.tell(
            Exited(run.run_id, run.attempt, code, signal, Usage(cpu_s=0.1, memory_peak_bytes=peak), duration_s=1.0)
        )

    def waits_for(self) -> dict[str, str]:
        return {run.run_id: gate for run, gate, _ in self.dispatcher.waiting(self.now(), 1000)}


def hungry(name: str, memory: int, **fields: object) -> Job:
    return job(name, memory_bytes=memory, overlap=Overlap.ALLOW, **fields)


def test_a_run_waits_until_its_predicted_peak_fits_and_smaller_ones_pass() -> None:
    bench = Machine(hungry("big", 6 * GIB), hungry("small", 64 * MIB))
    first = bench.began("big", 6 * GIB)
    assert starts(bench.fire("big")) == []
    ((_, gate, reason),) = bench.dispatcher.waiting(bench.now(), 10)
    assert gate == "memory" and "6.0 GiB" in reason
    assert [run.job for run in starts(bench.fire("small"))] == ["small"]
    bench.ended(first, peak=6 * GIB)
    assert [run.job for run in starts(bench.look_for(3))] == ["big"]


def test_peaks_that_running_runs_have_not_reached_are_kept_for_them() -> None:
    bench = Machine(hungry("big", 4 * GIB))
    bench.began("big", 10 * MIB)
    assert starts(bench.fire("big")), "8 of the 9 GiB that may be used are spoken for"
    assert bench.available > 9 * GIB
    assert starts(bench.fire("big")) == []


def test_a_stranger_is_told_from_a_run_that_grows_where_what_each_holds_is_looked_at_together() -> None:
    """A run for which 6 GiB are reserved, and memory that goes by a GiB a second."""
    tiers = []
    for stranger in (False, True):
        bench = Machine(hungry("a", 6 * GIB))
        bench.afresh = True
        run = bench.began("a", 16 * MIB)
        for _ in range(5):
            bench.others += GIB // 4 if stranger else 0
            bench.look_for(0.25, grow={} if stranger else {run.run_id: GIB})
        tiers.append(bench.dispatcher.pressure.memory_tier)
    assert tiers == [0, 1]


def test_who_took_it_is_not_asked_where_that_is_not_known() -> None:
    bench = Machine(hungry("a", 6 * GIB))
    bench.began("a", 16 * MIB)
    for _ in range(5):
        bench.others += GIB // 4
        bench.look_for(0.25)
    assert bench.dispatcher.pressure.memory_tier == 0


def test_what_a_run_is_taken_to_need_goes_with_its_start() -> None:
    bench = Machine(hungry("a", 3 * GIB))
    said = bench.fire("a")
    assert [command.memory_bytes for command in said if isinstance(command, Start)] == [3 * GIB]


def retired(said: list[Command]) -> int:
    return sum(isinstance(command, RetireIdle) for command in said)


def test_idle_workers_make_room_once_for_each_run_that_waits_for_memory() -> None:
    bench = Machine(hungry("a", 5 * GIB), hungry("b", 6 * GIB))
    bench.began("a", holds=64 * MIB)
    assert retired(bench.look_for(2)) == 0
    bench.fire("b")
    assert list(bench.waits_for().values()) == ["memory"]
    assert retired(bench.look_for(5)) == 1


def test_idle_workers_are_told_to_end_again_and_again_while_memory_is_short() -> None:
    bench = Machine(hungry("a", 64 * MIB))
    bench.began("a", holds=64 * MIB)
    bench.others = 10 * GIB - 64 * MIB - bench.dispatcher.pressure._runs.memory.watch.reserve_bytes
    said = bench.look_for(1)
    assert retired(said) == 1  # a look at memory alone tells it when it begins
    sample = Sample(**dict.fromkeys(Sample.__struct_fields__))  # of which only the memory's pressure is read here
    said = [command for _ in range(3) for command in bench.tell(Sensed(bench.available, bench.limit, sample))]
    assert retired(said) == 3


def test_of_a_job_that_nobody_knows_one_run_shows_first_what_it_needs() -> None:
    bench = Machine(job("new", overlap=Overlap.ALLOW))
    first = bench.began("new", 10 * MIB)
    assert starts(bench.fire("new")) == []
    assert len(starts(bench.ended(first, peak=12 * MIB))) == 1
    assert len(starts(bench.fire("new"))) == 1, "now it is known"


def test_an_unknown_run_that_goes_on_has_shown_what_it_needs_after_half_a_minute() -> None:
    bench = Machine(job("new", overlap=Overlap.ALLOW))
    begun_s = bench.now_s + 1
    bench.began("new", 10 * MIB)
    bench.fire("new")
    assert starts(bench.look_for(begun_s + 29 - bench.now_s)) == []
    assert len(starts(bench.look_for(2))) == 1


def test_what_it_has_shown_is_all_that_is_kept_for_it() -> None:
    bench = Machine(job("new"))
    run = bench.began("new", 10 * MIB)
    held = bench.dispatcher.pressure._runs.memory.running[run.run_id]
    assert held.reserved_bytes > 500 * MIB
    bench.look_for(31)
    assert held.reserved_bytes == MIB, "a tenth of what it has"


def test_who_holds_what_somebody_of_higher_priority_waits_for_is_not_the_one_to_be_killed() -> None:
    jobs = [
        hungry("beside", 2 * GIB, priority=1),
        hungry("holder", 2 * GIB, uses={"db": 1}),
        hungry("waiter", MIB, uses={"db": 1}, priority=10),
    ]
    bench = Machine(*jobs)
    bench.tell(PlanLoaded(Plan(jobs={each.name: each for each in jobs}, resources={"db": 1}), 100))
    bench.look()
    beside, holder = bench.began("beside", 2 * GIB), bench.began("holder", 2 * GIB)
    bench.fire("waiter")
    said = bench.look_for(10, every_s=0.1, grow={beside.run_id: GIB, holder.run_id: GIB})
    killed = [command.run_id for command in said if isinstance(command, SignalTree) and command.signal == 9]
    frozen = [command.run_id for command in said if isinstance(command, Freeze)]
    assert set(killed + frozen) == {beside.run_id}


def test_where_nothing_is_known_of_memory_nothing_is_held() -> None:
    bench = Bench(job("new", overlap=Overlap.ALLOW), slots=100)
    assert sum(len(starts(bench.fire("new"))) for _ in range(20)) == 20


def test_with_nothing_running_one_run_starts_however_little_is_left() -> None:
    bench = Machine(hungry("big", 6 * GIB))
    bench.others = bench.limit - 1200 * MIB
    bench.look()
    assert len(starts(bench.fire("big"))) == 1


def test_when_memory_runs_out_the_youngest_of_the_lowest_priority_is_killed_and_queued_anew() -> None:
    bench = Machine(hungry("a", 2 * GIB), hungry("b", 2 * GIB, priority=-1))
    old, young = bench.began("a", 2 * GIB), bench.began("b", 2 * GIB)
    bench.began("a", GIB)
    said = bench.look_for(10, every_s=0.1, grow={young.run_id: GIB, old.run_id: GIB})
    killed = [command.run_id for command in said if isinstance(command, SignalTree) and command.signal == 9]
    frozen = [command.run_id for command in said if isinstance(command, Freeze)]
    assert frozen[:1] == [young.run_id] or killed[:1] == [young.run_id]
    assert old.run_id not in frozen + killed, "the oldest of the highest priority goes on"
    assert killed
    (evicted,) = records(said, Fact.RUN_EVICTED)[:1]
    assert evicted.run is not None and evicted.run.state is State.STOPPING
    run = bench.dispatcher.run(killed[0])
    assert run is not None
    (retrying,) = records(bench.ended(run, code=None, signal=9, peak=3 * GIB), Fact.RUN_RETRYING)
    assert retrying.run is not None and retrying.run.outcome is Outcome.KILLED_FOR_MEMORY
    assert "queued anew" in retrying.reason


def squeezed(bench: Machine, run: Run) -> list[Command]:
    """Others leave nothing, until this run has been killed for it."""
    said: list[Command] = []
    while not records(said, Fact.RUN_EVICTED):
        bench.held[run.run_id] += GIB
        said += bench.wait(0.25)
        said += bench.look()
        assert bench.now_s < 10_000
    live = bench.dispatcher.run(run.run_id)
    assert live is not None
    said += bench.ended(live, code=None, signal=9, peak=GIB)
    return said


def again(bench: Machine, run: Run) -> Run:
    """The next attempt, started."""
    bench.others = 0
    said = bench.look_for(1)
    while not (found := [each for each in starts(said) if each.run_id == run.run_id]):
        said = bench.look_for(1)
        assert bench.now_s < 10_000
    bench.started(found[0])
    bench.held[run.run_id] = 0
    return found[0]


def test_kills_for_memory_are_none_of_its_own_tries_and_have_an_end_of_their_own() -> None:
    bench = Machine(hungry("first", MIB, priority=5), hungry("a", MIB, retries=Retries(max=0)), hungry("late", MIB))
    beside = bench.began("first", MIB)
    run = bench.began("a", 0)
    delays = []
    for _ in range(2):
        (retrying,) = records(squeezed(bench, run), Fact.RUN_RETRYING)
        delays.append(float(retrying.reason.rpartition("queued anew in ")[2].split()[0]))
        run = again(bench, run)
    assert delays[1] > delays[0] > 0
    (retrying,) = records(squeezed(bench, run), Fact.RUN_RETRYING)
    assert "nothing beside it" in retrying.reason
    bench.others = 0
    assert starts(bench.look_for(120)) == [], "the last try waits for the others to end"
    assert bench.waits_for() == {run.run_id: "memory"}
    assert starts(bench.fire("late")) == [], "or they never all end"
    (last,) = starts(bench.ended(beside, peak=MIB))
    assert (last.run_id, last.attempt) == (run.run_id, 4)
    bench.started(last)
    assert starts(bench.fire("first")) == [], "and nothing starts beside it"
    said = bench.ended(last, code=1, peak=GIB)
    (finished,) = records(said, Fact.RUN_FINISHED)
    assert finished.run is not None and finished.run.outcome is Outcome.FAILED
    assert [run.job for run in starts(said)] == ["first", "late"], "side by side again"


def frozen_one(bench: Machine) -> Run:
    bench.began("keeps", GIB)
    run = bench.began("grows", GIB)
    grow = {run.run_id: 1200 * MIB}
    for _ in range(100):
        said = bench.look_for(0.25, grow=grow)
        assert not records(said, Fact.RUN_EVICTED), "it should have been frozen before"
        if any(isinstance(command, Freeze) for command in said):
            return run
    raise AssertionError("nothing was frozen")


def test_the_timeout_of_a_frozen_run_stands_still_and_goes_on_when_it_is_thawed() -> None:
    bench = Machine(hungry("keeps", GIB), hungry("grows", GIB, timeout_s=60.0), limit=20 * GIB)
    run = frozen_one(bench)
    frozen_at_s = bench.now_s
    assert bench.dispatcher.counts().frozen == 1
    said = bench.look_for(20)
    thaws = [command for command in said if isinstance(command, Thaw)]
    assert [each.run_id for each in thaws] == [run.run_id]
    assert bench.dispatcher.counts().frozen == 0
    live = bench.dispatcher.run(run.run_id)
    assert live is not None and live.state is State.RUNNING
    assert not records(bench.look_for(60 - bench.now_s), Fact.RUN_STOPPING), "60 s are over, but not 60 s of its own"
    assert records(bench.look_for(bench.now_s - frozen_at_s), Fact.RUN_STOPPING)


def test_a_time_out_that_would_have_come_meanwhile_does_not_come() -> None:
    jobs = [hungry("keeps", GIB), hungry("grows", GIB)]
    bench = Machine(*jobs, limit=20 * GIB)
    run = frozen_one(bench)
    ran_s = bench.now_s - bench.dispatcher.pressure._runs.memory.running[run.run_id].since_mono_s
    bench = Machine(jobs[0], hungry("grows", GIB, timeout_s=ran_s + 1), limit=20 * GIB)
    frozen_one(bench)
    said = bench.look_for(20)
    thawed = next(index for index, command in enumerate(said) if isinstance(command, Thaw))
    assert not records(said[:thawed], Fact.RUN_STOPPING)


def test_what_the_kernel_killed_is_taken_to_need_more_and_the_outcome_says_so() -> None:
    """Row 43."""
    bench = Machine(hungry("a", 64 * MIB))
    run = bench.began("a", 60 * MIB)
    usage = Usage(cpu_s=0.1, memory_peak_bytes=200 * MIB)
    said = bench.tell(Exited(run.run_id, 1, None, 9, usage, duration_s=1.0, oom=True))
    (finished,) = records(said, Fact.RUN_FINISHED)
    assert finished.run is not None and finished.run.outcome is Outcome.KILLED_FOR_MEMORY
    learned = bench.dispatcher.pressure.learned(bench.dispatcher.jobs["a"])
    assert learned is not None and learned.memory_bytes == 300 * MIB
    assert "killed for memory" in learned.memory_reason


def test_frozen_time_is_not_learned_as_its_own() -> None:
    bench = Machine(hungry("a", 64 * MIB))
    run = bench.began("a")
    usage = Usage(cpu_s=0.1, memory_peak_bytes=MIB, frozen_s=9.0)
    bench.tell(Exited(run.run_id, 1, 0, None, usage, duration_s=10.0))
    learned = bench.dispatcher.pressure.learned(bench.dispatcher.jobs["a"])
    assert learned is not None and learned.duration_s is not None and learned.duration_s < 1.2


def test_nothing_is_set_aside_for_who_waits_for_memory_besides() -> None:
    jobs = [
        hungry("holder", MIB, uses={"db": 1}),
        hungry("eats", 8 * GIB),
        hungry("big", 6 * GIB, uses={"db": 1}, priority=5),
        hungry("small", MIB, uses={"db": 1}),
    ]
    bench = Machine(*jobs)
    bench.tell(PlanLoaded(Plan(jobs={each.name: each for each in jobs}, resources={"db": 1}), 100))
    bench.look()
    holder = bench.began("holder", MIB)
    bench.running("eats")
    big = bench.fire("big")
    assert starts(big) == [] and list(bench.waits_for().values()) == ["resources"]
    assert starts(bench.ended(holder, peak=MIB)) == [] and list(bench.waits_for().values()) == ["memory"]
    assert [run.job for run in starts(bench.fire("small"))] == ["small"]


def test_a_frozen_run_that_is_cancelled_or_ends_is_frozen_no_more() -> None:
    bench = Machine(hungry("keeps", GIB), hungry("grows", GIB), limit=20 * GIB)
    run = frozen_one(bench)
    bench.ended(run, peak=GIB)
    assert bench.dispatcher.counts().frozen == 0


def test_a_frozen_run_that_is_killed_for_memory_is_frozen_no_more() -> None:
    bench = Machine(hungry("keeps", GIB), hungry("grows", 12 * GIB), limit=20 * GIB)
    run = frozen_one(bench)
    bench.others = bench.available - GIB
    assert records(bench.look_for(60), Fact.RUN_EVICTED)
    live = bench.dispatcher.run(run.run_id)
    assert live is not None and (live.state, bench.dispatcher.counts().frozen) == (State.STOPPING, 0)


def test_a_run_that_an_earlier_life_froze_is_thawed_when_it_is_taken_up() -> None:
    bench = Machine(job("a", timeout_s=100.0))
    was = Run(run_id="old1", job="a", scheduled_at=EPOCH, queued_at=EPOCH, started_at=EPOCH - timedelta(seconds=90))
    said = bench.tell(Recovered(was, bench.dispatcher.jobs["a"], 100, frozen_s=30.0, frozen=True))
    assert [command.run_id for command in said if isinstance(command, Thaw)] == ["old1"]
    assert not records(bench.wait(39), Fact.RUN_STOPPING)
    assert records(bench.wait(2), Fact.RUN_STOPPING)


def test_behind_a_head_that_waited_for_long_only_those_pass_that_end_before_its_turn() -> None:
    sizes = {"holds": 5 * GIB, "head": 9 * GIB + 700 * MIB, "short": 256 * MIB, "long": 512 * MIB}
    bench = Machine(*(hungry(name, size) for name, size in sizes.items()), limit=12 * GIB)
    for name, took_s in (("holds", 1000.0), ("short", 1.0), ("long", 10_000.0)):
        for _ in range(6):
            run = bench.began(name, 0)
            bench.held.pop(run.run_id)
            peak = bench.dispatcher.jobs[name].memory_bytes
            bench.tell(Exited(run.run_id, 1, 0, None, Usage(cpu_s=0.0, memory_peak_bytes=peak), duration_s=took_s))
    bench.look()
    bench.began("holds", 5 * GIB)
    assert starts(bench.fire("head")) == []
    assert [run.job for run in starts(bench.fire("long"))] == ["long"], "for half a minute it is passed by whoever fits"
    bench.look_for(31)
    assert [run.job for run in starts(bench.fire("short"))] == ["short"]
    assert starts(bench.fire("long")) == []
    assert "kept for it" in bench.dispatcher.waiting(bench.now(), 10)[-1][2]
    said = bench.tell(PauseRequested("head", "a test"))
    assert [run.job for run in starts(said)] == ["long"], "for who is paused nothing is kept"


class AnyPressure(RuleBasedStateMachine):
    """Whatever the machine does: nothing is lost, nobody is stuck, and the first is never touched."""

    bench: Machine

    @initialize(limit=st.sampled_from([256 * MIB, 2 * GIB, 16 * GIB]))
    def begin(self, limit: int) -> None:
        jobs = [
            hungry(f"known{i}", (50 * MIB) << i, priority=i - 1, retries=Retries(max=1, delay_s=1.0)) for i in range(3)
        ]
        self.bench = Machine(*jobs, job("new", overlap=Overlap.ALLOW), limit=limit, slots=6)
        self.fired = 0
        self.ended: set[str] = set()
        self.frozen: set[str] = set()

    def must_not_be_the_first(self, run_id: str) -> None:
        """The oldest of the highest priority goes on, whatever happens."""
        running = self.bench.dispatcher._runs.memory.running
        ranks = {each: (holding.live.job.priority, -holding.since_mono_s) for each, holding in running.items()}
        mine = ranks.pop(run_id)
        assert any(rank >= mine for rank in ranks.values()), "nobody else would be left"

    def note(self, said: list[Command]) -> None:
        for record in records(said, Fact.RUN_EVICTED) + records(said, Fact.RUN_FROZEN):
            assert record.run is not None
            self.must_not_be_the_first(record.run.run_id)
        for command in said:
            if isinstance(command, Freeze):
                assert command.run_id not in self.frozen
                self.frozen.add(command.run_id)
            elif isinstance(command, Thaw):
                self.frozen.remove(command.run_id)
        for record in records(said, Fact.RUN_EVICTED):
            assert record.run is not None
            self.frozen.discard(record.run.run_id)  # KILL needs no thaw
        for record in records(said, Fact.RUN_FINISHED):
            assert record.run is not None
            assert record.run.run_id not in self.ended
            self.ended.add(record.run.run_id)
        for run in starts(said):
            self.bench.held[run.run_id] = 0
            self.note(self.bench.started(run))

    def active(self) -> list[Run]:
        return [run for run in self.bench.dispatcher.runs() if run.state in HOLDS_SLOT]

    @rule(name=st.sampled_from(["known0", "known1", "known2", "new"]), count=st.integers(1, 5))
    def fire(self, name: str, count: int) -> None:
        for _ in range(count):
            self.bench.now_s += 0.001
            self.fired += 1
            self.note(self.bench.fire(name))

    @rule(pick=st.integers(0, 10), share=st.floats(0, 1))
    def takes(self, pick: int, share: float) -> None:
        runs = [run for run in self.active() if run.run_id not in self.frozen and run.run_id in self.bench.held]
        if runs:
            run_id = runs[pick % len(runs)].run_id
            self.bench.held[run_id] += int(share * self.bench.available)

    @rule(share=st.floats(0, 1.1))
    def others_take(self, share: float) -> None:
        self.bench.others = int(share * self.bench.limit)

    @rule(seconds=st.sampled_from([0.05, 0.25, 1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.note(self.bench.wait(seconds))
        self.note(self.bench.look())

    @rule(pick=st.integers(0, 10), code=st.sampled_from([0, 0, 1]))
    def one_ends(self, pick: int, code: int) -> None:
        runs = self.active()
        if runs:
            run = runs[pick % len(runs)]
            self.frozen.discard(run.run_id)
            peak = self.bench.held.get(run.run_id)
            killed = run.state is State.STOPPING
            self.note(self.bench.ended(run, code=None if killed else code, signal=9 if killed else None, peak=peak))

    @invariant()
    def books_agree(self) -> None:
        engine = self.bench.dispatcher._runs
        assert {run.run_id for run in self.active()} == set(engine.memory.running)
        assert engine.memory.reserved_bytes == sum(each.reserved_bytes for each in engine.memory.running.values())
        assert all(each.reserved_bytes >= 0 for each in engine.memory.running.values())
        assert self.bench.dispatcher.counts().frozen == len(self.frozen)
        assert self.fired == len(self.ended) + len(self.bench.dispatcher.runs())

    @invariant()
    def something_runs_unless_it_is_the_machine_that_forbids_it(self) -> None:
        waiting = [run for run in self.bench.dispatcher.runs() if run.state is State.QUEUED]
        if waiting and not self.active():
            assert self.bench.dispatcher.pressure.memory_tier == 3

    def teardown(self) -> None:
        """When others let go and runs end, everything ends."""
        if not hasattr(self, "bench"):
            return
        self.bench.others = 0
        for _ in range(400):
            for run in self.active():
                self.frozen.discard(run.run_id)
                killed = run.state is State.STOPPING
                self.note(self.bench.ended(run, code=None if killed else 0, signal=9 if killed else None, peak=MIB))
            self.note(self.bench.wait(5))
            self.note(self.bench.look())
            if not self.bench.dispatcher.runs():
                return
        raise AssertionError(f"never ended: {self.bench.dispatcher.runs()}")


TestAnyPressure = AnyPressure.TestCase
TestAnyPressure.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("lost", [Sensed(None, 10 * GIB), Sensed(GIB, None)])
def test_where_memory_can_be_read_no_more_the_gate_opens(lost: Sensed) -> None:
    bench = Machine(hungry("big", 6 * GIB))
    bench.began("big", 6 * GIB)
    assert starts(bench.fire("big")) == []
    assert len(starts(bench.tell(lost))) == 1


def test_memory_that_is_short_is_looked_at_until_it_is_enough_again_though_nothing_runs() -> None:
    bench = Machine(hungry("a", MIB))
    run = bench.began("a", MIB)
    bench.others = bench.limit - 100 * MIB
    bench.look()
    assert bench.dispatcher.pressure.memory_tier > 0
    bench.ended(run, peak=MIB)
    assert bench.dispatcher.pressure.look_s() is not None
    bench.others = 0
    said = bench.look_for(5)
    assert records(said, Fact.MEMORY_TIER)[-1].tier == 0
    assert bench.dispatcher.pressure.look_s() is None


def test_what_a_run_holds_is_known_from_its_first_look_on_and_so_is_whether_it_is_held_still() -> None:
    bench = Machine(hungry("old", 64 * MIB), hungry("young", 64 * MIB))
    pressure = bench.dispatcher.pressure
    assert pressure.held_by("nobody") == (None, False)
    first = bench.running("old")
    assert pressure.held_by(first.run_id) == (None, False)
    bench.held[first.run_id] = 32 * MIB
    bench.look()
    assert pressure.held_by(first.run_id) == (32 * MIB, False)
    second = bench.began("young", 32 * MIB)
    said = bench.look_for(8, grow={second.run_id: GIB})
    assert any(isinstance(command, Freeze) and command.run_id == second.run_id for command in said)
    assert pressure.held_by(second.run_id)[1] and not pressure.held_by(first.run_id)[1]
