"""The commands that ask the daemon, against a socket that answers from a table: what is asked, what is shown, how each
ends. The same with the real daemon is in test_cli_control.py."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from fake_daemon import FakeDaemon, Request, problem

from tidegate import clock
from tidegate.api.shapes import ARG_NAME
from tidegate.cli import trigger as trigger_command
from tidegate.cli.main import main
from tidegate.model.view import (
    DecisionView,
    HoldingView,
    JobView,
    LeaseView,
    PoolView,
    ReloadView,
    ResourceView,
    RunView,
    WaitingView,
)

pytestmark = pytest.mark.live

NOW = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
RUN_ID = "1m7yxyrss00093sc"
ESCAPING = "evil\x1b[31m"
TIDEGATE = [sys.executable, "-c", "from tidegate.cli.main import main; main()"]


def run(**changes: Any) -> RunView:
    fields: dict[str, Any] = dict.fromkeys(RunView.__struct_fields__)
    fields |= {
        "run_id": RUN_ID, "job": "backup", "task": "", "cause": "manual", "attempt": 1, "scheduled_at": NOW,
        "queued_at": NOW, "state": "queued", "reason": "", "output_bytes": 0, "output_incomplete": False,
        "catch_up": False, "fires": 1,
    }  # fmt: skip
    return RunView(**(fields | changes))


def succeeded(**changes: Any) -> RunView:
    ended = NOW + timedelta(seconds=2)
    return run(
        **{"state": "finished", "outcome": "succeeded", "started_at": NOW, "ended_at": ended, "duration_s": 2.0}
        | changes
    )


def job(**changes: Any) -> JobView:
    fields = {
        "name": "backup", "description": "", "schedule": "15 2 * * *", "timezone": "Europe/Berlin", "enabled": True,
        "paused": False, "next_fire_at": NOW, "running": 0, "queued": 0, "last_run": None, "last_success_at": None,
    }  # fmt: skip
    return JobView(**(fields | changes))


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setattr(clock, "wall", lambda: NOW)
    at(tmp_path, monkeypatch)
    fake = FakeDaemon(tmp_path / "run")
    yield fake
    fake.close()


def at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(folder / "state"))
    monkeypatch.setenv("TZ", "UTC")


def tidegate(*args: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, args)))


def no_terminal_is_steered(result: Result) -> None:
    assert "\x1b" not in result.output


# --- nobody answers -----------------------------------------------------------------------------

AS_NOBODY = """
import json, os, sys
from click.testing import CliRunner
from tidegate.cli.main import main
def ask(command):
    done = CliRunner().invoke(main, command)
    return done.exit_code, done.output or repr(done.exception)
commands = json.loads(sys.argv[1])
for command in commands:
    ask(command)  # imports what it needs: the interpreter may be where the other user cannot read
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print(json.dumps([ask(command) for command in commands]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_who_may_not_connect_is_told_so_and_not_that_there_is_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        at(folder, monkeypatch)
        fake = FakeDaemon(folder / "run")
        try:
            folder.chmod(0o711)
            (folder / "run").chmod(0o711)
            fake.path.chmod(0o660)
            (folder / "state").mkdir(mode=0o700)
            commands = [["history"], ["trigger", "backup"], ["doctor", "--json"]]
            asking = [sys.executable, "-c", AS_NOBODY, json.dumps(commands)]
            done = subprocess.run(asking, capture_output=True, text=True, check=True, timeout=60)
        finally:
            fake.close()
    (code, history), (trigger_code, trigger), (_, doctor) = json.loads(done.stdout)
    assert (code, trigger_code) == (3, 3)
    assert trigger.startswith("Error: you may not connect to ")
    assert trigger.strip() in history and "no daemon" not in history
    found = {each["name"]: each for each in json.loads(doctor)["findings"]}
    for each in ("control socket", "daemon"):
        assert found[each]["level"] == "degraded" and "you may not connect" in found[each]["found"]


ASKING = [
    ["trigger", "backup"], ["cancel", RUN_ID], ["pause", "backup"], ["resume", "backup"], ["reload"], ["history"],
    ["logs", "backup"], ["why", "backup"], ["top", "--once"], ["acquire", "database", "--", "true"],
]  # fmt: skip


@pytest.mark.parametrize("args", ASKING, ids=lambda args: args[0])
@pytest.mark.parametrize("socket_left", [False, True])
def test_without_a_daemon_it_is_exit_3_and_said_what_to_do(
    args: list[str], socket_left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(tmp_path, monkeypatch)
    if socket_left:
        (tmp_path / "run").mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "run" / "tidegate.sock"))
    result = tidegate(*args)
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"no daemon answers at {tmp_path}/run/tidegate.sock" in result.stderr
    assert "'tidegate run' starts one" in result.stderr


def test_a_socket_path_longer_than_the_kernel_takes_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 40)
    at(folder, monkeypatch)
    fake = FakeDaemon(folder / "run")
    fake.replies["POST /api/v1/jobs/backup/pause"] = 200, job(paused=True)
    assert tidegate("pause", "backup").exit_code == 0
    fake.close()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (problem(403, "you may read, not operate: ask for the group"), "you may read, not operate"),
        (problem(404, f"there is no job {ESCAPING}"), "there is no job evil\\x1b[31m"),
        ((500, b"<html>"), "the daemon answered with status 500"),
        ((200, b'{"name": 1}'), "cannot be understood"),
        ((200, b"not JSON"), "cannot be understood"),
    ],
)
def test_a_refusal_is_one_sentence_and_exit_1(daemon: FakeDaemon, reply: Any, words: str) -> None:
    daemon.replies["POST /api/v1/jobs/backup/pause"] = reply
    result = tidegate("pause", "backup")
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    no_terminal_is_steered(result)


