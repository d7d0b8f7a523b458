"""[calendars]: windows that can be read and open some day. Reads the .ics files that they name, and no clock."""

from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import UNSET

from tidegate.model.plan import Calendar
from tidegate.settings import rules
from tidegate.settings.desk import Desk
from tidegate.settings.ics import YEARS_AHEAD, YEARS_BEFORE, spans_of
from tidegate.settings.problem import Keys, quoted
from tidegate.settings.raw import RawMainFile
from tidegate.settings.raw_daemon import RawCalendar
from tidegate.settings.resolve import Resolver
from tidegate.settings.source import Unusable, read_bytes
from tidegate.triggers.calendar import build_window
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
        fields["spans"] = events(fields["file"], fields["timezone"], resolver.now, (*keys, "file"), desk)
    parts = ("cron", "dates", "file")
    if all(getattr(raw, key) is UNSET and (*keys, key) not in desk.bad for key in parts):
        desk.report(keys, "needs cron, dates or file: when it is open")
    made = Calendar(**fields)
    if any(fields.get(part) for part in ("cron", "dates", "spans")):
        check_opens(made, resolver.now, keys, desk)
    return made


def check_opens(made: Calendar, now: datetime, keys: Keys, desk: Desk) -> None:
    """Report a window that never opens, warn of one that does not open any more."""
    window = build_window(made)
    if window.open_at(now) or window.next_change(now) is not None:
        return
    if made.dates or made.spans:
        desk.warn(keys, "does not open any more: all its dates are past")
    else:
        desk.report((*keys, "cron"), f"never opens: these minutes do not exist in {made.timezone}")


def events(path: str, timezone: str, now: datetime, keys: Keys, desk: Desk) -> tuple[tuple[datetime, datetime], ...]:
    """What an .ics file says, () where it is refused."""
    try:
        spans = spans_of(read_bytes(Path(path)), timezone, now)
    except Unusable as error:
        desk.report(keys, f"{error.message}: {path}")
        return ()
    except ValueError as error:
        desk.report(keys, f"{path} {error}")
        return ()
    if not spans:
        desk.warn(keys, f"{path} has no event from {now.year - YEARS_BEFORE} to {now.year + YEARS_AHEAD}")
    return spans


def cron(expression: str) -> bool:
    """An expression of 5 fields that matches some day."""
    if len(expression.split()) == 6:
        raise ValueError("a window has no seconds: write 5 fields, the minutes during which it is open")
    if expression.strip().startswith("@"):
        raise ValueError(
            f'must be the minutes during which it is open, such as "* 9-17 * * mon-fri", got {quoted(expression)}'
        )
    if any(term.startswith("h") for field in expression.lower().split() for term in field.split(",")):
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
