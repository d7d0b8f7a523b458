"""Calendars open and shut when they say, by the clock on the wall, against a search minute by minute."""

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.model.plan import Calendar
from tidegate.triggers.calendar import CalendarWindow, build_window
from tidegate.triggers.cron import parse
from tidegate.triggers.errors import TriggerError

MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Havana",
    "Africa/Casablanca",
)
OFFICE = "* 9-17 * * mon-fri"


def at(text: str, zone: str = "Europe/Berlin") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def changes(window: CalendarWindow, start: datetime, count: int, zone: str = "Europe/Berlin") -> list[str]:
    found, instant = [], start
    for _ in range(count):
        change = window.next_change(instant)
        assert change is not None
        found.append(change.astimezone(ZoneInfo(zone)).strftime("%a %d %H:%M%z"))
        instant = change
    return found


def test_office_hours_open_and_shut_and_stay_shut_over_the_weekend() -> None:
    window = build_window(Calendar(cron=OFFICE, timezone="Europe/Berlin"))
    friday = at("2026-11-20 08:00")
    assert not window.open_at(friday)
    assert window.open_at(at("2026-11-20 17:59:59"))
    assert not window.open_at(at("2026-11-20 18:00"))
    assert changes(window, friday, 3) == ["Fri 20 09:00+0100", "Fri 20 18:00+0100", "Mon 23 09:00+0100"]


def test_a_change_is_strictly_after_the_instant_that_is_asked_about() -> None:
    window = build_window(Calendar(cron=OFFICE, timezone="UTC"))
    opens = at("2026-11-20 09:00", "UTC")
    assert window.next_change(opens - timedelta(microseconds=1)) == opens
    assert window.next_change(opens) == at("2026-11-20 18:00", "UTC")


def test_days_and_ranges_include_both_ends_from_local_midnight_to_midnight() -> None:
    dates = ((date(2026, 12, 25), date(2026, 12, 25)), (date(2026, 12, 27), date(2026, 12, 31)))
    window = build_window(Calendar(dates=dates, timezone="Europe/Berlin"))
    assert changes(window, at("2026-12-01 00:00"), 4) == [
        "Fri 25 00:00+0100",
        "Sat 26 00:00+0100",
        "Sun 27 00:00+0100",
        "Fri 01 00:00+0100",
    ]
    assert window.next_change(at("2027-01-01 00:00")) is None


def test_parts_that_touch_are_one_opening() -> None:
    window = build_window(
        Calendar(
            cron="* 22-23 24 12 *",
            dates=((date(2026, 12, 25), date(2026, 12, 25)), (date(2026, 12, 26), date(2026, 12, 26))),
            spans=((at("2026-12-27 00:00").astimezone(UTC), at("2026-12-27 06:00").astimezone(UTC)),),
            timezone="Europe/Berlin",
        )
    )
    assert changes(window, at("2026-12-24 12:00"), 2) == ["Thu 24 22:00+0100", "Sun 27 06:00+0100"]


def test_an_hour_that_is_skipped_never_opens_and_one_that_comes_twice_opens_twice() -> None:
    window = build_window(Calendar(cron="* 2 * * *", timezone="Europe/Berlin"))
    assert changes(window, at("2026-03-28 04:00"), 1) == ["Mon 30 02:00+0200"]  # 29 March has no 02:xx
    assert changes(window, at("2026-10-25 00:00"), 2) == ["Sun 25 02:00+0200", "Sun 25 03:00+0100"]
    half = build_window(Calendar(cron="0-29 2 * * *", timezone="Europe/Berlin"))
    assert changes(half, at("2026-10-25 00:00"), 4) == [
        "Sun 25 02:00+0200",
        "Sun 25 02:30+0200",
        "Sun 25 02:00+0100",
        "Sun 25 02:30+0100",
    ]


def test_a_window_over_midnight_is_one_opening() -> None:
    window = build_window(Calendar(cron="* 22-23,0-5 * * *", timezone="Europe/Berlin"))
    assert changes(window, at("2026-11-20 12:00"), 2) == ["Fri 20 22:00+0100", "Sat 21 06:00+0100"]


def test_a_window_until_midnight_shuts_there_where_the_next_day_has_none() -> None:
    window = build_window(Calendar(cron="* 22-23,0-5 * * fri", timezone="Europe/Berlin"))
    assert changes(window, at("2026-11-20 12:00"), 2) == ["Fri 20 22:00+0100", "Sat 21 00:00+0100"]


@pytest.mark.parametrize("zone", ZONES)
def test_what_is_always_open_never_changes(zone: str) -> None:
    window = build_window(Calendar(cron="* * * * *", timezone=zone))
    assert window.open_at(at("2026-03-29 01:59", zone))
    assert window.next_change(at("2026-03-01 00:00", zone)) is None


