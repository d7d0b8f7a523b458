"""Permissions to start, written ahead: where slots come free all the time, for the next in line, never for long."""

from engine_bench import Bench, job, records, starts

from tidegate.engine.arming import ARM_AT_ONCE, ARM_BELOW, ARMED_S_MAX, FREED_S_MAX
from tidegate.model.command import Fact
from tidegate.model.event import CancelRequested, Fired
from tidegate.model.job import Job
from tidegate.model.run import State


def crowd(count: int, **fields) -> tuple[Bench, list[Job]]:
    jobs = [job(f"j{number:03}", **fields) for number in range(count)]
    return Bench(*jobs, slots=1), jobs


def armed(commands) -> list[str]:
    return [record.job for record in records(commands, Fact.RUN_ARMED)]


def fire_all(bench: Bench, jobs: list[Job]):
    return bench.tell(*(Fired(each.name, (bench.now().wall,)) for each in jobs))


def test_nobody_is_armed_while_no_slot_comes_free():
    bench, jobs = crowd(5)
    assert armed(fire_all(bench, jobs)) == []


def test_the_next_in_line_are_armed_when_a_slot_came_free_and_stay_queued():
    bench, jobs = crowd(40)
    run = starts(fire_all(bench, jobs))[0]
    bench.started(run)
    said = bench.exited(run)
    assert [run.job for run in starts(said)] == ["j001"]
    assert armed(said) == [f"j{number:03}" for number in range(2, 2 + ARM_AT_ONCE)]
    assert {run.state for run in bench.dispatcher.runs()[1:]} == {State.QUEUED}


def test_more_are_armed_when_few_are_left_not_at_each_start():
    bench, jobs = crowd(60)
    run = starts(fire_all(bench, jobs))[0]
    counts = []
    for _ in range(30):
        bench.started(run)
        said = bench.exited(run)
        counts.append(len(armed(said)))
        run = starts(said)[0]
    assert sum(counts) >= 30 - ARM_BELOW
    assert sum(count > 0 for count in counts) <= 30 // ARM_BELOW + 1


def test_slots_that_come_free_seldom_arm_nobody():
    bench, jobs = crowd(5)
    run = starts(fire_all(bench, jobs))[0]
    bench.started(run)
    said = bench.exited(run)
    assert armed(said)
    bench.now_s += FREED_S_MAX + 0.01
    assert armed(bench.tell(Fired("j000", (bench.now().wall,)))) == []


def test_who_has_been_armed_for_long_is_armed_no_more_and_that_is_on_record():
    bench, jobs = crowd(4)
    run = starts(fire_all(bench, jobs))[0]
    bench.started(run)
    named = armed(bench.exited(run))
    assert named
    said = bench.wait(ARMED_S_MAX + 0.001)
    assert [record.job for record in records(said, Fact.RUN_UNARMED)] == named
    assert records(bench.wait(10), Fact.RUN_UNARMED) == []


def test_one_that_is_cancelled_while_armed_never_starts():
    bench, jobs = crowd(4)
    run = starts(fire_all(bench, jobs))[0]
    bench.started(run)
    said = bench.exited(run)
    victim = records(said, Fact.RUN_ARMED)[0].run
    ended = records(bench.tell(CancelRequested(victim.run_id, "root")), Fact.RUN_FINISHED)[0]
    assert ended.run.run_id == victim.run_id
    second = starts(said)[0]
    bench.started(second)
    assert victim.run_id not in [run.run_id for run in starts(bench.exited(second))]
