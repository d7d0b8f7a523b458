"""What a job and a run become before the keeper sees them."""

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from tidegate.executors import credentials
from tidegate.executors.command import SpawnRequests, read_env_file
from tidegate.executors.credentials import Identity, StartFailure, own_identity
from tidegate.model.job import Job, Leftovers, Limits, Output, RunAs
from tidegate.model.run import Run

DUE = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
WHO = Identity("ada", "/home/ada", "de_DE.UTF-8")


def run_of(job: Job, **changes: object) -> Run:
    return replace(Run(run_id="R1", job=job.name, scheduled_at=DUE, queued_at=DUE), **changes)


def written(job: Job, **changes: object) -> dict:
    request = SpawnRequests(WHO, Path("/state/output")).write(run_of(job, **changes), job)
    assert isinstance(request, dict)
    return request


def test_environment_is_exactly_what_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    job = Job(name="j", command=("x",), timezone="Europe/Berlin")
    assert written(job, attempt=2, catch_up=True, task="t")["env"] == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/ada",
        "USER": "ada",
        "LOGNAME": "ada",
        "SHELL": "/bin/sh",
        "LANG": "de_DE.UTF-8",
        "TIDEGATE_JOB": "j",
        "TIDEGATE_TASK": "t",
        "TIDEGATE_RUN_ID": "R1",
        "TIDEGATE_ATTEMPT": "2",
        "TIDEGATE_SCHEDULED_AT": "2026-07-01T14:30:00+02:00",
        "TIDEGATE_CATCH_UP": "1",
        "TIDEGATE_OUTPUT": "/state/values/R1.2",
    }


def test_env_goes_over_env_file_goes_over_defaults_and_never_over_tidegates_own(tmp_path: Path) -> None:
    file = tmp_path / "e"
    file.write_text("A=file\nB=file\nPATH=/file\nTIDEGATE_JOB=file\n")
    job = Job(name="j", command=("x",), env_file=str(file), env={"B": "env", "TIDEGATE_RUN_ID": "env"})
    env = written(job)["env"]
    assert (env["A"], env["B"], env["PATH"]) == ("file", "env", "/file")
    assert (env["TIDEGATE_JOB"], env["TIDEGATE_RUN_ID"]) == ("j", "R1")


def test_env_file_is_read_at_each_start(tmp_path: Path) -> None:
    file = tmp_path / "e"
    job = Job(name="j", command=("x",), env_file=str(file))
    requests = SpawnRequests(WHO, tmp_path)
    first = requests.write(run_of(job), job)
    assert isinstance(first, StartFailure) and str(file) in first.reason and "is not there" in first.reason
    file.write_text("A=1")
    second = requests.write(run_of(job), job)
    assert isinstance(second, dict) and second["env"]["A"] == "1"


def test_shell_text_goes_to_sh_and_a_command_goes_as_it_is() -> None:
    assert written(Job(name="j", shell="a && b"))["argv"] == ["/bin/sh", "-c", "a && b"]
    assert written(Job(name="j", command=("a", "$b", "c d")))["argv"] == ["a", "$b", "c d"]


def test_a_job_without_cwd_starts_at_home() -> None:
    assert written(Job(name="j", command=("x",)))["cwd"] == "/home/ada"
    assert written(Job(name="j", command=("x",), cwd="/srv"))["cwd"] == "/srv"
    assert written(Job(name="j", command=("x",), cwd="~/x"))["cwd"] == "/home/ada/x"
    assert written(Job(name="j", command=("x",), cwd="~"))["cwd"] == "/home/ada"


def test_journal_output_is_named_for_the_job() -> None:
    assert written(Job(name="j", command=("x",), output=Output.JOURNAL))["identifier"] == "tidegate-j"


