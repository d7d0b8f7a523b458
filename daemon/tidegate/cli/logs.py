"""tidegate logs: what a run wrote, from its file or through the daemon; follows it to the run's end. It writes bytes to
a pipe and harmless text to a terminal."""

import codecs
import re
import sys
import time
from collections.abc import Iterator
from typing import Final

import click

from tidegate.cli.account import Account, Live, open_account, reading
from tidegate.cli.asking import NoAnswer, own_state_dir
from tidegate.cli.output import Piece, file_pieces, opened, remote_pieces
from tidegate.cli.runs import is_over, sentence
from tidegate.model.text import escape
from tidegate.model.view import RunView
from tidegate.telemetry.line import size

RUN_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{16}")
LOOKED_AT: Final = 1000  # newest runs of a job among which one that started is looked for
PAUSE_S: Final = 0.1  # between two looks at a file that grows, at first
PAUSE_S_MAX: Final = 1.0


@click.command()
@click.argument("target", metavar="RUN|JOB")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
def command(target: str, follow: bool) -> None:
    """Print what a run wrote: of RUN by its id, or of the newest run of JOB.

    On a terminal control characters are shown as escapes such as \\x1b; in a pipe the
    bytes come as they were written. What output_max made tidegate drop from the
    middle is told on stderr. All attempts of a run are in one output.

    \b
    Example:
      tidegate logs -f backup
      tidegate logs 1m7yxyrss00093sc | less
    """
    account = open_account()
    with reading():
        run = found(account, target, follow)
        if follow and not account.live and not is_over(run):
            raise NoAnswer(f"no daemon answers that could tell when run {run.run_id} ends; without -f it is shown")
        written = show(pieces(account, run, follow))
    if not written:
        click.echo(f"note: {sentence(run)}: it wrote nothing{where_else(run)}", err=True)


def found(account: Account, target: str, follow: bool) -> RunView:
    """The run that is meant, or the end of the command."""
    if RUN_ID.fullmatch(target) and (run := account.run(target)):
        return run
    newest = None
    for each in account.runs(LOOKED_AT, job=target):
        if each.started_at is not None or (follow and not is_over(each)):
            return each
        newest = newest or each
    if newest is not None:
        raise click.ClickException(f"no run of {escape(target)} has started; the newest: {sentence(newest)}")
    raise click.ClickException(f'there is no run and no job "{escape(target)}" on record; tidegate history shows runs')


def where_else(run: RunView) -> str:
    """What may be the matter with a run that left no output."""
    return (
        ""
        if run.started_at is None
        else (f'. With output = "journal" it is in: journalctl SYSLOG_IDENTIFIER=tidegate-{escape(run.job)}')
    )


def pieces(account: Account, run: RunView, follow: bool) -> Iterator[Piece]:
    """All pieces of the output, from the file where this user may read it."""
    offset = 0
    pause_s = PAUSE_S
    while True:
        over = is_over(run)  # looked at before the file is: what it wrote until then is there
        source = file_pieces(opened(own_state_dir(), run), offset)
        if source is None and isinstance(account, Live):
            source = remote_pieces(account.client, run, offset)
        grown = False
        for piece in source or ():
            offset, grown = piece.end, True
            yield piece
        if over or not follow:
            return
        pause_s = PAUSE_S if grown else min(pause_s * 1.5, PAUSE_S_MAX)
        time.sleep(pause_s)
        run = account.run(run.run_id) or run


def show(source: Iterator[Piece]) -> bool:
    """Write the pieces as they come; whether there were any."""
    on_terminal = sys.stdout.isatty()
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    any_written = False
    for piece in source:
        any_written = True
        if piece.dropped_bytes:
            _tell_dropped(piece)
        elif on_terminal:
            sys.stdout.write(printable(decoder.decode(piece.data)))
            sys.stdout.flush()
        else:
            sys.stdout.buffer.write(piece.data)
            sys.stdout.buffer.flush()
    if on_terminal:
        sys.stdout.write(printable(decoder.decode(b"", True)))
        sys.stdout.flush()
    return any_written


def printable(text: str) -> str:
    """Newlines and tabs stay; every other control character becomes an escape."""
    return "\n".join("\t".join(map(escape, line.split("\t"))) for line in text.split("\n"))


def _tell_dropped(piece: Piece) -> None:
    begin = piece.end - piece.dropped_bytes
    sys.stdout.flush()
    click.echo(
        f"note: {size(piece.dropped_bytes)} were dropped here by output_max (bytes {begin} to {piece.end - 1})",
        err=True,
    )
