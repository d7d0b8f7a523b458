"""A real keeper, a real link and a loop, for tests: start jobs, wait for facts with a deadline. Nothing is faked."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidegate.executors.link import KeeperLink
from tidegate.model.event import Event, Exited, KeeperLost, Started, StartFailed
from tidegate.model.job import Job
from tidegate.model.run import Run

PATIENCE_S = 20.0  # for a fact that must come; the machine may be busy


def cmdline_pids(token: str) -> list[int]:
    """Living processes with this text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if token.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    """Is it there, and more than a zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def there(pid: int) -> bool:
    """Is it there at all, if only as a zombie?"""
    return Path(f"/proc/{pid}").exists()


class World:
    """One folder, at most one link at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        self.state = folder / "state"
        self.runtime.mkdir()
        self.state.mkdir()
        self.events: list[Event] = []
        self.loop = asyncio.new_event_loop()
        self.link: KeeperLink | None = None
        self._serial = 0
        self._keepers: set[int] = set()

    async def connect(self) -> KeeperLink:
        return await KeeperLink.open(self.runtime, self.state, self.events.append)

    def open(self) -> KeeperLink:
        self.link = self.loop.run_until_complete(self.connect())
        self._keepers.add(self.link.keeper_pid)
        return self.link

    def drop(self) -> None:
        """The supervisor goes away without a word."""
        assert self.link is not None
        self.loop.run_until_complete(self.link.close(shutdown=False))
        self.link = None

    def close(self) -> None:
        """End what this world started, whatever a test left."""
        for pid in self._keepers:
            try:
                comm = Path(f"/proc/{pid}/comm").read_text()
            except OSError:
                continue
            if comm == "tidegate-keeper\n":
                os.kill(pid, signal.SIGTERM)
        for pid in self._keepers:
            self.wait(lambda pid=pid: not alive(pid))
        if self.link is not None:
            self.loop.run_until_complete(self.link.close(shutdown=False))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def wait(self, fact: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """Run the loop until the fact is true; returns it. Fails when it does not come."""
        end = time.monotonic() + seconds
        while not (value := fact()):
            assert time.monotonic() < end, f"did not come true; events: {self.events[-5:]}"
            self.loop.run_until_complete(asyncio.sleep(0.003))
        return value

    def run(self, seconds: float) -> None:
        """Let the loop run: for bounds on what must not happen."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    # --- runs --------------------------------------------------------------------------------------------------

    def start(self, job: Job, run_id: str = "", attempt: int = 1, args: dict[str, str] | None = None) -> str:
        assert self.link is not None
        self._serial += 1
        now = datetime.now(UTC)
        run_id = run_id or f"run{self._serial}"
        run = Run(run_id=run_id, job=job.name, scheduled_at=now, queued_at=now, attempt=attempt, args=args or {})
        self.link.start(run, job)
        self.link.flush()
        return run_id

    def shell(self, text: str, **settings: Any) -> str:
        settings = {"name": "job", "cwd": "/", "kill_grace_s": 0.3, "nice": 0} | settings
        return self.start(Job(shell=text, **settings))

    def command(self, *argv: str, **settings: Any) -> str:
        settings = {"name": "job", "cwd": "/", "kill_grace_s": 0.3, "nice": 0} | settings
        return self.start(Job(command=argv, **settings))

    def signal(self, run_id: str, number: int) -> None:
        assert self.link is not None
        self.link.signal(run_id, 1, number)
        self.link.flush()

    def link_start(self, run_id: str) -> str:
        """A short run, written but not flushed."""
        now = datetime.now(UTC)
        run = Run(run_id=run_id, job="job", scheduled_at=now, queued_at=now)
        self.open_link.start(run, Job(name="job", command=("true",), cwd="/"))
        return run_id

    @property
    def open_link(self) -> KeeperLink:
        assert self.link is not None
        return self.link

    @property
    def pids(self) -> dict[str, int]:
        return {event.run_id: event.pid for event in self.events if isinstance(event, Started)}

    def ended(self, run_id: str) -> bool:
        return any(isinstance(event, Exited) and event.run_id == run_id for event in self.events)

    def started(self, run_id: str) -> Started:
        return self._one(Started, run_id)

    def exited(self, run_id: str) -> Exited:
        return self._one(Exited, run_id)

    def failed(self, run_id: str) -> str:
        return self._one(StartFailed, run_id).reason

    def lost(self) -> list[KeeperLost]:
        return [event for event in self.events if isinstance(event, KeeperLost)]

    def _one(self, kind: type, run_id: str) -> Any:
        def found() -> Event | None:
            return next((e for e in self.events if isinstance(e, kind) and e.run_id == run_id), None)

        return self.wait(found)

    # --- output ------------------------------------------------------------------------------------------------

    def path(self, run_id: str, job: str = "job") -> Path:
        return self.state / "output" / job / f"{run_id}.log"

    def output(self, run_id: str) -> bytes:
        path = self.path(run_id)
        return path.read_bytes() if path.exists() else b""

    def pid_from(self, run_id: str) -> int:
        """The first line of output, a pid."""
        return int(self.wait(lambda: (lines := self.output(run_id)).count(b"\n") and lines.split(b"\n")[0]))
