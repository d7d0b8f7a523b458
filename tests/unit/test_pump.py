"""The pump: nothing starts before it is written down, and nothing else waits for the disk. A fake history says when."""

import asyncio
from collections.abc import Callable
from typing import Any

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Fact, Record, RetireIdle
from tidegate.model.event import (
    CancelRequested,
    Exited,
    Fired,
    KeeperLost,
    PlanLoaded,
    Sensed,
    Started,
    StopRequested,
    Triggered,
)
from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.model.run import State, Usage
from tidegate.supervisor import pump
from tidegate.supervisor.pump import Pump

AT = clock.wall()  # the pump reads the real clock


class Keeper:
    """Writes down what is asked of it."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def start(self, run, job, memory_bytes) -> None:
        self.said.append(("start", run.run_id))

    def signal(self, run_id, attempt, signal) -> None:
        self.said.append(("signal", run_id, signal))

    def retire_idle(self, keep) -> None:
        self.said.append(("retire", keep))

    def acknowledge(self, run_id, attempt) -> None:
        self.said.append(("acknowledge", run_id))

    def flush(self) -> None:
        pass


class Account:
    """A history that writes when it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Record], bool]] = []

    def write(self, entries, urgent) -> int:
        self.batches.append((list(entries), urgent))
        return len(self.batches)


