"""tidegate list: one line a job, with schedule and next fire. Reads the configuration only, not the daemon."""

from datetime import datetime
from pathlib import Path

import click

from tidegate import clock
from tidegate.cli.fires import next_fire
from tidegate.cli.options import config_option, json_option, load_plan, print_json
from tidegate.cli.wording import iso, moment_text, needs_seconds, schedule
from tidegate.model.job import Job
from tidegate.model.text import counted, escape
from tidegate.triggers.zones import zone

NAME_WIDTH_MAX = 26  # longer names push their own line only
SCHEDULE_WIDTH_MAX = 22


@click.command()
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """List the jobs with their schedule and next fire, each in its own time zone.

    What is running or paused only the daemon knows; this reads the configuration.

    \b
    Example:
      tidegate list
      tidegate list --json | jq -r '.[] | select(.enabled | not) | .job'
    """
    plan = load_plan(config)
    now = clock.wall()
    rows = [(job, next_fire(job, now)) for job in plan.jobs.values()]
    if as_json:
        print_json([as_json_row(job, fire) for job, fire in rows])
        return
    if not rows:
        click.echo("No jobs are configured.")
        return
    for line in table(
        [(escape(job.name), schedule(job, zone(job.timezone)), shown_next(job, fire)) for job, fire in rows]
    ):
        click.echo(line)
    off = sum(not job.enabled for job, _ in rows)
    click.echo(f"\n{counted(len(rows), 'job')}" + (f", {off} disabled" if off else ""))


def shown_next(job: Job, fire: datetime | None) -> str:
    """The last column: the next fire, or why there is none."""
    if not job.enabled:
        return "disabled"
    return moment_text(fire.astimezone(zone(job.timezone)), needs_seconds([fire])) if fire else "-"


def table(rows: list[tuple[str, str, str]]) -> list[str]:
    """Left-aligned columns; a long cell pushes its own line only."""
    head = ("JOB", "SCHEDULE", "NEXT FIRE")
    name_width = min(NAME_WIDTH_MAX, max(len(row[0]) for row in [head, *rows]))
    schedule_width = min(SCHEDULE_WIDTH_MAX, max(len(row[1]) for row in [head, *rows]))
    return [f"{name:<{name_width}}  {when:<{schedule_width}}  {fire}" for name, when, fire in [head, *rows]]


def as_json_row(job: Job, fire: datetime | None) -> dict[str, object]:
    """The JSON shape of one job in the list."""
    return {
        "job": job.name,
        "description": job.description,
        "enabled": job.enabled,
        "schedule": schedule(job, zone(job.timezone)),
        "timezone": job.timezone,
        "next_fire_at": iso(fire, zone(job.timezone)) if fire else None,
        "source": job.source,
    }
