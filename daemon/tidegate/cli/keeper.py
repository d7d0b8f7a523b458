"""tidegate keeper: becomes the keeper's program (executors/keeper.py), for the unit tidegate-keeper.service. Nothing of
this one stays in its memory.
"""

import os
from typing import Final

import click

from tidegate.executors.reach import command_line
from tidegate.model.text import escape
from tidegate.settings.places import runtime_dir

KEPT: Final = ("PATH", "LANG", "NOTIFY_SOCKET")


@click.command(short_help="Be the parent of the runs, as a service of its own.")
def command() -> None:
    """Be the parent of the runs, as a service of its own.

    tidegate-keeper.service calls this; without that unit the daemon starts a keeper
    itself. It listens in $RUNTIME_DIRECTORY, which tidegate.service knows as
    $TIDEGATE_KEEPER_DIRECTORY, and goes on until SIGTERM, which ends all runs.

    \b
    Example:
      tidegate keeper
    """
    folder = runtime_dir(os.environ, os.getuid()).absolute()
    if not folder.is_dir():
        raise click.ClickException(
            f"{escape(str(folder))} is not there: RuntimeDirectory=tidegate-keeper is missing in the unit"
        )
    argv = command_line(folder, "--stay")
    try:
        os.execve(argv[0], argv, {name: os.environ[name] for name in KEPT if name in os.environ})
    except OSError as error:
        raise click.ClickException(f"{escape(argv[0])} cannot be run: {error.strerror}") from error
