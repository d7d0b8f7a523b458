"""What Prometheus would read: counted from records alone, bounded by the configuration, valid for any job name."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Fact, Record, Resize, Start
from tidegate.model.event import (
    CancelRequested,
    DrainRequested,
    Event,
    Exited,
    Fired,
    Now,
    PlanLoaded,
    Started,
    StartFailed,
)
from tidegate.model.job import Job, Overlap, Retries
from tidegate.model.plan import Plan
from tidegate.model.run import Cause, Outcome, Run, Skip, State, Usage
from tidegate.model.sample import Sample
from tidegate.telemetry.metrics import Metrics
from tidegate.telemetry.series import pressures_of

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def make(*names: str, **options: Any) -> Metrics:
    metrics = Metrics(
        "1.2.3",
        pool=lambda: (8, 1, 2),
        next_fires=lambda: dict.fromkeys(names, 1800000000.5),
        logs_dropped=lambda: 7,
        **options,
    )
    metrics.load(plan(*names), T0)
    return metrics


def plan(*names: str) -> Plan:
    return Plan(jobs={name: Job(name=name, command=("true",)) for name in names})


def text(metrics: Metrics) -> str:
    return b"".join(metrics.render()).decode()


def samples(metrics: Metrics) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text(metrics)):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"tidegate_{name}", frozenset(labels.items())))


def run(job: str, run_id: str = "r1", **changes: Any) -> Run:
    return Run(**{"run_id": run_id, "job": job, "scheduled_at": T0, "queued_at": T0, **changes})


def feed(metrics: Metrics, *records: tuple[Fact, Run], **rest: Any) -> None:
    for fact, of in records:
        metrics.observe(Record(fact=fact, at=T0 + timedelta(seconds=5), job=of.job, run=of, **rest))


def one_run(metrics: Metrics, job: str, outcome: Outcome, *, run_id: str = "r1", duration_s: float = 1.5) -> None:
    ended = run(job, run_id, state=State.FINISHED, outcome=outcome, duration_s=duration_s, usage=Usage(0.25, 4096))
    feed(metrics, (Fact.RUN_QUEUED, run(job, run_id)))
    feed(metrics, (Fact.RUN_STARTING, run(job, run_id, state=State.STARTING)), wait_s=0.02)
    feed(metrics, (Fact.RUN_STARTED, run(job, run_id, state=State.RUNNING)), (Fact.RUN_FINISHED, ended))


def engine(metrics: Metrics, dispatcher: Dispatcher, events: Iterable[Event], mono_s: float) -> list[Start]:
    """Let the real engine make the records."""
    commands = dispatcher.handle(list(events), Now(T0 + timedelta(seconds=mono_s), mono_s))
    for command in commands:
        if isinstance(command, Record):
            metrics.observe(command)
    return [command for command in commands if isinstance(command, Start)]


def test_the_three_common_outcomes_are_zero_before_the_first_run() -> None:
    metrics = make("a")
    for outcome in ("succeeded", "failed", "timed_out"):
        assert value(metrics, "runs_total", job_name="a", task="", outcome=outcome) == 0
    assert value(metrics, "runs_total", job_name="a", task="", outcome="cancelled") is None
    assert value(metrics, "last_run_timestamp_seconds", job_name="a") is None
    assert value(metrics, "last_success_timestamp_seconds", job_name="a") is None


def test_a_succeeded_run_is_counted_everywhere() -> None:
    metrics = make("a", "b")
    one_run(metrics, "a", Outcome.SUCCEEDED)
    ended_s = (T0 + timedelta(seconds=5)).timestamp()
    assert value(metrics, "runs_total", job_name="a", task="", outcome="succeeded") == 1
    assert value(metrics, "runs_total", job_name="b", task="", outcome="succeeded") == 0
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="succeeded") == 1
    assert value(metrics, "last_success_timestamp_seconds", job_name="a") == ended_s
    assert value(metrics, "last_run_timestamp_seconds", job_name="a") == ended_s
    assert value(metrics, "job_created_timestamp_seconds", job_name="a") == T0.timestamp()
    assert value(metrics, "next_fire_timestamp_seconds", job_name="a") == 1_800_000_000.5
    assert value(metrics, "run_memory_peak_bytes", job_name="a", task="") == 4096
    assert value(metrics, "run_cpu_seconds_total", job_name="a", task="") == 0.25
    assert value(metrics, "run_duration_seconds_count", job_name="a", task="") == 1
    assert value(metrics, "run_duration_seconds_bucket", job_name="a", task="", le="1.0") == 0
    assert value(metrics, "run_duration_seconds_bucket", job_name="a", task="", le="10.0") == 1
    assert value(metrics, "queue_wait_seconds_sum", job_name="a") == 0.02
    assert value(metrics, "queue_wait_seconds_count", job_name="b") is None


def test_a_failed_run_moves_last_run_but_not_last_success() -> None:
    metrics = make("a")
    one_run(metrics, "a", Outcome.FAILED)
    assert value(metrics, "last_run_timestamp_seconds", job_name="a") is not None
    assert value(metrics, "last_success_timestamp_seconds", job_name="a") is None


def test_a_bucket_includes_its_own_bound() -> None:
    metrics = make("a")
    one_run(metrics, "a", Outcome.SUCCEEDED, duration_s=10.0)
    assert value(metrics, "run_duration_seconds_bucket", job_name="a", task="", le="10.0") == 1
    assert value(metrics, "run_duration_seconds_bucket", job_name="a", task="", le="1.0") == 0


def test_each_attempt_of_a_retried_run_counts_and_its_run_counts_once() -> None:
    metrics, dispatcher = make("a"), Dispatcher()
    job = Job(name="a", command=("x",), retries=Retries(max=1, delay_s=5.0, jitter=0.0))
    started = engine(metrics, dispatcher, [PlanLoaded(Plan(jobs={"a": job}), 4), Fired("a", (T0,))], 0.0)
    run_id = started[0].run.run_id
    engine(metrics, dispatcher, [Started(run_id, 1, 99)], 0.1)
    assert value(metrics, "runs_running", job_name="a") == 1
    engine(metrics, dispatcher, [Exited(run_id, 1, 1, None, Usage(0.5, 100))], 1.0)
    assert value(metrics, "runs_running", job_name="a") == 0
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="failed") == 1
    assert value(metrics, "runs_total", job_name="a", task="", outcome="failed") == 0
    assert engine(metrics, dispatcher, [], 6.5)
    engine(metrics, dispatcher, [Started(run_id, 2, 99), Exited(run_id, 2, 0, None, Usage(0.5, 200))], 7.0)
    assert value(metrics, "runs_total", job_name="a", task="", outcome="succeeded") == 1
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="succeeded") == 1
    assert value(metrics, "run_cpu_seconds_total", job_name="a", task="") == 1.0
    assert value(metrics, "run_memory_peak_bytes", job_name="a", task="") == 200


def test_a_run_withdrawn_between_two_attempts_adds_no_attempt() -> None:
    metrics, dispatcher = make("a"), Dispatcher()
    job = Job(name="a", command=("x",), retries=Retries(max=1, delay_s=50.0))
    started = engine(metrics, dispatcher, [PlanLoaded(Plan(jobs={"a": job}), 4), Fired("a", (T0,))], 0.0)
    run_id = started[0].run.run_id
    engine(metrics, dispatcher, [StartFailed(run_id, 1, "no such file")], 0.1)
    engine(metrics, dispatcher, [CancelRequested(run_id, "somebody")], 0.2)
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="failed_to_start") == 1
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="cancelled") is None
    assert value(metrics, "runs_total", job_name="a", task="", outcome="cancelled") == 1


def test_a_held_run_is_queued_once() -> None:
    metrics, dispatcher = make("a"), Dispatcher()
    job = Job(name="a", command=("x",), overlap=Overlap.QUEUE)
    events: list[Event] = [PlanLoaded(Plan(jobs={"a": job}), 4), Fired("a", (T0,)), Fired("a", (T0,))]
    started = engine(metrics, dispatcher, events, 0.0)
    assert value(metrics, "runs_queued", job_name="a") == 1
    first = started[0].run.run_id
    second = engine(metrics, dispatcher, [Started(first, 1, 9), Exited(first, 1, 0, None, Usage())], 1.0)[0].run.run_id
    assert value(metrics, "runs_queued", job_name="a") == 0
    assert value(metrics, "runs_running", job_name="a") == 1
    engine(metrics, dispatcher, [Exited(second, 1, 0, None, Usage())], 2.0)
    assert value(metrics, "runs_running", job_name="a") == 0


def test_a_drain_goes_on_counting_what_waits() -> None:
    metrics, dispatcher = make("a"), Dispatcher()
    job = Job(name="a", command=("x",), overlap=Overlap.ALLOW)
    fires: list[Event] = [Fired("a", (T0,)) for _ in range(5)]
    engine(metrics, dispatcher, [PlanLoaded(Plan(jobs={"a": job}), 0), *fires], 0.0)
    assert value(metrics, "runs_queued", job_name="a") == 5
    engine(metrics, dispatcher, [DrainRequested(1.0, "test")], 1.0)
    assert value(metrics, "runs_queued", job_name="a") == 5
    assert value(metrics, "runs_total", job_name="a", task="", outcome="cancelled") is None
    assert value(metrics, "last_run_timestamp_seconds", job_name="a") is None


def test_one_record_for_many_missed_fires_counts_them_all() -> None:
    metrics = make("a")
    skipped = run("a", state=State.SKIPPED, skip=Skip.CATCH_UP)
    feed(metrics, (Fact.RUN_SKIPPED, skipped), count=40)
    assert value(metrics, "runs_skipped_total", job_name="a", reason="catch_up") == 40


def test_lateness_is_of_scheduled_fires_that_were_not_missed() -> None:
    metrics = make("a")
    feed(metrics, (Fact.RUN_QUEUED, run("a", "r1")), lateness_s=0.3)
    feed(metrics, (Fact.RUN_QUEUED, run("a", "r2", cause=Cause.MANUAL)), lateness_s=0.0)
    feed(metrics, (Fact.RUN_QUEUED, run("a", "r3", catch_up=True)), lateness_s=7200.0)
    assert value(metrics, "fire_lateness_seconds_count") == 1
    assert value(metrics, "fire_lateness_seconds_bucket", le="0.5") == 1
    assert value(metrics, "fire_lateness_seconds_bucket", le="0.1") == 0


def test_a_removed_job_takes_its_series_along_and_others_keep_theirs() -> None:
    metrics = make("gone", "stays")
    one_run(metrics, "gone", Outcome.SUCCEEDED)
    one_run(metrics, "stays", Outcome.SUCCEEDED)
    later = T0 + timedelta(hours=1)
    metrics.load(plan("stays", "new"), later)
    assert 'job_name="gone"' not in text(metrics)
    assert value(metrics, "runs_total", job_name="stays", task="", outcome="succeeded") == 1
    assert value(metrics, "job_created_timestamp_seconds", job_name="stays") == T0.timestamp()
    assert value(metrics, "job_created_timestamp_seconds", job_name="new") == later.timestamp()


def test_a_job_that_comes_back_while_its_run_goes_on_still_counts_it() -> None:
    metrics = make("a")
    feed(metrics, (Fact.RUN_QUEUED, run("a")), (Fact.RUN_STARTING, run("a", state=State.STARTING)))
    metrics.load(plan(), T0)
    assert 'job_name="a"' not in text(metrics)
    metrics.load(plan("a"), T0)
    assert value(metrics, "runs_running", job_name="a") == 1
    feed(metrics, (Fact.RUN_FINISHED, run("a", state=State.FINISHED, outcome=Outcome.SUCCEEDED)))
    assert value(metrics, "runs_running", job_name="a") == 0


def test_runs_that_outlive_their_job_leave_nothing_behind() -> None:
    metrics = make("a")
    feed(metrics, (Fact.RUN_QUEUED, run("a")), (Fact.RUN_STARTING, run("a", state=State.STARTING)))
    metrics.load(plan(), T0)
    feed(metrics, (Fact.RUN_FINISHED, run("a", state=State.FINISHED, outcome=Outcome.SUCCEEDED)))
    metrics.load(plan("a"), T0)
    assert value(metrics, "runs_total", job_name="a", task="", outcome="succeeded") == 0


def test_a_recovered_run_is_running() -> None:
    metrics = make("a")
    feed(metrics, (Fact.RUN_RECOVERED, run("a", state=State.RUNNING)))
    assert value(metrics, "runs_running", job_name="a") == 1
    one_run(metrics, "a", Outcome.SUCCEEDED, run_id="r2")
    assert value(metrics, "runs_running", job_name="a") == 1


def test_what_the_daemon_has_once() -> None:
    metrics = make()
    assert value(metrics, "build_info", version="1.2.3") == 1
    assert value(metrics, "pool_limit") == 8
    assert value(metrics, "pool_running") == 1
    assert value(metrics, "pool_queued") == 2
    assert value(metrics, "log_records_dropped_total") == 7
    metrics.loop_lag(0.003)
    assert value(metrics, "loop_lag_seconds_bucket", le="0.005") == 1
    assert value(metrics, "loop_lag_seconds_bucket", le="0.001") == 0
    assert ("process_resident_memory_bytes", frozenset()) in samples(metrics)
    assert "python_gc_collections_total" in text(metrics)


def test_a_failed_reload_is_seen_until_one_succeeds() -> None:
    metrics = make()
    loaded_s = T0.timestamp()
    assert value(metrics, "config_last_reload_success") == 1
    assert value(metrics, "config_last_reload_timestamp_seconds") == loaded_s
    metrics.reload_outcome(False, T0 + timedelta(seconds=10))
    assert value(metrics, "config_last_reload_success") == 0
    assert value(metrics, "config_last_reload_timestamp_seconds") == loaded_s
    metrics.reload_outcome(True, T0 + timedelta(seconds=20))
    assert value(metrics, "config_last_reload_success") == 1
    assert value(metrics, "config_last_reload_timestamp_seconds") == loaded_s + 20
    assert value(metrics, "config_reloads_total", outcome="succeeded") == 1
    assert value(metrics, "config_reloads_total", outcome="failed") == 1


def tell(metrics: Metrics, fact: Fact, **rest: Any) -> None:
    metrics.observe(Record(fact=fact, at=T0, **rest))


def test_a_moved_limit_is_counted_by_direction_and_by_what_moved_it() -> None:
    metrics = make()
    for before, after, word in ((4, 8, "growth"), (8, 16, "growth"), (16, 10, "cpu")):
        tell(metrics, Fact.POOL_RESIZED, resize=Resize(before, after, word))
    tell(metrics, Fact.POOL_RESIZED)  # a reload set it: nothing moved by itself
    assert value(metrics, "pool_limit_changes_total", direction="up", reason="growth") == 2
    assert value(metrics, "pool_limit_changes_total", direction="down", reason="cpu") == 1


def test_a_frozen_run_counts_until_it_is_thawed_or_ends() -> None:
    metrics = make("a")
    for run_id in ("r1", "r2"):
        feed(metrics, (Fact.RUN_STARTING, run("a", run_id)), (Fact.RUN_FROZEN, run("a", run_id, state=State.RUNNING)))
    assert value(metrics, "pool_frozen") == 2
    feed(metrics, (Fact.RUN_THAWED, run("a", "r1", state=State.RUNNING)))
    assert value(metrics, "pool_frozen") == 1
    feed(metrics, (Fact.RUN_FINISHED, run("a", "r2", state=State.FINISHED, outcome=Outcome.CANCELLED)))
    assert value(metrics, "pool_frozen") == 0


def test_an_evicted_run_holds_its_slot_until_it_is_gone_and_was_no_attempt() -> None:
    metrics = make("a")
    assert value(metrics, "evictions_total", reason="memory") == 0
    feed(metrics, (Fact.RUN_STARTING, run("a")), (Fact.RUN_FROZEN, run("a", state=State.RUNNING)))
    feed(metrics, (Fact.RUN_EVICTED, run("a", state=State.STOPPING)))
    assert value(metrics, "evictions_total", reason="memory") == 1
    assert value(metrics, "runs_running", job_name="a") == 1
    assert value(metrics, "pool_frozen") == 0
    killed = {"outcome": Outcome.KILLED_FOR_MEMORY, "usage": Usage(0.5, 100)}
    feed(metrics, (Fact.RUN_RETRYING, run("a", state=State.RETRYING, **killed)), (Fact.RUN_QUEUED, run("a", attempt=2)))
    assert value(metrics, "runs_running", job_name="a") == 0
    assert value(metrics, "runs_queued", job_name="a") == 1
    assert value(metrics, "running_since_timestamp_seconds", job_name="a") is None
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="killed_for_memory") is None
    assert value(metrics, "run_cpu_seconds_total", job_name="a", task="") == 0.5


def test_a_run_that_was_evicted_too_often_ends_as_an_attempt_that_was_killed() -> None:
    metrics = make("a")
    feed(metrics, (Fact.RUN_STARTING, run("a")), (Fact.RUN_EVICTED, run("a", state=State.STOPPING)))
    feed(metrics, (Fact.RUN_FINISHED, run("a", state=State.FINISHED, outcome=Outcome.KILLED_FOR_MEMORY)))
    assert value(metrics, "attempts_total", job_name="a", task="", outcome="killed_for_memory") == 1
    assert value(metrics, "runs_total", job_name="a", task="", outcome="killed_for_memory") == 1


def test_the_tier_of_memory_and_what_holds_all_starts_are_shown_as_they_stand() -> None:
    metrics = make()
    assert value(metrics, "memory_tier") == 0
    tell(metrics, Fact.MEMORY_TIER, tier=2)
    assert value(metrics, "memory_tier") == 2
    tell(metrics, Fact.STARTS_HELD, reason="no room")
    tell(metrics, Fact.STARTS_HELD, reason="no history")
    tell(metrics, Fact.STARTS_RESUMED)
    assert value(metrics, "starts_held") == 1
    tell(metrics, Fact.STARTS_RESUMED)
    assert value(metrics, "starts_held") == 0


def test_a_failing_history_is_counted_once_for_as_long_as_it_fails() -> None:
    metrics = make()
    metrics.history_failing("disk full")
    metrics.history_failing("disk full and locked")
    assert value(metrics, "history_failing") == 1
    assert value(metrics, "history_write_errors_total") == 1
    metrics.history_failing("")
    assert value(metrics, "history_failing") == 0
    metrics.history_failing("disk full")
    assert value(metrics, "history_write_errors_total") == 2


def test_gates_and_pressure_are_asked_at_each_scrape() -> None:
    blocked: dict[str, float] = {}
    pressures: dict[str, float] = {}
    metrics = make(blocked_s=lambda: blocked, pressures=lambda: pressures)
    assert value(metrics, "admission_blocked_seconds_total", gate="memory") is None
    blocked["memory"], pressures["io"] = 2.5, 0.3
    assert value(metrics, "admission_blocked_seconds_total", gate="memory") == 2.5
    assert value(metrics, "pressure_ratio", resource="io") == 0.3


def test_pressure_is_what_the_kernel_tells_and_nothing_else() -> None:
    known: dict[str, Any] = dict.fromkeys(Sample.__struct_fields__)
    known |= {"cpu_some_ratio": 0.5, "io_some_ratio": 0.9, "io_full_ratio": 0.1}
    assert pressures_of(Sample(**known)) == {"cpu": 0.5, "io": 0.1}
    assert pressures_of(None) == {}


def test_the_oldest_run_under_way_is_shown_until_it_ends() -> None:
    metrics = make("a")
    first, second = (run("a", run_id, state=State.STARTING) for run_id in ("r1", "r2"))
    metrics.observe(Record(fact=Fact.RUN_STARTING, at=T0, job="a", run=first))
    metrics.observe(Record(fact=Fact.RUN_STARTING, at=T0 + timedelta(seconds=9), job="a", run=second))
    assert value(metrics, "running_since_timestamp_seconds", job_name="a") == T0.timestamp()
    feed(metrics, (Fact.RUN_FINISHED, run("a", "r1", state=State.FINISHED, outcome=Outcome.FAILED)))
    assert value(metrics, "running_since_timestamp_seconds", job_name="a") == T0.timestamp() + 9
    feed(metrics, (Fact.RUN_FINISHED, run("a", "r2", state=State.FINISHED, outcome=Outcome.FAILED)))
    assert value(metrics, "running_since_timestamp_seconds", job_name="a") is None


def test_a_recovered_run_goes_on_since_its_own_start() -> None:
    metrics = make("a")
    feed(metrics, (Fact.RUN_RECOVERED, run("a", state=State.RUNNING, started_at=T0 - timedelta(hours=1))))
    assert value(metrics, "running_since_timestamp_seconds", job_name="a") == T0.timestamp() - 3600


def test_the_expected_duration_is_that_of_the_live_plan() -> None:
    metrics = make("a")
    assert value(metrics, "job_expected_duration_seconds", job_name="a") is None
    metrics.load(Plan(jobs={"a": Job(name="a", command=("true",), expected_s=90.0)}), T0)
    assert value(metrics, "job_expected_duration_seconds", job_name="a") == 90.0
    metrics.load(plan("a"), T0)
    assert value(metrics, "job_expected_duration_seconds", job_name="a") is None


def test_a_job_has_failed_until_it_succeeds_and_cancelling_says_nothing() -> None:
    metrics = make("a")
    assert value(metrics, "last_run_failed", job_name="a") is None
    for outcome, failed in (
        (Outcome.CANCELLED, None),
        (Outcome.SUCCEEDED, 0),
        (Outcome.FAILED_TO_START, 1),
        (Outcome.CANCELLED, 1),
        (Outcome.SUCCEEDED, 0),
        (Outcome.CANCELLED, 0),
    ):
        one_run(metrics, "a", outcome)
        assert value(metrics, "last_run_failed", job_name="a") == failed


def test_what_an_earlier_life_saw_last_is_shown_again() -> None:
    metrics = make("good", "bad", "never", "cancelled", "unseen")
    early, late = T0 - timedelta(hours=2), T0 - timedelta(hours=1)
    known = [
        ("good", early, late, late),
        ("bad", early, late, early),
        ("never", early, late, None),
        ("cancelled", early, late, early),
        ("unseen", early, None, None),
    ]
    metrics.restore(known)
    found = {name: value(metrics, "last_run_failed", job_name=name) for name, *_ in known}
    assert found == {"good": 0, "bad": 1, "never": 1, "cancelled": 1, "unseen": None}
    metrics.restore(known, failed={"bad", "never"})
    assert value(metrics, "last_run_failed", job_name="cancelled") == 0
    assert value(metrics, "last_run_failed", job_name="never") == 1
    assert value(metrics, "last_success_timestamp_seconds", job_name="bad") == early.timestamp()


def test_without_per_job_histograms_there_is_one_for_all_jobs() -> None:
    metrics = make("a", "b", per_job_histograms=False)
    one_run(metrics, "a", Outcome.SUCCEEDED)
    one_run(metrics, "b", Outcome.SUCCEEDED)
    assert value(metrics, "run_duration_seconds_count") == 2
    assert value(metrics, "queue_wait_seconds_count") == 2
    assert value(metrics, "run_duration_seconds_count", job_name="a", task="") is None
    assert value(metrics, "runs_total", job_name="a", task="", outcome="succeeded") == 1


def test_every_metric_has_help_and_type_once_and_no_created_series() -> None:
    metrics = make("a")
    one_run(metrics, "a", Outcome.SUCCEEDED)
    lines = text(metrics).splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert names == [line.split()[2] for line in lines if line.startswith("# HELP ")]
    assert len(names) == len(set(names))
    assert not any("_created" in line and "job_created" not in line for line in lines)


def test_hostile_job_names_stay_inside_their_label() -> None:
    hostile = ['quote"', "back\\slash", "new\nline", 'x"} 1\ntidegate_evil 2', "\\", "ümläut ☃", "\udce9", "a,b=c", ""]
    metrics = make(*hostile)
    for name in hostile:
        one_run(metrics, name, Outcome.SUCCEEDED)
    families = {family.name: family for family in text_string_to_metric_families(text(metrics))}
    assert "tidegate_evil" not in families
    shown = {sample.labels["job_name"] for sample in families["tidegate_runs_running"].samples}
    assert shown == {name.encode("utf-8", "backslashreplace").decode() for name in hostile}


SERIES_PER_JOB_MAX = 2 * len(Outcome) + len(Skip) + 2 + 8 + 2 * (9 + 2)
names = st.lists(st.text(max_size=12), unique=True, max_size=8).map(
    lambda found: list({name.encode("utf-8", "backslashreplace"): name for name in found}.values())
)


@settings(max_examples=40, deadline=None)
@given(names, st.lists(st.tuples(st.integers(0, 7), st.sampled_from(list(Fact)), st.integers(0, 9)), max_size=30))
def test_series_are_bounded_by_the_jobs_whatever_happens(jobs: list[str], events: list[tuple[int, Fact, int]]) -> None:
    metrics = make(*jobs)
    alone = len(samples(make()))
    for index, fact, number in events:
        name = jobs[index % len(jobs)] if jobs and index < 6 else f"stranger {index}"
        outcome = list(Outcome)[number % len(Outcome)]
        ended = run(
            name, f"{name} {number}", outcome=outcome, skip=list(Skip)[number % len(Skip)], duration_s=float(number)
        )
        feed(metrics, (fact, ended), lateness_s=0.1, wait_s=0.1)
    found = samples(metrics)
    assert len(found) <= alone + SERIES_PER_JOB_MAX * len(jobs)
    assert all(number >= 0 for number in found.values())
    assert {dict(labels).get("job_name", "") for _, labels in found} <= {
        name.encode("utf-8", "backslashreplace").decode() for name in ["", *jobs]
    }


def test_slices_grow_in_number_not_in_size_with_the_jobs() -> None:
    def sizes(count: int) -> list[int]:
        metrics = make(*(f"job-{number}" for number in range(count)))
        for number in range(count):
            one_run(metrics, f"job-{number}", Outcome.SUCCEEDED, run_id=f"r{number}")
        return [len(piece) for piece in metrics.render()]

    few, many = sizes(400), sizes(2000)
    assert len(many) > 4 * len(few)
    assert max(many) < 1.2 * max(few)
    assert max(many) < 128 * 1024
