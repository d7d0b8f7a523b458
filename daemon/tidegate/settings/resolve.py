"""From what is written to what is meant: raw Structs to the model's, every default filled in, and the rules that need
more than a type. Findings go to a Desk, never up as exceptions. Reads no file and no clock."""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import UNSET
from msgspec.structs import asdict, replace

from tidegate.model.job import At, Boot, CatchUp, Cron, During, Every, Job, Overlap, Ping, Retries, Trigger, Window
from tidegate.settings import python_rules, rules
from tidegate.settings.amounts import size_bytes, umask
from tidegate.settings.desk import LEAST_S, Desk, duration
from tidegate.settings.identity import Users
from tidegate.settings.known import Known
from tidegate.settings.problem import Keys, quoted
from tidegate.settings.raw import RawDefaults, RawJob, RawPing, RawRetries, RawWindow
from tidegate.settings.resolve_daemon import at_least
from tidegate.triggers import zones
from tidegate.triggers.build import build
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.fire import JITTER_S_MAX
from tidegate.triggers.kinds import YEAR_MAX, YEAR_MIN

Value = TypeVar("Value")

MEMORY_MIN: Final = "1MiB"  # with less no program starts
EVERY_S_MIN: Final = 1.0  # a shorter one is a service, not a job
ZONE_HINTS_MAX: Final = 3  # looking for a near name takes 8 ms
SAME: Final = ("leftovers", "overlap", "catch_up", "priority", "nice", "output", "enabled")  # as written
DURATIONS: Final = (  # key, field, the least
    ("jitter", "jitter_s", 0.0),  # and at most JITTER_S_MAX
    ("timeout", "timeout_s", LEAST_S),
    ("kill_grace", "kill_grace_s", 0.0),
    ("catch_up_window", "catch_up_window_s", LEAST_S),
    ("start_deadline", "start_deadline_s", LEAST_S),
)
OCCASIONS: Final = ("failure", "success", "retry", "skip", "recovery", "overrun", "absence")
RUN_AS: Final = ("user", "group", "groups")
RARE: Final = (  # most jobs write none of these: one look tells
    "uses", "only_during", "not_during", *(f"on_{occasion}" for occasion in OCCASIONS), "expected", "on_interrupted",
    *RUN_AS, *python_rules.SURROUNDINGS,
    "memory", "cpu", "memory_max", "cpu_max", "pids_max", "io_weight", "oom_score_adj",
)  # fmt: skip
ALL_RARE: Final = attrgetter(*RARE)
NONE_WRITTEN: Final = (UNSET,) * len(RARE)


