"""tidegate check, list and show: what a person and a program read from a configuration."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tidegate import clock
from tidegate.cli.main import main
from tidegate.cli.show import masked, rows
from tidegate.model.job import Executor, Job, Python

NOW = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
NOBODY_TELLS = dict.fromkeys(
    ["paused", "running", "queued", "retrying", "last_run_at", "last_outcome", "last_success_at"]
)

MAIN = """\
[daemon]
timezone = "Europe/Berlin"
"""
JOBS = """\
[jobs.backup]
description = "Dump the database"
command = ["pg_dump", "-f", "/backup/app dump"]
cron = "15 2 * * *"
env = { PGPASSWORD = "hunter2", LANG = "C" }
retries = { max = 3, on_exit_codes = [1, 2] }

[jobs.report]
shell = '''
cd /srv/shop
make report
'''
every = "15m"
timezone = "America/New_York"

[jobs.later]
command = ["true"]
after = ["backup"]

[jobs.off]
command = ["true"]
cron = "@daily"
enabled = false

[jobs.start]
command = ["true"]
cron = "@reboot"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clock, "wall", lambda: NOW)
    return configured(tmp_path, JOBS)


def configured(folder: Path, jobs: str) -> Path:
    (folder / "tidegate.toml").write_text(MAIN)
    (folder / "jobs.d").mkdir()
    (folder / "jobs.d" / "shop.toml").write_text(jobs)
    return folder / "tidegate.toml"


@pytest.fixture(autouse=True)
def nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon and no history of the machine that this runs on."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "no-state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "no-runtime"))


def tidegate(*args: str | Path, **env: str) -> Result:
    return CliRunner().invoke(main, list(map(str, args)), env=env)


# --- check --------------------------------------------------------------------------------------


def test_good_configuration_is_one_line(config: Path) -> None:
    result = tidegate("check", config)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "OK: 5 jobs in 2 files\n", "")


@pytest.mark.parametrize("how", ["path", "folder", "option", "environment"])
def test_configuration_can_be_named_in_each_way(config: Path, how: str) -> None:
    match how:
        case "path":
            result = tidegate("check", config)
        case "folder":
            result = tidegate("check", config.parent)
        case "option":
            result = tidegate("check", "--config", config)
        case _:
            result = tidegate("check", TIDEGATE_CONFIG=str(config))
    assert result.stdout == "OK: 5 jobs in 2 files\n"


def test_all_problems_stand_on_stderr_with_path_and_line(tmp_path: Path) -> None:
    config = configured(tmp_path, '[jobs.a]\ncron = "61 * * * *"\ncommnd = ["true"]\n')
    result = tidegate("check", config)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert any(line.startswith(f"{tmp_path}/jobs.d/shop.toml:2: jobs.a.cron: minute must be 0-59") for line in lines)
    assert any(line.startswith(f"{tmp_path}/jobs.d/shop.toml:3: jobs.a.commnd: ") for line in lines)
    assert lines[-1] == f"Error: {len(lines) - 1} problems in the configuration"


def test_check_json_of_a_good_configuration(config: Path) -> None:
    result = tidegate("check", "--json", config)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "ok": True,
        "jobs": 5,
        "files": [str(config), str(config.parent / "jobs.d/shop.toml")],
        "problems": [],
        "warnings": [],
    }


def test_check_json_of_a_bad_configuration(tmp_path: Path) -> None:
    config = configured(tmp_path, '[jobs.a]\ncron = "61 * * * *"\ncommand = ["true"]\n')
    result = tidegate("check", "--json", config)
    assert result.exit_code == 1
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "ok": False,
        "jobs": 0,
        "files": [],
        "problems": [
            {
                "path": str(tmp_path / "jobs.d/shop.toml"),
                "line": 2,
                "key": "jobs.a.cron",
                "message": 'minute must be 0-59, got "61"',
            }
        ],
        "warnings": [],
    }


