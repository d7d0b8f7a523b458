"""tidegate import-crontab, whole: what it writes passes check, is proven, keeps every comment, and harms no file."""

import json
import os
import pwd
import time
from datetime import UTC, datetime
from pathlib import Path

import crontab_corpus as corpus
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidegate import clock
from tidegate.cli import crontab_proof, crontab_sources
from tidegate.cli.main import main
from tidegate.settings.read import load

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
DAYS_S = 45 * 86_400  # over the change of March
WHOLE_S = crontab_proof.SPAN_S


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall", lambda: NOW)
    monkeypatch.setattr(crontab_proof, "SPAN_S", DAYS_S)
    monkeypatch.setattr(crontab_sources, "CRONIE", Path("/nonexistent"))


def run(folder: Path, *args: str, text: str | None = None, zone: str = "Europe/Berlin") -> Result:
    """With a configuration in the folder, whose jobs.d is where the files go."""
    env = {"TIDEGATE_CONFIG": str(folder / "tidegate.toml")}
    if not (folder / "tidegate.toml").exists():
        (folder / "tidegate.toml").write_text("")
    return CliRunner().invoke(main, ["import-crontab", *args, "--timezone", zone], env=env, input=text)


def crontab(folder: Path, text: str, name: str = "tab") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def comments(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#")]


TABS = {"system": corpus.SYSTEM, "user": corpus.USER, "anacron": corpus.ANACRON}


def test_the_corpus_has_enough_lines() -> None:
    entries = [line for text in TABS.values() for line in text.splitlines() if line[:1] not in ("#", "")]
    assert len(entries) + len(corpus.REFUSED) >= 80


@pytest.mark.parametrize("layout", TABS)
@pytest.mark.parametrize("dialect", ["debian", "cronie"])
def test_every_crontab_passes_check_and_keeps_every_line(layout: str, dialect: str, tmp_path: Path) -> None:
    path = crontab(tmp_path, TABS[layout])
    result = run(tmp_path, path, "--layout", layout, "--dialect", dialect)
    assert "Traceback" not in result.output
    assert "not imported" not in result.output
    plan = load(tmp_path)
    assert plan.warnings == ()
    assert len(plan.jobs) == result.stdout.count("  line ")
    kept = comments(tmp_path / "jobs.d" / "tab.toml")
    for line in TABS[layout].splitlines():
        if not line.endswith("\\") and "\t/etc/cron.weekly" not in line:
            assert line.strip() in [each.strip() for each in kept] or not line.strip(), line


def test_a_user_crontab_differs_only_in_the_gap(tmp_path: Path) -> None:
    result = run(tmp_path, crontab(tmp_path, corpus.USER))
    differs = [line for line in result.stderr.splitlines() if ": differs: " in line]
    assert len(differs) == 1
    assert "2026-03-29 03:00+02:00: cron starts it 4 times at once" in differs[0]
    assert result.exit_code == 1
    assert run(tmp_path, crontab(tmp_path, corpus.USER), "--force", zone="UTC").exit_code == 0


def test_the_comparison_reaches_two_years_and_counts_every_fire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crontab_proof, "SPAN_S", WHOLE_S)
    result = run(tmp_path, crontab(tmp_path, "17 * * * * a\n15 2 * * * b\n0 5 * * 1 c\n"))
    assert "line 1: a: 17568 fires, all as cron" in result.stdout
    assert "line 2: b: 732 fires, all as cron" in result.stdout
    assert "line 3: c: 105 fires, all as cron" in result.stdout
    assert result.exit_code == 0


def test_a_wrong_trigger_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidegate.triggers.shifts import Shifts

    real = Shifts.next
    monkeypatch.setattr(Shifts, "next", lambda self, fields, at: (found := real(self, fields, at)) and found + 60)
    result = run(tmp_path, crontab(tmp_path, "15 2 * * * b\n"))
    assert result.exit_code == 1
    assert "tab:1: differs: 2026-03-02 02:15+01:00: cron starts it, tidegate does not start it" in result.stderr
    assert "differs: 80 times more" in result.stderr


