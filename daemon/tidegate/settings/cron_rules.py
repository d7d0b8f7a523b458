"""What cron itself makes of five fields, and when: a second reading, which an import is proven against. Pure.

Shares nothing with `triggers/` and nothing with cronsim, and must not: two readings that agree by way of the same code
prove nothing. Written from entry.c (field lists) and cron.c (the main loop) of Debian's cron 3.0pl1, and of cronie's
where that differs; what Debian's cron makes of odd fields was asked of its own programs, 3.0pl1-162.
"""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tidegate.model.text import escape

MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES: Final = ("minute", "hour", "day of month", "month", "day of week")
BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
WORDS: Final[tuple[tuple[str, ...], ...]] = ((), (), (), MONTHS, WEEKDAYS)
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EPOCH_DAY: Final = date(1970, 1, 1)
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_MIN: Final = 24 * 60
DAY_S: Final = 24 * HOUR_S
LATE_MIN: Final = 5  # cron.c: a wake-up that is later than this was no late one
CORRECTION_MIN: Final = 3 * 60  # cron.c: a change of more than this sets the clock right
EVER_DAY: Final = date(2000, 1, 1)
EVER_DAYS: Final = 28 * 366  # within 28 years each date, 29 February too, meets each day of the week


class Dialect(StrEnum):
    """Whose cron it is."""

    DEBIAN = "debian"
    CRONIE = "cronie"


class CronRefusal(ValueError):
    """Cron would not take it, or would never run it: a sentence."""


class Fields(NamedTuple):
    """What five fields match. `wild` and `star` are cron's flags: about the first characters, not about the sets."""

    minutes: frozenset[int]
    hours: frozenset[int]
    doms: frozenset[int]
    months: frozenset[int]
    dows: frozenset[int]
    wild: bool  # minute or hour begins with *: follows the clock through a change of offset
    star: bool  # a day field begins with *: both must match, else either
    plain: tuple[str, ...]  # the fields without what cron skips over, as numbers: what every cron reads alike
    ignored: tuple[str, ...]  # what cron skips over in a field, as written


def read_fields(texts: list[str], dialect: Dialect) -> Fields:
    """The five fields. Raises CronRefusal: cron refuses them, or accepts them and never runs anything."""
    sets, plain, ignored = [], [], []
    for index, text in enumerate(texts):
        values, clean, without = _list(index, text, dialect)
        if not values:
            raise CronRefusal(
                f"cron accepts the {NAMES[index]} {_shown(text)} and never runs the line: its range goes down"
            )
        sets.append(values)
        plain.append(clean)
        ignored += without
    minutes, hours, doms, months, dows = map(frozenset, sets)
    if dows & {0, 7}:
        dows |= {0, 7}
    wild = texts[0][0] == "*" or texts[1][0] == "*"
    star = texts[2][0] == "*" or texts[4][0] == "*"
    fields = Fields(minutes, hours, doms, months, dows, wild, star, tuple(plain), tuple(ignored))
    if not any(fields_match(fields, EVER_DAY + timedelta(days=number)) for number in range(EVER_DAYS)):
        raise CronRefusal("cron accepts the line and never runs it: no date matches")
    return fields


def fields_match(fields: Fields, day: date) -> bool:
    """find_jobs(): `* * 1,15 * Sun` is either, `* * * * Sun` and `* * 1,15 * *` are both."""
    if day.month not in fields.months:
        return False
    by_dom, by_dow = day.day in fields.doms, day.isoweekday() % 7 in fields.dows
    return (by_dom and by_dow) if fields.star else (by_dom or by_dow)


def _shown(text: str) -> str:
    return f'"{escape(text[:40])}"'


def _list(index: int, text: str, dialect: Dialect) -> tuple[set[int], str, list[str]]:
    """get_list(): the values, the list as numbers, and what of the text has no meaning to cron: ranges that go down,
    and whatever stands behind the last range."""
    values: set[int] = set()
    ranges: list[str] = []
    without: list[str] = []
    rest = text
    while True:
        before = rest
        found, clean, rest = _range(index, text, rest, dialect)
        values |= found
        if found:
            ranges.append(clean)
        else:
            without.append(before.removesuffix(rest) if rest else before)
        if not rest.startswith(","):
            break
        rest = rest[1:]
    if rest and dialect is Dialect.CRONIE:
        raise CronRefusal(f"cron refuses the {NAMES[index]} {_shown(text)}")
    return values, ",".join(ranges), without + [rest] * bool(rest)


def _range(index: int, whole: str, text: str, dialect: Dialect) -> tuple[set[int], str, str]:
    """get_range(): number | number-number[/step] | *[/step], and what follows it."""
    low, high = BOUNDS[index]
    if text.startswith("*"):
        first, last, rest, clean = low, high, text[1:], "*"
    else:
        first, rest = _number(index, whole, text, WORDS[index])
        if not rest.startswith("-"):
            if rest.startswith("/"):
                near = f'such as "{first}-{high}{escape(rest[:10])}"'
                raise CronRefusal(f"cron refuses the {NAMES[index]} {_shown(whole)}: a step needs a range, {near}")
            if not low <= first <= high:
                raise CronRefusal(_outside(index, whole))
            return {first}, str(first), rest
        last, rest = _number(index, whole, rest[1:], WORDS[index])
        clean = f"{first}-{last}"
        if first > last and dialect is Dialect.CRONIE:
            raise CronRefusal(f"cron refuses the {NAMES[index]} {_shown(whole)}: its range goes down")
    step = 1
    if rest.startswith("/"):
        step, rest = _number(index, whole, rest[1:], ())
        if step < 1:
            raise CronRefusal(f"cron refuses the {NAMES[index]} {_shown(whole)}: a step is 1 or more")
        clean = f"{clean}/{step}"
    if not (low <= first <= high and low <= last <= high):
        raise CronRefusal(_outside(index, whole))
    return set(range(first, last + 1, step)), clean, rest


