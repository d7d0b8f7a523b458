"""The alarm clock: APScheduler says when a trigger is due, and nothing else. It starts no work and drops no fire.

What is measured of APScheduler 3.11 and answered here: `submit_job` must never raise (it would log, move on, and the
fire would be lost); its memory store and Job objects cost 2.5 s for 10,000 jobs; it lists missed instants one by
one (24 h of a one-second trigger took 2.65 s); its timer does not see suspend or clock steps, and the kernel ends
long waits of epoll late.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from tidegate import clock
from tidegate.model.event import Fired
from tidegate.model.job import Job
from tidegate.triggers.build import build
from tidegate.triggers.due import after_set_back, begin, due
from tidegate.triggers.fire import FireTrigger

DUE_AT_ONCE: Final = 16  # of many due together the first are started while the rest is still worked out
PAUSE_S: Final = 0.0005  # then: the CPU is wanted by what was just started, and the keeper needs longer than this
SLACK_SHARE: Final = 0.006  # epoll may end 0.1 % late, 0.5 % in a process with a nice value (the kernel's fs/select.c)
SLACK_S: Final = 0.002  # and a wait is rounded up to a whole millisecond
SHORT_S: Final = 0.03  # a wait as short as this is exact enough


LEAD_S: Final = 0.04  # what is due so soon is decided, written down and handed to the keeper, who starts it on time
LEAD: Final = timedelta(seconds=LEAD_S)


class Entry:
    """What the scheduler holds of a job: APScheduler's Job, as far as the scheduler looks at it."""

    __slots__ = ("down_until", "id", "job", "next_run_time", "older_missed", "trigger")

    executor = "engine"
    coalesce = False
    max_instances = 1
    misfire_grace_time = None

    def __init__(self, job: Job, trigger: FireTrigger, next_run_time: datetime) -> None:
        self.id = job.name
        self.job = job
        self.trigger = trigger
        self.next_run_time = next_run_time
        self.older_missed = False
        self.down_until: datetime | None = None  # fires before this came while no daemon was there

    def _get_run_times(self, now: datetime) -> list[datetime]:
        """Every instant due up to now, but of those long missed only what catch_up can want. Bounded."""
        until = max(now.astimezone(UTC), self.next_run_time)  # it may be given out a little ahead
        times, self.older_missed = due(self.trigger, self.next_run_time, until, self.job.catch_up)
        return times

    def _modify(self, *, next_run_time: datetime) -> None:
        self.next_run_time = next_run_time


class EntryStore(BaseJobStore):  # type: ignore[misc]  # apscheduler has no types
    """Entries by due time; what is due at one instant by priority, as only some are given out at a time.

    Entries are given out LEAD_S ahead, but for a job that is `busy`: what its fire becomes depends on whether the run
    before it has ended by then; and but for one with calendars, which may open or close at that very instant.
    """

    def __init__(self, busy: Callable[[str], bool]) -> None:
        super().__init__()
        self._busy = busy
        self._order: list[tuple[datetime, int, str]] = []
        self._entries: dict[str, tuple[tuple[datetime, int, str], Entry]] = {}

    def put(self, entries: Iterable[Entry]) -> None:
        """Many at once, each new or in place of an old one."""
        for entry in entries:
            self._entries[entry.id] = (_key(entry), entry)
        self._order = sorted(key for key, _ in self._entries.values())

    def lookup_job(self, job_id: str) -> Entry | None:
        key_entry = self._entries.get(job_id)
        return key_entry[1] if key_entry else None

    def get_due_jobs(self, now: datetime) -> list[Entry]:
        soon = now + LEAD
        return [
            self._entries[name][1]
            for at, _, name in self._order[:DUE_AT_ONCE]
            if at <= now or (at <= soon and not self._is_open(name))
        ]

    def get_next_run_time(self) -> datetime | None:
        """When the next one is to be given out."""
        if not self._order:
            return None
        at, _, name = self._order[0]
        return at if self._is_open(name) else at - LEAD

    def _is_open(self, name: str) -> bool:
        """Whether it cannot be decided ahead what a fire becomes."""
        job = self._entries[name][1].job
        return bool(job.only_during or job.not_during) or self._busy(name)

    def first(self) -> tuple[datetime, str] | None:
        """The earliest due instant and its job."""
        return (self._order[0][0], self._order[0][2]) if self._order else None

    def __len__(self) -> int:
        return len(self._entries)

    def get_all_jobs(self) -> list[Entry]:
        return [entry for _, entry in self._entries.values()]

    def add_job(self, job: Entry) -> None:
        self.put([job])

    def update_job(self, job: Entry) -> None:
        old, _ = self._entries[job.id]
        del self._order[bisect_left(self._order, old)]
        new = _key(job)
        insort(self._order, new)
        self._entries[job.id] = (new, job)

    def remove_job(self, job_id: str) -> None:
        old, _ = self._entries.pop(job_id)
        del self._order[bisect_left(self._order, old)]

    def remove_all_jobs(self) -> None:
        self._order.clear()
        self._entries.clear()


def _key(entry: Entry) -> tuple[datetime, int, str]:
    return (entry.next_run_time, -entry.job.priority, entry.id)