def test_cronies_zone_differs_at_clock_changes_and_that_is_listed(tmp_path: Path) -> None:
    path = crontab(tmp_path, "CRON_TZ=Europe/Berlin\n30 2 * * * a\n0 5 * * * b\n")
    result = run(tmp_path, path, "--dialect", "cronie", zone="UTC")
    assert "tab:2: differs: 2026-03-29 03:00+02:00: cron does not start it, tidegate starts it" in result.stderr
    assert "line 3: b: 45 fires, all as cron" in result.stdout


@pytest.mark.parametrize(("line", "begins"), corpus.REFUSED.items())
def test_a_refused_line_is_told_with_its_place_and_kept_as_a_comment(line: str, begins: str, tmp_path: Path) -> None:
    result = run(tmp_path, crontab(tmp_path, f"# why\n{line}\n0 5 * * * good\n"))
    assert result.exit_code == 1
    assert f"tab:2: not imported: {begins}" in result.stderr
    assert list(load(tmp_path).jobs) == ["good"]
    assert any(each.startswith("NOT IMPORTED (line 2)") for each in comments(tmp_path / "jobs.d" / "tab.toml"))


def test_what_tidegate_would_not_take_becomes_a_comment_that_says_why(tmp_path: Path) -> None:
    text = "* * * * * nosuchuser x\n*/9999999 * * * * root y\n0 5 * * * root good\n"
    result = run(tmp_path, crontab(tmp_path, text), "--layout", "system")
    assert 'tab:1: not imported: tidegate takes no such job: user: no user named "nosuchuser"' in result.stderr
    assert "tab:2: not imported: tidegate takes no such job: cron: minute step" in result.stderr
    assert list(load(tmp_path).jobs) == ["good"]


def test_a_system_crontab_is_known_by_its_users(tmp_path: Path) -> None:
    result = run(tmp_path, crontab(tmp_path, "0 5 * * * root x\n1 5 * * * nobody y\n"))
    assert "read as a system crontab" in result.stderr
    assert [job.run_as.user for job in load(tmp_path).jobs.values()] == ["root", "nobody"]
    other = run(tmp_path, crontab(tmp_path, "0 5 * * * root x\n", "own"), "--layout", "user")
    assert "read as" not in other.stderr
    assert load(tmp_path).jobs["root"].run_as.user is None


def test_jobs_of_others_in_a_file_that_is_not_roots_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crontab(tmp_path, "0 5 * * * daemon x\n")
    told = "only a daemon of root's takes such files"
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("daemon").pw_uid)
    assert told not in run(tmp_path, path, "--layout", "system", "--dry-run").stderr
    monkeypatch.setattr(os, "geteuid", lambda: uid or 12345)
    assert told in run(tmp_path, path, "--layout", "system", "--dry-run").stderr


def test_the_system_is_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = tmp_path / "etc"
    (etc / "cron.d").mkdir(parents=True)
    (etc / "crontab").write_text(corpus.SYSTEM)
    (etc / "cron.d" / "php").write_text("0 5 * * * root x\n")
    (etc / "cron.d" / ".placeholder").write_text("# no\n")
    (etc / "cron.d" / "old.dpkg-old").write_text("0 5 * * * root gone\n")
    (etc / "anacrontab").write_text(corpus.ANACRON)
    monkeypatch.setattr(crontab_sources, "ETC", etc)
    result = run(tmp_path, "--system")
    assert "old.dpkg-old: not imported" in result.stderr
    assert sorted(path.name for path in (tmp_path / "jobs.d").iterdir()) == [
        "anacrontab.toml", "cron.d-php.toml", "crontab.toml",
    ]  # fmt: skip
    jobs = load(tmp_path).jobs
    assert jobs["x"].run_as.user == "root"
    assert jobs["cron.daily-2"].run_as.user == "root"  # anacron's
    assert result.exit_code == 0  # cron did not read that file either


