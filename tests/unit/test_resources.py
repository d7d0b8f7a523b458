"""Shared resources by behaviour: who gets units, who waits behind whom, and that none are ever lost or lent twice."""

from datetime import timedelta

import pytest
from engine_bench import EPOCH, Bench, job, starts
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidegate.engine.lifecycle import HOLDS_SLOT
from tidegate.engine.live import Live
from tidegate.engine.queue import ReadyQueue
from tidegate.engine.resources import ResourceGate
from tidegate.model.command import Fact, Record
from tidegate.model.event import (
    CancelRequested,
    Exited,
    Fired,
    LeaseReleased,
    LeaseRequested,
    Now,
    PauseRequested,
    PlanLoaded,
    ResumeRequested,
    Started,
    WindowChanged,
)
from tidegate.model.job import During, Job, Overlap, Window
from tidegate.model.lease import Lease
from tidegate.model.limits import AGING_S, LEASES_MAX
from tidegate.model.plan import Calendar, Plan
from tidegate.model.run import Run, State, Usage


class World:
    """The gate with a queue as engine/runs.py drives it: walk in order, park who is held, then grant leases."""

    def __init__(self, **resources):
        self.gate = ResourceGate()
        self.gate.load(resources)
        self.now_s = 0.0
        self.count = 0
        self.ready = ReadyQueue()
        self.parked = []
        self.running = {}
        self.granted = {}

    def now(self):
        return Now(EPOCH + timedelta(seconds=self.now_s), self.now_s)

    def queue(self, priority=0, **uses):
        self.count += 1
        made = Job(name=f"job{self.count}", command=("work",), uses=uses, priority=priority)
        wall = self.now().wall
        live = Live(Run(run_id=f"r{self.count:05}", job=made.name, scheduled_at=wall, queued_at=wall), made, self.now_s)
        self.ready.push(live)
        return live

    def ask(self, wait_s=None, **uses):
        self.count += 1
        lease = Lease(lease_id=f"l{self.count:05}", uses=uses, holder="pid 812 (dump)", asked_at=self.now().wall)
        assert self.gate.request(lease, self.now_s, wait_s) is None
        return lease

    def walk(self):
        """The lives that start."""
        if self.gate.stale:
            for live in self.parked:
                self.ready.push(live)
            self.parked = []
            self.gate.begin_walk()
        started = []
        while (live := self.ready.pop()) is not None:
            if self.gate.holds(live, self.now()) is None:
                self.gate.took(live)
                self.running[live.run.run_id] = live
                started.append(live)
            else:
                self.gate.held(live)
                self.parked.append(live)
        for lease in self.gate.grant(self.now()):
            self.granted[lease.lease_id] = lease
        return started

    def end(self, live):
        del self.running[live.run.run_id]
        self.gate.gave(live)
        self.gate.left(live)

    def withdraw(self, live):
        self.parked.remove(live)
        self.gate.left(live)

    def why(self, live):
        return self.gate.holds(live, self.now())


# --- runs --------------------------------------------------------------------------------------------------


def test_units_are_taken_and_come_back():
    world = World(database=2)
    first, second, third = (world.queue(database=1) for _ in range(3))
    assert world.walk() == [first, second]
    assert world.why(third) == ("needs 1 of database: 2 of 2 in use by run r00001 of job1, run r00002 of job2")
    world.end(first)
    assert world.walk() == [third]


def test_a_run_takes_all_that_it_uses_or_nothing():
    world = World(database=1, gpu=1)
    holder = world.queue(gpu=1)
    both = world.queue(database=1, gpu=1)
    assert world.walk() == [holder]
    assert world.gate.used() == {"database": (1, 0), "gpu": (1, 1)}
    world.end(holder)
    assert world.walk() == [both]
    assert world.gate.used() == {"database": (1, 1), "gpu": (1, 1)}


