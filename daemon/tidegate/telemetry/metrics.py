"""Counts what happened, from Records alone, for Prometheus to fetch. It decides nothing and reads no clock.

`observe` is on the daemon's hot path: plain ints in slotted objects. A job's series exist while the job is in the
plan; labels come from the configuration and from fixed words only, so the number of series is bounded by the
number of jobs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, generate_latest

from tidegate.model.command import Fact, Record
from tidegate.model.plan import Plan
from tidegate.model.run import Cause, Outcome, Run, State
from tidegate.telemetry.exposition import (
    COUNTS,
    HISTOGRAMS,
    DaemonCollector,
    Family,
    Single,
    next_fire_family,
    slices,
)
from tidegate.telemetry.series import (
    DURATION,
    LATENESS,
    LOOP_LAG,
    OUTCOME_INDEX,
    OUTCOMES,
    QUEUE_WAIT,
    WRITE,
    Histogram,
    JobSeries,
)


class Metrics:
    """All metrics of one daemon. Everything is called on the loop's thread, `render`'s slices too.

    `pool` answers (limit, running, queued), `next_fires` the next due instants in epoch seconds by job name,
    `logs_dropped` the log records lost so far, `resources` (units, used) by name, `hook_deliveries` counts by hook and
    outcome; they are asked at each scrape. With per_job_histograms off there is
    one `run_duration_seconds` and one `queue_wait_seconds` for all jobs, without the labels job_name and task.
    """

    def __init__(
        self,
        version: str,
        *,
        pool: Callable[[], tuple[int, int, int]],
        next_fires: Callable[[], Mapping[str, float]],
        logs_dropped: Callable[[], int],
        resources: Callable[[], Mapping[str, tuple[int, int]]] = dict,
        hook_deliveries: Callable[[], Mapping[tuple[str, ...], float]] = dict,
        per_job_histograms: bool = True,
    ) -> None:
        self._version = version
        self._pool = pool
        self._next_fires = next_fires
        self._logs_dropped = logs_dropped
        self._resources = resources
        self._hook_deliveries = hook_deliveries
        self._jobs: dict[str, JobSeries] = {}
        self._departed: dict[str, JobSeries] = {}  # gone from the plan while runs of them were under way
        self._active: dict[str, bool] = {}  # run_id → holds a slot; False: waits
        self._lateness = Histogram(LATENESS)
        self._loop_lag = Histogram(LOOP_LAG)
        self._history_writes = Histogram(WRITE)
        self._all_durations = None if per_job_histograms else Histogram(DURATION)
        self._all_queue_waits = None if per_job_histograms else Histogram(QUEUE_WAIT)
        self._reloads = {"succeeded": 0, "failed": 0}
        self._last_reload_ok = False
        self._last_reload_s: float | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(DaemonCollector(self._singles))
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self._registry.register(collector)

    # --- facts ----------------------------------------------------------------------------------------

    def observe(self, record: Record) -> None:
        """Count a fact."""
        run = record.run
        if run is None:
            return
        job = self._jobs.get(record.job)
        if job is None:
            job = self._departed_job(record.job)
        match record.fact:
            case Fact.RUN_QUEUED | Fact.RUN_HELD | Fact.RUN_RESTORED:
                if run.state is not State.RETRYING:
                    fresh = run.run_id not in self._active
                    self._leave(job, run)  # it was held, or could not be started now
                    self._active[run.run_id] = False
                    job.queued += 1
                    if fresh and run.catch_up and run.attempt == 1 and record.fact is not Fact.RUN_RESTORED:
                        job.caught_up = (job.caught_up or 0) + 1
                if record.lateness_s is not None and run.cause is Cause.SCHEDULE and not run.catch_up:
                    self._lateness.observe(record.lateness_s)
            case Fact.RUN_STARTING | Fact.RUN_RECOVERED:
                self._leave(job, run)
                self._active[run.run_id] = True
                job.running += 1
                if record.wait_s is not None:
                    self._waited(job, record.wait_s)
            case Fact.RUN_FINISHED:
                self._finished(job, run, record.at)
            case Fact.RUN_RETRYING:
                self._leave(job, run)
                self._attempt_ended(job, run)
            case Fact.RUN_SKIPPED:
                self._leave(job, run)
                if run.skip is not None:
                    if job.skipped is None:
                        job.skipped = {}
                    job.skipped[run.skip] = job.skipped.get(run.skip, 0) + record.count
            case _:
                pass
        if self._departed and not job.running and not job.queued:
            self._departed.pop(record.job, None)

    def load(self, plan: Plan, at: datetime) -> None:
        """A plan is live. Jobs it no longer has lose their series; those that stayed or changed keep their counts."""
        at_s = at.timestamp()
        old, self._jobs = self._jobs, {}
        for name in plan.jobs:
            job = old.pop(name, None)
            if job is None:
                job = self._departed.pop(name) if name in self._departed else JobSeries(name, at_s)
            self._jobs[name] = job
        self._departed.update({name: job for name, job in old.items() if job.running or job.queued})
        if self._last_reload_s is None:
            self._last_reload_ok = True
            self._last_reload_s = at_s

    def restore(self, known: Iterable[tuple[str, datetime, datetime | None, datetime | None]]) -> None:
        """What an earlier life of the daemon has on record: job, known since, last run, last success."""
        for name, since, last_run, last_success in known:
            job = self._jobs.get(name)
            if job is not None:
                job.created_s = since.timestamp()
                job.last_run_s = None if last_run is None else last_run.timestamp()
                job.last_success_s = None if last_success is None else last_success.timestamp()

    def history_written(self, took_s: float) -> None:
        """How long a transaction of the history took."""
        self._history_writes.observe(took_s)

    def loop_lag(self, lag_s: float) -> None:
        """How much later than asked the loop called back."""
        self._loop_lag.observe(lag_s)

    def reload_outcome(self, ok: bool, at: datetime) -> None:
        """A reload was tried. The first load at start is not a reload."""
        self._reloads["succeeded" if ok else "failed"] += 1
        self._last_reload_ok = ok
        if ok:
            self._last_reload_s = at.timestamp()

    # --- a scrape -------------------------------------------------------------------------------------

    def render(self) -> Iterator[bytes]:
        """The whole exposition, in slices of about half a millisecond; let the loop turn between two of them.

        Each job's numbers are consistent in themselves; jobs that come or go meanwhile are shown or not.
        """
        yield generate_latest(self._registry)
        families: list[Family] = [*COUNTS, next_fire_family(self._next_fires())]
        if self._all_durations is None:
            families += HISTOGRAMS
        yield from slices(families, list(self._jobs.values()))

    def _singles(self) -> Iterator[Single]:
        limit, running, queued = self._pool()
        yield Single("tidegate_build_info", "gauge", "The version, as a label.", {(self._version,): 1}, ("version",))
        yield Single("tidegate_pool_limit", "gauge", "How many runs may hold a slot at once.", limit)
        yield Single("tidegate_pool_running", "gauge", "How many runs hold a slot.", running)
        yield Single("tidegate_pool_queued", "gauge", "How many runs wait.", queued)
        yield Single(
            "tidegate_fire_lateness_seconds",
            "histogram",
            "What the scheduler owes: due to queued, of scheduled fires but those missed while down and caught up.",
            self._lateness,
        )
        yield Single("tidegate_loop_lag_seconds", "histogram", "How late the loop called back.", self._loop_lag)
        yield Single(
            "tidegate_history_write_duration_seconds",
            "histogram",
            "How long transactions of the history took.",
            self._history_writes,
        )
        yield from self._shared()
        yield Single(
            "tidegate_config_reloads_total",
            "counter",
            "Reloads of the configuration, by outcome; the load at start is none.",
            {(outcome,): count for outcome, count in self._reloads.items()},
            ("outcome",),
        )
        yield Single(
            "tidegate_config_last_reload_success",
            "gauge",
            "1 if the configuration last read is the live one, 0 if it was rejected.",
            int(self._last_reload_ok),
        )
        if self._last_reload_s is not None:
            yield Single(
                "tidegate_config_last_reload_timestamp_seconds",
                "gauge",
                "When a configuration was last read and taken.",
                self._last_reload_s,
            )
        yield Single(
            "tidegate_log_records_dropped_total",
            "counter",
            "Log records lost because nobody read the log, or not fast enough.",
            self._logs_dropped(),
        )
        if self._all_durations is not None and self._all_queue_waits is not None:
            for family, histogram in zip(HISTOGRAMS, (self._all_durations, self._all_queue_waits), strict=True):
                yield Single(family.name, family.kind, family.help, histogram)

    def _shared(self) -> Iterator[Single]:
        units = self._resources()
        for name, text, index in (
            ("tidegate_resource_units", "How many units of a shared resource there are.", 0),
            ("tidegate_resource_units_used", "How many of them are in use.", 1),
        ):
            yield Single(name, "gauge", text, {(key,): pair[index] for key, pair in units.items()}, ("resource",))
        yield Single(
            "tidegate_hook_deliveries_total",
            "counter",
            "Messages of hooks, by what became of them.",
            self._hook_deliveries(),
            ("hook", "outcome"),
        )

    # --- counting -------------------------------------------------------------------------------------

    def _departed_job(self, name: str) -> JobSeries:
        job = self._departed.get(name)
        if job is None:
            job = self._departed[name] = JobSeries(name, 0.0)
        return job

    def _leave(self, job: JobSeries, run: Run) -> bool:
        """The run is no longer where it was counted; whether it held a slot there."""
        was_active = self._active.pop(run.run_id, None)
        if was_active is None:
            return False
        if was_active:
            job.running -= 1
        else:
            job.queued -= 1
        return was_active

    def _waited(self, job: JobSeries, wait_s: float) -> None:
        if self._all_queue_waits is not None:
            self._all_queue_waits.observe(wait_s)
            return
        if job.queue_wait is None:
            job.queue_wait = Histogram(QUEUE_WAIT)
        job.queue_wait.observe(wait_s)

    def _finished(self, job: JobSeries, run: Run, at: datetime) -> None:
        assert run.outcome is not None, run
        if job.runs is None:
            job.runs = [0] * len(OUTCOMES)
        job.runs[OUTCOME_INDEX[run.outcome]] += 1
        if not self._leave(job, run):
            return  # ended between two attempts, or before the first: nothing ran just now
        self._attempt_ended(job, run)
        job.last_run_s = at.timestamp()
        if run.outcome is Outcome.SUCCEEDED:
            job.last_success_s = job.last_run_s
        if run.usage.memory_peak_bytes is not None:
            job.memory_peak_bytes = run.usage.memory_peak_bytes
        if run.duration_s is None:
            return
        if self._all_durations is not None:
            self._all_durations.observe(run.duration_s)
            return
        if job.duration is None:
            job.duration = Histogram(DURATION)
        job.duration.observe(run.duration_s)

    def _attempt_ended(self, job: JobSeries, run: Run) -> None:
        assert run.outcome is not None, run
        if job.attempts is None:
            job.attempts = [0] * len(OUTCOMES)
        job.attempts[OUTCOME_INDEX[run.outcome]] += 1
        if run.usage.cpu_s is not None:
            job.cpu_s = (job.cpu_s or 0.0) + run.usage.cpu_s
