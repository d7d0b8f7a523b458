"""The life of the daemon: start, serve, reload, drain or leave, end. It wires the pump, the alarm, the history and the
keeper together; what is decided about runs is decided in the engine.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from tidegate import __version__, clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.executors import link
from tidegate.failpoint import hit
from tidegate.history.entry import Learned, Memory, Meta
from tidegate.history.read import durations
from tidegate.hooks.hooks import Hooks
from tidegate.model.command import Fact, Record
from tidegate.model.event import Event, Exited, KeeperLost, LearnedRestored, PlanLoaded, StartsHeld
from tidegate.model.job import Boot
from tidegate.model.limits import CLOCK_STEP_S, PRUNE_EVERY_S, WAKEUP_S_MAX
from tidegate.model.plan import Plan, restart_needed
from tidegate.model.sample import Sample
from tidegate.model.text import counted
from tidegate.monitor.machine import Machine
from tidegate.settings.places import HISTORY_NAME
from tidegate.supervisor import boot, bugs, lock, opening, recover, report, signals
from tidegate.supervisor.alarm import Alarm
from tidegate.supervisor.control import Control
from tidegate.supervisor.hands import Hands
from tidegate.supervisor.notify import Notifier
from tidegate.supervisor.process import is_alive
from tidegate.supervisor.pump import Pump
from tidegate.supervisor.reload import Reloader
from tidegate.supervisor.sensing import Sensing
from tidegate.supervisor.space import Space
from tidegate.supervisor.stopping import Ending
from tidegate.supervisor.windows import Windows
from tidegate.telemetry.metrics import Metrics

GC_OBJECTS: Final = 20_000  # between two looks for cycles: runs leave thousands of values a second, and no cycles
SETTLE_S_MAX: Final = 10.0  # at the end: for a history that can be written this is a hundred times enough
HOOKS_S_MAX: Final = 5.0  # at the end: for what is on its way to people
SPACE_S: Final = 5.0  # between two looks at the free space while runs come and go
HEALTH_S_MAX: Final = 2 * WAKEUP_S_MAX  # the pump turns at least every WAKEUP_S_MAX; twice that is a stall


class EndedBadlyError(Exception):
    """The daemon ended, but not as it should; the text says why."""


class Places(Struct, frozen=True):
    """Where this daemon reads and keeps things."""

    config: Path
    state_dir: Path
    keeper_dir: Path  # where the keeper listens: its own where it is a service of its own


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
        self._first_plan = replace(plan, jobs={})
        self._places = places
        self._metrics = metrics
        self._observe_log = observe
        self._environ = environ
        self._notifier = Notifier(environ)
        self.hooks = Hooks(
            plan, durations=partial(durations, places.state_dir / HISTORY_NAME), output_dir=places.state_dir / "output"
        )
        self._dispatcher = Dispatcher(int.from_bytes(os.urandom(2), "big"))
        self._started_mono_s = clock.monotonic_s()
        self._live = False
        self._on_plan: list[Callable[[Plan], None]] = []
        self._boot_id = boot.boot_id()
        self._space_mono_s = 0.0
        self._space_timer: asyncio.TimerHandle | None = None
        self._watchdog_due = False
        self._reload_wanted = False

    async def run(self, serve: Callable[["Supervisor"], Awaitable[Callable[[], Awaitable[None]]]]) -> None:
        """Work until the end. `serve` opens what listens and answers with how to close it.

        Raises StateLockedError, HistoryError, KeeperError, OSError (a port in use) before anything has fired,
        EndedBadlyError after.
        """
        held = lock.acquire(self._places.state_dir)
        try:
            history = await opening.history(self._places.state_dir / HISTORY_NAME, self.plan.history, self._boot_id)
            if history is None:
                return  # told to end before it could be opened
            self._history = history
            try:
                self._wire()
                await self._live_on(serve)
            finally:
                await history.close()
        finally:
            held.close()
        if self._end.failure:
            raise EndedBadlyError(self._end.failure)

    def _wire(self) -> None:
        state_dir = self._places.state_dir
        self._hands = Hands(self._places.keeper_dir, state_dir, self._heard, self._keeper_is)
        self._pump = Pump(self._dispatcher, self._hands, self._history, self._observe, self._metrics.loop_lag)
        self._machine = Machine()
        self._sensing = Sensing(self._machine, self._dispatcher, self._hands, self._pump.post, lambda: self.plan.pool)
        self._pump.before_each_turn(self._sensing.before_turn)
        self._windows = Windows(self._pump.post)
        self._alarm = Alarm(self._windows.fired, self._dispatcher.is_busy)
        self._space = Space(state_dir, self._pump.post)
        told = (self._reload_begins, self._reload_good, self._reload_bad)
        self._reloader = Reloader(self._places.config, *told, ending=lambda: self._end.begun)
        self.control = Control(self._dispatcher, self._pump, self._alarm, self._reloader, state_dir)
        everything = (self._observe_log, self.control.observe, self.hooks.observe)
        counted = self._metrics.readers
        self._readers = {fact: (counted[fact], *everything) if fact in counted else everything for fact in Fact}
        self._history.on_written(self._pump.written)
        self._history.on_written_s(self._metrics.history_written)
        self._history.on_failing(self._history_failing)
        self._history.on_refused(self._pump.refuse)
        self._history.on_set_aside(self._history_set_aside)
        if self._history.set_aside is not None:
            report.set_aside(self._history.set_aside)
        self._end = Ending(
            self._dispatcher,
            self._pump,
            self._alarm,
            self._notifier,
            lambda: self.plan,
            self.status,
            self._environ,
        )
        self._listen()

    async def _live_on(self, serve: Callable[["Supervisor"], Awaitable[Callable[[], Awaitable[None]]]]) -> None:
        left_clean = link.left_clean(self._places.keeper_dir)
        held = await self._hands.open()
        try:
            close = await serve(self)
            try:
                if not self._end.begun:
                    self._begin(held, left_clean)
                    await self.hooks.start()
                await self._end.come.wait()
                self._notifier.send(STOPPING=1, STATUS="ended")
            finally:
                await close()
            await self._finish()
        finally:
            self._sensing.close()
            self._pump.stop()
            self.control.close()
            await self._hands.close(shutdown=self._dispatcher.drained)

    def _keep_learned(self) -> None:
        learned = self._dispatcher.pressure.learned_of_late()
        if learned:
            self._history.write([Learned(learned)], False)

    async def _finish(self) -> None:
        """What was decided is written down, and what waited for that is done."""
        self._keep_learned()
        try:
            async with asyncio.timeout(SETTLE_S_MAX):
                await self._pump.settled()
        except TimeoutError:
            logger.bind(event="history.behind").error(
                "the history could not be written within {:.0f} s; what is missing is found out at the next start",
                SETTLE_S_MAX,
            )
        await self.hooks.close(HOOKS_S_MAX)

    def _listen(self) -> None:
        """From here on signals and bugs are heard, though nothing fires yet."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.heard(context, self._end.fail))
        self._pump.after_each_turn(self._after_turn)
        calls = {
            signal.SIGHUP: self._end.unless_closed(self._hang_up),
            signal.SIGTERM: self._end.terminate,
            signal.SIGINT: self._end.interrupt,
            signal.SIGUSR1: self.log_state,
        }
        signals.listen(calls)

    def _begin(self, held: tuple[link.Held, ...], left_clean: str) -> None:
        """The first turn: the plan, what an earlier life left, what came due meanwhile."""
        hit("recover.begin")
        memory, jobs, now = self._history.memory, self.plan.jobs, clock.wall()
        first_of_boot = recover.is_first_of_boot(memory, self._boot_id)
        known = recover.jobs_known(memory, jobs, now, "" if first_of_boot else self._boot_id)
        if known is not None:
            self._history.write([known], False)
        findings = recover.taken_up(
            memory,
            held,
            jobs,
            self._places.state_dir / HISTORY_NAME,
            boot_id=self._boot_id,
            keeper=self._hands.keeper,
            left_clean=left_clean,
        )
        for one in findings.acknowledge:
            self._hands.acknowledge(one.run_id, one.attempt)
        self._pump.post(PlanLoaded(self.plan, cores=self._cores()))
        self._pump.post(recover.pauses(memory, jobs))
        self._pump.post(LearnedRestored(memory.learned))
        self._windows.load(self.plan.calendars)
        for event in (*recover.leases(memory), *findings.events, *recover.boot_fires(memory, jobs, self._boot_id)):
            self._pump.post(event)
        for lease in memory.leases:
            self.control.restore(lease)
        if not self._boot_id and any(isinstance(job.trigger, Boot) for job in jobs.values()):
            logger.bind(event="boot.unknown").warning("this machine tells no boot id: @reboot jobs fire at each start")
        self._pump.record(
            Record(fact=Fact.DAEMON_STARTED, at=now, reason=f"tidegate {__version__} started, {findings.text}")
        )
        self._metrics.load(self.plan, now)
        self._metrics.restore(recover.last_seen(memory), recover.failed_last(memory))
        self.hooks.restore(*recover.for_hooks(memory))
        self._space.look(self.plan.history.reserve_bytes)
        self._alarm.load(jobs, recover.accounted_for(memory, jobs))
        self._history.memory = Memory()  # 10,000 jobs of it need not be kept
        hit("recover.after_claim")
        self._alarm.start()
        self._tick()
        self._prune()
        if self._notifier.watchdog_s:
            self._feed_watchdog()
        # What is alive now mostly stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 10, 10)
        gc.enable()
        loop = asyncio.get_running_loop()  # behind the turn that takes up the plan and the runs
        loop.call_soon(self._hands.hear)
        loop.call_soon(self._ready)

    def _ready(self) -> None:
        self._live = True
        self._history.write([Meta("boot_id", self._boot_id)], False)  # behind the claims of the @reboot jobs
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
        return report.status(self._dispatcher, self.plan)

    def pool(self) -> tuple[int, int, int]:
        """Limit, running and queued, for the metrics."""
        counts = self._dispatcher.counts()
        return counts.limit, counts.running, counts.queued

    def blocked_s(self) -> dict[str, float]:
        """For how long each gate has held back whoever was next, for the metrics."""
        return self._dispatcher.blocked_s

    def sample(self) -> Sample | None:
        """How the machine stands, for the metrics; None where nothing was looked at of late."""
        return self._sensing.last

    def resources(self) -> dict[str, tuple[int, int]]:
        """Units that exist and units in use, by resource, for the metrics."""
        return self._dispatcher.resource_units

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
        if self._end.begun:
            return "draining"
        return self._dispatcher.starts_held or None

    def uptime_s(self) -> float:
        """Seconds since the daemon began, monotonic."""
        return clock.monotonic_s() - self._started_mono_s

    def log_state(self) -> None:
        """SIGUSR1: a full state line."""
        report.log_state(self._dispatcher, self.plan, self._alarm.first_fire(), self._hands.keeper_pid, self.uptime_s())

    # --- within -----------------------------------------------------------------------------------------

    def _history_failing(self, reason: str) -> None:
        self._metrics.history_failing(reason)
        self._pump.post(StartsHeld("history", reason))

    def _observe(self, record: Record) -> None:
        for read in self._readers[record.fact]:
            read(record)

    def _heard(self, event: Event) -> None:
        """From the keeper. Of one that died it is looked up which of its processes go on without it."""
        match event:
            case Exited():
                hit("exit.before_outcome")
            case KeeperLost():
                alive = [
                    run.run_id
                    for run in self._dispatcher.runs()
                    if run.pid is not None and (run.pid_start is None or is_alive(run.pid, run.pid_start))
                ]
                event = replace(event, alive=frozenset(alive))
            case _:
                pass
        self._pump.post(event)

    def _keeper_is(self, instance: str) -> None:
        self._history.keeper = instance

    def _history_set_aside(self, path: Path) -> None:
        report.set_aside(path)
        known = recover.jobs_known(Memory(), self.plan.jobs, clock.wall(), self._boot_id)
        if known is not None:  # the fresh one may not have what was known of them
            self._history.write([known], False)

    def _tick(self) -> None:
        """Loop timers stand still while the host sleeps and never see the clock being set."""
        step_s = self._alarm.check_clock(CLOCK_STEP_S)
        if step_s is not None:
            reason = f"the wall clock was set by {step_s:+.1f} s"
            self._pump.record(Record(fact=Fact.CLOCK_STEPPED, at=clock.wall(), reason=reason, lateness_s=step_s))
        self._alarm.wakeup()
        self._windows.look()
        self._look_for_space()
        self._keep_learned()
        self._pump.wake()
        self._notifier.send(STATUS=self.status())
        asyncio.get_running_loop().call_later(WAKEUP_S_MAX, self._tick)

    def _prune(self) -> None:
        self._history.prune_soon()
        asyncio.get_running_loop().call_later(PRUNE_EVERY_S, self._prune)

    def _look_for_space(self) -> None:
        self._space_mono_s = clock.monotonic_s()
        if self._space_timer is not None:
            self._space_timer.cancel()
            self._space_timer = None
        if not self._space.look(self.plan.history.reserve_bytes):
            self._space_timer = asyncio.get_running_loop().call_later(SPACE_S, self._look_for_space)

    def _feed_watchdog(self) -> None:
        """Half the interval, as sd_watchdog_enabled(3) advises; the datagram itself is sent by a turn of the pump."""
        assert self._notifier.watchdog_s is not None
        self._watchdog_due = True
        self._pump.wake()
        asyncio.get_running_loop().call_later(self._notifier.watchdog_s / 2, self._feed_watchdog)

    def _cores(self) -> float:
        return self._machine.read().cores

    def _after_turn(self) -> None:
        self._sensing.after_turn()
        if self._watchdog_due:
            self._watchdog_due = False
            self._notifier.send(WATCHDOG=1)
        if self._pump.turned_mono_s > self._space_mono_s + SPACE_S:
            self._look_for_space()
        if self._dispatcher.drained:
            self._end.come.set()

    # --- signals ----------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        if self._live:
            self._reloader.request()
        else:
            self._reload_wanted = True  # the files may have been read already

    # --- reload -----------------------------------------------------------------------------------------

    def _reload_begins(self) -> None:
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=clock.monotonic_us())

    def _reload_good(self, plan: Plan) -> None:
        report.warn_of(plan, restart_needed(self._first_plan, plan))
        old, self.plan = self.plan, plan
        now = clock.wall()
        self._metrics.load(plan, now)
        self._windows.load(plan.calendars)  # first: what is due now is held against the new ones
        self._alarm.load(plan.jobs)  # before the engine has the plan: what was due under the old one fires under it
        self._pump.post(PlanLoaded(plan, cores=self._cores()))
        self.hooks.load(plan)
        self._history.configure(plan.history)
        known = recover.changed_jobs(old.jobs, plan.jobs, now, self._boot_id)
        if known is not None:
            self._history.write([known], False)
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
