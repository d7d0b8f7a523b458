"""Where the reading commands get their facts: from the daemon, or from the history file where none answers. Both are
asked in the same words. It prints one line, that no daemon answers; it changes nothing."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import click
from msgspec.structs import asdict

from tidegate.cli.asking import NoAnswer, control_socket, own_history, told
from tidegate.cli.client import Client, DeniedError, RefusedError, RunDetail
from tidegate.cli.options import chosen_config_path, no_job
from tidegate.model.text import escape
from tidegate.model.view import DecisionView, RunView

if TYPE_CHECKING:
    from tidegate.history.read import Reader

NOT_FOUND: Final = 404
PAGE_RUNS: Final = 1000
DECISIONS_MAX: Final = 200
DURATIONS_MAX: Final = 1000  # of the newest successes: enough for a 99th percentile


class Account(Protocol):
    """What happened, by whomever it is told."""

    @property
    def live(self) -> bool:
        """Whether the daemon itself answers."""

    def runs(self, limit: int, **filters: str | datetime | None) -> Iterator[RunView]:
        """Newest first. Filters: job, outcome, state, since, until."""

    def run(self, run_id: str) -> RunDetail | None:
        """One run with its attempts."""

    def why(self, job: str, at: datetime | None) -> list[DecisionView]:
        """What was decided about the fire nearest at or before that moment, or the newest."""

    def durations(self, job: str) -> list[float]:
        """Of the newest successes, newest first."""


class Live:
    """The daemon's own account."""

    live = True

    def __init__(self, client: Client) -> None:
        self.client = client

    def runs(self, limit: int, **filters: str | datetime | None) -> Iterator[RunView]:
        return self.client.runs(limit, **filters)

    def run(self, run_id: str) -> RunDetail | None:
        try:
            return self.client.run(run_id)
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def why(self, job: str, at: datetime | None) -> list[DecisionView]:
        try:
            return self.client.why(job, at)
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return []
            raise

    def durations(self, job: str) -> list[float]:
        succeeded = self.client.runs(DURATIONS_MAX, job=job, outcome="succeeded")
        return [run.duration_s for run in succeeded if run.duration_s is not None]


class Recorded:
    """What is on record in the history file, as of when a daemon last wrote it."""

    live = False

    def __init__(self, reader: "Reader") -> None:
        self.reader = reader

    def runs(self, limit: int, **filters: str | datetime | None) -> Iterator[RunView]:
        before: int | None = None
        while limit > 0:
            page, before = self.reader.runs(limit=min(limit, PAGE_RUNS), before=before, **filters)  # type: ignore[arg-type]  # one dict of two types
            yield from page
            limit -= len(page)
            if before is None:
                return

    def run(self, run_id: str) -> RunDetail | None:
        found = self.reader.run(run_id)
        if found is None:
            return None
        return RunDetail(**asdict(found), attempts=tuple(self.reader.attempts(run_id)))

    def why(self, job: str, at: datetime | None) -> list[DecisionView]:
        return self.reader.why(job, at, DECISIONS_MAX)

    def durations(self, job: str) -> list[float]:
        return self.reader.durations(job, DURATIONS_MAX)


def open_account() -> Account:
    """The daemon if it answers, else the history file, which is said; else the end of the command, exit code 3."""
    client = Client(control_socket())
    silence = client.silence()
    if silence is None:
        return Live(client)
    history = escape(str(own_history()))
    denied = isinstance(silence, DeniedError)
    try:
        with reading():
            recorded = on_record()
    except click.ClickException as error:
        if denied:  # whoever may not ask the daemon may not read its files either: that is what to mend
            raise NoAnswer(escape(str(silence))) from error
        raise
    if recorded is None:
        nothing = f"and there is no history at {history}"
        if denied:
            raise NoAnswer(f"{escape(str(silence))}, {nothing}")
        raise NoAnswer(f"no daemon answers at {escape(str(client.path))}, {nothing}; 'tidegate run' starts one")
    why = escape(str(silence)) if denied else "no daemon answers"
    click.echo(f"note: {why}; this is what is on record in {history}", err=True)
    return recorded


def must_know(account: Account, job: str, config: Path | None) -> None:
    """Ends the command where nobody knows of such a job: neither the daemon, nor the files, nor history."""
    if next(account.runs(1, job=job), None) is not None:
        return
    if isinstance(account, Live):
        known = {each.name for each in account.client.jobs()}
    else:
        from tidegate.settings.identity import onlooker
        from tidegate.settings.read import SettingsError, load

        try:
            known = set(load(chosen_config_path(config), onlooker()).jobs)
        except SettingsError:
            return  # who knows
    if job not in known:
        raise no_job(job, known)


def on_record() -> Recorded | None:
    """The history file, if there is one with something in it. Raises OSError, sqlite3.Error."""
    from tidegate.history.entry import NoHistoryError
    from tidegate.history.read import Reader

    try:
        return Recorded(Reader(own_history()))
    except NoHistoryError:
        return None


@contextmanager
def reading() -> Iterator[None]:
    """Ends the command in words where the daemon does not answer, refuses, or the history file cannot be read."""
    try:
        with told():
            yield
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(
            f"{escape(str(own_history()))} cannot be read: {escape(str(error))}; 'tidegate doctor' looks at it"
        ) from error