class Resolver:
    """Makes jobs of one configuration. Equal values are shared between jobs: 10,000 of them must stay small."""

    def __init__(self, now: datetime, known: Known, users: Users) -> None:
        self.now = now
        self.known = known
        self.users = users
        self._interpreters = python_rules.Interpreters(users.who.looks_on)
        self._shared: dict[Any, Any] = {}
        self._zones: dict[str, str] = {}  # name → what is wrong with it, "" if nothing
        self._zone_hints_left = ZONE_HINTS_MAX
        self._crons: dict[tuple[str, str], str] = {}  # expression and zone → what is wrong with it, "" if nothing

    def share(self, value: Value) -> Value:
        """The first value that was equal to this one. Only for hashable values of one type."""
        return self._shared.setdefault(value, value)  # type: ignore[no-any-return]

    def defaults(self, raw: RawDefaults, zone: str, desk: Desk) -> Job:
        """A nameless job that holds the defaults of all."""
        base = Job(name="", timezone=zone, env={}, uses={})
        return replace(base, **self._common(raw, base, ("defaults",), desk))

    def job(self, name: str, raw: RawJob, base: Job, desk: Desk, source: str) -> Job:
        """One job; what is refused is reported and replaced by its default."""
        keys: Keys = ("jobs", name)
        desk.take(keys, rules.job_name, name, None)
        fields = asdict(base)
        fields.update(self._common(raw, base, keys, desk))
        fields["name"], fields["source"] = name, source
        self._what(raw, fields, keys, desk)
        if raw.description is not UNSET:
            fields["description"] = raw.description
        if raw.after is not UNSET:
            fields["after"] = self.share(tuple(map(self.share, dict.fromkeys(raw.after))))
        fields["trigger"] = self._trigger(raw, fields["timezone"], fields["catch_up"], keys, desk)
        if raw.ping is not UNSET:
            fields["ping"] = self.share(ping(raw.ping, (*keys, "ping"), desk))
        if fields["hooks"].absence and not isinstance(fields["trigger"], Cron | Every):
            if raw.on_absence is not UNSET:
                desk.report((*keys, "on_absence"), "needs cron or every: without a period nothing is ever overdue")
            fields["hooks"] = self.share(replace(fields["hooks"], absence=()))
        job = Job(**fields)
        if isinstance(job.trigger, Cron):
            self._cron(job, (*keys, "cron"), desk)
        python_rules.fits(job, raw, self._interpreters, keys, desk)
        self._oddities(job, raw, keys, desk)
        return job

    def _common(self, raw: RawDefaults, base: Job, keys: Keys, desk: Desk) -> dict[str, Any]:
        """The fields that [defaults] and jobs both may set, as far as they are set."""
        fields: dict[str, Any] = {}
        for key in SAME:
            value = getattr(raw, key)
            if value is not UNSET:
                fields[key] = value
        for key, field, least_s in DURATIONS:
            value = getattr(raw, key)
            if value is not UNSET:
                fields[field] = duration((*keys, key), value, least_s, getattr(base, field), desk)
        if fields.get("jitter_s", 0.0) > JITTER_S_MAX:
            desk.report((*keys, "jitter"), f'must be at most "366d", beyond it is another schedule, got "{raw.jitter}"')
            fields["jitter_s"] = base.jitter_s
        if raw.timezone is not UNSET:
            fields["timezone"] = self.zone(raw.timezone, base.timezone, (*keys, "timezone"), desk)
        if raw.retries is not UNSET:
            fields["retries"] = self.share(retries(raw.retries, base.retries, (*keys, "retries"), desk))
        if raw.success_exit_codes is not UNSET:
            fields["success_exit_codes"] = self.share(raw.success_exit_codes)
        if raw.umask is not UNSET:
            fields["umask"] = desk.take((*keys, "umask"), umask, raw.umask, base.umask)
        if raw.output_max is not UNSET:
            size = desk.take((*keys, "output_max"), size_bytes, raw.output_max, base.output_max_bytes)
            if size < 1:
                desk.report((*keys, "output_max"), f'must be at least "1B", got "{raw.output_max}"')
            fields["output_max_bytes"] = size
        if raw.cwd is not UNSET:
            desk.take((*keys, "cwd"), rules.cwd, raw.cwd, None)
            desk.take((*keys, "cwd"), rules.plain, raw.cwd, None)
            fields["cwd"] = self.share(rules.beside(desk.folder, raw.cwd))
        if raw.env_file is not UNSET:
            desk.take((*keys, "env_file"), rules.env_file, raw.env_file, None)
            desk.take((*keys, "env_file"), rules.plain, raw.env_file, None)
            fields["env_file"] = self.share(rules.file_beside(desk.folder, raw.env_file))
        if raw.env is not UNSET:
            fields["env"] = self._env(raw.env, base.env, (*keys, "env"), desk)
        if ALL_RARE(raw) != NONE_WRITTEN:
            self._rare(raw, base, fields, keys, desk)
        return fields

    def _rare(self, raw: RawDefaults, base: Job, fields: dict[str, Any], keys: Keys, desk: Desk) -> None:
        """The fields that few jobs write."""
        if raw.uses is not UNSET:
            for name, units in raw.uses.items():
                self._refuse((*keys, "uses", name), self.known.wrong_units(name, units), desk)
            fields["uses"] = self._shared.setdefault(("uses", *raw.uses.items()), raw.uses)
        for key in ("only_during", "not_during"):
            written = getattr(raw, key)
            if written is not UNSET:
                fields[key] = self._windows(written, (*keys, key), desk)
        both = {each.calendar for each in fields.get("only_during", base.only_during)} & {
            each.calendar for each in fields.get("not_during", base.not_during)
        }
        for name in sorted(both):
            desk.report((*keys, "not_during"), f"{quoted(name)} is in only_during too: it would never run")
        hooks = {each: getattr(raw, f"on_{each}") for each in OCCASIONS if getattr(raw, f"on_{each}") is not UNSET}
        for occasion, names in hooks.items():
            for index, name in enumerate(names):
                self._refuse((*keys, f"on_{occasion}", index), self.known.wrong("hook", name), desk)
        if hooks:
            fields["hooks"] = self.share(replace(base.hooks, **hooks))
        if raw.expected is not UNSET:
            fields["expected_s"] = duration((*keys, "expected"), raw.expected, LEAST_S, base.expected_s, desk)
        if raw.on_interrupted is not UNSET:
            fields["on_interrupted"] = raw.on_interrupted
        if raw.oom_score_adj is not UNSET:
            fields["oom_score_adj"] = raw.oom_score_adj
        if raw.memory is not UNSET:
            fields["memory_bytes"] = at_least((*keys, "memory"), raw.memory, "1B", base.memory_bytes or 1, desk)
        if raw.cpu is not UNSET:
            fields["cpu_cores"] = raw.cpu
        run_as = {key: getattr(raw, key) for key in RUN_AS if getattr(raw, key) is not UNSET}
        if run_as:
            fields["run_as"] = made = self.share(replace(base.run_as, **run_as))
            for key, wrong in self.users.wrong(made):
                desk.report((*keys, key), wrong)
        fields["python"] = python_rules.surroundings(raw, base.python, keys, desk)
        self._limits(raw, base, fields, keys, desk)

    def _limits(self, raw: RawDefaults, base: Job, fields: dict[str, Any], keys: Keys, desk: Desk) -> None:
        """What the kernel is to hold a run to."""
        limits: dict[str, Any] = {}
        if raw.memory_max is not UNSET:
            limits["memory_bytes"] = at_least((*keys, "memory_max"), raw.memory_max, MEMORY_MIN, 2**30, desk)
        for key, field in (("cpu_max", "cpu_cores"), ("pids_max", "pids"), ("io_weight", "io_weight")):
            if getattr(raw, key) is not UNSET:
                limits[field] = getattr(raw, key)
        if limits:
            fields["limits"] = self.share(replace(base.limits, **limits))

    def _windows(self, written: tuple[str | RawWindow, ...], keys: Keys, desk: Desk) -> tuple[Window, ...]:
        """Calendars that exist, each once."""
        made: dict[str, Window] = {}
        for index, each in enumerate(written):
            match each:
                case str():
                    window = Window(self.share(each))
                case RawWindow():
                    if each.calendar is UNSET:
                        if keys not in desk.bad:
                            desk.report((*keys, index), "needs calendar")
                        continue
                    action = During.SKIP if each.action is UNSET else each.action
                    window = Window(self.share(each.calendar), action)
            wrong = self.known.wrong("calendar", window.calendar)
            if not wrong and window.calendar in made:
                wrong = f"names {quoted(window.calendar)} twice"
            self._refuse((*keys, index), wrong, desk)
            made[window.calendar] = window
        return self.share(tuple(made.values()))

    def _refuse(self, keys: Keys, wrong: str, desk: Desk) -> None:
        if wrong:
            desk.report(keys, wrong)

    def zone(self, name: str, default: str, keys: Keys, desk: Desk) -> str:
        """An IANA name that exists, else `default`."""
        wrong = self._wrong_zone(name)
        if wrong:
            desk.report(keys, wrong)
        return default if wrong else self.share(name)

    def knows_zone(self, name: str) -> bool:
        """Whether there is such a zone."""
        return not self._wrong_zone(name)

    def _wrong_zone(self, name: str) -> str:
        """What is wrong with a zone's name, "" if nothing."""
        wrong = self._zones.get(name)
        if wrong is None:
            wrong = ""
            try:
                rules.zone_name(name)
                if self._zone_hints_left:
                    zones.zone(name)
                elif not is_zone(name):
                    wrong = f"unknown time zone {quoted(name)}"
            except ValueError as error:  # a TriggerError is one
                wrong = str(error)
                self._zone_hints_left = max(0, self._zone_hints_left - 1)
            self._zones[name] = wrong
        return wrong

    def _env(self, written: dict[str, str], base: dict[str, str], keys: Keys, desk: Desk) -> dict[str, str]:
        """The defaults' variables, then the job's. Equal environments are one dict."""
        for name, value in written.items():
            desk.take((*keys, name), rules.env_name, name, None)
            desk.take((*keys, name), rules.plain, value, None)
        merged = {**base, **{self.share(name): self.share(value) for name, value in written.items()}}
        return self._shared.setdefault(("env", *merged.items()), merged)  # type: ignore[no-any-return]

    def _what(self, raw: RawJob, fields: dict[str, Any], keys: Keys, desk: Desk) -> None:
        """Exactly one of command, shell and python."""
        if raw.command is not UNSET:
            for index, argument in enumerate(raw.command):
                desk.take((*keys, "command", index), rules.plain, argument, None)
            desk.take((*keys, "command"), rules.argv, raw.command, None)
            # "../bin/backup": a configuration carries its own programs, wherever it is installed.
            command = (rules.beside(desk.folder, raw.command[0]), *raw.command[1:])
            fields["command"] = self.share(tuple(map(self.share, command)))
        if raw.shell is not UNSET:
            desk.take((*keys, "shell"), rules.plain, raw.shell, None)
            if not raw.shell.strip():
                desk.report((*keys, "shell"), "must not be empty")
            fields["shell"] = self.share(raw.shell)
        fields["python"] = python_rules.call(raw, fields["python"], keys, desk)
        written = [key for key in ("command", "shell", "python") if getattr(raw, key) is not UNSET]
        if not written and not any((*keys, key) in desk.bad for key in ("command", "shell", "python", "tasks")):
            desk.report(keys, "needs command, shell or python: what to run")
        for key in written[1:]:
            desk.report((*keys, key), "only one of command, shell and python may be written")

    def _trigger(self, raw: RawJob, zone: str, catch_up: CatchUp, keys: Keys, desk: Desk) -> Trigger | None:
        """At most one of cron, every and at."""
        written = [key for key in ("cron", "every", "at") if getattr(raw, key) is not UNSET]
        for key in written[1:]:
            desk.report((*keys, key), f"only one of cron, every and at may be written; {written[0]} is there already")
        if raw.cron is not UNSET:
            boot = raw.cron.strip().lower() == "@reboot"
            return self.share(Boot()) if boot else self.share(Cron(self.share(raw.cron)))
        if raw.every is not UNSET:
            return self.share(Every(duration((*keys, "every"), raw.every, EVERY_S_MIN, EVERY_S_MIN, desk)))
        if raw.at is not UNSET:
            return self._once(raw.at, zone, catch_up, (*keys, "at"), desk)
        return None

    def _once(self, at: datetime, zone: str, catch_up: CatchUp, keys: Keys, desk: Desk) -> At | None:
        """The instant in UTC. A local date-time is read in the job's zone, the first of two where it comes twice."""
        try:
            instant = (at if at.tzinfo else at.replace(tzinfo=zones.zone(zone))).astimezone(UTC)
            local = instant.astimezone(zones.zone(zone)).replace(tzinfo=None)
        except (OverflowError, TriggerError):
            desk.report(keys, "is beyond the calendar")
            return None
        if not YEAR_MIN <= instant.year <= YEAR_MAX:
            desk.report(keys, f"must be in the years {YEAR_MIN} to {YEAR_MAX}, got {at}")
            return None
        if not at.tzinfo and local != at:
            desk.warn(keys, f"{at} does not exist in {zone} (the clocks go forward); fires at {local}")
        if instant <= self.now:
            missed = "" if catch_up is CatchUp.NONE else ", unless it was missed while no daemon ran (catch_up)"
            desk.warn(keys, f"{at} is in the past; the job does not fire by itself{missed}")
        return At(instant)

    def _cron(self, job: Job, keys: Keys, desk: Desk) -> None:
        """An expression that can be read and fires some day."""
        assert isinstance(job.trigger, Cron), job
        key = (job.trigger.expression, job.timezone)
        wrong = self._crons.get(key)
        if wrong is None:
            wrong = ""
            try:
                build(job)
            except TriggerError as error:
                wrong = str(error)
            if (
                "H" not in job.trigger.expression.upper()
            ):  # H is another time for each name, and one of them may be none
                self._crons[key] = wrong
        if wrong:
            desk.report(keys, wrong)

    def _oddities(self, job: Job, raw: RawJob, keys: Keys, desk: Desk) -> None:
        """What is legal but probably not meant."""
        if isinstance(job.trigger, Every) and job.jitter_s > job.trigger.period_s:
            desk.warn((*keys, "jitter"), "is longer than every, which limits it: fires never overtake each other")
        if raw.timezone is not UNSET and isinstance(job.trigger, Boot):
            desk.warn((*keys, "timezone"), "has no meaning for @reboot")
        if raw.catch_up is CatchUp.ALL and job.overlap is Overlap.SKIP:
            overlap = (
                'overlap = "skip", the default, lets one of them run; write overlap = "queue" for one after another'
            )
            desk.warn((*keys, "catch_up"), f"makes up for all fires that were missed, at once, and {overlap}")
        if raw.after is not UNSET and len(job.after) < len(raw.after):
            desk.warn((*keys, "after"), "names a job twice")


