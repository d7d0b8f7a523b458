"""The room's door: hears every fact, tells whoever is to be told, and never holds the loop up. It decides nothing about
runs, and nothing that goes wrong here leaves it but as a log line and a count."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Set
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from loguru import logger

from tidegate import clock
from tidegate.hooks.command import Command
from tidegate.hooks.lane import Lane, Pause
from tidegate.hooks.mail import Post
from tidegate.hooks.notice import Notice, Occasion
from tidegate.hooks.period import period_of
from tidegate.hooks.sending import Threads, Way
from tidegate.hooks.tail import last_lines
from tidegate.hooks.watch import Watch
from tidegate.hooks.web import Ping, Webhook
from tidegate.model.command import Fact, Record
from tidegate.model.event import Now
from tidegate.model.job import HookLists, Job
from tidegate.model.job import Ping as Pings
from tidegate.model.limits import HOOKS_AT_ONCE, PING_RETRIES, PING_S, WAKEUP_S_MAX
from tidegate.model.plan import Hook, Plan
from tidegate.model.run import Outcome
from tidegate.model.text import counted

NOBODY: Final = (HookLists(), Pings())
PING: Final = "ping"  # what all pings are counted as
ENDS: Final = ("delivered", "failed", "dropped")
LANES_IDLE_MAX: Final = 1000  # of jobs with pings that have nothing to tell now


class Hooks:
    """`observe` and `load` on the loop; `totals` from anywhere."""

    def __init__(
        self,
        plan: Plan,
        *,
        durations: Callable[[str], list[float]],
        output_dir: Path | None = None,
        pause: Pause = asyncio.sleep,
    ) -> None:
        """`durations` answers in a thread with how long the newest successes of a job took, newest first."""
        self._durations = durations
        self._output_dir = output_dir
        self._pause = pause
        self._totals: Counter[tuple[str, ...]] = Counter()
        self._watch = Watch()
        self._threads = Threads()
        self._at_once = asyncio.Semaphore(HOOKS_AT_ONCE)
        self._lanes: dict[str, Lane] = {}
        self._ping_lanes: dict[str, Lane] = {}
        self._ways: dict[str, Way] = {}
        self._hooks: dict[str, Hook] = {}
        self._jobs: dict[str, Job] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._armed: tuple[float | None, datetime | None] = (None, None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: set[str] = set()  # jobs whose durations are being looked up
        self._live = False
        self.load(plan)

    @property
    def totals(self) -> Mapping[tuple[str, ...], float]:
        """Messages by hook and what became of them: delivered, failed, dropped."""
        return dict(self._totals)

    def load(self, plan: Plan) -> None:
        """Take up a plan. What waits for a hook that is gone or changed is still told the old way."""
        self._jobs = {name: job for name, job in plan.jobs.items() if (job.hooks, job.ping) != NOBODY}
        for name, hook in plan.hooks.items():
            if self._hooks.get(name) != hook:
                self._ways[name] = self._way(hook)
                lane = self._lanes.get(name)
                if lane is None:
                    lane = self._lane(name)
                    self._lanes[name] = lane
                lane.timeout_s, lane.retries = hook.timeout_s, hook.retries if hook.command is None else 0
                for end in ENDS:
                    self._totals[name, end] += 0
        self._hooks = plan.hooks
        if any(job.ping != Pings() for job in self._jobs.values()):
            for end in ENDS:
                self._totals[PING, end] += 0
        watched = {name: job for name, job in self._jobs.items() if job.hooks != HookLists()}
        self._watch.load(watched, clock.wall())
        if self._live:
            self._learn_periods()
            self._arm()

    def restore(
        self,
        last_success: Mapping[str, datetime],
        last_outcome: Mapping[str, str],
        since: Mapping[str, datetime],
        paused: Set[str] = frozenset(),
    ) -> None:
        """What history knows of the jobs; before `start`."""
        self._watch.restore(last_success, last_outcome, since, paused)

    def observe(self, record: Record) -> None:
        """A fact. Returns at once for a job that tells nobody."""
        job = self._jobs.get(record.job)
        if job is None:
            return
        now = Now(clock.wall(), clock.monotonic_s())
        if job.ping != Pings():
            self._ping(record, job)
        if record.fact in (Fact.RUN_STARTED, Fact.RUN_RECOVERED) and self._watch.lacks_lengths(job.name):
            self._learn_durations(job.name)
        for notice, names in self._watch.observe(record, now):
            self._tell(notice, names)
        if self._live:
            self._arm()

    async def start(self) -> None:
        """From here on time is watched too."""
        self._live = True
        self._learn_periods()
        self._arm()

    async def close(self, timeout_s: float) -> None:
        """Give what is queued that long, then say what is dropped."""
        self._live = False
        for timer in self._timers:
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        lanes = [*self._lanes.values(), *self._ping_lanes.values()]
        try:
            async with asyncio.timeout(timeout_s):
                for lane in lanes:
                    await lane.idle()
        except TimeoutError:
            pass
        for lane in lanes:
            left = await lane.stop()
            if left:
                logger.bind(event="hook.dropped", hook=lane.name, count=left).warning(
                    'hook "{}": {} not delivered within {:g} s of the end, and dropped',
                    lane.name,
                    counted(left, "message"),
                    timeout_s,
                )

    # --- telling ----------------------------------------------------------------------------------------

    def _tell(self, notice: Notice, names: tuple[str, ...]) -> None:
        for name in names:
            if name in self._hooks:
                self._lanes[name].put(notice, self._ways[name])

    def _ping(self, record: Record, job: Job) -> None:
        run = record.run
        if run is None:
            return
        if record.fact is Fact.RUN_STARTED and run.attempt == 1:
            url, event = job.ping.start, Occasion.START
        elif record.fact is Fact.RUN_FINISHED and run.outcome is Outcome.SUCCEEDED:
            url, event = job.ping.success, Occasion.SUCCESS
        elif record.fact is Fact.RUN_FINISHED:
            url, event = job.ping.failure, Occasion.FAILURE
        else:
            return
        if not url:
            return
        lane = self._ping_lanes.get(job.name)
        if lane is None:
            if len(self._ping_lanes) >= LANES_IDLE_MAX:
                self._ping_lanes = {name: one for name, one in self._ping_lanes.items() if one.left}
            lane = self._lane(PING, tell_once=True)
            lane.timeout_s, lane.retries = PING_S, PING_RETRIES
            self._ping_lanes[job.name] = lane
        lane.put(Notice(event=event, job=job.name, at=record.at, run=run), Ping(url, self._threads))

    def _lane(self, name: str, tell_once: bool = False) -> Lane:
        return Lane(name, self._totals, self._at_once, self._pause, timeout_s=PING_S, retries=0, tell_once=tell_once)

    def _way(self, hook: Hook) -> Way:
        if hook.command is not None:
            return Command(hook.command)
        if hook.webhook is not None:
            return Webhook(hook.webhook, hook.headers, self._threads)
        assert hook.mail is not None, hook
        return Post(hook.mail, hook.timeout_s, self._threads, self._lines)

    def _lines(self, notice: Notice) -> list[str]:
        """In a thread."""
        run = notice.run
        if run is None or self._output_dir is None or run.started_at is None:
            return []
        return last_lines(self._output_dir / run.job / f"{run.run_id}.log")

    # --- time -------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Overruns are due on the loop's own clock; the wall clock is looked at every WAKEUP_S_MAX at least."""
        due = self._watch.next_deadline()
        if due == self._armed and any(not timer.cancelled() for timer in self._timers):
            return
        self._armed = due
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        loop = asyncio.get_running_loop()
        if due[0] is not None:
            self._timers.append(loop.call_at(due[0], self._expire))
        if due[1] is not None:
            left_s = (due[1] - clock.wall()).total_seconds()
            self._timers.append(loop.call_later(max(min(left_s, WAKEUP_S_MAX), 0.0), self._expire))

    def _expire(self) -> None:
        for notice, names in self._watch.expire(Now(clock.wall(), clock.monotonic_s())):
            self._tell(notice, names)
        self._armed = (None, None)
        self._arm()

    # --- what takes a while to know ---------------------------------------------------------------------

    def _learn_periods(self) -> None:
        jobs = self._watch.without_period()
        if jobs:
            self._begin(self._find_periods(jobs))

    async def _find_periods(self, jobs: list[Job]) -> None:
        """In a thread, job by job: each takes up to 10 ms."""
        for job in jobs:
            period = await self._threads.run(partial(period_of, job, clock.wall()))
            if period is not None:
                self._watch.period(job, period)
        if self._live:
            self._arm()

    def _learn_durations(self, name: str) -> None:
        if name not in self._asked:
            self._asked.add(name)
            self._begin(self._find_durations(name))

    async def _find_durations(self, name: str) -> None:
        try:
            self._watch.lengths(name, await self._threads.run(partial(self._durations, name)))
        except (OSError, sqlite3.Error) as error:
            # Not told to `lengths`: it is asked again when the next run starts.
            logger.bind(event="hook.unmeasured", job=name).warning(
                "how long it usually takes cannot be read ({}); its overruns are told once it can", error
            )
        finally:
            self._asked.discard(name)
        if self._live:
            self._arm()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
