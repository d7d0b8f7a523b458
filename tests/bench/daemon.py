"""tidegate itself under measurement: written configuration, started, heard ready, its log followed, stopped."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.ground import Ground, Missed, until

READY_S = 120.0
TOML = """\
[daemon]
jobs = ["jobs.d/*.toml"]
timezone = "UTC"
log_format = "json"
on_stop = "drain"
drain_timeout = "5s"

[pool]
min = {slots}
max = {slots}

[http]
listen = "127.0.0.1:{port}"

[defaults]
nice = {nice}
memory = "4MiB"
{defaults}

{tables}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client(http.client.HTTPConnection):
    """HTTP over the control socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        """Asks again as often as it is told to wait a moment."""
        while True:
            self.request(method, path, body, {"content-type": "application/json"} if body else {})
            answer = self.getresponse()
            text = answer.read()
            if answer.status != http.HTTPStatus.TOO_MANY_REQUESTS:
                break
            time.sleep(float(answer.headers["retry-after"]))
        if answer.status >= 300:
            raise Missed(f"{method} {path}: {answer.status} {text[:500]!r}")
        return dict(json.loads(text))


class Tail:
    """New whole lines of a growing file, as they come."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (lives as long as the daemon it follows)
        self._rest = b""

    def lines(self) -> list[bytes]:
        *whole, self._rest = (self._rest + (self._file.read() or b"")).split(b"\n")
        return whole

    def close(self) -> None:
        self._file.close()


class Tidegate:
    """A context: the daemon runs inside it. Jobs are given as TOML text, and so are further tables of tidegate.toml."""

    def __init__(
        self,
        ground: Ground,
        program: str,
        jobs: str,
        *,
        slots: int = 200,
        nice: int = 0,
        defaults: str = "",
        tables: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._ground = ground
        self._program = program
        self.folder = ground.folder("tidegate")
        self.port = free_port()
        self.log = self.folder / "log.jsonl"
        self.log.touch()
        self.jobs_file = self.folder / "jobs.d" / "jobs.toml"
        self.jobs_file.parent.mkdir()
        self.jobs_file.write_text(jobs)
        self.config = self.folder / "tidegate.toml"
        self.config.write_text(TOML.format(slots=slots, port=self.port, nice=nice, defaults=defaults, tables=tables))
        self.state = self.folder / "state"
        self.state.mkdir(mode=0o700)
        self._env = dict(env or {})
        self.runtime = ground.sockets / self.folder.name
        self._tail = Tail(self.log)
        self._counts: dict[str, int] = {}
        self.ready_s = 0.0
        self.child: subprocess.Popen[bytes]

    def __enter__(self) -> "Tidegate":
        self.runtime.mkdir(mode=0o700)
        self.begin()
        return self

    def begin(self) -> None:
        """Start it and wait for READY=1."""
        ready = self._ground.ready()
        env = {
            **os.environ,
            **self._env,
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "NOTIFY_SOCKET": str(ready.path),
        }
        begin_s = time.monotonic()
        self.child = self._ground.start([self._program, "run", "--config", str(self.config)], env=env, stderr=self.log)
        try:
            self.ready_s = ready.wait(READY_S, self.child) - begin_s
        except Missed as missed:
            raise Missed(f"{missed}\n{self.log.read_text()[-2000:]}") from None
        finally:
            ready.close()

    def crash(self) -> None:
        """kill -9 of the supervisor alone; `begin` starts the next one."""
        self._ground.stop(self.child, signal.SIGKILL)

    def client(self) -> Client:
        return Client(self.runtime / "tidegate.sock")

    def __exit__(self, *_: object) -> None:
        self._ground.stop(self.child)
        self._tail.close()

    @property
    def keeper(self) -> int | None:
        """The keeper's pid: the process on this ground whose command line says so and names our folder."""
        for pid in self._ground.strays():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(b"keeper" in word for word in words) and str(self.runtime).encode() in words:
                return pid
        return None

    @property
    def pids(self) -> list[int]:
        keeper = self.keeper
        return [self.child.pid] if keeper is None else [self.child.pid, keeper]

    def seen(self, event: str) -> int:
        """How many log records of this event there were so far. Cheap: looks at new bytes only."""
        for line in self._tail.lines():
            name = event_of(line)
            self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts.get(event, 0)

    def wait_for(self, event: str, count: int, within_s: float) -> float:
        """The monotonic time at which the count-th record of this event was seen."""
        return until(lambda: self.seen(event) >= count, within_s, f"{count} × {event} in tidegate's log")

    def records(self, event: str) -> list[dict[str, object]]:
        lines = self.log.read_bytes().splitlines()
        return [json.loads(line) for line in lines if event_of(line) == event]


def event_of(line: bytes) -> str:
    """The word of the field `event`, without parsing the rest."""
    _, found, rest = line.partition(b'"event":')
    return rest.split(b'"', 2)[1].decode() if found else ""


def all_succeeded(daemon: Tidegate, count: int) -> None:
    """The record of each run was kept, and each says that it succeeded."""
    records = daemon.records("run.finished")
    runs = {record["run_id"] for record in records}
    bad = [record for record in records if record["outcome"] != "succeeded"]
    if len(runs) != count or bad:
        raise Missed(f"{len(runs)} of {count} runs on record, {len(bad)} not succeeded: {bad[:1]}")
