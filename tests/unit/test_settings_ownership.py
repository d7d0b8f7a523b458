"""Threat 15: what others may change is refused where root would run it, and told everywhere else."""

import os
import stat
from pathlib import Path

import pytest

from tidegate.settings import ownership, source
from tidegate.settings.identity import Identity
from tidegate.settings.ownership import Ownership
from tidegate.settings.read import SettingsError, load

ROOT = Identity(0, 0)
SELF = Identity(os.geteuid(), os.getegid())
JOB = '[jobs.x]\nshell = "true"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.d").mkdir(mode=0o755)
    write("tidegate.toml", '[daemon]\ntimezone = "UTC"\n')
    write("jobs.d/a.toml", JOB)
    # The tests' own folder may belong to anybody: what is above it is not what is judged here.
    above = Path.stat

    def trusted_above(path: Path, **options: bool) -> os.stat_result:
        status = above(path, **options)
        return status if path.is_relative_to(tmp_path) else fake(0o40755, 0)

    monkeypatch.setattr(Path, "stat", trusted_above)


def write(path: str, text: str, mode: int = 0o644) -> Path:
    Path(path).write_text(text)
    Path(path).chmod(mode)
    return Path(path)


def fake(mode: int, uid: int, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def as_root(monkeypatch: pytest.MonkeyPatch) -> Identity:
    """Root by what it may, whoever runs the tests: the files then belong to it."""
    mine = os.geteuid()
    wrong = Ownership._judge

    def judge(self: Ownership, status: os.stat_result, folder: bool) -> str:
        owned = fake(status.st_mode, 0) if status.st_uid == mine else status
        return wrong(self, owned, folder)

    monkeypatch.setattr(Ownership, "_judge", judge)
    return ROOT


def problems(who: Identity) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Path(), who)
    return [str(problem) for problem in caught.value.problems]


def test_files_that_only_their_owner_writes_pass_without_a_word() -> None:
    assert load(Path(), SELF).warnings == ()


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o602])
def test_a_file_that_others_may_write_is_one_warning(mode: int) -> None:
    write("jobs.d/a.toml", JOB, mode)
    write("jobs.d/b.toml", JOB.replace("x", "y"), mode)
    assert load(Path(), SELF).warnings == (
        f"jobs.d/a.toml: may be written to by others (mode {mode:04o}), who could have anything run: chmod go-w;"
        " and 1 more file",
    )


def test_a_folder_that_others_may_write_is_told() -> None:
    Path("jobs.d").chmod(0o777)
    (warning,) = load(Path(), SELF).warnings
    assert warning.startswith(f"jobs.d/a.toml: the folder {Path.cwd()}/jobs.d may be written to by others (mode 0777)")


def test_threat_15_root_refuses_the_system_configuration_that_others_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    who = as_root(monkeypatch)
    write("jobs.d/a.toml", JOB, 0o666)
    write("tidegate.toml", '[daemon]\ntimezone = "UTC"\n', 0o664)
    assert load(Path(), who).warnings  # elsewhere it is only told
    monkeypatch.setattr(ownership, "ENFORCED_BENEATH", f"{Path.cwd()}/")
    assert [problem.split(" (")[0] for problem in problems(who)] == [
        "jobs.d/a.toml: may be written to by others",
        "tidegate.toml: may be written to by others",
    ]


def test_who_is_not_root_is_only_warned_wherever_the_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "ENFORCED_BENEATH", f"{Path.cwd()}/")
    write("jobs.d/a.toml", JOB, 0o666)
    assert len(load(Path(), Identity(4_000_000, 4_000_000)).warnings) == 1


def test_threat_15_root_refuses_jobs_of_other_users_from_files_that_others_may_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    who = as_root(monkeypatch)
    write("jobs.d/a.toml", JOB + 'user = "root"\n', 0o666)
    (problem,) = problems(who)
    assert problem.startswith("jobs.d/a.toml: may be written to by others (mode 0666)")
    write("jobs.d/a.toml", JOB + 'user = "root"\n')
    assert load(Path(), who).warnings == ()


def test_a_link_to_what_somebody_else_may_change_is_judged_by_what_it_leads_to() -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    write("open/b.toml", JOB.replace("x", "y"))
    Path("jobs.d/b.toml").symlink_to("../open/b.toml")
    (warning,) = load(Path(), SELF).warnings
    assert f"jobs.d/b.toml: the folder {Path.cwd()}/open may be written to by others" in warning


def test_a_link_in_a_folder_that_others_may_change_is_told_though_it_leads_to_a_safe_file() -> None:
    Path("safe").mkdir(mode=0o755)
    write("safe/b.toml", JOB.replace("x", "y"))
    Path("jobs.d/b.toml").symlink_to("../safe/b.toml")
    Path("jobs.d").chmod(0o777)
    (warning,) = load(Path(), SELF).warnings
    assert "and 1 more file" in warning


def test_what_was_opened_is_judged_and_not_what_its_name_means_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    write("jobs.d/a.toml", JOB, 0o666)
    closing = os.close

    def exchange(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "a.toml":
            Path("jobs.d/a.toml").chmod(0o644)  # an attacker tidies up
        closing(descriptor)

    monkeypatch.setattr(source.os, "close", exchange)
    assert "mode 0666" in load(Path(), SELF).warnings[0]


def test_who_only_looks_on_is_not_told() -> None:
    write("jobs.d/a.toml", JOB, 0o666)
    assert load(Path(), Identity(SELF.uid, SELF.gid, looks_on=True)).warnings == ()


@pytest.mark.parametrize(
    ("status", "who", "folder", "good"),
    [
        (fake(0o100644, 0), 1000, False, True),  # root's
        (fake(0o100644, 1000), 1000, False, True),  # one's own
        (fake(0o100644, 1001), 1000, False, False),
        (fake(0o100644, 1000), 0, False, False),  # root does not run what a user wrote
        (fake(0o100664, 0), 0, False, False),
        (fake(0o100666, 1000), 1000, False, False),
        (fake(0o041777, 0), 1000, True, True),  # /tmp
        (fake(0o041777, 1000), 1000, True, False),  # sticky, but not root's
        (fake(0o040777, 0), 0, True, False),
        (fake(0o100644 | stat.S_ISVTX, 1001), 1000, False, False),
    ],
)
def test_who_may_own_and_write(status: os.stat_result, who: int, folder: bool, good: bool) -> None:
    assert (Ownership(Identity(who, who))._judge(status, folder) == "") is good


def test_a_group_that_is_the_owners_own_may_write_but_not_where_root_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "private", lambda status: True)
    assert Ownership(Identity(1000, 1000))._judge(fake(0o100664, 1000, 1000), folder=False) == ""
    assert Ownership(ROOT)._judge(fake(0o100664, 0), folder=False)
    assert Ownership(Identity(1000, 1000))._judge(fake(0o100666, 1000, 1000), folder=False)