def test_a_users_own_crontab_is_read_from_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "nobody").write_text("0 5 * * * x\n")
    monkeypatch.setattr(crontab_sources, "SPOOLS", (tmp_path / "none", tmp_path / "spool"))
    result = run(tmp_path, "--user", "nobody")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "jobs.d" / "crontab-nobody.toml").is_file()
    assert load(tmp_path).jobs["x"].run_as.user == "nobody"


def test_without_a_spool_file_crontab_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "crontab"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "-l -u daemon" ] && echo "0 5 * * * y" && exit 0\necho no crontab >&2; exit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(crontab_sources, "SPOOLS", (tmp_path / "none",))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert run(tmp_path, "--user", "daemon").exit_code == 0
    assert load(tmp_path).jobs["y"].run_as.user == "daemon"
    missing = run(tmp_path, "--user", "nobody")
    assert missing.exit_code == 1
    assert "crontab of nobody: no crontab" in missing.stderr
    assert 'no user named "nosuch"' in run(tmp_path, "--user", "nosuch").stderr


def test_a_dry_run_writes_nothing_and_prints_what_it_would(tmp_path: Path) -> None:
    result = run(tmp_path, crontab(tmp_path, "0 5 * * * x\n"), "--dry-run")
    assert result.exit_code == 0
    assert not (tmp_path / "jobs.d").exists()
    (tmp_path / "printed.toml").write_text(result.stdout)
    assert list(load(tmp_path / "printed.toml").jobs) == ["x"]


def test_no_file_is_written_over_unless_told(tmp_path: Path) -> None:
    path = crontab(tmp_path, "0 5 * * * x\n")
    run(tmp_path, path)
    target = tmp_path / "jobs.d" / "tab.toml"
    target.write_text("# mine\n")
    refused = run(tmp_path, path)
    assert refused.exit_code == 1
    assert f"these exist already, and nothing was written:\n  {target}" in refused.stderr
    assert target.read_text() == "# mine\n"
    assert run(tmp_path, path, "--force").exit_code == 0
    assert list(load(tmp_path).jobs) == ["x"]
    assert [entry.name for entry in (tmp_path / "jobs.d").iterdir()] == ["tab.toml"]


def test_names_are_the_same_when_it_is_done_again_and_avoid_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[jobs.x]\ncommand = ["true"]\n')
    path = crontab(tmp_path, "0 5 * * * x\n1 5 * * * x\n")
    run(tmp_path, path)
    first = (tmp_path / "jobs.d" / "tab.toml").read_text()
    run(tmp_path, path, "--force")
    assert (tmp_path / "jobs.d" / "tab.toml").read_text() == first
    assert list(load(tmp_path).jobs) == ["x", "x-2", "x-3"]


