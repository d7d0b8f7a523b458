"""AdaptivePool and memory: who passes whom, who is held back, held still or ended. Time and memory are numbers; real
processes are in tests/live/test_pool_memory.py."""

from typing import Any

from msgspec.structs import replace

from tidegate.engine.estimate import Estimator, Used
from tidegate.engine.memory import MemoryWatch
from tidegate.model.pool import PoolSettings
from tidegate.pool.holdings import Holdings
from tidegate.pool.shared import Shared
from tidegate.pool.task import Task
from tidegate.pool.waiting import PASSED_MAX, Waiting

MIB = 1 << 20
GIB = 1 << 30


class Nowhere:
    def withdrawn(self, task: Task[Any]) -> None:
        pass


class Pool:
    """A queue and the gate before it, on a machine of 10 GiB; what is taken runs until it is ended."""

    def __init__(self, apart: bool = True, **changes: Any) -> None:
        settings = replace(PoolSettings(), **changes)
        self.now_s = 1000.0
        self.memory, self.estimator = MemoryWatch(settings), Estimator(settings)
        self.holdings = Holdings(settings, self.memory, self.estimator, apart)
        self.waiting, self.shared = Waiting(), Shared()
        self.running: list[Task[Any]] = []
        self.available = 10 * GIB
        self._seq = 0
        self.look()

    # what the queue asks of its watch
    @property
    def closed(self) -> bool:
        return self.holdings.closed

    def begin_walk(self) -> None:
        self.holdings.begin_walk()

    def holds(self, task: Task[Any], running: int) -> str | None:
        return self.holdings.holds(task, running, self.now_s)

    def look(self, seconds: float = 0.25) -> None:
        self.now_s += seconds
        held = self.holdings
        self.memory.look(self.available, 10 * GIB, 0.0, self.now_s, held.outstanding_bytes, held.foreseen_bytes)

    def task(
        self, name: str, memory: int | None = None, uses: dict[str, int] | None = None, **fields: int
    ) -> Task[Any]:
        task: Task[Any] = Task(Nowhere(), print, (), {})
        task.name, task.memory_bytes, task.queued_s, task.uses = name, memory, self.now_s, uses or {}
        for field, value in fields.items():
            setattr(task, field, value)
        self._seq += 1
        self.waiting.push(task, self._seq)
        return task

    def start(self) -> list[str]:
        """The names of all that may start now, in order."""
        self.waiting.anew = True
        begun = []
        while (heap := self.waiting.allowed(self.shared, self, len(self.running))) is not None:
            task = self.waiting.take(heap)
            if not task.claim():
                self.waiting.dropped()
                continue
            self.holdings.took(task, self.now_s)
            self.running.append(task)
            begun.append(task.name)
        return begun

    def end(self, task: Task[Any]) -> None:
        self.running.remove(task)
        self.holdings.gave(task)

    def knows(self, name: str, takes_s: float, peak: int) -> None:
        for _ in range(5):
            self.estimator.finished(name, Used(takes_s, 0.1, peak))

    def use(self, task: Task[Any], present: int) -> None:
        self.holdings.use(task, present, self.now_s)

    def decide(self, waited: set[str] | None = None) -> tuple[str, str] | None:
        found = self.holdings.decide(waited or set(), self.now_s)
        return None if found is None else (found[0].kind, found[1].task.name)


def test_a_task_that_does_not_fit_is_passed_by_those_that_do_and_starts_when_it_does() -> None:
    pool = Pool()
    first = pool.task("first", 6 * GIB)
    pool.task("large", 5 * GIB)
    pool.task("small", GIB)
    assert pool.start() == ["first", "small"]
    assert "5.0 GiB" in pool.holdings.reason
    assert len(pool.waiting) == 1 and bool(pool.waiting)
    pool.end(first)
    assert pool.start() == ["large"]


def test_after_half_a_minute_it_is_passed_only_by_who_ends_before_its_turn_or_leaves_it_room() -> None:
    pool = Pool()
    pool.knows("runs", 120.0, 6 * GIB)
    pool.knows("short", 10.0, GIB)
    pool.knows("long", 500.0, GIB)
    pool.task("runs")
    pool.task("large", 9 * GIB)
    assert pool.start() == ["runs"]
    pool.now_s += 29
    pool.task("long")
    assert pool.start() == ["long"]
    pool.end(pool.running[1])
    pool.now_s += 2
    for name in ("new", "long", "short"):
        pool.task(name)
    assert pool.start() == ["short"], "the others would still be there when its turn comes"
    assert "large has waited" in pool.holdings.reason


def test_nobody_passes_where_memory_is_short_and_no_more_are_passed_than_can_be_looked_at() -> None:
    pool = Pool()
    pool.task("first", 6 * GIB)
    for number in range(PASSED_MAX + 2):
        pool.task(f"large {number}", 5 * GIB)
    pool.task("small", MIB)
    assert pool.start() == ["first"]
    assert len(pool.waiting.tasks()) == PASSED_MAX + 3

    pool = Pool()
    pool.task("first", MIB)
    assert pool.start() == ["first"]
    pool.available = GIB
    pool.look()
    pool.task("small", MIB)
    assert pool.start() == []
    assert pool.closed


def test_behind_a_task_that_shares_something_only_those_pass_that_share_nothing() -> None:
    pool = Pool()
    pool.shared.make("db", 2, 0.0)
    first = pool.task("first", 6 * GIB)
    pool.task("sharing", 5 * GIB, {"db": 2})
    pool.task("younger", MIB, {"db": 1})
    pool.task("free", MIB)
    assert pool.start() == ["first", "free"]
    pool.end(first)
    assert pool.start() == ["sharing", "younger"]


