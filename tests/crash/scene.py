"""The real daemon on a folder of its own, started, killed and started again; its jobs keep the ledger. Everything it
says is looked through for bugs, and nothing of it is left behind.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "live"))

from account import Account, unended, who_is_unended
from account import read as read_account
from compare import Expected, Policy, Verdict, compare
from daemon_process import TIDEGATE, cmdline, processes_with, runs_under, until
from ledger import Ledger
from ledger import read as read_ledger

from tidegate.model.job import Job, OnInterrupted
from tidegate.settings.read import load
from tidegate.triggers.build import build

WORK = Path(__file__).with_name("work.sh")
LINE_BYTES = 100  # of the ledger, about
DUE_BEYOND_S = 30.0  # instants after the end that a late skip may still name
TIMINGS = re.compile(r'^(cron|every) = ".*"$', re.MULTILINE)
NEVER = "at = 2099-01-01T00:00:00Z"
SIGNALS_MAX = 4  # a signal is a byte that the daemon writes to itself, and that write can be the one that fails
REFUSED_S = 1.0  # fires this shortly before the end may have been refused

SETTINGS = """
[daemon]
timezone = "UTC"
on_stop = "leave"
drain_timeout = "30s"
log_format = "json"
log_level = "info"
[http]
listen = ""
[pool]
min = 64
max = 64
"""


def job(name: str, timing: str, *work: str | int | float, **keys: str) -> str:
    """A job of work.sh: seconds, then the exit code of each attempt. Keys are TOML as written."""
    argv = ", ".join(json.dumps(str(part)) for part in ("/bin/sh", WORK, name, *work))
    lines = [f"[jobs.{name}]", f"command = [{argv}]", timing, 'output = "discard"', "nice = 0"]
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in keys.items()), ""])


class Scene:
    """One folder with configuration, state and ledger, and at most one daemon at work on it."""

    def __init__(self, folder: Path, jobs: str, settings: str = SETTINGS) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.runtime = folder / "run"
        self.ledger_path = folder / "ledger"
        self.history_path = self.state / "history.sqlite"
        self.config = folder / "tidegate.toml"
        self.jobs_file = folder / "jobs.d" / "jobs.toml"
        self.jobs_file.parent.mkdir(parents=True)
        self.jobs_file.write_text(jobs)
        defaults = f'memory = "4MiB"\nenv = {{ LEDGER = {json.dumps(str(self.ledger_path))} }}'
        self.config.write_text(f"{settings}\n[defaults]\n{defaults}\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.lives = 0
        self.troubles: list[str] = []  # what no life may say
        self.ended_at: datetime | None = None
        self._plan: dict[str, Job] = {}
        self._since: dict[str, datetime] = {}

    # --- one life ---------------------------------------------------------------------------------------

    def start(self, *, program: tuple[str, ...] = (), **environ: str) -> None:
        """Begin a life. Does not wait for it to be ready."""
        assert self.process is None or self.process.poll() is not None
        self.lives += 1
        with self.log_path.open("wb") as log:
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
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log_path(self) -> Path:
        return self.folder / f"log.{self.lives}"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, wait_s: float = 30.0) -> None:
        until(lambda: not self.alive or '"daemon.ready"' in self.log(), wait_s, "ready")
        assert self.alive, f"it ended before it was ready:\n{self.log()[-4000:]}"

    def kill(self) -> None:
        """kill -9, as a crash."""
        assert self.process is not None
        self.process.kill()
        self.buried()

    def buried(self, wait_s: float = 30.0) -> int:
        """Wait for the end of this life; look through what it said. Its exit code, negative for a signal."""
        assert self.process is not None
        code = self.process.wait(wait_s)
        text = self.log()
        bad = _troubles(text)
        self.troubles += [f"life {self.lives}: {line[:2000]}" for line in bad[:5]]
        if not bad:
            self.log_path.unlink()
        return code

    def keeper_pid(self) -> int | None:
        found = [pid for pid in processes_with(str(self.runtime)) if "keeper.py" in cmdline(pid)]
        return found[0] if found else None

    def kill_keeper(self) -> bool:
        """kill -9 of the keeper; whether there was one."""
        pid = self.keeper_pid()
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        return pid is not None

    def leave(self) -> tuple[int, str]:
        """End this life by SIGTERM, which leaves runs to the keeper; it may have ended by itself, or run under another
        program. Its exit code and what it said."""
        assert self.process is not None
        for _ in range(SIGNALS_MAX):
            pids = [self.process.pid, *children(self.process.pid)] if self.alive else []
            for pid in pids:
                if str(TIDEGATE) in cmdline(pid).split()[:2]:
                    os.kill(pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
                break
        text = self.log()
        return self.buried(), text

    def drain(self, wait_s: float = 90.0) -> None:
        """Let what runs end, start nothing new."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        code = self.buried(wait_s)
        if code:
            self.troubles.append(f"life {self.lives}: the drain ended with {code}")

    def come_to_rest(self) -> None:
        """The last lives: after one drain nothing fires any more, and what waited then is worked off."""
        if not self.alive:
            self.start()
        self.wait_ready()
        self.ended_at = datetime.now(UTC)
        self.drain()
        self._plan = load(self.config).jobs
        self._since = self.account().since
        self.jobs_file.write_text(re.sub(TIMINGS, NEVER, self.jobs_file.read_text()))
        self.start()
        self.wait_ready()
        self._work_off()
        self.drain()

    def _work_off(self) -> None:
        """Wait for the end of every run, for as long as it goes on: a thousand kills leave a long queue."""
        left = unended(self.history_path)
        while left:
            before = left
            try:
                until(lambda before=before: unended(self.history_path) < before, 60)
            except AssertionError:
                raise AssertionError(f"{left} runs do not end:\n{who_is_unended(self.history_path)}") from None
            left = unended(self.history_path)

    # --- the account ------------------------------------------------------------------------------------

    def starts(self) -> int:
        """About how many attempts have begun and ended; cheap."""
        with suppress(FileNotFoundError):
            return self.ledger_path.stat().st_size // (2 * LINE_BYTES)
        return 0

    def account(self) -> Account:
        return read_account(self.history_path)

    def ledger(self) -> Ledger:
        return read_ledger(self.ledger_path, growing=self.ended_at is None)

    def compare(self, *, unknown_allowed: bool = False) -> Verdict:
        """The account against the ledger, from the first life to the rest."""
        assert self.ended_at is not None, "come to rest before"
        account = Account(self.account().rows, self._since)
        due: dict[str, list[datetime]] = {}
        policies = {}
        for name, each in self._plan.items():
            policies[name] = Policy(
                each.retries.max + 1, each.on_interrupted is OnInterrupted.RERUN, each.catch_up.value
            )
            trigger = build(each)
            if trigger is not None:
                since = account.since.get(name, self.ended_at)
                end = self.ended_at + timedelta(seconds=DUE_BEYOND_S)
                due[name] = []
                while (at := trigger.after(since)) is not None and at <= end:
                    due[name].append(at)
                    since = at
        until_at = self.ended_at - timedelta(seconds=REFUSED_S)
        return compare(account, self.ledger(), Expected(due, policies, until_at, unknown_allowed))

    # --- the end ----------------------------------------------------------------------------------------

    def left_behind(self) -> list[str]:
        """Processes that are still there."""
        pids = processes_with(str(self.runtime)) + runs_under(str(self.state))
        return [f"{pid}: {cmdline(pid)}" for pid in pids]

    def clean_up(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.alive:
            assert self.process is not None
            self.process.kill()
            self.process.wait()
        # The folder's path with a slash: its own processes, and nobody's whose folder begins with the same letters.
        for pid in processes_with(f"{self.folder}/") + runs_under(str(self.state)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method: str, path: str, body: object = None, wait_s: float = 10.0) -> tuple[int, str]:
        """One request over the control socket. Raises OSError where nobody answers."""
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(wait_s)
            link.connect(str(self.runtime / "tidegate.sock"))
            link.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
            answer = b""
            while piece := link.recv(65536):
                answer += piece
        status, _, rest = answer.decode(errors="replace").partition("\r\n")
        return int(status.split()[1]) if status else 0, rest.partition("\r\n\r\n")[2]


def children(pid: int) -> list[int]:
    """Pids of the processes that it started."""
    with suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _troubles(text: str) -> list[str]:
    """Lines that no life may say: a traceback, a bug, or what is neither a record nor a message on what is wrong."""
    # Python's own words where a signal could not be noted: only strace makes that write fail.
    text = re.sub(r"Exception ignored when trying to write to the signal wakeup fd:\n(.*\n)*?OSError: .*\n", "", text)
    found = []
    for line in text.splitlines():
        # A record (one that the kill cut short too), or a path and what is wrong with it.
        said = not line or line.startswith(("{", "Error: ", "/"))
        if "Traceback" in line or '"daemon.bug"' in line or not said:
            found.append(line)
    return found