def test_what_never_opens_never_changes() -> None:
    window = build_window(Calendar(cron="* 2 * 3 7L", timezone="Europe/Berlin"))  # the hour that Berlin skips
    assert window.next_change(at("2026-01-01 00:00")) is None
    assert build_window(Calendar()).next_change(at("2026-01-01 00:00")) is None


def test_a_calendar_with_seconds_is_refused() -> None:
    with pytest.raises(TriggerError, match="no seconds"):
        build_window(Calendar(cron="0 * 9 * * *"))


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", None),
        ("* * 1-30 * *", datetime(2026, 12, 30, 23, tzinfo=UTC)),
        ("* * 29 2 mon", datetime(2027, 1, 31, 23, tzinfo=UTC)),
        ("* * 29 2 */7", datetime(2032, 2, 28, 23, tzinfo=UTC)),
        ("* * 29 2 *", datetime(2028, 2, 28, 23, tzinfo=UTC)),
    ],
)
def test_looking_far_ahead_takes_less_than_5_ms(cron: str, expected: datetime | None) -> None:
    window = build_window(Calendar(cron=cron, timezone="Europe/Berlin"))
    spent_s = []
    for _ in range(5):
        began = time.process_time()
        found = window.next_change(datetime(2026, 12, 1, 12, tzinfo=UTC))
        spent_s.append(time.process_time() - began)
    assert found == expected
    assert min(spent_s) < 0.005


def test_twenty_thousand_spans_between_open_minutes_are_looked_at_in_steps() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    spans = tuple(
        (start + hours, start + hours + timedelta(minutes=30))
        for hours in (timedelta(hours=n, minutes=30) for n in range(20_000))
    )
    window = build_window(Calendar(cron="0-29 * * * *", spans=spans, timezone="UTC"))
    began = time.process_time()
    change = window.next_change(start)
    assert time.process_time() - began < 0.1
    assert change is not None and window.open_at(change)  # to look again, and not yet shut


# --- against a search minute by minute ------------------------------------------------------------------------------


def covered(calendar: Calendar, instant: datetime) -> bool:
    """The definition, word for word."""
    local = instant.astimezone(ZoneInfo(calendar.timezone))
    if any(first <= local.date() <= last for first, last in calendar.dates):
        return True
    if any(begin <= instant < end for begin, end in calendar.spans):
        return True
    if not calendar.cron:
        return False
    fields = parse(calendar.cron, "")
    day = (local.date() - date(1970, 1, 1)).days
    return bool(fields.minutes >> local.minute & 1 and fields.hours >> local.hour & 1 and fields.days.next(day) == day)


minutes = st.sampled_from(["*", "0-29", "30", "*/7", "0", "15-44", "59"])
hours = st.sampled_from(["*", "0", "1-2", "2", "3", "23", "9-17", "0-5,22-23", "*/2"])
day_fields = st.sampled_from(
    ["* * *", "* * mon-fri", "* * sun", "1-7 * sun", "* * sat", "L * *", "29 3 *", "25 10 *", "* 3,10,11 *"]
)
crons = st.one_of(st.just(""), st.tuples(minutes, hours, day_fields).map(" ".join))
# Around changes of offset of the zones above, and some quiet days.
moments = st.sampled_from(
    [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 4, 5, tzinfo=UTC),
     datetime(2026, 10, 4, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC),
     datetime(2026, 2, 15, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)]
)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[Calendar, datetime]:
    start = draw(moments) + timedelta(seconds=draw(st.integers(-2 * 86400, 86400)))
    begins = draw(st.lists(st.tuples(st.integers(-1440, 4320), st.integers(1, 2000)), max_size=3))
    base = start.replace(second=0)
    firsts = draw(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), max_size=2))
    calendar = Calendar(
        cron=draw(crons),
        dates=tuple(
            sorted((start.date() + timedelta(days=n), start.date() + timedelta(days=n + m)) for n, m in firsts)
        ),
        spans=tuple(sorted((base + n * MINUTE, base + (n + m) * MINUTE) for n, m in begins)),
        timezone=draw(st.sampled_from(ZONES)),
    )
    return calendar, start


@settings(max_examples=120, deadline=None)
@given(cases())
def test_the_next_change_is_that_of_a_search_minute_by_minute(case: tuple[Calendar, datetime]) -> None:
    calendar, start = case
    window = build_window(calendar)
    state = covered(calendar, start)
    assert window.open_at(start) is state
    found = window.next_change(start)
    minute = start.replace(second=0, microsecond=0) + MINUTE
    for _ in range(3 * 1440):
        if covered(calendar, minute) is not state:
            assert found == minute, calendar
            return
        minute += MINUTE
    assert found is None or found >= minute, calendar
    if found is not None:  # far away: at least it is a change
        assert window.open_at(found) is not state
        assert window.open_at(found - timedelta(seconds=1)) is state
