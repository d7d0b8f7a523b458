"""Debian's cron, once more: the independent reference that the triggers are compared with.

Written from cron.c and entry.c of Debian's cron 3.0pl1-162 and its cron(8): the main loop over virtual minutes with its
kinds of waking, find_jobs() with wildcard and fixed-time jobs, the field lists, the star flags. Shares no code with the
triggers and none with cronsim. One thing is idealised: this cron never sleeps too long.

Near a change of offset the loop is walked minute by minute, second by second within the minute of the change itself.
On days without any (found by asking the zone for every hour) each waking is the "one minute went by" kind, so the
minutes that match are listed without walking.

Expressions may have a field for seconds in front; the loop then counts virtual seconds, with the same bounds in time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTH_NAMES = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DOW_NAMES = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1)
HOUR_S = 3600
WINDOW_S = 5 * HOUR_S  # walked on each side of a change: more than the 3 hours that the loop remembers


def get_list(text: str, low: int, high: int, names: list[str]) -> set[int]:
    """entry.c: list = range {"," range}; range = "*" | number | number "-" number, the first and last with "/" step."""

    def number(word: str) -> int:
        value = names.index(word) + low if word in names else int(word)
        assert low <= value <= high, text
        return value

    found: set[int] = set()
    for item in text.lower().split(","):
        span, _, step = item.partition("/")
        if span == "*":
            found.update(range(low, high + 1, int(step or 1)))
        elif "-" in span:
            first, last = span.split("-")
            found.update(range(number(first), number(last) + 1, int(step or 1)))
        else:
            assert not step, f"Debian's cron refuses a step without a range: {text}"
            found.add(number(span))
    return found


class Entry:
    """One line of a crontab without its command."""

    def __init__(self, expression: str) -> None:
        fields = expression.split()
        self.unit_s = 1 if len(fields) == 6 else 60
        self.second = get_list(fields.pop(0), 0, 59, []) if self.unit_s == 1 else {0}
        minute, hour, dom, month, dow = fields
        self.minute = get_list(minute, 0, 59, [])
        self.hour = get_list(hour, 0, 23, [])
        self.dom = get_list(dom, 1, 31, [])
        self.month = get_list(month, 1, 12, MONTH_NAMES)
        self.dow = get_list(dow, 0, 7, DOW_NAMES)
        if self.dow & {0, 7}:
            self.dow |= {0, 7}
        self.wild = minute[0] == "*" or hour[0] == "*"
        self.star = dom[0] == "*" or dow[0] == "*"
        self.in_day = [
            (h * 60 + m) * 60 + s for h in sorted(self.hour) for m in sorted(self.minute) for s in sorted(self.second)
        ]

    def matches_date(self, day: "Day") -> bool:
        """find_jobs(): `* * 1,15 * Sun` is either, `* * * * Sun` and `* * 1,15 * *` are both."""
        if day.month not in self.month:
            return False
        by_dom, by_dow = day.dom in self.dom, day.dow in self.dow
        return (by_dom and by_dow) if self.star else (by_dom or by_dow)

    def matches(self, call: "Call") -> bool:
        if call.minute not in self.minute or call.hour not in self.hour or call.second not in self.second:
            return False
        return self.matches_date(call.day) and (call.do_wild if self.wild else call.do_fixed)


@dataclass(frozen=True, slots=True)
class Day:
    number: int  # since 1970-01-01
    dom: int
    month: int
    dow: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of find_jobs(): at an instant, for a virtual minute, for wildcard jobs, fixed-time jobs, or both."""

    at_s: int
    day: Day
    hour: int
    minute: int
    second: int
    do_wild: bool
    do_fixed: bool


def make_day(number: int) -> Day:
    day = EPOCH_DAY + timedelta(days=number)
    return Day(number, day.day, day.month, day.isoweekday() % 7)