def test_settings_of_the_job_reach_the_request() -> None:
    job = Job(name="j", command=("x",), umask=0o77, nice=5, timeout_s=9.0, kill_grace_s=3.0, leftovers=Leftovers.LEAVE)
    request = written(job)
    assert [request[key] for key in ("umask", "nice", "timeout_s", "kill_grace_s", "leftovers")] == [
        0o77,
        5,
        9.0,
        3.0,
        "leave",
    ]


def test_a_changed_job_is_not_answered_from_what_was_worked_out_before() -> None:
    requests = SpawnRequests(WHO, Path("/s"))
    for command in ("old", "new"):
        job = Job(name="j", command=(command,))
        request = requests.write(run_of(job), job)
        assert isinstance(request, dict) and request["argv"] == [command]


def test_attempts_share_the_output_file_and_have_a_values_file_each() -> None:
    request = written(Job(name="j", command=("x",)), attempt=3)
    assert request["output_path"] == "/state/output/j/R1.log"
    assert request["env"]["TIDEGATE_OUTPUT"] == "/state/values/R1.3"


def test_a_deleted_user_starts_nothing_and_the_reason_says_so() -> None:
    nobody_has = 4_000_000_123
    identity = own_identity(nobody_has)
    assert identity == StartFailure(
        "user 4000000123 is not in the user database; create it, or run tidegate as one that exists"
    )
    job = Job(name="j", command=("x",))
    assert SpawnRequests(identity, Path("/s")).write(run_of(job), job) == identity


def test_a_user_database_that_was_out_of_reach_is_asked_again():
    answers = [StartFailure("user 0 is not in the user database"), WHO]
    job = Job(name="a", command=("true",))
    requests = SpawnRequests(StartFailure("?"), Path("/s"), ask_again=lambda: answers.pop(0))
    assert isinstance(requests.write(run_of(job), job), StartFailure)
    assert requests.write(run_of(job), job)["argv"] == ["true"]
    requests.write(run_of(job), job)  # known from here on
    assert answers == []


