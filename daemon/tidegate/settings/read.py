"""Reads a configuration: finds its files, turns each into raw Structs with one conversion, resolves them into a Plan.
Where anything is wrong it goes on, and raises everything at once. Changes nothing outside itself."""

import gc
import os
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from tidegate import clock
from tidegate.model.job import Job, RunAs
from tidegate.model.limits import ERRORS_MAX, FILES_MAX, JOBS_MAX
from tidegate.model.plan import Plan
from tidegate.model.text import counted
from tidegate.settings import resolve_daemon, resolve_pool
from tidegate.settings.calendars import calendars
from tidegate.settings.check import Walker
from tidegate.settings.desk import Desk
from tidegate.settings.identity import Identity, Users, of_process
from tidegate.settings.known import Known
from tidegate.settings.order import check_after
from tidegate.settings.ownership import Ownership
from tidegate.settings.pattern import WILDCARD, UnsearchableError, matches
from tidegate.settings.problem import Keys, Problem, SettingsError, quoted
from tidegate.settings.raw import RawJobsFile, RawMainFile
from tidegate.settings.resolve import Resolver
from tidegate.settings.source import Source, Unusable, display, is_folder
from tidegate.settings.system_zone import system_timezone

__all__ = ["Problem", "SettingsError", "load"]

MAIN_NAME: Final = "tidegate.toml"
JOBS_DEFAULT: Final = ("jobs.d/*.toml",)
DAEMON_TABLES: Final = frozenset(RawMainFile.__struct_fields__) - {"jobs"}
NOBODY_ELSE: Final = RunAs()
NATIVE: Final = (datetime, date, time)  # TOML has them: text that looks like one is text

Raw = TypeVar("Raw", RawMainFile, RawJobsFile)
Finding = tuple[Source, Keys, str]


def load(path: Path, who: Identity | None = None) -> Plan:
    """The configuration at `path`: a tidegate.toml, a folder that holds one, or a single jobs file.

    The main file may hold jobs itself; more come from the files that `[daemon] jobs` names, relative to it, sorted.
    A relative `env_file` is beneath the folder of the file that names it; so are a `cwd` and a command's program that
    begin with ./ or ../ (a program without a slash is looked up on PATH).
    `[defaults]` fills in what a job does not say; its `env` and `retries` are merged key by key, all else is replaced.

    `who` is the user that would run it; without one it is this process.

    Raises SettingsError with every problem of every file, sorted by path and line, at most ERRORS_MAX.
    """
    collecting = gc.isenabled()
    gc.disable()  # a million small values are made and most are kept: looking for cycles among them costs 30 %
    try:
        return Reading(clock.wall(), who or of_process()).plan(path)
    finally:
        if collecting:
            gc.enable()


