"""Crontabs: read as cron reads them, judged as cron judges them, and kept to the last comment."""

import ast
import itertools
from datetime import UTC, datetime
from pathlib import Path

import crontab_corpus as corpus
import debian_cron
import pytest
import tomli

from tidegate.settings import cron_rules
from tidegate.settings.anacrontab import read_anacrontab
from tidegate.settings.cron_rules import CronRefusal, Dialect, Fields, Loop, read_fields
from tidegate.settings.crontab import Crontab, Entry, Layout, Refused, read_crontab, read_setting
from tidegate.settings.crontab_jobs import Choice, Drafted, draft, name_of, split_percent
from tidegate.settings.toml_text import toml_comment, toml_line, toml_string

FROM = datetime(2026, 1, 1, tzinfo=UTC)
TO = datetime(2028, 1, 1, tzinfo=UTC)


def read(text: str, layout: Layout = Layout.USER, dialect: Dialect = Dialect.DEBIAN) -> Crontab:
    return read_crontab(text if text.endswith("\n") else text + "\n", layout, dialect)


def entry(line: str, layout: Layout = Layout.USER, dialect: Dialect = Dialect.DEBIAN) -> Entry:
    item = read(line, layout, dialect).items[-1]
    assert isinstance(item, Entry), item
    return item


def fields_of(expression: str, dialect: Dialect) -> Fields:
    return read_fields(expression.split(), dialect)


def job(line: str, layout: Layout = Layout.USER, **choice: object) -> Drafted:
    found = Choice(**choice)  # type: ignore[arg-type]
    item = draft(read(line, layout, found.dialect), found, set())[-1]
    assert isinstance(item, Drafted), item
    return item


# --- what cron's fields mean, and when ------------------------------------------------------------------------

EXPRESSIONS = [
    *("15 2 * * *", "30 2 * * *", "0,15,30,45 2 * * *", "*/10 * * * *", "5 */2 * * *", "0 0 * * *", "59 23 * * *"),
    *("0 0 */2 * mon", "0 0 13 * fri", "0 6 29 2 *", "0-29/7 1-3 1,15 jan-jun 1-5", "* 2 * * *", "30 1-3 * * sun"),
]
ZONES = [
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago"),
    *("Europe/Dublin", "Asia/Kolkata", "UTC", "Atlantic/Azores", "Asia/Beirut"),
]


@pytest.mark.parametrize("zone", ZONES)
def test_both_readings_of_debians_loop_agree_over_two_years(zone: str) -> None:
    from_s, to_s = int(FROM.timestamp()), int(TO.timestamp())
    loop = Loop(zone, from_s, to_s)
    reference = debian_cron.Span(debian_cron.Place(zone), from_s, to_s)
    for expression in EXPRESSIONS:
        ours = loop.fires(fields_of(expression, Dialect.DEBIAN))
        assert sorted(set(ours)) == reference.fires(debian_cron.Entry(expression)), expression


def test_a_change_of_three_hours_and_more_is_taken_as_a_correction() -> None:
    from_s = int(datetime(2011, 12, 1, tzinfo=UTC).timestamp())
    loop = Loop("Pacific/Apia", from_s, from_s + 60 * 86_400)  # the 30th of December 2011 was left out
    fires = loop.fires(fields_of("0 12 * * *", Dialect.DEBIAN))
    local = [datetime.fromtimestamp(at_s, loop.zone).strftime("%m-%d %H:%M") for at_s in fires]
    assert local[28:31] == ["12-29 12:00", "12-31 12:00", "01-01 12:00"]


def test_each_time_in_a_gap_is_a_start_of_its_own() -> None:
    loop = Loop("Europe/Berlin", int(datetime(2026, 3, 28, tzinfo=UTC).timestamp()),
                int(datetime(2026, 3, 30, tzinfo=UTC).timestamp()))  # fmt: skip
    fires = loop.fires(fields_of("0,30 2 * * *", Dialect.DEBIAN))
    gap = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())
    assert fires.count(gap) == 2


