"""How the jobs stand, for `list` and `show`: from the daemon, from the history file, or from nowhere, which is said."""

import math
import os
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click
from msgspec import Struct

from tidegate.cli.asking import own_history, own_runtime_dir
from tidegate.model.job import Job
from tidegate.model.text import escape
from tidegate.model.view import JobView, LearnedView, RunView
from tidegate.settings.places import SOCKET_NAME
from tidegate.triggers.wording import schedule
from tidegate.triggers.zones import zone

if TYPE_CHECKING:
    from tidegate.cli.account import Account
    from tidegate.history.entry import JobMemory

DIFFERENT_SHOWN: Final = 5
NOT_FOUND: Final = 404


class Standing(Struct, frozen=True, kw_only=True):
    """How one job stands. None: not known, since no daemon answers."""

    paused: bool | None = None
    running: int | None = None
    queued: int | None = None
    retrying: int | None = None
    last_run: RunView | None = None
    last_run_at: datetime | None = None
    last_outcome: str | None = None
    last_success_at: datetime | None = None
    learned: LearnedView | None = None  # the daemon knows


class Standings(Struct, frozen=True):
    """All jobs that are known, and who says so; no account: the files are all there is."""

    jobs: dict[str, Standing]
    account: "Account | None"


def standings(jobs: list[Job]) -> Standings:
    """All jobs, by whoever can tell. Says on stderr what the reader must know about the answer."""
    account = _account()
    if account is None:
        return Standings({}, None)
    from tidegate.cli.account import Live, Recorded, reading

    with reading():
        if isinstance(account, Live):
            views = account.client.jobs()
            _tell_differences(jobs, {view.name: (view.timezone, view.enabled, view.schedule) for view in views})
            return Standings({view.name: _of_view(view) for view in views}, account)
        assert isinstance(account, Recorded), account
        return Standings({name: _of_memory(each) for name, each in account.reader.jobs().items()}, account)


def standing_of(job: Job) -> Standings:
    """The same for one job, with its newest run."""
    account = _account()
    if account is None:
        return Standings({}, None)
    from tidegate.cli.account import Live, Recorded, reading
    from tidegate.cli.client import RefusedError

    with reading():
        if isinstance(account, Live):
            try:
                view = account.client.job(job.name)
            except RefusedError as error:
                if error.status != NOT_FOUND:
                    raise
                _tell_differences([job], {})
                return Standings({}, account)
            _tell_differences([job], {view.name: (view.timezone, view.enabled, view.schedule)})
            return Standings({job.name: _of_view(view)}, account)
        assert isinstance(account, Recorded), account
        memory = account.reader.jobs().get(job.name)
        return Standings({job.name: _of_memory(memory, account.reader.latest(job.name))} if memory else {}, account)


def _account() -> "Account | None":
    """The daemon of this user, else the history file, else None: the files alone, and nothing is imported for them."""
    if not any(os.access(path, os.F_OK) for path in (own_runtime_dir() / SOCKET_NAME, own_history())):
        return None
    import sqlite3

    from tidegate.cli.account import Live, on_record
    from tidegate.cli.client import Client, DeniedError

    client = Client(own_runtime_dir() / SOCKET_NAME)
    silence = client.silence()
    if silence is None:
        return Live(client)
    why = escape(str(silence)) if isinstance(silence, DeniedError) else "no daemon answers"
    try:
        recorded = on_record()
    except (OSError, sqlite3.Error) as error:
        click.echo(f"note: {why}, and the history cannot be read: {escape(str(error))}", err=True)
        return None
    if recorded is not None:
        click.echo(f"note: {why}; pauses and last runs are what is on record", err=True)
    return recorded


def _of_view(view: JobView) -> Standing:
    last = view.last_run
    return Standing(
        paused=view.paused,
        running=view.running,
        queued=view.queued,
        retrying=view.retrying,
        last_run=last,
        last_run_at=last.scheduled_at if last else None,
        last_outcome=(last.state if last.state == "retrying" else last.outcome or last.state) if last else None,
        last_success_at=view.last_success_at,
        learned=view.learned,
    )


def _of_memory(memory: "JobMemory", last: RunView | None = None) -> Standing:
    return Standing(
        paused=bool(memory.paused_by),
        last_run=last,
        last_run_at=memory.last_run_at,
        last_outcome=str(memory.last_outcome) if memory.last_outcome else None,
        last_success_at=memory.last_success_at,
    )


def _tell_differences(jobs: list[Job], live: dict[str, tuple[str, bool, str]]) -> None:
    """The files may have changed since the daemon read them, or be those of another daemon."""
    read = {job.name: (job.timezone, job.enabled, schedule(job, zone(job.timezone))) for job in jobs}
    different = [escape(name) for name, what in read.items() if live.get(name) != what]
    different += [escape(name) for name in live.keys() - read.keys()]
    if different:
        more = f" and {len(different) - DIFFERENT_SHOWN} more" if len(different) > DIFFERENT_SHOWN else ""
        click.echo(
            f"note: the daemon has not read these files as they are now: {', '.join(different[:DIFFERENT_SHOWN])}"
            f"{more} differ; see 'tidegate reload'",
            err=True,
        )


def shown(standing: Standing) -> str:
    """The word for a job: paused, running, queued, retrying or idle."""
    parts = ["paused"] if standing.paused else []
    if standing.running:
        parts.append("running" if standing.running == 1 else f"{standing.running} running")
    if standing.queued:
        parts.append(f"{standing.queued} queued")
    if standing.retrying:
        parts.append("retrying" if standing.retrying == 1 else f"{standing.retrying} retrying")
    return ", ".join(parts) or ("-" if standing.running is None else "idle")


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