def test_a_later_run_waits_behind_a_large_one_and_those_that_need_other_things_pass():
    world = World(database=4, gpu=1)
    small = world.queue(database=1)
    world.walk()
    large = world.queue(database=4)
    later = world.queue(database=1)
    other = world.queue(gpu=1)
    nothing = world.queue()
    assert world.walk() == [other, nothing]
    assert world.why(later) == f"waits behind run {large.run.run_id} for database"
    world.end(small)
    assert world.walk() == [large]


def test_a_large_request_gets_its_units_however_many_small_ones_come():
    world = World(database=4)
    for _ in range(4):
        world.queue(database=1)
        world.now_s += 1
    world.walk()
    large = world.queue(database=4)
    for _ in range(20):
        world.now_s += 1
        world.queue(database=1)
        oldest = next(iter(world.running.values()))
        if oldest is large:
            break
        world.end(oldest)
        world.walk()
    assert list(world.running.values()) == [large]


def test_what_a_waiting_run_leaves_free_may_be_used():
    world = World(database=4, gpu=1)
    world.queue(gpu=1)
    world.walk()
    waits = world.queue(gpu=1, database=1)  # for the gpu; one unit of database is set aside for it
    fits = world.queue(database=3)
    over = world.queue(database=1)
    assert world.walk() == [fits]
    assert world.why(over) == f"waits behind run {waits.run.run_id} for database"


def test_priority_goes_before_age():
    world = World(database=1)
    holder = world.queue(database=1)
    world.walk()
    world.now_s = 1.0
    low = world.queue(database=1)
    world.walk()  # low stands in line first
    world.now_s = 2.0
    high = world.queue(database=1, priority=1)
    world.walk()
    world.end(holder)
    assert world.walk() == [high]
    world.end(high)
    assert world.walk() == [low]


def test_one_of_higher_priority_passes_those_in_line_at_once_where_units_are_free():
    world = World(database=4, gpu=1)
    world.queue(database=2)
    world.walk()
    world.queue(database=4)
    world.walk()
    assert world.walk() == []
    high = world.queue(database=2, priority=5)
    assert world.walk() == [high]


def test_one_who_comes_late_and_stands_early_counts_for_those_behind_and_not_for_those_before():
    world = World(database=4, gpu=1)
    world.queue(database=1, gpu=1)
    world.walk()
    world.now_s = AGING_S * 0.9
    last = world.queue(database=1, gpu=1)  # behind them all; its unit stays free
    world.walk()
    world.now_s = AGING_S
    first = world.queue(database=1, gpu=1, priority=1)
    world.walk()
    world.now_s = AGING_S * 1.1
    middle = world.queue(database=2, priority=1)  # 3 are free, 1 is set aside before it, 1 behind it
    over = world.queue(database=1)
    assert world.walk() == [middle]
    assert world.why(over) == f"waits behind run {first.run.run_id} for database"
    assert world.gate.views()[0].holdings[2].run_id == last.run.run_id


def test_a_run_that_is_started_without_a_new_walk_has_left_the_line():
    world = World(database=1)
    live = world.queue(database=1)
    world.gate.held(live)
    world.gate.took(live)
    world.gate.gave(live)
    assert world.gate.views()[0].holdings == ()
    later = world.queue(database=1)
    assert world.gate.holds(later, world.now()) is None


def test_who_withdraws_sets_the_next_one_free():
    world = World(database=2)
    world.queue(database=1)
    large, small = world.queue(database=2), world.queue(database=1)
    world.walk()
    world.withdraw(large)
    assert world.walk() == [small]


def test_looking_at_who_waits_changes_nothing():
    world = World(database=1)
    world.queue(database=1)
    world.walk()
    first, second = world.queue(database=1), world.queue(database=1)
    for _ in range(3):
        world.why(second)
        world.why(first)
    assert not world.gate.stale
    world.walk()
    for _ in range(3):
        world.gate.held(second)
    world.end(next(iter(world.running.values())))
    assert world.walk() == [first]


def test_nobody_is_looked_at_again_while_nothing_came_back():
    world = World(database=1)
    world.queue(database=1)
    world.walk()
    world.queue(database=1)
    world.walk()
    assert not world.gate.stale


# --- reloads -----------------------------------------------------------------------------------------------


