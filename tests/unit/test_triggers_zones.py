"""Changes of offset: the famous ones by name, the zones that do not exist, and what people are told beforehand."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tidegate.model.job import At, Cron, Every, Job, Trigger
from tidegate.triggers.build import build
from tidegate.triggers.cron import parse
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.preview import effect
from tidegate.triggers.shifts import Shifts
from tidegate.triggers.zones import Change, Offsets, next_changes, zone


def walls(expression: str, zone_name: str, from_day: str, to_day: str) -> list[str]:
    """The fires from the start of one local day to the start of another, as the wall clock of the place shows them."""
    place = ZoneInfo(zone_name)
    trigger = build(Job(name="job", trigger=Cron(expression), timezone=zone_name))
    assert trigger is not None
    end = datetime.fromisoformat(to_day).replace(tzinfo=place)
    fire = trigger.after(datetime.fromisoformat(from_day).replace(tzinfo=place) - timedelta(microseconds=1))
    found = []
    while fire is not None and fire < end:
        assert fire.tzinfo is UTC
        found.append(fire.astimezone(place).strftime("%d %H:%M%z")[:-2])
        fire = trigger.after(fire)
    return found


def test_riga_spring_a_time_that_does_not_exist_runs_right_after_the_gap() -> None:
    assert walls("30 3 * * *", "Europe/Riga", "2024-03-30", "2024-04-02") == [
        "30 03:30+02",
        "31 04:00+03",
        "01 03:30+03",
    ]


def test_riga_spring_several_times_in_the_gap_are_one_fire() -> None:
    assert walls("0,20,40 3,4 * * *", "Europe/Riga", "2024-03-31", "2024-04-01") == [
        "31 04:00+03",
        "31 04:20+03",
        "31 04:40+03",
    ]


def test_riga_spring_wildcard_jobs_follow_the_clock() -> None:
    assert walls("*/30 2-4 * * *", "Europe/Riga", "2024-03-31", "2024-04-01") == [
        "31 02:00+02",
        "31 02:30+02",
        "31 04:00+03",
        "31 04:30+03",
    ]


def test_riga_autumn_a_time_that_comes_twice_runs_the_first_time() -> None:
    fires = ["26 03:30+03", "27 03:30+03", "28 03:30+02"]
    assert walls("30 3 * * *", "Europe/Riga", "2024-10-26", "2024-10-29") == fires


def test_riga_autumn_a_table_that_begins_in_the_repeated_hour_knows_that_it_is_one() -> None:
    second_time = int(datetime(2024, 10, 27, 1, 10, tzinfo=UTC).timestamp())  # 03:10+02
    fields = parse("30 3 * * *", "job")
    shifts = Shifts("Europe/Riga", Offsets(zone("Europe/Riga"), second_time), unit_s=60, wildcard=False)
    assert shifts.next(fields, second_time) == int(datetime(2024, 10, 28, 1, 30, tzinfo=UTC).timestamp())


def test_riga_autumn_wildcard_jobs_run_in_both_hours() -> None:
    assert walls("*/30 3 * * *", "Europe/Riga", "2024-10-27", "2024-10-28") == [
        "27 03:00+03",
        "27 03:30+03",
        "27 03:00+02",
        "27 03:30+02",
    ]


def test_new_york_once_an_hour_is_once_an_hour() -> None:
    trigger = build(Job(name="job", trigger=Cron("0 * * * *"), timezone="America/New_York"))
    assert trigger is not None
    fire = datetime(2024, 1, 1, tzinfo=UTC)
    for _ in range(366 * 24):
        following = trigger.after(fire)
        assert following == fire + timedelta(hours=1)
        fire = following


def test_lord_howe_shifts_by_half_an_hour() -> None:
    zone_name = "Australia/Lord_Howe"
    assert walls("15 2 * * *", zone_name, "2024-10-05", "2024-10-08") == ["05 02:15+10", "06 02:30+11", "07 02:15+11"]
    assert walls("45 1 * * *", zone_name, "2024-04-06", "2024-04-09") == ["06 01:45+11", "07 01:45+11", "08 01:45+10"]
    assert walls("*/15 1 * * *", zone_name, "2024-04-07", "2024-04-08") == [
        "07 01:00+11",
        "07 01:15+11",
        "07 01:30+11",
        "07 01:45+11",
        "07 01:30+10",
        "07 01:45+10",
    ]


@pytest.mark.parametrize(
    ("zone_name", "days", "fires"),
    [
        ("America/Sao_Paulo", ("2018-11-03", "2018-11-06"), ["03 00:00-03", "04 01:00-02", "05 00:00-02"]),
        ("Asia/Beirut", ("2022-03-26", "2022-03-29"), ["26 00:00+02", "27 01:00+03", "28 00:00+03"]),
        ("Africa/Cairo", ("2024-04-25", "2024-04-28"), ["25 00:00+02", "26 01:00+03", "27 00:00+03"]),
    ],
)
def test_where_midnight_does_not_exist_the_day_begins_with_its_first_hour(
    zone_name: str, days: tuple[str, str], fires: list[str]
) -> None:
    assert walls("@daily", zone_name, *days) == fires


def test_sao_paulo_where_midnight_comes_twice_the_evening_runs_once() -> None:
    # On 17 February 2018 the clocks went from 24:00 back to 23:00.
    assert walls("30 23 * * *", "America/Sao_Paulo", "2018-02-16", "2018-02-19") == [
        "16 23:30-02",
        "17 23:30-02",
        "18 23:30-03",
    ]
    assert walls("0 0 * * *", "America/Sao_Paulo", "2018-02-17", "2018-02-19") == ["17 00:00-02", "18 00:00-03"]


def test_dublin_where_summer_is_standard_time() -> None:
    assert walls("30 1 * * *", "Europe/Dublin", "2024-03-30", "2024-04-01") == ["30 01:30+00", "31 02:00+01"]
    assert walls("30 1 * * *", "Europe/Dublin", "2024-10-27", "2024-10-29") == ["27 01:30+01", "28 01:30+00"]


def test_casablanca_where_the_month_of_fasting_is_winter() -> None:
    assert walls("30 2 * * *", "Africa/Casablanca", "2024-03-10", "2024-03-12") == ["10 02:30+01", "11 02:30+00"]
    assert walls("30 2 * * *", "Africa/Casablanca", "2024-04-14", "2024-04-16") == ["14 03:00+01", "15 02:30+01"]


def test_troll_shifts_by_two_hours() -> None:
    assert walls("15,45 1-2 * * *", "Antarctica/Troll", "2024-03-31", "2024-04-01") == ["31 03:00+02"]
    assert walls("15 1-2 * * *", "Antarctica/Troll", "2024-10-27", "2024-10-28") == ["27 01:15+02", "27 02:15+02"]


def test_apia_a_skipped_day_is_a_correction_of_the_clock() -> None:
    assert walls("0 12 * * *", "Pacific/Apia", "2011-12-29", "2012-01-01") == ["29 12:00-10", "31 12:00+14"]


def test_casey_three_hours_forward_is_a_correction_and_three_hours_back_is_not() -> None:
    # cron.c: 181 minutes to go are beyond its bound of 180; 179 minutes ahead are within it.
    assert walls("30 5 * * *", "Antarctica/Casey", "2018-10-06", "2018-10-08") == ["06 05:30+08"]
    assert walls("30 2 * * *", "Antarctica/Casey", "2019-03-16", "2019-03-19") == [
        "16 02:30+11",
        "17 02:30+11",
        "18 02:30+08",
    ]


def test_an_interval_knows_no_summer_time() -> None:
    trigger = build(Job(name="job", trigger=Every(3600.0), timezone="Europe/Riga"))
    assert trigger is not None
    fire = trigger.after(datetime(2024, 3, 30, tzinfo=UTC))
    for _ in range(72):
        assert fire is not None
        following = trigger.after(fire)
        assert following == fire + timedelta(hours=1)
        fire = following


NO_ZONE = (
    "an abbreviation is no zone, as it stands for one offset all year or for several places; "
    "write Area/City, such as Europe/Berlin"
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mars/Olympus", 'unknown time zone "Mars/Olympus" (names are such as Europe/Berlin or UTC)'),
        ("Europe/Berln", 'unknown time zone "Europe/Berln"; did you mean "Europe/Berlin"?'),
        ("europe/riga", 'unknown time zone "europe/riga"; did you mean "Europe/Riga"?'),
        ("Berlin", 'unknown time zone "Berlin"; did you mean "Europe/Berlin"?'),
        ("utc", 'unknown time zone "utc"; did you mean "UTC"?'),
        ("UTCC", 'unknown time zone "UTCC"; did you mean "UTC"?'),
        ("ROME", 'unknown time zone "ROME"; did you mean "Europe/Rome"?'),
        ("JAPAN", 'unknown time zone "JAPAN"; did you mean "Japan"?'),
        ("cest", 'unknown time zone "cest" (names are such as Europe/Berlin or UTC)'),
        *[(name, f'unknown time zone "{name}": {NO_ZONE}') for name in ("CEST", "MEZ", "MESZ", "PST", "EDT", "BST")],
        ("", 'unknown time zone "" (names are such as Europe/Berlin or UTC)'),
        ("../../etc/passwd", 'unknown time zone "../../etc/passwd" (names are such as Europe/Berlin or UTC)'),
        ("a\0b", 'unknown time zone "a\\u0000b" (names are such as Europe/Berlin or UTC)'),
        ("zone.tab", 'unknown time zone "zone.tab" (names are such as Europe/Berlin or UTC)'),
    ],
)
def test_an_unknown_zone_is_named_with_a_hint(name: str, message: str) -> None:
    for ask in (lambda: zone(name), lambda: build(Job(name="job", trigger=Cron("* * * * *"), timezone=name))):
        with pytest.raises(TriggerError) as caught:
            ask()
        assert str(caught.value) == message


def test_a_folder_of_zones_is_no_zone() -> None:
    with pytest.raises(TriggerError, match=r'^unknown time zone "America"'):
        zone("America")


def test_without_tz_data_it_says_so_and_utc_works_all_the_same(tmp_path: Path) -> None:
    code = """