def test_cronies_zone_follows_the_clock_alone() -> None:
    from_s = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    fires = Loop("Europe/Berlin", from_s, from_s + 365 * 86_400).shown(fields_of("30 2 * * *", Dialect.CRONIE))
    days = [datetime.fromtimestamp(at_s, UTC).astimezone(Loop("Europe/Berlin", 0, 60).zone).date() for at_s in fires]
    assert datetime(2026, 3, 29, tzinfo=UTC).date() not in days
    assert days.count(datetime(2026, 10, 25, tzinfo=UTC).date()) == 2


def test_the_second_reading_shares_no_code_with_the_first() -> None:
    tree = ast.parse(Path(cron_rules.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in names if name and name.startswith(("tidegate", "cronsim", "apscheduler"))} == {
        "tidegate.model.text"
    }


@pytest.mark.parametrize(("line", "begins"), corpus.REFUSED.items())
def test_what_cron_refuses_or_never_runs_is_refused_with_the_reason(line: str, begins: str) -> None:
    (item,) = read(line).items
    assert isinstance(item, Refused)
    assert item.message.startswith(begins)
    assert item.line == 1


# Asked of Debian's crontab(1) and cron(8), 3.0pl1-162: all of these are accepted.
@pytest.mark.parametrize(
    ("fields", "means"),
    [
        ("*5 * * * *", "* * * * *"),
        ("5; * * * *", "5 * * * *"),
        ("*-5 * * * *", "* * * * *"),
        ("0~30 * * * *", "0 * * * *"),
        ("1-5/2/2 * * * *", "1-5/2 * * * *"),
        ("0 0 * * 1#2", "0 0 * * 1"),
        ("0 0 * * sat-sun,2", "0 0 * * 2"),
    ],
)
def test_what_cron_skips_over_is_left_out_and_told(fields: str, means: str) -> None:
    item = entry(f"{fields} x")
    assert item.when == means
    assert any(note.startswith("cron skips over") for note in item.notes)


def test_cronie_refuses_what_debian_skips_over() -> None:
    with pytest.raises(CronRefusal):
        fields_of("5; * * * *", Dialect.CRONIE)
    with pytest.raises(CronRefusal):
        fields_of("50-10 * * * *", Dialect.CRONIE)


# --- lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FOO = bar", ("FOO", "bar")),
        ("FOO=bar baz  ", ("FOO", "bar baz")),
        ('FOO=""', ("FOO", "")),
        ("\"A B\" = '  c d '", ("A B", "  c d ")),
        ("FOO=a'b", ("FOO", "a'b")),
        ("=bar", ("", "bar")),
        ("FOO=", None),
        ("FOO='bar", None),
        ('FOO="bar" baz', None),
        ("0 5 * * * A=b cmd", None),
        ("@daily A=b", None),
    ],
)
def test_a_setting_is_what_cron_takes_for_one(text: str, expected: tuple[str, str] | None) -> None:
    assert read_setting(text) == expected


def test_variables_hold_for_the_lines_below_them_only() -> None:
    first, second = (item for item in read("A=1\n0 0 * * * x\nA=2\nB=3\n0 0 * * * y\n").items)
    assert isinstance(first, Entry) and isinstance(second, Entry)
    assert first.env == {"A": "1"}
    assert second.env == {"A": "2", "B": "3"}


def test_a_system_line_names_its_user() -> None:
    item = entry("0 5 * * *  root \t cd / && x", Layout.SYSTEM)
    assert (item.user, item.command, item.when) == ("root", "cd / && x", "0 5 * * *")


def test_files_that_debians_cron_ignores_as_a_whole_are_told() -> None:
    assert "no newline" in read_crontab("0 0 * * * x", Layout.USER, Dialect.DEBIAN).notes[0]
    assert "as a whole" in read("0 0 * * * x\n61 * * * * y\n").notes[0]
    assert read("0 0 * * * x\n").notes == ()
    assert read("0 0 31 2 * x\n").notes == ()  # accepted, and never run


