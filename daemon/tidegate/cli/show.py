"""tidegate show: everything about one job as it is configured, every default filled in. Shows no secret value."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from tidegate import clock
from tidegate.cli.fires import next_fires
from tidegate.cli.options import config_option, find_job, json_option, load_plan, print_json
from tidegate.cli.wording import (
    duration,
    iso,
    moment_text,
    needs_seconds,
    schedule,
    shown_argv,
    shown_env,
    size,
)
from tidegate.model.job import Boot, Job, Retries
from tidegate.model.text import escape
from tidegate.triggers.zones import zone

FIRES_SHOWN: Final = 5
LABEL_WIDTH: Final = 20


@click.command()
@click.argument("job")
@config_option
@json_option
def command(job: str, config: Path | None, as_json: bool) -> None:
    """Show one job with every default filled in, where it is defined, and its next five fires.

    Values of environment variables whose names tell of a secret are shown as •••.

    \b
    Example:
      tidegate show backup
    """
    found = find_job(load_plan(config), job)
    coming = next_fires(found, clock.wall(), FIRES_SHOWN)
    if as_json:
        print_json(as_json_job(found, coming))
        return
    click.echo(escape(found.name) + (f" - {escape(found.description)}" if found.description else ""))
    click.echo(f"defined at {escape(found.source)}\n")
    for label, value in rows(found):
        first, *more = value.split("\n")
        click.echo(f"  {label:<{LABEL_WIDTH}}{first}")
        for line in more:
            click.echo(" " * (LABEL_WIDTH + 2) + line)
    click.echo()
    for line in fire_lines(found, coming):
        click.echo(line)


def rows(job: Job) -> list[tuple[str, str]]:
    """Label and value, in the order and the words of the job file; more lines of one value are divided by newlines."""
    none = "none"
    return [
        ("command", shown_argv(job.command)) if job.command else ("shell", shown_shell(job.shell or "")),
        ("schedule", schedule(job, zone(job.timezone))),
        ("timezone", escape(job.timezone)),
        ("enabled", "yes" if job.enabled else "no: it fires only by hand"),
        ("jitter", duration(job.jitter_s)),
        ("timeout", f"{duration(job.timeout_s)}, then TERM; KILL after another {duration(job.kill_grace_s)}"),
        ("leftovers", job.leftovers.value),
        ("retries", shown_retries(job.retries)),
        ("success_exit_codes", ", ".join(map(str, job.success_exit_codes))),
        ("overlap", job.overlap.value),
        ("catch_up", f"{job.catch_up.value}, within {duration(job.catch_up_window_s)}"),
        ("start_deadline", none if job.start_deadline_s is None else duration(job.start_deadline_s)),
        ("priority", str(job.priority)),
        ("nice", str(job.nice)),
        ("umask", f"{job.umask:03o}"),
        ("cwd", escape(job.cwd) if job.cwd else "the user's home"),
        ("env", "\n".join(f"{escape(k)}={escape(v)}" for k, v in shown_env(job.env).items()) or none),
        ("env_file", escape(job.env_file) if job.env_file else none),
        ("output", f"{job.output.value}, at most {size(job.output_max_bytes)}"),
    ]


def shown_shell(text: str) -> str:
    """Shell text, line by line, as it was written but escaped."""
    return "\n".join(escape(line) for line in text.strip("\n").split("\n"))


def shown_retries(retries: Retries) -> str:
    """How often a failed run is tried again, and when."""
    if not retries.max:
        return "none"
    text = f"up to {retries.max}, after {duration(retries.delay_s)}"
    if retries.max > 1:
        text += f", each wait × {retries.factor:g} up to {duration(retries.max_delay_s)}"
    if retries.jitter:
        text += f", ± {retries.jitter:.0%}"
    if retries.on_exit_codes is not None:
        text += f"\nonly after exit code {', '.join(map(str, retries.on_exit_codes))}"
    return text


def fire_lines(job: Job, coming: list[datetime]) -> list[str]:
    """The next fires, or why there are none."""
    if not coming:
        if job.trigger is None:
            return ["No time fires it: it runs " + ("after " + ", ".join(job.after) if job.after else "by hand") + "."]
        return ["It fires once after each boot." if isinstance(job.trigger, Boot) else "It has no coming fire."]
    head = "Next fires:" if job.enabled else "Disabled; it would fire:"
    local = [fire.astimezone(zone(job.timezone)) for fire in coming]
    return [head, *(f"  {moment_text(fire, needs_seconds(local))}" for fire in local)]


def as_json_job(job: Job, coming: list[datetime]) -> dict[str, Any]:
    """The JSON shape: the keys of the resolved job, `name` as `job`, secrets masked, and its fires."""
    in_zone = zone(job.timezone)
    fields: dict[str, Any] = msgspec.to_builtins(job)
    return {
        "job": fields.pop("name"),
        **fields,
        "env": shown_env(job.env),
        "schedule": schedule(job, in_zone),
        "next_fires_at": [iso(fire, in_zone) for fire in coming],
    }
