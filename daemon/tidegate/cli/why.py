"""tidegate why: what was decided about one fire of a job, and from which facts. It decides nothing itself."""

import sys
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final

import click

from tidegate import clock
from tidegate.cli.account import Account, Live, must_know, open_account, reading
from tidegate.cli.client import RefusedError
from tidegate.cli.logs import RUN_ID
from tidegate.cli.options import chosen_config_path, config_option, json_option, parse_past, print_json, system_zone
from tidegate.cli.wording import local_reason, moment_text
from tidegate.model.text import escape
from tidegate.model.view import DecisionView
from tidegate.triggers.zones import zone

PHRASES: Final = {
    "run.held": "held back",
    "run.queued": "queued",
    "run.starting": "passed all gates",
    "run.started": "started",
    "run.recovered": "found again after a restart of the daemon",
    "run.restored": "waited on after a restart of the daemon",
    "run.stopping": "told to stop",
    "run.retrying": "to be tried again",
    "run.finished": "ended",
    "run.skipped": "skipped",
    "run.frozen": "held still, as memory was short",
    "run.thawed": "let go on",
    "run.evicted": "killed for memory, to be queued anew",
    "job.paused": "the job was paused",
    "job.resumed": "the job was resumed",
    "config.reloaded": "the configuration was reloaded",
    "pool.resized": "the pool was resized",
    "pool.blind": "what the pool is moved by",
    "memory.tier": "memory",
    "request.refused": "a request was refused",
    "calendar.opened": "a calendar opened",
    "calendar.closed": "a calendar closed",
    "starts.held": "nothing started from here",
    "starts.resumed": "starts went on; this held them",
    "daemon.started": "the daemon started",
    "daemon.draining": "the daemon was stopping",
    "daemon.drained": "the daemon had stopped",
    "daemon.left": "the daemon ended and left its runs running",
    "clock.stepped": "the clock was set",
    "history.set_aside": "the record begins here",
    "history.none": "nothing to tell of",
    "history.nearest": "note",
}
REMARKS: Final = ("history.none", "history.nearest")  # of the answer itself, at no time


@click.command()
@click.argument("target", metavar="JOB|RUN")
@click.option("--at", metavar="TIME", help="The fire at or last before it: ISO 8601, or how long ago (2h).")
@config_option
@json_option
def command(target: str, at: str | None, config: Path | None, as_json: bool) -> None:
    """Tell what was decided about a fire of JOB, or about RUN, when, and from which facts.

    Without --at it is the newest fire; exit code 1: none is on record, or no such
    job. Times are in the job's zone. Around the run's own lines stand those that
    concern all jobs: pauses, reloads, clock changes, times when nothing could start,
    the daemon's starts and stops.

    \b
    Example:
      tidegate why backup --at 2026-03-29T02:15
    """
    account = open_account()
    with reading():
        run = account.run(target) if RUN_ID.fullmatch(target) else None
        if run is not None and at:
            raise click.BadParameter("the id of a run says which fire is meant", param_hint="'--at'")
        job = target if run is None else run.job
        in_zone = zone(zone_of(account, job, config))
        moment = parse_past(at, in_zone, clock.wall(), "'--at'") if at else None
        decisions = account.why(job, run.scheduled_at if run is not None else moment)
        if not any(decision.run_id for decision in decisions):
            must_know(account, job, config)
    if as_json:
        print_json(decisions)
    else:
        for line in lines(decisions, in_zone):
            click.echo(line)
    if not any(decision.run_id for decision in decisions):
        sys.exit(1)


def zone_of(account: Account, job: str, config: Path | None) -> str:
    """The job's time zone, by the daemon or the files; this machine's for a job that neither knows any more."""
    if isinstance(account, Live):
        try:
            return account.client.job(job).timezone
        except RefusedError:
            return system_zone()  # removed since; its past is still on record
    from tidegate.settings.identity import onlooker
    from tidegate.settings.read import SettingsError, load

    try:
        plan = load(chosen_config_path(config), onlooker())
    except SettingsError:
        return system_zone()
    return plan.jobs[job].timezone if job in plan.jobs else plan.daemon.timezone


def lines(decisions: list[DecisionView], in_zone: tzinfo) -> list[str]:
    """When, of which run, what, and why; a run's id stands where it changes."""
    shown, run_id = [], ""
    for decision in decisions:
        if decision.run_id and decision.run_id != run_id:
            run_id = decision.run_id
            shown.append(f"run {escape(run_id)} of {escape(decision.job)}")
        when = "" if decision.fact in REMARKS else f"{told_at(decision.at, in_zone)}  "
        shown.append(f"  {when}{local_reason(phrase(decision), in_zone)}")
    return shown


def told_at(at: datetime, in_zone: tzinfo) -> str:
    """To the millisecond: what was decided first matters."""
    local = at.astimezone(in_zone)
    text = moment_text(local)
    day_and_time, _, shift = text.rpartition(" ")
    return f"{day_and_time}.{local.microsecond // 1000:03} {shift}"


def phrase(decision: DecisionView) -> str:
    """What was decided, and from which facts."""
    said = PHRASES.get(decision.fact, decision.fact)
    return escape(f"{said}: {decision.reason}" if decision.reason else said)
