"""Programs and folders that a configuration carries with it: ./ and ../ begin at the folder of the file."""

from pathlib import Path

import pytest

from tidegate.settings.read import SettingsError, load


def write(folder: Path, job: str, defaults: str = "") -> Path:
    (folder / "jobs.d").mkdir()
    (folder / "jobs.d" / "a.toml").write_text(f'[jobs.a]\nevery = "1m"\n{job}\n', encoding="utf-8")
    main = folder / "tidegate.toml"
    main.write_text(f'[daemon]\njobs = ["jobs.d/*.toml"]\n[defaults]\n{defaults}\n', encoding="utf-8")
    return main


@pytest.mark.parametrize(
    ("written", "program"),
    [
        ("../bin/tool", "{folder}/bin/tool"),
        ("./tool", "{folder}/jobs.d/tool"),
        ("tool", "tool"),
        ("bin/tool", "bin/tool"),
        ("/usr/bin/tool", "/usr/bin/tool"),
        (".tool", ".tool"),
    ],
)
def test_only_a_program_that_begins_with_dots_and_a_slash_is_from_the_files_folder(tmp_path, written, program):
    plan = load(write(tmp_path, f'command = ["{written}", "../x"]'))
    assert plan.jobs["a"].command == (program.format(folder=tmp_path), "../x")


def test_a_cwd_may_be_beside_the_file(tmp_path):
    plan = load(write(tmp_path, 'command = ["true"]\ncwd = "../work"'))
    assert plan.jobs["a"].cwd == f"{tmp_path}/work"


def test_a_cwd_of_the_defaults_is_beside_the_main_file(tmp_path):
    plan = load(write(tmp_path, 'command = ["true"]', defaults='cwd = "./work"'))
    assert plan.jobs["a"].cwd == f"{tmp_path}/work"


def test_a_cwd_that_does_not_say_where_it_begins_is_refused(tmp_path):
    with pytest.raises(SettingsError) as refused:
        load(write(tmp_path, 'command = ["true"]\ncwd = "work"'))
    assert "jobs.a.cwd: must be absolute or begin with" in str(refused.value)