def test_own_identity_is_the_user_databases_entry() -> None:
    identity = own_identity(os.getuid(), "xx")
    assert isinstance(identity, Identity) and identity.home.startswith("/") and identity.lang == "xx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("A=1\n\n# note\n; note\n  B = 2\n", {"A": "1", "B": "2"}),
        ("A=", {"A": ""}),
        ("A=a=b", {"A": "a=b"}),
        ("A=x y  \nB=z", {"A": "x y", "B": "z"}),
        ("A='x  # y'\nB=\"q\"", {"A": "x  # y", "B": "q"}),
        ("A=x # not a comment", {"A": "x # not a comment"}),
        ('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}),
        ('A="\\"\\$\\\\\\n"', {"A": '"$\\\\n'}),
        ("A=a\\\nb\nC=c", {"A": "ab", "C": "c"}),
        ("A='a'b\"c\"", {"A": "abc"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=unclosed'", {"A": "unclosed"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=grüße\\", {"A": "grüße"}),
    ],
)
def test_env_file_reads_as_systemd_does(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    file = tmp_path / "e"
    file.write_text(text, newline="")
    assert read_env_file(str(file)) == expected


def test_env_file_errors_name_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "e"
    file.write_text('A="1\n2"\nexport B=2\n')
    assert read_env_file(str(file)) == StartFailure(
        f"{file}:3: expected NAME=value: no export, no blank or other sign in a name"
    )
    file.write_bytes(b"A=\xff\n")
    assert "not UTF-8" in str(read_env_file(str(file)))
    file.write_bytes(b"A=a\0b\n")
    assert "NUL" in str(read_env_file(str(file)))
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    assert "larger than" in str(read_env_file(str(file)))
    assert "cannot be read" in str(read_env_file(str(tmp_path)))


def test_an_optional_env_file_may_be_missing(tmp_path: Path) -> None:
    assert read_env_file(f"-{tmp_path}/none") == {}
    assert isinstance(read_env_file(f"{tmp_path}/none"), StartFailure)


def test_a_time_zone_that_is_gone_fails_the_start_and_not_the_daemon() -> None:
    job = Job(name="j", command=("x",), timezone="Mars/Olympus")
    answer = SpawnRequests(WHO, Path("/s")).write(run_of(job), job)
    assert isinstance(answer, StartFailure) and "Mars/Olympus" in answer.reason


def test_ten_thousand_jobs_are_not_all_kept_in_memory() -> None:
    requests = SpawnRequests(WHO, Path("/s"))
    for number in range(1000):
        job = Job(name=f"j{number}", command=("x",))
        requests.write(run_of(job), job)
    assert len(requests._fixed) <= 256


def test_arguments_become_variables_and_never_reach_others() -> None:
    job = Job(name="j", command=("x",), env={"TIDEGATE_ARG_a": "env"})
    env = written(job, args={"a": "1", "_b2": "x; rm -rf $HOME\n"})["env"]
    assert (env["TIDEGATE_ARG_a"], env["TIDEGATE_ARG__b2"]) == ("1", "x; rm -rf $HOME\n")
    assert "TIDEGATE_ARG__b2" not in written(job)["env"]
    assert written(job)["argv"] == ["x"]


@pytest.mark.parametrize("args", [{"a": "x\0y"}, {"a-b": "1"}, {"": "1"}, {"a=b": "1"}, {"a\0": "1"}])
def test_arguments_that_cannot_be_given_start_nothing(args: dict[str, str]) -> None:
    job = Job(name="j", command=("x",))
    answer = SpawnRequests(WHO, Path("/s")).write(run_of(job, args=args), job)
    assert isinstance(answer, StartFailure) and "is no name, or its value holds a NUL" in answer.reason


def test_only_what_needs_it_asks_for_more_than_a_spawn() -> None:
    assert "birth" not in written(Job(name="j", command=("x",)))
    limited = Job(name="j", command=("x",), limits=Limits(pids=5, cpu_cores=0.5), oom_score_adj=10)
    assert written(limited)["birth"] == {"limits": {"cpu_cores": 0.5, "pids": 5}, "oom_score_adj": 10}


class Users:
    """A user database that can change between two starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uids = {"ada": 4001}
        monkeypatch.setattr(credentials.pwd, "getpwnam", self.getpwnam)
        monkeypatch.setattr(credentials.os, "getgrouplist", lambda name, gid: [gid, 77])
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    def getpwnam(self, name: str) -> pwd.struct_passwd:
        uid = self.uids[name]
        return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{uid}", "/bin/false"))


def test_a_user_is_looked_up_at_each_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Row 18: one deleted and made again has another number; one deleted runs nothing."""
    users = Users(monkeypatch)
    requests = SpawnRequests(WHO, Path("/state/output"), tmp_path / "values")
    job = Job(name="j", command=("x",), run_as=RunAs(user="ada"))
    for uid in (4001, 4002):
        users.uids["ada"] = uid
        request = requests.write(run_of(job), job)
        assert isinstance(request, dict)
        birth = request["birth"]
        assert (birth["uid"], birth["gid"], birth["groups"]) == (uid, uid, [77, uid])
        assert (request["env"]["HOME"], request["cwd"]) == (f"/home/{uid}", f"/home/{uid}")
        assert request["env"]["TIDEGATE_OUTPUT"] == birth["values_path"] == f"{tmp_path}/values/R1.1"
    del users.uids["ada"]
    answer = requests.write(run_of(job), job)
    assert answer == StartFailure("user 'ada' is not in the user database; create it, or correct user")


def test_who_one_is_already_needs_no_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    me = credentials.look_up(RunAs(), "C.UTF-8")
    assert isinstance(me, credentials.Credentials)
    monkeypatch.setattr(credentials, "is_own", lambda who: who.uid == os.geteuid())
    assert "birth" not in written(Job(name="j", command=("x",), run_as=RunAs(user=me.identity.name)))
