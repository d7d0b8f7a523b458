"""The real server on real sockets: what it answers, whom it refuses, and what slow or hostile clients can do to it."""

import asyncio
import contextlib
import gzip
import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidegate.api import routes, serve
from tidegate.api.guard import BODY_BYTES_MAX, host_name
from tidegate.api.routes import Status, accepts_gzip, application
from tidegate.api.serve import ListenError, Server, serve_tcp
from tidegate.model.command import Fact, Record
from tidegate.model.job import Job
from tidegate.model.plan import HttpSettings, Plan
from tidegate.model.run import Outcome, Run, Skip, State, Usage
from tidegate.telemetry.metrics import Metrics

pytestmark = pytest.mark.live

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE_S = 20.0
Answer = tuple[int, dict[str, str], bytes]


def lively_metrics(jobs: int = 3) -> Metrics:
    """Each job has run, failed and been skipped."""
    names = [f"job-{number}" for number in range(jobs)]
    metrics = Metrics(
        "0.1.0", pool=lambda: (4, 1, 0), next_fires=lambda: dict.fromkeys(names, 1.8e9), logs_dropped=lambda: 0
    )
    metrics.load(Plan(jobs={name: Job(name=name, command=("true",)) for name in names}), T0)
    for name in names:
        for fact, changes in (
            (Fact.RUN_QUEUED, {}),
            (Fact.RUN_STARTING, {}),
            (Fact.RUN_FINISHED, {"outcome": Outcome.CANCELLED, "duration_s": 2.5, "usage": Usage(1.5, 1 << 20)}),
            (Fact.RUN_SKIPPED, {"skip": Skip.OVERLAP}),
        ):
            run = Run(run_id=name, job=name, scheduled_at=T0, queued_at=T0, state=State.QUEUED, **changes)
            metrics.observe(Record(fact=fact, at=T0, job=name, run=run, lateness_s=0.01, wait_s=0.01))
    return metrics