def test_a_reload_that_lowers_units_takes_nothing_away_and_grants_nothing_until_it_fits():
    world = World(database=3)
    runs = [world.queue(database=1) for _ in range(3)]
    waits = world.queue(database=1)
    world.walk()
    world.gate.load({"database": 1})
    assert world.walk() == []
    assert world.gate.used() == {"database": (1, 3)}
    world.end(runs[0])
    world.end(runs[1])
    assert world.walk() == []
    world.end(runs[2])
    assert world.walk() == [waits]


def test_a_run_whose_resource_was_removed_is_held_and_told_what_to_do_and_holds_nobody_back():
    world = World(database=1, gpu=1)
    world.gate.load({"gpu": 1})
    orphan = world.queue(database=1, gpu=1)
    world.now_s = 1.0
    other = world.queue(gpu=1)
    assert world.walk() == [other]
    assert world.why(orphan) == (
        "resource database does not exist: add it to [resources], or take it out of `uses` and cancel this"
    )
    world.end(other)
    world.gate.load({"gpu": 1, "database": 1})
    assert world.walk() == [orphan]


def test_a_run_that_needs_more_than_exist_since_a_reload_is_held_and_holds_nobody_back():
    world = World(database=4)
    world.gate.load({"database": 2})
    large, small = world.queue(database=3), world.queue(database=1)
    assert world.walk() == [small]
    assert "of which only 2 exist" in world.why(large)


def test_a_removed_resource_is_shown_while_somebody_holds_it():
    world = World(database=1)
    run = world.queue(database=1)
    world.walk()
    world.gate.load({})
    assert world.gate.used() == {"database": (0, 1)}
    world.end(run)
    assert world.gate.used() == {}


def test_many_holders_are_named_in_short():
    world = World(database=5)
    for _ in range(5):
        world.queue(database=1)
    waits = world.queue(database=1)
    world.walk()
    assert world.why(waits).endswith("run r00003 of job3 and 2 more")


def test_in_the_engine_one_that_can_never_start_stops_nobody_behind_it():
    big, small = job("big", uses={"db": 3}), job("small", uses={"db": 1}, overlap=Overlap.ALLOW)

    def loaded(units):
        return PlanLoaded(Plan(jobs={"big": big, "small": small}, resources={"db": units}), 8)

    bench = Bench()
    bench.tell(loaded(3))
    first = bench.running("small")
    assert starts(bench.fire("big")) == []
    bench.tell(loaded(1))
    assert starts(bench.fire("small")) == []
    assert [run.job for run in starts(bench.exited(first))] == ["small"]
    waiting = bench.dispatcher.waiting(bench.now(), 10)
    assert [(run.job, gate) for run, gate, _ in waiting] == [("big", "resources")]
    assert [run.job for run in starts(bench.tell(loaded(4)))] == ["big"]


@pytest.mark.parametrize("change", ["pause", "calendar"])
def test_in_the_engine_one_that_is_paused_or_deferred_sets_nothing_aside(change):
    big = job("big", uses={"db": 3}, not_during=(Window("office", During.DEFER),))
    small = job("small", uses={"db": 1}, overlap=Overlap.ALLOW)
    bench = Bench()
    plan = Plan(
        jobs={"big": big, "small": small}, resources={"db": 3}, calendars={"office": Calendar(cron="* * * * *")}
    )
    bench.tell(PlanLoaded(plan, 8))
    first = bench.running("small")
    assert starts(bench.fire("big")) == []
    assert starts(bench.fire("small")) == []
    said = bench.tell(PauseRequested("big", "me") if change == "pause" else WindowChanged("office", True))
    assert [run.job for run in starts(said)] == ["small"]
    second = starts(said)[0]
    bench.tell(ResumeRequested("big", "me") if change == "pause" else WindowChanged("office", False))
    assert starts(bench.fire("small")) == []  # it is before them again
    bench.exited(first)
    assert [run.job for run in starts(bench.exited(second))] == ["big"]


# --- leases --------------------------------------------------------------------------------------------------