import sys
from datetime import UTC, datetime
sys.modules["tzdata"] = None  # the package would do as well
from tidegate.model.job import Cron, Job
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.build import build
print(build(Job(name="job", trigger=Cron("0 12 * * *"))).after(datetime(2026, 1, 1, tzinfo=UTC)).isoformat())
try:
    build(Job(name="job", trigger=Cron("0 12 * * *"), timezone="Europe/Riga"))
except TriggerError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONTZPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "2026-01-01T12:00:00+00:00",
        'time zone data not found: install tzdata (needed for time zone "Europe/Riga")',
    ]


def test_the_next_changes_of_a_zone() -> None:
    assert next_changes("Europe/Riga", datetime(2026, 1, 1, tzinfo=UTC), 2) == [
        Change(datetime(2026, 3, 29, 1, tzinfo=UTC), 7200, 10800),
        Change(datetime(2026, 10, 25, 1, tzinfo=UTC), 10800, 7200),
    ]
    # Strictly after: at the instant itself the change has happened.
    assert next_changes("Europe/Riga", datetime(2026, 3, 29, 1, tzinfo=UTC), 1)[0].after_s == 7200


def test_a_zone_without_changes_has_none() -> None:
    assert next_changes("UTC", datetime(2026, 1, 1, tzinfo=UTC), 2) == []
    assert next_changes("Asia/Tokyo", datetime(2026, 1, 1, tzinfo=UTC), 2) == []


