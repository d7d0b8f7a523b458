"""From the lines of a crontab to jobs, as faithful as can be; what cannot be carried over becomes a note. Pure.

Faithful means as cron does it, also where tidegate would do better by itself: a fire during a run starts a second one,
nothing missed is made up for, nothing is ended for taking long, and what a job leaves running is left alone.
"""

import re
import shlex
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from tidegate.model.limits import NAME_CHARS_MAX
from tidegate.model.text import escape
from tidegate.settings.anacrontab import OWN
from tidegate.settings.cron_rules import Dialect
from tidegate.settings.crontab import REBOOT, Crontab, Entry, Layout, Refused
from tidegate.settings.rules import ENV_NAME

SH: Final = "/bin/sh"
POSIX_SHELLS: Final = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh")
CRON_PATH: Final = "/usr/bin:/bin"
NEVER: Final = "365d"  # cron lets a job run for ever
DAYS_PER_MONTH_MAX: Final = 31
NAMED_CHARS_MAX: Final = 1000  # of a command that are looked at for a name
DESCRIPTION_CHARS_MAX: Final = 160
NO_DESCRIPTION: Final = re.compile(
    r"^\s*(?:m\s+h\s|period\s|[-=#*.+|/\\~_\s]*$|(?:[\d*][\d*/,-]*\s+){3}|@\w+\s|\w+\s*=)"
)
LIST_ENDS: Final = re.compile(r"\s*(?:&&|\|\||;|\||&)\s*")
ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=.*", re.S)
TEST: Final = re.compile(r"cd|test|\[\[?|set|export|umask|ulimit|sleep|\.|source|true|:|command")
WRAPPER: Final = re.compile(
    r"nice|ionice|nohup|timeout|flock|sudo|env|exec|chronic|cronic|setsid|chrt|time|run-one|stdbuf|systemd-cat"
    r"|if|then|do|while|for|!"
)
INTERPRETERS: Final = re.compile(r"(?:ba|da|z|k)?sh|python[\d.]*|perl|php[\d.]*|ruby|node|java|Rscript")
SUFFIXES: Final = re.compile(r"\.(?:sh|bash|py|pl|rb|php|js|R|jar)$")
DELIMITER: Final = "END_OF_INPUT"


class Drafted(Struct, frozen=True):
    """One line as a job: the keys in the order in which they are to be written."""

    name: str
    entry: Entry
    keys: dict[str, object]
    notes: tuple[str, ...]
    zone_name: str  # in which cron would judge the time
    clock_zone: bool = False  # cronie's CRON_TZ: no rule for clock changes holds


class Choice(Struct, frozen=True):
    """What the person who imports says."""

    dialect: Dialect = Dialect.DEBIAN
    zone_name: str = "UTC"  # of the machine that cron ran on
    user: str | None = None  # whose crontab it is
    mail_hook: str | None = None


def draft(crontab: Crontab, choice: Choice, taken: set[str]) -> list[Drafted | Refused]:
    """Each line as a job with a name of its own, which is added to `taken`; or why it is not."""
    found: list[Drafted | Refused] = []
    for item in crontab.items:
        if isinstance(item, Refused):
            found.append(item)
            continue
        name = _free(item.identifier or name_of(item.command), taken)
        taken.add(name)
        found.append(_draft(name, item, crontab.layout, choice))
    return found


def _draft(name: str, entry: Entry, layout: Layout, choice: Choice) -> Drafted:
    notes = list(entry.notes)
    zone_name, clock_zone = choice.zone_name, False
    foreign = entry.env.get("CRON_TZ")
    if foreign is not None and layout is not Layout.ANACRON:
        if choice.dialect is Dialect.CRONIE:
            zone_name, clock_zone = foreign or zone_name, bool(foreign)
        else:
            notes.append(
                f"CRON_TZ={escape(foreign[:64])}: Debian's cron does not know it and fires by its own zone, "
                f"{zone_name}; if this was written for cronie, import it with --dialect cronie"
            )
    keys: dict[str, object] = {}
    description = description_of(entry.above)
    if description:
        keys["description"] = description
    keys |= _what(entry, layout, choice.dialect, notes)
    keys |= _when(entry, notes)
    if "every" not in keys and entry.when != REBOOT:
        keys["timezone"] = zone_name  # also where it is the daemon's own: what was proven is to hold wherever it is put
    keys |= _jitter(entry, notes)
    user = entry.user or choice.user
    if user:
        keys["user"] = user
    keys |= _surroundings(entry, layout, notes)
    keys |= _faithful(entry)
    _mail(entry, name, choice, keys, notes)
    _remarks(entry, notes)
    return Drafted(name, entry, keys, tuple(notes), zone_name, clock_zone)


