"""The reading commands where no daemon answers: what is on record in the history file and in output files."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from history_world import NOW, Opened, a_run, finished, queued, retrying, skipped, started, starting

from tidegate import clock
from tidegate.cli.main import main
from tidegate.history.entry import JobsKnown
from tidegate.model.command import Fact, Record
from tidegate.model.run import Outcome, Skip, State

ENDED = "1m7yxyrss00093sc"
GOING = "1m7yxyrss00093sd"
JOBS = """\
[daemon]
timezone = "Europe/Berlin"
[jobs.backup]
command = ["true"]
cron = "15 2 * * *"
[jobs.fresh]
command = ["true"]
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clock, "wall", lambda: NOW)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("TIDEGATE_CONFIG", str(tmp_path / "tidegate.toml"))
    monkeypatch.setenv("TZ", "UTC")
    (tmp_path / "tidegate.toml").write_text(JOBS)
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def write(state: Path, *records: Record) -> None:
    async def work() -> None:
        opened = Opened(state / "history.sqlite")
        await opened.wrote(JobsKnown((("backup", "cron", NOW, ""),), ()), *records)
        await opened.close()

    asyncio.run(work())


@pytest.fixture
def history(state: Path) -> Path:
    """A skipped run, a failed one with a second attempt, a success of 3 s, and one that runs."""
    failed, good, going = a_run("1m7yxyrss00093sa", 60), a_run(ENDED, 120), a_run(GOING, 180)
    write(
        state,
        skipped(a_run("1m7yxyrss00093s0"), count=3),
        queued(failed), starting(failed), started(failed), retrying(failed),
        finished(failed, Outcome.FAILED, attempt=2),
        queued(good), starting(good), started(good), finished(good, seconds=3.0),
        queued(going), starting(going), started(going),
        Record(fact=Fact.JOB_PAUSED, at=NOW, job="backup", reason="by root"),
    )  # fmt: skip
    return state


