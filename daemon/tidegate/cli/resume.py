"""tidegate resume: ends a pause."""

import click

from tidegate.cli.asking import daemon, told
from tidegate.cli.options import json_option, print_json
from tidegate.cli.wording import moment_text
from tidegate.model.text import escape
from tidegate.triggers.zones import zone


@click.command()
@click.argument("job")
@json_option
def command(job: str, as_json: bool) -> None:
    """Let JOB fire again. What it missed while it was paused is not made up for.

    \b
    Example:
      tidegate resume backup
    """
    with told():
        found = daemon().resume(job)
    if as_json:
        print_json(found)
        return
    coming = ""
    if found.next_fire_at is not None:
        coming = f"; next fire {moment_text(found.next_fire_at.astimezone(zone(found.timezone)))}"
    click.echo(f"{escape(found.name)}: resumed{coming}")
