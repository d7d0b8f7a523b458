"""The command line's front door: finds the command that was asked for and imports only that one.

No work of its own, and no import of a command's room before the command is called: `tidegate check` answers at once.
"""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from tidegate import __version__

EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as a shell reports it
EXIT_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE: what `yes | head` leaves behind

# name → module that holds it as `command`, and its line in `tidegate --help`.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("tidegate.cli.run", "Run the daemon in the foreground."),
    "check": ("tidegate.cli.check", "Check the configuration; list everything that is wrong."),
    "list": ("tidegate.cli.list_jobs", "List the jobs: schedule, next fire, how they stand."),
    "show": ("tidegate.cli.show", "Show one job with every default filled in."),
    "next": ("tidegate.cli.next_fires", "Draw the coming fires; warn of clock changes."),
    "trigger": ("tidegate.cli.trigger", "Run a job now, by hand."),
    "cancel": ("tidegate.cli.cancel", "End a run."),
    "pause": ("tidegate.cli.pause", "Let a job's fires pass until resume."),
    "resume": ("tidegate.cli.resume", "Let a paused job fire again."),
    "reload": ("tidegate.cli.reload", "Read the configuration again; print what changed."),
    "history": ("tidegate.cli.history", "List the runs that were and are."),
    "logs": ("tidegate.cli.logs", "Print what a run wrote; follow it."),
    "why": ("tidegate.cli.why", "Tell what was decided about a fire, and why."),
    "top": ("tidegate.cli.top", "Watch what runs and what waits for what."),
    "acquire": ("tidegate.cli.acquire", "Hold shared resources while a command runs."),
    "doctor": ("tidegate.cli.doctor", "Look at this machine; tell how to mend what is wrong."),
    "scale": ("tidegate.cli.scale", "Measure how many of a job at once are worth it."),
    "simulate": ("tidegate.cli.simulate", "Replay the schedules in virtual time; find the busy hours."),
    "cron": ("tidegate.cli.cron", "Print the fire times of a cron expression."),
    "schema": ("tidegate.cli.schema", "Print the JSON Schema of the configuration files."),
    "keeper": ("tidegate.cli.keeper", "Be the parent of the runs, as a service of its own."),
    "import-crontab": ("tidegate.cli.import_crontab", "Turn crontabs into job files; prove that they fire alike."),
    "init": ("tidegate.cli.init", "Write a commented starting configuration."),
}


class LazyGroup(click.Group):
    """A click group that knows its commands by name and imports one when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # what modules make is there to stay: to look through it takes milliseconds of each command
        try:
            command = importlib.import_module(COMMANDS[cmd_name][0]).command
        finally:
            gc.freeze()
            gc.enable()
        assert isinstance(command, click.Command), cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "'tidegate --help' lists the commands"
            ctx.fail(f"no such command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a pipe that broke is to be seen here, not while the interpreter ends
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(EXIT_BROKEN_PIPE)
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        _let_every_character_out()
        try:
            result = super().main(args, "tidegate", complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(result if isinstance(result, int) else 0)


def _let_every_character_out() -> None:
    """A terminal that is not UTF-8 gets escapes instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Nobody reads any more; what is still buffered goes nowhere instead of raising when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Exit codes: 0 done; 1 the thing asked about failed; 2 bad usage; 3 no daemon answers.",
)
@click.version_option(__version__, "--version", message="tidegate %(version)s")
def main() -> None:
    """Fire jobs on time, run what the machine can bear, account for every run.

    \b
    Start here:
      tidegate init      write a configuration with an example job
      tidegate check     see whether it is right
      tidegate run       run it
    """
