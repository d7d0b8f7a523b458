"""[pool] in a running daemon: what a reload changes, what the commands show, what is still known after a crash."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import TIDEGATE, Daemon, until

pytestmark = pytest.mark.live
POOL = "[pool]\nmin = 3\nmax = 40\n"
JOBS = """
[jobs.quick]
command = ["/bin/sleep", "0.3"]
[jobs.long]
command = ["/bin/sleep", "600"]
[jobs.busy]
shell = "head -c 300000000000 /dev/zero > /dev/null; true"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "d", JOBS, POOL)
    made.start()
    yield made
    made.clean_up()


def tidegate(daemon: Daemon, *words: str) -> str:
    env = os.environ | {
        "STATE_DIRECTORY": str(daemon.state),
        "RUNTIME_DIRECTORY": str(daemon.runtime),
        "TIDEGATE_CONFIG": str(daemon.config),
    }
    done = subprocess.run([TIDEGATE, *words], capture_output=True, text=True, env=env, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(daemon: Daemon, *words: str) -> Any:
    return json.loads(tidegate(daemon, *words, "--json"))


def test_a_reload_of_the_pool_counts_at_once_and_is_on_record_with_its_reason(daemon: Daemon) -> None:
    settings = daemon.config.read_text()
    before = daemon.metric("tidegate_pool_limit")
    assert before >= 3
    for pool, after in (
        ('[pool]\nmode = "fixed"\nmax = 7\n', 7),
        ("[pool]\nmin = 9\nmax = 40\n", 9),
        ("[pool]\nmax = 5\n", 5),
    ):
        daemon.config.write_text(settings.replace(POOL, pool))
        count = len(daemon.seen("pool.resized"))
        daemon.send(signal.SIGHUP)
        record = daemon.wait_for("pool.resized", count=count + 1)
        assert record["reason"] == f"from {before:g} to {after} at once: [pool] was changed"
        assert daemon.metric("tidegate_pool_limit") == after
        before = after


def test_what_a_job_needs_is_shown_and_still_known_after_a_restart(daemon: Daemon) -> None:
    assert shown(daemon, "show", "quick")["learned"] is None
    for _ in range(2):
        tidegate(daemon, "trigger", "quick", "--wait")
    learned = shown(daemon, "show", "quick")["learned"]
    assert (learned["runs"], learned["duration_s"] >= 0.3) == (2, True)
    assert 0 < learned["memory_bytes"] < 8 << 20
    daemon.end()
    daemon.start()
    again = shown(daemon, "show", "quick")["learned"]
    assert again == learned
    assert "learned from 2 runs" in tidegate(daemon, "show", "quick")


def test_doctor_tells_which_readings_are_in_use_and_top_shows_each_gate_with_its_reading(daemon: Daemon) -> None:
    tidegate(daemon, "trigger", "long")
    daemon.wait_for("run.started")
    words = [TIDEGATE, "doctor", "--config", daemon.config]
    doctor = subprocess.run(words, capture_output=True, text=True, timeout=30).stdout
    [line] = [line for line in doctor.splitlines() if line.split()[1:2] == ["readings"]]
    for what in ("cores: ", "load: ", "cpu: ", "own: ", "pressure: ", "memory: ", "swap: ", "disk: "):
        assert what in line
    daemon.wait_for("run.started")
    board = tidegate(daemon, "top", "--once")
    for gate, reading in (("pool", "1 of 3 slots in use"), ("memory", "reserved for what runs"), ("resources", "none")):
        [line] = [line for line in board.splitlines() if line.startswith(gate)]
        assert reading in line


def test_top_shows_what_a_run_holds_and_what_it_has_used(daemon: Daemon) -> None:
    tidegate(daemon, "trigger", "busy")

    def known() -> dict[str, Any] | None:
        running: list[dict[str, Any]] = shown(daemon, "top")["running"]
        return running[0] if running and running[0]["memory_bytes"] and (running[0]["cpu_s"] or 0) > 0.1 else None

    run = until(known)
    assert (run["job"], run["frozen"]) == ("busy", False)
    [line] = [line for line in tidegate(daemon, "top", "--once").splitlines() if line.startswith("busy")]
    assert line.split()[-1] == "running" and "iB" in line and " -" not in line
