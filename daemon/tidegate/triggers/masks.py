"""Local calendar times as bitmasks, and the nearest match in either direction. Knows no zone and no clock.

A local time is counted in seconds since 1970-01-01 00:00 on the wall of the place. Bit n of a mask stands for the value
n of its field. Two masks carry more than plain values:

- days of the month: bits 1-31; bit 0 is L (the last day), bit 32 is LW (the last Monday-to-Friday);
- days of the week: bits 0-6, Sunday first; bits 7-13 the last such weekday of the month; bits 14-48 the k-th such
  weekday, at 7 + 7·k + weekday.
"""

from calendar import monthrange
from datetime import date
from functools import lru_cache
from typing import Final

from msgspec import Struct

from tidegate.model.limits import HORIZON_YEARS

DAY_S: Final = 86_400
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
LAST_ORDINAL: Final = date.max.toordinal()
DOM_LAST: Final = 0
DOM_LAST_WEEKDAY: Final = 32
DOW_LAST: Final = 7
DOW_NTH: Final = 7  # + 7 × k, k from 1 to 5
ALL_MONTHS: Final = 0b1_1111_1111_1110
ALL_DOMS: Final = 0xFFFF_FFFE
ALL_DOWS: Final = 0b111_1111


def lowest(mask: int) -> int:
    """The number of the lowest bit that is set. The mask is not 0."""
    return (mask & -mask).bit_length() - 1


@lru_cache(maxsize=8192)
def month_kind(year: int, month: int) -> int:
    """One of 28: four times the weekday of the first (Sunday 0), plus the days beyond 28."""
    monday_first, length_days = monthrange(year, month)
    return (monday_first + 1) % 7 * 4 + length_days - 28


class Days:
    """Which dates match. Shared by all triggers with the same day fields: the months met are remembered here."""

    __slots__ = ("_masks", "always", "both", "doms", "dows", "months")

    def __init__(self, doms: int, months: int, dows: int, both: bool) -> None:
        """`both`: day of month and day of week must match (one of them begins with a star), else either."""
        self.doms = doms
        self.months = months
        self.dows = dows
        self.both = both
        dom_all, dow_all = doms & ALL_DOMS == ALL_DOMS, dows & ALL_DOWS == ALL_DOWS
        self.always = months == ALL_MONTHS and ((dom_all and dow_all) if both else (dom_all or dow_all))
        self._masks = [-1] * 28

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Days):
            return NotImplemented
        return self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def key(self) -> tuple[int, int, int, bool]:
        """What makes two of them equal."""
        return self.doms, self.months, self.dows, self.both

    def in_month(self, year: int, month: int) -> int:
        """The matching days of one month, as bits 1-31."""
        if not self.months >> month & 1:
            return 0
        kind = month_kind(year, month)
        mask = self._masks[kind]
        if mask < 0:
            mask = self._masks[kind] = self._of_kind(kind)
        return mask

    def _of_kind(self, kind: int) -> int:
        first_dow, length_days = kind // 4, kind % 4 + 28
        by_dom = self.doms & ALL_DOMS & ((1 << length_days + 1) - 1)
        if self.doms >> DOM_LAST & 1:
            by_dom |= 1 << length_days
        if self.doms >> DOM_LAST_WEEKDAY & 1:
            last_dow = (first_dow + length_days - 1) % 7
            by_dom |= 1 << length_days - {6: 1, 0: 2}.get(last_dow, 0)
        by_dow = 0
        for day in range(1, length_days + 1):
            dow, nth = (first_dow + day - 1) % 7, (day + 6) // 7
            wanted = self.dows >> dow | self.dows >> DOW_NTH + 7 * nth + dow
            if day + 7 > length_days:
                wanted |= self.dows >> DOW_LAST + dow
            by_dow |= (wanted & 1) << day
        return by_dom & by_dow if self.both else by_dom | by_dow

    def ever(self) -> bool:
        """Whether any date matches: every length of a month meets every weekday within 40 years."""
        for month in range(1, 13):
            if self.months >> month & 1:
                lengths = (28, 29) if month == 2 else (monthrange(1970, month)[1],)
                if any(self._of_kind(dow * 4 + length - 28) for dow in range(7) for length in lengths):
                    return True
        return False

    def next(self, day: int) -> int | None:
        """The first matching day at or after `day`, both counted from 1970-01-01."""
        if day + EPOCH_ORDINAL > LAST_ORDINAL:
            return None
        if self.always:
            return day
        start = date.fromordinal(day + EPOCH_ORDINAL)
        year, month = start.year, start.month
        mask = self.in_month(year, month) >> start.day << start.day
        last_year = min(year + HORIZON_YEARS, date.max.year)
        while not mask:
            month += 1
            if month > 12:
                year, month = year + 1, 1
                if year > last_year:
                    return None
            mask = self.in_month(year, month)
        return date(year, month, lowest(mask)).toordinal() - EPOCH_ORDINAL

    def previous(self, day: int, least: int) -> int | None:
        """The last matching day at or before `day` and at or after `least`."""
        if day < least:
            return None
        if self.always:
            return day
        start = date.fromordinal(day + EPOCH_ORDINAL)
        end = date.fromordinal(max(least + EPOCH_ORDINAL, 1))
        year, month = start.year, start.month
        mask = self.in_month(year, month) & ((2 << start.day) - 1)
        while not mask:
            month -= 1
            if month < 1:
                year, month = year - 1, 12
            if (year, month) < (end.year, end.month):
                return None
            mask = self.in_month(year, month)
        found = date(year, month, mask.bit_length() - 1).toordinal() - EPOCH_ORDINAL
        return found if found >= least else None


