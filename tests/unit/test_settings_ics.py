"""Calendar files become spans of time, or a sentence that says why not."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidegate.settings import ics
from tidegate.settings.ics import spans_of
from tidegate.settings.read import SettingsError, load

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HEAD = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//EN\n"
TAIL = "END:VCALENDAR\n"


def event(lines: str, uid: str = "1") -> str:
    return f"BEGIN:VEVENT\nUID:{uid}\n{lines}\nEND:VEVENT\n"


def spans(*events: str, zone: str = "Europe/Berlin", head: str = HEAD) -> list[str]:
    data = (head + "".join(events) + TAIL).replace("\n", "\r\n").encode()
    return [f"{begin:%Y-%m-%d %H:%M}/{end:%Y-%m-%d %H:%M}" for begin, end in spans_of(data, zone, NOW)]


def test_an_all_day_event_goes_from_local_midnight_to_midnight_and_repeats_each_year() -> None:
    found = spans(event("DTSTART;VALUE=DATE:20201225\nDTEND;VALUE=DATE:20201227\nRRULE:FREQ=YEARLY"))
    assert found[:2] == ["2025-12-24 23:00/2025-12-26 23:00", "2026-12-24 23:00/2026-12-26 23:00"]
    assert len(found) == 7


def test_an_all_day_event_without_an_end_is_one_day() -> None:
    one = ["2026-12-24 23:00/2026-12-25 23:00"]
    assert spans(event("DTSTART;VALUE=DATE:20261225")) == one
    assert spans(event("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261225")) == one


def test_weekly_events_follow_the_clock_of_their_zone_and_leave_out_exceptions() -> None:
    found = spans(
        event(
            "DTSTART;TZID=America/New_York:20261026T090000\nDURATION:PT2H\nRRULE:FREQ=WEEKLY;COUNT=4\n"
            "EXDATE;TZID=America/New_York:20261109T090000"
        )
    )
    assert found == [
        "2026-10-26 13:00/2026-10-26 15:00",
        "2026-11-02 14:00/2026-11-02 16:00",
        "2026-11-16 14:00/2026-11-16 16:00",
    ]


def test_times_without_a_zone_are_in_that_of_the_calendar() -> None:
    one = event("DTSTART:20260701T090000\nDTEND:20260701T100000")
    assert spans(one, zone="Asia/Tokyo") == ["2026-07-01 00:00/2026-07-01 01:00"]
    assert spans(one.replace("T100000", "T100000Z").replace("T090000", "T090000Z")) == [
        "2026-07-01 09:00/2026-07-01 10:00"
    ]


def test_what_overlaps_or_touches_is_one_and_what_takes_no_time_is_none() -> None:
    assert spans(
        event("DTSTART:20260701T090000Z\nDTEND:20260701T100000Z"),
        event("DTSTART:20260701T093000Z\nDTEND:20260701T110000Z", "2"),
        event("DTSTART:20260701T110000Z\nDTEND:20260701T120000Z", "3"),
        event("DTSTART:20260801T110000Z", "4"),
    ) == ["2026-07-01 09:00/2026-07-01 12:00"]


def test_cancelled_and_free_times_count_for_nothing_but_free_days_do() -> None:
    timed = "DTSTART:20260701T090000Z\nDTEND:20260701T100000Z\n"
    assert spans(event(timed + "STATUS:CANCELLED"), event(timed + "TRANSP:TRANSPARENT", "2")) == []
    assert len(spans(event("DTSTART;VALUE=DATE:20260701\nTRANSP:TRANSPARENT"))) == 1


def test_an_event_over_new_year_is_one() -> None:
    assert spans(event("DTSTART:20261231T200000Z\nDTEND:20270102T100000Z")) == ["2026-12-31 20:00/2027-01-02 10:00"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no calendar file"),
        ("hello", "is no calendar file"),
        ("\0\xff", "is no calendar file"),
        ("BEGIN:VCALENDAR\n", "is no calendar file"),
        (event("DTSTART:20260701T090000Z"), "is no calendar file"),
        (HEAD + event("DTSTART:soon") + TAIL, "DTSTART"),
        (HEAD + event("SUMMARY:Nothing") + TAIL, 'event 1 "Nothing" has no DTSTART'),
        (HEAD + event("DTSTART:20260701T090000Z\nRRULE:FREQ=SOMETIMES") + TAIL, "RRULE"),
        (HEAD + event("DTSTART;TZID=America:20260701T090000") + TAIL, "event 1|directory"),
        (HEAD + event("DTSTART:20260701T090000Z\nRRULE:FREQ=DAILY;INTERVAL=0") + TAIL, "INTERVAL must be at least 1"),
        (HEAD + event("DTSTART:20260701T090000Z\nRRULE:FREQ=MINUTELY") + TAIL, "repeats more than once a day"),
        (
            HEAD + event("DTSTART:20260701T090000Z\nRRULE:FREQ=DAILY;BYMINUTE=1,2") + TAIL,
            "repeats more than once a day",
        ),
        (HEAD + event("DTSTART:20260702T090000Z\nDTEND:20260701T090000Z") + TAIL, "ends before it begins"),
        (HEAD + event("DTSTART;VALUE=DATE:20260702\nDTEND:20260703T090000Z") + TAIL, "ends before it begins"),
    ],
)
def test_a_broken_file_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        spans_of(text.replace("\n", "\r\n").encode(), "UTC", NOW)


def test_too_much_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = event("DTSTART:20260701T090000Z\nDTEND:20260701T100000Z\nRRULE:FREQ=DAILY")
    began = time.process_time()
    with pytest.raises(ValueError, match="201 repeating events, and 200"):
        spans(*[one] * 201)
    assert time.process_time() - began < 1.0
    monkeypatch.setattr(ics, "SPANS_MAX", 100)
    with pytest.raises(ValueError, match="more than 100 times"):
        spans(one)
    monkeypatch.setattr(ics, "EVENTS_MAX", 1)
    with pytest.raises(ValueError, match="2 events, and 1"):
        spans(one, one)
    monkeypatch.setattr(ics, "ICS_BYTES_MAX", 10)
    with pytest.raises(ValueError, match="larger"):
        spans(one)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recurring_ical_events", None)
    with pytest.raises(ValueError, match=r"pip install 'tidegate\[ics\]'"):
        spans(event("DTSTART;VALUE=DATE:20261225"))


def test_what_reads_no_calendar_file_imports_no_library_for_it() -> None:
    code = "import sys, tidegate.settings.read; print({'icalendar', 'dateutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_every_cut_of_a_file_is_read_or_told() -> None:
    text = (
        HEAD + event("DTSTART;TZID=America/New_York:20261026T090000\nDURATION:PT2H\nRRULE:FREQ=WEEKLY;COUNT=4") + TAIL
    )
    for cut in range(0, len(text), 3):
        for broken in (text[:cut], text[:cut] + text[cut + 4 :], text[:cut] + "\0;,:=" + text[cut:]):
            try:
                spans_of(broken.encode(), "UTC", NOW)
            except ValueError as error:
                assert str(error)


def test_the_configuration_holds_the_spans_and_a_missing_file_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "h.ics").write_text(HEAD + event("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY") + TAIL)
    main = tmp_path / "tidegate.toml"
    main.write_text('[calendars.holidays]\nfile = "h.ics"\ntimezone = "Europe/Berlin"\n')
    calendar = load(main).calendars["holidays"]
    assert calendar.file == str(tmp_path / "h.ics")
    assert calendar.spans
    main.write_text('[calendars.holidays]\nfile = "missing.ics"\n[calendars.b]\nfile = "tidegate.toml"\n')
    with pytest.raises(SettingsError) as caught:
        load(main)
    missing, broken = (problem for problem in caught.value.problems)
    assert (missing.line, missing.key) == (2, "calendars.holidays.file")
    assert "cannot be read: No such file or directory" in missing.message
    assert (broken.line, "is no calendar file" in broken.message) == (4, True)
