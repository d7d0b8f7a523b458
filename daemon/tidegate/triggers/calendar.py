"""Calendars: whether one is open at an instant, and when that changes. Pure: no clock, no file.

Two layers, each the union of its parts. On the wall of the place: the minutes that a cron expression matches, and
whole days. In true time: that wall through the changes of offset, and the spans of an .ics file. A window goes by
what the clock on the wall shows: an hour that is skipped never opens it, one that comes twice opens it twice. (Debian's
rules for jobs at such hours are about not losing a fire; a window loses nothing.)
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final, Protocol

from tidegate.model.limits import HORIZON_YEARS
from tidegate.model.plan import Calendar
from tidegate.triggers.cron import parse
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.masks import DAY_S, EPOCH_ORDINAL, LAST_ORDINAL, CronFields, lowest, next_local
from tidegate.triggers.zones import EPOCH, FIRST_S, LAST_S, zone

HORIZON_S: Final = HORIZON_YEARS * 366 * DAY_S
NEAR_S: Final = 3 * DAY_S  # no offset differs from another by more than 26 h
STEP_S: Final = 2 * DAY_S  # no zone has two changes less than 4 days apart
MINUTES: Final = 1440
WHOLE_DAY: Final = (1 << MINUTES) - 1
TURNS_MAX: Final = 1000  # parts that take over from each other without a gap; then it is enough to look again

Span = tuple[int, int]  # from, until, in seconds


class Part(Protocol):
    """Something that is open at times, in seconds of one axis."""

    def open_at(self, second: int) -> bool:
        """Whether it is open during this second."""

    def next_change(self, second: int) -> int | None:
        """The first second after this one at which it is otherwise, None where it stays so."""


class Spans:
    """Rising spans that do not touch."""

    __slots__ = ("_edges",)

    def __init__(self, spans: Sequence[Span]) -> None:
        self._edges: list[int] = []  # open from the even ones, shut from the odd ones
        for begin, end in sorted(spans):
            if self._edges and begin <= self._edges[-1]:
                self._edges[-1] = max(self._edges[-1], end)
            elif end > begin:
                self._edges += (begin, end)

    def open_at(self, second: int) -> bool:
        return bisect_right(self._edges, second) % 2 == 1

    def next_change(self, second: int) -> int | None:
        index = bisect_right(self._edges, second)
        return self._edges[index] if index < len(self._edges) else None


class Minutes:
    """The minutes on the wall that a cron expression matches."""

    __slots__ = ("_fields", "_of_day")

    def __init__(self, fields: CronFields) -> None:
        self._fields = fields
        self._of_day = sum(fields.minutes << 60 * hour for hour in range(24) if fields.hours >> hour & 1)

    def open_at(self, second: int) -> bool:
        day, minute = divmod(second // 60, MINUTES)
        return bool(self._of_day >> minute & 1) and self._fields.days.next(day) == day

    def next_change(self, second: int) -> int | None:
        if not self.open_at(second):
            return next_local(self._fields, (second // 60 + 1) * 60)
        day, minute = divmod(second // 60, MINUTES)
        shut = ~self._of_day & WHOLE_DAY
        if shut >> minute:
            return day * DAY_S + (minute + lowest(shut >> minute)) * 60
        days = self._fields.days
        if shut:  # past midnight, if the next day matches too
            following = lowest(shut) * 60 if days.next(day + 1) == day + 1 else 0
            return (day + 1) * DAY_S + following
        found = self._next_unmatched(day + 1)
        return None if found is None else found * DAY_S

    def _next_unmatched(self, day: int) -> int | None:
        """The first day at or after `day` that does not match, both counted from 1970-01-01."""
        days = self._fields.days
        if days.always or day + EPOCH_ORDINAL > LAST_ORDINAL:
            return None
        start = date.fromordinal(day + EPOCH_ORDINAL)
        year, month, first = start.year, start.month, start.day
        for _ in range(HORIZON_YEARS * 12):
            length = (date(year + month // 12, month % 12 + 1, 1) - date(year, month, 1)).days
            unmatched = ~days.in_month(year, month) & ((2 << length) - 2) & -(1 << first)
            if unmatched:
                return date(year, month, lowest(unmatched)).toordinal() - EPOCH_ORDINAL
            year, month, first = year + month // 12, month % 12 + 1, 1
            if year >= date.max.year:
                return None
        return None


class Union:
    """Open while any part is."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def open_at(self, second: int) -> bool:
        return any(part.open_at(second) for part in self._parts)

    def next_change(self, second: int) -> int | None:
        """After TURNS_MAX parts that take over from each other this is a second at which to look again."""
        parts = [part for part in self._parts if part.open_at(second)]
        if not parts:
            return min((at for part in self._parts if (at := part.next_change(second)) is not None), default=None)
        for _ in range(TURNS_MAX):
            ends = [part.next_change(second) for part in parts]
            if None in ends:
                return None
            second = max(end for end in ends if end is not None)
            parts = [part for part in self._parts if part.open_at(second)]
            if not parts:
                break
        return second


