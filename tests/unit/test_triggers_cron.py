"""What a cron expression means and which ones are refused, by behaviour."""

import calendar
import time
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.model.job import Cron, Job
from tidegate.triggers.build import build
from tidegate.triggers.cron import parse
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.fire import FireTrigger

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def trigger(expression: str, zone: str = "UTC", name: str = "job") -> FireTrigger:
    built = build(Job(name=name, trigger=Cron(expression), timezone=zone))
    assert built is not None
    return built


def fires(expression: str, count: int, after: datetime = NEW_YEAR, name: str = "job") -> list[datetime]:
    cron, found = trigger(expression, name=name), []
    for _ in range(count):
        following = cron.after(after)
        assert following is not None
        after = following
        found.append(after)
    return found


def dates(expression: str, year: int = 2026) -> list[date]:
    """The dates of a year on which it fires."""
    cron, found = trigger(expression), []
    fire = cron.after(datetime(year, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    while fire is not None and fire.year == year:
        found.append(fire.date())
        fire = cron.after(fire)
    return found


def all_dates(year: int = 2026) -> list[date]:
    return [date(year, 1, 1) + timedelta(days=day) for day in range(366) if day < 365 or calendar.isleap(year)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("61 * * * *", 'minute must be 0-59, got "61"'),
        ("-1 * * * *", 'minute must be 0-59, got "" in "-1"'),
        ("0 0 L-3 * *", 'day of month must be 1-31, got "l" in "l-3"'),
        ("0 0 * * monday", 'day of week must be 0-7 or sun-sat, got "monday"; write "mon"'),
        ("* 24 * * *", 'hour must be 0-23, got "24"'),
        ("* * 0 * *", 'day of month must be 1-31, got "0"'),
        ("* * 32 * *", 'day of month must be 1-31, got "32"'),
        ("* * * 13 *", 'month must be 1-12 or jan-dec, got "13"'),
        ("* * * juno *", 'month must be 1-12 or jan-dec, got "juno"; write "jun"'),
        ("* * * * 8", 'day of week must be 0-7 or sun-sat, got "8"'),
        ("* * * * someday", 'day of week must be 0-7 or sun-sat, got "someday"'),
        ("60 * * * * *", 'second must be 0-59, got "60"'),
        ("0 0 ? * *", 'day of month must be 1-31, got "?" (write * for any)'),
        ("1,,2 * * * *", 'minute must be 0-59, got ""'),
        ("*/0 * * * *", 'minute step must be a whole number from 1 to 9999, got "0"'),
        ("*/x * * * *", 'minute step must be a whole number from 1 to 9999, got "x"'),
        (f"*/{'9' * 900} * * * *", f'minute step must be a whole number from 1 to 9999, got "{"9" * 59}…"'),
        ("5/15 * * * *", 'minute step needs a range or *, such as "5-59/15", got "5/15"'),
        ("* 22-6 * * *", 'hour range must rise, got "22-6"'),
        ("* * * * 1#6", 'day of week after # must be 1-5, got "6"'),
        ("* * L/2 * *", 'day of month step needs a range or *, such as "1-31/2", got "l/2"'),
        ("* * * * L", 'day of week must be 0-7 or sun-sat, got "l"'),
        ("L * * * *", 'minute must be 0-59, got "l"'),
        ("H(0-70) * * * *", 'minute must be 0-59, got "70"'),
        ("H(9-1) * * * *", 'minute range must rise, got "H(9-1)"'),
        ("H(9) * * * *", 'minute must be H, H(a-b), H/step or H(a-b)/step, got "H(9)"'),
        ("H/0 * * * *", 'minute step must be a whole number from 1 to 9999, got "0"'),
        ("\x1b[1m * * * *", 'minute must be 0-59, got "\\u001b[1m"'),
        ("٣ * * * *", 'minute must be 0-59, got "٣"'),
        ("@reboot", '"@reboot" is no time of day and cannot be used here'),
        (
            "* * * *",
            "a cron expression has 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, "
            'got 4 in "* * * *"',
        ),
        (
            "@dayly",
            "must be one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @reboot, "
            'got "@dayly"; did you mean "@daily"?',
        ),
    ],
)
def test_a_wrong_expression_says_what_was_expected_and_what_was_found(expression: str, message: str) -> None:
    with pytest.raises(TriggerError) as caught:
        parse(expression, "job")
    assert str(caught.value) == message


def test_an_endless_expression_is_refused_unread() -> None:
    with pytest.raises(TriggerError, match="at most 1000 characters, got 2000006"):
        parse("1," * 1_000_000 + "1 * * * *"[:6], "job")


@pytest.mark.parametrize(
    "expression",
    ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 feb */2", "0 0 */31 2 2#5", "* * 31 4 *", "0 0 0 30 2 *"],
)
def test_an_expression_that_never_fires_is_refused_at_once(expression: str) -> None:
    started = time.process_time()
    with pytest.raises(TriggerError, match=r"^never fires: no date matches"):
        build(Job(name="job", trigger=Cron(expression)))
    assert time.process_time() - started < 0.05


def test_a_wildcard_job_whose_hour_never_exists_on_its_days_is_refused() -> None:
    with pytest.raises(TriggerError, match=r"^never fires: the hours it names do not exist on its days in Europe/"):
        trigger("* 2 * 3 7L", "Europe/Berlin")  # from 2 to 3 on the last Sunday of March


def test_rare_dates_are_found_however_far_away() -> None:
    assert fires("0 0 29 2 *", 2) == [datetime(2028, 2, 29, tzinfo=UTC), datetime(2032, 2, 29, tzinfo=UTC)]
    # 29 February on a Sunday, `*/7` being Sunday and a star: 28 years apart, 40 where 2100 is between.
    late = [datetime(year, 2, 29, tzinfo=UTC) for year in (2032, 2060, 2088, 2128)]
    assert fires("0 0 29 2 */7", 4) == late


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_nicknames_mean_what_debians_cron_says(name: str, fields: str) -> None:
    assert trigger(name) == trigger(fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0 0 * * 0", "0 0 * * 7"),
        ("0 0 * * sun", "0 0 * * 7"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * fri-sun", "0 0 * * 0,5,6"),
        ("0 0 * * SUN-tue", "0 0 * * 0-2"),
        ("0 0 * * 1-7/2", "0 0 * * 0,1,3,5"),
        ("0 0 * JAN,mar-May *", "0 0 * 1,3-5 *"),
        ("10-20/5 00-03 * * *", "10,15,20 0-3 * * *"),
        ("5-5/10 0 * * *", "5 0 * * *"),
        ("*/90 0 1 * *", "*/60 0 1 * *"),
        ("0 0 * * 7L", "0 0 * * sunL"),
        ("0 0 * * Fri#2", "0 0 * * 5#2"),
        ("  0\t0   * * *\n", "0 0 * * *"),
        ("0 5 0 * * *", "00 5 0 * * *"),
    ],
)
def test_two_ways_of_writing_the_same(one: str, other: str) -> None:
    assert trigger(one) == trigger(other)
    assert hash(trigger(one)) == hash(trigger(other))


def test_sunday_is_0_and_monday_is_1() -> None:
    assert {day.strftime("%a") for day in dates("0 0 * * 0")} == {"Sun"}
    assert {day.strftime("%a") for day in dates("0 0 * * 1")} == {"Mon"}


def test_day_of_month_or_day_of_week() -> None:
    assert dates("0 0 1,15 * sun") == [day for day in all_dates() if day.day in (1, 15) or day.isoweekday() == 7]


@pytest.mark.parametrize("days", ["* 1,15", "sun *"])
def test_a_star_in_one_of_them_leaves_the_other(days: str) -> None:
    dow, dom = days.split()
    expected = [day for day in all_dates() if (day.day in (1, 15) if dow == "*" else day.isoweekday() == 7)]
    assert dates(f"0 0 {dom} * {dow}") == expected


def test_a_field_that_begins_with_a_star_is_a_star_and_both_must_match() -> None:
    expected = [day for day in all_dates() if day.day % 2 == 1 and day.isoweekday() == 7]
    assert dates("0 0 */2 * sun") == expected
    assert dates("0 0 *,5 * sun") == [day for day in all_dates() if day.isoweekday() == 7]
    assert dates("0 0 13 * */5") == [day for day in all_dates() if day.day == 13 and day.isoweekday() in (5, 7)]
    # Written without the star, the same days of the month are joined with the Sundays.
    assert len(dates("0 0 1-31/2 * sun")) > len(expected)


def last_of(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def last_weekday_of(day: date) -> int:
    return max(each for each in range(1, last_of(day) + 1) if day.replace(day=each).isoweekday() < 6)


@pytest.mark.parametrize("year", [2023, 2024, 2026, 2027])
def test_last_days_and_nth_weekdays_against_the_calendar(year: int) -> None:
    days = all_dates(year)
    assert dates("0 0 L * *", year) == [day for day in days if day.day == last_of(day)]
    assert dates("0 0 LW * *", year) == [day for day in days if day.day == last_weekday_of(day)]
    assert dates("0 0 15,l * *", year) == [day for day in days if day.day in (15, last_of(day))]
    for dow in range(8):
        name = calendar.day_abbr[(dow - 1) % 7]
        last = [day for day in days if day.strftime("%a") == name and day.day + 7 > last_of(day)]
        assert dates(f"0 0 * * {dow}L", year) == last
        for nth in range(1, 6):
            expected = [day for day in days if day.strftime("%a") == name and (day.day + 6) // 7 == nth]
            assert dates(f"0 0 * * {dow}#{nth}", year) == expected
    either = [day for day in days if day.day == 1 or (day.isoweekday() == 5 and day.day + 7 > last_of(day))]
    assert dates("0 0 1 * 5L", year) == either


def test_seconds_come_first_where_there_are_six_fields() -> None:
    at = datetime(2026, 1, 1, 0, 0, tzinfo=UTC)
    assert fires("*/20 * * * * *", 3) == [at + timedelta(seconds=second) for second in (20, 40, 60)]
    assert fires("30 15 2 * * *", 1) == [datetime(2026, 1, 1, 2, 15, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("expression", "wildcard"),
    [
        ("* * * * *", True),
        ("*/5 2 * * *", True),
        ("5 * * * *", True),
        ("5 */2 * * *", True),
        ("@hourly", True),
        ("0-59 0-23 * * *", False),
        ("5 2 * * *", False),
        ("@daily", False),
        ("* 5 2 * * *", False),
        ("0 5 * * * *", True),
        ("H H * * *", False),
        ("H * * * *", True),
    ],
)
def test_a_wildcard_job_is_one_whose_minute_or_hour_begins_with_a_star(expression: str, wildcard: bool) -> None:
    assert trigger(expression).wildcard is wildcard


def test_h_is_the_same_in_every_process() -> None:
    # Written down once: if these change, every H of every installation moves.
    assert fires("H H * * *", 1, name="backup") == [datetime(2026, 1, 1, 14, 58, tzinfo=UTC)]
    assert fires("H H(0-5) * * *", 1, name="report") == [datetime(2026, 1, 1, 0, 12, tzinfo=UTC)]
    assert fires("H/15 * * * *", 2, name="backup") == [
        datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in (13, 28)
    ]


def test_h_spreads_jobs_over_the_hour() -> None:
    minutes = [fires("H * * * *", 1, name=f"job-{number}")[0].minute for number in range(600)]
    assert len(set(minutes)) == 60
    assert max(minutes.count(minute) for minute in range(60)) < 30


def test_h_of_different_fields_are_independent() -> None:
    pairs = {(fire.hour % 12, fire.minute % 12) for n in range(300) for fire in fires("H H * * *", 1, name=f"job-{n}")}
    assert len(pairs) > 100


@settings(deadline=None)
@given(name=st.text(max_size=20), low=st.integers(0, 59), high=st.integers(0, 59), step=st.integers(1, 70))
def test_h_stays_in_its_range_and_is_stable(name: str, low: int, high: int, step: int) -> None:
    low, high = sorted((low, high))
    once = parse(f"H({low}-{high}) * * * *", name)
    assert once is not None and once.minutes.bit_count() == 1
    assert low <= once.minutes.bit_length() - 1 <= high
    assert parse(f"h({low}-{high}) * * * *", name) == once
    stepped = parse(f"H({low}-{high})/{step} * * * *", name)
    minutes = [minute for minute in range(60) if stepped.minutes >> minute & 1]
    assert low <= minutes[0] < low + step
    assert minutes == list(range(minutes[0], high + 1, step))


@settings(deadline=None)
@given(name=st.text(max_size=20))
def test_h_as_a_day_is_one_that_every_month_and_week_has(name: str) -> None:
    assert len(fires("H H H * *", 12, name=name)) == 12
    assert len({fire.month for fire in fires("0 0 H * *", 12, name=name)}) == 12
    assert {(b - a).days for a, b in zip(*[iter(fires("0 0 * * H", 6, name=name))] * 2, strict=True)} == {7}


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/-,#@LWHhlwsunfrijaec() \t\x00é", max_size=40))
def test_no_text_raises_anything_but_a_trigger_error(text: str) -> None:
    try:
        parsed = parse(text, "job")
    except TriggerError as error:
        assert str(error).isprintable()
    else:
        assert parsed.minutes and parsed.hours and parsed.seconds
