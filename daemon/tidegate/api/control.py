"""What the API needs of the daemon, as shapes: the live state, and the doors to change it. It implements nothing.

`supervisor/control.py` fits Control and `history/read.py` fits Reader; neither is imported here. Everything of Control
runs on the loop's thread, everything of Reader in one thread at a time.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tidegate.model.command import Record
from tidegate.model.job import Job
from tidegate.model.view import (
    AttemptView,
    DecisionView,
    JobView,
    LeaseView,
    PoolView,
    ReloadView,
    ResourceView,
    RunningView,
    RunView,
    WaitingView,
)


class Control(Protocol):
    """The running daemon. Its methods raise model.refusal.Refused; `by` is who asks, for the record."""

    @property
    def state_dir(self) -> Path:
        """Where the outputs of runs lie."""

    def job(self, name: str) -> JobView | None:
        """A job of the live plan, and how it stands."""

    def definition(self, name: str) -> Job | None:
        """What the live plan says of it."""

    def job_names(self) -> list[str]:
        """Names of all jobs of the live plan, in file order: ten thousand views are made a few at a time."""

    def running(self) -> list[RunningView]:
        """Runs that have a process, or are about to: starting, running, stopping; oldest first."""

    def run(self, run_id: str) -> RunView | None:
        """A run that has not ended."""

    def waiting(self, limit: int) -> list[WaitingView]:
        """The first of the queued runs, in their order, each with what holds it. There may be 100,000: `limit`."""

    def pool(self) -> PoolView:
        """How full the pool is."""

    def resources(self) -> list[ResourceView]:
        """Shared resources and who holds them."""

    async def trigger(self, job: str, by: str, args: dict[str, str], request_id: str | None) -> RunView:
        """A run by hand; it may be skipped, and its reason says why."""

    async def cancel(self, run_id: str, by: str) -> RunView:
        """End a run: TERM to its tree, then KILL."""

    async def pause(self, job: str, by: str) -> JobView:
        """No more fires of this job."""

    async def resume(self, job: str, by: str) -> JobView:
        """Undo a pause."""

    async def reload(self, by: str) -> ReloadView:
        """Read the configuration again."""

    async def acquire(self, uses: dict[str, int], holder: str, pid: int | None, wait_s: float | None) -> LeaseView:
        """Units of shared resources; returns once they are granted, or were not in time.

        Where its task is cancelled, the request is withdrawn. When process `pid` ends, so does the lease.
        """

    async def release(self, lease_id: str, by: str) -> LeaseView:
        """Give a lease back; `by` is the reason on record."""

    def lease(self, lease_id: str) -> LeaseView | None:
        """A lease that has not ended."""

    def subscribe(self, callback: Callable[[Record], None]) -> Callable[[], None]:
        """Call this with every fact from now on; the result ends it."""


class Reader(Protocol):
    """Past runs, as history has them."""

    def runs(
        self,
        job: str | None = None,
        outcome: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> tuple[list[RunView], int | None]:
        """A page, newest first, and where the next one begins."""

    def run(self, run_id: str) -> RunView | None:
        """One run."""

    def requested(self, job: str, request_id: str) -> RunView | None:
        """The run that was asked for under this request id."""

    def latest(self, job: str) -> RunView | None:
        """The newest run of a job that was not skipped."""

    def latest_each(self) -> dict[str, RunView]:
        """The same of each job."""

    def last_success(self, job: str) -> datetime | None:
        """When the last succeeded run of a job ended."""

    def last_successes(self) -> dict[str, datetime]:
        """The same of each job that has one."""

    def attempts(self, run_id: str) -> list[AttemptView]:
        """Its ended attempts but the last."""

    def why(self, job: str, at: datetime | None, limit: int) -> list[DecisionView]:
        """What was decided about the fire nearest at or before `at`."""
