"""tidegate cron: fire times of an expression, for people and for programs."""

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from tidegate import clock
from tidegate.cli.main import main


def cron(*args: str) -> Result:
    return CliRunner().invoke(main, ["cron", *args])


def cron_json(*args: str) -> list[str]:
    result = cron(*args, "--json")
    assert result.exit_code == 0, result.output
    times: list[str] = json.loads(result.stdout)
    return times


def test_json_is_a_list_of_iso_times_with_the_offset_of_the_zone() -> None:
    assert cron_json("15 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-03-28", "--count", "3") == [
        "2026-03-28T02:15:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:15:00+02:00",
    ]


def test_person_reads_weekday_time_and_offset() -> None:
    result = cron("15 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-03-28", "--count", "2")
    assert result.stdout == "Sat 2026-03-28 02:15 +01:00\nSun 2026-03-29 03:00 +02:00\n"
    assert result.stderr == ""


def test_seconds_are_shown_where_the_expression_has_them() -> None:
    result = cron("*/30 * * * * *", "--timezone", "UTC", "--from", "2026-01-01", "--count", "2")
    assert result.stdout == "Thu 2026-01-01 00:00:30 +00:00\nThu 2026-01-01 00:01:00 +00:00\n"


def test_fire_at_exactly_from_is_not_shown() -> None:
    assert cron_json("0 0 * * *", "--timezone", "UTC", "--from", "2026-01-01", "--count", "1") == [
        "2026-01-02T00:00:00+00:00"
    ]


def test_from_with_an_offset_is_that_instant_in_any_zone() -> None:
    start = "2026-01-01T00:00:00+01:00"
    assert cron_json("30 * * * *", "--timezone", "Asia/Kolkata", "--from", start, "--count", "1") == [
        "2026-01-01T05:30:00+05:30"
    ]


def test_from_without_an_offset_is_wall_time_in_the_zone() -> None:
    assert cron_json("0 * * * *", "--timezone", "Asia/Tokyo", "--from", "2026-01-01T12:30", "--count", "1") == [
        "2026-01-01T13:00:00+09:00"
    ]


def test_default_start_is_now_and_default_count_is_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall", lambda: datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC))
    times = cron_json("* * * * *", "--timezone", "UTC")
    assert len(times) == 10
    assert times[0] == "2026-05-01T12:01:00+00:00"


def test_h_is_spread_by_the_name_and_says_so_without_one() -> None:
    args = ("H H * * *", "--timezone", "UTC", "--from", "2026-01-01", "--count", "1")
    unnamed = cron(*args)
    assert "H depends on the job's name" in unnamed.stderr
    named = cron(*args, "--name", "backup")
    assert named.stderr == ""
    assert named.stdout == cron(*args, "--name", "backup").stdout
    assert len({cron(*args, "--name", f"job{number}").stdout for number in range(8)}) > 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["61 * * * *"], 'minute must be 0-59, got "61"'),
        (["@dayly"], 'did you mean "@daily"?'),
        (["0 0 30 2 *"], "never fires"),
        (["* * *"], "5 fields (minute hour day-of-month month day-of-week)"),
        (["15", "2", "a", "b", "c"], 'quote it: tidegate cron "15 2 * * *"'),
        (["* * * * *", "--timezone", "Europe/Berln"], 'did you mean "Europe/Berlin"?'),
        (["* * * * *", "--from", "yesterday"], "must be like 2026-03-29"),
        (["* * * * *", "--from", "0001-01-01"], "the year must be 1900-2200"),
        (["* * * * *", "--from", "9999-12-31T23:59:59-14:00"], "the year must be 1900-2200"),
        (["* * * * *", "--count", "0"], "--count"),
        ([], "EXPR"),
    ],
)
def test_bad_usage_is_exit_2_and_says_what_is_allowed(args: list[str], words: str) -> None:
    result = cron(*args)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert result.stdout == ""


def test_control_characters_in_an_expression_do_not_reach_the_terminal() -> None:
    result = cron("\x1b[31m * * * *")
    assert result.exit_code == 2
    assert "\x1b" not in result.output
