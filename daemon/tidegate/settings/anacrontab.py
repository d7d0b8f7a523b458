"""Reads anacrontabs: lines with a period in days, a delay in minutes, a name and a command. Pure.

anacron knows days and no times: those follow from when it is started and from START_HOURS_RANGE. So the
time that a job gets here is a choice, and each job's notes say which.
"""

import re
from typing import Final

from tidegate.model.text import escape
from tidegate.settings.cron_rules import CronRefusal, Dialect
from tidegate.settings.crontab import BLANKS, Crontab, Entry, Layout, Refused, read_setting

PERIODS: Final = {"@daily": 1, "@weekly": 7, "@monthly": 31}
HOURS: Final = re.compile(r"(\d{1,2})-(\d{1,2})")
FIRST_HOUR: Final = 7  # Debian's anacron.timer: the first start of a day, at 7:30
PERIOD_DAYS_MAX: Final = 10_000
DELAY_MIN_MAX: Final = 24 * 60 - 1
OWN: Final = ("START_HOURS_RANGE", "RANDOM_DELAY", "NO_MAIL_OUTPUT", "PREFERRED_HOUR")


def read_anacrontab(text: str) -> Crontab:
    """Every line. Nothing is raised: what cannot be read is Refused."""
    items: list[Entry | Refused] = []
    above: list[str] = []
    env: dict[str, str] = {}
    for number, line in _joined(text):
        bare = line.strip(BLANKS + "\r")
        if not bare or bare[0] == "#":
            above.append(line)
            continue
        setting = read_setting(bare, Dialect.CRONIE)
        if setting:
            env = env | {setting[0]: setting[1]}
            above.append(line)
            continue
        try:
            items.append(_entry(number, line, tuple(above), env))
        except CronRefusal as refusal:
            items.append(Refused(number, line, tuple(above), str(refusal)))
        above = []
    return Crontab(Layout.ANACRON, tuple(items), tuple(above))


def _joined(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers; one that ends with a backslash goes on in the next."""
    found: list[tuple[int, str]] = []
    going_on = False
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        whole = line.removesuffix("\\")
        if going_on:
            found[-1] = (found[-1][0], found[-1][1] + whole)
        else:
            found.append((number, whole))
        going_on = whole != line
    return found


def _entry(number: int, line: str, above: tuple[str, ...], env: dict[str, str]) -> Entry:
    """Raises CronRefusal."""
    words = line.strip(BLANKS + "\r").split(None, 3)
    if len(words) < 4:
        raise CronRefusal("anacron expects a period in days, a delay in minutes, a name and a command")
    period, delay, identifier, command = words
    days = PERIODS.get(period, int(period) if period.isdecimal() and period.isascii() and len(period) < 6 else 0)
    if not 0 < days <= PERIOD_DAYS_MAX:
        raise CronRefusal(f'anacron expects a period in days, @daily, @weekly or @monthly, got "{escape(period[:40])}"')
    if not (delay.isdecimal() and delay.isascii()) or len(delay) > 4 or int(delay) > DELAY_MIN_MAX:
        raise CronRefusal(f'anacron expects a delay in minutes, up to {DELAY_MIN_MAX}, got "{escape(delay[:40])}"')
    if "/" in identifier or "\0" in line:
        raise CronRefusal("anacron takes no slash in a name" if "/" in identifier else "the line holds a NUL")
    notes: list[str] = []
    when = _when(period == "@monthly", days, int(delay), env, notes)
    return Entry(
        number, line, above, when, None, None, command, env, tuple(notes), int(delay), days, identifier
    )  # fmt: skip


def _when(monthly: bool, days: int, delay_min: int, env: dict[str, str], notes: list[str]) -> str:
    """A time of day that anacron might have chosen; "" where only an interval says it."""
    hour = FIRST_HOUR
    hours = env.get("START_HOURS_RANGE", "")
    found = HOURS.fullmatch(hours.strip())
    if found and int(found[1]) < int(found[2]) <= 24:
        hour = int(found[1])
        if delay_min // 60 + hour >= int(found[2]):
            notes.append(f"the delay of {delay_min} min leads beyond START_HOURS_RANGE={hours}")
    elif hours:
        notes.append(f'START_HOURS_RANGE={escape(hours[:40])} is no range of hours such as "3-22"; it is not used')
    minute, hour = delay_min % 60, min(hour + delay_min // 60, 23)
    if monthly or days in (30, 31):
        return f"{minute} {hour} 1 * *"
    if days == 1:
        return f"{minute} {hour} * * *"
    return f"{minute} {hour} * * 1" if days == 7 else ""
