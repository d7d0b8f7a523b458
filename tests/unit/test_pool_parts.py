"""The parts of AdaptivePool that need no thread: the order of tasks, the sharing of units, the account, what a worker's
process answers, the gate for memory."""

import pickle
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.limits import AGING_S
from tidegate.model.pool import PoolSettings
from tidegate.model.sample import Reading
from tidegate.pool import AdaptivePool, Call
from tidegate.pool.account import Account, concurrency, most_at_once
from tidegate.pool.child import ERROR, RESULT, answer
from tidegate.pool.chunks import batches, one_by_one, several
from tidegate.pool.gauge import Gauge
from tidegate.pool.shared import Asked, Shared
from tidegate.pool.task import Task, TaskTimedOut
from tidegate.pool.waiting import Waiting


class Nowhere:
    """Hears of cancelled tasks."""

    def __init__(self) -> None:
        self.heard: list[Task[Any]] = []

    def withdrawn(self, task: Task[Any]) -> None:
        self.heard.append(task)


def a_task(queued_s: float = 0.0, priority: int = 0, uses: dict[str, int] | None = None) -> Task[Any]:
    task: Task[Any] = Task(Nowhere(), print, (), {})
    task.queued_s, task.priority, task.uses = queued_s, priority, uses or {}
    return task


def drained(waiting: Waiting, shared: Shared) -> list[Task[Any]]:
    found = []
    while (heap := waiting.first(shared)) is not None:
        found.append(waiting.take(heap))
    return found


# --- the queue ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=40))
def test_tasks_start_by_priority_then_age_then_submission(asked: list[tuple[int, bool]]) -> None:
    waiting, shared = Waiting(), Shared()
    shared.make("db", 1, 0.0)
    tasks = [a_task(1.0, priority, {"db": 1} if uses else None) for priority, uses in asked]
    for number, task in enumerate(tasks):
        waiting.push(task, number)
    expected = sorted(range(len(tasks)), key=lambda number: (-asked[number][0], number))
    assert drained(waiting, shared) == [tasks[number] for number in expected]


def test_waiting_raises_priority() -> None:
    waiting = Waiting()
    old, young = a_task(0.0, 0), a_task(AGING_S * 2 + 1, 2)
    waiting.push(young, 1)
    waiting.push(old, 2)
    assert drained(waiting, Shared()) == [old, young]


def test_cancelled_tasks_do_not_pile_up() -> None:
    waiting = Waiting()
    tasks = [a_task() for _ in range(1000)]
    for number, task in enumerate(tasks):
        waiting.push(task, number)
    for task in tasks[:-1]:
        task.cancel()
        waiting.cancelled()
    assert waiting.alive() == 1 and len(waiting) < 200
    assert waiting.tasks() == tasks[-1:]


def test_a_task_whose_resource_is_taken_is_passed_by_those_that_use_none() -> None:
    waiting, shared = Waiting(), Shared()
    shared.make("db", 1, 0.0)
    shared.take({"db": 1}, 0.0)
    held, free = a_task(0.0, 5, {"db": 1}), a_task(1.0)
    waiting.push(held, 1)
    waiting.push(free, 2)
    assert drained(waiting, shared) == [free]
    shared.give({"db": 1}, 1.0)
    assert drained(waiting, shared) == [held]


# --- units ----------------------------------------------------------------------------------------------


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    shared = Shared()
    shared.make("db", 4, 0.0)
    shared.take({"db": 2}, 0.0)
    large, small = Asked((1.0, 1), {"db": 4}), Asked((2.0, 2), {"db": 1})
    shared.asked += [large, small]
    shared.grant((), 3.0)
    assert not large.has and not small.has  # two are free, and set aside
    shared.give({"db": 2}, 4.0)
    shared.grant((), 4.0)
    assert large.has and not small.has


def test_units_are_set_aside_for_an_older_task_only_while_it_could_start() -> None:
    shared = Shared()
    shared.make("db", 1, 0.0)
    block = Asked((2.0, 2), {"db": 1})
    shared.asked.append(block)
    shared.grant([((1.0, 1), {"db": 1})], 3.0)
    assert not block.has
    shared.grant((), 3.0)
    assert block.has


def test_impossible_requests_are_refused_with_what_there_is() -> None:
    shared = Shared()
    shared.make("db", 2, 0.0)
    with pytest.raises(ValueError, match="2 units: 1 to 2 can be used, not 3"):
        shared.check({"db": 3})
    with pytest.raises(ValueError, match=r"no resource 'gpu'; there are \['db'\]"):
        shared.check({"gpu": 1})