class Wall:
    """What is open on the wall of a place, in true time."""

    __slots__ = ("_part", "_zone")

    def __init__(self, part: Part, zone_name: str) -> None:
        self._part = part
        self._zone = zone(zone_name)

    def open_at(self, second: int) -> bool:
        return self._part.open_at(second + self._offset(second))

    def next_change(self, second: int) -> int | None:
        state, until = self.open_at(second), min(second + HORIZON_S, LAST_S)
        while second < until:
            offset = self._offset(second)
            local = self._part.next_change(second + offset)
            at = until if local is None else min(local - offset, until)
            shift = self._next_shift(second, min(at, second + NEAR_S))
            if shift is not None:
                if self.open_at(shift) is not state:
                    return shift
                second = shift
            elif at <= second + NEAR_S:
                return at if at < until else None
            else:  # in between the wall shows times from now to then, whatever the offset: nothing changes
                second = max(second + NEAR_S, at - NEAR_S)
        return None

    def _offset(self, second: int) -> int:
        """In seconds, at an instant that datetime holds."""
        offset = datetime.fromtimestamp(min(max(second, FIRST_S), LAST_S), self._zone).utcoffset()
        assert offset is not None
        return offset.days * DAY_S + offset.seconds

    def _next_shift(self, after: int, until: int) -> int | None:
        """The first change of offset in (after, until], which are at most NEAR_S apart."""
        offset = self._offset(after)
        for low in range(after, until, STEP_S):
            high = min(low + STEP_S, until)
            if self._offset(high) != offset:
                while high - low > 1:
                    middle = (low + high) // 2
                    if self._offset(middle) == offset:
                        low = middle
                    else:
                        high = middle
                return high
        return None


class CalendarWindow:
    """A calendar: open while any of its parts is. Instants are aware; those handed out are in UTC."""

    __slots__ = ("_union",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self._union = Union(parts)

    def open_at(self, instant: datetime) -> bool:
        """Whether it is open."""
        return self._union.open_at(seconds(instant))

    def next_change(self, instant: datetime) -> datetime | None:
        """The first instant after this one at which it opens or shuts; None where it does not within HORIZON_YEARS."""
        second = seconds(instant)
        if not FIRST_S < second < LAST_S:
            return None
        at = self._union.next_change(second)
        return None if at is None or at - second > HORIZON_S else EPOCH + timedelta(seconds=at)


def build_window(calendar: Calendar) -> CalendarWindow:
    """The window of a calendar. Raises TriggerError where its expression or its zone is none."""
    wall: list[Part] = []
    if calendar.cron:
        fields = parse(calendar.cron, "")
        if fields.unit_s != 60:
            raise TriggerError("a window has no seconds: write 5 fields, the minutes during which it is open")
        wall.append(Minutes(fields))
    if calendar.dates:
        wall.append(Spans([(day_s(first), day_s(last) + DAY_S) for first, last in calendar.dates]))
    parts: list[Part] = [Wall(Union(wall), calendar.timezone)] if wall else []
    if calendar.spans:
        parts.append(Spans([(seconds(begin), seconds(end)) for begin, end in calendar.spans]))
    return CalendarWindow(parts)


def seconds(instant: datetime) -> int:
    """Whole seconds since the epoch, rounded down."""
    return (instant - EPOCH) // timedelta(seconds=1)


def day_s(day: date) -> int:
    """Midnight of a day, in seconds on the wall."""
    return (day.toordinal() - EPOCH_ORDINAL) * DAY_S
