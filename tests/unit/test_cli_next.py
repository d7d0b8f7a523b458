"""tidegate next: the drawing, the busiest minute, and the clock changes that move a fire."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from tidegate import clock
from tidegate.cli.drawing import PLAIN, brief, legend, mark
from tidegate.cli.main import main
from tidegate.cli.timeline import JOB_FIRES_MAX, ruler, timeline
from tidegate.cli.wording import duration, size
from tidegate.model.job import At, Cron, Every, Job

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 27, 11, 10, tzinfo=UTC)  # Friday 12:10 in Berlin

JOBS = """\
[daemon]
timezone = "Europe/Berlin"
[jobs.backup]
command = ["true"]
cron = "15 2 * * *"
[jobs.nightly]
command = ["true"]
cron = "0 3 * * *"
[jobs.archive]
command = ["true"]
cron = "0 3 * * *"
[jobs.often]
command = ["true"]
cron = "*/10 * * * *"
[jobs.new-york-close-of-the-day]
command = ["true"]
cron = "30 2 * * *"
timezone = "America/New_York"
[jobs.xmas]
command = ["true"]
at = 2026-12-24T18:00:00
[jobs.later]
command = ["true"]
after = ["backup"]
[jobs.manual]
command = ["true"]
[jobs.off]
command = ["true"]
cron = "@daily"
enabled = false
[jobs.start]
command = ["true"]
cron = "@reboot"
[jobs.past]
command = ["true"]
at = 2001-01-01T00:00:00
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clock, "wall", lambda: NOW)
    path = tmp_path / "tidegate.toml"
    path.write_text(JOBS)
    return path


def tidegate_next(config: Path, *args: str) -> Result:
    result = CliRunner().invoke(main, ["next", *args, "--config", str(config)])
    assert result.exit_code == 0, result.output
    return result


def job(name: str, expression: str) -> Job:
    return Job(name=name, command=("true",), trigger=Cron(expression), timezone="Europe/Berlin")


# --- the drawing --------------------------------------------------------------------------------


def test_the_drawing_in_full(config: Path) -> None:
    assert (
        tidegate_next(config).stdout
        == """\
The next 24 hours, in Europe/Berlin, from Fri 2026-03-27 12:00 +01:00

                   Fri 27 Mar              |Sat 28 Mar
                   12  14  16  18  20  22  00  02  04  06  08  10   next
often              ▂▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃ Fri 12:20
backup             ····························▂··················· Sat 02:15
archive            ······························▂················· Sat 03:00
nightly            ······························▂················· Sat 03:00
new-york-close-o.. ·······································▂········ Sat 07:30
xmas               ················································ 24 Dec 2026
all jobs           ▂▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▅▃▅▃▃▃▃▃▃▃▃▅▃▃▃▃▃▃▃▃

· 0  ▂ 1  ▃ 2-3  ▅ 4-9  ▆ 10-29  █ 30+ fires in 30 minutes
146 fires in all. Busiest minute: Sat 2026-03-28 03:00 +01:00, 3 fires
  archive, nightly, often

Clock changes that move a fire
  2026-03-29 02:00 Europe/Berlin +01:00 → +02:00
    backup: 02:15 does not exist: runs at 03:00
  2026-10-25 03:00 Europe/Berlin +02:00 → +01:00
    backup: 02:15 comes twice: runs the first time only
  2027-03-14 02:00 America/New_York -05:00 → -04:00
    new-york-close-of-the-day: 02:30 does not exist: runs at 03:00

Disabled: off
At boot: start
Fired by other jobs: later
Only by hand: manual
No coming fire: past
"""
    )


def test_piped_drawing_fits_80_columns_and_has_no_colour(config: Path) -> None:
    stdout = tidegate_next(config).stdout
    assert "\x1b" not in stdout
    assert max(map(len, stdout.splitlines())) <= 80


def test_fires_are_listed_below_only_when_a_count_is_given(config: Path) -> None:
    assert "Coming fires" not in tidegate_next(config).stdout
    stdout = tidegate_next(config, "--count", "2").stdout
    assert "\nComing fires\n  Fri 2026-03-27 12:20 +01:00  often\n  Fri 2026-03-27 12:30 +01:00  often\n\n" in stdout