def test_a_cancelled_head_holds_up_nobody() -> None:
    pool = Pool()
    pool.task("first", 6 * GIB)
    large = pool.task("large", 9 * GIB)
    pool.start()
    pool.now_s += 40
    pool.task("new")
    assert pool.start() == []
    large.cancel()
    pool.waiting.cancelled()
    assert pool.start() == ["new"]


def test_of_what_nobody_knows_one_goes_ahead_only_where_memory_is_not_plenty() -> None:
    pool = Pool()
    for _ in range(3):
        pool.task("new")
    assert pool.start() == ["new"] * 3

    pool = Pool()
    pool.available = 4 * GIB
    pool.look()
    tasks = [pool.task("new") for _ in range(3)]
    pool.task("hinted", MIB)
    assert pool.start() == ["new", "hinted"]
    assert pool.holdings.outstanding_bytes == GIB + MIB
    pool.now_s += 31
    assert pool.start() == ["new"], "it has shown enough"
    pool.knows("new", 1.0, MIB)
    assert pool.start() == ["new"]
    assert not pool.waiting and tasks[2] in pool.running


def test_what_a_task_has_reached_of_its_peak_is_kept_for_it_no_more_and_never_for_another() -> None:
    pool = Pool()
    one, two = pool.task("one", GIB), pool.task("two", GIB)
    pool.start()
    assert pool.holdings.outstanding_bytes == 2 * GIB
    pool.use(one, 2 * GIB)
    pool.use(two, 256 * MIB)
    assert pool.holdings.outstanding_bytes == 768 * MIB + int(2 * GIB * 1.1) - 2 * GIB
    assert pool.holdings.foreseen_bytes == GIB + 256 * MIB
    for task in (one, two):
        pool.end(task)
    assert pool.holdings.outstanding_bytes == 0


def test_threads_are_admitted_by_what_they_say_and_never_stopped() -> None:
    pool = Pool(apart=False)
    pool.task("one", 6 * GIB)
    pool.task("two", 6 * GIB)
    pool.task("three")
    assert pool.start() == ["one", "three"]
    pool.holdings.grown(4 * GIB)
    assert (pool.holdings.outstanding_bytes, pool.holdings.foreseen_bytes) == (2 * GIB, 4 * GIB)
    pool.available = 0
    pool.look()
    assert not pool.holdings.urgent and pool.decide() is None


def test_the_last_try_after_kills_for_memory_has_nothing_beside_it() -> None:
    pool = Pool()
    first = pool.task("first", MIB)
    assert pool.start() == ["first"]
    alone = pool.task("alone", MIB, alone=True, evictions=3)
    younger = pool.task("younger", MIB)
    assert pool.start() == []
    pool.end(first)
    assert pool.start() == ["alone"]
    pool.end(alone)
    assert pool.start() == ["younger"]
    assert younger in pool.running


def filling(*names: str, **fields: Any) -> Pool:
    """Tasks that began in this order, and grow until memory is short."""
    pool = Pool(**fields)
    for name in names:
        pool.task(name, retries=1)
        pool.look()
        pool.start()
    return pool


def grow(pool: Pool, each: int, seconds: float) -> list[tuple[str, str]]:
    """All of them, by so much a second; what is done about it."""
    done = []
    for _ in range(round(seconds / 0.25)):
        for task in pool.running:
            if pool.holdings.running[task].frozen_since_s is None:
                holding = pool.holdings.running[task].present_bytes + each // 4
                pool.use(task, holding)
                pool.available -= each // 4
        pool.look()
        found = pool.holdings.decide(set(), pool.now_s)
        if found is not None:
            done.append((found[0].kind, found[1].task.name))
            if found[0].kind == "freeze":
                found[1].frozen_since_s = pool.now_s
            elif found[0].kind == "kill":
                pool.end(found[1].task)
                pool.available += found[1].present_bytes
    return done


def test_growing_tasks_are_held_still_youngest_first_and_the_oldest_never() -> None:
    pool = filling("a", "b", "c")
    assert grow(pool, GIB // 2, 6)[:2] == [("freeze", "c"), ("freeze", "b")]
    assert pool.holdings.urgent


def test_only_what_may_be_tried_again_is_ended() -> None:
    for retries, ended in ((0, "b"), (1, "c")):
        pool = filling("a", "b", "c")
        pool.running[2].retries = retries
        for task in pool.running:
            pool.use(task, 2 * GIB)
        for left in (1.4, 1.4, 1.0, 0.7, 0.4):
            pool.available = int(left * GIB)
            pool.look(0.5)
        assert pool.memory.tier == 3
        assert pool.decide() == ("kill", ended)


def test_who_holds_what_others_wait_for_is_not_held_still() -> None:
    pool = filling("a", "b")
    pool.running[1].uses = {"db": 1}
    pool.holdings.use(pool.running[1], MIB, pool.now_s - 1)
    pool.holdings.use(pool.running[1], GIB, pool.now_s)
    for left in (1.4, 1.4, 1.2, 1.1, 1.05):
        pool.available = int(left * GIB)
        pool.look(0.5)
    assert pool.memory.tier >= 2
    assert pool.decide({"db"}) is None
    assert pool.decide({"other"}) == ("freeze", "b")