class Scheduler(AsyncIOScheduler):  # type: ignore[misc]  # apscheduler has no types
    """APScheduler with an exact timer: a long wait ends a little early, and what is left is waited for anew."""

    def _start_timer(self, wait_seconds: float | None) -> None:
        if wait_seconds is not None:
            if wait_seconds > SHORT_S:
                wait_seconds -= wait_seconds * SLACK_SHARE + SLACK_S
            wait_seconds = max(wait_seconds, PAUSE_S)
        super()._start_timer(wait_seconds)


class NextFires(Mapping[str, float]):
    """Next due instant by job name, epoch seconds, as the store has it at the moment."""

    def __init__(self, store: EntryStore) -> None:
        self._store = store

    def __getitem__(self, name: str) -> float:
        entry = self._store.lookup_job(name)
        if entry is None:
            raise KeyError(name)
        return entry.next_run_time.timestamp()

    def __iter__(self) -> Iterator[str]:
        return (entry.id for entry in self._store.get_all_jobs())

    def __len__(self) -> int:
        return len(self._store)


class PostingExecutor(BaseExecutor):  # type: ignore[misc]  # apscheduler has no types
    """Turns what is due into Fired events. Overlap, catch-up and limits are the engine's."""

    def __init__(self, post: Callable[[Fired], None]) -> None:
        super().__init__()
        self._post = post

    def submit_job(self, job: Entry, run_times: list[datetime]) -> None:
        self._post(Fired(job.id, tuple(run_times), older_missed=job.older_missed, down_until=job.down_until))
        job.down_until = None

    def _do_submit_job(self, job: Entry, run_times: list[datetime]) -> None:
        del job, run_times
        raise AssertionError("submit_job is overridden")


class Alarm:
    """The triggers of the live plan on one AsyncIOScheduler."""

    def __init__(self, post: Callable[[Fired], None], busy: Callable[[str], bool]) -> None:
        self._store = EntryStore(busy)
        self._scheduler = Scheduler(timezone=UTC)
        self._scheduler.add_jobstore(self._store, "default")
        self._scheduler.add_executor(PostingExecutor(post), "engine")
        self._set_offset_s = _wall_minus_boot_s()

    def start(self) -> None:
        """Begin to fire. Call from the running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Fire nothing more."""
        if self._scheduler.running:
            self._scheduler.pause()

    def load(self, jobs: dict[str, Job], known: Mapping[str, datetime] | None = None) -> None:
        """Follow a plan. Only triggers that changed are touched, so a reload moves no phase and no next fire.

        `known` has, at a start, the instant up to which an earlier life has accounted for a job's fires: those after it
        are due now, as missed ones. A job that is not in it begins now.
        """
        if self._scheduler.running:
            self._scheduler._process_jobs()  # what was due before this plan came is not lost with its trigger
        now = clock.wall()
        fresh = []
        gone = {entry.id for entry in self._store.get_all_jobs()}
        for job in jobs.values():
            old = self._store.lookup_job(job.name)
            if old is not None and job.enabled and _timing(old.job) == _timing(job):
                old.job = job
                gone.discard(job.name)
                continue
            trigger = build(job) if job.enabled else None
            if trigger is None:
                continue
            entry = _begin(job, trigger, now, None if known is None else known.get(job.name))
            if entry is not None:
                fresh.append(entry)
                gone.discard(job.name)
        for name in gone:
            self._store.remove_job(name)
        if fresh:
            self._store.put(fresh)
        self.wakeup()

    def next_fires(self) -> Mapping[str, float]:
        """Next due instant by job name, in epoch seconds; a live view, so that a scrape of many jobs copies nothing."""
        return NextFires(self._store)

    def first_fire(self) -> tuple[datetime, str] | None:
        """What is due next, and of which job."""
        return self._store.first()

    def wakeup(self) -> None:
        """Look at the wall clock now."""
        if self._scheduler.running:
            self._scheduler.wakeup()

    def check_clock(self, step_s_min: float) -> float | None:
        """Notice that the wall clock was set; the step in seconds, or None. Suspend is not a step."""
        offset_s = _wall_minus_boot_s()
        step_s = offset_s - self._set_offset_s
        if abs(step_s) < step_s_min:
            return None
        self._set_offset_s = offset_s
        if step_s < 0:
            self._set_back(-step_s)
        return step_s

    def _set_back(self, step_s: float) -> None:
        now = clock.wall()
        moved = []
        for entry in self._store.get_all_jobs():
            next_at = after_set_back(entry.trigger, entry.next_run_time, now, step_s)
            if next_at != entry.next_run_time:
                entry.next_run_time = next_at
                moved.append(entry)
        self._store.put(moved)


def _begin(job: Job, trigger: FireTrigger, now: datetime, known: datetime | None) -> Entry | None:
    """The entry of a job that is new here; None where no fire is to come."""
    first, while_down = begin(trigger, now, known)
    if first is None:
        return None
    entry = Entry(job, trigger, first)
    entry.down_until = now if while_down else None
    return entry


def _timing(job: Job) -> tuple[Any, ...]:
    """What the instants of a job depend on, its name aside."""
    return (job.trigger, job.timezone, job.jitter_s)


def _wall_minus_boot_s() -> float:
    return clock.wall().timestamp() - clock.boottime_s()