class CronFields(Struct, frozen=True):
    """A cron expression, read: masks of its fields, and what Debian's rules need to know of how it was written."""

    seconds: int
    minutes: int
    hours: int
    days: Days
    wildcard: bool  # minute or hour begins with a star: follows the clock through a change of offset
    unit_s: int  # 60, or 1 where the expression has a seconds field
    first_in_hour_s: int
    first_in_day_s: int
    last_in_hour_s: int
    last_in_day_s: int


def next_local(fields: CronFields, local_s: int) -> int | None:
    """The first matching local time at or after local_s."""
    day, second = divmod(local_s, DAY_S)
    found = fields.days.next(day)
    if found == day:
        hour, second = divmod(second, 3600)
        minute, second = divmod(second, 60)
        if fields.hours >> hour & 1:
            if fields.minutes >> minute & 1:
                rest = fields.seconds >> second
                if rest:
                    return local_s + lowest(rest)
            rest = fields.minutes >> minute + 1
            if rest:
                minute += 1 + lowest(rest)
                return day * DAY_S + hour * 3600 + minute * 60 + lowest(fields.seconds)
        rest = fields.hours >> hour + 1
        if rest:
            return day * DAY_S + (hour + 1 + lowest(rest)) * 3600 + fields.first_in_hour_s
        found = fields.days.next(day + 1)
    return None if found is None else found * DAY_S + fields.first_in_day_s


def previous_local(fields: CronFields, local_s: int, least_s: int) -> int | None:
    """The last matching local time at or before local_s and at or after least_s."""
    day, second = divmod(local_s, DAY_S)
    least_day = least_s // DAY_S
    found = fields.days.previous(day, least_day)
    local: int | None = None
    if found == day:
        local = _previous_in_day(fields, day, second)
        if local is None:
            found = fields.days.previous(day - 1, least_day)
    if local is None:
        if found is None:
            return None
        local = found * DAY_S + fields.last_in_day_s
    return local if local >= least_s else None


def _previous_in_day(fields: CronFields, day: int, second: int) -> int | None:
    hour, second = divmod(second, 3600)
    minute, second = divmod(second, 60)
    if fields.hours >> hour & 1:
        if fields.minutes >> minute & 1:
            rest = fields.seconds & ((2 << second) - 1)
            if rest:
                return day * DAY_S + hour * 3600 + minute * 60 + rest.bit_length() - 1
        rest = fields.minutes & ((1 << minute) - 1)
        if rest:
            return day * DAY_S + hour * 3600 + (rest.bit_length() - 1) * 60 + fields.seconds.bit_length() - 1
    rest = fields.hours & ((1 << hour) - 1)
    return day * DAY_S + (rest.bit_length() - 1) * 3600 + fields.last_in_hour_s if rest else None