class Reading:
    """One load: the files read so far and what is wrong with them."""

    def __init__(self, now: datetime, who: Identity) -> None:
        self.now = now
        self.users = Users(who)
        self.files: list[Source] = []
        self.jobs: dict[str, Job] = {}
        self.places: dict[str, Source] = {}  # where each name is defined, good or not
        self.unreadable: list[Problem] = []
        self.findings: list[Finding] = []
        self.oddities: list[Finding] = []

    def plan(self, path: Path) -> Plan:
        """All of it. Raises SettingsError."""
        folder = is_folder(path)
        main = Source(path / MAIN_NAME if folder else path)
        self._read(main)
        raw, desk = self._convert(main, RawMainFile)
        known = Known(main.data)
        self.resolver = Resolver(self.now, known, self.users)
        zone = self._timezone(raw, desk)
        plan = self._tables(raw, zone, desk)
        known.units = plan.resources
        base = self.resolver.defaults(raw.defaults, zone, desk)
        self._jobs(main, raw, base, desk)
        alone = (
            not folder and main.path.name != MAIN_NAME and "jobs" in main.data and not DAEMON_TABLES & set(main.data)
        )
        if not alone and not self.unreadable:
            self._job_files(main, raw, base)
        check_after(self.jobs, set(self.places), self._report_after, self._warn_after)
        if not self.places and not self.unreadable and not self.findings:
            self.oddities.append((main, (), "defines no jobs"))
        self._judge_ownership(main)
        self._raise()
        return replace(
            plan,
            jobs=self.jobs,
            files=tuple(file.shown for file in self.files),
            warnings=tuple(str(problem) for problem in listed(self.oddities)),
        )

    def _tables(self, raw: RawMainFile, zone: str, desk: Desk) -> Plan:
        """All of the main file but its jobs and their defaults."""
        return Plan(
            daemon=resolve_daemon.daemon(raw, zone, desk),
            pool=resolve_pool.pool(raw, desk),
            http=resolve_daemon.http(raw, desk),
            metrics=resolve_daemon.metrics(raw),
            control=resolve_daemon.control(raw, self.users, desk),
            history=resolve_daemon.history(raw, desk),
            resources=resolve_daemon.resources(raw, desk),
            calendars=calendars(raw, zone, self.resolver, desk),
            hooks=resolve_daemon.hooks(raw, desk),
        )

    def _judge_ownership(self, main: Source) -> None:
        """Files that somebody else could have changed: an error for each, or one warning for all."""
        ownership = Ownership(self.users.who)
        found = [(file, ownership.wrong(file.path, file.real, file.status)) for file in self.files if file.status]
        wrong = [(file, sentence) for file, sentence in found if sentence]
        if not wrong:
            return
        if ownership.enforced(main.real, any(job.run_as != NOBODY_ELSE for job in self.jobs.values())):
            self.findings += [(file, (), sentence) for file, sentence in wrong]
            return
        first, sentence = wrong[0]
        more = f"; and {counted(len(wrong) - 1, 'more file')}" if len(wrong) > 1 else ""
        self.oddities.append((first, (), sentence + more))

    def _raise(self) -> None:
        problems = sorted(self.unreadable + listed(self.findings), key=by_place)
        if len(problems) >= ERRORS_MAX:
            problems = problems[: ERRORS_MAX - 1]
            problems.append(Problem(problems[-1].path, 0, "", f"too many errors: only {ERRORS_MAX - 1} are listed"))
        if problems:
            raise SettingsError(tuple(problems))

    def _read(self, file: Source) -> bool:
        self.files.append(file)
        try:
            file.read()
        except Unusable as error:
            if len(self.unreadable) < ERRORS_MAX:
                self.unreadable.append(Problem(file.shown, error.line, "", error.message))
            return False
        return True

    def _convert(self, file: Source, struct: type[Raw]) -> tuple[Raw, Desk]:
        """The file as Structs: in one conversion, or where that fails what the walker leaves of it."""
        report, warn = note(self.findings, file), note(self.oddities, file)
        desk = Desk(file.folder, report, warn)
        try:
            return msgspec.convert(file.data, struct, builtin_types=NATIVE), desk
        except msgspec.ValidationError as error:
            said = str(error)

        def refuse(keys: Keys, message: str) -> None:
            desk.bad.add(keys[:3])
            report(keys, message)

        good = Walker(refuse).walk(file.data, struct, ())
        try:
            made = msgspec.convert(good, struct, builtin_types=NATIVE)
        except msgspec.ValidationError as error:
            report((), str(error))  # the walker knows less than msgspec: a fault of ours, but no traceback of theirs
            return struct(), desk
        if not desk.bad:
            report((), said)
        return made, desk

    def _timezone(self, raw: RawMainFile, desk: Desk) -> str:
        """The zone of jobs that name none."""
        if raw.daemon.timezone is not UNSET:
            return self.resolver.zone(raw.daemon.timezone, "UTC", ("daemon", "timezone"), desk)
        name = system_timezone()
        if not self.resolver.knows_zone(name):
            desk.warn(
                ("daemon",), f"the system's time zone ({name or 'unset'}) has no IANA name: UTC is used; set timezone"
            )
            return "UTC"
        return name

    def _jobs(self, file: Source, raw: RawJobsFile, base: Job, desk: Desk) -> None:
        """The jobs of one file, added to all."""
        places = file.job_places
        for name in places:
            first = self.places.setdefault(name, file)
            if first is not file:
                desk.report(("jobs", name), f"is also defined at {first.job_places[name]}")
        for name, written in raw.jobs.items():
            if len(self.jobs) >= JOBS_MAX:
                desk.report((), f"more than {JOBS_MAX:,} jobs")
                return
            job = self.resolver.job(name, written, base, desk, places[name])
            self.jobs.setdefault(name, job)

    def _job_files(self, main: Source, raw: RawMainFile, base: Job) -> None:
        """What `[daemon] jobs` names."""
        written = raw.daemon.jobs is not UNSET
        patterns = JOBS_DEFAULT if raw.daemon.jobs is UNSET else raw.daemon.jobs
        seen = {os.path.realpath(main.path)}
        for index, pattern in enumerate(patterns):
            keys: Keys = ("daemon", "jobs", index)
            try:
                paths = matches(main.path.parent, pattern, FILES_MAX)
            except ValueError as error:
                self.findings.append((main, keys, str(error)))
                continue
            except UnsearchableError as error:
                self.unreadable.append(Problem(display(error.path), 0, "", error.message))
                continue
            if not paths and not WILDCARD.search(pattern):
                self.findings.append((main, keys, f"no such file: {quoted(pattern)}"))
            elif not paths and written:
                self.oddities.append((main, keys, f"no file matches {quoted(pattern)}"))
            for path in paths:
                real = os.path.realpath(path)
                if real in seen:
                    continue
                if len(self.files) > FILES_MAX:
                    self.findings.append((main, keys, f"more than {FILES_MAX:,} job files"))
                    return
                seen.add(real)
                file = Source(path)
                if self._read(file):
                    jobs, desk = self._convert(file, RawJobsFile)
                    self._jobs(file, jobs, base, desk)

    def _report_after(self, name: str, message: str) -> None:
        self.findings.append((self.places[name], ("jobs", name, "after"), message))

    def _warn_after(self, name: str, message: str) -> None:
        self.oddities.append((self.places[name], ("jobs", name, "after"), message))


def note(findings: list[Finding], file: Source) -> Callable[[Keys, str], None]:
    """A report that notes findings about one file, up to the limit."""

    def add(keys: Keys, message: str) -> None:
        if len(findings) < ERRORS_MAX:
            findings.append((file, keys, message))

    return add


def listed(findings: list[Finding]) -> list[Problem]:
    """Each finding once, with its line, in the order of a reader."""
    return sorted({file.problem(keys, message) for file, keys, message in findings}, key=by_place)


def by_place(problem: Problem) -> tuple[str, int, str, str]:
    """By path, line, key and sentence."""
    return problem.path, problem.line, problem.key, problem.message