def test_a_lease_is_granted_and_given_back():
    world = World(database=1)
    lease = world.ask(database=1)
    world.now_s = 3.0
    world.walk()
    assert world.gate.lease(lease.lease_id).granted_at == EPOCH + timedelta(seconds=3)
    run = world.queue(database=1)
    assert world.walk() == []
    assert world.why(run) == "needs 1 of database: 1 of 1 in use by lease l00001 (pid 812 (dump))"
    assert world.gate.release(lease.lease_id).granted_at is not None
    assert world.walk() == [run]
    assert world.gate.release(lease.lease_id) is None


def test_leases_and_runs_stand_in_one_line_by_age():
    world = World(database=1)
    holder = world.queue(database=1)
    world.walk()
    world.now_s = 1.0
    lease = world.ask(database=1)
    world.now_s = 2.0
    run = world.queue(database=1)
    world.now_s = 3.0
    later = world.ask(database=1)
    assert world.walk() == []
    world.end(holder)
    assert world.walk() == []
    assert set(world.granted) == {lease.lease_id}
    world.gate.release(lease.lease_id)
    assert world.walk() == [run]
    assert later.lease_id not in world.granted
    assert world.gate.waits_for(later.lease_id).startswith("needs 1 of database: 1 of 1 in use by run")


def test_a_run_waits_behind_an_older_lease_and_is_told_whose():
    world = World(database=2)
    world.queue(database=1)
    world.walk()
    lease = world.ask(database=2)
    world.now_s = 1.0
    run = world.queue(database=1)
    assert world.walk() == []
    assert world.why(run) == f"waits behind lease {lease.lease_id} (pid 812 (dump)) for database"
    world.gate.release(lease.lease_id)
    assert world.walk() == [run]


def test_a_run_of_priority_goes_before_an_older_lease():
    world = World(database=1)
    holder = world.queue(database=1)
    world.walk()
    world.ask(database=1)
    world.now_s = AGING_S / 2
    urgent = world.queue(database=1, priority=1)
    world.walk()
    world.end(holder)
    assert world.walk() == [urgent]


@pytest.mark.parametrize(
    ("uses", "sentence"),
    [
        ({"gpu": 1}, "resource gpu does not exist"),
        ({"database": 3}, "needs 3 of database, of which only 2 exist"),
        ({"database": 0}, "at least one unit"),
        ({"database": -1}, "at least one unit"),
        ({}, "at least one unit"),
    ],
)
def test_a_lease_that_can_never_be_granted_is_refused_with_the_reason(uses, sentence):
    world = World(database=2)
    lease = Lease(lease_id="x", uses=uses, holder="me", asked_at=EPOCH)
    assert sentence in world.gate.request(lease, 0.0)
    assert world.gate.lease("x") is None


def test_leases_are_limited():
    world = World(database=1)
    for _ in range(LEASES_MAX):
        world.ask(database=1)
    lease = Lease(lease_id="x", uses={"database": 1}, holder="me", asked_at=EPOCH)
    assert world.gate.request(lease, 0.0) == f"there are {LEASES_MAX} leases already"


def test_a_lease_that_is_not_granted_in_time_ends_and_frees_its_place():
    world = World(database=2)
    world.queue(database=1)
    world.walk()
    lease = world.ask(wait_s=5.0, database=2)
    run = world.queue(database=1)
    assert world.walk() == []
    assert world.gate.next_expiry() == 5.0
    world.now_s = 4.9
    assert world.gate.expired(world.now()) == []
    world.now_s = 5.0
    assert [each.lease_id for each in world.gate.expired(world.now())] == [lease.lease_id]
    assert world.gate.next_expiry() is None
    assert world.walk() == [run]


