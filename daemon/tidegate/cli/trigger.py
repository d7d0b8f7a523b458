"""tidegate trigger: asks the daemon for a run by hand, and waits for its end where that is asked for."""

import re
import sys
import time
import uuid
from typing import Final

import click

from tidegate import clock
from tidegate.cli.asking import NoAnswer, daemon, told
from tidegate.cli.client import Client, LostError, NoDaemonError
from tidegate.cli.options import json_option, print_json
from tidegate.cli.runs import is_over, sentence, standing
from tidegate.model.text import escape
from tidegate.model.view import RunView

AGAIN_S_MAX: Final = 60.0  # a daemon that restarts is back within seconds; its runs live on meanwhile
ARG_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")  # as the daemon takes it
PAUSE_S: Final = 0.05  # between two looks at the run, at first
PAUSE_S_MAX: Final = 1.0


@click.command()
@click.argument("job")
@click.option("--wait", is_flag=True, help="Wait for the end of the run, through restarts of the daemon.")
@click.option(
    "--arg", "words", metavar="NAME=VALUE", multiple=True, help="Given to the run as TIDEGATE_ARG_NAME; repeatable."
)
@json_option
def command(job: str, wait: bool, words: tuple[str, ...], as_json: bool) -> None:
    """Run JOB now, by hand.

    What holds other fires holds this one: the job's overlap rule, the pool, shared
    resources. Exit code 1: it was skipped, or with --wait it did not succeed.
    Ctrl-C while waiting ends the waiting, not the run.

    \b
    Example:
      tidegate trigger backup --wait --arg target=/mnt/usb
    """
    args = parsed(words)
    client = daemon()
    with told():
        run: RunView = _asked(client, job, args)
        if wait and not is_over(run):
            click.echo(f"{sentence(run)}; waiting for its end", err=True)
            run = _ended(client, run)
    if as_json:
        print_json(run)
    else:
        click.echo(sentence(run))
    if run.state == "skipped" or (wait and standing(run) != "succeeded"):
        sys.exit(1)


def parsed(words: tuple[str, ...]) -> dict[str, str]:
    """The arguments by name. Raises click.BadParameter."""
    args: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.BadParameter(f'must be NAME=VALUE, got "{escape(word)}"', param_hint="'--arg'")
        if not ARG_NAME.fullmatch(name):
            raise click.BadParameter(
                f"a NAME has up to 64 letters (A-Z, a-z), digits and _, and does not begin with a digit, "
                f'got "{escape(name)}"',
                param_hint="'--arg'",
            )
        if name in args:
            raise click.BadParameter(f'"{escape(name)}" is given twice', param_hint="'--arg'")
        args[name] = value
    return args


def _asked(client: Client, job: str, args: dict[str, str]) -> RunView:
    """Asked under one request id: a daemon that went away in mid-answer is asked again, and runs it once."""
    request_id = str(uuid.uuid4())
    until_s = clock.monotonic_s() + AGAIN_S_MAX
    lost = False
    while True:
        try:
            return client.trigger(job, args, request_id)
        except NoDaemonError as error:
            lost = lost or isinstance(error, LostError)
            if not lost or clock.monotonic_s() > until_s:
                raise
        time.sleep(PAUSE_S_MAX)


def _ended(client: Client, run: RunView) -> RunView:
    """The run once it is over. A daemon that is away is waited for: its runs go on without it."""
    pause_s, away_since_s = PAUSE_S, None
    while not is_over(run):
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.3, PAUSE_S_MAX)
        try:
            run = client.run(run.run_id)
            away_since_s = None
        except NoDaemonError as error:
            now_s = clock.monotonic_s()
            away_since_s = away_since_s or now_s
            if now_s - away_since_s > AGAIN_S_MAX:
                raise NoAnswer(
                    f"{escape(str(error))}. Run {run.run_id} of {escape(run.job)} may go on without it; "
                    f"'tidegate history --job {escape(run.job)}' will tell"
                ) from error
    return run
