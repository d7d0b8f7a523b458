"""tidegate init and schema: a starting configuration that is right at once, and never at the cost of a file."""

import json
import os
import re
import shlex
import stat
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner, Result

from tidegate.cli.init import write_new
from tidegate.cli.main import main
from tidegate.settings.read import load

FILES = ["tidegate.toml", "jobs.d/example.toml", "tidegate.schema.json"]


def init(*args: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["init", *args], env=env)


def test_what_init_writes_passes_check_at_once(tmp_path: Path) -> None:
    result = init(str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    for name in FILES:
        assert f"wrote {tmp_path / 'new' / name}\n" in result.stdout
    assert f"tidegate check --config {tmp_path}/new/tidegate.toml" in result.stdout
    plan = load(tmp_path / "new" / "tidegate.toml")
    assert plan.jobs
    assert plan.warnings == ()


def test_what_to_do_next_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    stdout = init(str(tmp_path / "it's a $HOME")).stdout
    pasted = re.search(r"tidegate check (.*)\n", stdout)
    assert pasted is not None
    assert shlex.split(pasted[1]) == ["--config", str(tmp_path / "it's a $HOME" / "tidegate.toml")]


def test_init_without_a_directory_writes_where_tidegate_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    result = init(HOME=str(tmp_path), XDG_CONFIG_HOME="", TIDEGATE_CONFIG="")
    assert result.exit_code == 0, result.output
    assert (tmp_path / ".config/tidegate/tidegate.toml").is_file()
    assert "\n  tidegate check\n" in result.stdout
    checked = CliRunner().invoke(
        main, ["check"], env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "TIDEGATE_CONFIG": ""}
    )
    assert checked.stdout == "OK: 4 jobs in 2 files\n"


def test_every_commented_key_is_right_when_uncommented(tmp_path: Path) -> None:
    init(str(tmp_path))
    before = load(tmp_path)
    for name in FILES[:2]:
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?m)^#(\w+ = |\[)", r"\1", text))
    after = load(tmp_path)
    assert after.warnings == ()
    assert after.jobs.keys() - before.jobs.keys() == {"once"}
    assert after.jobs["home-usage"] != before.jobs["home-usage"]


def test_commented_settings_of_the_daemon_show_their_defaults(tmp_path: Path) -> None:
    init(str(tmp_path))
    before = load(tmp_path)
    path = tmp_path / "tidegate.toml"
    text, count = re.subn(r"(?m)^#(\w+ = )(?!.*Europe/Berlin)", r"\1", path.read_text())
    assert count > 8
    path.write_text(text)
    after = load(tmp_path)
    assert (after.daemon, after.pool, after.http, after.metrics) == (
        before.daemon,
        before.pool,
        before.http,
        before.metrics,
    )


def test_nothing_is_overwritten_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "jobs.d").mkdir()
    mine = tmp_path / "jobs.d" / "example.toml"
    mine.write_text("# mine\n")
    result = init(str(tmp_path))
    assert result.exit_code == 1
    assert str(mine) in result.stderr
    assert mine.read_text() == "# mine\n"
    assert not (tmp_path / "tidegate.toml").exists()


def test_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").symlink_to(tmp_path / "elsewhere")
    result = init(str(tmp_path))
    assert result.exit_code == 1
    assert f"exist already, and nothing is overwritten:\n  {tmp_path}/tidegate.toml\n" in result.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "jobs.d").exists()


def test_file_that_appears_in_the_last_moment_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "mine", "ours")
    assert (tmp_path / "mine").read_text() == "mine"


def test_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = init(str(tmp_path / "file" / "below"))
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.output


def test_files_are_not_writable_for_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        init(str(tmp_path / "outer" / "new"))
    finally:
        os.umask(before)
    for name in FILES:
        assert stat.S_IMODE((tmp_path / "outer" / "new" / name).stat().st_mode) == 0o644
    for name in ("outer", "outer/new", "outer/new/jobs.d"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o755


def test_strict_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        init(str(tmp_path / "new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "tidegate.toml").stat().st_mode) == 0o600


def test_files_name_a_schema_that_stands_beside_them(tmp_path: Path) -> None:
    init(str(tmp_path))
    for name in FILES[:2]:
        first = (tmp_path / name).read_text().splitlines()[0]
        assert first.startswith("#:schema ")
        assert ((tmp_path / name).parent / first.removeprefix("#:schema ")).is_file()


def test_schema_prints_what_init_writes_and_knows_the_keys_of_the_templates(tmp_path: Path) -> None:
    init(str(tmp_path))
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert result.stdout == (tmp_path / "tidegate.schema.json").read_text()
    schema = json.loads(result.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    job_keys = schema["$defs"]["RawJob"]["properties"].keys()
    for job in tomli.loads((tmp_path / "jobs.d/example.toml").read_text())["jobs"].values():
        assert job.keys() <= job_keys
