"""The life of the daemon: start, serve, reload, drain, end. It wires the pump, the alarm and the keeper together;
what is decided about runs is decided in the engine.
"""

import asyncio
import gc
import os
import signal
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from loguru import logger
from msgspec import Struct

from tidegate import __version__, clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Record
from tidegate.model.event import DrainRequested, Fired, Now, PlanLoaded, StopRequested
from tidegate.model.job import Boot
from tidegate.model.limits import CLOCK_STEP_S, POOL_PER_CORE, WAKEUP_S_MAX
from tidegate.model.plan import Plan
from tidegate.model.run import Cause
from tidegate.model.text import counted
from tidegate.supervisor import boot, lock, signals
from tidegate.supervisor.alarm import Alarm
from tidegate.supervisor.hands import Hands
from tidegate.supervisor.notify import Notifier
from tidegate.supervisor.pump import Pump
from tidegate.supervisor.reload import Reloader
from tidegate.telemetry.metrics import Metrics

STOP_S_MAX: Final = 10.0  # from KILL to the end, also where the keeper answers no more
VITAL: Final = ("tidegate.supervisor", "tidegate.engine", "tidegate.executors", "apscheduler")
GC_OBJECTS: Final = 20_000  # between two looks for cycles: runs leave thousands of values a second, and no cycles
HEALTH_S_MAX: Final = 2 * WAKEUP_S_MAX  # the pump turns at least every WAKEUP_S_MAX; twice that is a stall


class EndedBadlyError(Exception):
    """The daemon ended, but not as it should; the text says why."""


class Places(Struct, frozen=True):
    """Where this daemon reads and keeps things."""

    config: Path
    state_dir: Path
    runtime_dir: Path