class Daemon:
    """A loop in a thread of its own with the server on it."""

    def __init__(self, jobs: int = 3, host: str = "127.0.0.1", **settings: Any) -> None:
        self.sick: str | None = None
        self.unready: str | None = None
        self.unready_because: Callable[[], str | None] = lambda: self.unready
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._settings = HttpSettings(host=host, port=0, **settings)
        self.server: Server = self.call(self._open(jobs))
        self.host, self.port = self.server.addresses[0]

    async def _open(self, jobs: int) -> Server:
        status = Status("0.1.0", lambda: 12.5, lambda: self.sick, lambda: self.unready_because())
        return await serve_tcp(application(lively_metrics(jobs), status), self._settings)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def stop(self) -> None:
        self.call(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
        for key, value in (headers or {}).items():
            connection.putheader(key, value)
        connection.endheaders()
        response = connection.getresponse()
        answer = response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        connection.close()
        return answer

    def raw(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_S)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.stop()


@contextlib.contextmanager
def daemon_with(**options: Any) -> Iterator[Daemon]:
    made = Daemon(**options)
    try:
        yield made
    finally:
        made.stop()


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(1 << 16):
            data += piece
    return data


def is_problem(answer: Answer, status: int) -> bool:
    found, headers, body = answer
    assert found == status, (found, body)
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == status
    return True


# --- answers ----------------------------------------------------------------------------------------------


def test_metrics_are_prometheus_text(daemon: Daemon) -> None:
    status, headers, body = daemon.ask("/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"tidegate_runs", "tidegate_run_duration_seconds", "process_cpu_seconds"} <= names


def test_metrics_are_packed_for_who_accepts_it(daemon: Daemon) -> None:
    _, headers, body = daemon.ask("/metrics", headers={"Accept-Encoding": "deflate, gzip;q=0.5"})
    assert headers["content-encoding"] == "gzip"
    assert b"tidegate_runs_total" in gzip.decompress(body)
    _, headers, body = daemon.ask("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in headers and b"tidegate_runs_total" in body


def test_accept_encoding_is_read_as_the_standard_says() -> None:
    assert accepts_gzip(["gzip"]) and accepts_gzip(["br", "GZIP ; q=0.1"]) and accepts_gzip(["*"])
    assert not accepts_gzip([]) and not accepts_gzip(["br"]) and not accepts_gzip(["*, gzip;q=0"])
    assert not accepts_gzip(["gzip;q=nonsense"])


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    with daemon_with(jobs=25) as daemon:
        scrape = daemon.ask("/metrics")[2]
    found = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_health_and_readiness_say_what_is_wrong(daemon: Daemon) -> None:
    status, _, body = daemon.ask("/health")
    assert (status, json.loads(body)) == (200, {"status": "healthy", "version": "0.1.0", "uptime_s": 12.5})
    daemon.unready = "no keeper answers"
    assert daemon.ask("/health")[0] == 200
    answer = daemon.ask("/ready")
    assert is_problem(answer, 503) and json.loads(answer[2])["detail"] == "no keeper answers"
    daemon.unready = None
    assert daemon.ask("/ready")[0] == 200
    daemon.sick = "the pump has not turned for 61 s"
    assert is_problem(daemon.ask("/health"), 503)
    assert is_problem(daemon.ask("/ready"), 503)


def test_a_fault_of_our_own_is_a_500_without_details(daemon: Daemon) -> None:
    def broken() -> str:
        raise ValueError("secret detail")

    daemon.unready_because = broken
    answer = daemon.ask("/ready")
    assert is_problem(answer, 500) and b"secret" not in answer[2]
    assert answer[1]["x-content-type-options"] == "nosniff"
    assert daemon.ask("/health")[0] == 200


def test_head_answers_like_get_without_a_body(daemon: Daemon) -> None:
    for path in ("/metrics", "/health", "/ready"):
        status, headers, body = daemon.ask(path, "HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-type"] == daemon.ask(path)[1]["content-type"]


def test_answers_carry_no_banner_and_are_not_cached(daemon: Daemon) -> None:
    for path in ("/health", "/nothing"):
        headers = daemon.ask(path)[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_one_connection_serves_many_requests(daemon: Daemon) -> None:
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE_S)
    for path in ("/health", "/metrics", "/ready"):
        connection.request("GET", path)
        assert connection.getresponse().read()
    connection.close()


# --- threats 1 to 5 ---------------------------------------------------------------------------------------


def test_the_shipped_default_listens_on_loopback_only() -> None:
    assert HttpSettings().host == "127.0.0.1"
    with daemon_with(host=HttpSettings().host) as daemon:
        assert [host for host, _ in daemon.server.addresses] == ["127.0.0.1"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready"])
def test_every_other_method_is_refused(daemon: Daemon, method: str, path: str) -> None:
    answer = daemon.ask(path, method, {"Content-Length": "0"})
    assert is_problem(answer, 405)
    assert set(answer[1]["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path",
    [
        "/", "//metrics", "/./metrics", "/metrics/", "/metrics/.", "/metrics/..", "/x/../metrics", "/%2e/metrics",
        "/%2fmetrics", "/metrics%00", "/metrics;x", "/METRICS", "/metrics%20", "/metrics%0d%0aX:y", "\\metrics",
        "http://127.0.0.1/metrics", "/api/v1/jobs", "*", "/metrics%2f..%2fhealth",
    ],
)  # fmt: skip
def test_only_the_exact_path_reaches_a_handler(daemon: Daemon, path: str) -> None:
    assert is_problem(daemon.ask(path), 404)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9810",
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "[::1]:80",
        "127.1.2.3",
        "scheduler.example",
    ],
)
def test_our_own_names_are_answered(host: str) -> None:
    with daemon_with(allowed_hosts=("Scheduler.Example",)) as daemon:
        assert daemon.ask("/health", headers={"Host": host})[0] == 200
        assert daemon.ask("/health", headers={"Host": socket.gethostname()})[0] == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "[::1", "a@localhost",
     "localhost:80:80", "localhost:x", "[fe80::1]:80", "xn--localhost"],
)  # fmt: skip
def test_other_names_are_misdirected(daemon: Daemon, host: str) -> None:
    answer = daemon.ask("/health", headers={"Host": host})
    assert is_problem(answer, 421)
    assert "allowed_hosts" in json.loads(answer[2])["detail"]


def test_without_a_host_there_is_no_answer(daemon: Daemon) -> None:
    with daemon.raw() as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 421 " in read_to_end(sock).split(b"\r\n")[0]
    with daemon.raw() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 400 " in read_to_end(sock).split(b"\r\n")[0]


def test_on_all_addresses_the_one_that_was_asked_is_ours() -> None:
    with daemon_with(host="0.0.0.0") as daemon:
        daemon.host = "127.0.0.9"
        assert daemon.ask("/health", headers={"Host": "127.0.0.9"})[0] == 200
        assert daemon.ask("/health", headers={"Host": "10.11.12.13"})[0] == 421


def test_host_names_are_taken_apart() -> None:
    assert host_name("[::1]:80") == "::1" and host_name("A.b:1") == "a.b" and host_name(":80") is None
    assert host_name("[::1]x") is None and host_name("a:²") is None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", ""])
@pytest.mark.parametrize("path", ["/metrics", "/health", "/nothing"])
def test_pages_of_another_origin_are_refused_everywhere(daemon: Daemon, path: str, origin: str) -> None:
    assert is_problem(daemon.ask(path, headers={"Host": "127.0.0.1", "Origin": origin}), 403)


def test_our_own_origin_may_ask(daemon: Daemon) -> None:
    assert daemon.ask("/health", headers={"Host": "localhost:9", "Origin": "http://localhost:9"})[0] == 200


# --- slow, large and many ---------------------------------------------------------------------------------


def test_a_large_body_is_refused_before_it_is_sent(daemon: Daemon) -> None:
    assert is_problem(daemon.ask("/health", "POST", {"Content-Length": str(BODY_BYTES_MAX + 1)}), 413)


def test_an_endless_body_is_cut(daemon: Daemon) -> None:
    with daemon.raw() as sock:
        sock.sendall(b"POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(20_000):  # far more than fits into the socket buffers
                sock.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
    assert daemon.ask("/health")[0] == 200


def test_endless_headers_are_refused(daemon: Daemon) -> None:
    with daemon.raw() as sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(200):
            sock.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        # What was still under way makes the kernel reset the connection, sometimes before the answer is read.
        assert b" 200 " not in read_to_end(sock).split(b"\r\n")[0]
    assert daemon.ask("/health")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost: loc",
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
    ],
    ids=["silent", "half a header", "half a body", "half a second request"],
)
def test_a_slow_sender_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(serve, "REQUEST_S_MAX", 0.3)
    monkeypatch.setattr(serve, "KEEP_ALIVE_S", 3600)
    with daemon_with() as daemon, daemon.raw() as sock:
        sock.sendall(sent)
        before = time.monotonic()
        read_to_end(sock)
        assert time.monotonic() - before < PATIENCE_S / 2


