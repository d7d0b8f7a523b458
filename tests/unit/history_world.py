"""A history file to try things on: records as the engine makes them, and waiting for what the writer tells."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from tidegate.history.entry import Entry, JobsKnown
from tidegate.history.writer import History
from tidegate.model.command import Fact, Record
from tidegate.model.lease import Lease
from tidegate.model.plan import HistorySettings
from tidegate.model.run import Outcome, Run, Skip, State, Usage

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = HistorySettings()
TOLD_S = 10.0  # nothing in here takes a tenth of it


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_run(run_id: str = "r1", seconds: float = 0.0, job: str = "backup", **facts: object) -> Run:
    return Run(run_id=run_id, job=job, scheduled_at=at(seconds), queued_at=at(seconds), **facts)  # type: ignore[arg-type]


def queued(run: Run, **facts: object) -> Record:
    return Record(fact=Fact.RUN_QUEUED, at=run.queued_at, job=run.job, run=run, **facts)  # type: ignore[arg-type]


def starting(run: Run) -> Record:
    return Record(fact=Fact.RUN_STARTING, at=run.queued_at, job=run.job, run=replace(run, state=State.STARTING))


def started(run: Run, pid: int = 812) -> Record:
    going = replace(run, state=State.RUNNING, pid=pid, pid_start=77, started_at=run.queued_at)
    return Record(fact=Fact.RUN_STARTED, at=run.queued_at, job=run.job, run=going)


def finished(run: Run, outcome: Outcome = Outcome.SUCCEEDED, seconds: float = 1.0, **facts: object) -> Record:
    ended_at = run.queued_at + timedelta(seconds=seconds)
    over = replace(
        run,
        **{  # type: ignore[arg-type]
            "state": State.FINISHED,
            "outcome": outcome,
            "started_at": run.queued_at,
            "ended_at": ended_at,
            "exit_code": 0 if outcome is Outcome.SUCCEEDED else 1,
            "duration_s": seconds,
            "usage": Usage(cpu_s=0.5, memory_peak_bytes=4096, output_bytes=10),
            **facts,
        },
    )
    return Record(fact=Fact.RUN_FINISHED, at=ended_at, job=run.job, run=over, reason=over.reason)


def retrying(run: Run, reason: str = "exit code 1") -> Record:
    over = replace(
        run, state=State.RETRYING, outcome=Outcome.FAILED, reason=reason, exit_code=1, ended_at=run.queued_at
    )
    return Record(fact=Fact.RUN_RETRYING, at=run.queued_at, job=run.job, run=over, reason=reason)


def skipped(run: Run, skip: Skip = Skip.OVERLAP, reason: str = "the one before still runs", count: int = 1) -> Record:
    over = replace(run, state=State.SKIPPED, skip=skip, reason=reason, ended_at=run.queued_at)
    return Record(fact=Fact.RUN_SKIPPED, at=run.queued_at, job=run.job, run=over, reason=reason, count=count)


def known(*names: str, timing: str = "cron 1", when: datetime = NOW, boot_id: str = "") -> JobsKnown:
    return JobsKnown(tuple((name, timing, when, boot_id) for name in names))


def stepped(seconds: float, by_s: float) -> Record:
    return Record(fact=Fact.CLOCK_STEPPED, at=at(seconds), lateness_s=by_s, reason=f"the clock was set by {by_s:g} s")


def a_lease(lease_id: str = "l1", **facts: object) -> Lease:
    return Lease(lease_id=lease_id, uses={"database": 1}, holder="pid 812", asked_at=NOW, **facts)  # type: ignore[arg-type]


def of_lease(fact: Fact, lease: Lease, reason: str = "") -> Record:
    return Record(fact=fact, at=NOW, lease=lease, reason=reason)


class Opened:
    """A History with everything that it tells, and a way to wait for it."""

    def __init__(self, path: Path, settings: HistorySettings = SETTINGS, now: datetime = NOW) -> None:
        self.path = path
        self.history = History.open(path, settings, boot_id="boot-1", now=now)
        self.told: list[tuple[object, ...]] = []
        self._changed = asyncio.Event()
        self._ticket = 0
        self.history.on_written(lambda ticket: self._tell("written", ticket))
        self.history.on_refused(lambda run_id, by: self._tell("refused", run_id, by))
        self.history.on_failing(lambda reason: self._tell("failing", reason))
        self.history.on_set_aside(lambda path: self._tell("aside", path))

    def _tell(self, *what: object) -> None:
        self.told.append(what)
        if what[0] == "written":
            self._ticket = int(str(what[1]))
        self._changed.set()

    def failing(self) -> list[str]:
        return [str(what[1]) for what in self.told if what[0] == "failing"]

    async def until(self, holds: object, within_s: float = TOLD_S) -> None:
        assert callable(holds)
        async with asyncio.timeout(within_s):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def wrote(self, *entries: Entry, urgent: bool = True) -> None:
        await self.written(self.history.write(entries, urgent))

    async def written(self, ticket: int, within_s: float = TOLD_S) -> None:
        await self.until(lambda: self._ticket >= ticket, within_s)

    async def close(self) -> None:
        await self.history.close()


async def remembered(path: Path, entries: Sequence[Entry], **opening: object) -> History:
    """Written by one history, closed, and opened by the next, which is closed too: its memory stays."""
    first = Opened(path)
    await first.wrote(*entries)
    await first.close()
    second = History.open(path, HistorySettings(), boot_id="boot-2", now=opening.get("now", NOW))  # type: ignore[arg-type]
    await second.close()
    return second
