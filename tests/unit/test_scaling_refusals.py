"""tidegate scale: what it does not take, and that it says so before anything runs."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tidegate.cli.main import main
from tidegate.cli.scale import of_job, of_words
from tidegate.model.job import Job


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name either a JOB or a command with --command"),
        (["job", "--command", "true"], "name either a JOB or a command with --command"),
        (["--command", ""], "it is empty"),
        (["--command", "echo 'x"], "No closing quotation"),
        (["--command", "true", "--workers", "0,1"], 'each must be a whole number from 1 to 256, got "0"'),
        (["--command", "true", "--workers", "1,257"], 'got "257"'),
        (["--command", "true", "--workers", "1,,2"], 'got ""'),
        (["--command", "true", "--workers", "1,²"], 'got "²"'),
        (["--command", "true", "--workers", "2,2"], "2 is given twice"),
        (["--command", "true", "--workers", "1,4,2"], "must rise: 2 stands behind 4"),
        (["--command", "true", "--workers", ",".join(map(str, range(1, 40)))], "at most 32 widths"),
        (["--command", "true", "--repeat", "0"], "'--repeat': 0 is not in the range"),
        (["--command", "true", "--items", "3"], "3 items never make 8 at once"),
    ],
)
def test_bad_usage_is_refused_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["scale", *arguments])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_job_is_refused_with_a_near_miss(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[jobs.backup]\ncommand = ["true"]\n')
    result = CliRunner().invoke(main, ["scale", "bakcup", "--config", str(tmp_path / "tidegate.toml")])
    assert result.exit_code == 1
    assert "backup" in result.stderr


def test_a_folder_that_cannot_be_written_is_found_out_before_anything_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    result = CliRunner().invoke(main, ["scale", "--command", f"touch {ran}", "--output", "/proc/none"])
    assert result.exit_code == 1
    assert "cannot write into /proc/none" in result.stderr
    assert not ran.exists()


def test_a_job_without_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="has no command"):
        of_job(Job(name="job"), tmp_path)


def test_words_are_split_as_a_shell_does_but_no_shell_runs() -> None:
    assert of_words("grep 'a b' *.log").argv == ("grep", "a b", "*.log")
