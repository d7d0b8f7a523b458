"""The supervisor's hands: the keeper's link, and a new keeper when the old one dies. Never loses a command silently.

While no keeper answers, starts wait here in order; signals and acknowledgements to a dead keeper mean nothing.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loguru import logger

from tidegate.executors.link import Held, KeeperError, KeeperLink
from tidegate.model.event import Event, KeeperLost, StartFailed
from tidegate.model.job import Job
from tidegate.model.run import Run

CLOSE_S_MAX: Final = 30.0  # a keeper ends at once, or after the kill_grace of what outlived its leader
REOPEN_S: Final = 1.0  # between tries to start a keeper; each failure is a log line


class Hands:
    """An Executor (supervisor/pump.py) whose work is done by the keeper."""

    def __init__(
        self,
        runtime_dir: Path,
        state_dir: Path,
        post: Callable[[Event], None],
        on_keeper: Callable[[str], None],
    ) -> None:
        self._runtime_dir = runtime_dir
        self._state_dir = state_dir
        self._post_outside = post
        self._on_keeper = on_keeper  # told the instance of each keeper before anything is asked of it
        self._link: KeeperLink | None = None
        self._waiting: list[tuple[Run, Job, int]] = []
        self._early: list[Event] | None = []  # heard before anybody listens
        self._reopening: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def connected(self) -> bool:
        """Whether a keeper answers."""
        return self._link is not None

    @property
    def keeper_pid(self) -> int | None:
        """The keeper's pid, for messages and measurements."""
        return self._link.keeper_pid if self._link else None

    @property
    def keeper(self) -> str:
        """The instance id of the keeper that answers; "" if none does."""
        return self._link.instance if self._link else ""

    @property
    def containment(self) -> str:
        """How the keeper holds trees together."""
        return self._link.containment if self._link else ""

    async def open(self) -> tuple[Held, ...]:
        """Connect to the keeper that an earlier life left, or start one; what it holds. Raises KeeperError."""
        self._link = await KeeperLink.open(self._runtime_dir, self._state_dir, self._post)
        self._on_keeper(self._link.instance)
        return self._link.held

    async def close(self, *, shutdown: bool) -> None:
        """Let go of the keeper; with shutdown it ends too, as nothing runs any more."""
        self._closing = True
        if self._reopening is not None:
            self._reopening.cancel()
        if self._link is not None:
            try:
                async with asyncio.timeout(CLOSE_S_MAX):
                    await self._link.close(shutdown=shutdown)
            except TimeoutError:
                logger.bind(event="keeper.stuck").error(
                    "the keeper (pid {}) has not ended within {:.0f} s; it is left behind", self.keeper_pid, CLOSE_S_MAX
                )
            self._link = None

    def start(self, run: Run, job: Job, memory_bytes: int) -> None:
        if self._link is None:
            self._waiting.append((run, job, memory_bytes))
        else:
            self._link.start(run, job, memory_bytes)

    def signal(self, run_id: str, attempt: int, signal: int) -> None:
        if self._link is not None:
            self._link.signal(run_id, attempt, signal)
            return
        for index, (run, *_) in enumerate(self._waiting):
            if run.run_id == run_id and run.attempt == attempt:
                del self._waiting[index]
                reason = "stopped while no keeper answered, before it was started"
                self._post_outside(StartFailed(run_id, attempt, reason))
                return

    def freeze(self, run_id: str, attempt: int) -> None:
        if self._link is not None:
            self._link.freeze(run_id, attempt)

    def thaw(self, run_id: str, attempt: int) -> None:
        if self._link is not None:
            self._link.thaw(run_id, attempt)

    def retire_idle(self, keep: int) -> None:
        if self._link is not None:
            self._link.retire_idle(keep)

    def ask_use(self, *, afresh: bool) -> None:
        """Ask the keeper what each run holds of the machine; answered by RunsUsed."""
        if self._link is not None:
            self._link.ask_use(afresh=afresh)

    def acknowledge(self, run_id: str, attempt: int) -> None:
        if self._link is not None:
            self._link.acknowledge(run_id, attempt)
            return
        # It ended on record while it waited here, as one of a lost keeper: it must not be started after that.
        self._waiting = [one for one in self._waiting if (one[0].run_id, one[0].attempt) != (run_id, attempt)]

    def flush(self) -> None:
        if self._link is not None:
            self._link.flush()

    def hear(self) -> None:
        """Hand on what was heard so far, and from now on all: the engine knows the runs that it is about. An end that
        is told before would be one of a run that nobody knows: answered, forgotten by the keeper, and lost."""
        early, self._early = self._early or (), None
        for event in early:
            self._post_outside(event)

    def _post(self, event: Event) -> None:
        if self._early is not None:
            self._early.append(event)
        else:
            self._post_outside(event)
        if isinstance(event, KeeperLost) and not self._closing:
            self._link = None
            logger.bind(event="keeper.lost").error(
                "{}; what it ran is recorded as unknown, and a new keeper is started", event.reason
            )
            self._reopening = asyncio.get_running_loop().create_task(self._reopen())
            self._reopening.add_done_callback(_raise_failure)

    async def _reopen(self) -> None:
        while True:
            try:
                held = await self.open()
            except KeeperError as error:
                logger.bind(event="keeper.failed").error("no keeper could be started: {}; trying again", error)
                await asyncio.sleep(REOPEN_S)
            else:
                break
        logger.bind(event="keeper.started").info("a new keeper is at work (pid {})", self.keeper_pid)
        for one in held:  # it was only the connection that broke: what it ran is on record as unknown
            if one.exited is not None:
                self.acknowledge(one.run_id, one.attempt)
        waiting, self._waiting = self._waiting, []
        for run, job, memory_bytes in waiting:
            self.start(run, job, memory_bytes)
        self.flush()


def _raise_failure(task: "asyncio.Task[None]") -> None:
    """A bug must not end the search for a keeper in silence: the loop's exception handler hears of it."""
    if not task.cancelled():
        task.result()
