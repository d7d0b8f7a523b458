"""The supervisor's hands, with a fake keeper: what waits while there is none, and what is found when there is one."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidegate.executors.link import Held, KeeperError
from tidegate.model.event import Exited, KeeperLost, StartFailed
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
        self.instance = ""
        self.said: list[tuple[str, object]] = []
        self.hangs = False

    def start(self, run, job, memory_bytes) -> None:
        self.said.append(("start", run.run_id))

    def signal(self, run_id, attempt, number) -> None:
        self.said.append(("signal", run_id))

    def acknowledge(self, run_id, attempt) -> None:
        self.said.append(("acknowledge", run_id))

    def retire_idle(self, keep) -> None:
        self.said.append(("retire", keep))

    def ask_use(self, *, afresh) -> None:
        self.said.append(("use", afresh))

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
        link.instance = f"keeper-{len(self.made) + 1}"
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
    made = Hands(Path("/run"), Path("/state"), events.append, lambda instance: None)
    await made.open()
    made.hear()
    return made


def test_an_end_that_is_heard_before_the_engine_knows_the_run_waits_until_it_does(keepers):
    """It was answered as one of a run that nobody knows: the keeper forgot it, and the run had no end any more."""

    async def play() -> None:
        events: list = []
        made = Hands(Path("/run"), Path("/state"), events.append, lambda instance: None)
        await made.open()
        ended = Exited("r1", 1, 0, None, Usage())
        keepers.made[0].post(ended)
        assert events == []
        made.hear()
        assert events == [ended]
        later = Exited("r2", 1, 0, None, Usage())
        keepers.made[0].post(later)
        assert events == [ended, later]

    asyncio.run(play())


def test_starts_wait_for_the_new_keeper_but_not_those_whose_end_is_on_record(keepers):
    async def play():
        events = []
        working = await opened(events)
        keepers.gone = True
        keepers.made[0].post(KeeperLost("killed"))
        working.start(run("lost-with-the-keeper"), JOB, 0)  # in the turn in which the loss is noticed
        working.start(run("later"), JOB, 0)
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
        working.start(run("r"), JOB, 0)
        working.signal("r", 1, 15)
        keepers.gone = False
        await working._reopening
        return events, keepers.made[1].said

    events, said = asyncio.run(play())
    assert isinstance(events[-1], StartFailed)
    assert said == []


def test_each_keeper_is_named_before_anything_is_asked_of_it(keepers):
    async def play():
        events, named = [], []
        working = Hands(Path("/run"), Path("/state"), events.append, named.append)
        await working.open()
        keepers.made[0].post(KeeperLost("killed"))
        working.start(run("later"), JOB, 0)
        await working._reopening
        return named, keepers.made[1].said

    named, said = asyncio.run(play())
    assert named == ["keeper-1", "keeper-2"]
    assert said == [("start", "later")]


def test_a_keeper_whose_connection_broke_may_forget_what_is_on_record_as_unknown(keepers):
    async def play():
        events = []
        working = await opened(events)
        keepers.held = (Held("ended", 1, 7, 0.0, run("ended"), JOB, Exited("ended", 1, 0, None, Usage())),)
        keepers.made[0].post(KeeperLost("it said what cannot be understood"))
        await working._reopening
        return keepers.made[1].said

    assert asyncio.run(play()) == [("acknowledge", "ended")]


def test_the_keeper_is_told_how_many_workers_stay_and_asked_for_what_is_wanted(keepers):
    async def play():
        working = await opened([])
        working.retire_idle(4)
        working.ask_use(afresh=True)
        working.ask_use(afresh=False)
        return keepers.made[0].said

    assert asyncio.run(play()) == [("retire", 4), ("use", True), ("use", False)]