# --- names and descriptions ----------------------------------------------------------------------------------


def name_of(command: str) -> str:
    """A name after the program that does the work: the first one that is neither a test nor a wrapper."""
    words: list[str] = []
    for part in LIST_ENDS.split(command[:NAMED_CHARS_MAX].split("%")[0]):
        words = _program(part.split())
        if words:
            break
    word = (words or command[:NAMED_CHARS_MAX].split() or ["job"])[0]
    if words and words[0].rpartition("/")[2] == "run-parts":
        word = next((each for each in words[1:] if each.startswith("/")), word)
    elif INTERPRETERS.fullmatch(word.rpartition("/")[2]):
        word = _script(words)
    return cleaned(SUFFIXES.sub("", PurePosixPath(word).name)) or "job"


def _program(words: list[str]) -> list[str]:
    """The words from the program on, wrappers with their options left out; nothing where it is a test."""
    wrapped = False
    for index, word in enumerate(words):
        bare = word.strip("\"'`({;)}")
        plain = bare.rpartition("/")[2]
        if WRAPPER.fullmatch(plain) or ASSIGNMENT.fullmatch(bare) or not bare:
            wrapped = wrapped or WRAPPER.fullmatch(plain) is not None
            continue
        if wrapped and (bare.startswith("-") or re.fullmatch(r"[\d.]+[smhd]?", bare) or "lock" in plain):
            continue
        if TEST.fullmatch(plain):
            return []
        return [bare, *words[index + 1 :]]
    return []


def _script(words: list[str]) -> str:
    """What an interpreter runs: its first argument that is no option; `-m module` too."""
    rest = iter(words[1:])
    for word in rest:
        bare = word.strip("\"'")
        if bare in ("-m", "-jar"):
            return next(rest, words[0])
        if bare and not bare.startswith("-"):
            return bare if "/" in bare or "." in bare else words[0]
        if bare in ("-c", "-e", "-r"):
            break
    return words[0]


def cleaned(text: str) -> str:
    """What of a text may stand in a job's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[: NAME_CHARS_MAX - 8]


def _free(wanted: str, taken: set[str]) -> str:
    wanted = cleaned(wanted) or "job"
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def description_of(above: tuple[str, ...]) -> str:
    """One or two lines of comment right above an entry, if they read like a sentence; all text stays as comment too."""
    block: list[str] = []
    for line in reversed(above):
        if not line.strip().startswith("#"):
            break
        block.insert(0, line.strip().lstrip("#").strip())
    text = " ".join(block)
    if (
        not 1 <= len(block) <= 2
        or len(text) > DESCRIPTION_CHARS_MAX
        or any(NO_DESCRIPTION.match(line) for line in block)
    ):
        return ""
    printable = escape(text) == text
    return text if printable and any(map(str.isalpha, text)) else ""


# --- what is run -----------------------------------------------------------------------------------------------


def split_percent(command: str, dialect: Dialect = Dialect.DEBIAN) -> tuple[str, str | None]:
    """The command as the shell gets it, and what it reads from stdin (None: nothing): child_process() of do_command.c.

    Before the first % a backslash goes in front of % and, with Debian's cron, of a backslash; behind it in front of %.
    """
    escaped = "%\\" if dialect is Dialect.DEBIAN else "%"
    out: list[str] = []
    at = 0
    while at < len(command) and command[at] != "%":
        if command[at] == "\\" and at + 1 < len(command):
            at += 1
            out.append(command[at] if command[at] in escaped else "\\" + command[at])
        else:
            out.append(command[at])
        at += 1
    if at == len(command) or at + 1 == len(command):
        return "".join(out), None if at == len(command) else ""
    data = re.sub(r"(\\?)%", lambda found: "%" if found[1] else "\n", command[at + 1 :])
    return "".join(out), data if data.endswith("\n") else data + "\n"


def _what(entry: Entry, layout: Layout, dialect: Dialect, notes: list[str]) -> dict[str, object]:
    """`shell` or `command`."""
    shell = entry.env.get("SHELL", SH)
    anacron = layout is Layout.ANACRON
    command, data = (entry.command, None) if anacron else split_percent(entry.command, dialect)
    if not shell.startswith("/"):
        notes.append(f'SHELL={escape(shell[:40])}: cron needs the whole path and starts nothing; "{SH}" is used here')
        shell = SH
    if data:
        notes.append("cron hands the text behind % to stdin; here a here-document of the shell does")
        command = _with_input(command, data, shell)
        shell = shell if PurePosixPath(shell).name in POSIX_SHELLS else SH
    if shell == SH:
        return {"shell": command}
    return {"command": [shell, "-c", command]}


def _with_input(command: str, data: str, shell: str) -> str:
    """A script that gives the command its stdin. The line break before } ends a comment or & at the command's end."""
    delimiter = DELIMITER
    while delimiter in data:
        delimiter += "_"
    if PurePosixPath(shell).name in POSIX_SHELLS:
        return f"{{ {command}\n}} <<'{delimiter}'\n{data}{delimiter}"
    return f"exec {shlex.quote(shell)} -c {shlex.quote(command)} <<'{delimiter}'\n{data}{delimiter}"


