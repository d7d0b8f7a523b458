"""The supervisor's hands, with a fake keeper: what waits while there is none, and what is found when there is one."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidegate import clock
from tidegate.executors.link import Held, KeeperError
from tidegate.model.event import Exited, KeeperLost, Recovered, StartFailed
from tidegate.model.job import Job
from tidegate.model.run import Run, State, Usage
from tidegate.supervisor import hands
from tidegate.supervisor.hands import Hands

AT = datetime(2026, 3, 2, tzinfo=UTC)
JOB = Job(name="a", command=("true",))


def run(run_id: str) -> Run:
    return Run(run_id=run_id, job="a", scheduled_at=AT, queued_at=AT, state=State.STARTING)


class FakeLink:
    def __init__(self, post) -> None:
        self.post = post
        self.held: tuple[Held, ...] = ()
        self.keeper_pid = 1
        self.said: list[tuple[str, str]] = []
        self.hangs = False

    def start(self, run, job) -> None:
        self.said.append(("start", run.run_id))

    def signal(self, run_id, attempt, number) -> None:
        self.said.append(("signal", run_id))

    def acknowledge(self, run_id, attempt) -> None:
        self.said.append(("acknowledge", run_id))

    def flush(self) -> None:
        pass

    async def close(self, *, shutdown) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()


class Keepers:
    """Stands in for KeeperLink: hands out fakes, or fails while `gone`."""

    def __init__(self) -> None:
        self.made: list[FakeLink] = []
        self.held: tuple[Held, ...] = ()
        self.gone = False

    async def open(self, runtime_dir, state_dir, post) -> FakeLink:
        if self.gone:
            raise KeeperError("none")
        link = FakeLink(post)
        link.held = self.held
        self.made.append(link)
        return link


@pytest.fixture
def keepers(monkeypatch):
    keepers = Keepers()
    monkeypatch.setattr(hands, "KeeperLink", keepers)
    monkeypatch.setattr(hands, "REOPEN_S", 0.001)
    return keepers


async def opened(events: list) -> Hands:
    made = Hands(Path("/run"), Path("/state"), events.append)
    await made.open()
    return made


def test_starts_wait_for_the_new_keeper_but_not_those_whose_end_is_on_record(keepers):
    async def play():
        events = []
        working = await opened(events)
        keepers.gone = True
        keepers.made[0].post(KeeperLost("killed"))
        working.start(run("lost-with-the-keeper"), JOB)  # in the turn in which the loss is noticed
        working.start(run("later"), JOB)
        working.acknowledge("lost-with-the-keeper", 1)  # the engine heard of the loss: it is unknown now
        keepers.gone = False
        await working._reopening
        return keepers.made[1].said

    assert asyncio.run(play()) == [("start", "later")]


def test_a_run_stopped_while_no_keeper_answers_is_never_started(keepers):
    async def play():
        events = []
        working = await opened(events)
        keepers.gone = True
        keepers.made[0].post(KeeperLost("killed"))
        working.start(run("r"), JOB)
        working.signal("r", 1, 15)
        keepers.gone = False
        await working._reopening
        return events, keepers.made[1].said

    events, said = asyncio.run(play())
    assert isinstance(events[-1], StartFailed)
    assert said == []


def test_a_recovered_run_began_when_its_keeper_started_it_not_when_it_was_queued(keepers):
    keepers.held = (Held("r", 1, 7, clock.monotonic_s() - 60, run("r"), JOB, None),)
    events = []
    asyncio.run(opened(events))
    assert isinstance(events[0], Recovered)
    assert abs(clock.wall() - timedelta(seconds=60) - events[0].run.started_at) < timedelta(seconds=5)


def test_an_end_of_which_no_account_is_left_is_not_held_for_ever(keepers):
    ended = Exited("stray", 1, 0, None, Usage())
    keepers.held = (Held("stray", 1, 7, 0.0, None, None, ended), Held("runs", 1, 8, 0.0, None, None, None))
    events = []
    asyncio.run(opened(events))
    assert keepers.made[0].said == [("acknowledge", "stray")]
    assert events == []


def test_a_keeper_that_does_not_end_is_left_behind(keepers, monkeypatch):
    async def play():
        working = await opened([])
        keepers.made[0].hangs = True
        monkeypatch.setattr(hands, "CLOSE_S_MAX", 0.01)
        await asyncio.wait_for(working.close(shutdown=True), 10)
        return working.connected

    assert asyncio.run(play()) is False