def test_a_carriage_return_is_left_out_and_told() -> None:
    item = entry("0 0 * * * x\r")
    assert item.command == "x"
    assert "carriage return" in item.notes[0]


# --- jobs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "shell", "stdin"),
    [
        (r"echo a\%b", "echo a%b", None),
        (r"echo 'a\\b'", r"echo 'a\b'", None),
        (r"echo \n", r"echo \n", None),
        (r"cat%one%two\%x%\\y\z", "cat", "one\ntwo%x\n\\\\y\\z\n"),
        ("cat%", "cat", ""),
        ("cat%%", "cat", "\n"),
        (r"cat%a\\%b", "cat", "a\\%b\n"),
        ("x\\", "x\\", None),
    ],
)
def test_percent_signs_and_backslashes_are_what_debians_cron_made_of_them(
    command: str, shell: str, stdin: str | None
) -> None:
    assert split_percent(command) == (shell, stdin)


def test_cronie_leaves_two_backslashes_alone() -> None:
    assert split_percent(r"echo 'a\\b\%'", Dialect.CRONIE) == (r"echo 'a\\b%'", None)


def test_a_job_does_as_cron_does() -> None:
    keys = job("0 5 * * * x", zone_name="Europe/Berlin", user="ada").keys
    assert keys == {
        "shell": "x", "cron": "0 5 * * *", "timezone": "Europe/Berlin", "user": "ada",
        "env": {"PATH": "/usr/bin:/bin"}, "overlap": "allow", "catch_up": "none", "timeout": "365d",
        "leftovers": "leave", "nice": 0,
    }  # fmt: skip


def test_another_shell_is_the_program_and_stays_in_the_environment() -> None:
    found = job("SHELL=/bin/bash\n0 5 * * * [[ a ]]")
    assert found.keys["command"] == ["/bin/bash", "-c", "[[ a ]]"]
    assert found.keys["env"] == {"PATH": "/usr/bin:/bin", "SHELL": "/bin/bash"}


def test_home_is_where_it_begins_and_logname_cannot_be_changed() -> None:
    found = job("HOME=/srv\nLOGNAME=x\n0 5 * * * x")
    assert found.keys["cwd"] == "/srv"
    assert found.keys["env"] == {"PATH": "/usr/bin:/bin", "HOME": "/srv"}
    assert any(note.startswith("LOGNAME") for note in found.notes)


def test_cron_tz_is_cronies_alone() -> None:
    line = "CRON_TZ=Asia/Tokyo\n0 5 * * * x"
    debian = job(line, zone_name="Europe/Berlin")
    assert debian.keys["timezone"] == "Europe/Berlin"
    assert any("Debian's cron does not know it" in note for note in debian.notes)
    cronie = job(line, zone_name="Europe/Berlin", dialect=Dialect.CRONIE)
    assert cronie.keys["timezone"] == "Asia/Tokyo"


def test_cronies_drawn_values_become_spread_ones() -> None:
    found = job("0~30 ~ * * * x", dialect=Dialect.CRONIE)
    assert found.keys["cron"] == "H(0-30) H(0-23) * * *"
    assert found.entry.fields is None


def test_mail_is_told_line_by_line_and_a_hook_is_used_where_there_is_one() -> None:
    assert job("MAILTO=a@example.org\n0 5 * * * x").notes[0].startswith("MAILTO=a@example.org: cron mails")
    assert job('MAILTO=""\n0 5 * * * x', mail_hook="ops").keys.get("on_failure") is None
    assert job("0 5 * * * x", mail_hook="ops").keys["on_failure"] == ["ops"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/sbin/logrotate /etc/logrotate.conf", "logrotate"),
        ("cd / && run-parts --report /etc/cron.hourly", "cron.hourly"),
        ("test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }", "cron.daily"),
        ("LANG=C nice -n 19 ionice -c3 /opt/backup.sh --all", "backup"),
        ("flock -n /run/x.lock /srv/poll.sh >/dev/null 2>&1", "poll"),
        ("timeout 30m /usr/bin/python3 -m app.tasks", "app.tasks"),
        ("php -q /srv/www/cron.php", "cron"),
        ("[ -x /usr/bin/mrtg ] && if true; then env LANG=C /usr/bin/mrtg x; fi", "mrtg"),
        ("/bin/sh -c 'x'", "sh"),
        ("'", "job"),
        ("%", "job"),
    ],
)
def test_a_job_is_named_after_the_program_that_does_the_work(command: str, name: str) -> None:
    assert name_of(command) == name


