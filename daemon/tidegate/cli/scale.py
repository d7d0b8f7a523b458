"""tidegate scale: runs a command at several widths, measures its throughput, and tells how many at once are worth it.
It asks no daemon: what it measures are its own children, which end with it."""

import math
import os
import shlex
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import structs

from tidegate import clock
from tidegate.analysis.measure import ITEMS_MAX, MEASURE_S, WAVES_MIN, Command, Crew, ItemFailedError, StoppedError
from tidegate.analysis.plot import can_draw, draw
from tidegate.analysis.scaling import Sample, Scaling, analyse
from tidegate.cli.options import config_option, find_job, json_option, load_plan, print_json, system_zone
from tidegate.cli.scaling_table import advice_line, law_lines, rate, table
from tidegate.cli.wording import iso, shown_argv
from tidegate.executors.command import OWN, UNLIMITED, SpawnRequests, daemon_lang
from tidegate.executors.credentials import StartFailure, is_own, look_up, own_identity
from tidegate.model.job import Job, Leftovers
from tidegate.model.limits import KILL_GRACE_S_DEFAULT, TIMEOUT_S_DEFAULT
from tidegate.model.redact import mask, mask_argv
from tidegate.model.run import Cause, Run
from tidegate.model.text import counted, duration, escape
from tidegate.monitor import Machine
from tidegate.triggers.zones import zone

WIDTHS_DEFAULT: Final = "1,2,4,8"
WIDTHS_COUNT_MAX: Final = 32
WIDTH_MAX: Final = 256  # two descriptors each: 1024, what a shell usually allows, are not used up
REPEATS_MAX: Final = 100
SIGNAL_EXIT: Final = 128  # and the signal's number, as a shell reports it
TITLE_CHARS_MAX: Final = 60
JSON_NAME, PNG_NAME = "scale.json", "scale.png"
NO_MATPLOTLIB: Final = f'no {PNG_NAME}: matplotlib is not installed; pip install "tidegate[plots]"'


@click.command()
@click.argument("job", required=False)
@click.option("--command", "text", metavar="CMD", help="Measure this instead of a job; words as in a shell.")
@click.option(
    "--workers", "widths", metavar="N,N...", default=WIDTHS_DEFAULT, show_default=True, help="How many at once, rising."
)
@click.option(
    "--repeat", metavar="N", type=click.IntRange(1, REPEATS_MAX), default=3, show_default=True, help="Times each."
)
@click.option(
    "--items",
    metavar="N",
    type=click.IntRange(1, ITEMS_MAX),
    help=f"Items at each width.  [default: {WAVES_MIN} for each worker, and for {MEASURE_S:g} s]",
)
@click.option(
    "--output",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help=f"Where {JSON_NAME} and {PNG_NAME} go.  [default: here]",
)
@config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    job: str | None,
    text: str | None,
    widths: str,
    repeat: int,
    items: int | None,
    folder: Path,
    config: Path | None,
    as_json: bool,
) -> None:
    """Measure how a job's throughput grows with how many of it run at once.

    The command is run for real, as the user who calls, many times: at each width in
    turn, all widths again for each repeat. Amdahl's law and the Universal Scalability
    Law are fitted, and the smallest width within 5 % of the best is recommended. An
    item that fails ends it. Ctrl-C ends all items and shows what was measured.

    \b
    Example:
      tidegate scale thumbnails --workers 1,2,4,8 --output ./measured
      tidegate scale --command "gzip -k -c big.log" --workers 1,2,3,4
    """
    if (job is None) == (text is None):
        raise click.UsageError("name either a JOB or a command with --command", ctx)
    wanted = parsed_widths(widths)
    if items is not None and items < wanted[-1]:
        raise click.BadParameter(
            f"{counted(items, 'item')} never make {wanted[-1]} at once; at least {wanted[-1]}", param_hint="'--items'"
        )
    with tempfile.TemporaryDirectory(prefix="tidegate-scale-", ignore_cleanup_errors=True) as scratch:
        if text is not None:
            subject, notes = of_words(text), []
        else:
            found = find_job(load_plan(config), job or "")
            subject, notes = of_job(found, Path(scratch)), unheeded(found)
        open_folder(folder)
        name = escape(job) if job is not None else shown_argv(tuple(mask_argv(subject.argv)))
        samples, ended = measured(subject, name, wanted, repeat, items)
    if ended is not None:
        say_partial(samples, ended)
        ctx.exit(SIGNAL_EXIT + ended.number if isinstance(ended, StoppedError) else 1)
    scaling = analyse(samples, usable_cores())
    scaling = structs.replace(scaling, warnings=(*notes, *scaling.warnings))
    value = as_json_value(scaling, job, subject, items)
    if as_json:
        print_json(value)
    else:
        say(scaling, name)
    write_files(folder, value, scaling, name)


