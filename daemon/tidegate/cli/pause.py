"""tidegate pause: asks the daemon to let a job's fires pass."""

import click

from tidegate.cli.asking import daemon, told
from tidegate.cli.options import json_option, print_json
from tidegate.model.text import counted, escape
from tidegate.model.view import JobView


@click.command()
@click.argument("job")
@json_option
def command(job: str, as_json: bool) -> None:
    """Let the fires of JOB pass until tidegate resume; each is recorded as skipped.

    What runs now goes on. A pause survives restarts, upgrades and reloads.

    \b
    Example:
      tidegate pause backup
    """
    with told():
        found = daemon().pause(job)
    if as_json:
        print_json(found)
        return
    click.echo(f"{escape(found.name)}: paused{still(found)}; 'tidegate resume {escape(found.name)}' ends that")


def still(job: JobView) -> str:
    """What of the job goes on."""
    return (
        f"; {counted(job.running, 'run')} of it goes on"
        if job.running == 1
        else (f"; {counted(job.running, 'run')} of it go on" if job.running else "")
    )
