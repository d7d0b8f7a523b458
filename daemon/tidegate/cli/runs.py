"""How runs read: the word for how one stands, the sentence, the table. Pure text; prints nothing."""

from datetime import datetime, tzinfo
from typing import Final

from tidegate.cli.wording import local_reason, moment_text
from tidegate.model.text import duration, escape
from tidegate.model.view import RunView
from tidegate.telemetry.line import size

QUIET: Final = frozenset({"succeeded", "running", "starting"})  # a reason adds nothing
CELL_WIDTH_MAX: Final = 40
_SENTENCES: Final = {
    "timed_out": "timed out",
    "failed_to_start": "could not start",
    "killed_for_memory": "killed for memory",
    "unknown": "fate unknown",
}


def standing(run: RunView) -> str:
    """The one word: its outcome, `skipped: overlap`, or where it is."""
    if run.outcome is not None and run.state == "finished":
        return run.outcome
    if run.skip is not None:
        return f"skipped: {run.skip}" + (f" ×{run.fires}" if run.fires > 1 else "")
    return run.state


def is_over(run: RunView) -> bool:
    """Whether nothing more becomes of it."""
    return run.state in ("finished", "skipped")


def sentence(run: RunView) -> str:
    """`backup: succeeded in 2.1 s, 12 MiB peak (run 1m7y…)`, escaped."""
    said = standing(run)
    text = f"{run.job}: {_SENTENCES.get(said, said)}"
    if run.duration_s is not None and is_over(run):
        text += f" {'in' if said == 'succeeded' else 'after'} {duration(run.duration_s)}"
    if run.attempt > 1:
        text += f" (attempt {run.attempt})"
    if run.memory_peak_bytes:
        text += f", {size(run.memory_peak_bytes)} peak"
    if run.reason and said not in QUIET:
        text += f": {run.reason}"
    return escape(f"{text} (run {run.run_id})")


def table(runs: list[RunView], zone: tzinfo, now: datetime) -> list[str]:
    """A line a run: when it was due, its id, job, how long it took, how it stands, and why."""
    head = ("DUE", "RUN", "JOB", "TOOK", "OUTCOME", "")
    rows = [
        (
            moment_text(run.scheduled_at.astimezone(zone)),
            run.run_id,
            escape(run.job),
            took(run, now),
            standing(run) + (f" (attempt {run.attempt})" if run.attempt > 1 else ""),
            "" if standing(run) in QUIET else escape(local_reason(run.reason, zone)),
        )
        for run in runs
    ]
    return columns([head, *rows])


def took(run: RunView, now: datetime) -> str:
    """How long it took, or has been running; empty where it never started."""
    if run.duration_s is not None and run.ended_at is not None:
        return duration(run.duration_s)
    if run.started_at is not None and run.ended_at is None:
        return f"{duration(max(0.0, (now - run.started_at).total_seconds()))} so far"
    return ""


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Left-aligned; a cell beyond CELL_WIDTH_MAX pushes its own line only."""
    widths = [min(CELL_WIDTH_MAX, max(map(len, column))) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
