"""A small shell for tests of the engine: jobs by keyword, time by number, records by name. No real time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Command, Fact, Record, SignalTree, Start
from tidegate.model.event import Event, Exited, Fired, Now, PlanLoaded, Started, StartFailed
from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.model.run import Run, Usage

EPOCH = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class Bench:
    """An engine, a clock that is a number, and everything the engine said."""

    def __init__(self, *jobs: Job, slots: int = 8) -> None:
        self.dispatcher = Dispatcher(salt=7)
        self.now_s = 0.0
        self.said: list[Command] = []
        self.load(*jobs, slots=slots)

    def load(self, *jobs: Job, slots: int = 8) -> list[Command]:
        return self.tell(PlanLoaded(Plan(jobs={job.name: job for job in jobs}), slots))

    def now(self) -> Now:
        return Now(EPOCH + timedelta(seconds=self.now_s), self.now_s)

    def tell(self, *events: Event) -> list[Command]:
        commands = self.dispatcher.handle(list(events), self.now())
        self.said += commands
        return commands

    def fire(self, name: str, **fields: Any) -> list[Command]:
        return self.tell(Fired(name, (self.now().wall,), **fields))

    def wait(self, seconds: float) -> list[Command]:
        """Let time pass, stopping at each deadline as a shell would."""
        end_s = self.now_s + seconds
        said: list[Command] = []
        while (at_s := self.dispatcher.next_deadline()) is not None and at_s <= end_s:
            self.now_s = max(at_s, self.now_s)
            said += self.tell()
        self.now_s = end_s
        return said

    def started(self, run: Run, pid: int = 100) -> list[Command]:
        return self.tell(Started(run.run_id, run.attempt, pid))

    def start_failed(self, run: Run, reason: str = "no such program") -> list[Command]:
        return self.tell(StartFailed(run.run_id, run.attempt, reason))

    def exited(self, run: Run, code: int | None = 0, signal: int | None = None) -> list[Command]:
        return self.tell(Exited(run.run_id, run.attempt, code, signal, Usage(cpu_s=0.1)))

    def running(self, name: str) -> Run:
        """Fire, take the Start, confirm it."""
        run = starts(self.fire(name))[0]
        self.started(run)
        return run


def starts(commands: list[Command]) -> list[Run]:
    return [command.run for command in commands if isinstance(command, Start)]


def records(commands: list[Command], fact: Fact) -> list[Record]:
    return [command for command in commands if isinstance(command, Record) and command.fact is fact]


def signals(commands: list[Command]) -> list[int]:
    return [command.signal for command in commands if isinstance(command, SignalTree)]


def job(name: str = "a", **fields: Any) -> Job:
    return Job(name=name, command=("true",), **fields)