def test_warnings_are_told_and_do_not_fail(tmp_path: Path) -> None:
    config = configured(tmp_path, '[jobs.a]\ncommand = ["true"]\nat = 2001-01-01T00:00:00Z\n')
    result = tidegate("check", config)
    assert result.exit_code == 0
    assert result.stdout == "OK: 1 job in 2 files, 1 warning\n"
    assert result.stderr.startswith(f"warning: {tmp_path}/jobs.d/shop.toml:3: jobs.a.at: ")
    assert len(json.loads(tidegate("check", "--json", config).stdout)["warnings"]) == 1


@pytest.mark.parametrize("command", [["check"], ["list"], ["show", "a"], ["next"]])
def test_missing_configuration_is_exit_1_and_says_what_to_do(tmp_path: Path, command: list[str]) -> None:
    result = tidegate(*command, "--config", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"Error: there is no configuration at {tmp_path}/none.toml; "
        "'tidegate init' writes one, --config names another\n"
    )


def test_path_and_config_together_are_bad_usage(config: Path) -> None:
    assert tidegate("check", config, "--config", config).exit_code == 2


@pytest.mark.parametrize("command", [["check"], ["list"], ["show", "a"], ["next"], ["list", "--json"]])
def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path, command: list[str]) -> None:
    """No colour codes only: click takes those away by itself when it writes into a pipe."""
    jobs = (
        '[jobs.a]\ncommand = ["\\u001b]0;x\\u0007", "\\r"]\ndescription = "x\\u009b31m\\r\\u0007"\n'
        'cron = "* * * *\\u0085*"\nenv = { A = "\\u0007" }\n'
    )
    config = configured(tmp_path, jobs)
    for text in (jobs, jobs + '"\\u0007" = "\\u0007"\n[jobs."\\u0007"]\n'):
        (tmp_path / "jobs.d" / "shop.toml").write_text(text)
        result = tidegate(*command, "--config", config)
        assert result.exit_code == (0 if text == jobs else 1), result.output
        assert not set(result.output) & set(map(chr, [*range(10), *range(11, 32), *range(127, 160)]))


# --- list ---------------------------------------------------------------------------------------


def test_list_has_a_line_a_job_with_its_next_fire_in_its_own_zone(config: Path) -> None:
    result = tidegate("list", "--config", config)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "JOB     SCHEDULE      NEXT FIRE",
        "backup  15 2 * * *    Sat 2026-03-28 02:15 +01:00",
        result.stdout.splitlines()[2],
        "later   after backup  -",
        "off     @daily        disabled",
        "start   @reboot       -",
        "",
        "5 jobs, 1 disabled",
    ]
    assert result.stdout.splitlines()[2].startswith("report  every 15m     Fri 2026-03-27 08:")
    assert result.stdout.splitlines()[2].endswith(" -04:00")


