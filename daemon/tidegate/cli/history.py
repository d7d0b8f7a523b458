"""tidegate history: the runs that were, newest first, from the daemon or from its history file."""

from itertools import islice
from typing import Final

import click

from tidegate import clock
from tidegate.cli.account import must_know, open_account, reading
from tidegate.cli.options import json_option, parse_past, print_json, system_zone
from tidegate.cli.runs import table
from tidegate.model.run import Outcome, Skip
from tidegate.triggers.zones import zone

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 1_000_000
OUTCOMES: Final = [*map(str, Outcome), "skipped", *map(str, Skip)]


@click.command()
@click.option("--job", metavar="JOB", help="Only runs of this job.")
@click.option("--outcome", metavar="WORD", type=click.Choice(OUTCOMES), help="Only runs that ended so; or skipped.")
@click.option("--since", metavar="TIME", help="Only fires noticed since: ISO 8601, or how long ago (2h).")
@click.option("--until", metavar="TIME", help="Only fires noticed until then.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True,
    help="At most so many.",
)  # fmt: skip
@json_option
def command(
    job: str | None, outcome: str | None, since: str | None, until: str | None, limit: int, as_json: bool
) -> None:
    """List the runs that were and are, newest first; times in this machine's zone.

    WORD is an outcome (succeeded, failed, timed_out, cancelled, failed_to_start,
    killed_for_memory, interrupted, unknown), skipped, or a reason for skipping.
    Where no daemon answers, it shows what the history file has.

    \b
    Example:
      tidegate history --job backup --outcome failed --since 7d
    """
    here = zone(system_zone())
    now = clock.wall()
    begin = parse_past(since, here, now, "'--since'") if since else None
    end = parse_past(until, here, now, "'--until'") if until else None
    if begin is not None and end is not None and begin > end:
        raise click.BadParameter("must not be before --since", param_hint="'--until'")
    account = open_account()
    with reading():
        runs = list(islice(account.runs(limit, job=job, outcome=outcome, since=begin, until=end), limit))
        if not runs and job is not None:
            must_know(account, job, None)
    if as_json:
        print_json(runs)
        return
    if not runs:
        click.echo("No such run is on record.")
        return
    for line in table(runs, here, now):
        click.echo(line)
