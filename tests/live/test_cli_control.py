"""The commands against the real daemon: what a person sees and what becomes of what they ask."""

import json
import os
import pty
import select
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from daemon_process import TIDEGATE, Daemon, until

pytestmark = pytest.mark.live

JOBS = """\
[jobs.good]
command = ["echo", "said"]
[jobs.bad]
shell = "echo trouble >&2; exit 3"
[jobs.argued]
shell = 'echo "$TIDEGATE_ARG_colour"'
[jobs.slow]
shell = "echo begun; exec sleep 60"
uses = { database = 1 }
[jobs.other]
command = ["true"]
uses = { database = 1 }
[jobs.counting]
shell = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"
[jobs.again]
shell = "exit 1"
retries = { max = 1, delay = "1h", max_delay = "1h" }
[jobs.hourly]
command = ["true"]
cron = "0 * * * *"
"""
SETTINGS = """\
[daemon]
timezone = "Europe/Berlin"
on_stop = "drain"
[pool]
min = 8
[resources]
database = 1
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    world = Daemon(tmp_path_factory.mktemp("control") / "world", JOBS, SETTINGS)
    world.start()
    yield world
    world.clean_up()


def environ(daemon: Daemon) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(daemon.folder),
        "STATE_DIRECTORY": str(daemon.state),
        "RUNTIME_DIRECTORY": str(daemon.runtime),
        "TIDEGATE_CONFIG": str(daemon.config),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
    }


def tidegate(daemon: Daemon, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [str(TIDEGATE), *args],
        env=environ(daemon),
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == code, (args, result)
    return result


def asked(daemon: Daemon, *args: str) -> Any:
    return json.loads(tidegate(daemon, *args, "--json").stdout)


def begin(daemon: Daemon, *args: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(TIDEGATE), *args],
        env=environ(daemon),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def running(daemon: Daemon, job: str) -> str:
    """Start it; its run id once it runs."""
    run_id = asked(daemon, "trigger", job)["run_id"]
    daemon.wait_for("run.started", run_id=run_id)
    return str(run_id)


def test_trigger_wait_ends_as_the_run_does(daemon: Daemon) -> None:
    assert "good: succeeded in " in tidegate(daemon, "trigger", "good", "--wait").stdout
    assert "bad: failed after " in tidegate(daemon, "trigger", "bad", "--wait", code=1).stdout
    assert 'there is no job "nope"' in tidegate(daemon, "trigger", "nope", code=1).stderr


def test_arguments_reach_the_run_and_its_output_is_shown(daemon: Daemon) -> None:
    tidegate(daemon, "trigger", "argued", "--wait", "--arg", "colour=dark blue")
    assert tidegate(daemon, "logs", "argued").stdout == "dark blue\n"


def test_logs_f_follow_a_run_to_its_end(daemon: Daemon) -> None:
    run_id = running(daemon, "counting")
    assert tidegate(daemon, "logs", "-f", run_id).stdout == "1\n2\n3\n4\n5\n"
    (run,) = (each for each in asked(daemon, "history", "--job", "counting") if each["run_id"] == run_id)
    assert run["state"] == "finished"


def test_a_run_that_is_cancelled_is_on_record_so(daemon: Daemon) -> None:
    run_id = running(daemon, "slow")
    tidegate(daemon, "cancel", run_id)
    daemon.wait_for("run.finished", run_id=run_id, outcome="cancelled")
    assert asked(daemon, "history", "--outcome", "cancelled")[0]["run_id"] == run_id
    assert "has ended" in tidegate(daemon, "cancel", run_id, code=1).stderr


def test_a_paused_job_is_shown_and_skipped_until_it_is_resumed(daemon: Daemon) -> None:
    tidegate(daemon, "pause", "hourly")
    listed = {row["job"]: row for row in asked(daemon, "list")}
    assert (listed["hourly"]["paused"], listed["good"]["paused"]) == (True, False)
    assert "next fire" in tidegate(daemon, "resume", "hourly").stdout
    assert {row["job"]: row for row in asked(daemon, "list")}["hourly"]["paused"] is False


def test_a_run_that_waits_for_its_next_try_is_shown_so_and_is_no_running_one(daemon: Daemon) -> None:
    run_id = asked(daemon, "trigger", "again")["run_id"]
    daemon.wait_for("run.retrying", run_id=run_id)
    row = {row["job"]: row for row in asked(daemon, "list")}["again"]
    assert (row["running"], row["queued"], row["retrying"], row["last_outcome"]) == (0, 0, 1, "retrying")
    (line,) = (line for line in tidegate(daemon, "list").stdout.splitlines() if line.startswith("again"))
    assert line.split().count("retrying") == 2 and "idle" not in line and "failed" not in line
    daemon.send(signal.SIGUSR1)
    message = daemon.wait_for("daemon.state")["message"]
    assert "1 retrying" in message and run_id not in message
    tidegate(daemon, "cancel", run_id)
    daemon.wait_for("run.finished", run_id=run_id)


def test_what_waits_is_shown_with_its_gate_and_who_holds_it(daemon: Daemon) -> None:
    slow = running(daemon, "slow")
    other = asked(daemon, "trigger", "other")["run_id"]
    shown = asked(daemon, "top")
    assert [run["run_id"] for run in shown["running"]] == [slow]
    assert [(each["run"]["run_id"], each["gate"]) for each in shown["waiting"]] == [(other, "resources")]
    assert (shown["resources"][0]["name"], shown["resources"][0]["used"]) == ("database", 1)
    text = tidegate(daemon, "top", "--once").stdout
    assert "1 queued" in text
    assert "database  1 of 1 unit" in text
    tidegate(daemon, "cancel", slow)
    daemon.wait_for("run.finished", run_id=other, outcome="succeeded")


def test_acquire_takes_its_turn_with_the_jobs_and_gives_back_when_it_ends(daemon: Daemon) -> None:
    holding = begin(daemon, "acquire", "database", "--", "sh", "-c", "echo held; exec sleep 60")
    assert holding.stdout and holding.stdout.readline() == "held\n"
    assert f"pid {holding.pid} (sh)" in asked(daemon, "top")["resources"][0]["holdings"][0]["holder"]
    refused = tidegate(daemon, "acquire", "database", "--timeout", "100ms", "--", "echo", "no", code=1)
    assert refused.stdout == ""
    assert f"pid {holding.pid}" in refused.stderr
    other = asked(daemon, "trigger", "other")["run_id"]
    assert asked(daemon, "top")["waiting"][0]["run"]["run_id"] == other
    holding.kill()  # nothing of it can say that it ends
    holding.communicate()
    daemon.wait_for("run.finished", run_id=other, outcome="succeeded")
    assert tidegate(daemon, "acquire", "database", "--timeout", "10s", "--", "echo", "yes").stdout == "yes\n"
    assert "nope does not exist" in tidegate(daemon, "acquire", "nope", "--", "echo", "no", code=1).stderr


def test_reload_tells_what_changed_or_what_is_wrong(daemon: Daemon) -> None:
    daemon.jobs_file.write_text(JOBS + '[jobs.added]\ncommand = ["true"]\n')
    assert "differ" in tidegate(daemon, "list").stderr
    assert tidegate(daemon, "reload").stdout == "reloaded: added added; 8 unchanged\n"
    assert tidegate(daemon, "list").stderr == ""
    daemon.jobs_file.write_text("[jobs.broken]\ncommand = 1\n")
    result = tidegate(daemon, "reload", code=1)
    assert "jobs.toml:2: jobs.broken.command" in result.stderr
    assert "the old configuration stays live" in result.stderr
    daemon.jobs_file.write_text(JOBS)
    assert "removed added" in tidegate(daemon, "reload").stdout


def test_why_and_history_tell_the_same_with_and_without_the_daemon(daemon: Daemon) -> None:
    tidegate(daemon, "trigger", "bad", "--wait", code=1)
    assert "ended: failed: exit" in tidegate(daemon, "why", "bad").stdout
    before = asked(daemon, "history", "--job", "bad"), asked(daemon, "why", "bad")
    log = tidegate(daemon, "logs", "bad").stdout
    assert log == "trouble\n"
    assert daemon.end() == 0
    result = tidegate(daemon, "history", "--job", "bad", "--json")
    assert (json.loads(result.stdout), asked(daemon, "why", "bad")[: len(before[1])]) == before
    assert "no daemon answers" in result.stderr
    assert tidegate(daemon, "logs", "bad").stdout == log
    assert "no daemon answers" in tidegate(daemon, "trigger", "good", code=3).stderr
    daemon.start()


def test_doctor_finds_a_daemon_and_its_keeper(daemon: Daemon) -> None:
    running_id = running(daemon, "slow")
    result = subprocess.run(
        [str(TIDEGATE), "doctor", "--json"], env=environ(daemon), capture_output=True, text=True, timeout=60
    )
    found = {each["name"]: each for each in json.loads(result.stdout)["findings"]}
    for name in ("configuration", "state folder", "control socket", "daemon", "keeper", "history", "disk"):
        assert found[name]["level"] == "ok", found[name]
    assert f"pid {daemon.pid}" in found["daemon"]["found"]
    tidegate(daemon, "cancel", running_id)


def test_top_follows_what_happens_until_ctrl_c(daemon: Daemon) -> None:
    controller, terminal = pty.openpty()
    watching = subprocess.Popen(
        [str(TIDEGATE), "top"], env=environ(daemon), stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    seen = bytearray()

    def shows(words: bytes) -> bool:
        while select.select([controller], [], [], 0)[0]:
            try:
                seen.extend(os.read(controller, 65536))
            except OSError:  # EIO: the other end is closed
                break
        return words in seen

    until(lambda: shows(b"Nothing runs."), what="an empty board")
    run_id = running(daemon, "slow")
    until(lambda: shows(run_id.encode()), what="the run on the board")
    tidegate(daemon, "cancel", run_id)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 0
    shows(b"")
    os.close(controller)
    assert b"Traceback" not in seen