def test_a_trickling_sender_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "REQUEST_S_MAX", 0.5)
    with daemon_with() as daemon, daemon.raw() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        gone = threading.Event()

        def watch() -> None:
            read_to_end(sock)
            gone.set()

        reader = threading.Thread(target=watch)
        reader.start()
        before = time.monotonic()
        with contextlib.suppress(OSError):
            while not gone.wait(0.05) and time.monotonic() - before < PATIENCE_S:
                sock.sendall(b"X: y\r\n")
        reader.join(PATIENCE_S)
        assert time.monotonic() - before < 5


def test_a_reader_that_stops_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "RESPONSE_S_MAX", 0.3)
    with daemon_with(jobs=2000) as daemon, daemon.raw() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: connections(daemon) == 1)
        wait_until(lambda: connections(daemon) == 0)


def test_the_longest_silent_connection_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "CONNECTIONS_MAX", 5)
    with daemon_with() as daemon, contextlib.ExitStack() as stack:
        silent = []
        for number in range(5):
            silent.append(stack.enter_context(daemon.raw()))
            wait_until(lambda number=number: connections(daemon) == number + 1)
        assert daemon.ask("/health")[0] == 200
        assert read_to_end(silent[0]) == b""  # cut
        silent[1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 " in read_to_end(silent[1])


def test_too_many_connections_are_turned_away_and_later_ones_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them has an answer under way: none makes room."""
    monkeypatch.setattr(serve, "CONNECTIONS_MAX", 5)
    monkeypatch.setattr(routes, "PAUSE_S", 0.1)
    with daemon_with(jobs=2000) as daemon:
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                sock = stack.enter_context(daemon.raw())
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until(lambda: len(daemon.server._state.tasks) == 5)
            with daemon.raw() as sixth:
                head, _, body = read_to_end(sixth).partition(b"\r\n\r\n")
            assert b" 503 " in head.split(b"\r\n")[0]
            assert f"content-length: {len(body)}".encode() in head and json.loads(body)["status"] == 503
        wait_until(lambda: connections(daemon) == 0)
        assert daemon.ask("/health")[0] == 200


def test_garbage_is_400_and_harms_nobody(daemon: Daemon) -> None:
    for junk in (
        b"\x16\x03\x01\x02\x00" * 20,
        b"GET\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ):
        with daemon.raw() as sock:
            sock.sendall(junk)
            assert b" 400 " in read_to_end(sock).split(b"\r\n")[0]
    assert daemon.ask("/health")[0] == 200


def test_an_upgrade_is_answered_as_plain_http(daemon: Daemon) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    assert daemon.ask("/health", headers=upgrade)[0] == 200


# --- opening and closing ----------------------------------------------------------------------------------


def test_a_port_in_use_is_explained(daemon: Daemon) -> None:
    async def second() -> None:
        await serve_tcp(application(lively_metrics(), Status("", float, lambda: None, lambda: None)), settings)

    settings = HttpSettings(port=daemon.port)
    with pytest.raises(ListenError) as caught:
        daemon.call(second())
    assert str(caught.value).startswith(f"127.0.0.1:{daemon.port} is in use by pid ")
    assert "set listen under [http]" in str(caught.value)


def test_an_address_of_another_machine_is_explained() -> None:
    async def opened() -> None:
        await serve_tcp(application(lively_metrics(), Status("", float, lambda: None, lambda: None)), settings)

    settings = HttpSettings(host="192.0.2.7", port=0)
    with pytest.raises(ListenError, match=r"192\.0\.2\.7:0 is not an address of this machine"):
        asyncio.run(opened())


def test_ipv6_is_listened_on_and_answered() -> None:
    with daemon_with(host="::1") as daemon:
        assert daemon.host == "::1"
        assert daemon.ask("/health", headers={"Host": f"[::1]:{daemon.port}"})[0] == 200


def test_closing_lets_an_answer_end_and_drops_idle_connections() -> None:
    daemon = Daemon(jobs=2000)
    idle, busy = daemon.raw(), daemon.raw()
    busy.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    first = busy.recv(1024)
    closing = threading.Thread(target=daemon.stop)
    closing.start()
    whole = first + read_to_end(busy)
    assert whole.endswith(b"0\r\n\r\n")
    assert read_to_end(idle) == b""
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    with pytest.raises(ConnectionRefusedError):
        daemon.raw()
    idle.close()
    busy.close()


# --- the loop ---------------------------------------------------------------------------------------------


def test_many_scrapes_at_once_hold_the_loop_only_briefly() -> None:
    """Eight clients scrape 2,000 jobs; between two turns of the loop at most one slice is made."""
    with daemon_with(jobs=2000) as daemon:
        turns: list[float] = []

        async def watch() -> None:
            while scraping.is_set():
                before = time.process_time()  # CPU time of this process: other loads on the machine do not count
                await asyncio.sleep(0)
                turns.append(time.process_time() - before)

        scraping = threading.Event()
        scraping.set()
        bodies: list[bytes] = []
        clients = [threading.Thread(target=lambda: bodies.append(daemon.ask("/metrics")[2])) for _ in range(8)]
        watching = asyncio.run_coroutine_threadsafe(watch(), daemon._loop)
        for client in clients:
            client.start()
        for client in clients:
            client.join(PATIENCE_S)
        scraping.clear()
        watching.result(PATIENCE_S)
    assert len(bodies) == 8 and all(body.count(b"tidegate_runs_total{") == 8000 for body in bodies)
    turns.sort()
    assert turns[len(turns) * 99 // 100] < 0.005, turns[-10:]


FIRST = """
import sys, threading
from tests.live.test_http import Daemon
daemon = Daemon()
for thread in threading.enumerate():
    if thread.name == "tidegate-fqdn":
        thread.join()  # it imports what it needs by itself, off the loop
before = set(sys.modules)
for path in ("/metrics", "/health", "/ready", "/nothing"):
    daemon.ask(path, headers={"Accept-Encoding": "gzip", "Origin": "http://evil.example"})
    daemon.ask(path, headers={"Accept-Encoding": "gzip"})
print(sorted(set(sys.modules) - before))
daemon.stop()
"""


def test_the_first_requests_import_nothing() -> None:
    """An import holds the loop for tens of milliseconds, and fires with it."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, cwd=root, check=True, text=True)
    assert done.stdout == "[]\n"


def test_a_client_that_leaves_ends_its_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "PAUSE_S", 0.1)  # the whole scrape would take seven seconds
    with daemon_with(jobs=2000) as daemon:
        with daemon.raw() as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until(lambda: len(daemon.server._state.tasks) == 1)
        wait_until(lambda: not daemon.server._state.tasks, 3.0)


IDLE = """
import asyncio, sys
from tests.live.test_http import lively_metrics
from tidegate.api.routes import Status, application
from tidegate.api.serve import serve_tcp
from tidegate.model.plan import HttpSettings

async def main():
    app = application(lively_metrics(), Status("", float, lambda: None, lambda: None))
    server = await serve_tcp(app, HttpSettings(port=0))
    print(server.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def switches(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError("no count of context switches")


def test_an_idle_server_never_wakes() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", IDLE], stdout=subprocess.PIPE, cwd=root) as child:
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            connection.request("GET", "/health", headers={"Connection": "close"})
            assert connection.getresponse().read()
            connection.close()
            settled, count = time.monotonic(), switches(child.pid)
            while time.monotonic() - settled < 2.0:  # two seconds with no switch at all
                threading.Event().wait(0.25)
                if switches(child.pid) != count:
                    assert time.monotonic() - settled < 1.0, "it wakes while nobody asks"
                    count = switches(child.pid)
        finally:
            child.kill()


def connections(daemon: Daemon) -> int:
    return len(daemon.server._state.connections)


def wait_until(what: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.01)
