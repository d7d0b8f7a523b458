"""Calendar files (.ics, RFC 5545) as spans of time. The library that knows repeating events is imported where a file is
read and nowhere else: it takes 70 ms and 5 MB. Reads no clock and opens no file."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from tidegate.settings.problem import quoted
from tidegate.triggers.zones import zone

ICS_BYTES_MAX: Final = 2 * 1024 * 1024  # a country's holidays for ten years take 0.1 MB
EVENTS_MAX: Final = 5000
RULES_MAX: Final = 200  # repeating events; each is worked out day by day
SPANS_MAX: Final = 20_000  # after what overlaps is one
YEARS_BEFORE: Final = 1
YEARS_AHEAD: Final = 5
TOO_OFTEN: Final = ("SECONDLY", "MINUTELY", "HOURLY")
TOO_FINE: Final = ("BYSECOND", "BYMINUTE", "BYHOUR")
# What icalendar, dateutil and recurring-ical-events raise for files that are none, found by feeding them such.
BROKEN: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError),
    OSError,  # zoneinfo, of a zone named like a folder
)

Span = tuple[datetime, datetime]


def spans_of(data: bytes, timezone: str, now: datetime) -> tuple[Span, ...]:
    """When the events of a file take place, from the last calendar year on until five years after this one.

    Aware, UTC, rising, apart. All-day events and times without a zone are read in `timezone`. Raises ValueError with a
    sentence where the file is broken or too much.
    """
    if len(data) > ICS_BYTES_MAX:
        raise ValueError(f"is larger than {ICS_BYTES_MAX // 1024**2} MiB")
    try:
        import recurring_ical_events
    except ImportError:
        raise ValueError("needs the extra ics to be read: pip install 'tidegate[ics]'") from None
    calendars = parsed(data)
    place = zone(timezone)
    found: list[Span] = []
    for calendar in calendars:
        try:
            query = recurring_ical_events.of(calendar)
            for year in range(now.year - YEARS_BEFORE, now.year + YEARS_AHEAD + 1):
                begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
                found += [span for event in query.between(begin, end) if (span := span_of(event, place))]
                found = merged(found)
                if len(found) > SPANS_MAX:
                    raise ValueError(f"has more than {SPANS_MAX:,} times in {YEARS_BEFORE + YEARS_AHEAD + 1} years")
        except BROKEN as error:
            raise ValueError(f"cannot be understood: {reason(error)}") from None
    return tuple(found)


def parsed(data: bytes) -> list[Any]:
    """The calendars of a file, each event of them readable. Raises ValueError."""
    import icalendar

    try:
        calendars = icalendar.Calendar.from_ical(data, multiple=True)
    except BROKEN as error:
        raise ValueError(f"is no calendar file: {reason(error)}") from None
    if not calendars or any(calendar.name != "VCALENDAR" for calendar in calendars):
        raise ValueError("is no calendar file: it holds no VCALENDAR")
    events = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    if len(events) > EVENTS_MAX:
        raise ValueError(f"has {len(events):,} events, and {EVENTS_MAX:,} are the limit")
    rules = [(event, rule) for event in events for rule in rules_of(event)]
    if len(rules) > RULES_MAX:
        raise ValueError(f"has {len(rules):,} repeating events, and {RULES_MAX:,} are the limit")
    for number, event in enumerate(events, 1):
        if event.errors:
            key, wrong = event.errors[0]
            raise ValueError(f"event {number} {titled(event)}: {key or 'line'}: {quoted(str(wrong))}")
        if "DTSTART" not in event:
            raise ValueError(f"event {number} {titled(event)} has no DTSTART")
        if backwards(event):
            raise ValueError(f"event {number} {titled(event)} ends before it begins")
    for event, rule in rules:
        if any(not isinstance(each, int) or each < 1 for each in rule.get("INTERVAL", [])):
            raise ValueError(f"event {titled(event)}: INTERVAL must be at least 1")  # dateutil would look for ever
        often = [str(each) for each in rule.get("FREQ", [])]
        if any(each in TOO_OFTEN for each in often) or any(key in rule for key in TOO_FINE):
            raise ValueError(f"event {titled(event)} repeats more than once a day: use cron for such windows")
    return list(calendars)


def rules_of(event: Any) -> list[Any]:
    """The RRULEs of an event: none, one, or several."""
    rule = event.get("RRULE")
    return [] if rule is None else rule if isinstance(rule, list) else [rule]


def backwards(event: Any) -> bool:
    """Whether an event has its ends the wrong way round, or a day for one and a time for the other."""
    if "DTEND" not in event:
        return False
    begin, end = getattr(event["DTSTART"], "dt", None), getattr(event["DTEND"], "dt", None)
    if not isinstance(begin, date) or not isinstance(end, date):
        return True  # written twice
    if isinstance(begin, datetime) is not isinstance(end, datetime):
        return True
    place = zone("UTC")
    return instant(end, place) < instant(begin, place)


def titled(event: Any) -> str:
    """The event as its owner knows it."""
    return quoted(str(event.get("SUMMARY", event.get("UID", ""))))


def span_of(event: Any, place: ZoneInfo) -> Span | None:
    """From when until when one occurrence takes place; None for one that counts for nothing."""
    begin = event["DTSTART"].dt
    end = event["DTEND"].dt if "DTEND" in event else begin
    all_day = not isinstance(begin, datetime)
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return None
    if str(event.get("TRANSP", "")).upper() == "TRANSPARENT" and not all_day:
        return None
    if all_day and end <= begin:
        end = begin + timedelta(days=1)
    since, until = instant(begin, place), instant(end, place)
    return (since, until) if since < until else None


def instant(moment: date | datetime, place: ZoneInfo) -> datetime:
    """Whole seconds in UTC; what names no zone is in `place`."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=place)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=place)
    return moment.astimezone(UTC).replace(microsecond=0)


def merged(spans: list[Span]) -> list[Span]:
    """Rising, and one where they touch."""
    made: list[Span] = []
    for begin, end in sorted(spans):
        if made and begin <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], end))
        else:
            made.append((begin, end))
    return made


def reason(error: Exception) -> str:
    """What the library said, on one line."""
    return quoted(str(error) or type(error).__name__)
