"""When the machine is looked at, and at what: a made-up machine, engine and loop whose time is a number."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from tidegate.model.event import Exited, RunsUsed, Sensed
from tidegate.model.pool import PoolSettings
from tidegate.model.run import Usage
from tidegate.model.sample import Memory, Pressure, Reading
from tidegate.supervisor import sensing
from tidegate.supervisor.sensing import ANSWER_S_MAX, OLD_S, OLD_SAMPLE_S, OWN_S_MAX, Sensing

GIB = 1 << 30
QUIET = Pressure(some_us=0, full_us=0)


@dataclass
class World:
    """Two cores, all busy: half a core is used by our own processes."""

    now_s: float = 1000.0
    every_s: float | None = 0.25
    crowded: bool = False
    restful: bool = False
    calm_look_s: float = 2.0
    memory_moves: bool = False
    waits_for_memory: bool = False
    own_takes_s: float = 0.0
    own_cores: float = 0.5
    runnable: float = 2.0  # threads, at each look
    counts_runnable: bool = True
    memory: Memory | None = field(default_factory=lambda: Memory(8 * GIB, 16 * GIB))
    keeper_pid: int | None = 77
    answers_in_s: float | None = None  # the keeper; None: only when the test says so
    settings: PoolSettings = field(default_factory=PoolSettings)
    looks: list[str] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    posted: list[Sensed] = field(default_factory=list)
    timers: list[tuple[float, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.busy_s = self.own_s = self.glances = self.runnable_sum = 0.0
        self.began_s = self.now_s
        self.watched: tuple[int, ...] = ()
        hands = SimpleNamespace(ask_use=self.ask_use, keeper_pid=self.keeper_pid)
        pressure = SimpleNamespace(pressure=self)
        self.sensing = Sensing(self, pressure, hands, self.posted.append, lambda: self.settings)

    # --- the engine

    def look_s(self) -> float | None:
        return self.every_s

    # --- the keeper

    def ask_use(self, afresh: bool) -> None:
        self.asked.append(afresh)
        if afresh and self.answers_in_s is not None:
            self.call_later(self.answers_in_s, self.answer)

    def answer(self) -> None:
        seen = self.sensing.before_turn([RunsUsed((), afresh=True)])
        assert seen is not None
        self.posted.append(seen)

    # --- the machine

    def watch(self, pids) -> None:
        self.watched = tuple(pids)

    def glance(self) -> None:
        self.glances += 1
        self.runnable_sum += self.runnable
        self.looks.append("count")

    def available(self) -> Memory | None:
        self.looks.append("memory")
        return self.memory

    def read(self, own: bool = True) -> Reading:
        self.glances += 1
        self.runnable_sum += self.runnable
        self.looks.append("whole" if own else "part")
        spent_s = self.now_s - self.began_s
        if own:
            self.now_s += self.own_takes_s
        memory = self.memory
        return Reading(
            **dict.fromkeys(Reading.__struct_fields__)
            | {
                "at_s": self.began_s + spent_s, "cores": 2.0, "cpus": 2, "runnable_looks": int(self.glances),
                "runnable_sum": self.runnable_sum if self.counts_runnable else None,
                "busy_s": 2 * spent_s, "idle_s": 0.0, "own_cpu_s": self.own_cores * spent_s if own else None,
                "own_run_s": spent_s if own else None, "own_wait_s": spent_s if own else None,
                "pressure_of": "machine", "cpu": QUIET, "memory": QUIET, "io": QUIET,
                "available_bytes": None if memory is None else memory.available_bytes,
                "memory_limit_bytes": None if memory is None else memory.limit_bytes,
            }
        )  # fmt: skip

    def close(self) -> None:
        self.looks.append("closed")

    # --- the loop

    def call_later(self, seconds: float, action) -> SimpleNamespace:
        timer = (self.now_s + seconds, action)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    def pass_s(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.timers and min(self.timers, key=lambda each: each[0])[0] <= end_s:
            timer = min(self.timers, key=lambda each: each[0])
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer[0])
            timer[1]()
        self.now_s = max(self.now_s, end_s)

    def count(self, what: str) -> int:
        return self.looks.count(what)

    @property
    def samples(self) -> list:
        return [event.sample for event in self.posted if event.sample is not None]


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(sensing.clock, "monotonic_s", lambda: made.now_s)
    monkeypatch.setattr(sensing.asyncio, "get_running_loop", lambda: made)
    return made


def test_nothing_is_looked_at_while_nothing_runs(world):
    world.every_s = None
    world.sensing.after_turn()
    world.pass_s(60)
    assert world.looks == [] and world.timers == []


def test_it_begins_with_the_turn_that_gives_a_reason_and_ends_when_there_is_none(world):
    world.sensing.after_turn()
    world.sensing.after_turn()
    assert len(world.timers) == 1
    world.pass_s(5)
    assert world.posted
    world.every_s = None
    world.pass_s(1)
    assert world.timers == []


def test_each_kind_of_look_has_its_pace(world):
    world.sensing.after_turn()
    world.pass_s(10.05)
    assert world.count("whole") + world.count("part") == pytest.approx(20, abs=1)
    assert world.count("memory") == pytest.approx(20, abs=2)  # every other one is part of a whole look
    assert world.count("count") == pytest.approx(80, abs=3)


def test_memory_is_looked_at_as_often_as_the_engine_wants(world):
    world.every_s = 0.05
    world.sensing.after_turn()
    world.pass_s(10.05)
    assert world.count("memory") == pytest.approx(180, abs=5)


def test_what_runs_hold_is_asked_with_each_reading_and_afresh_with_each_look_while_memory_is_short(world):
    world.sensing.after_turn()
    world.pass_s(10.05)
    assert set(world.asked) == {False} and len(world.asked) == pytest.approx(19, abs=1)
    world.asked.clear()
    world.memory_moves, world.answers_in_s = True, 0.002
    world.pass_s(10)
    assert set(world.asked) == {True} and len(world.asked) == pytest.approx(40, abs=2)


def exits(world, times: int) -> None:
    for number in range(times):
        world.sensing.before_turn([Exited(f"r{number}", 1, 0, None, Usage(), 1.0)])


def test_there_is_one_such_question_at_a_time_and_one_more_for_all_that_came_meanwhile(world):
    world.waits_for_memory = True
    exits(world, 200)
    assert world.asked == [True]
    world.now_s += 0.002
    world.answer()
    exits(world, 200)
    assert world.asked == [True]
    world.pass_s(PoolSettings().look_s_min)
    assert world.asked == [True, True]
    world.answer()
    world.pass_s(60)
    assert world.asked == [True, True], "nothing happened any more"


def test_between_two_of_them_is_as_long_a_pause_as_the_answer_took(world):
    world.waits_for_memory, world.answers_in_s = True, 0.5
    for _ in range(1000):
        exits(world, 1)
        world.pass_s(0.01)
    assert len(world.asked) == pytest.approx(10, abs=1)


def test_a_keeper_that_ended_before_it_answered_is_waited_for_no_longer_than_it_takes_to_see_that(world):
    world.waits_for_memory = True
    exits(world, 1)
    world.now_s += ANSWER_S_MAX
    exits(world, 1)
    assert world.asked == [True, True]


def test_a_run_that_ended_is_reason_to_ask_what_the_others_hold_where_memory_is_waited_for(world):
    ended = Exited("r1", 1, 0, None, Usage(), 1.0)
    world.sensing.before_turn([ended])
    assert world.asked == []
    world.waits_for_memory = True
    assert world.sensing.before_turn([ended]) is None
    assert world.asked == [True]


def test_an_end_that_comes_together_with_the_answer_is_reason_to_ask_once_more(world):
    world.waits_for_memory = True
    ended = Exited("r1", 1, 0, None, Usage(), 1.0)
    world.sensing.before_turn([ended])
    world.sensing.before_turn([RunsUsed((), afresh=True), ended])
    world.pass_s(1)
    assert world.asked == [True, True]


def test_while_somebody_waits_for_memory_each_reading_asks_afresh(world):
    world.waits_for_memory, world.answers_in_s = True, 0.002
    world.sensing.after_turn()
    world.pass_s(3.05)
    assert set(world.asked) == {True} and len(world.asked) == pytest.approx(5, abs=1)


def test_memory_is_looked_at_with_the_answer_so_that_both_are_of_the_same_instant(world):
    world.waits_for_memory = True
    world.sensing.before_turn([])
    world.sensing.before_turn([Exited("r1", 1, 0, None, Usage(), 1.0)])
    assert world.sensing.before_turn([RunsUsed((), afresh=False)]) is None
    world.memory = Memory(3 * GIB, 16 * GIB)
    assert world.sensing.before_turn([RunsUsed((), afresh=True)]).available_bytes == 3 * GIB
    assert world.sensing.before_turn([RunsUsed((), afresh=False)]) is None
    world.memory = Memory(2 * GIB, 16 * GIB)
    assert world.sensing.before_turn([RunsUsed((), afresh=True)]).available_bytes == 2 * GIB, "a late answer, too"


def test_the_keepers_processes_are_ours(world):
    world.sensing.after_turn()
    world.pass_s(1)
    assert world.watched == (77,)


def test_a_turn_after_an_idle_hour_looks_at_memory_first_and_the_next_one_need_not(world):
    seen = world.sensing.before_turn([])
    assert (seen.available_bytes, seen.limit_bytes, seen.sample) == (8 * GIB, 16 * GIB, None)
    world.now_s += OLD_S / 2
    assert world.sensing.before_turn([]) is None
    world.now_s += OLD_S / 2
    assert world.sensing.before_turn([]) is not None


def test_memory_that_cannot_be_read_is_told_as_that(world):
    world.memory = None
    seen = world.sensing.before_turn([])
    assert (seen.available_bytes, seen.limit_bytes) == (None, None)


def test_the_load_is_a_mean_over_a_second_and_all_else_is_of_half_a_one(world):
    world.sensing.after_turn()
    world.runnable = 2.0
    world.pass_s(2.1)
    world.runnable = 8.0
    world.pass_s(0.5)
    half = world.samples[-1]
    assert 1.5 < half.load_ratio < 3.5
    assert half.interval_s == pytest.approx(0.5, abs=0.01)
    world.pass_s(1.0)
    assert world.samples[-1].load_ratio == pytest.approx(4.0)


@pytest.mark.parametrize("fresh_s", [0.1, 0.5, 1.0, 3.0, 5.0])
def test_over_how_long_the_load_is_a_mean_is_a_setting(world, fresh_s):
    world.settings = PoolSettings(fresh_s=fresh_s)
    world.sensing.after_turn()
    world.runnable = 2.0
    world.pass_s(12.05)
    world.runnable, changed_s = 8.0, world.now_s
    world.pass_s(2.0)
    span_s = max(fresh_s, 0.5)
    seen_s = min(span_s, world.samples[-1].at_s - changed_s)
    expected = (8.0 * seen_s + 2.0 * (span_s - seen_s)) / span_s / 2
    assert world.samples[-1].load_ratio == pytest.approx(expected, rel=0.08)
    assert world.samples[-1].interval_s == pytest.approx(0.5, abs=0.01)


def test_what_happened_while_nothing_ran_is_in_no_sample(world):
    world.sensing.after_turn()
    world.pass_s(3)
    world.every_s = None
    world.pass_s(3)
    world.every_s = 0.25
    world.posted.clear()
    world.sensing.after_turn()
    world.pass_s(0.3)
    assert world.samples == []
    world.pass_s(0.5)
    assert world.samples[0].interval_s == pytest.approx(0.5, abs=0.01)
    assert world.samples[0].foreign_cores == pytest.approx(1.5)


def test_nor_in_what_our_processes_use(world):
    world.own_takes_s = 0.004  # so that they are not looked at with each reading
    world.sensing.after_turn()
    world.pass_s(3)
    world.every_s = None
    world.pass_s(30)
    world.every_s = 0.25
    world.own_cores = 1.0
    world.posted.clear()
    world.sensing.after_turn()
    world.pass_s(1)
    assert round(world.samples[0].own_cores, 2) == 1.0


def test_the_last_sample_is_shown_while_it_says_something_of_now(world):
    assert world.sensing.last is None
    world.sensing.after_turn()
    world.pass_s(3)
    assert world.sensing.last is world.samples[-1]
    world.every_s = None
    world.pass_s(OLD_SAMPLE_S + 1)
    assert world.sensing.last is None
    world.settings = PoolSettings(interval_s_calm=60.0)
    assert world.sensing.last is world.samples[-1], "the next one would come after a minute"
    world.pass_s(90)
    assert world.sensing.last is None


def test_when_it_is_closed_it_looks_no_more(world):
    world.sensing.after_turn()
    world.sensing.close()
    assert world.timers == [] and world.looks == ["closed"]


# --- our own processes, one by one ----------------------------------------------------------------------------


def test_with_few_processes_ours_are_told_from_others_in_each_reading(world):
    world.sensing.after_turn()
    world.pass_s(10)
    assert world.count("part") == 0
    assert {round(each.foreign_cores, 3) for each in world.samples} == {1.5}


def test_with_many_they_are_looked_at_the_more_seldom_the_longer_that_takes(world):
    world.own_takes_s = 0.004
    world.sensing.after_turn()
    world.pass_s(60)
    assert world.count("whole") == pytest.approx(60 / 8, abs=2)
    assert world.count("part") == pytest.approx(120 - 8, abs=5)
    assert {round(each.foreign_cores, 2) for each in world.samples} == {1.5}
    assert {round(each.own_cores, 2) for each in world.samples} == {0.5}


def test_but_never_more_seldom_than_every_ten_seconds(world):
    world.own_takes_s = 0.2
    world.sensing.after_turn()
    world.pass_s(60)
    assert world.count("whole") == pytest.approx(60 / OWN_S_MAX, abs=2)


def test_and_in_each_reading_while_a_run_waits(world):
    world.own_takes_s = 0.004
    world.sensing.after_turn()
    world.pass_s(10)
    before = world.count("whole")
    world.crowded = True
    world.own_cores = 0.0
    world.pass_s(10)
    assert world.count("whole") - before == pytest.approx(20, abs=1)


def test_a_load_that_only_our_processes_tell_is_kept_until_they_are_looked_at_again(world):
    world.counts_runnable, world.own_takes_s = False, 0.004
    world.sensing.after_turn()
    world.pass_s(10)
    assert world.count("part") > 10
    assert {each.load_source for each in world.samples} == {"run_delay"}
    assert {round(each.load_ratio, 2) for each in world.samples} == {2.0}


def test_while_nobody_waits_and_much_is_left_it_looks_seldom(world):
    world.restful = True
    world.sensing.after_turn()
    world.pass_s(20.05)
    assert world.count("whole") + world.count("part") == pytest.approx(2, abs=1)
    assert world.count("memory") == pytest.approx(8, abs=1)
    assert world.count("count") == 0
    assert len(world.asked) == pytest.approx(2, abs=1)


def test_and_what_was_meanwhile_is_in_no_sample(world):
    world.restful, world.runnable = True, 0.0
    world.sensing.after_turn()
    world.pass_s(29)
    world.restful, world.runnable = False, 8.0
    world.posted.clear()
    world.sensing.after_turn()
    world.pass_s(1.0)
    first = world.samples[0]
    assert first.interval_s == pytest.approx(0.5, abs=0.01)
    assert first.load_ratio == pytest.approx(4.0)


def test_and_at_once_where_a_turn_leaves_somebody_waiting(world):
    world.restful = True
    world.sensing.after_turn()
    world.pass_s(10.05)
    world.looks.clear()
    world.restful = False
    world.sensing.after_turn()
    world.sensing.after_turn()
    assert len(world.timers) == 1
    world.pass_s(0.15)
    assert world.count("whole") + world.count("part") + world.count("count") >= 1
