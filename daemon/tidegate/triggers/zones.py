"""Time zones and their changes of offset. Reads the system's tz data through zoneinfo; no clock, no C locale."""

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from io import BytesIO
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from msgspec import Struct

from tidegate.triggers.errors import TriggerError, quoted

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S: Final = 86_400
STEP_S: Final = 2 * DAY_S  # no zone in tz data has two changes less than 4 days apart
CHUNK_S: Final = 4 * 366 * DAY_S  # how much more of a zone is looked at whenever more is needed
FIRST_S: Final = int((datetime(2, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())  # a year away from what datetime holds
LAST_S: Final = int((datetime(9998, 12, 31, tzinfo=UTC) - EPOCH).total_seconds())
PREVIEW_S: Final = 10 * 366 * DAY_S  # a zone without a change for so long has none that anybody planned
# The smallest file in the TZif format (RFC 8536): one type, offset 0, "UTC". UTC works without tz data.
UTC_TZIF: Final = b"TZif" + bytes(16 + 16) + bytes((0, 0, 0, 1, 0, 0, 0, 4)) + bytes(6) + b"UTC\0"


class Change(Struct, frozen=True):
    """A zone's offset from UTC changes at an instant (aware, UTC)."""

    instant: datetime
    before_s: int
    after_s: int


ABBREVIATION: Final = re.compile(r"(?!UTC)[A-Z]{2,5}")
NAME: Final = re.compile(r"[A-Za-z0-9_+/-]{1,64}")


def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises TriggerError where it is unknown or the tz data is missing."""
    try:
        if NAME.fullmatch(name):  # zoneinfo would look for a package of any other name
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: "America" is a directory; ValueError: "../x", NUL bytes, files that are not tz data.
        pass
    if name in ("UTC", "Etc/UTC"):
        return ZoneInfo.from_file(BytesIO(UTC_TZIF), key=name)
    known = available_timezones()
    if not known:
        raise TriggerError(f"time zone data not found: install tzdata (needed for time zone {quoted(name)})")
    raise TriggerError(f"unknown time zone {quoted(name)}{_hint(name, known)}")


def _hint(name: str, known: set[str]) -> str:
    """The zone that is probably meant. Never an abbreviation that looks alike: "EST" is seven hours from "CEST"."""
    folded = {each.casefold(): each for each in sorted(known)}
    wanted = name.casefold()[:100]
    if wanted in folded:
        return f"; did you mean {quoted(folded[wanted])}?"
    # "Berlin" is not close to "Europe/Berlin", but it is meant.
    near = [each for each in folded if each.rpartition("/")[2] == wanted]
    near = near or get_close_matches(
        wanted, [each for each in folded if not ABBREVIATION.fullmatch(folded[each])], 1, 0.7
    )
    if ABBREVIATION.fullmatch(name) and not near:
        return (
            ": an abbreviation is no zone, as it stands for one offset all year or for several places; "
            "write Area/City, such as Europe/Berlin"
        )
    return f"; did you mean {quoted(folded[near[0]])}?" if near else " (names are such as Europe/Berlin or UTC)"


class Offsets:
    """The offsets of one zone over time, in whole seconds; looked up as far as was asked for.

    `starts` rises and holds the instants from which `offsets` hold; the first is FIRST_S or where looking began.
    """

    __slots__ = ("_zone", "from_s", "offsets", "starts", "to_s")

    def __init__(self, zone: ZoneInfo, about_s: int) -> None:
        self._zone = zone
        self.from_s = self.to_s = min(max(about_s, FIRST_S), LAST_S)
        self.starts = [self.from_s]
        self.offsets = [self.at(self.from_s)]

    def at(self, instant_s: int) -> int:
        """The offset at an instant, in seconds, asked from zoneinfo."""
        offset = datetime.fromtimestamp(instant_s, self._zone).utcoffset()
        assert offset is not None
        return offset.days * DAY_S + offset.seconds

    def cover(self, from_s: int, to_s: int) -> bool:
        """Know every change in [from_s, to_s], as far as datetime reaches. True if anything new was looked at."""
        from_s, to_s = max(from_s, FIRST_S), min(to_s, LAST_S)
        grown = False
        if to_s > self.to_s:
            end_s = min(max(to_s, self.to_s + CHUNK_S), LAST_S)
            for instant_s, offset in self._changes(self.to_s, end_s):
                self.starts.append(instant_s)
                self.offsets.append(offset)
            self.to_s = end_s
            grown = True
        if from_s < self.from_s:
            start_s = max(min(from_s, self.from_s - CHUNK_S), FIRST_S)
            found = self._changes(start_s, self.from_s)
            self.starts[:1] = [start_s, *(instant_s for instant_s, _ in found)]
            self.offsets[:1] = [self.at(start_s), *(offset for _, offset in found)]
            self.from_s = start_s
            grown = True
        return grown

    def _changes(self, from_s: int, to_s: int) -> list[tuple[int, int]]:
        """Changes in (from_s, to_s]. Where the offset is the same at both ends of a step there is taken to be none."""
        found = []
        offset = self.at(from_s)
        for low_s in range(from_s, to_s, STEP_S):
            end_s = min(low_s + STEP_S, to_s)
            end_offset = self.at(end_s)
            while offset != end_offset:
                high_s = end_s  # offset holds at low_s, another one at high_s
                while high_s - low_s > 1:
                    middle_s = (low_s + high_s) // 2
                    if self.at(middle_s) == offset:
                        low_s = middle_s
                    else:
                        high_s = middle_s
                offset = self.at(high_s)
                found.append((high_s, offset))
                low_s = high_s
        return found


@lru_cache(maxsize=1024)
def offsets_of(name: str) -> Offsets:
    """What is known of a zone; one for all its triggers. Raises TriggerError as zone() does."""
    return Offsets(zone(name), int((datetime(2025, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()))


def next_changes(zone_name: str, after: datetime, count: int) -> list[Change]:
    """The next changes of a zone's offset, strictly after an instant; fewer if no more are planned."""
    offsets = offsets_of(zone_name)
    after_s = (after - EPOCH) // timedelta(seconds=1)
    offsets.cover(after_s, after_s)
    changes: list[Change] = []
    instant_s = after_s
    while len(changes) < count:
        offsets.cover(instant_s, instant_s + PREVIEW_S)
        index = bisect_right(offsets.starts, instant_s)
        if index == len(offsets.starts):
            break
        instant_s = offsets.starts[index]
        instant = EPOCH + timedelta(seconds=instant_s)
        changes.append(Change(instant, offsets.offsets[index - 1], offsets.offsets[index]))
    return changes