class Supervisor:
    """One daemon. `run` returns when it has drained or was told to stop at once."""

    def __init__(
        self,
        plan: Plan,
        places: Places,
        metrics: Metrics,
        observe: Callable[[Record], None],
        environ: Mapping[str, str],
    ) -> None:
        self.plan = plan
        self._places = places
        self._metrics = metrics
        self._observe_log = observe
        self._notifier = Notifier(environ)
        self._dispatcher = Dispatcher(int.from_bytes(os.urandom(2), "big"))
        self._interrupts = 0
        self._ended = asyncio.Event()
        self._started_mono_s = clock.monotonic_s()
        self._live = False
        self._on_plan: list[Callable[[Plan], None]] = []
        self._draining = False
        self._watchdog_due = False
        self._reload_wanted = False
        self._failure = ""

    async def run(self, serve: Callable[["Supervisor"], Awaitable[Callable[[], Awaitable[None]]]]) -> None:
        """Work until the end. `serve` opens what listens and answers with how to close it.

        Raises StateLockedError, KeeperError, OSError (a port in use) before anything has fired, EndedBadlyError after.
        """
        held = lock.acquire(self._places.state_dir)
        try:
            self._hands = Hands(self._places.runtime_dir, self._places.state_dir, lambda event: self._pump.post(event))
            self._pump = Pump(self._dispatcher, self._hands, self._observe, self._metrics.loop_lag)
            self._alarm = Alarm(self._pump.post)
            self._reloader = Reloader(self._places.config, self._reload_begins, self._reload_good, self._reload_bad)
            self._listen()
            await self._hands.open()
            try:
                close = await serve(self)
                try:
                    if not self._draining:
                        self._begin()
                    await self._ended.wait()
                    self._notifier.send(STOPPING=1, STATUS="ended")
                finally:
                    await close()
            finally:
                await self._hands.close(shutdown=self._dispatcher.drained)
        finally:
            held.close()
        if self._failure:
            raise EndedBadlyError(self._failure)

    def _listen(self) -> None:
        """From here on signals and bugs are heard, though nothing fires yet."""
        asyncio.get_running_loop().set_exception_handler(self._on_exception)
        self._pump.after_each_turn(self._after_turn)
        calls = {
            signal.SIGHUP: self._hang_up,
            signal.SIGTERM: self._terminate,
            signal.SIGINT: self._interrupt,
            signal.SIGUSR1: self.log_state,
        }
        signals.listen(calls)

    def _begin(self) -> None:
        self._pump.post(PlanLoaded(self.plan, self._slots(self.plan)))
        self._metrics.load(self.plan, clock.wall())
        self._fire_boot()
        self._alarm.load(self.plan.jobs)
        self._alarm.start()
        self._tick()
        if self._notifier.watchdog_s:
            self._feed_watchdog()
        # What is alive now mostly stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 10, 10)
        asyncio.get_running_loop().call_soon(self._ready)  # behind the turn that takes up the plan

    def _ready(self) -> None:
        self._live = True
        self._notifier.send(READY=1, STATUS=self.status())
        logger.bind(event="daemon.ready").info(
            "tidegate {} is ready: {} from {}, state in {}",
            __version__,
            counted(len(self.plan.jobs), "job"),
            self._places.config,
            self._places.state_dir,
        )
        if self._reload_wanted:
            self._reloader.request()

    def on_plan(self, callback: Callable[[Plan], None]) -> None:
        """Call this with each plan that a reload makes live."""
        self._on_plan.append(callback)

    # --- what others may ask ----------------------------------------------------------------------------

    def status(self) -> str:
        """One line on what goes on now."""
        counts = self._dispatcher.counts()
        jobs = counted(len(self.plan.jobs), "job")
        return f"{jobs}, {counts.running} running, {counts.queued} queued, limit {counts.limit}"

    def pool(self) -> tuple[int, int, int]:
        """Limit, running and queued, for the metrics."""
        counts = self._dispatcher.counts()
        return counts.limit, counts.running, counts.queued

    def next_fires(self) -> Mapping[str, float]:
        """Next due instant by job name, epoch seconds."""
        return self._alarm.next_fires()

    def not_healthy(self) -> str | None:
        """Why the daemon is not healthy; None when it is."""
        idle_s = clock.monotonic_s() - self._pump.turned_mono_s
        return f"the pump has not turned for {idle_s:.0f} s" if idle_s > HEALTH_S_MAX else None

    def not_ready(self) -> str | None:
        """Why the daemon cannot run jobs now; None when it can."""
        if not self._live:
            return "the configuration is not live yet"
        if not self._hands.connected:
            return "no keeper answers; a new one is being started"
        if self._draining:
            return "draining"
        return None

    def uptime_s(self) -> float:
        """Seconds since the daemon began, monotonic."""
        return clock.monotonic_s() - self._started_mono_s

    def log_state(self) -> None:
        """SIGUSR1: a full state line."""
        now = Now(clock.wall(), clock.monotonic_s())
        runs = self._dispatcher.runs()
        states = Counter(run.state.value for run in runs)
        running = ", ".join(f"{run.job} ({run.run_id}, pid {run.pid})" for run in runs if run.pid) or "none"
        gates = Counter(gate for _, gate, _ in self._dispatcher.waiting(now))
        held = ", ".join(f"{count} by {gate}" for gate, count in gates.items()) or "none"
        first = self._alarm.first_fire()
        logger.bind(event="daemon.state").info(
            "{}; states: {}; running: {}; held back: {}; paused: {}; next fire: {}; keeper: {}; up {:.0f} s",
            self.status(),
            ", ".join(f"{count} {state}" for state, count in states.items()) or "none",
            running,
            held,
            ", ".join(sorted(self._dispatcher.paused)) or "none",
            f"{first[1]} in {(first[0] - now.wall).total_seconds():.1f} s" if first else "none",
            f"pid {self._hands.keeper_pid}" if self._hands.connected else "none",
            self.uptime_s(),
        )

    # --- within -----------------------------------------------------------------------------------------

    def _observe(self, record: Record) -> None:
        self._metrics.observe(record)
        self._observe_log(record)

    def _slots(self, plan: Plan) -> int:
        cores = len(os.sched_getaffinity(0))
        return plan.pool.max if plan.pool.max is not None else POOL_PER_CORE * cores

    def _fire_boot(self) -> None:
        jobs = [job for job in self.plan.jobs.values() if isinstance(job.trigger, Boot) and job.enabled]
        boot_id = boot.boot_id()
        if jobs and not boot_id:
            logger.bind(event="boot.unknown").warning("this machine tells no boot id: @reboot jobs fire at each start")
        try:
            first = boot.claim(self._places.state_dir, boot_id)
        except OSError as error:
            log = logger.bind(event="boot.unmarked")
            log.error("{} @reboot jobs are not fired: the boot cannot be marked as seen: {}", len(jobs), error)
            return
        if not first:
            return
        for job in jobs:
            self._pump.post(Fired(job.name, (clock.wall(),), Cause.BOOT))

    def _tick(self) -> None:
        """Loop timers stand still while the host sleeps and never see the clock being set."""
        step_s = self._alarm.check_clock(CLOCK_STEP_S)
        if step_s is not None:
            logger.bind(event="clock.stepped").warning("the wall clock was set by {:+.1f} s", step_s)
        self._alarm.wakeup()
        self._pump.wake()
        self._notifier.send(STATUS=self.status())
        asyncio.get_running_loop().call_later(WAKEUP_S_MAX, self._tick)

    def _feed_watchdog(self) -> None:
        """Half the interval, as sd_watchdog_enabled(3) advises; the datagram itself is sent by a turn of the pump."""
        assert self._notifier.watchdog_s is not None
        self._watchdog_due = True
        self._pump.wake()
        asyncio.get_running_loop().call_later(self._notifier.watchdog_s / 2, self._feed_watchdog)

    def _after_turn(self) -> None:
        if self._watchdog_due:
            self._watchdog_due = False
            self._notifier.send(WATCHDOG=1)
        if self._dispatcher.drained:
            self._ended.set()

    # --- signals ----------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        if self._live:
            self._reloader.request()
        else:
            self._reload_wanted = True  # the files may have been read already

    def _terminate(self) -> None:
        self._drain("SIGTERM")

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1 and not self._draining:
            self._drain("SIGINT")
            if self._dispatcher.counts().running:
                asyncio.get_running_loop().call_soon(self._hint)  # behind the turn that says what it waits for
        else:
            self._pump.post(StopRequested("SIGINT"))
            asyncio.get_running_loop().call_later(STOP_S_MAX, self._give_up)

    def _hint(self) -> None:
        logger.bind(event="daemon.hint").info("Ctrl-C once more stops at once and kills what runs")

    def _give_up(self) -> None:
        self._fail(f"not everything ended within {STOP_S_MAX:.0f} s of KILL; what is left is the keeper's")

    def _fail(self, why: str) -> None:
        """End now, with an error. What runs goes on under the keeper, and the next daemon finds it."""
        self._failure = self._failure or why
        self._ended.set()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught. A part of the daemon that has failed half-way cannot be trusted: it ends, and whoever
        keeps the service starts it anew. A client's connection that failed is only told."""
        del loop
        error = context.get("exception")
        frames = traceback.walk_tb(error.__traceback__) if error is not None else ()
        rooms = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
        log = logger.bind(event="daemon.bug").opt(exception=error)
        if "handle" in context and any(room.startswith(VITAL) for room in rooms):
            log.critical("a bug in tidegate, please report it: {!r}", error)
            self._fail("ended by a bug; what runs goes on under the keeper, start the daemon again")
        else:
            log.error("{}: {!r}", context.get("message"), error)

    def _drain(self, by: str) -> None:
        self._draining = True
        self._alarm.stop()
        self._notifier.send(STOPPING=1, STATUS=f"draining: {self.status()}")
        self._pump.post(DrainRequested(self.plan.daemon.drain_timeout_s, by))

    # --- reload -----------------------------------------------------------------------------------------

    def _reload_begins(self) -> None:
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=clock.monotonic_us())

    def _reload_good(self, plan: Plan) -> None:
        log = logger.bind(event="config.restart_needed")
        for key in ("http", "metrics"):
            if getattr(plan, key) != getattr(self.plan, key):
                log.warning("[{}] has changed: this needs a restart", key)
        if plan.daemon.log_format != self.plan.daemon.log_format:
            log.warning("[daemon] log_format has changed: this needs a restart")
        for warning in plan.warnings:
            logger.bind(event="config.warning").warning("{}", warning)
        self.plan = plan
        self._pump.post(PlanLoaded(plan, self._slots(plan)))
        self._metrics.load(plan, clock.wall())
        self._alarm.load(plan.jobs)
        for callback in self._on_plan:
            callback(plan)
        gc.freeze()
        self._metrics.reload_outcome(True, clock.wall())
        self._notifier.send(READY=1, STATUS=self.status())

    def _reload_bad(self, problems: list[str]) -> None:
        log = logger.bind(event="config.reload_failed")
        for problem in problems:
            log.error("{}", problem)
        log.error("the configuration was not reloaded: {}; the old one stays live", counted(len(problems), "problem"))
        self._metrics.reload_outcome(False, clock.wall())
        self._notifier.send(READY=1, STATUS=f"reload failed, old configuration live: {self.status()}")
