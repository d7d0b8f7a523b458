"""Python jobs end to end: written in a job file, run by a daemon, read with the commands."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import TIDEGATE, Daemon, until
from python_world import CODE

pytestmark = pytest.mark.live

SETTINGS = f"""
[pool]
min = 8
[defaults]
interpreter = "{sys.executable}"
python_path = ["../code"]
cwd = "/"
"""
JOBS = """
[jobs.add]
python = "mod:add"
args = [1]
[jobs.fail]
python = "mod:fail"
retries = { max = 1, delay = "10ms" }
[jobs.hang]
python = "mod:hang"
timeout = "300ms"
[jobs.stuck]
python = "mod:wait"
args = ["/nonexistent"]
executor = "thread"
timeout = "300ms"
kill_grace = "100ms"
[jobs.beside]
python = "mod:obedient"
executor = "thread"
[jobs.wait]
python = "mod:wait"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mod.py").write_text(CODE.replace('Path(folder, name + ".here").touch()', "pass"))
    made = Daemon(tmp_path / "d", JOBS, SETTINGS)
    made.start()
    yield made
    made.clean_up()


def tidegate(daemon: Daemon, *words: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"STATE_DIRECTORY": str(daemon.state), "RUNTIME_DIRECTORY": str(daemon.runtime)}
    return subprocess.run([TIDEGATE, *words], capture_output=True, text=True, env=env, timeout=30)


def newest(daemon: Daemon, job: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(tidegate(daemon, "history", "--json", "--job", job).stdout)
    return found[0]


def test_results_and_tracebacks_are_in_history_and_arguments_come_from_trigger(daemon: Daemon) -> None:
    assert tidegate(daemon, "trigger", "add", "--wait", "--arg", "note=by hand").returncode == 0
    run = newest(daemon, "add")
    assert (run["outcome"], run["result"], run["error"]) == ("succeeded", {"sum": 3, "note": "by hand"}, None)
    assert tidegate(daemon, "logs", "add").stdout == "adding\n"

    failed = tidegate(daemon, "trigger", "fail", "--wait")
    assert failed.returncode == 1 and "ValueError: bad number" in failed.stdout + failed.stderr
    run = newest(daemon, "fail")
    assert (run["outcome"], run["exit_code"], run["reason"]) == ("failed", 1, "ValueError: bad number")
    assert run["attempt"] == 2 and run["error"].startswith("Traceback (most recent call last):\n")
    shown = tidegate(daemon, "show", "add", "--config", str(daemon.config)).stdout
    assert "mod:add" in shown and "process; a process is replaced after 100 calls" in shown


def test_a_time_out_ends_a_worker_and_gives_up_a_thread(daemon: Daemon) -> None:
    tidegate(daemon, "trigger", "beside")
    daemon.wait_for("run.started", job="beside")
    tidegate(daemon, "trigger", "hang")
    tidegate(daemon, "trigger", "stuck")
    hang = daemon.wait_for("run.finished", job="hang")
    stuck = daemon.wait_for("run.finished", job="stuck")
    assert (hang["outcome"], stuck["outcome"]) == ("timed_out", "timed_out")
    run = newest(daemon, "stuck")
    assert (run["cpu_s"], run["memory_peak_bytes"], run["signal"]) == (None, None, signal.SIGKILL)
    assert not daemon.seen("run.finished", job="beside")
    tidegate(daemon, "cancel", newest(daemon, "beside")["run_id"])
    assert daemon.wait_for("run.finished", job="beside")["outcome"] == "cancelled"
    assert newest(daemon, "beside")["result"] == "stopped"


def test_a_daemon_that_is_killed_loses_no_result(daemon: Daemon, tmp_path: Path) -> None:
    tidegate(daemon, "trigger", "wait", "--arg", f"folder={tmp_path}", "--arg", "name=go")
    daemon.wait_for("run.started", job="wait")
    daemon.end(signal.SIGKILL)
    (tmp_path / "go").touch()
    (log,) = until(lambda: list((daemon.state / "output" / "wait").glob("*.log")))  # named a tenth of a second after
    until(lambda: log.read_text().endswith("went on\n"))
    daemon.start()
    assert daemon.wait_for("run.finished", job="wait")["outcome"] == "succeeded"
    assert newest(daemon, "wait")["result"] == "go"


def test_a_reload_takes_up_python_jobs_and_their_new_arguments(daemon: Daemon) -> None:
    daemon.jobs_file.write_text(JOBS.replace("args = [1]", "args = [5]\nkwargs = { note = { by = ['reload'] } }"))
    result = tidegate(daemon, "reload")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "reloaded: changed add; 5 unchanged\n"
    assert tidegate(daemon, "trigger", "add", "--wait").returncode == 0
    assert newest(daemon, "add")["result"] == {"sum": 7, "note": {"by": ["reload"]}}