# --- a task ---------------------------------------------------------------------------------------------


def test_a_cancelled_task_cannot_be_claimed_and_a_claimed_one_not_cancelled() -> None:
    task = a_task()
    assert task.cancel() and task.cancel() and not task.claim()
    assert task.state == "cancelled" and task.home.heard == [task]  # type: ignore[attr-defined]
    with pytest.raises(CancelledError):
        task.result(0)
    other = a_task()
    assert other.claim() and not other.cancel() and other.state == "running"
    other.attempts = 1
    other.unclaim()
    assert other.state == "retrying" and other.cancel()


def test_a_time_out_of_the_task_has_a_state_of_its_own() -> None:
    task = a_task()
    assert task.claim()
    task.set_exception(TaskTimedOut("late"))
    assert task.state == "timed_out"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fiber"},
        {"max_workers": 0},
        {"max_workers": 2, "min_workers": 3},
        {"min_workers": 0},
        {"retry_base_s": 5.0, "retry_max_s": 1.0},
        {"max_tasks_per_child": 0},
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        AdaptivePool(**wrong)


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"timeout": 0.0}, {"memory": -1}, {"retries": 1001}])
def test_tasks_that_make_no_sense_are_refused_and_a_batch_is_all_or_none(wrong: dict[str, Any]) -> None:
    with AdaptivePool(1) as pool:
        with pytest.raises(ValueError):
            pool.submit_batch([Call(print), Call(print, **wrong)])
        assert pool.wait_for_all() == []


# --- the account ------------------------------------------------------------------------------------------


def test_concurrency_is_the_mean_of_overlapping_spans_in_parts() -> None:
    parts = concurrency([(10.0, 16.0), (10.0, 13.0)], 0.0, 16.0)
    assert len(parts) == 60 and parts[0].from_s == 10.0 and parts[-1].until_s == 16.0
    assert {part.mean for part in parts[:30]} == {2.0} and {part.mean for part in parts[30:]} == {1.0}
    assert most_at_once([(0.0, 1.0), (1.0, 2.0)]) == 1
    assert concurrency([], 0.0, 1.0) == () and concurrency([(1.0, 1.0)], 1.0, 1.0) == ()


def test_what_a_worker_did_is_not_lost_when_it_ends() -> None:
    account = Account()
    tally = account.hired()
    tally.succeeded = 3
    account.left(tally)
    account.left(tally)
    assert account.total("succeeded") == 3


# --- chunks, and what a process answers -------------------------------------------------------------------


def test_chunks_are_taken_apart_in_order() -> None:
    chunks = [several(pow, batch) for batch in batches(zip([2] * 5, range(5), strict=True), 2)]
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert list(one_by_one(iter(chunks))) == [1, 2, 4, 8, 16]


def test_whatever_a_call_does_in_its_process_is_an_answer() -> None:
    kind, told, text, cpu_s, _, _ = answer(pickle.dumps((pow, (2, 5), {})))
    assert (kind, pickle.loads(told), text) == (RESULT, 32, "") and cpu_s >= 0
    kind, told, text, *_ = answer(pickle.dumps((divmod, (1, 0), {})))
    assert kind == ERROR and isinstance(pickle.loads(told), ZeroDivisionError) and "ZeroDivisionError" in text
    kind, told, *_ = answer(pickle.dumps((memoryview, (b"cannot be pickled",), {})))
    assert kind == ERROR and isinstance(pickle.loads(told), TypeError)
    assert answer(b"no call")[0] == ERROR


# --- the gauge ----------------------------------------------------------------------------------------------


class Clocked:
    """A machine of two cores whose time is a number."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def read(self) -> Reading:
        known = {"at_s": self.now_s, "cores": 2.0, "cpus": 2, "runnable_looks": 1, "pressure_of": "machine"}
        return Reading(**dict.fromkeys(Reading.__struct_fields__) | known)  # type: ignore[arg-type]


def test_what_was_before_the_first_reading_is_in_no_interval() -> None:
    machine = Clocked()
    gauge = Gauge(PoolSettings(), monitor=None, machine=lambda: machine, apart=False)  # type: ignore[arg-type,return-value]
    for rest_s in (3.0, 60.0):
        machine.now_s += rest_s
        gauge.first_reading()
        machine.now_s += 0.5
        assert gauge._sample(machine.now_s).interval_s == 0.5
