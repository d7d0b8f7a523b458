"""tidegate simulate: what it refuses, and how it says so."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidegate.cli.main import main

JOBS = """\
[jobs.backup]
command = ["true"]
cron = "0 2 * * *"
"""


def simulate(folder: Path, *args: str, jobs: str = JOBS) -> Result:
    (folder / "tidegate.toml").write_text(jobs)
    places = {"STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")}
    return CliRunner().invoke(main, ["simulate", "--config", str(folder / "tidegate.toml"), *args], env=places)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--days", "0"), "0 is not in the range 1<=x<=366"),
        (("--days", "-3"), "-3 is not in the range"),
        (("--days", "367"), "367 is not in the range"),
        (("--cores", "0"), "0.0 is not in the range"),
        (("--cores", "nan"), "must be a number from 0.01 to 4096"),
        (("--memory", "8"), 'must be a size such as "100B"'),
        (("--memory", "8KiB"), 'at least 1MiB, got "8KiB"'),
        (("--from", "tomorrow"), "must be like 2026-03-29"),
        (("--duration", "backup"), 'must be like backup=45m, got "backup"'),
        (("--duration", "bakcup=1h"), 'there is no job "bakcup"; did you mean "backup"?'),
        (("--duration", "backup=45"), 'backup: must be a duration such as "90s"'),
        (("--plot", "month.svg"), 'must end in .png, got "month.svg"'),
        (("--limit", "0"), "0 is not in the range"),
    ],
)
def test_bad_usage_is_exit_code_2_and_says_what_is_allowed(
    tmp_path: Path, args: tuple[str, ...], sentence: str
) -> None:
    told = simulate(tmp_path, *args)
    assert (told.exit_code, told.stdout) == (2, "")
    assert sentence in told.stderr


def test_a_configuration_with_problems_is_exit_code_1_with_each_of_them(tmp_path: Path) -> None:
    told = simulate(tmp_path, jobs='[jobs.a]\ncommand = ["x"]\ncron = "61 2 * * *"\n')
    assert told.exit_code == 1
    assert "tidegate.toml:3: jobs.a.cron: minute must be 0-59" in told.stderr


def test_no_jobs_and_no_job_that_time_fires_are_said(tmp_path: Path) -> None:
    for text in ("", '[jobs.a]\ncommand = ["x"]\n', '[jobs.a]\ncommand = ["x"]\ncron = "@daily"\nenabled = false\n'):
        told = simulate(tmp_path, jobs=text)
        assert (told.exit_code, told.stdout) == (1, "")
        assert "Error: no job is fired by time: there is nothing to simulate" in told.stderr