def test_list_json_has_stable_keys(config: Path) -> None:
    result = tidegate("list", "--config", config, "--json")
    rows = json.loads(result.stdout)
    assert [row["job"] for row in rows] == ["backup", "report", "later", "off", "start"]
    assert rows[0] == {
        "job": "backup",
        "description": "Dump the database",
        "enabled": True,
        "schedule": "15 2 * * *",
        "timezone": "Europe/Berlin",
        "next_fire_at": "2026-03-28T02:15:00+01:00",
        "source": f"{config.parent}/jobs.d/shop.toml:1",
        **NOBODY_TELLS,
    }
    assert [row["next_fire_at"] for row in rows[2:]] == [None, None, None]
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_list_of_nothing_says_so(tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    assert tidegate("list", "--config", config).stdout == "No jobs are configured.\n"
    assert json.loads(tidegate("list", "--config", config, "--json").stdout) == []


# --- show ---------------------------------------------------------------------------------------


def test_show_tells_where_what_when_and_every_default(config: Path) -> None:
    result = tidegate("show", "backup", "--config", config)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["backup - Dump the database", f"defined at {config.parent}/jobs.d/shop.toml:1"]
    for line in [
        "  command             pg_dump -f '/backup/app dump'",
        "  schedule            15 2 * * *",
        "  timezone            Europe/Berlin",
        "  timeout             1d, then TERM; KILL after another 10s",
        "  retries             up to 3, after 10s, each wait × 2 up to 10m, ± 10%",
        "                      only after exit code 1, 2",
        "  output              file, at most 64MiB",
    ]:
        assert line in lines
    assert lines[-6:] == [
        "Next fires:",
        "  Sat 2026-03-28 02:15 +01:00",
        "  Sun 2026-03-29 03:00 +02:00",
        "  Mon 2026-03-30 02:15 +02:00",
        "  Tue 2026-03-31 02:15 +02:00",
        "  Wed 2026-04-01 02:15 +02:00",
    ]


def test_show_has_a_row_for_every_key_of_a_job(config: Path) -> None:
    """A key that the model gains must not be forgotten here."""
    labels = {line.split()[0] for line in tidegate("show", "later", "--config", config).stdout.splitlines() if line}
    elsewhere = {"name", "description", "source", "shell", "python", "trigger", "after"}  # head, command, schedule
    joined = {
        "kill_grace": "timeout",
        "catch_up_window": "catch_up",
        "output_max": "output",
        "run_as": "user",
        "memory_bytes": "memory",
        "cpu_cores": "cpu",
    }
    for field in set(Job.__struct_fields__) - elsewhere:
        key = field.removesuffix("_s").removesuffix("_bytes")
        assert joined.get(key, key) in labels, field


def test_show_has_what_a_python_job_calls_and_no_secret_of_it() -> None:
    python = Python(target="shop.jobs:run", kwargs={"api_key": "hunter2", "full": True}, executor=Executor.THREAD)
    labels = dict(rows(masked(Job(name="x", python=python))))
    assert labels["python"] == "shop.jobs:run" and "hunter2" not in str(labels)
    assert labels["executor"] == "thread, at most 100 in one process; a process is replaced after 100 calls"
    assert {"args", "kwargs", "interpreter", "python_path"} <= labels.keys() and "shell" not in labels


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_secrets_are_masked(config: Path, as_json: list[str]) -> None:
    result = tidegate("show", "backup", "--config", config, *as_json)
    assert "hunter2" not in result.output
    if as_json:
        assert json.loads(result.stdout)["env"] == {"PGPASSWORD": "***", "LANG": "C"}
    else:
        assert "PGPASSWORD=***\n" in result.stdout
        assert "LANG=C\n" in result.stdout


def test_show_keeps_the_lines_of_a_shell_text(config: Path) -> None:
    stdout = tidegate("show", "report", "--config", config).stdout
    assert "  shell               cd /srv/shop\n                      make report\n" in stdout


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("later", "No time fires it: it runs after backup."),
        ("off", "Disabled; it would fire:"),
        ("start", "It fires once after each boot."),
    ],
)
def test_show_says_why_there_are_no_fires(config: Path, job: str, words: str) -> None:
    assert words in tidegate("show", job, "--config", config).stdout


def test_show_json_holds_the_resolved_job(config: Path) -> None:
    shown = json.loads(tidegate("show", "backup", "--config", config, "--json").stdout)
    fields = set(Job.__struct_fields__) - {"name"}
    about = {"job", "schedule", "next_fires_at", "last_run", "learned", "duration_p50_s", "duration_p99_s"}
    assert shown.keys() == about | NOBODY_TELLS.keys() | fields
    assert shown["job"] == "backup"
    assert shown["command"] == ["pg_dump", "-f", "/backup/app dump"]
    assert shown["trigger"] == {"type": "cron", "expression": "15 2 * * *"}
    assert shown["timeout_s"] == 86400.0
    assert shown["retries"]["max"] == 3
    assert shown["next_fires_at"][:2] == ["2026-03-28T02:15:00+01:00", "2026-03-29T03:00:00+02:00"]
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_unknown_job_is_exit_1_with_a_near_miss(config: Path) -> None:
    result = tidegate("show", "bakup", "--config", config)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'Error: there is no job "bakup"; did you mean "backup"?\n'
    assert "tidegate list shows all jobs" in tidegate("show", "zzz", "--config", config).stderr
