"""Debian cron's rules for changes of offset, as a table for a zone. Pure.

Debian's cron (cron.c of 3.0pl1) counts virtual minutes of local time and, on waking, looks how far the clock went since
the minute that it dealt with last:

- 1 minute: run that minute;
- up to 5 (woke late): run every minute passed;
- up to 3 hours: wildcard jobs run for the new minute only, fixed-time jobs for every minute passed;
- backwards by at most 3 hours: wildcard jobs run for the new minute; fixed-time jobs wait until the clock has passed
  the last minute that was dealt with, since they ran already;
- anything else is a correction of the clock: run the new minute, forget the old.

A row of the table says the same of one stretch of constant offset. What fires at its very start stands for local times
in (entry_after, entry_to]; several of one job are one fire, since the key of a fire is (job, cause, instant). From
regular_from on each matching local time fires when the clock shows it. With a field for seconds the virtual minute is a
virtual second; the bounds stay the same in minutes.
"""

from bisect import bisect_right
from functools import lru_cache
from typing import Final, NamedTuple

from tidegate.model.limits import CLOCK_CORRECTION_S, HORIZON_YEARS
from tidegate.triggers.masks import CronFields, next_local, previous_local
from tidegate.triggers.zones import FIRST_S, LAST_S, Offsets, offsets_of

MARGIN_S: Final = 86_400  # a table begins this long before what is asked: no rule looks back further
LATE_S: Final = 4 * 60  # skipped time up to this counts as having woken late (cron.c: 5 minutes to go)
HORIZON_S: Final = HORIZON_YEARS * 366 * 86_400


class Row(NamedTuple):
    """A stretch of constant offset. Instants in UTC seconds, local times in local seconds."""

    start_s: int
    offset_s: int
    entry_after: int
    entry_to: int
    regular_from: int


def row(start_s: int, before_s: int, after_s: int, unit_s: int, wildcard: bool) -> Row:
    """Debian's rule for a change of offset at start_s."""
    old = (start_s - 1 + before_s) // unit_s
    new = (start_s + after_s) // unit_s
    skipped_s = (new - old - 1) * unit_s  # negative: repeated
    entry_after, regular_from = new - 1, new + 1
    if new == old:
        entry_after = new
    elif 0 <= skipped_s <= LATE_S:
        entry_after = old
    elif not wildcard:
        if 0 < skipped_s < CLOCK_CORRECTION_S:
            entry_after = old
        elif -CLOCK_CORRECTION_S <= skipped_s < 0:
            entry_after, regular_from = new, old + 1
    return Row(start_s, after_s, entry_after * unit_s, new * unit_s, regular_from * unit_s)


class Shifts:
    """The rows of one zone for one way of counting; grows with what is asked. Shared by triggers."""

    __slots__ = ("_offsets", "_rows", "_starts", "_to_s", "unit_s", "wildcard", "zone_name")

    def __init__(self, zone_name: str, offsets: Offsets, unit_s: int, wildcard: bool) -> None:
        self.zone_name = zone_name
        self.unit_s = unit_s
        self.wildcard = wildcard
        self._offsets = offsets
        self._rows: list[Row] = []
        self._starts: list[int] = []
        self._to_s = -LAST_S

    def _cover(self, from_s: int, to_s: int) -> None:
        """Have rows for [from_s, to_s]. The first row has no entry: it begins before what is asked."""
        offsets = self._offsets
        offsets.cover(from_s, to_s)
        starts, values = offsets.starts, offsets.offsets
        rows = [Row(starts[0], values[0], 0, 0, (starts[0] + values[0]) // self.unit_s * self.unit_s)]
        for index in range(1, len(starts)):
            rows.append(row(starts[index], values[index - 1], values[index], self.unit_s, self.wildcard))
        self._rows, self._starts, self._to_s = rows, starts.copy(), offsets.to_s

    def _index(self, instant_s: int) -> int:
        """The row that holds at an instant, with all rows up to that known."""
        if instant_s >= self._to_s or instant_s < self._starts[0] + MARGIN_S:
            self._cover(instant_s - 2 * MARGIN_S, instant_s + 1)
        return max(bisect_right(self._starts, instant_s) - 1, 0)

    def _follow(self, here: Row, index: int, instant_s: int) -> tuple[int, int]:
        """The index of a row, which changes where the table grows, and where the row ends or is known not to."""
        while index + 1 == len(self._rows):
            if instant_s < self._to_s or self._to_s >= LAST_S:
                return index, self._to_s
            self._cover(self._starts[0], instant_s + 1)
            index = bisect_right(self._starts, here.start_s) - 1
        return index, self._starts[index + 1]

    def next(self, fields: CronFields, instant_s: int) -> int | None:
        """The first fire at or after an instant, or None within HORIZON_YEARS."""
        if not FIRST_S < instant_s < LAST_S:
            return None
        index = self._index(instant_s)
        here = self._rows[index]
        if instant_s == here.start_s:
            found = next_local(fields, here.entry_after + 1)
            if found is not None and found <= here.entry_to:
                return instant_s
        wanted = max(instant_s + here.offset_s, here.regular_from)
        found = next_local(fields, wanted)
        while found is not None:
            fire_s = found - here.offset_s
            index, end_s = self._follow(here, index, fire_s)
            if fire_s < end_s:
                return fire_s
            if end_s >= LAST_S or end_s - instant_s > HORIZON_S:
                return None
            index += 1
            here = self._rows[index]
            # found is the first match from wanted on, so it serves any later start up to itself.
            if not wanted <= here.entry_after + 1 <= found:
                wanted = here.entry_after + 1
                found = next_local(fields, wanted)
                if found is None:
                    return None
            if found <= here.entry_to:
                return here.start_s
            if here.regular_from > found:
                wanted = here.regular_from
                found = next_local(fields, wanted)
        return None

    def last(self, fields: CronFields, instant_s: int, least_s: int) -> int | None:
        """The last fire at or before an instant and at or after least_s."""
        least_s, instant_s = max(least_s, FIRST_S + 1), min(instant_s, LAST_S)
        while instant_s >= least_s:
            index = self._index(instant_s)
            here = self._rows[index]
            least = max(here.regular_from, least_s + here.offset_s)
            found = previous_local(fields, instant_s + here.offset_s, least)
            if found is not None:
                return found - here.offset_s
            if here.start_s < least_s:
                return None
            if previous_local(fields, here.entry_to, here.entry_after + 1) is not None:
                return here.start_s
            instant_s = here.start_s - 1
        return None


@lru_cache(maxsize=4096)
def shifts_of(zone_name: str, unit_s: int, wildcard: bool) -> Shifts:
    """One table for all triggers that count the same way in the same zone. Raises TriggerError as zone() does."""
    return Shifts(zone_name, offsets_of(zone_name), unit_s, wildcard)