@pytest.mark.parametrize(
    ("after", "sentence"),
    [({}, "resource db does not exist"), ({"db": 1, "other": 1}, "needs 2 of db, of which only 1 exist")],
)
def test_in_the_engine_a_lease_that_a_reload_makes_impossible_ends_and_one_that_is_granted_stays(after, sentence):
    def lease(lease_id, units):
        return LeaseRequested(Lease(lease_id=lease_id, uses={"db": units}, holder="me", asked_at=EPOCH), None)

    bench = Bench()
    bench.tell(PlanLoaded(Plan(resources={"db": 3}), 8))
    bench.tell(lease("granted", 2), lease("waits", 2))
    said = bench.tell(PlanLoaded(Plan(resources=after), 8))
    ended = [each for each in said if isinstance(each, Record) and each.fact is Fact.LEASE_ENDED]
    assert [each.lease.lease_id for each in ended if each.lease] == ["waits"]
    assert sentence in ended[0].reason
    assert bench.tell(LeaseReleased("granted", "done"))


def test_a_granted_lease_does_not_expire():
    world = World(database=1)
    world.ask(wait_s=5.0, database=1)
    world.walk()
    world.now_s = 10.0
    assert world.gate.next_expiry() is None
    assert world.gate.expired(world.now()) == []


def test_a_restored_lease_holds_its_units_even_beyond_what_exists():
    world = World(database=1)
    run = world.queue(database=1)
    world.walk()
    world.gate.restore(Lease(lease_id="old", uses={"database": 1}, holder="me", asked_at=EPOCH, granted_at=EPOCH))
    assert world.gate.used() == {"database": (1, 2)}
    world.end(run)
    waits = world.queue(database=1)
    assert world.walk() == []
    world.gate.release("old")
    assert world.walk() == [waits]


def test_everybody_who_holds_or_waits_is_shown():
    world = World(database=2)
    world.queue(database=1)
    world.ask(database=1)
    world.walk()
    world.now_s = 1.0
    world.queue(database=2)
    world.ask(database=1)
    world.walk()
    (view,) = world.gate.views()
    assert (view.name, view.units, view.used) == ("database", 2, 2)
    shown = [(each.holder, each.units, each.run_id or each.lease_id, each.waiting) for each in view.holdings]
    assert shown == [
        ("run r00001 of job1", 1, "r00001", False),
        ("pid 812 (dump)", 1, "l00002", False),
        ("run r00003 of job3", 2, "r00003", True),
        ("pid 812 (dump)", 1, "l00004", True),
    ]
    assert [each.since for each in view.holdings] == [EPOCH, EPOCH, EPOCH + timedelta(seconds=1)] + [
        EPOCH + timedelta(seconds=1)
    ]


# --- any order of anything -----------------------------------------------------------------------------------

NAMES = ("a", "b")
uses_of = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), min_size=1)
picks = st.integers(0, 2**16)


def place(live):
    return live.queued_mono_s - live.job.priority * AGING_S


