"""tidegate next: what fires when, and where a change of the clocks moves it. Reads the configuration alone."""

from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click

from tidegate import clock
from tidegate.cli.fires import next_fires
from tidegate.cli.options import (
    config_option,
    find_job,
    json_option,
    load_plan,
    parse_moment,
    print_json,
)
from tidegate.cli.shifts import Shift, shifts
from tidegate.cli.timeline import coming, timeline
from tidegate.cli.wording import iso, moment_text, needs_seconds, schedule, shown_offset
from tidegate.model.job import Boot, Job
from tidegate.model.plan import Plan
from tidegate.model.text import escape
from tidegate.triggers.zones import zone

COUNT_MAX: Final = 100_000
COUNT_DEFAULT: Final = 10
EFFECTS_SHOWN: Final = 10  # of one change of the clocks; --json has them all


@click.command()
@click.argument("job", required=False)
@click.option(
    "--count",
    metavar="N",
    type=click.IntRange(1, COUNT_MAX),
    help=f"How many fires to list.  [default: {COUNT_DEFAULT}; without JOB they are listed only if you say how many]",
)
@click.option("--from", "start", metavar="TIME", help="ISO 8601; what comes strictly after it.  [default: now]")
@config_option
@json_option
def command(job: str | None, count: int | None, start: str | None, config: Path | None, as_json: bool) -> None:
    """Show the coming fires of one JOB, or draw those of all jobs.

    The drawing covers 24 hours, in the daemon's time zone, and points out the busiest minute. Below stand the next two
    clock changes of each time zone in use, where they move a fire. Pauses and runs after other jobs are not known here.

    \b
    Example:
      tidegate next
      tidegate next backup --count 3 --from 2026-03-28
    """
    plan = load_plan(config)
    home = zone(plan.daemon.timezone)
    if job is not None:
        found = find_job(plan, job)
        after = parse_moment(start, zone(found.timezone)) if start else clock.wall()
        times = [(fire, found.name) for fire in next_fires(found, after, count or COUNT_DEFAULT)]
        moved = shifts([found], after)
    else:
        after = parse_moment(start, home) if start else clock.wall()
        timed = timed_jobs(plan)
        times = list(islice(coming(timed, after), count or COUNT_DEFAULT))
        moved = shifts(timed, after)
    if as_json:
        print_json(as_json_value(plan, after, times, moved))
    elif job is not None:
        print_one(plan.jobs[job], times, moved)
    else:
        print_all(plan, after, times if count else [], moved)


def timed_jobs(plan: Plan) -> list[Job]:
    """The jobs that time fires."""
    return [job for job in plan.jobs.values() if job.enabled and job.trigger is not None]


def print_one(job: Job, times: list[tuple[datetime, str]], moved: list[Shift]) -> None:
    """The fires of one job, in its zone."""
    in_zone = zone(job.timezone)
    local = [fire.astimezone(in_zone) for fire, _ in times]
    click.echo(f"{escape(job.name)}: {schedule(job, in_zone)} ({escape(job.timezone)})")
    if not job.enabled:
        click.echo("It is disabled; it would fire:")
    for fire in local:
        click.echo(f"  {moment_text(fire, needs_seconds(local))}")
    if not local:
        click.echo("  no time of day fires it" if isinstance(job.trigger, Boot | None) else "  no coming fire")
    print_shifts(moved)


def print_all(plan: Plan, after: datetime, times: list[tuple[datetime, str]], moved: list[Shift]) -> None:
    """The drawing, the list, the changes of the clocks, and which jobs are not in it and why."""
    home = zone(plan.daemon.timezone)
    timed = [job for job in timed_jobs(plan) if next_fires(job, after, 1)]
    if timed:
        from tidegate.cli.drawing import cells_for, draw, terminal

        console = terminal()
        draw(console, timeline(timed, after, home, cells_for(console.width)), home, after)
        click.echo(console.file.getvalue(), nl=False, color=True)  # type: ignore[attr-defined]  # it is a StringIO
        if times:
            click.echo("\nComing fires")
        local = [fire.astimezone(home) for fire, _ in times]
        for moment, (_, name) in zip(local, times, strict=True):
            click.echo(f"  {moment_text(moment, needs_seconds(local))}  {escape(name)}")
    else:
        click.echo("No job fires by time." if plan.jobs else "No jobs are configured.")
    print_shifts(moved)
    rest = left_out(plan, {job.name for job in timed})
    if rest:
        click.echo()
    for words, names in rest:
        click.echo(click.wrap_text(f"{words}: {', '.join(map(escape, names))}", 80, subsequent_indent="  "))


def left_out(plan: Plan, drawn: set[str]) -> list[tuple[str, list[str]]]:
    """Jobs that are not in the drawing, by reason."""
    rest = [job for job in plan.jobs.values() if job.name not in drawn]
    groups = [
        ("Disabled", [job.name for job in rest if not job.enabled]),
        ("At boot", [job.name for job in rest if job.enabled and isinstance(job.trigger, Boot)]),
        ("Fired by other jobs", [job.name for job in rest if job.enabled and job.trigger is None and job.after]),
        ("Only by hand", [job.name for job in rest if job.enabled and job.trigger is None and not job.after]),
        ("No coming fire", [job.name for job in rest if job.enabled and not isinstance(job.trigger, Boot | None)]),
    ]
    return [(words, names) for words, names in groups if names]


def print_shifts(moved: list[Shift]) -> None:
    """Each change of the clocks with the jobs whose fires it moves."""
    if not moved:
        return
    click.echo("\nClock changes that move a fire")
    for shift in moved:
        click.echo(f"  {shift_line(shift)}")
        for name, effect in shift.effects[:EFFECTS_SHOWN]:
            click.echo(f"    {escape(name)}: {escape(effect)}")
        if len(shift.effects) > EFFECTS_SHOWN:
            click.echo(f"    and {len(shift.effects) - EFFECTS_SHOWN} more jobs; --json lists them")


def shift_line(shift: Shift) -> str:
    """2026-03-29 02:00 Europe/Berlin +01:00 → +02:00"""
    before, after = timedelta(seconds=shift.change.before_s), timedelta(seconds=shift.change.after_s)
    wall = shift.change.instant + before  # what the clock on the wall shows when it is set
    return f"{wall:%Y-%m-%d %H:%M} {escape(shift.timezone)} {shown_offset(before)} → {shown_offset(after)}"


def as_json_value(plan: Plan, after: datetime, times: list[tuple[datetime, str]], moved: list[Shift]) -> dict[str, Any]:
    """The JSON shape, the same with and without a job. Each fire is in its job's zone."""
    return {
        "from": iso(after, zone(plan.daemon.timezone)),
        "fires": [{"job": name, "at": iso(fire, zone(plan.jobs[name].timezone))} for fire, name in times],
        "clock_changes": [
            {
                "timezone": shift.timezone,
                "at": iso(shift.change.instant, zone(shift.timezone)),
                "offset_before": shown_offset(timedelta(seconds=shift.change.before_s)),
                "offset_after": shown_offset(timedelta(seconds=shift.change.after_s)),
                "effects": [{"job": name, "effect": effect} for name, effect in shift.effects],
            }
            for shift in moved
        ],
    }