def test_output_names_another_folder_and_a_hook_is_used(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[daemon]\njobs = ["other/*.toml"]\n[hooks.ops]\ncommand = ["true"]\n')
    path = crontab(tmp_path, "MAILTO=x\n0 5 * * * x\n")
    result = run(tmp_path, path, "--output", str(tmp_path / "other"), "--mail-hook", "ops")
    assert "tab:2: note: MAILTO=x: cron mails" in result.stderr
    assert load(tmp_path).jobs["x"].hooks.failure == ("ops",)
    assert run(tmp_path, path, "--mail-hook", "no good").exit_code == 2


def test_json_tells_the_same(tmp_path: Path) -> None:
    text = "CRON_TZ=Asia/Tokyo\n0,30 2 * * * a\n61 * * * * b\n@reboot c\n"
    result = run(tmp_path, crontab(tmp_path, text), "--json")
    (file,) = json.loads(result.stdout)["files"]
    assert file["written"] is True
    assert [each["line"] for each in file["refused"]] == [3]
    first, second = file["jobs"]
    assert first["fires_compared"] == 89
    assert first["differences"] == [{"at": "2026-03-29T03:00:00+02:00", "cron": 2, "tidegate": 1}]
    assert "CRON_TZ=Asia/Tokyo" in first["notes"][0]
    assert (second["fires_compared"], second["not_compared"]) == (None, "at boot")


@pytest.mark.parametrize("args", [[], ["tab", "--system"], ["--user", "x", "--system"]])
def test_exactly_one_source_is_named(args: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, *args).exit_code == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is not a plain file"),
        (lambda path: path.write_bytes(b"0 5 * * * x\n\xff\n"), "not UTF-8"),
        (lambda path: path.write_bytes(b""), "nothing to write"),
    ],
)
def test_what_is_no_crontab_is_said_in_a_line(make, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "tab")
    result = run(tmp_path, str(tmp_path / "tab"))
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_sizes_have_limits_and_cost_no_time(tmp_path: Path) -> None:
    lines = [f"0 5 * * * x{' ' * 120_000}y", f"0 5 * * * {'x' * 200_000}", f"{','.join('1' * 300)} * * * * z"]
    text = "\n".join([*lines, f"# {'- ' * 50_000}", "0 5 * * * w", ""])
    began = time.monotonic()
    result = run(tmp_path, crontab(tmp_path, text))
    assert time.monotonic() - began < 20
    assert "tab:2: not imported: the line is longer than 128 KiB" in result.stderr
    assert "tab:3: not imported: tidegate takes no time field of more than" in result.stderr
    assert list(load(tmp_path).jobs) == ["x", "w"]
    many = run(tmp_path, crontab(tmp_path, "\n" * 10_001, "many"))
    assert "has more than 10000 lines" in many.stderr


def test_standard_input_is_a_crontab_too(tmp_path: Path) -> None:
    assert run(tmp_path, "-", text="0 5 * * * x\n").exit_code == 0
    assert (tmp_path / "jobs.d" / "crontab.toml").is_file()


def test_names_of_files_and_texts_steer_no_terminal(tmp_path: Path) -> None:
    result = run(tmp_path, crontab(tmp_path, "\x1b[31m 5 * * * x\n0 5 * * * \x1b]0;x\x07\n", "t\x1b"), "--dry-run")
    assert "\x1b" not in result.output


WORDS = st.sampled_from(
    ["0", "*", "*/5", "5-1", "@daily", "@reboot", "1,2", "~", "mon", "root", "A=b", "MAILTO=x", "CRON_TZ=Asia/Tokyo",
     "SHELL=/bin/csh", "%", "\\%", "\\", "'", '"', "'''", "#", "run-parts", "nice", "\t", "\r", "\x00", "\x1b", "é",
     "1", "7", "RANDOM_DELAY=6", "HOME=/x", '""', "=", "&&", "{", "-", "99999999999", "@monthly", "²"]
)  # fmt: skip
LINES = st.lists(WORDS, max_size=9).map(" ".join) | st.text(max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, max_size=6),
    layout=st.sampled_from(["user", "system", "anacron"]),
    dialect=st.sampled_from(["debian", "cronie"]),
)
@example(lines=["CRON_TZ=no/zone", "0 5 * * * x"], layout="user", dialect="cronie")
@example(lines=["* 2 29 3 * x"], layout="user", dialect="debian")
def test_whatever_stands_in_it_there_is_no_traceback_and_all_that_is_written_is_good(
    lines: list[str], layout: str, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crontab_proof, "SPAN_S", 86_400)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    (tmp_path / "tab").write_bytes(data + b"\n")
    result = run(tmp_path, str(tmp_path / "tab"), "--layout", layout, "--dialect", dialect, "--dry-run")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 1)
    if result.stdout:
        (tmp_path / "printed.toml").write_text(result.stdout, encoding="utf-8")
        load(tmp_path / "printed.toml")
    for line in result.stderr.splitlines():
        assert not line or str(tmp_path) in line or line.startswith("  line "), line
