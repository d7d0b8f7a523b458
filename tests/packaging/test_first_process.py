"""tidegate as PID 1 of a container: the same namespaces, without the container's other walls. Needs root."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live

TIDEGATE = Path(sys.executable).with_name("tidegate")
WAIT_S = 20.0
SLOW = """\
[jobs.slow]
command = ["sleep", "2.5"]
cron = "@reboot"
"""


def until(true: Callable[[], Any], what: str) -> Any:
    """What the function returns once it is true."""
    end_s = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not (value := true()):
        assert time.monotonic() < end_s, f"not within {WAIT_S} s: {what}"
        pause.wait(0.02)
    return value


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Container:
    def __init__(self, folder: Path, jobs: str, settings: str = "") -> None:
        self.config = folder / "tidegate.toml"
        self.config.write_text(f'{settings}\n[http]\nlisten = ""\n{jobs}')
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
        inside = [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            TIDEGATE,
            "run",
            "--config",
            self.config,
        ]
        environ = {"PATH": os.defpath, "STATE_DIRECTORY": f"{folder}/state", "RUNTIME_DIRECTORY": f"{folder}/run"}
        with open(self.stdout, "wb") as stdout, open(self.stderr, "wb") as stderr:
            self.process = subprocess.Popen(
                inside, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )

    @property
    def first(self) -> int:
        """PID 1, as seen from outside."""
        return int(until(lambda: children(self.process.pid), "unshare has a child")[0])

    def lines(self) -> list[str]:
        """Those that are whole."""
        return self.stdout.read_text().rpartition("\n")[0].splitlines()

    def records(self, event: str) -> list[dict[str, Any]]:
        return [one for line in self.lines() if (one := json.loads(line))["event"] == event]

    def wait_for(self, event: str) -> dict[str, Any]:
        return dict(until(lambda: self.records(event), event)[0])

    def end(self, number: int) -> int:
        os.kill(self.first, number)
        return self.process.wait(WAIT_S)


@pytest.fixture
def container(tmp_path):
    made = []

    def make(jobs: str = SLOW, settings: str = "") -> Container:
        made.append(Container(tmp_path, jobs, settings))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait()


def test_an_orphan_is_reaped_and_no_status_of_the_daemons_own_is_taken(container):
    here = container()
    here.wait_for("run.started")
    before = set(children(here.first))
    # As `docker exec` would: what it leaves behind becomes a child of PID 1.
    inside = ["nsenter", f"--target={here.first}", "--pid", "--mount", "sh", "-c", "sleep 600 >/dev/null 2>&1 &"]
    subprocess.run(inside, check=True, stdin=subprocess.DEVNULL)
    (orphan,) = until(lambda: set(children(here.first)) - before, "the orphan is PID 1's")
    os.kill(orphan, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{orphan}").exists(), "it is reaped")
    assert here.wait_for("run.finished")["outcome"] == "succeeded"


def test_signals_are_passed_on_and_term_lets_jobs_end_whatever_on_stop_says(container):
    here = container(settings='[daemon]\non_stop = "leave"')
    here.wait_for("run.started")
    os.kill(here.first, signal.SIGUSR1)
    assert "1 running" in here.wait_for("daemon.state")["message"]
    os.kill(here.first, signal.SIGHUP)
    here.wait_for("config.reloaded")
    assert here.end(signal.SIGTERM) == 0
    assert here.wait_for("run.finished")["outcome"] == "succeeded", "nobody comes to take it up again"


def test_ctrl_c_of_an_attached_terminal_comes_once(container):
    here = container()
    here.wait_for("run.started")
    (daemon,) = children(here.first)
    assert os.getsid(daemon) != os.getsid(here.first), "not the terminal's: it would get a second one from there"
    assert here.end(signal.SIGINT) == 0
    assert here.wait_for("run.finished")["outcome"] == "succeeded"


def test_the_log_is_json_on_standard_output(container):
    here = container()
    here.wait_for("daemon.ready")
    here.end(signal.SIGTERM)
    assert all(json.loads(line)["time"] for line in here.lines())
    assert here.stderr.read_text() == ""


def test_a_killed_daemon_ends_the_container_with_its_status(container):
    here = container()
    here.wait_for("run.started")
    (daemon,) = children(here.first)
    os.kill(daemon, signal.SIGKILL)
    assert here.process.wait(WAIT_S) == 128 + signal.SIGKILL


def test_a_broken_configuration_ends_it_with_the_reason(container):
    here = container("[jobs.broken]\ncommand = 7\n")
    assert here.process.wait(WAIT_S) == 1
    assert "jobs.broken.command" in here.stdout.read_text()


def test_the_first_process_is_small(container):
    here = container()
    here.wait_for("daemon.ready")
    text = Path(f"/proc/{here.first}/smaps_rollup").read_text()
    (own_kib,) = (int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    assert own_kib < 12_000
