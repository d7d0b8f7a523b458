"""What is asked of the daemon is answered: done, refused at once, or accepted and not yet on disk."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_pump import Account, Keeper

from tidegate.cli import client
from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.event import DrainRequested, PlanLoaded, StartsHeld
from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.model.refusal import Refused
from tidegate.supervisor import control
from tidegate.supervisor.control import Control
from tidegate.supervisor.pump import Pump

PATIENCE_S = 10.0


class Desk:
    """A daemon without a disk: what it decided is written when it is told to be, or never."""

    def __init__(self, folder: Path) -> None:
        self.account, self.dispatcher = Account(), Dispatcher()
        self.pump = Pump(self.dispatcher, Keeper(), self.account, self._observe, lambda lag_s: None)
        alarm = SimpleNamespace(next_fires=dict)
        self.control = Control(self.dispatcher, self.pump, alarm, None, folder)  # type: ignore[arg-type]  # no reloads
        self.load("a", "b")

    def _observe(self, record) -> None:
        self.control.observe(record)

    def load(self, *names: str) -> None:
        self.pump.post(PlanLoaded(Plan(jobs={name: Job(name=name, command=("true",)) for name in names}), 10))

    async def turned(self) -> None:
        """Everything that was posted is decided."""
        self.pump.wake()
        for _ in range(3):
            await asyncio.sleep(0)

    def write(self) -> None:
        self.pump.written(len(self.account.batches))


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Desk], Awaitable[None]]], None]:
    def run(story: Callable[[Desk], Awaitable[None]]) -> None:
        async def scene() -> None:
            async with asyncio.timeout(PATIENCE_S):
                desk = Desk(tmp_path)
                await desk.turned()
                await story(desk)

        asyncio.run(scene())

    return run


def test_a_trigger_while_it_drains_is_refused_at_once_though_nothing_can_be_written(play):
    async def story(desk: Desk) -> None:
        desk.pump.post(DrainRequested(300.0, "SIGINT"))
        with pytest.raises(Refused, match="the daemon is stopping: it starts nothing more") as refused:
            await desk.control.trigger("a", "eve", {}, None)
        assert refused.value.kind == "unavailable"

    play(story)


def test_a_request_is_refused_for_its_own_sake_and_not_for_that_of_another(play):
    async def story(desk: Desk) -> None:
        triggered = asyncio.create_task(desk.control.trigger("a", "ann", {}, None))
        await desk.turned()
        desk.write()
        found = await triggered
        desk.pump.post(DrainRequested(300.0, "SIGINT"))
        refused = asyncio.create_task(desk.control.trigger("a", "eve", {}, None))
        cancelled = asyncio.create_task(desk.control.cancel(found.run_id, "ann"))
        paused = asyncio.create_task(desk.control.pause("b", "ann"))
        await desk.turned()
        assert refused.done() and isinstance(refused.exception(), Refused)
        assert not cancelled.done() and not paused.done()
        desk.write()
        assert (await cancelled).run_id == found.run_id
        assert (await paused).paused

    play(story)


@pytest.mark.parametrize("ask", ["pause", "resume"])
def test_a_pause_of_a_job_that_a_reload_removes_at_that_moment_is_refused(play, ask):
    async def story(desk: Desk) -> None:
        desk.load("b")
        with pytest.raises(Refused, match="no such job") as refused:
            await getattr(desk.control, ask)("a", "ann")
        assert refused.value.kind == "conflict"

    play(story)


def test_what_cannot_be_written_down_is_answered_with_what_is_known_of_it(play, monkeypatch):
    monkeypatch.setattr(control, "ANSWER_S_MAX", 0.01)

    async def story(desk: Desk) -> None:
        desk.pump.post(StartsHeld("history", "history cannot be written: the disk is full"))
        told = "accepted, but not on disk yet, and lost if the daemon ends before it is: .*the disk is full"
        for asking in (
            desk.control.pause("a", "ann"),
            desk.control.resume("a", "ann"),
            desk.control.trigger("b", "ann", {}, "once"),
            desk.control.trigger("b", "ann", {}, "once"),  # asked again: it is still not on disk
        ):
            with pytest.raises(Refused, match=told) as refused:
                await asking
            assert refused.value.kind == "unavailable"
        assert [run.request_id for run in desk.dispatcher.runs()] == ["once"]

    play(story)


def test_a_lease_that_cannot_be_written_down_is_not_granted_and_its_units_are_free_again(play, monkeypatch):
    monkeypatch.setattr(control, "ANSWER_S_MAX", 0.01)

    async def story(desk: Desk) -> None:
        desk.pump.post(PlanLoaded(Plan(jobs={}, resources={"db": 1}), 10))
        with pytest.raises(Refused, match="not granted, as that cannot be written down: the disk has not answered"):
            await desk.control.acquire({"db": 1}, "ann", None, 0.01)
        await desk.turned()
        assert [resource.used for resource in desk.dispatcher.resources()] == [0]

    play(story)


def test_the_daemon_has_given_its_reason_long_before_who_asks_gives_up():
    assert 2 * control.ANSWER_S_MAX <= client.ANSWER_S_MAX
