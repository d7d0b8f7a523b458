"""tidegate acquire: takes units of shared resources, then becomes the command. It supervises nothing: the lease belongs
to the process, and the process is the command, so that nothing can end one without the other, not even kill -9."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from tidegate.cli.asking import daemon, told
from tidegate.cli.client import Client, NoDaemonError, RefusedError
from tidegate.cli.wording import moment_text
from tidegate.model.text import counted, duration, escape
from tidegate.model.view import LeaseView, ResourceView
from tidegate.settings.amounts import duration_s
from tidegate.triggers.zones import zone

DIVIDER: Final = "--"
EXIT_NOT_RUNNABLE: Final = 126  # as shells report it: found, but not runnable
EXIT_NOT_FOUND: Final = 127


class Divided(click.Command):
    """Whatever stands behind the first -- is the command, with options of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index(DIVIDER) if DIVIDER in args else len(args)
        ctx.meta[__name__] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- CMD [ARG]..."]


@click.command(cls=Divided)
@click.argument("names", metavar="NAME[=N]...", nargs=-1, required=True)
@click.option("--timeout", metavar="DURATION", help="Give up if not granted in time, as 30s.  [default: wait]")
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], timeout: str | None) -> None:
    """Run CMD while holding units of shared resources.

    NAME is one of [resources], N how many units (1). All are granted together, in
    turn with the jobs that use them. CMD gets stdin, stdout and every signal itself,
    and its exit status is the exit status. When it ends, however it ends, the units
    are free again. Not granted in time: exit code 1; no daemon: 3. CMD is then not run.

    \b
    Example:
      tidegate acquire database=2 gpu --timeout 30s -- pg_dump -f app.dump app
    """
    argv: list[str] = ctx.meta[__name__]
    if not argv:
        raise click.UsageError("put -- before the command: tidegate acquire NAME -- CMD [ARG]...", ctx)
    uses = parsed(names)
    wait_s = waiting(timeout)
    take_name(argv[0])
    client = daemon()
    with told():
        lease = client.acquire(uses, wait_s)
        if lease.state != "granted":
            raise click.ClickException("\n".join(refusal(client, lease, wait_s)))
    sys.exit(become(argv))


def parsed(names: tuple[str, ...]) -> dict[str, int]:
    """Units by resource. Raises click.BadParameter."""
    uses: dict[str, int] = {}
    for word in names:
        name, equals, number = word.partition("=")
        units = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
        if not name or (equals and units < 1):
            raise click.BadParameter(f'must be NAME or NAME=N with N from 1, got "{escape(word)}"', param_hint="NAME")
        if name in uses:
            raise click.BadParameter(f'"{escape(name)}" is given twice; write NAME=N', param_hint="NAME")
        uses[name] = units if equals else 1
    return uses


def waiting(timeout: str | None) -> float | None:
    """Seconds to wait; None: for ever. Raises click.BadParameter."""
    if timeout is None:
        return None
    try:
        return duration_s(timeout)
    except ValueError as error:
        raise click.BadParameter(escape(str(error)), param_hint="'--timeout'") from error


def refusal(client: Client, lease: LeaseView, wait_s: float | None) -> list[str]:
    """Why it was not granted, and who holds what was asked for."""
    within = f" within {duration(wait_s)}" if wait_s is not None else ""
    asked = ", ".join(f"{units} × {escape(name)}" for name, units in lease.uses.items())
    first = f"{asked} not granted{within}" + (f": {escape(lease.reason)}" if lease.reason else "")
    try:
        resources = client.pool().resources
    except (NoDaemonError, RefusedError):
        return [first]
    return [first, *(line for each in resources if each.name in lease.uses for line in held(each))]


def held(resource: ResourceView) -> list[str]:
    """A line for each holder."""
    from tidegate.cli.options import system_zone

    head = f"  {escape(resource.name)}: {resource.used} of {counted(resource.units, 'unit')} in use"
    here = zone(system_zone())
    return [
        head,
        *(
            f"    {each.units} × {escape(each.holder)} since {moment_text(each.since.astimezone(here))}"
            for each in resource.holdings
            if not each.waiting
        ),
    ]


def take_name(program: str) -> None:
    """Be called what this process is to become: the daemon tells people who holds what by that name."""
    with suppress(OSError):  # a name is all that is lost
        Path("/proc/self/comm").write_bytes(os.fsencode(Path(program).name))


def become(argv: list[str]) -> int:
    """Replace this process by the command; returns only if that cannot be, with the exit code of a shell."""
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and that would be inherited
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        return unrunnable(argv[0], error)


def unrunnable(program: str, error: OSError) -> int:
    """Says why nothing was run."""
    click.echo(f"Error: {escape(program)} cannot be run: {error.strerror}; nothing was run", err=True)
    return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else EXIT_NOT_RUNNABLE
