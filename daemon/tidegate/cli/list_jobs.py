"""tidegate list: one line a job, with schedule and next fire from the files, and how it stands from the daemon."""

from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final

import click

from tidegate import clock
from tidegate.cli.fires import next_fire
from tidegate.cli.options import config_option, json_option, load_plan, print_json
from tidegate.cli.states import Standing, shown, standings
from tidegate.cli.wording import iso, moment_text, needs_seconds, schedule
from tidegate.model.job import Job
from tidegate.model.text import counted, escape
from tidegate.triggers.zones import zone

HEAD: Final = ("JOB", "SCHEDULE", "NEXT FIRE", "NOW", "LAST RUN")
WIDTHS_MAX: Final = (26, 22, 30, 24, 40)  # longer cells push their own line only
UNKNOWN: Final = Standing()


@click.command()
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """List the jobs with their schedule and next fire, each in its own time zone.

    Jobs are read from the configuration. How they stand (running, paused, last run) is
    asked of the daemon; where none answers, it is what the history file has, if any.

    \b
    Example:
      tidegate list
      tidegate list --json | jq -r '.[] | select(.enabled | not) | .job'
    """
    plan = load_plan(config)
    now = clock.wall()
    known = standings(list(plan.jobs.values())) if plan.jobs else None
    states = known.jobs if known else {}
    rows = [(job, next_fire(job, now), states.get(job.name, UNKNOWN)) for job in plan.jobs.values()]
    if as_json:
        print_json([as_json_row(*row) for row in rows])
        return
    if not rows:
        click.echo("No jobs are configured.")
        return
    told = known is not None and known.account is not None
    for line in table([cells(job, fire, standing)[: 5 if told else 3] for job, fire, standing in rows]):
        click.echo(line)
    off = sum(not job.enabled for job, _, _ in rows)
    paused = sum(bool(standing.paused) for _, _, standing in rows)
    click.echo(
        f"\n{counted(len(rows), 'job')}"
        + (f", {off} disabled" if off else "")
        + (f", {paused} paused" if paused else "")
    )


def cells(job: Job, fire: datetime | None, standing: Standing) -> tuple[str, ...]:
    """The columns of one job."""
    last = "-"
    if standing.last_run_at is not None:
        local = standing.last_run_at.astimezone(zone(job.timezone))
        last = f"{escape(standing.last_outcome or '?')} {moment_text(local, seconds=False)}"
    when = "paused" if standing.paused and job.enabled else shown_next(job, fire)
    return (escape(job.name), schedule(job, zone(job.timezone)), when, shown(standing), last)


def shown_next(job: Job, fire: datetime | None) -> str:
    """The last column: the next fire, or why there is none."""
    if not job.enabled:
        return "disabled"
    return moment_text(fire.astimezone(zone(job.timezone)), needs_seconds([fire])) if fire else "-"


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Left-aligned columns; a long cell pushes its own line only."""
    lines = [HEAD[: len(rows[0])], *rows]
    widths = [min(widest, max(len(line[i]) for line in lines)) for i, widest in enumerate(WIDTHS_MAX[: len(rows[0])])]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def as_json_row(job: Job, fire: datetime | None, standing: Standing) -> dict[str, object]:
    """The JSON shape of one job in the list. What no daemon and no history tells is null."""
    in_zone = zone(job.timezone)
    return {
        "job": job.name,
        "description": job.description,
        "enabled": job.enabled,
        "schedule": schedule(job, zone(job.timezone)),
        "timezone": job.timezone,
        "next_fire_at": iso(fire, zone(job.timezone)) if fire else None,
        "source": job.source,
        **as_json_standing(standing, in_zone),
    }


def as_json_standing(standing: Standing, in_zone: tzinfo) -> dict[str, object]:
    """The keys that tell how a job stands, of `list` and `show`."""
    last, success = standing.last_run_at, standing.last_success_at
    return {
        "paused": standing.paused,
        "running": standing.running,
        "queued": standing.queued,
        "retrying": standing.retrying,
        "last_run_at": iso(last, in_zone) if last else None,
        "last_outcome": standing.last_outcome,
        "last_success_at": iso(success, in_zone) if success else None,
    }