SPRING = Change(datetime(2026, 3, 29, 1, tzinfo=UTC), 3600, 7200)  # Berlin
AUTUMN = Change(datetime(2026, 10, 25, 1, tzinfo=UTC), 7200, 3600)
LORD_HOWE = Change(datetime(2026, 10, 3, 15, 30, tzinfo=UTC), 37800, 39600)
APIA = Change(datetime(2011, 12, 30, 10, tzinfo=UTC), -36000, 50400)


@pytest.mark.parametrize(
    ("expression", "change", "told"),
    [
        ("30 2 * * *", SPRING, "02:30 does not exist: runs at 03:00"),
        ("30 2 * * *", AUTUMN, "02:30 comes twice: runs the first time only"),
        ("0,30 2 * * *", SPRING, "02:00 and 02:30 do not exist: runs once, at 03:00"),
        ("0-50/10 2 * * *", AUTUMN, "02:00 to 02:50 come twice: runs the first time only"),
        ("*/15 2 * * *", SPRING, "02:00 to 02:45 do not exist: 4 runs fall away"),
        ("*/15 2 * * *", AUTUMN, "02:00 to 02:45 come twice: runs both times"),
        ("10 30 2 * * *", SPRING, "02:30:10 does not exist: runs at 03:00:00"),
        ("30 3 * * *", SPRING, None),
        ("30 2 * * mon", SPRING, None),
        ("*/15 * * * *", SPRING, None),
        ("0 * * * *", AUTUMN, None),
        ("0 * * * *", LORD_HOWE, "02:00 does not exist: does not run"),
        ("*/30 * * * *", LORD_HOWE, None),
        ("0 12 * * *", APIA, "12:00 does not exist: does not run"),
    ],
)
def test_what_a_change_does_to_a_job_is_told_in_a_sentence(expression: str, change: Change, told: str | None) -> None:
    assert effect(Job(name="job", trigger=Cron(expression)), change) == told


@pytest.mark.parametrize("trigger", [None, Every(60.0), At(datetime(2026, 3, 29, 1, tzinfo=UTC))])
def test_a_change_does_nothing_to_jobs_without_a_clock_time(trigger: Trigger | None) -> None:
    assert effect(Job(name="job", trigger=trigger), SPRING) is None