class Place:
    """A zone, with the stretches to walk and the ordinary ones."""

    def __init__(self, zone_name: str) -> None:
        self.name = zone_name
        self.zone = ZoneInfo(zone_name)

    def offset_s(self, at_s: int) -> int:
        offset = datetime.fromtimestamp(at_s, self.zone).utcoffset()
        assert offset is not None
        return round(offset.total_seconds())

    def windows(self, from_s: int, to_s: int) -> list[tuple[int, int]]:
        """Around each change in [from_s, to_s): what must be walked. Overlapping ones are joined."""
        found: list[tuple[int, int]] = []
        before = self.offset_s(from_s)
        for at_s in range(from_s + HOUR_S, to_s + HOUR_S, HOUR_S):
            after = self.offset_s(at_s)
            if after != before:
                start, end = max(at_s - WINDOW_S, from_s), min(at_s + WINDOW_S, to_s)
                if found and start <= found[-1][1]:
                    start = found.pop()[0]
                found.append((start, end))
            before = after
        return found

    def calls(self, from_s: int, to_s: int, unit_s: int = 60) -> list[Call]:
        """The main loop of cron.c, woken as soon as the clock shows another minute."""
        found: list[Call] = []
        days: dict[int, Day] = {}
        hours3 = 3 * 60 * 60 // unit_s
        late = (5 * 60 - 60) // unit_s + 1  # "timeDiff > 5" in minutes: more than 4 minutes were skipped

        def find_jobs(at_s: int, virtual: int, do_wild: bool, do_fixed: bool) -> None:
            number, second = divmod(virtual * unit_s, 86_400)
            if number not in days:
                days[number] = make_day(number)
            found.append(Call(at_s, days[number], second // 3600, second // 60 % 60, second % 60, do_wild, do_fixed))

        virtual_time = time_running = (from_s - 1 + self.offset_s(from_s - 1)) // unit_s
        for at_s, clock_time in self._wakings(from_s, to_s, unit_s):
            if clock_time == time_running:
                continue
            time_running = clock_time
            time_diff = time_running - virtual_time
            if time_diff == 1:
                virtual_time = time_running
                find_jobs(at_s, virtual_time, True, True)
            elif 0 < time_diff <= late:
                while virtual_time < time_running:
                    virtual_time += 1
                    find_jobs(at_s, virtual_time, True, True)
            elif late < time_diff <= hours3:
                find_jobs(at_s, time_running, True, False)
                while virtual_time < time_running:
                    virtual_time += 1
                    find_jobs(at_s, virtual_time, False, True)
            elif -hours3 < time_diff <= 0:
                find_jobs(at_s, time_running, True, False)
            else:
                virtual_time = time_running
                find_jobs(at_s, time_running, True, True)
        return found

    def _wakings(self, from_s: int, to_s: int, unit_s: int) -> Iterator[tuple[int, int]]:
        at_s = from_s
        offset = self.offset_s(at_s)
        while at_s < to_s:
            yield at_s, (at_s + offset) // unit_s
            boundary_s = at_s + unit_s - (at_s + offset) % unit_s
            if self.offset_s(boundary_s) == offset:
                at_s = boundary_s
            else:
                at_s += 1
                offset = self.offset_s(at_s)

    def ordinary(self, entry: Entry, from_s: int, to_s: int) -> list[int]:
        """Fires in a stretch of constant offset: every minute passes once."""
        offset = self.offset_s(from_s)
        first_day, last_day = (from_s + offset) // 86_400, (to_s - 1 + offset) // 86_400
        found: list[int] = []
        for number in range(first_day, last_day + 1):
            if entry.matches_date(make_day(number)):
                start_s = number * 86_400 - offset
                fires = [start_s + second for second in entry.in_day]
                if number in (first_day, last_day):
                    fires = [fire for fire in fires if from_s <= fire < to_s]
                found.extend(fires)
        return found


class Span:
    """A stretch of time in a place, walked once for many entries that count in the same unit."""

    def __init__(self, place: Place, from_s: int, to_s: int, unit_s: int = 60) -> None:
        self.place = place
        self.windows = place.windows(from_s, to_s)
        self.walked = [place.calls(start, end, unit_s) for start, end in self.windows]
        edges = [from_s, *(edge for window in self.windows for edge in window), to_s]
        self.plain = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]

    def near(self, entry: Entry) -> list[int]:
        """The instants at which the entry runs near changes; several calls at one instant are one fire."""
        return sorted({call.at_s for calls in self.walked for call in calls if entry.matches(call)})

    def fires(self, entry: Entry) -> list[int]:
        """All instants at which the entry runs."""
        found = self.near(entry)
        for start, end in self.plain:
            found.extend(self.place.ordinary(entry, start, end))
        return sorted(found)
