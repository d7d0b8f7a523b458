"""tidegate simulate: replays the configured schedules in virtual time against what runs took so far. Reads the
configuration and the history; runs nothing, asks the daemon for nothing but its past, and changes nothing."""

import math
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import click
import msgspec

from tidegate import clock
from tidegate.analysis.plot import can_draw, draw_heat
from tidegate.cli.account import Account, Live, on_record, reading
from tidegate.cli.asking import control_socket
from tidegate.cli.client import Client
from tidegate.cli.options import config_option, json_option, load_plan, parse_moment, print_json
from tidegate.cli.simulation_text import Machine, Report, Staggering, json_value, lines
from tidegate.engine.memory import MemoryWatch
from tidegate.model.plan import Plan
from tidegate.model.pool import PoolSettings
from tidegate.model.run import Outcome
from tidegate.model.text import counted, escape
from tidegate.monitor import Machine as Monitored
from tidegate.settings.amounts import duration_s, size_bytes
from tidegate.settings.problem import hint, quoted
from tidegate.simulate.outlook import PAST_RUNS, Past
from tidegate.simulate.replay import FIRES_MAX, Capacity, Ending
from tidegate.simulate.report import Measure, Wall, collisions, day_rows, hour_rows, job_rows, measure, saturated_hours
from tidegate.simulate.scenario import Scenario
from tidegate.simulate.stagger import Change
from tidegate.telemetry.line import size
from tidegate.triggers.build import build
from tidegate.triggers.zones import zone

DAYS_MAX: Final = 366  # a few numbers for each minute: 30 MB
CORES_MAX: Final = 4096.0
ROWS_MAX: Final = 10_000
MIB: Final = 1024**2
NO_MATPLOTLIB: Final = 'matplotlib is not installed, which draws --plot; pip install "tidegate[plots]"'


@click.command()
@click.option(
    "--days", metavar="N", type=click.IntRange(1, DAYS_MAX), default=30, show_default=True, help="How many to replay."
)
@click.option("--from", "start", metavar="TIME", help="ISO 8601; where to begin.  [default: the coming midnight]")
@click.option("--cores", metavar="N", type=click.FloatRange(0.01, CORES_MAX), help="[default: those of this machine]")
@click.option("--memory", metavar="SIZE", help="Of the whole machine, such as 8GiB.  [default: that of this machine]")
@click.option("--duration", "durations", metavar="JOB=TIME", multiple=True, help="What runs of a job take; repeatable.")
@click.option("--plot", metavar="FILE.png", type=click.Path(path_type=Path, dir_okay=False), help="Draw a heat map.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, ROWS_MAX), default=10, show_default=True, help="Rows of each list."
)
@click.option("--seed", metavar="N", type=int, default=1, show_default=True, help="Of the dice: same seed, same runs.")
@config_option
@json_option
def command(
    days: int,
    start: str | None,
    cores: float | None,
    memory: str | None,
    durations: tuple[str, ...],
    plot: Path | None,
    limit: int,
    seed: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """Replay the schedules in virtual time: collisions, queues, busy hours.

    Nothing is run. Runs take what they took so far, by the history, and share this
    machine's cores and memory (or --cores and --memory); the pool, overlap,
    calendars, resources and `after` are the daemon's own. It also tells what is
    gained if fixed minutes are spread with H, and which lines that changes.

    \b
    Example:
      tidegate simulate --days 30 --plot month.png
      tidegate simulate --cores 4 --memory 8GiB --duration backup=45m
    """
    if cores is not None and math.isnan(cores):
        raise click.BadParameter(f"must be a number from 0.01 to {CORES_MAX:g}", param_hint="'--cores'")
    if plot is not None:
        check_plot(plot)
    plan = load_plan(config)
    if not any(job.enabled and build(job) is not None for job in plan.jobs.values()):
        raise click.ClickException("no job is fired by time: there is nothing to simulate")
    given_s = parsed_durations(durations, plan)
    machine = machine_of(plan, cores, parsed_size(memory))
    begin = beginning(start, plan)
    end = begin + timedelta(days=days)  # on the wall: a day with a change of the clocks is a day
    scenario = Scenario(
        plan=plan,
        past=past_of(plan),
        given_s=given_s,
        capacity=Capacity(machine.cores, machine.runs_bytes, machine.slots, machine.adaptive),
        start=begin,
        minutes=round((end.astimezone(UTC) - begin.astimezone(UTC)) / timedelta(minutes=1)),
        lead_s=begin.minute * 60.0,
        seed=seed,
    )
    report = simulated(scenario, machine, limit)
    if as_json:
        print_json(json_value(report))
    else:
        for line in lines(report, limit):
            click.echo(line)
    for note in report.notes:
        click.echo(click.wrap_text(f"note: {note}", 80, "", "  "), err=True)
    if plot is not None:
        write_plot(plot, report)


# --- what is asked ------------------------------------------------------------------------------------------


def parsed_durations(texts: tuple[str, ...], plan: Plan) -> dict[str, float]:
    """backup=45m. Raises click.BadParameter."""
    found = {}
    for text in texts:
        name, equals, amount = text.rpartition("=")
        if not equals:
            raise bad_duration(f"must be like backup=45m, got {quoted(text)}")
        if name not in plan.jobs:
            raise bad_duration(f"there is no job {quoted(name)}{hint(name, plan.jobs)}")
        try:
            found[name] = duration_s(amount)
        except ValueError as error:
            raise bad_duration(f"{escape(name)}: {escape(str(error))}") from error
    return found


def bad_duration(sentence: str) -> click.BadParameter:
    """The end of the command, exit code 2."""
    return click.BadParameter(sentence, param_hint="'--duration'")


def parsed_size(text: str | None) -> int | None:
    """Bytes. Raises click.BadParameter."""
    if text is None:
        return None
    try:
        found = size_bytes(text)
    except ValueError as error:
        raise click.BadParameter(escape(str(error)), param_hint="'--memory'") from error
    if found < MIB:
        raise click.BadParameter(f"at least 1MiB, got {quoted(text)}", param_hint="'--memory'")
    return found


def beginning(text: str | None, plan: Plan) -> datetime:
    """The full minute to begin with, in the daemon's zone."""
    home = zone(plan.daemon.timezone)
    if text is not None:
        return parse_moment(text, home).replace(second=0, microsecond=0)
    midnight = clock.wall().astimezone(home).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=1)