def test_no_jobs_is_said(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text("")
    assert tidegate_next(path).stdout == "No jobs are configured.\n"
    path.write_text('[jobs.a]\ncommand = ["true"]\n')
    assert tidegate_next(path).stdout == "No job fires by time.\n\nOnly by hand: a\n"


# --- one job, and JSON --------------------------------------------------------------------------


def test_one_job_shows_its_fires_and_its_own_clock_changes(config: Path) -> None:
    assert (
        tidegate_next(config, "backup", "--count", "3").stdout
        == """\
backup: 15 2 * * * (Europe/Berlin)
  Sat 2026-03-28 02:15 +01:00
  Sun 2026-03-29 03:00 +02:00
  Mon 2026-03-30 02:15 +02:00

Clock changes that move a fire
  2026-03-29 02:00 Europe/Berlin +01:00 → +02:00
    backup: 02:15 does not exist: runs at 03:00
  2026-10-25 03:00 Europe/Berlin +02:00 → +01:00
    backup: 02:15 comes twice: runs the first time only
"""
    )


def test_from_looks_at_another_day_in_the_zone_of_the_job(config: Path) -> None:
    stdout = tidegate_next(config, "new-york-close-of-the-day", "--count", "1", "--from", "2027-03-14").stdout
    assert "Sun 2027-03-14 03:00 -04:00" in stdout


def test_disabled_job_shows_when_it_would_fire(config: Path) -> None:
    stdout = tidegate_next(config, "off", "--count", "1").stdout
    assert stdout.splitlines()[1:] == ["It is disabled; it would fire:", "  Sat 2026-03-28 00:00 +01:00"]


def test_unknown_job_is_exit_1(config: Path) -> None:
    result = CliRunner().invoke(main, ["next", "backpu", "--config", str(config)])
    assert result.exit_code == 1
    assert 'did you mean "backup"?' in result.stderr


def test_json_has_one_shape_with_and_without_a_job(config: Path) -> None:
    one = json.loads(tidegate_next(config, "backup", "--count", "1", "--json").stdout)
    assert one == {
        "from": "2026-03-27T12:10:00+01:00",
        "fires": [{"job": "backup", "at": "2026-03-28T02:15:00+01:00"}],
        "clock_changes": [
            {
                "timezone": "Europe/Berlin",
                "at": "2026-03-29T03:00:00+02:00",
                "offset_before": "+01:00",
                "offset_after": "+02:00",
                "effects": [{"job": "backup", "effect": "02:15 does not exist: runs at 03:00"}],
            },
            {
                "timezone": "Europe/Berlin",
                "at": "2026-10-25T02:00:00+01:00",
                "offset_before": "+02:00",
                "offset_after": "+01:00",
                "effects": [{"job": "backup", "effect": "02:15 comes twice: runs the first time only"}],
            },
        ],
    }
    every = json.loads(tidegate_next(config, "--count", "100", "--json").stdout)
    assert every.keys() == one.keys()
    assert len(every["fires"]) == 100
    assert {fire["job"] for fire in every["fires"]} >= {"often", "backup", "nightly", "archive"}
    instants = [datetime.fromisoformat(fire["at"]) for fire in every["fires"]]
    assert instants == sorted(instants)


# --- counting -----------------------------------------------------------------------------------


def test_cells_hold_every_fire_of_the_24_hours_and_no_other() -> None:
    start = datetime(2026, 1, 1, 11, 0, tzinfo=UTC)  # on a cell's edge: a fire at `now` itself is past
    picture = timeline([job("a", "0 * * * *")], start, BERLIN, 48)
    assert sum(picture.rows[0].cells) == picture.rows[0].total == 23
    assert picture.rows[0].cells[:4] == (0, 0, 1, 0)


def test_cells_begin_on_the_local_half_hour_where_the_offset_is_odd() -> None:
    kathmandu = ZoneInfo("Asia/Kathmandu")  # +05:45
    picture = timeline([job("a", "0 * * * *")], datetime(2026, 1, 1, 0, 20, tzinfo=UTC), kathmandu, 48)
    assert picture.start.astimezone(kathmandu).strftime("%H:%M") == "06:00"


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_cells_stay_on_the_half_hour_on_the_day_of_a_clock_change(day: str) -> None:
    now = datetime.fromisoformat(f"{day}T12:40").replace(tzinfo=BERLIN)
    assert timeline([job("a", "0 * * * *")], now, BERLIN, 48).start == now - timedelta(minutes=10)


def test_busiest_minute_is_the_one_with_most_jobs() -> None:
    jobs = [job("a", "0 3 * * *"), job("b", "0 3 * * *"), job("c", "0 3,4 * * *"), job("d", "0 4 * * *")]
    busiest = timeline(jobs, NOW, BERLIN, 48).busiest
    assert busiest is not None
    assert busiest.minute.astimezone(BERLIN).strftime("%H:%M") == "03:00"
    assert (busiest.fires, busiest.jobs) == (3, ("a", "b", "c"))


def test_there_is_no_busiest_minute_where_nothing_meets() -> None:
    assert timeline([job("a", "0 3 * * *"), job("b", "1 3 * * *")], NOW, BERLIN, 48).busiest is None


def test_job_that_fires_each_minute_is_counted_in_full_and_a_faster_one_is_estimated() -> None:
    each_second = Job(name="fast", command=("true",), trigger=Every(1.0))
    picture = timeline([job("minutely", "* * * * *"), each_second], NOW, BERLIN, 48)
    rows = {row.job: row for row in picture.rows}
    assert not rows["minutely"].estimated
    assert rows["minutely"].total == 1429 <= JOB_FIRES_MAX  # 12:11 to 11:59
    assert rows["fast"].estimated
    assert rows["fast"].total == pytest.approx(86_400, rel=0.02)
    assert all(rows["fast"].cells)
    assert picture.busiest is None


def test_faster_job_is_named_beside_the_busiest_minute(config: Path) -> None:
    config.write_text(JOBS + '[jobs.fast]\ncommand = ["true"]\nevery = "2s"\n')
    stdout = tidegate_next(config).stdout
    assert "not counted there, since so frequent: fast\n" in stdout
    assert "\nAbout 43," in stdout


def test_many_jobs_share_the_limit_and_hourly_ones_are_still_exact() -> None:
    jobs = [job(f"j{number}", f"{number % 60} * * * *") for number in range(8000)]
    picture = timeline(jobs[:10] + [job("minutely", "* * * * *")] + jobs[10:], NOW, BERLIN, 48)
    assert [row.job for row in picture.rows if row.estimated] == ["minutely"]
    assert {row.total for row in picture.rows if not row.estimated} == {23, 24}  # 12:00 to 12:10 is past


def test_rows_are_in_the_order_of_their_first_fire() -> None:
    once = Job(name="once", command=("true",), trigger=At(datetime(2030, 1, 1, tzinfo=UTC)))
    picture = timeline([once, job("b", "0 3 * * *"), job("a", "0 3 * * *"), job("c", "0 2 * * *")], NOW, BERLIN, 48)
    assert [row.job for row in picture.rows] == ["c", "a", "b", "once"]


# --- words and marks ----------------------------------------------------------------------------


def test_ruler_shows_the_hour_that_comes_twice_twice_where_there_is_room() -> None:
    start = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
    _, wide = ruler(start, timedelta(minutes=15), 96, BERLIN)
    assert wide.startswith("22      00      02  02      04")
    _, narrow = ruler(start, timedelta(minutes=30), 48, BERLIN)
    assert narrow.startswith("22  00  02    04")


def test_ruler_leaves_out_a_day_that_has_no_room() -> None:
    days, _ = ruler(datetime(2026, 1, 1, 22, 0, tzinfo=UTC), timedelta(minutes=30), 48, BERLIN)
    assert days == "  |Fri 2 Jan"


@pytest.mark.parametrize(("count", "shown"), list(zip([0, 1, 2, 3, 4, 9, 10, 29, 30, 9999], ".ill++**##", strict=True)))
def test_marks_rise_with_the_count(count: int, shown: str) -> None:
    assert mark(count, PLAIN) == shown


def test_legend_names_every_mark() -> None:
    assert legend(PLAIN) == ". 0  i 1  l 2-3  + 4-9  * 10-29  # 30+"


def test_next_fire_far_away_shows_its_date() -> None:
    assert brief(NOW + timedelta(days=5), BERLIN, NOW) == "Wed 13:10"
    assert brief(NOW + timedelta(days=7), BERLIN, NOW) == " 3 Apr 2026"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (0.5, "500ms"), (90, "1m30s"), (86_400, "1d"), (5400, "1h30m"), (1.25, "1s250ms")],
)
def test_durations_read_as_they_are_written(seconds: float, words: str) -> None:
    from tidegate.settings.amounts import duration_s

    assert duration(seconds) == words
    assert duration_s(words) == seconds


@pytest.mark.parametrize("words", ["64MiB", "1KiB", "1000B", "2GiB", "3TiB"])
def test_sizes_read_as_they_are_written(words: str) -> None:
    from tidegate.settings.amounts import size_bytes

    assert size(size_bytes(words)) == words