def test_names_are_unique_and_follow_the_order_of_the_lines() -> None:
    tab = read("0 0 * * * a\n1 0 * * * a\n2 0 * * * b\n3 0 * * * a\n")
    names = [item.name for item in draft(tab, Choice(), {"b"}) if isinstance(item, Drafted)]
    assert names == ["a", "a-2", "b-2", "a-3"]


@pytest.mark.parametrize(
    ("above", "description"),
    [
        ("# Dump the database", "Dump the database"),
        ("# Dump the database\n#  (kept for a week)", "Dump the database (kept for a week)"),
        ("# m h dom mon dow command", None),
        ("# ---------", None),
        ("# 0 5 * * * /old/command", None),
        ("# MAILTO=x", None),
        ("# far away\n", None),
        ("# one\n# two\n# three", None),
    ],
)
def test_a_comment_that_reads_like_one_becomes_the_description(above: str, description: str | None) -> None:
    assert job(f"{above}\n0 5 * * * x").keys.get("description") == description


def test_anacrontab_lines_become_jobs_that_make_up_for_what_was_missed() -> None:
    tab = read_anacrontab(corpus.ANACRON)
    jobs = [item for item in draft(tab, Choice(zone_name="UTC"), set()) if isinstance(item, Drafted)]
    assert [each.name for each in jobs] == ["cron.daily", "cron.weekly", "cron.monthly", "every.ten"]
    assert [each.keys.get("cron", each.keys.get("every")) for each in jobs] == [
        "5 3 * * *", "25 3 * * 1", "45 3 1 * *", "10d",
    ]  # fmt: skip
    assert {each.keys["catch_up"] for each in jobs} == {"last"}
    assert {each.keys["jitter"] for each in jobs} == {"45m"}
    assert jobs[1].keys["shell"] == "nice run-parts \t/etc/cron.weekly"
    assert jobs[0].keys["env"] == {"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", "MAILTO": "root"}


@pytest.mark.parametrize(
    "line",
    [
        "1 2 name",
        "0 5 a x",
        "x 5 a b",
        "1 x a b",
        "1 5 a/b c",
        "@yearly 5 a b",
        "99999999 5 a b",
        "1 ² a b",
        "1 5 a \0",
    ],
)
def test_bad_lines_of_an_anacrontab_are_refused(line: str) -> None:
    (item,) = read_anacrontab(line + "\n").items
    assert isinstance(item, Refused)


# --- TOML -----------------------------------------------------------------------------------------------------

NASTY = ["", "a", "a'b", 'a"b', "a\\b", "a'\"\\b", "'''", '"""', "a\nb", "a'\nb'", "a\n'''\nb", "\ta", "\x01\x7f\x9b",
         "\u202e", "😀\ue000", "a\r\nb", "\n", "\n\n", " lead", "end\\"]  # fmt: skip


@pytest.mark.parametrize("text", NASTY + ["".join(pair) for pair in itertools.product(["'", '"', "\\"], repeat=3)])
def test_every_text_is_read_back_as_it_was(text: str) -> None:
    for written in (toml_line(text), toml_string(text)):
        assert tomli.loads(f"a = {written}\n") == {"a": text}
    assert "\n" not in toml_line(text)
    assert tomli.loads(toml_comment(text.replace("\n", " ")) + "\na = 1\n") == {"a": 1}