def is_zone(name: str) -> bool:
    """Whether the system knows this zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return name == "UTC"
    return True


def retries(raw: RawRetries, base: Retries, keys: Keys, desk: Desk) -> Retries:
    """The defaults' retries with what is written over them."""
    fields: dict[str, Any] = {}
    for key in ("max", "factor", "jitter", "on_exit_codes"):
        value = getattr(raw, key)
        if value is not UNSET:
            fields[key] = value
    if raw.delay is not UNSET:
        fields["delay_s"] = duration((*keys, "delay"), raw.delay, 0.0, base.delay_s, desk)
    if raw.max_delay is not UNSET:
        fields["max_delay_s"] = duration((*keys, "max_delay"), raw.max_delay, 0.0, base.max_delay_s, desk)
    made = replace(base, **fields)
    if raw.delay is not UNSET and made.delay_s > made.max_delay_s:
        desk.warn((*keys, "delay"), "is longer than max_delay, which wins")
    return made


def ping(raw: RawPing, keys: Keys, desk: Desk) -> Ping:
    """URLs; what is not written is "", which is none."""
    fields: dict[str, str] = {}
    for key in ("start", "success", "failure"):
        written = getattr(raw, key)
        if written is not UNSET:
            desk.take((*keys, key), rules.url, written, None)
            fields[key] = written
    return Ping(**fields)
