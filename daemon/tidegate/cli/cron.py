"""tidegate cron: prints when a cron expression fires. Reads no configuration."""

import re
from datetime import datetime
from typing import Final

import click

from tidegate import clock
from tidegate.cli.fires import next_fires
from tidegate.cli.options import json_option, known_zone, parse_moment, print_json, system_zone
from tidegate.cli.wording import moment_text, needs_seconds
from tidegate.model.job import Cron, Job
from tidegate.model.text import escape
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.zones import zone

COUNT_MAX: Final = 100_000
SPREAD: Final = re.compile(r"(?i)(?:^|[\s,])h")  # a term that depends on the job's name
NAME_DEFAULT: Final = "job"


@click.command()
@click.argument("words", metavar="EXPR", nargs=-1, required=True)
@click.option(
    "--timezone", metavar="ZONE", callback=known_zone, default=system_zone, help="IANA name.  [default: the system's]"
)
@click.option("--from", "start", metavar="TIME", help="ISO 8601; fires strictly after it are shown.  [default: now]")
@click.option(
    "--count", metavar="N", type=click.IntRange(1, COUNT_MAX), default=10, show_default=True, help="How many fires."
)
@click.option("--name", metavar="JOB", help="Job name by which H is spread.")
@json_option
def command(
    words: tuple[str, ...], timezone: str, start: str | None, count: int, name: str | None, as_json: bool
) -> None:
    """Print the fire times of a cron expression.

    EXPR has 5 fields (minute hour day-of-month month day-of-week), 6 with seconds first, or is one of @hourly, @daily,
    @weekly, @monthly, @yearly. Quote it. TIME without an offset is wall time in the zone; a fire at exactly that time
    is not shown. --json prints a list of ISO 8601 times with offset.

    \b
    Example:
      tidegate cron "15 2 * * *" --timezone Europe/Berlin --from 2026-03-28
    """
    if len(words) > 1:
        raise click.UsageError('the expression must be one word; quote it: tidegate cron "15 2 * * *"')
    if SPREAD.search(words[0]) and name is None:
        click.echo(f'note: H depends on the job\'s name; shown for "{NAME_DEFAULT}", see --name', err=True)
    in_zone = zone(timezone)
    after = parse_moment(start, in_zone) if start else clock.wall()
    job = Job(name=name or NAME_DEFAULT, command=("true",), trigger=Cron(words[0]), timezone=timezone)
    try:
        coming: list[datetime] = [fire.astimezone(in_zone) for fire in next_fires(job, after, count)]
    except TriggerError as error:
        raise click.BadParameter(escape(str(error)), param_hint="EXPR") from error
    if as_json:
        print_json([fire.isoformat() for fire in coming])
        return
    seconds = needs_seconds(coming)
    for fire in coming:
        click.echo(moment_text(fire, seconds))
    if len(coming) < count:
        click.echo(f"note: it does not fire again within the next century; {len(coming)} shown", err=True)