def _outside(index: int, whole: str) -> str:
    low, high = BOUNDS[index]
    return f"cron refuses the {NAMES[index]} {_shown(whole)}: {low}-{high} is what there is"


def _number(index: int, whole: str, text: str, words: tuple[str, ...]) -> tuple[int, str]:
    """get_number(): letters and digits as one word, which is a number or a name."""
    end = 0
    while end < len(text) and text[end].isascii() and text[end].isalnum():
        end += 1
    word, rest = text[:end], text[end:]
    if word.lower() in words:
        return words.index(word.lower()) + BOUNDS[index][0], rest
    if not word.isdigit() or len(word) > 9:
        raise CronRefusal(f"cron refuses the {NAMES[index]} {_shown(whole)}")
    return int(word), rest


# --- when ----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One call of find_jobs(): at an instant, for a virtual minute of local time, counted from 1970."""

    at_s: int
    virtual_min: int
    do_wild: bool
    do_fixed: bool


class Stretch(NamedTuple):
    """Minutes in which nothing special happens: each is dealt with when the clock shows it."""

    from_s: int
    to_s: int
    offset_s: int


class Loop:
    """Cron's main loop in one zone over a span of time, woken at each minute and never late."""

    def __init__(self, zone_name: str, from_s: int, to_s: int) -> None:
        """Whole minutes of UTC."""
        self.from_s, self.to_s = from_s, to_s
        self.zone = ZoneInfo(zone_name)
        self.changes = self._changes(from_s, to_s)
        self.stretches: list[Stretch] = []
        self.calls: list[Call] = []
        at_s = from_s
        for change_s in [*self.changes, to_s]:
            if change_s > at_s:
                self.stretches.append(Stretch(at_s, change_s, self._offset_s(at_s)))
                at_s = change_s
            if at_s < to_s:
                at_s = self._pass(at_s, to_s)

    def _offset_s(self, at_s: int) -> int:
        offset = datetime.fromtimestamp(at_s, UTC).astimezone(self.zone).utcoffset()
        assert offset is not None
        return round(offset.total_seconds())

    def _changes(self, from_s: int, to_s: int) -> list[int]:
        """The first minute of each new offset. A pair of changes within one hour would not be seen."""
        found = []
        before = self._offset_s(from_s)
        for hour_s in range(from_s + HOUR_S, to_s + HOUR_S, HOUR_S):
            after = self._offset_s(min(hour_s, to_s))
            if after != before:
                found.append(
                    next(at for at in range(hour_s - HOUR_S, hour_s + 1, MINUTE_S) if self._offset_s(at) == after)
                )
                before = after
        return found

    def _pass(self, change_s: int, to_s: int) -> int:
        """Walks the loop, minute by minute, from a change until nothing is special any more; tells where that is."""
        virtual = (change_s - MINUTE_S + self._offset_s(change_s - MINUTE_S)) // MINUTE_S
        at_s = change_s
        while at_s < to_s:
            running = (at_s + self._offset_s(at_s)) // MINUTE_S
            behind = running - virtual
            if behind == 1 and at_s > change_s:
                return at_s
            if behind > CORRECTION_MIN or behind <= -CORRECTION_MIN:
                virtual = running
                self.calls.append(Call(at_s, virtual, True, True))
            elif behind > LATE_MIN:
                self.calls.append(Call(at_s, running, True, False))
                self.calls += [Call(at_s, minute, False, True) for minute in range(virtual + 1, running + 1)]
                virtual = running
            elif behind > 0:
                self.calls += [Call(at_s, minute, True, True) for minute in range(virtual + 1, running + 1)]
                virtual = running
            else:
                self.calls.append(Call(at_s, running, True, False))
            at_s += MINUTE_S
        return at_s

    def fires(self, fields: Fields) -> list[int]:
        """Each start of a line, rising; an instant stands as often as cron starts it then."""
        found = [at_s for stretch in self.stretches for at_s in _matching(fields, stretch)]
        for call in self.calls:
            if call.do_wild if fields.wild else call.do_fixed:
                day, minute = divmod(call.virtual_min, DAY_MIN)
                if minute // 60 in fields.hours and minute % 60 in fields.minutes:
                    found += [call.at_s] * fields_match(fields, EPOCH_DAY + timedelta(days=day))
        return sorted(found)

    def shown(self, fields: Fields) -> list[int]:
        """Each minute that the zone's clock shows and the fields match: what cronie does with CRON_TZ, whatever kind of
        job it is. Minutes that are skipped are lost, and those that come twice match twice."""
        edges = [self.from_s, *self.changes, self.to_s]
        parts = [Stretch(start, end, self._offset_s(start)) for start, end in pairwise(edges) if start < end]
        return [at_s for part in parts for at_s in _matching(fields, part)]


def _matching(fields: Fields, stretch: Stretch) -> list[int]:
    """The minutes of a stretch that match, found day by day."""
    from_s, to_s, offset_s = stretch
    in_day = [hour * HOUR_S + minute * MINUTE_S for hour in sorted(fields.hours) for minute in sorted(fields.minutes)]
    found: list[int] = []
    for number in range((from_s + offset_s) // DAY_S, (to_s - 1 + offset_s) // DAY_S + 1):
        if fields_match(fields, EPOCH_DAY + timedelta(days=number)):
            start_s = number * DAY_S - offset_s
            whole = from_s <= start_s and start_s + DAY_S <= to_s
            found += [start_s + at for at in in_day if whole or from_s <= start_s + at < to_s]
    return found