class AnyOrder(RuleBasedStateMachine):
    """Runs, leases and reloads in any order, against a count that is kept apart."""

    def __init__(self):
        super().__init__()
        self.units = {"a": 3, "b": 3}
        self.world = World(**self.units)
        self.overhang = {"a": 0, "b": 0}  # what was in use beyond the units when a reload lowered them
        self.waits = {}  # lease id → lease

    def walk(self):
        world = self.world
        before = {name: used for name, (_, used) in world.gate.used().items()}
        older = {live.run.run_id: live for live in world.parked}
        granted = set(world.granted)
        started = world.walk()
        for lease_id in world.granted.keys() - granted:
            del self.waits[lease_id]
        taken = [(place(live), live.job.uses) for live in started]
        taken += [
            (lease.asked_at.timestamp() - EPOCH.timestamp(), lease.uses)
            for lease_id, lease in world.granted.items()
            if lease_id not in granted
        ]
        # Nobody who came later took what an older one waits for: the older one's units are still free, or were not
        # free before either.
        for live in world.parked:
            if live.run.run_id not in older or any(n > self.units[name] for name, n in live.job.uses.items()):
                continue
            for name, need in live.job.uses.items():
                by_later = sum(uses.get(name, 0) for at, uses in taken if at > place(live))
                free_after = self.units[name] - world.gate.used().get(name, (0, 0))[1]
                assert by_later == 0 or free_after >= need, (live.run.run_id, name, before)

    @rule(uses=uses_of, priority=st.sampled_from([0, 0, 0, 1]))
    def queue(self, uses, priority):
        self.world.now_s += 1
        self.world.queue(priority, **uses)
        self.walk()

    @rule(uses=uses_of)
    def ask(self, uses):
        self.world.now_s += 1
        if any(need > self.units[name] for name, need in uses.items()):
            lease = Lease(lease_id="no", uses=uses, holder="me", asked_at=EPOCH)
            assert self.world.gate.request(lease, self.world.now_s)
            return
        lease = self.world.ask(5.0, **uses)
        self.waits[lease.lease_id] = lease
        self.walk()

    @precondition(lambda self: self.world.running)
    @rule(pick=picks)
    def end(self, pick):
        running = list(self.world.running.values())
        self.world.end(running[pick % len(running)])
        self.walk()

    @precondition(lambda self: self.world.parked)
    @rule(pick=picks)
    def withdraw(self, pick):
        self.world.withdraw(self.world.parked[pick % len(self.world.parked)])
        self.walk()

    @precondition(lambda self: self.world.granted or self.waits)
    @rule(pick=picks)
    def release(self, pick):
        ids = [*self.world.granted, *self.waits]
        lease_id = ids[pick % len(ids)]
        assert self.world.gate.release(lease_id) is not None
        self.world.granted.pop(lease_id, None)
        self.waits.pop(lease_id, None)
        self.walk()

    @rule()
    def expire(self):
        self.world.now_s += 3
        for lease in self.world.gate.expired(self.world.now()):
            del self.waits[lease.lease_id]
        self.walk()

    @rule(a=st.integers(0, 4), b=st.integers(0, 4))
    def reload(self, a, b):
        self.units = {"a": a, "b": b}
        self.world.gate.load(dict(self.units))
        for name in NAMES:
            self.overhang[name] = max(0, self.in_use(name) - self.units[name])
        self.walk()

    def in_use(self, name):
        runs = sum(live.job.uses.get(name, 0) for live in self.world.running.values())
        return runs + sum(lease.uses.get(name, 0) for lease in self.world.granted.values())

    @invariant()
    def the_count_is_right_and_never_exceeded(self):
        for name in NAMES:
            units, used = self.world.gate.used().get(name, (self.units[name], 0))
            assert (units, used) == (self.units[name], self.in_use(name))
            assert used <= self.units[name] + self.overhang[name]
            self.overhang[name] = max(0, used - self.units[name])

    @invariant()
    def every_waiter_is_told_why(self):
        for live in self.world.parked:
            assert self.world.why(live)
        for lease_id in self.waits:
            assert self.world.gate.waits_for(lease_id)

    def teardown(self):
        """Everything comes to its end: nobody is forgotten, nothing is left taken."""
        world = self.world
        world.gate.load({"a": 4, "b": 4})
        self.units = {"a": 4, "b": 4}
        for _ in range(2 * world.count + 2):
            self.walk()
            for live in list(world.running.values()):
                world.end(live)
            for lease_id in list(world.granted):
                world.gate.release(lease_id)
                del world.granted[lease_id]
        assert world.parked == []
        assert self.waits == {}
        assert world.gate.used() == {"a": (4, 0), "b": (4, 0)}
        assert all(view.holdings == () for view in world.gate.views())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class WholeEngine(RuleBasedStateMachine):
    """The same in the engine as a whole: pauses, cancels, reloads, leases, a full pool. Whoever could start does,
    and whoever does not is told why."""

    JOBS = [
        Job(name=f"j{index}", command=("work",), uses=uses, priority=priority, overlap=Overlap.ALLOW)
        for index, (uses, priority) in enumerate(
            [({"a": 1}, 0), ({"a": 3}, 0), ({"a": 1, "b": 2}, 0), ({"b": 1}, 1), ({"b": 3, "a": 2}, 0), ({}, 0)]
        )
    ]

    def __init__(self):
        super().__init__()
        self.bench = Bench()
        self.leases = 0
        self.open_leases = set()
        self.reload(3, 3, 4)

    def tell(self, *events):
        for record in self.bench.tell(*events):
            if isinstance(record, Record) and record.lease is not None:
                change = self.open_leases.discard if record.fact is Fact.LEASE_ENDED else self.open_leases.add
                change(record.lease.lease_id)

    @rule(a=st.integers(0, 4), b=st.integers(0, 4), slots=st.integers(1, 6))
    def reload(self, a, b, slots):
        self.units = {name: units for name, units in (("a", a), ("b", b)) if units}
        self.tell(PlanLoaded(Plan(jobs={job.name: job for job in self.JOBS}, resources=self.units), slots))

    @rule(pick=picks, count=st.integers(1, 4))
    def fire(self, pick, count):
        self.bench.now_s += 1
        for index in range(count):
            name = self.JOBS[(pick + index) % len(self.JOBS)].name
            self.tell(Fired(name, (self.bench.now().wall,)))

    def active(self):
        return [run for run in self.bench.dispatcher.runs() if run.state in HOLDS_SLOT]

    @precondition(lambda self: self.active())
    @rule(pick=picks)
    def exit(self, pick):
        run = self.active()[pick % len(self.active())]
        self.tell(Started(run.run_id, run.attempt, 100), Exited(run.run_id, run.attempt, 0, None, Usage()))

    @precondition(lambda self: self.bench.dispatcher.runs())
    @rule(pick=picks)
    def cancel(self, pick):
        runs = self.bench.dispatcher.runs()
        self.tell(CancelRequested(runs[pick % len(runs)].run_id, "me"))

    @rule(pick=picks, resume=st.booleans())
    def pause(self, pick, resume):
        name = self.JOBS[pick % len(self.JOBS)].name
        self.tell(ResumeRequested(name, "me") if resume else PauseRequested(name, "me"))

    @rule(uses=uses_of, wait_s=st.sampled_from([None, 2.0]))
    def ask(self, uses, wait_s):
        self.leases += 1
        lease = Lease(lease_id=f"l{self.leases}", uses=uses, holder="me", asked_at=self.bench.now().wall)
        self.tell(LeaseRequested(lease, wait_s))

    @precondition(lambda self: self.open_leases)
    @rule(pick=picks)
    def release(self, pick):
        self.tell(LeaseReleased(sorted(self.open_leases)[pick % len(self.open_leases)], "done"))

    @rule()
    def later(self):
        self.bench.now_s += 1
        self.tell()

    @invariant()
    def whoever_waits_is_held_by_a_gate(self):
        dispatcher = self.bench.dispatcher
        queued = {run.run_id for run in dispatcher.runs() if run.state is State.QUEUED}
        assert queued == {run.run_id for run, _, _ in dispatcher.waiting(self.bench.now(), 10_000)}

    @invariant()
    def the_count_is_that_of_runs_and_leases(self):
        views = {view.name: view for view in self.bench.dispatcher.resources()}
        for name in ("a", "b"):
            by_name = {job.name: job.uses.get(name, 0) for job in self.JOBS}
            runs = sum(by_name[run.job] for run in self.active())
            holdings = views[name].holdings if name in views else ()
            leases = sum(each.units for each in holdings if each.lease_id and not each.waiting)
            assert (views[name].used if name in views else 0) == runs + leases

    def teardown(self):
        """With units for all and everybody leaving, nothing is left."""
        self.reload(4, 4, 6)
        for each in self.JOBS:
            self.tell(ResumeRequested(each.name, "me"))
        for _ in range(1000):
            if not self.bench.dispatcher.runs() and not self.open_leases:
                break
            for run in self.active():
                self.tell(Started(run.run_id, run.attempt, 100), Exited(run.run_id, run.attempt, 0, None, Usage()))
            for lease_id in sorted(self.open_leases):
                self.tell(LeaseReleased(lease_id, "done"))
        assert self.bench.dispatcher.runs() == []
        assert [(view.used, view.holdings) for view in self.bench.dispatcher.resources()] == [(0, ()), (0, ())]


TestWholeEngine = WholeEngine.TestCase
TestWholeEngine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