def machine_of(plan: Plan, cores: float | None, memory_bytes: int | None) -> Machine:
    """What the person says, and for the rest this machine."""
    monitored = Monitored()
    if cores is None:
        cores = monitored.read().cores
    if memory_bytes is None:
        seen = monitored.available()
        memory_bytes = None if seen is None else seen.limit_bytes
    pool = plan.pool
    return Machine(
        cores=cores,
        memory_bytes=memory_bytes,
        runs_bytes=None if memory_bytes is None else memory_bytes - reserve_bytes(memory_bytes, pool),
        slots=max(pool.min, math.floor(pool.max_per_core * cores)) if pool.max is None else pool.max,
        adaptive=pool.mode == "adaptive",
    )


def reserve_bytes(limit_bytes: int, pool: PoolSettings) -> int:
    """What the memory gate keeps free on a machine of that size."""
    watch = MemoryWatch(pool)
    watch.look(limit_bytes, limit_bytes, None, 0.0, 0)
    return watch.reserve_bytes


def past_of(plan: Plan) -> dict[str, tuple[Past, ...]]:
    """The newest successes of each job: from the history file, else from the daemon that answers; none where there is
    neither."""
    with reading():
        account: Account | None = on_record()
        if account is None:
            client = Client(control_socket())
            if client.silence() is not None:
                return {}
            account = Live(client)
        found = {}
        for name in plan.jobs:
            runs = account.runs(PAST_RUNS, job=name, outcome=str(Outcome.SUCCEEDED))
            found[name] = tuple(
                Past(max(0.0, run.duration_s - (run.frozen_s or 0.0)), run.cpu_s, run.memory_peak_bytes)
                for run in runs
                if run.duration_s is not None
            )
        return found


# --- playing ------------------------------------------------------------------------------------------------


