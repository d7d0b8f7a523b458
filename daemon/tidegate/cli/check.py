"""tidegate check: says everything that is wrong with a configuration, and whether it is good. Starts nothing."""

import sys
from pathlib import Path

import click

from tidegate.cli.options import (
    chosen_config_path,
    config_option,
    json_option,
    no_good,
    print_json,
)
from tidegate.model.plan import Plan
from tidegate.model.text import counted, escape
from tidegate.settings.problem import Problem
from tidegate.settings.read import SettingsError, load


@click.command()
@click.argument("path", metavar="[PATH]", required=False, type=click.Path(path_type=Path))
@config_option
@json_option
def command(path: Path | None, config: Path | None, as_json: bool) -> None:
    """Check the configuration and list everything that is wrong with it.

    PATH is a tidegate.toml or the directory that holds it (the same as --config). Each problem is one line on stderr,
    path:line: key: what was expected, what was found. Exit code 0: good; 1: not.

    \b
    Example:
      tidegate check && systemctl reload tidegate
    """
    if path and config:
        raise click.UsageError("PATH and --config mean the same; give one of them.")
    chosen = chosen_config_path(path or config)
    try:
        plan = load(chosen)
    except SettingsError as error:
        if as_json:
            print_json(verdict(None, error.problems))
            sys.exit(1)
        raise no_good(chosen, error) from error
    if as_json:
        print_json(verdict(plan, ()))
        return
    for warning in plan.warnings:
        click.echo(f"warning: {escape(warning)}", err=True)
    click.echo(good(plan))


def good(plan: Plan) -> str:
    """The one line of a good configuration."""
    line = f"OK: {counted(len(plan.jobs), 'job')} in {counted(len(plan.files), 'file')}"
    return f"{line}, {counted(len(plan.warnings), 'warning')}" if plan.warnings else line


def verdict(plan: Plan | None, problems: tuple[Problem, ...]) -> dict[str, object]:
    """The JSON shape, the same for good and bad."""
    return {
        "ok": plan is not None,
        "jobs": len(plan.jobs) if plan else 0,
        "files": list(plan.files) if plan else [],
        "problems": [{"path": p.path, "line": p.line or None, "key": p.key, "message": p.message} for p in problems],
        "warnings": list(plan.warnings) if plan else [],
    }
