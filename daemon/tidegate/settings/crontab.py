"""Reads crontabs as cron does: text to lines, with the variables that hold for each and the comments above it. Pure.

Two layouts: a user's own crontab, and those of the system (/etc/crontab, /etc/cron.d), which name a user in each line.
Changes nothing and judges no command; what cron would refuse is told with its line.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from tidegate.model.limits import ARG_BYTES_MAX
from tidegate.model.text import escape
from tidegate.settings.cron_rules import NICKNAMES, CronRefusal, Dialect, Fields, read_fields
from tidegate.settings.problem import hint

BLANKS: Final = " \t"
FIELD_CHARS_MAX: Final = 500  # all 60 minutes are 170
COMMAND_BYTES_MAX: Final = 998  # Debian's crontab(1) refuses a longer command
DRAWN: Final = re.compile(r"(?:^|,)(\d*)~(\d*)(?=,|/|$)")  # cronie: a value drawn when the crontab is read
DRAWN_HIGH: Final = (59, 23, 28, 12, 6)
DRAWN_LOW: Final = (0, 0, 1, 1, 0)
REBOOT: Final = "@reboot"
BY_CRON: Final = ("cron refuses", "cron knows", "cron expects")  # how the sentences begin of what cron itself refuses


class Layout(StrEnum):
    """Which fields a line has."""

    USER = "user"
    SYSTEM = "system"
    ANACRON = "anacron"


class Entry(Struct, frozen=True):
    """One line that starts something."""

    line: int
    text: str  # as written
    above: tuple[str, ...]  # all lines since the entry before, as written: comments, blank ones, variables
    when: str  # as tidegate is to be told: five fields or an @name
    fields: Fields | None  # None: @reboot, or a time that is drawn
    user: str | None
    command: str  # as written, with its percent signs
    env: dict[str, str]  # set by the crontab so far
    notes: tuple[str, ...] = ()
    delay_min: int = 0  # anacron's delay
    period_days: int = 0  # anacron's period; 0: this is no line of an anacrontab
    identifier: str = ""  # anacron's name of the job


class Refused(Struct, frozen=True):
    """One line that is taken over as a comment only, and why."""

    line: int
    text: str
    above: tuple[str, ...]
    message: str


class Crontab(Struct, frozen=True):
    """A whole file."""

    layout: Layout
    items: tuple[Entry | Refused, ...]
    below: tuple[str, ...]  # what stands after the last of them
    notes: tuple[str, ...] = ()  # about the file


def read_crontab(text: str, layout: Layout, dialect: Dialect) -> Crontab:
    """Every line of a crontab. Nothing is raised: what cannot be read is Refused."""
    lines = text.split("\n")
    notes = []
    if lines[-1]:
        notes.append("the last line has no newline at its end; Debian's cron ignores such a file as a whole")
    else:
        lines.pop()
    items: list[Entry | Refused] = []
    above: list[str] = []
    env: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        bare = line.lstrip(BLANKS)
        if not bare.strip(BLANKS + "\r") or bare[0] == "#":
            above.append(line)
            continue
        setting = read_setting(bare.removesuffix("\r"), dialect)
        if setting:
            env = env | {setting[0]: setting[1]}
            above.append(line)
            continue
        try:
            items.append(_entry(number, line, tuple(above), layout, dialect, env))
        except CronRefusal as refusal:
            items.append(Refused(number, line, tuple(above), str(refusal)))
        above = []
    refused = [item.message for item in items if isinstance(item, Refused)]
    if dialect is Dialect.DEBIAN and any(message.startswith(BY_CRON) for message in refused):
        notes.append("Debian's cron ignores a file with a line that it refuses as a whole")
    return Crontab(layout, tuple(items), tuple(above), tuple(notes))


def read_setting(text: str, dialect: Dialect = Dialect.DEBIAN) -> tuple[str, str] | None:
    """load_env(): name and value of `name = value`, either of them quoted or not; None where it is nothing like it."""
    name, rest = _part(text, stop_at_equals=True)
    if name is None:
        return None
    rest = rest.lstrip()
    if not rest.startswith("="):
        return None
    rest = rest[1:].lstrip()
    if not rest:
        return (name, "") if dialect is Dialect.CRONIE else None
    if rest[0] not in "'\"":
        return name, rest.rstrip()
    value, after = _part(rest, stop_at_equals=False)
    return (name, value) if value is not None and not after.strip() else None


def _part(text: str, stop_at_equals: bool) -> tuple[str | None, str]:
    """A name or a quoted value at the start of a text, and what follows it; None where its quote is not closed."""
    if text[:1] and text[0] in "'\"":
        end = text.find(text[0], 1)
        if end < 0 or (stop_at_equals and "=" in text[1:end]):
            return None, text
        return text[1:end], text[end + 1 :]
    end = 0
    while end < len(text) and not text[end].isspace() and text[end] != "=":
        end += 1
    return text[:end], text[end:]


def _entry(
    number: int, line: str, above: tuple[str, ...], layout: Layout, dialect: Dialect, env: dict[str, str]
) -> Entry:
    """load_entry(). Raises CronRefusal."""
    notes: list[str] = []
    rest = line.lstrip(BLANKS)
    if "\0" in rest:
        raise CronRefusal("the line holds a NUL")
    if len(rest) > ARG_BYTES_MAX:
        raise CronRefusal(f"the line is longer than {ARG_BYTES_MAX // 1024} KiB, which is more than a command can have")
    if rest.endswith("\r"):
        rest = rest.rstrip("\r")
        notes.append("the line ends with a carriage return, which cron hands to the shell; it is left out here")
    if rest.startswith("-") and dialect is Dialect.CRONIE:
        rest = rest[1:].lstrip(BLANKS)
        notes.append('the "-" in front keeps cronie from logging the start; tidegate accounts for each run')
    if rest.startswith("@"):
        when, fields, rest = _nickname(rest)
    else:
        when, fields, rest = _five(rest, dialect, notes)
    user = None
    if layout is Layout.SYSTEM:
        user, rest = _word(rest)
        if not user:
            raise CronRefusal("there is no user and no command")
    elif rest.startswith("*"):
        raise CronRefusal("cron refuses a command that begins with *: are there six fields?")
    if not rest.strip():
        raise CronRefusal("there is no command" + (" behind the user" if user else ""))
    if dialect is Dialect.DEBIAN and len(rest.encode("utf-8", "surrogatepass")) > COMMAND_BYTES_MAX:
        notes.append(f"Debian's cron refuses a command of more than {COMMAND_BYTES_MAX} bytes; this one is taken over")
    return Entry(number, line, above, when, fields, user, rest, env, tuple(notes))


def _word(text: str) -> tuple[str, str]:
    """The text up to the next blank, and what follows the blanks."""
    end = 0
    while end < len(text) and text[end] not in BLANKS:
        end += 1
    return text[:end], text[end:].lstrip(BLANKS)


def _nickname(text: str) -> tuple[str, Fields | None, str]:
    name, rest = _word(text)
    if name == REBOOT:
        return name, None, rest
    if name not in NICKNAMES:
        near = hint(name.lower(), [*NICKNAMES, REBOOT])
        raise CronRefusal(f'cron knows no "{escape(name[:40])}"{near}')
    return name, read_fields(NICKNAMES[name].split(), Dialect.DEBIAN), rest


def _five(rest: str, dialect: Dialect, notes: list[str]) -> tuple[str, Fields | None, str]:
    """The five fields as tidegate is told them, what they match, and the rest of the line."""
    texts = []
    for _ in range(5):
        text, rest = _word(rest)
        if not text:
            raise CronRefusal("cron expects five fields and a command")
        if len(text) > FIELD_CHARS_MAX:
            raise CronRefusal(f"tidegate takes no time field of more than {FIELD_CHARS_MAX} characters")
        texts.append(text)
    if dialect is Dialect.CRONIE and any("~" in text for text in texts):
        notes.append("cronie draws a value for ~ whenever it reads the file; here H stands for one that stays the same")
        return " ".join(_spread(index, text) for index, text in enumerate(texts)), None, rest
    fields = read_fields(texts, dialect)
    if not fields.ignored:
        return " ".join(texts), fields, rest
    skipped = ", ".join(f'"{escape(each[:40])}"' for each in fields.ignored)
    notes.append(f"cron skips over {skipped} in the time fields; so the job has {' '.join(fields.plain)!r}")
    return " ".join(fields.plain), fields, rest


def _spread(index: int, text: str) -> str:
    """A field of cronie's with ~ for a drawn value, with H for it."""

    def spread(found: re.Match[str]) -> str:
        low, high = found[1] or str(DRAWN_LOW[index]), found[2] or str(DRAWN_HIGH[index])
        return ("," if found[0].startswith(",") else "") + f"H({low}-{high})"

    return DRAWN.sub(spread, text)
