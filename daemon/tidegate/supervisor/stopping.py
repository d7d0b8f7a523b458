"""How the daemon comes to its end: SIGTERM and SIGINT, leave or drain, or a failure. What becomes of the runs meanwhile
is decided in the engine.
"""

import asyncio
import os
import select
from collections.abc import Callable, Mapping
from typing import Final

from loguru import logger

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Fact, Record
from tidegate.model.event import DrainRequested, StopRequested
from tidegate.model.plan import Plan
from tidegate.supervisor import first_process
from tidegate.supervisor.alarm import Alarm
from tidegate.supervisor.notify import Notifier
from tidegate.supervisor.pump import Pump

TERMINAL: Final = 2  # where its log goes
STOP_S_MAX: Final = 10.0  # from KILL to the end, also where the keeper answers no more
ASK_S_MAX: Final = 1.0  # systemd answers in milliseconds; a machine that shuts down is not to wait for us


class Ending:
    """The end, once it has begun. `come` is set when the daemon may go."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        pump: Pump,
        alarm: Alarm,
        notifier: Notifier,
        plan: Callable[[], Plan],
        status: Callable[[], str],
        environ: Mapping[str, str],
    ) -> None:
        self.begun = False
        self.come = asyncio.Event()
        self.failure = ""  # why it did not end as it should
        self._dispatcher = dispatcher
        self._pump = pump
        self._alarm = alarm
        self._notifier = notifier
        self._plan = plan
        self._status = status
        self._environ = environ
        self._interrupts = 0
        self._leaving: asyncio.Task[None] | None = None
        self._in_terminal = os.isatty(TERMINAL)

    def unless_closed(self, reload: Callable[[], None]) -> Callable[[], None]:
        """SIGHUP: `reload`; but drain where it means that the terminal is gone in which it was started, or it would go
        on without anybody who sees it or knows of it."""

        def heard() -> None:
            if self._in_terminal and hung_up(TERMINAL):
                self.drain("SIGHUP, and its terminal is closed")
            else:
                reload()

        return heard

    def terminate(self) -> None:
        """SIGTERM: what on_stop says."""
        if not leaves(self._plan().daemon.on_stop, self._environ):
            self.drain("SIGTERM")
        elif self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave())

    def interrupt(self) -> None:
        """SIGINT: drain; a second one stops at once."""
        self._interrupts += 1
        if self._interrupts == 1 and not self.begun:
            self.drain("SIGINT")
            if self._dispatcher.counts().running:
                asyncio.get_running_loop().call_soon(_hint)  # behind the turn that says what it waits for
        else:
            self._pump.post(StopRequested("SIGINT"))
            asyncio.get_running_loop().call_later(STOP_S_MAX, self._give_up)

    def drain(self, by: str) -> None:
        """Start nothing new, and let what runs end."""
        self.begun = True
        self._alarm.stop()
        plan = self._plan()
        grace_s = max((job.kill_grace_s for job in plan.jobs.values()), default=0.0)
        # The unit's TimeoutStopSec= may be shorter: whoever set drain_timeout need not know of it.
        end_s = plan.daemon.drain_timeout_s + grace_s + STOP_S_MAX
        self._notifier.send(STOPPING=1, EXTEND_TIMEOUT_USEC=round(end_s * 1e6), STATUS=f"draining: {self._status()}")
        self._pump.post(DrainRequested(plan.daemon.drain_timeout_s, by))

    def fail(self, why: str) -> None:
        """End now, with an error. What runs goes on under the keeper, and the next daemon finds it."""
        self.failure = self.failure or why
        self.come.set()

    async def _leave(self) -> None:
        """What runs goes on under the keeper, what waits is on record: the next start takes both up."""
        if self.begun:
            return
        if await machine_stops():
            self.drain("SIGTERM, and the machine shuts down")
            return
        self.begun = True
        self._alarm.stop()
        counts = self._dispatcher.counts()
        reason = f"left {counts.running} running to the keeper, {counts.queued + counts.retrying} waiting on record"
        self._pump.record(Record(fact=Fact.DAEMON_LEFT, at=clock.wall(), reason=reason))
        self.come.set()

    def _give_up(self) -> None:
        self.fail(f"not everything ended within {STOP_S_MAX:.0f} s of KILL; what is left is the keeper's")


def hung_up(fd: int) -> bool:
    """Whether the other end of a terminal is gone."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))


def _hint() -> None:
    logger.bind(event="daemon.hint").info("Ctrl-C once more stops at once and kills what runs")


def leaves(on_stop: str, environ: Mapping[str, str]) -> bool:
    """Whether a SIGTERM leaves what runs to the keeper. `auto`: under systemd, whose restarts and upgrades end
    services; in a terminal and as PID 1 nobody comes to take the runs up again, so they are drained."""
    if os.getpid() == 1 or first_process.MARK in environ:
        return False
    if on_stop == "auto":
        return started_by_systemd(environ)
    return on_stop == "leave"


def started_by_systemd(environ: Mapping[str, str]) -> bool:
    """Whether this very process is a service's. INVOCATION_ID is inherited, by terminals too; this is not believed."""
    return environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


async def machine_stops() -> bool:
    """Whether systemd is shutting the machine down: then there is nobody to leave anything to."""
    try:
        async with asyncio.timeout(ASK_S_MAX):
            while (said := await _system_state()) is None:
                pass
    except TimeoutError:
        return False
    except (OSError, RuntimeError):
        return False  # no systemd here; or no process, or no thread to wait for it, can be started
    return said == b"stopping"


async def _system_state() -> bytes | None:
    """systemd's word for it. None if a signal ended who asked: a service is stopped by a SIGTERM to each of its
    processes in turn, and those that the first of them has just started get it too."""
    process = await asyncio.create_subprocess_exec(
        "systemctl",
        "is-system-running",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return None if process.returncode is None or process.returncode < 0 else said.strip()