class Rig:
    def __init__(self, *jobs: Job) -> None:
        self.keeper, self.account, self.seen = Keeper(), Account(), []
        self.dispatcher = Dispatcher()
        self.pump = Pump(self.dispatcher, self.keeper, self.account, self.seen.append, lambda lag_s: None)
        self.jobs = {job.name: job for job in jobs}
        self.pump.post(PlanLoaded(Plan(jobs=self.jobs), 10))

    def dispatcher_plan(self) -> Plan:
        return Plan(jobs=self.jobs)

    async def tell(self, *events) -> None:
        for event in events:
            self.pump.post(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def write(self) -> None:
        """Everything so far is on disk."""
        self.pump.written(len(self.account.batches))

    def run_id(self) -> str:
        return self.dispatcher.runs()[-1].run_id


def play(story: Callable[[Rig], Any], *jobs: Job) -> None:
    async def scene() -> None:
        await story(Rig(*(jobs or (Job(name="a", command=("true",)),))))

    asyncio.run(scene())


def test_nothing_starts_before_it_is_on_disk_but_everybody_hears_of_it_at_once():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        assert rig.keeper.said == []
        assert [record.fact for record in rig.seen] == [Fact.RUN_QUEUED, Fact.RUN_STARTING]
        records, urgent = rig.account.batches[-1]
        assert urgent
        assert records[-1].run.state is State.STARTING
        rig.write()
        assert rig.keeper.said == [("start", rig.run_id())]

    play(story)


def test_what_was_written_later_starts_later():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        first = len(rig.account.batches)
        await rig.tell(Fired("b", (AT,)))
        rig.pump.written(first)
        assert len(rig.keeper.said) == 1
        rig.write()
        assert len(rig.keeper.said) == 2

    play(story, Job(name="a", command=("true",)), Job(name="b", command=("true",)))


def test_an_end_is_acknowledged_only_when_it_is_on_record_and_nobody_hurries_for_it():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        rig.write()
        run_id = rig.run_id()
        await rig.tell(Started(run_id, 1, 7), Exited(run_id, 1, 0, None, Usage()))
        assert not rig.account.batches[-1][1]
        assert ("acknowledge", run_id) not in rig.keeper.said
        rig.write()
        assert rig.keeper.said[-1] == ("acknowledge", run_id)

    play(story)


async def _cancelled(rig: Rig) -> str:
    await rig.tell(Fired("a", (AT,)))
    rig.write()
    run_id = rig.run_id()
    await rig.tell(Started(run_id, 1, 7))
    rig.write()
    await rig.tell(CancelRequested(run_id, "root"))
    return run_id


def test_a_run_is_on_record_as_being_ended_before_it_is_told_to_end():
    async def story(rig: Rig) -> None:
        run_id = await _cancelled(rig)
        assert rig.keeper.said[-1] == ("start", run_id)
        records, urgent = rig.account.batches[-1]
        assert ([record.fact for record in records], urgent) == ([Fact.RUN_STOPPING], True)
        rig.write()
        assert rig.keeper.said[-1] == ("signal", run_id, 15)

    play(story)


def test_where_nothing_can_be_written_a_run_is_told_to_end_a_little_later_and_only_once(monkeypatch):
    monkeypatch.setattr(pump, "TERM_S_MAX", 0.01)

    async def story(rig: Rig) -> None:
        run_id = await _cancelled(rig)
        async with asyncio.timeout(5):
            while rig.keeper.said[-1] != ("signal", run_id, 15):
                await asyncio.sleep(0)
        rig.write()
        assert rig.keeper.said.count(("signal", run_id, 15)) == 1

    play(story)


def test_a_term_that_was_sent_is_not_sent_again_when_its_time_has_passed(monkeypatch):
    monkeypatch.setattr(pump, "TERM_S_MAX", 0.01)

    async def story(rig: Rig) -> None:
        run_id = await _cancelled(rig)
        rig.write()
        await asyncio.sleep(0.05)  # nothing is waited for: nothing may come
        assert rig.keeper.said.count(("signal", run_id, 15)) == 1

    play(story)


def test_kill_does_not_wait_for_the_disk():
    async def story(rig: Rig) -> None:
        run_id = await _cancelled(rig)
        await rig.tell(StopRequested("root"))
        assert rig.keeper.said[-1] == ("signal", run_id, 9)

    play(story)


def test_a_signal_never_overtakes_its_own_start():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        run_id = rig.run_id()
        await rig.tell(CancelRequested(run_id, "root"))
        assert rig.keeper.said == []
        rig.write()
        assert rig.keeper.said == [("start", run_id), ("signal", run_id, 15)]

    play(story)


def test_a_fire_that_history_has_already_is_never_started():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        run_id = rig.run_id()
        rig.pump.refuse(run_id, "earlier")
        rig.write()
        assert rig.keeper.said == []
        await rig.tell()
        assert rig.dispatcher.runs() == []
        assert "on record already, as run earlier" in rig.seen[-1].reason

    play(story)


def test_a_start_that_waits_for_the_disk_is_not_done_when_its_attempt_is_over_by_then():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        await rig.tell(KeeperLost("killed"))
        assert rig.dispatcher.runs() == []
        rig.write()
        assert [said for said in rig.keeper.said if said[0] == "start"] == []

    play(story)


def test_only_the_first_word_on_a_request_is_waited_for():
    async def story(rig: Rig) -> None:
        await rig.tell(Triggered("a", "request", "root"))
        rig.write()
        await rig.tell(Started(rig.run_id(), 1, 7))
        assert not rig.account.batches[-1][1]

    play(story)


def test_settled_waits_for_what_has_been_decided_so_far():
    async def story(rig: Rig) -> None:
        await rig.pump.settled()
        await rig.tell(Triggered("a", "request", "root"))
        assert rig.account.batches[-1][1], "somebody waits for the answer"
        waiting = asyncio.create_task(rig.pump.settled())
        await asyncio.sleep(0)
        assert not waiting.done()
        rig.write()
        await waiting

    play(story)


def test_a_stopped_pump_starts_nothing_that_gets_written_late():
    async def story(rig: Rig) -> None:
        await rig.tell(Fired("a", (AT,)))
        rig.pump.stop()
        rig.write()
        assert rig.keeper.said == []

    play(story)


def test_a_record_of_the_shell_goes_to_all_readers():
    async def story(rig: Rig) -> None:
        await rig.tell()
        rig.pump.record(Record(fact=Fact.CLOCK_STEPPED, at=AT, reason="set"))
        assert rig.seen[-1].fact is Fact.CLOCK_STEPPED
        assert rig.account.batches[-1][0][0].fact is Fact.CLOCK_STEPPED

    play(story)


def test_a_run_that_was_armed_starts_without_a_wait_and_one_that_was_not_waits():
    async def story(rig: Rig) -> None:
        rig.pump.post(PlanLoaded(rig.dispatcher_plan(), 1))
        await rig.tell(Fired("a", (AT,)), Fired("b", (AT,)), Fired("c", (AT,)))
        rig.write()
        first = rig.dispatcher.runs()[0].run_id
        await rig.tell(Started(first, 1, 7), Exited(first, 1, 0, None, Usage()))
        assert [record.fact for record in rig.account.batches[-1][0]].count(Fact.RUN_ARMED) == 1
        assert [said[0] for said in rig.keeper.said] == ["start"], "b was not armed, and waits for its record"
        rig.write()
        second, third = (run.run_id for run in rig.dispatcher.runs())
        await rig.tell(Started(second, 1, 8), Exited(second, 1, 0, None, Usage()))
        assert rig.keeper.said[-1] == ("start", third), "that c may start was on disk"

    play(story, *(Job(name=name, command=("true",)) for name in "abc"))


def test_a_run_that_was_armed_and_is_no_more_waits_for_its_record():
    async def story(rig: Rig) -> None:
        rig.pump.post(PlanLoaded(rig.dispatcher_plan(), 1))
        await rig.tell(Fired("a", (AT,)), Fired("b", (AT,)), Fired("c", (AT,)))
        rig.write()
        first = rig.dispatcher.runs()[0].run_id
        await rig.tell(Started(first, 1, 7), Exited(first, 1, 0, None, Usage()))
        rig.write()
        second, third = rig.dispatcher.runs()
        rig.pump._note_armed([Record(fact=Fact.RUN_UNARMED, at=AT, job=third.job, run=third)])
        await rig.tell(Started(second.run_id, 1, 8), Exited(second.run_id, 1, 0, None, Usage()))
        assert ("start", third.run_id) not in rig.keeper.said
        rig.write()
        assert rig.keeper.said[-1] == ("start", third.run_id)

    play(story, *(Job(name=name, command=("true",)) for name in "abc"))


def test_before_a_turn_its_events_are_looked_at_and_what_comes_of_it_is_the_last_of_them(monkeypatch):
    async def story(rig: Rig) -> None:
        await rig.tell()
        asked, handled = [], []
        seen, fired = Sensed(None, None), Fired("a", (AT,))
        rig.pump.before_each_turn(lambda events: asked.append(list(events)) or seen)
        handle = rig.dispatcher.handle
        monkeypatch.setattr(rig.dispatcher, "handle", lambda events, now: handled.append(events) or handle(events, now))
        await rig.tell(fired)
        assert (asked, handled) == ([[fired]], [[fired, seen]])

    play(story)


def test_a_turn_without_events_is_not_looked_at():
    async def story(rig: Rig) -> None:
        await rig.tell()
        asked = []
        rig.pump.before_each_turn(asked.append)
        turned_mono_s = rig.pump.turned_mono_s
        rig.pump.wake()
        await rig.tell()
        assert rig.pump.turned_mono_s > turned_mono_s
        assert asked == []

    play(story)


def test_how_many_workers_are_kept_is_told_at_once():
    async def story(rig: Rig) -> None:
        await rig.tell()
        rig.pump._perform([RetireIdle(4)])
        assert rig.keeper.said == [("retire", 4)]

    play(story)
