"""tidegate doctor: looks at this machine and at what is tidegate's on it, and says how to mend what is wrong. It mends
nothing itself."""

import sys
from pathlib import Path
from typing import Final

import click

from tidegate.cli.asking import control_socket, own_history, own_state_dir
from tidegate.cli.client import Client, NoDaemonError
from tidegate.cli.finding import Finding, Level
from tidegate.cli.options import chosen_config_path, config_option, json_option, print_json
from tidegate.model.text import counted, escape

MARKS: Final = {Level.OK: "ok", Level.DEGRADED: "degraded", Level.BROKEN: "BROKEN"}
MARK_WIDTH: Final = 10
COLOURS: Final = {Level.OK: "green", Level.DEGRADED: "yellow", Level.BROKEN: "red"}


@click.command()
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """Look at what this machine offers tidegate, and how its own things are.

    "degraded" is what works with less, and says with what; "BROKEN" is what does not
    work, and makes the exit code 1. Run it as the daemon's user, or as root.

    \b
    Example:
      tidegate doctor
      tidegate doctor --json | jq '.findings[] | select(.level == "broken")'
    """
    from tidegate.cli.installation import installation, keeper_socket
    from tidegate.cli.machine import machine

    socket = control_socket()
    findings = [
        *installation(chosen_config_path(config), own_state_dir(), socket.parent, own_history()),
        *machine(listener(socket), listener(keeper_socket(socket.parent))),
    ]
    if as_json:
        print_json({"ok": not bad(findings), "findings": findings})
    else:
        for line in lines(findings):
            click.echo(line)
    if bad(findings):
        sys.exit(1)


def listener(socket: Path) -> int | None:
    """The pid of who listens there."""
    try:
        return Client(socket).daemon_pid() or None
    except NoDaemonError:
        return None


def bad(findings: list[Finding]) -> int:
    """How much is broken."""
    return sum(each.level is Level.BROKEN for each in findings)


def lines(findings: list[Finding]) -> list[str]:
    """A line for each finding, a second one with what to do, and the sum."""
    width = max(len(each.name) for each in findings)
    shown = []
    for each in findings:
        mark = click.style(f"{MARKS[each.level]:<{MARK_WIDTH}}", fg=COLOURS[each.level])
        shown.append(f"{mark}{each.name:<{width}}  {escape(each.found)}")
        if each.mend:
            shown.append(f"{'':<{MARK_WIDTH + width}}  → {escape(each.mend)}")
    less = sum(each.level is Level.DEGRADED for each in findings)
    shown += ["", f"{counted(len(findings), 'thing')} looked at: {bad(findings)} broken, {less} degraded"]
    return shown
