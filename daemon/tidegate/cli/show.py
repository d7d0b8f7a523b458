"""tidegate show: everything about one job as it is configured, every default filled in, and how it stands. Shows no
secret value."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from tidegate import clock
from tidegate.cli.fires import next_fires
from tidegate.cli.list_jobs import as_json_standing
from tidegate.cli.options import config_option, find_job, json_option, load_plan, print_json
from tidegate.cli.states import Standing, Standings, percentile, shown, standing_of
from tidegate.cli.wording import duration, iso, moment_text, needs_seconds, schedule, shown_argv, size
from tidegate.model.job import Boot, Executor, HookLists, Job, Limits, Ping, Retries, RunAs, Window
from tidegate.model.redact import redacted
from tidegate.model.text import counted, escape
from tidegate.triggers.zones import zone

FIRES_SHOWN: Final = 5
LABEL_WIDTH: Final = 20


@click.command()
@click.argument("job")
@config_option
@json_option
def command(job: str, config: Path | None, as_json: bool) -> None:
    """Show one job with every default filled in, its next five fires, and how it stands.

    The definition is read from the files. How it stands is asked of the daemon; where
    none answers, it is what the history file has. Secrets are shown as ***: values of
    environment variables with telling names, credentials in addresses and options.

    \b
    Example:
      tidegate show backup
    """
    found = find_job(load_plan(config), job)
    coming = next_fires(found, clock.wall(), FIRES_SHOWN)
    known = standing_of(found)
    standing = known.jobs.get(found.name, Standing())
    took_s = durations(known, found)
    if as_json:
        print_json(as_json_job(found, coming, standing, took_s))
        return
    click.echo(escape(found.name) + (f" - {escape(found.description)}" if found.description else ""))
    click.echo(f"defined at {escape(found.source)}\n")
    for label, value in rows(masked(found)):
        first, *more = value.split("\n")
        click.echo(f"  {label:<{LABEL_WIDTH}}{first}")
        for line in more:
            click.echo(" " * (LABEL_WIDTH + 2) + line)
    click.echo()
    for line in fire_lines(found, coming):
        click.echo(line)
    if known.account is not None:
        click.echo("\nHow it stands:")
        for label, value in standing_rows(found, standing, took_s):
            click.echo(f"  {label:<{LABEL_WIDTH}}{value}")


def durations(known: Standings, job: Job) -> list[float]:
    """Of its newest successes, where somebody can tell."""
    if known.account is None:
        return []
    from tidegate.cli.account import reading

    with reading():
        return known.account.durations(job.name)


def standing_rows(job: Job, standing: Standing, took_s: list[float]) -> list[tuple[str, str]]:
    """Label and value: now, its last run, its last success, how long it takes."""
    from tidegate.model.text import duration as amount

    in_zone = zone(job.timezone)
    last, run = standing.last_run_at, standing.last_run
    said = escape(standing.last_outcome or "?")
    if run is not None and run.duration_s is not None:
        said += f", {amount(run.duration_s)}"
    if run is not None and run.reason and run.outcome != "succeeded":
        said += f": {escape(run.reason)}"
    success = standing.last_success_at
    return [
        ("now", shown(standing)),
        ("last run", f"{moment_text(last.astimezone(in_zone))}, {said}" if last else "none on record"),
        ("last success", moment_text(success.astimezone(in_zone)) if success else "none on record"),
        (
            "takes",
            f"{amount(percentile(took_s, 0.5))} (p50), {amount(percentile(took_s, 0.99))} (p99) "
            f"of the last {'success' if len(took_s) == 1 else f'{len(took_s)} successes'}"
            if took_s
            else "not known: no success on record",
        ),
        *needs(standing),
    ]


def needs(standing: Standing) -> list[tuple[str, str]]:
    """What the pool takes its next run to need, where a daemon tells."""
    learned = standing.learned
    if learned is None:
        return []
    lasts = "" if learned.duration_s is None else f", mostly within {duration(learned.duration_s)}"
    runs = f"learned from {counted(learned.runs, 'run')}"
    return [("needs", f"{learned.cpu_cores:.2g} cores{lasts}, {runs}"), ("", f"memory {escape(learned.memory_reason)}")]


def masked(job: Job) -> Job:
    """The job with its secrets masked, for showing only."""
    return msgspec.convert(redacted(job), Job)


def rows(job: Job) -> list[tuple[str, str]]:
    """Label and value, in the order and the words of the job file; more lines of one value are divided by newlines."""
    none = "none"
    return [
        *what_rows(job),
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
        ("env", "\n".join(f"{escape(k)}={escape(v)}" for k, v in job.env.items()) or none),
        ("env_file", escape(job.env_file) if job.env_file else none),
        ("output", f"{job.output.value}, at most {size(job.output_max_bytes)}"),
        ("uses", ", ".join(f"{escape(name)} = {units}" for name, units in job.uses.items()) or none),
        ("only_during", shown_windows(job.only_during)),
        ("not_during", shown_windows(job.not_during)),
        ("hooks", shown_hooks(job.hooks)),
        ("expected", "its own p99" if job.expected_s is None else duration(job.expected_s)),
        ("ping", shown_ping(job.ping)),
        ("on_interrupted", job.on_interrupted.value),
        ("user", shown_user(job.run_as)),
        ("memory", "learned" if job.memory_bytes is None else f"{size(job.memory_bytes)} until it is learned"),
        ("cpu", "learned" if job.cpu_cores is None else f"{job.cpu_cores:g} until it is learned"),
        ("limits", shown_limits(job.limits)),
        ("oom_score_adj", "the daemon's" if job.oom_score_adj is None else str(job.oom_score_adj)),
    ]


def what_rows(job: Job) -> list[tuple[str, str]]:
    """What it runs."""
    if job.command is not None:
        return [("command", shown_argv(job.command))]
    if job.python is None:
        return [("shell", shown_shell(job.shell or ""))]
    python = job.python
    shared = f", at most {python.host_runs} in one process" if python.executor is not Executor.PROCESS else ""
    return [
        ("python", escape(python.target)),
        ("args", escape(json.dumps(python.args, ensure_ascii=False)) if python.args else "none"),
        ("kwargs", escape(json.dumps(python.kwargs, ensure_ascii=False)) if python.kwargs else "none"),
        ("executor", f"{python.executor.value}{shared}; a process is replaced after {python.worker_runs} calls"),
        ("interpreter", escape(python.interpreter)),
        ("python_path", escape(":".join(python.python_path)) or "none"),
    ]


def shown_windows(windows: tuple[Window, ...]) -> str:
    """Calendars, and what happens to a fire that they forbid."""
    return ", ".join(f"{escape(each.calendar)} ({each.action.value})" for each in windows) or "none"


def shown_hooks(hooks: HookLists) -> str:
    """A line for each occasion that calls one."""
    called = {occasion: getattr(hooks, occasion) for occasion in hooks.__struct_fields__}
    return (
        "\n".join(f"on_{occasion}: {escape(', '.join(names))}" for occasion, names in called.items() if names) or "none"
    )


def shown_ping(ping: Ping) -> str:
    """A line for each URL."""
    urls = {"start": ping.start, "success": ping.success, "failure": ping.failure}
    return "\n".join(f"{occasion}: {escape(url)}" for occasion, url in urls.items() if url) or "none"


def shown_user(run_as: RunAs) -> str:
    """Whose rights it has."""
    if run_as.user is None and run_as.group is None and run_as.groups is None:
        return "the daemon's"
    text = escape(run_as.user or "the daemon's")
    text += f", group {escape(run_as.group)}" if run_as.group is not None else ""
    if run_as.groups is not None:
        text += f", groups {escape(', '.join(run_as.groups)) or 'none'}"
    return text


def shown_limits(limits: Limits) -> str:
    """In the words of the job file."""
    given = {
        "memory_max": None if limits.memory_bytes is None else size(limits.memory_bytes),
        "cpu_max": None if limits.cpu_cores is None else f"{limits.cpu_cores:g}",
        "pids_max": limits.pids,
        "io_weight": limits.io_weight,
    }
    return ", ".join(f"{key} {value}" for key, value in given.items() if value is not None) or "none"


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


def as_json_job(job: Job, coming: list[datetime], standing: Standing, took_s: list[float]) -> dict[str, Any]:
    """The JSON shape: the keys of the resolved job, `name` as `job`, secrets masked, its fires, and how it stands."""
    in_zone = zone(job.timezone)
    fields = redacted(job)
    return {
        "job": fields.pop("name"),
        **fields,
        "schedule": schedule(job, in_zone),
        "next_fires_at": [iso(fire, in_zone) for fire in coming],
        **as_json_standing(standing, in_zone),
        "last_run": standing.last_run,
        "learned": standing.learned,
        "duration_p50_s": percentile(took_s, 0.5) if took_s else None,
        "duration_p99_s": percentile(took_s, 0.99) if took_s else None,
    }