# --- what is measured -------------------------------------------------------------------------------------


def parsed_widths(text: str) -> list[int]:
    """1,2,4,8. Raises click.BadParameter."""
    widths = []
    for word in text.split(","):
        if not (word.isascii() and word.isdigit() and len(word) < 10 and 1 <= int(word) <= WIDTH_MAX):
            raise bad_widths(f'each must be a whole number from 1 to {WIDTH_MAX}, got "{escape(word)}"')
        widths.append(int(word))
        if len(widths) > WIDTHS_COUNT_MAX:
            raise bad_widths(f"at most {WIDTHS_COUNT_MAX} widths")
    for before, after in pairwise(widths):
        if after == before:
            raise bad_widths(f"{after} is given twice")
        if after < before:
            raise bad_widths(f"must rise: {after} stands behind {before}")
    return widths


def bad_widths(sentence: str) -> click.BadParameter:
    """The end of the command, exit code 2."""
    return click.BadParameter(sentence, param_hint="'--workers'")


def of_words(text: str) -> Command:
    """A command from the command line: as the caller's shell would start it, without a shell."""
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise click.BadParameter(f"{error} in {escape(text)}", param_hint="'--command'") from error
    if not argv:
        raise click.BadParameter("it is empty", param_hint="'--command'")
    return Command(argv=argv, env=dict(os.environ), timeout_s=TIMEOUT_S_DEFAULT, kill_grace_s=KILL_GRACE_S_DEFAULT)


def of_job(job: Job, scratch: Path) -> Command:
    """A job's command with the surroundings that the daemon would give it, as the calling user. Raises
    click.ClickException where that cannot be."""
    if job.command is None and job.shell is None:
        raise click.ClickException(f"{escape(job.name)} has no command; scale measures commands, try --command")
    lang = daemon_lang()
    identity = own_identity(os.geteuid(), lang)
    if job.run_as != OWN:
        who = look_up(job.run_as, lang or "C.UTF-8")
        if isinstance(who, StartFailure):
            raise click.ClickException(f"{escape(job.name)}: {escape(who.reason)}")
        if not is_own(who):
            named = escape(who.identity.name)
            raise click.ClickException(
                f"{escape(job.name)} is to run as {named}, and scale runs it as whoever calls; "
                f"call it as that user: sudo -u {named} tidegate scale ..."
            )
    values = scratch / "values"
    values.mkdir()
    now = clock.wall()
    run = Run(run_id="scale", job=job.name, cause=Cause.MANUAL, scheduled_at=now, queued_at=now)
    request = SpawnRequests(identity, scratch / "output").write(run, job)
    if isinstance(request, StartFailure):
        raise click.ClickException(f"{escape(job.name)}: {escape(request.reason)}")
    return Command(
        argv=tuple(request["argv"]),
        env=request["env"],
        cwd=request["cwd"],
        umask=job.umask,
        nice=job.nice,
        timeout_s=job.timeout_s,
        kill_grace_s=job.kill_grace_s,
        success_exit_codes=job.success_exit_codes,
        leaves_children=job.leftovers is Leftovers.LEAVE,
        values=values,
    )


def unheeded(job: Job) -> list[str]:
    """What of the job does not hold here, as warnings."""
    notes = []
    if job.uses:
        names = " ".join(f"{escape(name)}={units}" for name, units in job.uses.items())
        notes.append(f"the units that the job uses are not held: {names}; tidegate acquire holds some around this")
    if job.limits != UNLIMITED:
        notes.append("the job's hard limits are not applied; under them it may be slower")
    return notes


