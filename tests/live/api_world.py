"""The API on real sockets around a fake daemon: what the live API tests share."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tidegate.api.application import Api, control_application
from tidegate.api.routes import Status
from tidegate.api.serve import Server, serve_tcp
from tidegate.api.unix import serve_unix
from tidegate.model.command import Fact, Record
from tidegate.model.job import Job, Output, Ping
from tidegate.model.plan import ControlSettings, HttpSettings, Plan
from tidegate.model.refusal import Refused
from tidegate.model.run import Outcome, Run, Skip, State
from tidegate.model.view import (
    AttemptView,
    DecisionView,
    HoldingView,
    JobView,
    LeaseView,
    PoolView,
    ReloadView,
    ResourceView,
    RunningView,
    RunView,
    WaitingView,
    of_run,
    running_view,
)
from tidegate.telemetry.metrics import Metrics

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE_S = 20.0
TOKEN = "correct-horse-battery-staple"
Answer = tuple[int, dict[str, str], bytes]


def run_id(number: int) -> str:
    return f"{number:016d}"


def a_run(number: int, job: str = "backup", **changes: Any) -> Run:
    at = T0 + timedelta(seconds=number)
    return Run(run_id=run_id(number), job=job, scheduled_at=at, queued_at=at, **changes)


def ended(number: int, job: str = "backup", outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Run:
    return a_run(number, job, state=State.FINISHED, outcome=outcome, started_at=T0, ended_at=T0, **changes)


class FakeReader:
    """A history in memory: the same answers as the real one's."""

    def __init__(self, past: dict[str, RunView], trouble: list[Exception]) -> None:
        self._past = past
        self._trouble = trouble

    def runs(self, job=None, outcome=None, state=None, since=None, until=None, limit=100, before=None):
        if self._trouble:
            raise self._trouble[0]
        rows = [
            (seq, view)
            for seq, view in enumerate(self._past.values(), 1)
            if (job is None or view.job == job)
            and (outcome is None or outcome in (view.outcome, view.skip, view.state))
            and (state is None or view.state == state)
            and (since is None or view.queued_at >= since)
            and (until is None or view.queued_at <= until)
            and (before is None or seq < before)
        ][::-1]
        page = rows[:limit]
        return [view for _, view in page], page[-1][0] if len(rows) > limit else None

    def run(self, run_id: str) -> RunView | None:
        if self._trouble:
            raise self._trouble[0]
        return self._past.get(run_id)

    def requested(self, job: str, request_id: str) -> RunView | None:
        return next((view for view in self._past.values() if (view.job, view.request_id) == (job, request_id)), None)

    def latest(self, job: str) -> RunView | None:
        return self.latest_each().get(job)

    def latest_each(self) -> dict[str, RunView]:
        if self._trouble:
            raise self._trouble[0]
        return {view.job: view for view in self._past.values() if view.state != "skipped"}

    def last_success(self, job: str) -> datetime | None:
        return self.last_successes().get(job)

    def last_successes(self) -> dict[str, datetime]:
        return {
            view.job: view.ended_at for view in self._past.values() if view.outcome == "succeeded" and view.ended_at
        }

    def attempts(self, run_id: str) -> list[AttemptView]:
        first = AttemptView(
            attempt=1, started_at=T0, ended_at=T0, outcome="failed", reason="exit code 1", exit_code=1, signal=None,
            duration_s=1.0, cpu_s=None, memory_peak_bytes=None,
        )  # fmt: skip
        return [first]

    def why(self, job: str, at: datetime | None, limit: int) -> list[DecisionView]:
        if job != "backup":
            return [DecisionView(at=T0, fact="history.none", job=job, run_id="", reason="no fire of it is on record")]
        return [DecisionView(at=at or T0, fact="run.skipped", job=job, run_id="", reason="it was paused")][:limit]


