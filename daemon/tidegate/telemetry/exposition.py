"""Writes the numbers of metrics.py in Prometheus' text format 0.0.4, slice by slice. It counts nothing.

What exists once (the pool, the process, the interpreter) goes through prometheus-client's own writer. What exists
once a job does not: 10,000 jobs make 350,000 lines, which takes that writer several seconds and this one a fraction
of one. The slices are short enough to be made between two turns of the event loop; see tests/bench/scrape_latency.py
for why that is better than a thread.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tidegate.telemetry.series import ALWAYS_SHOWN, OUTCOMES, Histogram, JobSeries

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
NO_COUNTS: Final = (0,) * len(OUTCOMES)

Lines = Callable[[str, JobSeries], str]


class Family(Struct, frozen=True):
    """One metric that every job has."""

    name: str
    kind: str
    help: str
    lines: Lines  # (name, job) → its lines, with newlines; empty where nothing is known yet
    slice_jobs: int  # jobs that are written in about half a millisecond


class Single(Struct, frozen=True):
    """One metric that the daemon has once: a gauge or counter by label value, or a histogram."""

    name: str
    kind: str  # gauge | counter | histogram
    help: str
    value: float | Histogram | Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()  # the labels that a mapping's keys are values of


class DaemonCollector(Collector):
    """Hands prometheus-client what the daemon has once, read anew at each scrape."""

    def __init__(self, read: Callable[[], Iterable[Single]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily]:
        """One metric after the other."""
        for single in self._read():
            yield _family(single)


def _family(single: Single) -> GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily:
    value = single.value
    if isinstance(value, Histogram):
        histogram = HistogramMetricFamily(single.name, single.help, labels=())
        histogram.add_metric((), buckets=value.cumulative(), sum_value=value.total)
        return histogram
    maker = CounterMetricFamily if single.kind == "counter" else GaugeMetricFamily
    family: GaugeMetricFamily | CounterMetricFamily = maker(single.name, single.help, labels=single.labels)
    for labels, number in value.items() if isinstance(value, Mapping) else (((), value),):
        family.add_metric(labels, number)
    return family


# --- one job's lines -------------------------------------------------------------------------------------
# `task` is empty: only workflows (jobs with tasks) have more than one series here.


def _runs(name: str, job: JobSeries) -> str:
    return _by_outcome(name, job.label, job.runs or NO_COUNTS, ALWAYS_SHOWN)


def _attempts(name: str, job: JobSeries) -> str:
    return _by_outcome(name, job.label, job.attempts, 0) if job.attempts else ""


def _by_outcome(name: str, label: str, counts: Sequence[int], always: int) -> str:
    return "".join(
        [
            f'{name}{{{label},task="",outcome="{OUTCOMES[index]}"}} {count}\n'
            for index, count in enumerate(counts)
            if count or index < always
        ]
    )


def _skipped(name: str, job: JobSeries) -> str:
    if not job.skipped:
        return ""
    return "".join([f'{name}{{{job.label},reason="{reason}"}} {count}\n' for reason, count in job.skipped.items()])


def _duration(name: str, job: JobSeries) -> str:
    return histogram_lines(name, f'{job.label},task=""', job.duration) if job.duration else ""


def _queue_wait(name: str, job: JobSeries) -> str:
    return histogram_lines(name, job.label, job.queue_wait) if job.queue_wait else ""


def histogram_lines(name: str, labels: str, histogram: Histogram) -> str:
    """Every line of one histogram; `labels` is written as it stands and not empty."""
    head = f'{name}_bucket{{{labels},le="'
    lines: list[str] = []
    count = 0
    for text, own in zip(histogram.bounds.texts, histogram.counts, strict=True):
        count += own
        lines.append(f'{head}{text}"}} {count}\n')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total}\n{name}_count{{{labels}}} {count}\n")
    return "".join(lines)


def _gauge(attribute: str, labels: str = "") -> Lines:
    def lines(name: str, job: JobSeries) -> str:
        value = getattr(job, attribute)
        return "" if value is None else f"{name}{{{job.label}{labels}}} {value}\n"

    return lines


HISTOGRAMS: Final = (
    Family(
        "tidegate_run_duration_seconds",
        "histogram",
        "How long runs took: the last attempt of each finished run, from start to exit.",
        _duration,
        100,
    ),
    Family(
        "tidegate_queue_wait_seconds",
        "histogram",
        "How long the gates held runs back: queued to handed to the executor.",
        _queue_wait,
        110,
    ),
)

COUNTS: Final = (
    Family("tidegate_runs_total", "counter", "Finished runs, by how they ended.", _runs, 300),
    Family("tidegate_attempts_total", "counter", "Ended attempts of runs, by how they ended.", _attempts, 400),
    Family(
        "tidegate_runs_skipped_total", "counter", "Fires that did not become a started run, by reason.", _skipped, 400
    ),
    Family(
        "tidegate_catch_up_runs_total",
        "counter",
        "Runs that made up for a fire missed while down or asleep.",
        _gauge("caught_up"),
        800,
    ),
    Family(
        "tidegate_runs_running",
        "gauge",
        "Runs that hold a slot now: starting, running or stopping.",
        _gauge("running"),
        1000,
    ),
    Family(
        "tidegate_runs_queued",
        "gauge",
        "Runs that wait now: for a gate, or for an earlier run of the same job.",
        _gauge("queued"),
        1000,
    ),
    Family(
        "tidegate_last_success_timestamp_seconds",
        "gauge",
        "When the last succeeded run ended.",
        _gauge("last_success_s"),
        800,
    ),
    Family(
        "tidegate_last_run_timestamp_seconds",
        "gauge",
        "When the last started run ended, however it ended.",
        _gauge("last_run_s"),
        800,
    ),
    Family(
        "tidegate_last_run_failed",
        "gauge",
        "1 if the last run did not succeed, 0 if it did; cancelled runs are passed over.",
        _gauge("failed"),
        1000,
    ),
    Family("tidegate_job_created_timestamp_seconds", "gauge", "Since when the job is known.", _gauge("created_s"), 800),
    Family(
        "tidegate_job_expected_duration_seconds",
        "gauge",
        "How long a run takes at most, as the job's definition has it.",
        _gauge("expected_s"),
        1000,
    ),
    Family(
        "tidegate_run_memory_peak_bytes",
        "gauge",
        "Largest sample of anonymous and shared memory over the process tree of the last run.",
        _gauge("memory_peak_bytes", ',task=""'),
        800,
    ),
    Family(
        "tidegate_run_cpu_seconds_total",
        "counter",
        "CPU time of all attempts, user and system, the whole process tree.",
        _gauge("cpu_s", ',task=""'),
        800,
    ),
)


def instants(name: str, text: str, instants_s: Mapping[str, float]) -> Family:
    """One instant a job, as a family; asked job by job, so `instants_s` may be a live view."""

    def lines(name: str, job: JobSeries) -> str:
        at_s = instants_s.get(job.name)
        return "" if at_s is None else f"{name}{{{job.label}}} {at_s}\n"

    return Family(name, "gauge", text, lines, 800)


def slices(families: Iterable[Family], jobs: list[JobSeries]) -> Iterator[bytes]:
    """All families over all jobs, in pieces that each take about half a millisecond to make."""
    parts: list[str] = []
    spent = 0.0  # share of a slice
    for family in families:
        name = family.name
        lines = family.lines
        parts.append(f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n")
        begin = 0
        while begin < len(jobs):
            count = max(1, int((1.0 - spent) * family.slice_jobs))
            chunk = jobs[begin : begin + count]
            begin += len(chunk)
            parts += [lines(name, job) for job in chunk]
            spent += len(chunk) / family.slice_jobs
            if spent >= 0.99:
                yield "".join(parts).encode()
                parts.clear()
                spent = 0.0
    if parts:
        yield "".join(parts).encode()
