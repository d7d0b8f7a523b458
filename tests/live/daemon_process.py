"""The real daemon as a process, for tests: configured from text, followed through its log, ended with everything it
started. Waits are for facts, with a deadline; nothing sleeps.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAIT_S = 20.0
TIDEGATE = Path(sys.executable).with_name("tidegate")


class Daemon:
    """One `tidegate run` at a time on one state directory; start() again continues on the same state."""

    def __init__(self, folder: Path, jobs: str, settings: str = "") -> None:
        self.folder = folder
        self.state = folder / "state"
        self.runtime = folder / "run"
        self.config = folder / "tidegate.toml"
        self.jobs_file = folder / "jobs.d" / "jobs.toml"
        self.jobs_file.parent.mkdir(parents=True)
        self.jobs_file.write_text(jobs)
        self.port = free_port()
        if "[http]" not in settings:
            settings += f'\n[http]\nlisten = "127.0.0.1:{self.port}"\n'
        self.config.write_text(settings)
        self.records: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self._grown = threading.Condition()
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, ready: bool = True, program: tuple[str, ...] = (), **environ: str) -> "Daemon":
        self.process = subprocess.Popen(
            [*program, str(TIDEGATE), "run", "--config", str(self.config)],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "STATE_DIRECTORY": str(self.state),
                "RUNTIME_DIRECTORY": str(self.runtime),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        if ready:
            self.wait_for("daemon.ready", pid=self.process.pid)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._grown:
                try:
                    record = json.loads(line)
                    record["_pid"] = process.pid
                    self.records.append(record)
                except ValueError:
                    self.noise.append(line)
                self._grown.notify_all()

    def seen(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Log records so far with this event and these fields."""
        pid = fields.pop("pid", None)
        return [
            record
            for record in list(self.records)
            if record.get("event") == event
            and all(record.get(key) == value for key, value in fields.items())
            and (pid is None or record["_pid"] == pid)
        ]

    def wait_for(self, event: str, count: int = 1, wait_s: float = WAIT_S, **fields: Any) -> dict[str, Any]:
        """The count-th such record, once it is there."""
        end_s = time.monotonic() + wait_s
        with self._grown:
            while len(found := self.seen(event, **fields)) < count:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    tail = "\n".join(map(str, self.records[-12:] + self.noise[-20:]))
                    raise AssertionError(f"no {count} × {event} {fields} within {wait_s} s; log ends:\n{tail}")
                self._grown.wait(left_s)
        return found[count - 1]

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self, number: int = signal.SIGTERM, wait_s: float = WAIT_S) -> int:
        """Signal it and wait for its end; its exit code."""
        self.send(number)
        return self.wait_end(wait_s)

    def wait_end(self, wait_s: float = WAIT_S) -> int:
        assert self.process is not None
        return self.process.wait(wait_s)

    def keeper_pid(self) -> int:
        """The keeper's pid, by its command line."""
        found = [pid for pid in processes_with(str(self.runtime)) if pid != self.pid and "keeper.py" in cmdline(pid)]
        assert len(found) == 1, found
        return found[0]

    def get(self, path: str) -> tuple[int, str]:
        """GET over TCP."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, series: str) -> float:
        """The value of one series, written as in the exposition."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no series {series}")

    def clean_up(self) -> None:
        """Leave no process behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in processes_with(str(self.runtime)) + runs_under(str(self.state)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def processes_with(word: str) -> list[int]:
    """Pids whose command line holds the word."""
    return [pid for pid in all_pids() if pid != os.getpid() and word in cmdline(pid)]


def runs_under(state: str) -> list[int]:
    """Pids of jobs of the daemon on this state directory, by their environment."""
    found = []
    for pid in all_pids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"TIDEGATE_OUTPUT={state}/".encode() in environ:
            found.append(pid)
    return found


def until(true: Callable[[], Any], wait_s: float = WAIT_S, what: str = "") -> Any:
    """What the function returns once it is true. It is asked often; it is the fact that is waited for."""
    end_s = time.monotonic() + wait_s
    pause = threading.Event()
    while not (value := true()):
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {wait_s} s: {what or true}")
        pause.wait(0.01)
    return value