class FakeControl:
    """A daemon that remembers what it was asked."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.definitions = {
            "backup": Job(
                name="backup",
                command=("pg_dump",),
                env={"PGPASSWORD": "hunter2", "LANG": "C"},
                ping=Ping(start="https://hc-ping.com/2f1a-secret-uuid"),
            ),
            "quiet": Job(name="quiet", command=("true",), output=Output.DISCARD),
            "journaled": Job(name="journaled", command=("true",), output=Output.JOURNAL),
        }
        self.live: dict[str, Run] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.leases: dict[str, LeaseView] = {}
        self.grant = True
        self.before_grant: Callable[[], Any] = lambda: None
        self.withdrawn = 0
        self.reload_ok = True
        self.refusal: Exception | None = None
        self.callbacks: list[Callable[[Record], None]] = []
        self._made = 0

    def tell(self, fact: Fact, run: Run | None = None, reason: str = "", at: datetime = T0) -> None:
        record = Record(fact=fact, at=at, job=run.job if run else "", run=run, reason=reason)
        for callback in list(self.callbacks):
            callback(record)

    def job_names(self) -> list[str]:
        return list(self.definitions)

    def job(self, name: str) -> JobView | None:
        if name not in self.definitions:
            return None
        return JobView(
            name=name, description="", schedule="15 2 * * *", timezone="UTC", enabled=True, paused=False,
            next_fire_at=T0, running=0, queued=0, last_run=None, last_success_at=None,
        )  # fmt: skip

    def definition(self, name: str) -> Job | None:
        return self.definitions.get(name)

    def running(self) -> list[RunningView]:
        return [running_view(run, None, False) for run in self.live.values() if run.state is State.RUNNING]

    def run(self, run_id: str) -> RunView | None:
        found = self.live.get(run_id)
        return of_run(found) if found else None

    def waiting(self, limit: int) -> list[WaitingView]:
        queued = [run for run in self.live.values() if run.state is State.QUEUED]
        return [WaitingView(run=of_run(run), gate="pool", reason="all 2 slots are taken") for run in queued][:limit]

    def pool(self) -> PoolView:
        return PoolView(limit=2, running=1, queued=1, retrying=0, held="")

    def resources(self) -> list[ResourceView]:
        held = HoldingView(holder="run 1", units=1, run_id=run_id(1), lease_id="", since=T0, waiting=False)
        return [ResourceView(name="database", units=2, used=1, holdings=(held,))]

    async def trigger(self, job: str, by: str, args: dict[str, str], request_id: str | None) -> RunView:
        if self.refusal:
            raise self.refusal
        self.asked.append(("trigger", job, by, args, request_id))
        if job == "quiet":
            return of_run(a_run(900, job, state=State.SKIPPED, skip=Skip.PAUSED, reason="it is paused"))
        return of_run(a_run(901, job, request_id=request_id))

    async def cancel(self, run_id: str, by: str) -> RunView:
        self.asked.append(("cancel", run_id, by))
        return of_run(self.live[run_id])

    async def pause(self, job: str, by: str) -> JobView:
        self.asked.append(("pause", job, by))
        found = self.job(job)
        assert found
        return found

    async def resume(self, job: str, by: str) -> JobView:
        self.asked.append(("resume", job, by))
        found = self.job(job)
        assert found
        return found

    async def reload(self, by: str) -> ReloadView:
        self.asked.append(("reload", by))
        return ReloadView(ok=self.reload_ok, problems=() if self.reload_ok else ("jobs.d/a.toml:7: no",))

    async def acquire(self, uses: dict[str, int], holder: str, pid: int | None, wait_s: float | None) -> LeaseView:
        if "database" not in uses:
            raise Refused("invalid", "there is no such resource")
        self.asked.append(("acquire", uses, holder, pid, wait_s))
        self._made += 1
        lease = LeaseView(
            lease_id=f"lease{self._made}", uses=uses, holder=holder, state="granted", reason="", asked_at=T0,
            granted_at=T0, ended_at=None,
        )  # fmt: skip
        if not self.grant:
            if wait_s == 0:
                return LeaseView(**{**fields(lease), "state": "ended", "reason": "database has 0 of 2 units free"})
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.withdrawn += 1
                raise
        self.before_grant()
        self.leases[lease.lease_id] = lease
        return lease

    async def release(self, lease_id: str, by: str) -> LeaseView:
        self.asked.append(("release", lease_id, by))
        return LeaseView(**{**fields(self.leases.pop(lease_id)), "state": "ended", "ended_at": T0, "reason": by})

    def lease(self, lease_id: str) -> LeaseView | None:
        return self.leases.get(lease_id)

    def subscribe(self, callback: Callable[[Record], None]) -> Callable[[], None]:
        self.callbacks.append(callback)

        def end() -> None:
            if callback in self.callbacks:
                self.callbacks.remove(callback)

        return end


def fields(view: Any) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__struct_fields__}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(self._path))


class World:
    """A loop in a thread of its own, with the API on TCP and on a socket."""

    def __init__(self, folder: Path, operators: str = "", token_file: str | None = None) -> None:
        self.plan = Plan(http=HttpSettings(port=0, token_file=token_file), control=ControlSettings(operators=operators))
        self.control = FakeControl(folder)
        self.past: dict[str, RunView] = {}
        self.trouble: list[Exception] = []
        self.path = folder / "t.sock"
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.api: Api
        self.tcp: Server
        self.unix: Server
        self.call(self._open())

    async def _open(self) -> None:
        metrics = Metrics("0.1.0", pool=lambda: (2, 1, 1), next_fires=dict, logs_dropped=lambda: 0)
        metrics.load(Plan(jobs=self.control.definitions), T0)
        status = Status("0.1.0", lambda: 1.5, lambda: None, lambda: None)
        self.api = control_application(
            metrics, status, self.control, lambda: FakeReader(self.past, self.trouble), lambda: self.plan
        )
        self.tcp = await serve_tcp(self.api, self.plan.http)
        self.unix = await serve_unix(self.api, self.path, self.plan.control)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(PATIENCE_S)

    def begin(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def do(self, what: Callable[[], Any]) -> Any:
        async def done() -> Any:
            return what()

        return self.call(done())

    def stop(self) -> None:
        async def close() -> None:
            await self.api.close()
            await asyncio.gather(self.tcp.close(), self.unix.close())

        self.call(close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()

    def over(self, way: str) -> http.client.HTTPConnection:
        if way == "unix":
            return UnixConnection(self.path)
        return http.client.HTTPConnection(*self.tcp.addresses[0], timeout=PATIENCE_S)

    def ask(
        self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, way: str = "unix"
    ) -> Answer:
        connection = self.over(way)
        sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if sent is not None else {}
        try:
            connection.request(method, path, sent, {**given, **(headers or {})})
            response = connection.getresponse()
            answer = response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        finally:
            connection.close()
        return answer

    def json(self, path: str, method: str = "GET", body: Any = None, status: int = 200, **options: Any) -> Any:
        found, headers, content = self.ask(path, method, body, **options)
        assert found == status, (found, content)
        assert headers["content-type"] in ("application/json", "application/problem+json")
        return json.loads(content)

    def remember(self, *runs: Run) -> None:
        """These are on record."""
        for run in runs:
            self.past[run.run_id] = of_run(run)


@contextlib.contextmanager
def world_in(folder: Path, **options: Any) -> Iterator[World]:
    made = World(folder, **options)
    try:
        yield made
    finally:
        made.stop()


def wait_until(what: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.01)