def simulated(scenario: Scenario, machine: Machine, limit: int) -> Report:
    """Play it as it is, and beside that with its schedules spread."""
    changes = scenario.changes()
    with beside(scenario, changes) as spread:
        tally, ending = scenario.play(progress if sys.stderr.isatty() else None)
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", err=True, nl=False)
        totals = heard(spread)
    in_zone = zone(scenario.plan.daemon.timezone)
    wall = Wall(scenario.start.astimezone(UTC), tally.minutes, in_zone)
    capacity = scenario.capacity
    hours = hour_rows(tally, wall, capacity)
    basis = {name: expected.basis for name, expected in scenario.outlooks().items() if name in tally.jobs}
    end = scenario.start.astimezone(UTC) + timedelta(minutes=tally.minutes)
    return Report(
        begin=scenario.start.astimezone(in_zone),
        end=end.astimezone(in_zone),
        timezone=scenario.plan.daemon.timezone,
        complete=ending.complete,
        seed=scenario.seed,
        machine=machine,
        durations=dict(Counter(basis.values())),
        guessed=tuple(name for name, word in basis.items() if word == "guess"),
        totals=measure(tally),
        running_at_end=ending.running,
        waiting_at_end=ending.waiting,
        hours=tuple(hours),
        saturated_hours=tuple(saturated_hours(hours)),
        days=tuple(day_rows(tally, wall, capacity)),
        collisions=tuple(collisions(tally, wall, scenario.plan.jobs.values(), limit)),
        jobs=tuple(job_rows(tally, basis)),
        staggering=None if totals is None else Staggering(tuple(changes), totals),
        notes=tuple(notes(scenario, ending, bool(changes) and totals is None)),
    )


@contextmanager
def beside(scenario: Scenario, changes: list[Change]) -> Iterator[Connection | None]:
    """A process that plays it with its schedules spread, meanwhile: it takes as long as the first replay."""
    if not changes:
        yield None
        return
    context = multiprocessing.get_context("fork")  # nothing else runs in here, and all that it needs is there
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=play_spread, args=(scenario, changes, theirs, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()
        ours.close()


def play_spread(scenario: Scenario, changes: list[Change], answer: Connection, asker: int) -> None:
    """In the other process, which ends with the one that wants to know."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def look(done: float) -> None:
        del done
        if os.getppid() != asker:
            os._exit(1)

    answer.send_bytes(msgspec.json.encode(scenario.spread(changes).measured(look)))


def heard(answer: Connection | None) -> Measure | None:
    """What the other process found; None: there is none, or it is gone without a word."""
    if answer is None:
        return None
    try:
        return msgspec.json.decode(answer.recv_bytes(), type=Measure)
    except EOFError:
        return None


def progress(done: float) -> None:
    """Over the line before, on a terminal."""
    click.echo(f"\rsimulating: {done:.0%}", err=True, nl=False)


def notes(scenario: Scenario, ending: Ending, spread_lost: bool) -> list[str]:
    """What of the answer is less than it seems."""
    found = []
    if not ending.complete:
        days = ending.at_s / 86400
        found.append(
            f"it ends after {days:.1f} days, with {FIRES_MAX:,} fires, the most that are replayed; ask for fewer days"
        )
    if ending.waiting:
        found.append(f"{counted(ending.waiting, 'run')} still wait at the end: this machine does not keep up")
    if not any(scenario.past.values()):
        found.append("there is no history yet: nothing here is learned; --duration says what runs take")
    if scenario.capacity.memory_bytes is None:
        found.append("how much memory there is cannot be read: no run waits for it; --memory says it")
    if spread_lost:
        found.append("the replay with H ended without an answer, perhaps for want of memory")
    return found


# --- the picture --------------------------------------------------------------------------------------------


def check_plot(path: Path) -> None:
    """Found out before a minute is spent. Raises click.BadParameter or ClickException."""
    if path.suffix.lower() != ".png":
        raise click.BadParameter(f"must end in .png, got {quoted(str(path))}", param_hint="'--plot'")
    if not can_draw():
        raise click.ClickException(NO_MATPLOTLIB)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise click.ClickException(f"cannot write {escape(str(path))}: {error.strerror}") from error


def write_plot(path: Path, report: Report) -> None:
    """The heat map; it appears whole or not at all. Raises ClickException."""
    machine = report.machine
    memory = "" if machine.memory_bytes is None else f", {size(machine.memory_bytes)}"
    title = f"{counted(report.totals.runs, 'run')} on {machine.cores:g} cores{memory} ({report.timezone})"
    rows = [(day.date, day.load_ratio, day.saturated_minutes) for day in report.days]
    try:
        with tempfile.TemporaryDirectory(prefix=".tidegate-simulate-", dir=path.parent) as made:
            fresh = Path(made, "heat.png")
            draw_heat(rows, title, fresh)
            fresh.replace(path)
    except OSError as error:
        raise click.ClickException(f"cannot write {escape(str(path))}: {error.strerror}") from error
    click.echo(f"wrote {escape(str(path))}", err=True)
