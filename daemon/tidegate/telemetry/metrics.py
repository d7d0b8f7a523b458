"""Counts what happened, from Records alone, for Prometheus to fetch. It decides nothing and reads no clock.

`observe` is on the daemon's hot path: plain ints in slotted objects. A job's series exist while the job is in the
plan; labels come from the configuration and from fixed words only, so the number of series is bounded by the
number of jobs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

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
    instants,
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
    PoolSeries,
)

# Each is asked for at every run, and Python 3.11 takes ten times as long to find a member in its class.
RECOVERED: Final = Fact.RUN_RECOVERED
RESTORED: Final = Fact.RUN_RESTORED
RETRYING: Final = State.RETRYING
SCHEDULE: Final = Cause.SCHEDULE
CANCELLED: Final = Outcome.CANCELLED
SUCCEEDED: Final = Outcome.SUCCEEDED


class Metrics:
    """All metrics of one daemon. Everything is called on the loop's thread, `render`'s slices too.

    `pool` answers (limit, running, queued), `next_fires` the next due instants in epoch seconds by job name,
    `logs_dropped` the log records lost so far, `resources` (units, used) by name, `hook_deliveries` counts by hook and
    outcome, `blocked_s` seconds in which a gate held back the run that was next, by gate, and `pressures` what
    `series.pressures_of` makes of the last sample; they are asked at each scrape. With per_job_histograms off there is
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
        blocked_s: Callable[[], Mapping[str, float]] = dict,
        pressures: Callable[[], Mapping[str, float]] = dict,
        per_job_histograms: bool = True,
    ) -> None:
        self._version = version
        self._pool = pool
        self._next_fires = next_fires
        self._logs_dropped = logs_dropped
        self._resources = resources
        self._hook_deliveries = hook_deliveries
        self._blocked_s = blocked_s
        self._pressures = pressures
        self._pool_series = pool_series = PoolSeries()
        self._jobs: dict[str, JobSeries] = {}
        self._departed: dict[str, JobSeries] = {}  # gone from the plan while runs of them were under way
        self._active: dict[str, bool] = {}  # run_id → holds a slot; False: waits
        self._evicted: set[str] = set()  # run ids whose attempt under way is being killed for want of memory
        self._since: dict[str, tuple[str, datetime]] = {}  # run_id that holds a slot → job, start of this attempt
        self._lateness = Histogram(LATENESS)
        self._loop_lag = Histogram(LOOP_LAG)
        self._history_writes = Histogram(WRITE)
        self._all_durations = None if per_job_histograms else Histogram(DURATION)
        self._all_queue_waits = None if per_job_histograms else Histogram(QUEUE_WAIT)
        self._reloads = {"succeeded": 0, "failed": 0}
        self._last_reload_ok = False
        self._last_reload_s: float | None = None
        self.readers: Mapping[Fact, Callable[[Record], None]] = {  # who counts a fact; no other is counted
            Fact.RUN_QUEUED: self._queued,
            Fact.RUN_HELD: self._queued,
            Fact.RUN_RESTORED: self._queued,
            Fact.RUN_STARTING: self._begun,
            Fact.RUN_RECOVERED: self._begun,
            Fact.RUN_FINISHED: self._ended,
            Fact.RUN_RETRYING: self._retrying,
            Fact.RUN_SKIPPED: self._skipped,
            Fact.RUN_FROZEN: pool_series.froze,
            Fact.RUN_THAWED: pool_series.thawed,
            Fact.RUN_EVICTED: self._killed,
            Fact.POOL_RESIZED: pool_series.resized,
            Fact.MEMORY_TIER: pool_series.tiered,
            Fact.STARTS_HELD: pool_series.held,
            Fact.STARTS_RESUMED: pool_series.let_go,
        }
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(DaemonCollector(self._singles))
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self._registry.register(collector)

    # --- facts ----------------------------------------------------------------------------------------

    def observe(self, record: Record) -> None:
        """Count a fact."""
        count = self.readers.get(record.fact)
        if count is not None:
            count(record)

    def _queued(self, record: Record) -> None:
        """It waits, unless it is between two attempts: then only that it came late is counted."""
        run, job = self._whose(record)
        if run.state is not RETRYING:
            if run.run_id in self._active:
                self._leave(job, run)  # it was held, or could not be started now
            elif run.catch_up and run.attempt == 1 and record.fact is not RESTORED:
                job.caught_up = (job.caught_up or 0) + 1
            self._active[run.run_id] = False
            job.queued += 1
        if record.lateness_s is not None and run.cause is SCHEDULE and not run.catch_up:
            self._lateness.observe(record.lateness_s)
        self._depart(job)

    def _begun(self, record: Record) -> None:
        run, job = self._whose(record)
        self._leave(job, run)
        self._active[run.run_id] = True
        begun_at = run.started_at if record.fact is RECOVERED else None
        self._since[run.run_id] = (record.job, begun_at or record.at)
        job.running += 1
        if record.wait_s is not None:
            self._waited(job, record.wait_s)

    def _ended(self, record: Record) -> None:
        run, job = self._whose(record)
        self._finished(job, run, record.at)
        self._depart(job)

    def _retrying(self, record: Record) -> None:
        run, job = self._whose(record)
        self._leave(job, run)
        self._attempt_ended(job, run, evicted=run.run_id in self._evicted)
        self._evicted.discard(run.run_id)
        self._depart(job)

    def _skipped(self, record: Record) -> None:
        run, job = self._whose(record)
        self._leave(job, run)
        if run.skip is not None:
            if job.skipped is None:
                job.skipped = {}
            job.skipped[run.skip] = job.skipped.get(run.skip, 0) + record.count
        self._depart(job)

    def _killed(self, record: Record) -> None:
        """KILL was sent: it holds its slot until it is gone."""
        assert record.run is not None, record
        self._pool_series.evictions += 1
        self._pool_series.frozen.discard(record.run.run_id)
        self._evicted.add(record.run.run_id)

    def load(self, plan: Plan, at: datetime) -> None:
        """A plan is live. Jobs it no longer has lose their series; those that stayed or changed keep their counts."""
        at_s = at.timestamp()
        old, self._jobs = self._jobs, {}
        for name, definition in plan.jobs.items():
            job = old.pop(name, None)
            if job is None:
                job = self._departed.pop(name) if name in self._departed else JobSeries(name, at_s)
            job.expected_s = definition.expected_s
            self._jobs[name] = job
        self._departed.update({name: job for name, job in old.items() if job.running or job.queued})
        if self._last_reload_s is None:
            self._last_reload_ok = True
            self._last_reload_s = at_s

    def restore(
        self,
        known: Iterable[tuple[str, datetime, datetime | None, datetime | None]],
        failed: Collection[str] | None = None,
    ) -> None:
        """What an earlier life of the daemon has on record: job, known since, last run, last success.

        `failed` names the jobs whose last run neither succeeded nor was cancelled. Without it the two times decide,
        and a cancelled run looks like a failed one.
        """
        for name, since, last_run, last_success in known:
            job = self._jobs.get(name)
            if job is not None:
                job.created_s = since.timestamp()
                job.last_run_s = None if last_run is None else last_run.timestamp()
                job.last_success_s = None if last_success is None else last_success.timestamp()
                if last_run is not None:
                    behind = last_success is None or last_run > last_success
                    job.failed = int(behind if failed is None else name in failed)

    def history_written(self, took_s: float) -> None:
        """How long a transaction of the history took."""
        self._history_writes.observe(took_s)

    def history_failing(self, reason: str) -> None:
        """Writing the history fails for this reason; an empty one: it is written again."""
        self._pool_series.history_state(reason)

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
        families: list[Family] = [
            *COUNTS,
            instants("tidegate_next_fire_timestamp_seconds", "When the job is due next.", self._next_fires()),
            instants(
                "tidegate_running_since_timestamp_seconds",
                "When the oldest of the runs under way was started, or its latest attempt.",
                self._oldest_s(),
            ),
        ]
        if self._all_durations is None:
            families += HISTOGRAMS
        yield from slices(families, list(self._jobs.values()))

    def _singles(self) -> Iterator[Single]:
        yield Single("tidegate_build_info", "gauge", "The version, as a label.", {(self._version,): 1}, ("version",))
        yield from self._of_the_pool()
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
        yield Single(
            "tidegate_history_write_errors_total",
            "counter",
            "How many times writing the history began to fail.",
            self._pool_series.history_errors,
        )
        yield Single(
            "tidegate_history_failing",
            "gauge",
            "1 while the history cannot be written, and nothing starts; else 0.",
            self._pool_series.history_failing,
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

    def _of_the_pool(self) -> Iterator[Single]:
        limit, running, queued = self._pool()
        seen = self._pool_series
        for name, text, count in (
            ("tidegate_pool_limit", "How many runs may hold a slot at once.", limit),
            ("tidegate_pool_running", "How many runs hold a slot.", running),
            ("tidegate_pool_queued", "How many runs wait.", queued),
            (
                "tidegate_pool_frozen",
                "How many of those that hold a slot are held still to spare memory.",
                len(seen.frozen),
            ),
            (
                "tidegate_memory_tier",
                "0: enough; 1: nothing starts; 2: runs are frozen; 3: runs are killed.",
                seen.memory_tier,
            ),
            ("tidegate_starts_held", "For how many reasons nothing at all may start; 0: starts go on.", seen.holds),
        ):
            yield Single(name, "gauge", text, count)
        yield Single(
            "tidegate_pool_limit_changes_total",
            "counter",
            "Changes of the limit, by direction and by what moved it.",
            seen.resizes,
            ("direction", "reason"),
        )
        yield Single(
            "tidegate_admission_blocked_seconds_total",
            "counter",
            "Time in which runs waited and this gate held back the next one.",
            {(gate,): seconds for gate, seconds in self._blocked_s().items()},
            ("gate",),
        )
        yield Single(
            "tidegate_evictions_total",
            "counter",
            "Runs killed to save the machine; most are queued anew.",
            {("memory",): seen.evictions},
            ("reason",),
        )
        yield Single(
            "tidegate_pressure_ratio",
            "gauge",
            "Share of the time lost for want of a resource, when it was last looked at.",
            {(resource,): ratio for resource, ratio in self._pressures().items()},
            ("resource",),
        )

    def _oldest_s(self) -> dict[str, float]:
        """By job: since when the oldest of its runs goes on."""
        oldest: dict[str, datetime] = {}
        for job, since in self._since.values():
            if job not in oldest or since < oldest[job]:
                oldest[job] = since
        return {job: since.timestamp() for job, since in oldest.items()}

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

    def _whose(self, record: Record) -> tuple[Run, JobSeries]:
        """The run, and what is counted for its job, also for one that has left the plan."""
        assert record.run is not None, record
        job = self._jobs.get(record.job) or self._departed.get(record.job)
        if job is None:
            job = self._departed[record.job] = JobSeries(record.job, 0.0)
        return record.run, job

    def _depart(self, job: JobSeries) -> None:
        """Of a job that is gone from the plan nothing is kept when its last run is over."""
        if self._departed and not job.running and not job.queued:
            self._departed.pop(job.name, None)

    def _leave(self, job: JobSeries, run: Run) -> bool:
        """The run is no longer where it was counted; whether it held a slot there."""
        was_active = self._active.pop(run.run_id, None)
        if was_active is None:
            return False
        if was_active:
            job.running -= 1
            self._since.pop(run.run_id, None)
            self._pool_series.frozen.discard(run.run_id)
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
        self._evicted.discard(run.run_id)
        if job.runs is None:
            job.runs = [0] * len(OUTCOMES)
        job.runs[OUTCOME_INDEX[run.outcome]] += 1
        if run.outcome is not CANCELLED:
            job.failed = int(run.outcome is not SUCCEEDED)
        if not self._leave(job, run):
            return  # ended between two attempts, or before the first: nothing ran just now
        self._attempt_ended(job, run)
        job.last_run_s = at.timestamp()
        if run.outcome is SUCCEEDED:
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

    def _attempt_ended(self, job: JobSeries, run: Run, evicted: bool = False) -> None:
        """What it used counts; one that we killed and queue anew is none of its tries."""
        assert run.outcome is not None, run
        if not evicted:
            if job.attempts is None:
                job.attempts = [0] * len(OUTCOMES)
            job.attempts[OUTCOME_INDEX[run.outcome]] += 1
        if run.usage.cpu_s is not None:
            job.cpu_s = (job.cpu_s or 0.0) + run.usage.cpu_s
