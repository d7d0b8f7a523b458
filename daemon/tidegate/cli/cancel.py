"""tidegate cancel: asks the daemon to end a run."""

import click

from tidegate.cli.asking import daemon, told
from tidegate.cli.options import json_option, print_json
from tidegate.cli.runs import is_over, sentence
from tidegate.model.text import escape


@click.command()
@click.argument("run")
@json_option
def command(run: str, as_json: bool) -> None:
    """End a run: TERM to all its processes, KILL after the job's kill_grace.

    RUN is an id, as tidegate history and tidegate top show it. A run that has not
    started is taken from the queue. There is no further attempt.

    \b
    Example:
      tidegate cancel 1m7yxyrss00093sc
    """
    with told():
        found = daemon().cancel(run)
    if as_json:
        print_json(found)
    elif is_over(found):
        click.echo(sentence(found))
    else:
        click.echo(f"{escape(found.job)}: run {found.run_id} is being stopped")
