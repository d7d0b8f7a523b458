"""The reloader: one reads, at most one waits; what another version read is refused in words."""

import asyncio
from pathlib import Path

import msgspec
from msgspec.structs import replace

from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.settings import wire
from tidegate.supervisor import reload

GOOD = Plan(jobs={"a": Job(name="a", command=("true",))})


class Play:
    """A reloader whose reading is under the test's control."""

    def __init__(self, monkeypatch, data: bytes) -> None:
        self.reads = 0
        self.at_once = 0
        self.plans: list[Plan] = []
        self.problems: list[str] = []
        self.go_on = asyncio.Event()
        monkeypatch.setattr(reload, "_read", self._read)
        self._data = data
        self.ends = False
        self.reloader = reload.Reloader(
            Path("x.toml"), lambda: None, self.plans.append, self.problems.extend, lambda: self.ends
        )

    async def _read(self, config: Path) -> bytes:
        self.reads += 1
        self.at_once += 1
        assert self.at_once == 1
        await self.go_on.wait()
        self.at_once -= 1
        return self._data

    async def settle(self) -> None:
        self.go_on.set()
        while self.reloader._task is not None:
            await asyncio.sleep(0)


def test_however_many_are_asked_for_one_reads_and_at_most_one_waits(monkeypatch):
    async def play() -> None:
        p = Play(monkeypatch, msgspec.msgpack.encode(wire.pack(GOOD)))
        for _ in range(10_000):
            p.reloader.request()
            await asyncio.sleep(0)
        await p.settle()
        assert p.reads == 2
        assert [plan.jobs for plan in p.plans] == [GOOD.jobs, GOOD.jobs]
        p.reloader.request()
        await p.settle()
        assert p.reads == 3

    asyncio.run(play())


def test_what_another_version_read_is_refused_and_the_message_says_what_to_do(monkeypatch):
    async def play() -> None:
        loaded = wire.pack(GOOD)
        p = Play(monkeypatch, msgspec.msgpack.encode(replace(loaded, names=(*loaded.names[1:], "newer"))))
        p.reloader.request()
        await p.settle()
        assert p.plans == []
        assert "another version of tidegate read it" in p.problems[0]
        assert "restart the daemon" in p.problems[0]

    asyncio.run(play())


def test_a_daemon_that_is_ending_takes_no_new_plan_even_where_the_end_begins_during_the_read(monkeypatch):
    """What falls due while it drains is caught up by the next start, by the schedule that is on record."""

    async def play() -> None:
        p = Play(monkeypatch, msgspec.msgpack.encode(wire.pack(GOOD)))
        answer = p.reloader.request()
        await asyncio.sleep(0)
        p.ends = True
        await p.settle()
        assert p.plans == []
        assert await answer == p.problems == ["tidegate is stopping; the next start reads the configuration"]

    asyncio.run(play())
