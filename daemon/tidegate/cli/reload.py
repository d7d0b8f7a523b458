"""tidegate reload: asks the daemon to read its configuration again, and tells what that changed or what is wrong."""

import sys

import click

from tidegate.cli.asking import daemon, told
from tidegate.cli.options import json_option, print_json
from tidegate.model.plan import Diff
from tidegate.model.text import counted, escape
from tidegate.model.view import ReloadView
from tidegate.telemetry.line import reload_text


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Read the configuration again; print what changed, or everything that is wrong.

    A broken configuration changes nothing: the old one stays live, and the exit
    code is 1. Jobs that did not change are not touched, nor is what runs.

    \b
    Example:
      tidegate reload
    """
    with told():
        done: ReloadView = daemon().reload()
    if as_json:
        print_json(done)
    elif done.ok:
        diff = Diff(**{name: getattr(done, name) for name in Diff.__struct_fields__})
        click.echo(f"reloaded: {escape(reload_text(diff))}")
    else:
        for problem in done.problems:
            click.echo(escape(problem), err=True)
        click.echo(f"Error: {counted(len(done.problems), 'problem')}; the old configuration stays live", err=True)
    if not done.ok:
        sys.exit(1)
