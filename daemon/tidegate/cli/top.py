"""tidegate top: what runs, what waits and for what, kept up to date until Ctrl-C. It only reads."""

import sys
import threading
from typing import Final

import click

from tidegate import clock
from tidegate.cli.asking import daemon, told
from tidegate.cli.client import Client, NoDaemonError, Pool, RefusedError
from tidegate.cli.options import json_option, print_json, system_zone
from tidegate.triggers.zones import zone

REFRESH_S_MIN: Final = 1.0  # however much happens
REFRESH_S_MAX: Final = 10.0  # however little; while something runs or waits, each second: its time goes on


@click.command()
@click.option("--once", is_flag=True, help="Print it once, as plain text, and end.")
@json_option
def command(once: bool, as_json: bool) -> None:
    """Show what runs, what is queued and which gate holds it, the pool and the resources.

    It follows the daemon's events, and is drawn at most once a second. Ctrl-C ends it.
    In a pipe it prints once.

    \b
    Example:
      tidegate top --once
      tidegate top --json | jq '.waiting[] | [.run.job, .gate, .reason]'
    """
    client = daemon()
    with told():
        answer = client.pool()
    if as_json:
        print_json(answer)
    elif once or not sys.stdout.isatty():
        from tidegate.cli.board import plain

        click.echo(plain(answer, clock.wall(), zone(system_zone())))
    else:
        try:
            watch(client, answer)
        except KeyboardInterrupt:
            return  # it is how one leaves


def watch(client: Client, answer: Pool) -> None:
    """Draw, wait for something to happen, ask, draw, until Ctrl-C. A daemon that restarts is waited for."""
    from rich.console import Console
    from rich.live import Live

    from tidegate.cli.board import board

    here = zone(system_zone())
    console = Console(highlight=False, emoji=False)
    changed, never = threading.Event(), threading.Event()
    listener = threading.Thread(target=listen, args=(client, changed), daemon=True)
    listener.start()
    trouble = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(board(answer, clock.wall(), here, console.height, trouble), refresh=True)
            never.wait(REFRESH_S_MIN)
            if not trouble and not answer.running and not answer.waiting:
                changed.wait(REFRESH_S_MAX - REFRESH_S_MIN)
            changed.clear()
            try:
                answer, trouble = client.pool(), ""
            except (NoDaemonError, RefusedError) as error:
                trouble = str(error)
                continue
            if not listener.is_alive():  # the stream ended with an earlier life of the daemon
                listener = threading.Thread(target=listen, args=(client, changed), daemon=True)
                listener.start()


def listen(client: Client, changed: threading.Event) -> None:
    """Set the event at each fact, for as long as the stream of them lasts."""
    try:
        for _ in client.events():
            changed.set()
    except (NoDaemonError, RefusedError):
        changed.set()  # what became of the daemon shows when it is asked