def test_a_daemon_that_goes_away_in_mid_answer_is_exit_3(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/jobs/backup/pause"] = 0, b""
    result = tidegate("pause", "backup")
    assert result.exit_code == 3
    assert "went away while it was asked" in result.stderr


# --- trigger ------------------------------------------------------------------------------------


def test_trigger_hands_over_arguments_and_says_what_became_of_it(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/jobs/backup/runs"] = 202, run()
    result = tidegate("trigger", "backup", "--arg", "a=1", "--arg", "b=x=y")
    assert (result.exit_code, result.stdout) == (0, f"backup: queued (run {RUN_ID})\n")
    assert daemon.asked[0].body["args"] == {"a": "1", "b": "x=y"}
    assert daemon.asked[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "words",
    [["--arg", "a"], ["--arg", "=1"], ["--arg", "a=1", "--arg", "a=2"], ["--arg", "1a=1"], ["--arg", f"{'a' * 65}=1"]],
)
def test_trigger_with_wrong_arguments_is_bad_usage(daemon: FakeDaemon, words: list[str]) -> None:
    assert tidegate("trigger", "backup", *words).exit_code == 2
    assert daemon.asked == []


@pytest.mark.parametrize("word", ["ä=1", "a-b=1"])
def test_a_name_that_no_argument_can_have_is_told_in_words(daemon: FakeDaemon, word: str) -> None:
    result = tidegate("trigger", "backup", "--arg", word)
    assert "a NAME has up to 64 letters (A-Z, a-z), digits and _" in result.stderr
    assert f'got "{word.partition("=")[0]}"' in result.stderr
    assert daemon.asked == []


def test_what_the_command_takes_for_a_name_is_what_the_daemon_takes() -> None:
    assert f"^{trigger_command.ARG_NAME.pattern}$" == ARG_NAME


def test_a_skipped_run_is_exit_1_with_its_reason(daemon: FakeDaemon) -> None:
    skipped = run(state="skipped", skip="overlap", reason=f"run 1 of it is running {ESCAPING}")
    daemon.replies["POST /api/v1/jobs/backup/runs"] = 202, skipped
    result = tidegate("trigger", "backup", "--wait")
    assert result.exit_code == 1
    assert "backup: skipped: overlap: run 1 of it is running" in result.stdout
    no_terminal_is_steered(result)


@pytest.mark.parametrize(
    ("last", "code", "words"),
    [
        (succeeded(), 0, "backup: succeeded in 2.0 s"),
        (succeeded(outcome="failed", reason="exit code 3", exit_code=3), 1, "backup: failed after 2.0 s: exit code 3"),
        (run(state="skipped", skip="start_deadline", reason="too late"), 1, "skipped: start_deadline: too late"),
    ],
)
def test_trigger_wait_ends_with_the_run(daemon: FakeDaemon, last: RunView, code: int, words: str) -> None:
    states = iter([run(state="running"), run(state="retrying", outcome="failed"), last])
    daemon.replies["POST /api/v1/jobs/backup/runs"] = 202, run()
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = lambda _: (200, next(states))
    result = tidegate("trigger", "backup", "--wait")
    assert result.exit_code == code
    assert words in result.stdout


def test_trigger_wait_goes_through_a_restart_of_the_daemon(daemon: FakeDaemon) -> None:
    states = iter([(200, run(state="running")), (0, b""), (0, b""), (200, succeeded())])
    daemon.replies["POST /api/v1/jobs/backup/runs"] = 202, run()
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = lambda _: next(states)
    assert tidegate("trigger", "backup", "--wait").exit_code == 0


def test_trigger_wait_gives_up_on_a_daemon_that_stays_away(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_command, "AGAIN_S_MAX", 0.2)
    daemon.replies["POST /api/v1/jobs/backup/runs"] = 202, run()
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = 0, b""
    result = tidegate("trigger", "backup", "--wait")
    assert result.exit_code == 3
    assert f"Run {RUN_ID} of backup may go on without it" in result.stderr


def test_a_trigger_that_was_not_answered_is_asked_again_under_the_same_id(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_command, "PAUSE_S_MAX", 0.01)
    answers = iter([(0, b""), (202, run())])
    daemon.replies["POST /api/v1/jobs/backup/runs"] = lambda _: next(answers)
    assert tidegate("trigger", "backup").exit_code == 0
    daemon.replies["POST /api/v1/jobs/backup/runs"] = 202, run()
    assert tidegate("trigger", "backup").exit_code == 0
    first, again, another = (asked.body["request_id"] for asked in daemon.asked)
    assert first == again != another


# --- cancel, pause, resume, reload --------------------------------------------------------------


def test_cancel_tells_that_it_is_under_way_or_done(daemon: FakeDaemon) -> None:
    daemon.replies[f"POST /api/v1/runs/{RUN_ID}/cancel"] = 202, run(state="stopping", started_at=NOW)
    assert tidegate("cancel", RUN_ID).stdout == f"backup: run {RUN_ID} is being stopped\n"
    daemon.replies[f"POST /api/v1/runs/{RUN_ID}/cancel"] = (
        202,
        run(state="finished", outcome="cancelled", reason="by me"),
    )
    assert tidegate("cancel", RUN_ID).stdout == f"backup: cancelled: by me (run {RUN_ID})\n"


def test_names_are_quoted_into_the_path(daemon: FakeDaemon) -> None:
    assert tidegate("pause", "../../x?y#z").exit_code == 1
    assert daemon.asked[0].path == "/api/v1/jobs/..%2F..%2Fx%3Fy%23z/pause"


def test_pause_and_resume_say_what_follows(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/jobs/backup/pause"] = 200, job(paused=True, running=1)
    daemon.replies["POST /api/v1/jobs/backup/resume"] = 200, job()
    assert tidegate("pause", "backup").stdout == (
        "backup: paused; 1 run of it goes on; 'tidegate resume backup' ends that\n"
    )
    assert tidegate("resume", "backup").stdout == "backup: resumed; next fire Fri 2026-03-27 13:00:00 +01:00\n"
    assert json.loads(tidegate("pause", "backup", "--json").stdout)["paused"] is True


def test_reload_prints_what_changed(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/reload"] = 200, ReloadView(ok=True, added=("a",), changed=("b",), unchanged=3)
    result = tidegate("reload")
    assert (result.exit_code, result.stdout) == (0, "reloaded: added a; changed b; 3 unchanged\n")
    view = ReloadView(ok=True, unchanged=1, tables=("http", "pool"), restart_needed=("http",))
    daemon.replies["POST /api/v1/reload"] = 200, view
    told = "reloaded: 1 job unchanged; changed [http], [pool]; only a restart applies [http]\n"
    assert tidegate("reload").stdout == told
    assert json.loads(tidegate("reload", "--json").stdout)["tables"] == ["http", "pool"]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_refused_reload_prints_every_problem_and_is_exit_1(daemon: FakeDaemon, as_json: bool) -> None:
    problems = ("jobs.toml:3: jobs.a.cron: minute must be 0-59", f"jobs.toml:4: {ESCAPING}")
    daemon.replies["POST /api/v1/reload"] = 422, ReloadView(ok=False, problems=problems)
    result = tidegate("reload", *(["--json"] if as_json else []))
    assert result.exit_code == 1
    if as_json:
        assert json.loads(result.stdout)["problems"] == list(problems)
    else:
        assert result.stderr.splitlines()[0] == problems[0]
        assert "2 problems; the old configuration stays live" in result.stderr
    no_terminal_is_steered(result)


# --- history, why -------------------------------------------------------------------------------


def test_history_asks_for_what_was_chosen_and_follows_the_pages(daemon: FakeDaemon) -> None:
    pages = iter([{"items": [succeeded()] * 100, "next": "more"}, {"items": [succeeded()] * 50, "next": None}])
    daemon.replies["GET /api/v1/runs"] = lambda _: (200, next(pages))
    result = tidegate("history", "--job", "backup", "--outcome", "failed", "--since", "2h", "--limit", "140", "--json")
    assert len(json.loads(result.stdout)) == 140
    assert "job=backup" in daemon.asked[0].query
    assert "outcome=failed" in daemon.asked[0].query
    assert "since=2026-03-27T10%3A00%3A00%2B00%3A00" in daemon.asked[0].query
    assert "cursor=more" in daemon.asked[1].query
    assert "limit=40" in daemon.asked[1].query


def test_history_has_a_line_a_run_with_the_reason_of_what_did_not_go_well(daemon: FakeDaemon) -> None:
    runs = [
        succeeded(),
        succeeded(outcome="failed", reason=f"exit code 1 {ESCAPING}", attempt=3),
        run(state="skipped", skip="overlap", fires=12, reason="run 1 is running"),
        run(state="running", started_at=NOW - timedelta(seconds=30)),
    ]
    daemon.replies["GET /api/v1/runs"] = 200, {"items": runs, "next": None}
    result = tidegate("history")
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["DUE", "RUN", "JOB", "TOOK", "OUTCOME"]
    assert lines[0] == f"Fri 2026-03-27 12:00:00 +00:00  {RUN_ID}  backup  2.0 s        succeeded"
    assert "failed (attempt 3)" in lines[1]
    assert "exit code 1 evil\\x1b[31m" in lines[1]
    assert "skipped: overlap ×12" in lines[2]
    assert "30 s so far  running" in lines[3]
    no_terminal_is_steered(result)


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--limit", "0"], ["--outcome", "sad"], ["--until", "5"]])
def test_history_with_wrong_options_is_bad_usage(daemon: FakeDaemon, words: list[str]) -> None:
    assert tidegate("history", *words).exit_code == 2
    assert daemon.asked == []


def test_why_reads_as_lines_in_the_zone_of_the_job(daemon: FakeDaemon) -> None:
    def line(fact: str, reason: str, run_id: str = RUN_ID) -> DecisionView:
        return DecisionView(at=NOW, fact=fact, job="backup", run_id=run_id, reason=reason)

    decisions = [
        line("job.paused", "by root", ""),
        line("run.queued", "due 2026-03-27 12:00:00 UTC (schedule)"),
        line("run.skipped", f"overlap: {ESCAPING}"),
    ]
    daemon.replies["GET /api/v1/jobs/backup"] = 200, job()
    daemon.replies["GET /api/v1/why"] = 200, {"items": decisions}
    result = tidegate("why", "backup", "--at", "2026-03-27T13:00")
    assert result.stdout.splitlines() == [
        "  Fri 2026-03-27 13:00:00.000 +01:00  the job was paused: by root",
        f"run {RUN_ID} of backup",
        "  Fri 2026-03-27 13:00:00.000 +01:00  queued: due Fri 2026-03-27 13:00:00 +01:00 (schedule)",
        "  Fri 2026-03-27 13:00:00.000 +01:00  skipped: overlap: evil\\x1b[31m",
    ]
    assert "at=2026-03-27T13%3A00%3A00%2B01%3A00" in daemon.asked[-1].query
    assert json.loads(tidegate("why", "backup", "--json").stdout)[0]["fact"] == "job.paused"


def test_why_of_a_job_without_a_fire_is_exit_1(daemon: FakeDaemon) -> None:
    nothing = DecisionView(
        at=NOW, fact="history.none", job="backup", run_id="", reason="no fire of backup is on record"
    )
    daemon.replies["GET /api/v1/jobs/backup"] = 200, job()
    daemon.replies["GET /api/v1/why"] = 200, {"items": [nothing]}
    daemon.replies["GET /api/v1/runs"] = 200, {"items": [], "next": None}
    daemon.replies["GET /api/v1/jobs"] = 200, {"items": [job()], "next": None}
    result = tidegate("why", "backup")
    assert result.exit_code == 1
    assert "no fire of backup is on record" in result.stdout


def test_why_of_a_typo_names_the_nearest_job(daemon: FakeDaemon) -> None:
    daemon.replies["GET /api/v1/why"] = problem(404, 'there is no job "bakcup"')
    daemon.replies["GET /api/v1/runs"] = 200, {"items": [], "next": None}
    daemon.replies["GET /api/v1/jobs"] = 200, {"items": [job()], "next": None}
    result = tidegate("why", "bakcup")
    assert (result.exit_code, result.output) == (1, 'Error: there is no job "bakcup"; did you mean "backup"?\n')


# --- logs ---------------------------------------------------------------------------------------


def output_of(content: bytes, ended: bool = True) -> Any:
    def reply(asked: Request) -> tuple[int, Any]:
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        if first >= len(content):
            return problem(416, "nothing there")
        return 206, content[first : last + 1]

    return reply


def test_logs_through_the_daemon_are_the_bytes_as_they_came(daemon: FakeDaemon) -> None:
    content = bytes(range(256)) * 8192  # two pieces
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = 200, succeeded(output_bytes=len(content))
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}/output"] = output_of(content)
    assert tidegate("logs", RUN_ID).stdout_bytes == content


def test_logs_of_a_job_are_those_of_its_newest_run_that_started(daemon: FakeDaemon) -> None:
    runs = [run(run_id="1m7yxyrss0009999", state="skipped", skip="paused"), succeeded(), succeeded(run_id="older")]
    daemon.replies["GET /api/v1/runs"] = 200, {"items": runs, "next": None}
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}/output"] = output_of(b"said\n")
    assert tidegate("logs", "backup").stdout_bytes == b"said\n"


def test_logs_leave_out_what_was_dropped_and_say_how_much(daemon: FakeDaemon) -> None:
    content = b"a" * 4096 + bytes(8192) + b"z" * 10
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = 200, succeeded(output_incomplete=True)
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}/output"] = output_of(content)
    result = tidegate("logs", RUN_ID)
    assert result.stdout_bytes == b"a" * 4096 + b"z" * 10
    assert "8.0 KiB were dropped here by output_max (bytes 4096 to 12287)" in result.stderr


def test_logs_of_a_silent_run_say_so(daemon: FakeDaemon) -> None:
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = 200, succeeded()
    daemon.replies[f"GET /api/v1/runs/{RUN_ID}/output"] = output_of(b"")
    result = tidegate("logs", RUN_ID)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "it wrote nothing" in result.stderr


def test_logs_of_nothing_known_is_exit_1(daemon: FakeDaemon) -> None:
    daemon.replies["GET /api/v1/runs"] = 200, {"items": [], "next": None}
    result = tidegate("logs", "bakup")
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'there is no run and no job "bakup"' in result.stderr


def test_logs_f_follow_a_file_that_grows_until_the_run_has_ended(daemon: FakeDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "output" / "backup"
    folder.mkdir(parents=True)
    file = folder / f"{RUN_ID}.log"
    asked = []

    def state(_: Request) -> tuple[int, Any]:
        """Each look finds the file grown; what the last look finds was written before the end."""
        asked.append(1)
        if len(asked) < 4:
            with file.open("ab") as writer:
                writer.write(b"line %d\n" % len(asked))
            return 200, run(state="running", started_at=NOW)
        return 200, succeeded()

    daemon.replies[f"GET /api/v1/runs/{RUN_ID}"] = state
    assert tidegate("logs", "-f", RUN_ID).stdout_bytes == b"line 1\nline 2\nline 3\n"


# --- top ----------------------------------------------------------------------------------------


def pool() -> dict[str, Any]:
    holding = HoldingView(holder=f"run 1 {ESCAPING}", units=1, run_id="1", lease_id="", since=NOW, waiting=False)
    running = msgspec.to_builtins(run(state="running", started_at=NOW - timedelta(seconds=65), pid=4711))
    return {
        "pool": PoolView(limit=8, running=1, queued=1, retrying=2, held="the disk is full"),
        "running": [running | {"memory_bytes": 38 << 20, "frozen": False}],
        "waiting": [WaitingView(run=run(job="vacuum"), gate="resources", reason=f"waits for database {ESCAPING}")],
        "resources": [ResourceView(name="database", units=1, used=1, holdings=(holding,))],
    }


def test_top_once_shows_what_runs_and_which_gate_holds_what_waits(daemon: FakeDaemon) -> None:
    daemon.replies["GET /api/v1/pool"] = 200, pool()
    result = tidegate("top", "--once")
    lines = result.stdout.splitlines()
    assert lines[0] == "1 of 8 slots in use, 1 queued, 2 waiting for another attempt   12:00:00"
    assert lines[1] == "nothing starts: the disk is full"
    assert any(
        line.split() == ["backup", RUN_ID, "1", "min", "5", "s", "-", "38", "MiB", "4711", "running"] for line in lines
    )
    assert any(
        "vacuum" in line and "resources" in line and "waits for database evil\\x1b[31m" in line for line in lines
    )
    assert any("1 of 1 unit" in line and "run 1 evil\\x1b[31m (1)" in line for line in lines)
    no_terminal_is_steered(result)


def test_top_json_is_what_the_daemon_says(daemon: FakeDaemon) -> None:
    daemon.replies["GET /api/v1/pool"] = 200, pool()
    shown = json.loads(tidegate("top", "--json").stdout)
    assert shown == json.loads(msgspec.json.encode(pool()))


# --- list and show with live state --------------------------------------------------------------

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
def config(tmp_path: Path) -> Path:
    (tmp_path / "tidegate.toml").write_text(JOBS)
    return tmp_path / "tidegate.toml"


def test_list_shows_how_the_jobs_stand_and_which_the_daemon_has_not_read(daemon: FakeDaemon, config: Path) -> None:
    failed = succeeded(outcome="failed")
    daemon.replies["GET /api/v1/jobs"] = 200, {"items": [job(paused=True, running=1, last_run=failed)], "next": None}
    result = tidegate("list", "--config", config)
    assert result.stdout.splitlines() == [
        "JOB     SCHEDULE    NEXT FIRE  NOW              LAST RUN",
        "backup  15 2 * * *  paused     paused, running  failed Fri 2026-03-27 13:00 +01:00",
        "fresh   by hand     -          -                -",
        "",
        "2 jobs, 1 paused",
    ]
    assert "has not read these files as they are now: fresh differ" in result.stderr
    daemon.replies["GET /api/v1/jobs"] = 200, {"items": [job(schedule="* * * * *"), job(name="fresh")], "next": None}
    assert "as they are now: backup" in tidegate("list", "--config", config).stderr, "its schedule was changed"
    daemon.replies["GET /api/v1/jobs"] = 200, {"items": [job(paused=True, running=1, last_run=failed)], "next": None}
    row = json.loads(CliRunner().invoke(main, ["list", "--config", str(config), "--json"]).stdout)[0]
    assert (row["paused"], row["running"], row["last_outcome"]) == (True, 1, "failed")


def test_show_tells_how_long_the_job_takes(daemon: FakeDaemon, config: Path) -> None:
    times = [succeeded(duration_s=float(number)) for number in range(1, 101)]
    daemon.replies["GET /api/v1/jobs/backup"] = 200, job(last_run=succeeded(outcome="failed", reason="exit code 9"))
    daemon.replies["GET /api/v1/runs"] = 200, {"items": times, "next": None}
    result = tidegate("show", "backup", "--config", config)
    assert "  takes               50 s (p50), 1 min 39 s (p99) of the last 100 successes\n" in result.stdout
    assert "failed, 2.0 s: exit code 9\n" in result.stdout
    shown = json.loads(tidegate("show", "backup", "--config", config, "--json").stdout)
    assert (shown["duration_p50_s"], shown["duration_p99_s"]) == (50.0, 99.0)
    assert shown["last_run"]["run_id"] == RUN_ID


# --- acquire ------------------------------------------------------------------------------------


def acquire(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*TIDEGATE, "acquire", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def lease(state: str, reason: str = "") -> LeaseView:
    return LeaseView(
        lease_id="lease1", uses={"database": 2}, holder="pid 1", state=state, reason=reason, asked_at=NOW,
        granted_at=None, ended_at=None,
    )  # fmt: skip


def test_acquire_becomes_the_command_with_its_input_output_and_status(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/leases"] = 201, lease("granted")
    process = acquire(
        "database=2", "gpu", "--timeout", "3s", "--", "sh", "-c", 'cat; echo "$$ $1" >&2; exit 7', "x", "--json"
    )
    out, err = process.communicate(b"through", timeout=20)
    assert (process.returncode, out) == (7, b"through")
    assert err.decode() == f"{process.pid} --json\n"  # the process that holds the lease is the command
    assert daemon.asked[0].body == {"uses": {"database": 2, "gpu": 1}, "wait_s": 3.0}


def test_acquire_leaves_the_command_no_signal_ignored(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/leases"] = 201, lease("granted")
    out, _ = acquire("database", "--", "cat", "/proc/self/status").communicate(timeout=20)
    ignored = next(line for line in out.decode().splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & ~inherited_ignored() == 0


def inherited_ignored() -> int:
    out = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    return int(next(line for line in out.splitlines() if line.startswith("SigIgn")).split()[1], 16)


def test_a_signal_reaches_the_command_and_is_its_status(daemon: FakeDaemon) -> None:
    daemon.replies["POST /api/v1/leases"] = 201, lease("granted")
    process = acquire("database", "--", "sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


def test_not_granted_in_time_is_exit_1_with_who_holds_it_and_nothing_is_run(daemon: FakeDaemon, tmp_path: Path) -> None:
    status, body = problem(409, "the units were not free in time")
    daemon.replies["POST /api/v1/leases"] = status, body | {"lease": lease("ended", "2 of 1 units")}
    daemon.replies["GET /api/v1/pool"] = 200, pool()
    process = acquire("database=2", "--timeout", "1s", "--", "touch", str(tmp_path / "ran"))
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, b"")
    assert b"2 \xc3\x97 database not granted within 1.0 s: 2 of 1 units" in err
    assert b"database: 1 of 1 unit in use" in err
    assert b"1 \xc3\x97 run 1 evil\\x1b[31m since Fri 2026-03-27 12:00:00 +00:00" in err
    assert not (tmp_path / "ran").exists()


def test_without_a_daemon_the_command_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(tmp_path, monkeypatch)
    process = acquire("database", "--", "touch", str(tmp_path / "ran"))
    process.communicate(timeout=20)
    assert process.returncode == 3
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("program", "code"), [("/nonexistent/x", 127), ("/etc/hostname", 126)])
def test_a_command_that_cannot_be_run_has_the_status_that_shells_give_it(
    daemon: FakeDaemon, program: str, code: int
) -> None:
    daemon.replies["POST /api/v1/leases"] = 201, lease("granted")
    process = acquire("database", "--", program)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"nothing was run" in err


@pytest.mark.parametrize(
    "args",
    [
        ["database"], ["--", "true"], ["database=0", "--", "true"], ["a=x", "--", "true"], ["a", "a", "--", "true"],
        ["a", "--timeout", "5", "--", "true"], ["database", "true"],
    ],
)  # fmt: skip
def test_acquire_with_wrong_arguments_is_bad_usage(daemon: FakeDaemon, args: list[str]) -> None:
    result = tidegate("acquire", *args)
    assert result.exit_code == 2, result.output
    assert daemon.asked == []


def test_ctrl_c_while_it_waits_withdraws_the_request(daemon: FakeDaemon, tmp_path: Path) -> None:
    asked, gone = threading.Event(), threading.Event()

    def reply(_: Request) -> tuple[int, Any]:
        asked.set()
        gone.wait(20)
        return 0, b""

    daemon.replies["POST /api/v1/leases"] = reply
    process = acquire("database", "--", "touch", str(tmp_path / "ran"))
    assert asked.wait(20)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    gone.set()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not (tmp_path / "ran").exists()


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_sees_a_daemon_that_starts_nothing(daemon: FakeDaemon, config: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    daemon.path.chmod(0o660)
    config.chmod(0o644)
    daemon.replies["GET /api/v1/pool"] = 200, pool()
    result = tidegate("doctor", "--config", config, "--json")
    found = {each["name"]: each for each in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1
    assert found["daemon"]["level"] == "broken"
    assert f"pid {os.getpid()}" in found["daemon"]["found"]
    assert "the disk is full" in found["daemon"]["found"]
    assert found["control socket"]["level"] == "ok"
    assert found["configuration"] == {"name": "configuration", "level": "ok", "found": "2 jobs in 1 file", "mend": ""}
    assert found["keeper"]["level"] == "broken"  # a daemon without one cannot run anything
