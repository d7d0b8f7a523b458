"""[calendars]: windows that can be read and open some day. Reads the .ics files that they name, and no clock."""

from datetime import date
from typing import Any, Final

from msgspec import UNSET

from tidegate.model.plan import Calendar
from tidegate.settings import rules
from tidegate.settings.desk import Desk
from tidegate.settings.problem import Keys, quoted
from tidegate.settings.raw import RawMainFile
from tidegate.settings.raw_daemon import RawCalendar
from tidegate.settings.resolve import Resolver
from tidegate.triggers.cron import parse

DATES_MAX: Final = 10_000  # of one calendar
ALL_DAYS: Final = (date.min, date.min)


def calendars(raw: RawMainFile, zone: str, resolver: Resolver, desk: Desk) -> dict[str, Calendar]:
    """[calendars] by name."""
    found = {}
    for name, written in raw.calendars.items():
        keys: Keys = ("calendars", name)
        desk.take(keys, rules.calendar_name, name, None)
        found[name] = calendar(written, zone, resolver, keys, desk)
    return found


def calendar(raw: RawCalendar, zone: str, resolver: Resolver, keys: Keys, desk: Desk) -> Calendar:
    """One calendar."""
    fields: dict[str, Any] = {"timezone": zone}
    if raw.timezone is not UNSET:
        fields["timezone"] = resolver.zone(raw.timezone, zone, (*keys, "timezone"), desk)
    if raw.cron is not UNSET:
        fields["cron"] = raw.cron if desk.take((*keys, "cron"), cron, raw.cron, None) else ""
    if raw.dates is not UNSET:
        fields["dates"] = dates(raw.dates, (*keys, "dates"), desk)
    if raw.file is not UNSET:
        desk.take((*keys, "file"), rules.env_file, raw.file, None)
        fields["file"] = str(desk.folder / raw.file)
    parts = ("cron", "dates", "file")
    if all(getattr(raw, key) is UNSET and (*keys, key) not in desk.bad for key in parts):
        desk.report(keys, "needs cron, dates or file: when it is open")
    return Calendar(**fields)


def cron(expression: str) -> bool:
    """An expression of 5 fields that matches some day."""
    if len(expression.split()) == 6:
        raise ValueError("a window has no seconds: write 5 fields, the minutes during which it is open")
    if expression.strip().startswith("@"):
        raise ValueError(
            f'must be the minutes during which it is open, such as "* 9-17 * * mon-fri", got {quoted(expression)}'
        )
    if "h" in expression.lower().split()[0:1]:
        raise ValueError("H spreads jobs by name; a window is what is written")
    parse(expression, "")
    return True


def dates(written: tuple[str, ...], keys: Keys, desk: Desk) -> tuple[tuple[date, date], ...]:
    """First and last days, rising."""
    if len(written) > DATES_MAX:
        desk.report(keys, f"at most {DATES_MAX:,} dates, got {len(written):,}")
        return ()
    found = [desk.take((*keys, index), days, each, ALL_DAYS) for index, each in enumerate(written)]
    return tuple(sorted(set(found) - {ALL_DAYS}))


def days(text: str) -> tuple[date, date]:
    """First and last day of "2026-12-25" or "2026-12-27/2026-12-31"."""
    first, slash, last = text.partition("/")
    try:
        if not rules.DATE.fullmatch(first) or (slash and not rules.DATE.fullmatch(last)):
            raise ValueError
        begin = date.fromisoformat(first)
        end = date.fromisoformat(last) if slash else begin
    except ValueError:
        raise ValueError(
            f'must be a date such as "2026-12-25" or a range such as "2026-12-27/2026-12-31", got {quoted(text)}'
        ) from None
    if end < begin:
        raise ValueError(f"the range must not end before it begins, got {quoted(text)}")
    if not 1970 <= begin.year <= end.year <= 9000:
        raise ValueError(f"the year must be 1970-9000, got {quoted(text)}")
    return begin, end