def tidegate(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def test_history_is_read_from_the_file_and_that_is_said(history: Path) -> None:
    result = tidegate("history")
    assert result.exit_code == 0, result.output
    assert [line.split()[4] for line in result.stdout.splitlines()[1:]] == [
        GOING, ENDED, "1m7yxyrss00093sa", "1m7yxyrss00093s0",
    ]  # fmt: skip
    assert "skipped: overlap ×3" in result.stdout
    assert result.stderr == f"note: no daemon answers; this is what is on record in {history}/history.sqlite\n"


def test_a_reason_is_told_in_the_zone_of_the_times_beside_it(state: Path) -> None:
    run = a_run("1m7yxyrss00093s0")
    write(state, skipped(run, Skip.OVERLAP, "run r0 is still running (since 2026-03-01 11:30:00 UTC)"))
    assert "(since Sun 2026-03-01 11:30:00 +00:00)" in tidegate("history").stdout


def test_history_filters_and_limits(history: Path) -> None:
    def ids(*args: str) -> list[str]:
        return [each["run_id"] for each in json.loads(tidegate("history", "--json", *args).stdout)]

    assert ids("--outcome", "succeeded") == [ENDED]
    assert ids("--outcome", "skipped", "--job", "backup") == ["1m7yxyrss00093s0"]
    assert ids("--job", "fresh") == []
    assert ids("--limit", "2") == [GOING, ENDED]
    assert ids("--since", NOW.isoformat().replace("12:00", "12:02")) == [GOING, ENDED]
    assert ids("--until", "0s") == ["1m7yxyrss00093s0"]


@pytest.mark.parametrize("command", [("history", "--job"), ("why",)])
def test_a_name_that_no_job_ever_had_is_told_with_the_nearest(history: Path, command: tuple[str, ...]) -> None:
    result = tidegate(*command, "bakcup")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith('Error: there is no job "bakcup"; did you mean "backup"?\n')


def test_a_job_without_a_fire_is_no_unknown_job(history: Path) -> None:
    assert tidegate("history", "--job", "fresh").stdout == "No such run is on record.\n"
    result = tidegate("why", "fresh")
    assert (result.exit_code, result.stdout) == (1, "  nothing to tell of: no fire of fresh is on record\n")


def test_why_explains_a_run_by_its_id(history: Path) -> None:
    result = tidegate("why", ENDED)
    assert result.exit_code == 0, result.output
    assert f"run {ENDED} of backup\n" in result.stdout
    assert tidegate("why", ENDED, "--at", "1h").exit_code == 2
    assert 'there is no job "1m7yxyrss0000000"' in tidegate("why", "1m7yxyrss0000000").stderr


def test_a_span_that_ends_before_it_begins_is_bad_usage(history: Path) -> None:
    result = tidegate("history", "--since", "2h", "--until", "3h")
    assert result.exit_code == 2
    assert "must not be before --since" in result.stderr


def test_why_tells_from_the_file(history: Path) -> None:
    result = tidegate("why", "backup", "--at", "2026-03-01T13:00")
    assert result.exit_code == 0, result.output
    assert "run 1m7yxyrss00093s0 of backup\n" in result.stdout
    assert "Sun 2026-03-01 13:00:00.000 +01:00  skipped: overlap: the one before still runs" in result.stdout
    assert tidegate("why", "other").exit_code == 1


def test_logs_are_read_from_the_output_file(history: Path) -> None:
    (history / "output" / "backup").mkdir(parents=True)
    (history / "output" / "backup" / f"{ENDED}.log").write_bytes(b"said\n\x1b[31m")
    assert tidegate("logs", ENDED).stdout_bytes == b"said\n\x1b[31m"


def test_logs_follow_no_link_out_of_the_state(history: Path, tmp_path: Path) -> None:
    (history / "output" / "backup").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (history / "output" / "backup" / f"{ENDED}.log").symlink_to(tmp_path / "secret")
    result = tidegate("logs", ENDED)
    assert "secret" not in result.output
    assert "it wrote nothing" in result.stderr


def test_logs_f_of_a_run_whose_end_nobody_can_tell_is_exit_3(history: Path) -> None:
    result = tidegate("logs", "-f", GOING)
    assert result.exit_code == 3
    assert "without -f it is shown" in result.stderr


def test_list_has_what_is_on_record(history: Path) -> None:
    result = tidegate("list")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split()[:6] == ["backup", "15", "2", "*", "*", "*"]
    assert "paused" in result.stdout.splitlines()[1]
    assert "no daemon answers; pauses and last runs are what is on record" in result.stderr
    rows = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)
    assert (rows[0]["paused"], rows[0]["running"]) == (True, None)
    assert rows[0]["last_success_at"] is not None
    assert rows[1]["paused"] is None


def test_show_has_the_durations_on_record(history: Path) -> None:
    shown = json.loads(CliRunner().invoke(main, ["show", "backup", "--json"]).stdout)
    assert (shown["duration_p50_s"], shown["duration_p99_s"]) == (3.0, 3.0)
    assert shown["last_run"]["run_id"] == GOING
    assert "3.0 s (p50), 3.0 s (p99) of the last success\n" in tidegate("show", "backup").stdout


def test_a_history_that_is_no_database_ends_reading_and_not_list(state: Path) -> None:
    (state / "history.sqlite").write_bytes(b"not a database" * 1000)
    for args in (["history"], ["why", "backup"], ["logs", "backup"]):
        result = tidegate(*args)
        assert result.exit_code == 1, result.output
        assert "cannot be read" in result.stderr
        assert "tidegate doctor" in result.stderr
    result = tidegate("list")
    assert result.exit_code == 0
    assert "the history cannot be read" in result.stderr


def test_an_empty_history_file_is_none(state: Path) -> None:
    (state / "history.sqlite").touch()
    assert tidegate("history").exit_code == 3
    assert tidegate("list").exit_code == 0


def test_reading_makes_no_file(history: Path) -> None:
    before = sorted(path.name for path in history.iterdir())
    tidegate("history")
    tidegate("list")
    assert sorted(path.name for path in history.iterdir()) == before


def test_states_that_the_records_have_are_states_that_end() -> None:
    """`--wait` and `-f` end with these; a state that the model gains must be looked at here."""
    over = {State.FINISHED, State.SKIPPED}
    assert set(State) - over == {
        State.HELD, State.QUEUED, State.STARTING, State.RUNNING, State.STOPPING, State.RETRYING,
    }  # fmt: skip