# --- when ------------------------------------------------------------------------------------------------------


def _when(entry: Entry, notes: list[str]) -> dict[str, object]:
    if not entry.period_days:
        return {"cron": entry.when}
    days = entry.period_days
    month = "@monthly" in entry.text or days in (30, 31)
    span = "month" if month else ("day" if days == 1 else f"{days} days")
    chosen = f'"{entry.when}" is chosen here' if entry.when else "an interval is used, whose time of day is free"
    notes.append(f"anacron runs it once in each {span}, at no certain time; {chosen}")
    window = DAYS_PER_MONTH_MAX if month else days
    trigger = ("cron", entry.when) if entry.when else ("every", f"{days}d")
    return dict([trigger, ("catch_up_window", f"{window}d")])


def _jitter(entry: Entry, notes: list[str]) -> dict[str, object]:
    """RANDOM_DELAY of anacron and cronie: minutes."""
    delay = entry.env.get("RANDOM_DELAY", "").strip()
    if not delay or delay == "0":
        return {}
    if not (delay.isdecimal() and delay.isascii() and len(delay) < 5):
        notes.append(f'RANDOM_DELAY={escape(delay[:40])} is no number of minutes such as "45"; it is not used')
        return {}
    notes.append(f"RANDOM_DELAY={delay}: cron draws the delay anew; jitter spreads by the job's name and the time")
    return {"jitter": f"{delay}m"}


# --- around it -------------------------------------------------------------------------------------------------


def _surroundings(entry: Entry, layout: Layout, notes: list[str]) -> dict[str, object]:
    """env and cwd."""
    keys: dict[str, object] = {}
    env: dict[str, str] = {} if layout is Layout.ANACRON else {"PATH": CRON_PATH}
    for name, value in entry.env.items():
        if name in OWN or name == "CRON_TZ" or (name == "SHELL" and value == SH):
            continue
        if name in ("LOGNAME", "USER"):
            notes.append(f"{name}: cron does not let it be changed, or leaves it alone; it is that of the user here")
        elif not ENV_NAME.fullmatch(name) or name.startswith("TIDEGATE_") or "\0" in value:
            notes.append(f'the variable "{escape(name[:40])}" cannot be set for a job, and is left out')
        else:
            env[name] = value
    home = env.get("HOME", "")
    if home.startswith("/"):
        keys["cwd"] = home
    elif home:
        notes.append(f"HOME={escape(home[:40])} is no whole path; the job begins in its user's home")
    if env:
        keys["env"] = env
    return keys


def _faithful(entry: Entry) -> dict[str, object]:
    anacron = bool(entry.period_days)
    return {
        "overlap": "skip" if anacron else "allow",
        "catch_up": "last" if anacron else "none",
        "timeout": NEVER,
        "leftovers": "leave",
        "nice": 0,
    }


def _mail(entry: Entry, name: str, choice: Choice, keys: dict[str, object], notes: list[str]) -> None:
    """Cron mails whatever a job prints. Here output is kept for each run, and a hook may tell of failures."""
    to = entry.env.get("MAILTO")
    if to == "":
        return
    if choice.mail_hook:
        keys["on_failure"] = [choice.mail_hook]
    if to is not None:
        instead = (
            f"the hook {choice.mail_hook} tells of failures"
            if choice.mail_hook
            else "with --mail-hook failures are told"
        )
        notes.append(
            f"MAILTO={escape(to[:60])}: cron mails whatever it prints; here that is kept for each run "
            f"(tidegate logs {name}), and {instead}"
        )


def _remarks(entry: Entry, notes: list[str]) -> None:
    """What works, but not for the reason that one may think."""
    if re.search(r"(?:^|[\s/])run-parts\s", entry.command):
        notes.append("run-parts starts its scripts one after another as one job; a job for each would be told apart")
    if re.search(r"/anacron(?:\s|$)|\banacron start\b", entry.command):
        notes.append("it starts anacron: leave it out if the anacrontab is imported too")
    if entry.when == REBOOT and entry.command.rstrip().endswith("&"):
        notes.append("it goes on in the background, where nobody sees it end")