def open_folder(folder: Path) -> None:
    """Found out before an hour is spent measuring. Raises click.ClickException."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.ClickException(
            f"cannot write into {escape(str(folder))}: {error.strerror}; name another folder with --output"
        ) from error


def usable_cores() -> int:
    """Those that this process may use: affinity and CPU quotas. A part of one is a place to run, too."""
    return math.ceil(Machine().read().cores)


# --- measuring ----------------------------------------------------------------------------------------------


def measured(
    subject: Command, name: str, widths: Sequence[int], repeats: int, items: int | None
) -> tuple[list[Sample], ItemFailedError | StoppedError | None]:
    """All samples, or those so far and what ended it. Every second repeat goes down the widths: what drifts meanwhile
    (heat, a neighbour) then falls on all of them."""
    samples: list[Sample] = []
    at = "one alone"
    try:
        with Crew(subject, items) as crew:
            item_s = crew.rehearse()
            say_plan(name, widths, repeats, items, item_s)
            for number in range(1, repeats + 1):
                for width in widths if number % 2 else reversed(widths):
                    at = f"{width} at once, repeat {number}"
                    sample = crew.measure(width, number)
                    samples.append(sample)
                    progress(f"repeat {number} of {repeats}: {width} at once: {rate(sample.throughput_per_s)} items/s")
    except ItemFailedError as error:
        failed = ItemFailedError(f"{error} ({at})", error.tail)
        return samples, failed
    except StoppedError as error:
        return samples, error
    return samples, None


def say_plan(name: str, widths: Sequence[int], repeats: int, items: int | None, item_s: float) -> None:
    """That it is for real, how often at least, and how long it takes if more at once are never slower."""
    if items is None:
        counts = [max(WAVES_MIN * width, math.ceil(width * MEASURE_S / item_s)) for width in widths]
    else:
        counts = [items] * len(widths)
    least_s = repeats * sum(math.ceil(count / width) * item_s for count, width in zip(counts, widths, strict=True))
    fewest = repeats * (sum(WAVES_MIN * width for width in widths) if items is None else items * len(widths))
    progress(f"running {name} for real, at least {fewest} times, for at least {duration(least_s)}")


def progress(line: str) -> None:
    """A line on stderr: stdout is for the answer."""
    click.echo(line, err=True)


# --- telling --------------------------------------------------------------------------------------------------


def say(scaling: Scaling, name: str) -> None:
    """The table, the laws, the recommendation, the warnings."""
    click.echo(
        f"\n{name}: {counted(usable_cores(), 'usable core')}, {counted(scaling.repeats, 'repeat')} at each width\n"
    )
    for line in [*table(scaling.widths), "", *law_lines(scaling), "", advice_line(scaling)]:
        click.echo(line)
    click.echo(click.wrap_text(scaling.advice.reason, 80, "  ", "  "))
    for warning in scaling.warnings:
        click.echo(click.wrap_text(f"warning: {warning}", 80, "", "  "), err=True)


def say_partial(samples: Sequence[Sample], ended: ItemFailedError | StoppedError) -> None:
    """What was measured so far and what ended it, on stderr; no file is written of half a measurement."""
    if samples:
        click.echo("\nmeasured so far:", err=True)
        for line in table(analyse(samples, usable_cores()).widths):
            click.echo(line, err=True)
    else:
        click.echo("nothing was measured", err=True)
    if isinstance(ended, ItemFailedError):
        for line in ended.tail.splitlines()[-5:]:
            click.echo(f"  {escape(line)}", err=True)
    click.echo(f"Error: {escape(str(ended))}", err=True)


def as_json_value(scaling: Scaling, job: str | None, subject: Command, items: int | None) -> dict[str, Any]:
    """The JSON shape, of stdout and of the file."""
    argv = list(subject.argv)
    masked = [*argv[:2], mask(argv[2])] if argv[:2] == ["/bin/sh", "-c"] and len(argv) == 3 else mask_argv(argv)
    return {
        "job": job,
        "command": masked,
        "measured_at": iso(clock.wall(), zone(system_zone())),
        "cores": usable_cores(),
        "items": items,
        **msgspec.to_builtins(scaling),
    }


def write_files(folder: Path, value: dict[str, Any], scaling: Scaling, name: str) -> None:
    """The JSON, and the picture where it can be drawn; each appears whole or not at all. Raises ClickException."""
    text = name if len(name) <= TITLE_CHARS_MAX else name[: TITLE_CHARS_MAX - 1] + "…"
    try:
        with tempfile.TemporaryDirectory(prefix=".tidegate-scale-", dir=folder) as made:
            fresh = Path(made)
            (fresh / JSON_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
            if can_draw():
                draw(scaling, text, fresh / PNG_NAME)
            for path in sorted(fresh.iterdir()):
                path.replace(folder / path.name)
                progress(f"wrote {escape(str(folder / path.name))}")
    except OSError as error:
        raise click.ClickException(f"cannot write into {escape(str(folder))}: {error.strerror}") from error
    if not can_draw():
        progress(NO_MATPLOTLIB)
