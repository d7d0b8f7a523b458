"""Options and errors that the commands share: the configuration, the zone, the moment. Ends a command with the right
exit code; draws nothing."""

import os
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.model.text import counted, escape
from tidegate.settings.amounts import DURATION, duration_s
from tidegate.settings.identity import onlooker
from tidegate.settings.places import config_path
from tidegate.settings.problem import hint, quoted
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.zones import zone

if TYPE_CHECKING:
    from tidegate.settings.read import SettingsError

config_option: Callable[[Any], Any] = click.option(
    "--config",
    "config",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The daemon's settings, tidegate.toml.  [default: $TIDEGATE_CONFIG, else the usual place]",
)
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
FROM: Final = "'--from'"
YEARS: Final = range(1900, 2201)  # beyond, no rule of any time zone is known


def default_config_path() -> Path:
    """Where the configuration is when nobody says otherwise, $TIDEGATE_CONFIG aside."""
    return config_path(None, {k: v for k, v in os.environ.items() if k != "TIDEGATE_CONFIG"}, os.getuid())


def chosen_config_path(explicit: Path | None) -> Path:
    """The configuration that is meant."""
    return config_path(str(explicit) if explicit else None, os.environ, os.getuid())


def load_plan(explicit: Path | None) -> Plan:
    """The configuration, or the end of the command: every problem on stderr, exit code 1."""
    from tidegate.settings.read import SettingsError, load  # 30 ms that `history` and `logs` need not wait for

    path = chosen_config_path(explicit)
    try:
        return load(path, onlooker())  # whoever lists and shows is seldom who runs it
    except SettingsError as error:
        raise no_good(path, error) from error


def no_good(path: Path, error: "SettingsError") -> click.ClickException:
    """Prints every problem, one a line, and gives the last line of a command that cannot go on."""
    if not os.path.lexists(path):
        return click.ClickException(
            f"there is no configuration at {escape(str(path))}; 'tidegate init' writes one, --config names another"
        )
    for problem in error.problems:
        click.echo(escape(str(problem)), err=True)
    return click.ClickException(f"{counted(len(error.problems), 'problem')} in the configuration")


def find_job(plan: Plan, name: str) -> Job:
    """The job of that name, or the end of the command with a near miss, exit code 1."""
    if name in plan.jobs:
        return plan.jobs[name]
    raise no_job(name, plan.jobs)


def no_job(name: str, known: Iterable[str]) -> click.ClickException:
    """That there is none of that name, with a near miss."""
    near = hint(name, known)
    return click.ClickException(f"there is no job {quoted(name)}{near or '; tidegate list shows all jobs'}")


def system_zone() -> str:
    """The zone of this machine, UTC where it has none with a name."""
    from tidegate.settings.system_zone import system_timezone

    return system_timezone() or "UTC"


def known_zone(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Callback of an option that takes an IANA name. Raises click.BadParameter."""
    try:
        zone(value)
    except TriggerError as error:
        raise click.BadParameter(escape(str(error)), ctx, param) from error
    return value


def parse_past(text: str, in_zone: tzinfo, now: datetime, param_hint: str) -> datetime:
    """An ISO 8601 moment, or how long ago: "2h". Raises click.BadParameter."""
    if text and DURATION.fullmatch(text):
        try:
            return (now - timedelta(seconds=duration_s(text))).astimezone(in_zone)
        except ValueError as error:
            raise click.BadParameter(escape(str(error)), param_hint=param_hint) from error
    return parse_moment(text, in_zone, param_hint, "; or how long ago, like 2h")


def parse_moment(text: str, in_zone: tzinfo, param_hint: str = FROM, others: str = "") -> datetime:
    """An ISO 8601 moment; without an offset it is wall time in the zone. Raises click.BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f'must be like 2026-03-29, 2026-03-29T02:30 or 2026-03-29T02:30+01:00{others}, got "{escape(text)}"',
            param_hint=param_hint,
        ) from error
    if moment.year not in YEARS:
        raise click.BadParameter(f"the year must be {YEARS[0]}-{YEARS[-1]}, got {moment.year}", param_hint=param_hint)
    return (moment if moment.tzinfo else moment.replace(tzinfo=in_zone)).astimezone(in_zone)


def print_json(value: Any) -> None:
    """One JSON value on stdout, of views too. Every non-ASCII character is escaped, so no name steers a terminal."""
    import json  # 2 ms, for those who ask for it

    click.echo(json.dumps(msgspec.to_builtins(value), indent=2))
