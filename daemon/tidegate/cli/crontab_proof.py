"""The proof of an import: the file as tidegate will read it, fire by fire beside cron's own rules. Keeps nothing.

The jobs are read back from the text that is to be written, by the same reader and with the same triggers as in the
daemon; cron's side is `settings.cron_rules`, which shares no code with those.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.settings.cron_rules import MINUTE_S, Fields, Loop
from tidegate.settings.crontab_jobs import Drafted
from tidegate.settings.identity import onlooker
from tidegate.settings.problem import SettingsError
from tidegate.settings.read import load
from tidegate.settings.toml_text import toml_key
from tidegate.triggers.build import build
from tidegate.triggers.errors import TriggerError

SPAN_S: Final = 2 * 366 * 86_400  # two years, a leap day included
SHOWN_MAX: Final = 10  # differences of one job that are listed; the rest is counted
STUB: Final = '[hooks.{name}]\ncommand = ["true"]\n'


class Difference(Struct, frozen=True):
    """An instant at which the two do not agree, and how often each starts the job then."""

    at: datetime
    cron: int
    tidegate: int

    def __str__(self) -> str:
        moment = self.at.isoformat(" ", "minutes")
        if self.cron > 1 and self.tidegate == 1:
            return f"{moment}: cron starts it {self.cron} times at once, for times that the clock skips; tidegate once"
        return f"{moment}: cron {_times(self.cron)}, tidegate {_times(self.tidegate)}"


def _times(count: int) -> str:
    return {0: "does not start it", 1: "starts it"}.get(count, f"starts it {count} times")


class Verdict(Struct, frozen=True):
    """What the comparison of one job came to. `fires` is None where there is no time to compare, and `why` says so."""

    fires: int | None
    differences: tuple[Difference, ...] = ()
    more: int = 0  # differences beyond those
    why: str = ""

    def __str__(self) -> str:
        if self.fires is None:
            return f"not compared: {self.why}"
        count = len(self.differences) + self.more
        return f"{self.fires} fires, {f'{count} of them not as cron' if count else 'all as cron'}"


class Prover:
    """Compares over two years from a moment on. Equal schedules are compared once."""

    def __init__(self, now: datetime) -> None:
        self.from_s = (int(now.timestamp()) // MINUTE_S + 1) * MINUTE_S
        self.to_s = self.from_s + SPAN_S
        self._loops: dict[str, Loop] = {}
        self._known: dict[tuple[object, ...], Verdict] = {}

    def verdict(self, draft: Drafted, job: Job) -> Verdict:
        """One job beside its line."""
        fields = draft.entry.fields
        if fields is None:
            return Verdict(None, why=_why(draft))
        key = (fields, job.trigger, job.timezone, draft.clock_zone)
        if key not in self._known:
            self._known[key] = self._compare(fields, draft, job)
        return self._known[key]

    def _compare(self, fields: Fields, draft: Drafted, job: Job) -> Verdict:
        loop = self._loops.get(draft.zone_name)
        if loop is None:
            loop = self._loops[draft.zone_name] = Loop(draft.zone_name, self.from_s, self.to_s)
        expected = loop.shown(fields) if draft.clock_zone else loop.fires(fields)
        found = list(self._fires(job))
        if expected == found:
            return Verdict(len(found))
        cron, ours = Counter(expected), Counter(found)
        wrong = sorted(at_s for at_s in cron | ours if cron[at_s] != ours[at_s])
        zone = loop.zone
        listed = [Difference(datetime.fromtimestamp(at_s, zone), cron[at_s], ours[at_s]) for at_s in wrong[:SHOWN_MAX]]
        return Verdict(len(found), tuple(listed), len(wrong) - len(listed))

    def _fires(self, job: Job) -> Iterator[int]:
        """As the daemon would, jitter aside: cron's side has none either."""
        trigger = build(replace(job, jitter_s=0.0))
        moment = datetime.fromtimestamp(self.from_s - 1, UTC)
        while trigger:
            following = trigger.after(moment)
            if following is None or following.timestamp() >= self.to_s:
                return
            moment = following
            yield int(moment.timestamp())


def _why(draft: Drafted) -> str:
    if draft.entry.period_days:
        return "anacron has days, and no times"
    return "at boot" if draft.entry.when == "@reboot" else "cronie draws the time anew whenever it reads the file"


def read_back(texts: dict[str, str], hook: str | None) -> tuple[Plan | None, dict[str, str]]:
    """The files as the daemon would read them; else what is wrong with each job, by name ("" for the rest)."""
    with TemporaryDirectory(prefix="tidegate-import-") as name:
        folder = Path(name)
        (folder / "tidegate.toml").write_text(STUB.format(name=toml_key(hook)) if hook else "")
        (folder / "jobs.d").mkdir()
        for file_name, text in texts.items():
            (folder / "jobs.d" / file_name).write_text(text, encoding="utf-8")
        try:
            return load(folder, onlooker()), {}
        except SettingsError as error:
            wrong: dict[str, str] = {}
            for problem in error.problems:
                _, _, rest = problem.key.partition("jobs.")
                name, _, key = _job_of(rest)
                wrong.setdefault(name, f"{key}: {problem.message}" if key else problem.message)
            return None, wrong


def _job_of(key: str) -> tuple[str, str, str]:
    """Name and key of `NAME.key`; names with a dot are quoted."""
    if key.startswith('"'):
        name, _, rest = key[1:].partition('"')
        return name, "", rest.removeprefix(".")
    name, _, rest = key.partition(".")
    return name, "", rest


def unbuildable(job: Job) -> str:
    """Why a job of a good configuration has no trigger all the same; "" where it has."""
    try:
        build(job)
    except TriggerError as error:
        return str(error)
    return ""
