"""How a simulation reads on a terminal: lines of plain text. Pure; prints nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from tidegate.cli.wording import moment_text
from tidegate.model.text import counted, duration, escape
from tidegate.simulate.outlook import CORES_GUESS, GUESS_S, MEMORY_GUESS_BYTES
from tidegate.simulate.report import Collision, DayRow, HourRow, JobRow, Measure
from tidegate.simulate.stagger import Change
from tidegate.telemetry.line import size

NAMES_SHOWN: Final = 5
NAME_CHARS: Final = 24
BASES: Final = (
    ("history", "as their past runs took"),
    ("given", "as given with --duration"),
    ("expected", "as their `expected` says"),
    ("guess", f"guessed at {GUESS_S:g} s"),
)


class Machine(Struct, frozen=True, kw_only=True):
    """What the plan was played on. `runs_bytes`: memory without the reserve; None: not known."""

    cores: float
    memory_bytes: int | None
    runs_bytes: int | None
    slots: int
    adaptive: bool


class Staggering(Struct, frozen=True):
    """The lines to change and what would come of it."""

    changes: tuple[Change, ...]
    totals: Measure


class Report(Struct, frozen=True, kw_only=True):
    """The whole answer; `--json` prints it. Moments are in `timezone`."""

    begin: datetime
    end: datetime
    timezone: str
    complete: bool
    seed: int
    machine: Machine
    durations: dict[str, int]  # jobs by what their durations are from
    guessed: tuple[str, ...]  # jobs of which nothing is known
    totals: Measure
    running_at_end: int
    waiting_at_end: int
    hours: tuple[HourRow, ...]
    saturated_hours: tuple[int, ...]
    days: tuple[DayRow, ...]
    collisions: tuple[Collision, ...]
    jobs: tuple[JobRow, ...]  # worst first
    staggering: Staggering | None
    notes: tuple[str, ...]


def lines(report: Report, limit: int) -> list[str]:
    """Everything, with `limit` rows in each list."""
    text = heading(report)
    text += ["", *hour_table(report.hours), "", saturated_line(report)]
    text += ["", *collision_lines(report.collisions[:limit])]
    text += ["", *job_lines(report.jobs, limit)]
    text += ["", *stagger_lines(report.totals, report.staggering, limit)]
    return text


def heading(report: Report) -> list[str]:
    """What was played, on what, and where its durations are from."""
    total, machine = report.totals, report.machine
    memory = "memory unknown" if machine.memory_bytes is None else f"{size(machine.memory_bytes)} of memory"
    if machine.runs_bytes is not None:
        memory += f" ({size(machine.runs_bytes)} for runs)"
    known = [
        f"{counted(report.durations[basis], 'job')} {words}" for basis, words in BASES if report.durations.get(basis)
    ]
    begin, end = moment_text(report.begin, seconds=False), moment_text(report.end, seconds=False)
    text = [
        f"From {begin} to {end} ({report.timezone})",
        f"  {counted(total.fires, 'fire')}, {counted(total.runs, 'run')}, {total.skipped} skipped",
        f"  {machine.cores:g} cores, {memory}, {counted(machine.slots, 'slot')}",
        f"  durations: {', '.join(known)}",
    ]
    if report.guessed:
        text.append(
            f"  nothing is known of {names(report.guessed)}: also taken to use {CORES_GUESS:g} cores and"
            f" {size(MEMORY_GUESS_BYTES)} each, where they give no hint"
        )
    return text


HOUR_HEADS: Final = (
    "hour", "fires", "running", "most", "waiting", "wait p50", "p95", "max", "CPU", "memory", "saturated",
)  # fmt: skip


def hour_table(rows: Iterable[HourRow]) -> list[str]:
    """A line for each hour of the day."""
    return table(
        HOUR_HEADS,
        [
            (
                f"{row.hour:02}:00",
                str(row.fires),
                f"{row.running_mean:.1f}",
                str(row.running_max),
                nothing(row.waiting_max),
                wait(row.wait_p50_s),
                wait(row.wait_p95_s),
                wait(row.wait_max_s),
                f"{row.cpu_ratio:.0%}",
                "?" if row.memory_ratio is None else f"{row.memory_ratio:.0%}",
                "-" if not row.saturated_ratio else f"{row.saturated_ratio:.1%}",
            )
            for row in rows
        ],
    )


def saturated_line(report: Report) -> str:
    """When there is no more to be had."""
    if not report.totals.saturated_minutes:
        return "Never saturated: no run waits for the machine, and cores are to spare in each minute."
    minutes = counted(report.totals.saturated_minutes, "minute")
    if not report.saturated_hours:
        return f"Saturated for {minutes} in all, no hour of the day for a tenth of its time."
    return f"Saturated for {minutes} in all; for a tenth of the time and more: {spans(report.saturated_hours)}."


def spans(hours: Sequence[int]) -> str:
    """02:00-04:00, 22:00-23:00"""
    firsts = [hour for hour in hours if hour - 1 not in hours]
    lasts = [hour for hour in hours if hour + 1 not in hours]
    return ", ".join(f"{first:02}:00-{last + 1:02}:00" for first, last in zip(firsts, lasts, strict=True))


def collision_lines(found: Sequence[Collision]) -> list[str]:
    """The minutes of the day in which most jobs come due."""
    if not found:
        return ["No two jobs come due in one minute."]
    text = ["Jobs that come due in one minute"]
    for one in found:
        how_often = "once" if one.times == 1 else f"{one.times} times"
        worst = f"{one.worst_at:%a %Y-%m-%d}"
        text.append(f"  {one.time}  {one.jobs_max:>4} jobs at most ({worst}), {how_often}: {names(one.jobs)}")
    return text


JOB_HEADS: Final = ("job", "runs", "takes", "wait p50", "p95", "max", "skipped", "timed out")


def job_lines(rows: Sequence[JobRow], limit: int) -> list[str]:
    """The jobs that wait longest or lose fires."""
    worst = [row for row in rows if row.wait_max_s or row.skipped or row.timed_out]
    if not worst:
        return ["No job waits, is skipped or times out."]
    heads = table(
        JOB_HEADS,
        [
            (
                fitted(row.job),
                str(row.runs),
                duration(row.run_mean_s),
                wait(row.wait_p50_s),
                wait(row.wait_p95_s),
                wait(row.wait_max_s),
                " ".join(f"{count} {word}" for word, count in row.skipped.items()) or "-",
                nothing(row.timed_out),
            )
            for row in worst[:limit]
        ],
    )
    text = ["Jobs that wait, are skipped or time out, worst first", *heads]
    if len(worst) > limit:
        text.append(f"  and {len(worst) - limit} more; --limit lists more, --json all")
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons.update(row.skipped)
    if reasons:
        text.append("Skipped in all: " + ", ".join(f"{count} {word}" for word, count in reasons.most_common()))
    return text


def stagger_lines(now: Measure, found: Staggering | None, limit: int) -> list[str]:
    """What spreading the minutes with H would gain, and the lines to change."""
    if found is None:
        return ["Nothing to stagger: no jobs with fixed minutes meet."]
    then = found.totals
    rows = [
        ("jobs due in one minute, at most", str(now.jobs_in_a_minute_max), str(then.jobs_in_a_minute_max)),
        ("runs at once, at most", str(now.running_max), str(then.running_max)),
        ("runs waiting, at most", str(now.waiting_max), str(then.waiting_max)),
        ("wait p95", wait(now.wait_p95_s), wait(then.wait_p95_s)),
        ("wait max", wait(now.wait_max_s), wait(then.wait_max_s)),
        ("saturated minutes", str(now.saturated_minutes), str(then.saturated_minutes)),
        ("skipped", str(now.skipped), str(then.skipped)),
    ]
    text = ["Staggered with H instead of fixed minutes"]
    text += [line.rstrip() for line in table(("", "as it is", "with H"), rows, left=1)]
    text.append(f"Lines to change ({counted(len(found.changes), 'job')}; not where the very minute matters)")
    for change in found.changes[:limit]:
        text.append(
            f'  {escape(change.source)}: jobs.{escape(change.job)}: cron = "{escape(change.before)}" becomes'
            f' "{escape(change.after)}" ({minutes(change.minutes)})'
        )
    if len(found.changes) > limit:
        text.append(f"  and {len(found.changes) - limit} more; --limit lists more, --json all")
    return text


def minutes(found: Sequence[int]) -> str:
    """:07, :37"""
    shown = ", ".join(f":{minute:02}" for minute in found[:NAMES_SHOWN])
    return f"{shown} ..." if len(found) > NAMES_SHOWN else shown


def wait(amount_s: float) -> str:
    """A wait, or that there is none."""
    return duration(amount_s) if amount_s else "-"


def nothing(count: int) -> str:
    """A count, or that there is none."""
    return str(count) if count else "-"


def fitted(name: str) -> str:
    """A name within its column."""
    shown = escape(name)
    return shown if len(shown) <= NAME_CHARS else f"{shown[: NAME_CHARS - 2]}.."


def names(jobs: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    listed = ", ".join(map(escape, jobs[:NAMES_SHOWN]))
    return f"{listed} and {len(jobs) - NAMES_SHOWN} more" if len(jobs) > NAMES_SHOWN else listed


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows beneath their heads; the first `left` columns are words."""
    cells = [tuple(heads), *map(tuple, rows)]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(_cell(*each, left) for each in enumerate(zip(row, sizes, strict=True))) for row in cells]


def _cell(column: int, pair: tuple[str, int], left: int) -> str:
    text, width = pair
    return f"{text:<{width}}" if column < left else f"{text:>{width}}"


def json_value(report: Report) -> dict[str, Any]:
    """The JSON shape."""
    value: dict[str, Any] = msgspec.to_builtins(report)
    return {"from": value.pop("begin"), "until": value.pop("end"), **value}
