"""Hooks against the real thing: commands, HTTP servers that fail, hang and redirect, a mail server."""

import asyncio
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from loguru import logger

from tidegate.hooks import command as hook_command
from tidegate.hooks import http
from tidegate.hooks.hooks import Hooks
from tidegate.model.command import Fact, Record
from tidegate.model.job import Every, HookLists, Job, Ping
from tidegate.model.plan import Hook, Mail, Plan
from tidegate.model.run import Outcome, Run, State

pytestmark = pytest.mark.live

WAIT_S = 10.0


def now() -> datetime:
    return datetime.now(UTC)


def finished(outcome: Outcome = Outcome.FAILED, run_id: str = "r1", **fields: Any) -> Record:
    at = now()
    run = Run(
        run_id=run_id, job="backup", scheduled_at=at, queued_at=at, started_at=at, ended_at=at,
        state=State.FINISHED, outcome=outcome, exit_code=1, **fields,
    )  # fmt: skip
    return Record(fact=Fact.RUN_FINISHED, at=at, job="backup", run=run, reason="exit code 1")


def started(run_id: str = "r1") -> Record:
    at = now()
    run = Run(run_id=run_id, job="backup", scheduled_at=at, queued_at=at, started_at=at, state=State.RUNNING)
    return Record(fact=Fact.RUN_STARTED, at=at, job="backup", run=run)


class World:
    """Hooks of one job, with the pauses they wanted and what they logged."""

    def __init__(self, hook: Hook | None = None, tmp_path: Path | None = None, **job: Any) -> None:
        self.pauses: list[float] = []
        fields = {"hooks": HookLists(failure=("ops",))} | job
        self.plan = Plan(
            hooks={hook.name: hook} if hook else {},
            jobs={"backup": Job(name="backup", command=("true",), **fields), "other": Job(name="other")},
        )
        self.lengths = [1.0] * 30
        self.hooks = Hooks(self.plan, durations=lambda job: self.lengths, output_dir=tmp_path, pause=self.pause)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def total(self, end: str, name: str = "ops") -> float:
        return self.hooks.totals.get((name, end), 0)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not done():
                await asyncio.sleep(0.005)

    async def ended(self, count: int = 1, name: str = "ops") -> None:
        await self.until(lambda: self.total("delivered", name) + self.total("failed", name) >= count)


def play(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 3 * WAIT_S))


@pytest.fixture
def said() -> Iterator[list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    sink = logger.add(
        lambda message: lines.append(
            {"level": message.record["level"].name, "text": message.record["message"], **message.record["extra"]}
        ),
        level="DEBUG",
    )
    yield lines
    logger.remove(sink)


# --- commands -----------------------------------------------------------------------------------------------


def command(*argv: str, **fields: Any) -> Hook:
    return Hook(name="ops", command=argv, **fields)


def test_a_command_gets_the_run_and_nothing_of_the_daemons_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")

    async def body() -> None:
        world = World(command("/bin/sh", "-c", f"cat > {tmp_path}/stdin; env > {tmp_path}/env"))
        world.hooks.observe(finished())
        await world.ended()
        assert world.total("delivered") == 1
        await world.hooks.close(1)

    play(body)
    given = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert "DATABASE_PASSWORD" not in given
    assert (given["TIDEGATE_EVENT"], given["TIDEGATE_JOB"], given["TIDEGATE_RUN_ID"]) == ("failure", "backup", "r1")
    assert (given["TIDEGATE_OUTCOME"], given["TIDEGATE_REASON"]) == ("failed", "exit code 1")
    assert json.loads((tmp_path / "stdin").read_text()) == json.loads(given["TIDEGATE_RUN"])


@pytest.mark.parametrize("open_to_us", [True, False])
def test_a_command_begins_in_the_home_of_its_user_or_at_the_root_where_that_is_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_to_us: bool
) -> None:
    home = tmp_path / "home"
    if open_to_us:
        home.mkdir()
    monkeypatch.setattr(hook_command, "_home", lambda: str(home))

    async def body() -> None:
        world = World(command("/bin/sh", "-c", f"pwd > {tmp_path}/pwd"))
        world.hooks.observe(finished())
        await world.ended()
        await world.hooks.close(1)

    play(body)
    assert (tmp_path / "pwd").read_text() == (f"{home}\n" if open_to_us else "/\n")


def test_a_command_that_hangs_is_killed_with_its_whole_group(tmp_path: Path, said: list[dict[str, Any]]) -> None:
    async def body() -> None:
        script = f"sleep 1000 & echo $! > {tmp_path}/child; trap '' TERM; wait; sleep 1000"
        world = World(command("/bin/sh", "-c", script, timeout_s=0.5))
        world.hooks.observe(finished())
        await world.ended()
        assert world.total("failed") == 1
        child = int((tmp_path / "child").read_text())
        await world.until(lambda: not _lives(child))
        await world.hooks.close(1)

    play(body)
    assert any(line["event"] == "hook.failed" and "within 0.5 s" in line["text"] for line in said)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_fails_is_not_tried_again_and_its_words_are_told(said: list[dict[str, Any]]) -> None:
    async def body() -> None:
        world = World(command("/bin/sh", "-c", "yes | head -c 300000 >&2; echo; exit 7"))
        world.hooks.observe(finished())
        await world.ended()
        await world.hooks.close(1)
        assert (world.total("failed"), world.pauses) == (1, [])

    play(body)
    line = next(line for line in said if line["event"] == "hook.failed")
    assert "exit code 7: y" in line["text"] and line["job"] == "backup" and len(line["text"]) < 1500


def test_a_command_that_is_not_there_is_told_and_no_exception(said: list[dict[str, Any]]) -> None:
    async def body() -> None:
        world = World(command("/no/such/program"))
        world.hooks.observe(finished())
        await world.ended()
        await world.hooks.close(1)

    play(body)
    assert any("/no/such/program cannot be started: No such file" in line["text"] for line in said)


# --- HTTP ---------------------------------------------------------------------------------------------------


class Server:
    """A real one that answers as it is told: (status, headers), "hang" or "close"."""

    def __init__(self, *answers: Any, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        self._answers = list(answers)
        outer = self

        class Answers(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers, self.rfile.read(size)))
                answer = outer._answers.pop(0) if outer._answers else (200, {})
                if answer == "hang":
                    outer.released.wait(3 * WAIT_S)
                    return
                if answer == "close":
                    return
                status, fields = answer
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"thanks" * 1000)

            do_GET = do_POST = _answer

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def webhook(url: str, **fields: Any) -> Hook:
    return Hook(name="ops", webhook=url, **fields)


def tell(hook: Hook, **job: Any) -> World:
    """One failure, told to the end."""
    made: list[World] = []

    async def body() -> None:
        world = World(hook, **job)
        made.append(world)
        world.hooks.observe(finished())
        await world.ended()
        await world.hooks.close(1)

    play(body)
    return made[0]


def test_a_webhook_posts_json_with_its_headers() -> None:
    with Server() as server:
        world = tell(webhook(f"{server.url}/a%20b/ä?x=1&y=%2f", headers={"Authorization": "Bearer abc"}))
    assert world.total("delivered") == 1
    (method, path, headers, body), *rest = server.requests
    assert not rest
    assert (method, path) == ("POST", "/a%20b/%C3%A4?x=1&y=%2f")
    assert headers["authorization"] == "Bearer abc"
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["run"]["run_id"] == "r1"


def test_a_server_that_fails_is_tried_again_with_the_same_key() -> None:
    with Server((500, {}), "close", (429, {"Retry-After": "30"})) as server:
        world = tell(webhook(server.url))
    assert world.total("delivered") == 1
    assert len(server.requests) == 4
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.requests}) == 1
    assert world.pauses[2] == 30.0


def test_a_request_that_is_wrong_is_not_tried_again() -> None:
    with Server((404, {})) as server:
        world = tell(webhook(server.url))
    assert (world.total("failed"), len(server.requests)) == (1, 1)


def test_redirects_are_not_followed(said: list[dict[str, Any]]) -> None:
    with Server() as inner, Server((302, {"Location": inner.url})) as server:
        world = tell(webhook(server.url))
    assert (world.total("failed"), len(server.requests), len(inner.requests)) == (1, 1, 0)
    assert any("redirects are not followed" in line["text"] for line in said)


def test_a_server_that_hangs_costs_its_timeout_and_holds_nobody_up() -> None:
    with Server("hang") as server:

        async def body() -> None:
            world = World(webhook(server.url, timeout_s=0.3))
            began = time.monotonic()
            world.hooks.observe(finished())
            assert time.monotonic() - began < 0.2
            await world.ended()
            await world.hooks.close(1)
            assert world.total("delivered") == 1 and len(world.pauses) == 1

        play(body)


def test_nobody_listening_is_told_without_the_address(said: list[dict[str, Any]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        world = tell(webhook(f"http://me:hunter2@127.0.0.1:{taken.getsockname()[1]}/s3cret", retries=2))
    assert (world.total("failed"), len(world.pauses)) == (1, 2)
    text = " ".join(map(str, said))
    assert "hook.failed" in text
    assert "hunter2" not in text and "s3cret" not in text


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("by_mail", [False, True])
def test_nobody_reached_from_a_unit_names_the_setting_that_may_forbid_it(
    by_mail: bool, silent: bool, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What IPAddressDeny= drops looks like a server that is down."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if silent:
            taken.listen()  # and nobody accepts
        server = f"127.0.0.1:{taken.getsockname()[1]}"
        if by_mail:
            hook = Hook(name="ops", timeout_s=0.3, retries=0, mail=Mail(to=("ops@example.org",), smtp=server))
        else:
            hook = webhook(f"http://{server}/", timeout_s=0.3, retries=0)
        tell(hook)
        assert "IPAddressAllow" not in str(said)
        monkeypatch.setenv("TIDEGATE_KEEPER_DIRECTORY", "/run/tidegate-keeper")  # as the units do
        tell(hook)
    assert "the unit reaches only what its IPAddressAllow= names" in said[-1]["text"]
    assert "docs/how-to/harden.md" in said[-1]["text"]


def test_a_header_that_http_cannot_carry_is_told_without_its_value(said: list[dict[str, Any]]) -> None:
    with Server() as server:
        world = tell(webhook(server.url, headers={"X-Key": "hunter2\r\nEvil: 1"}))
    assert (world.total("failed"), server.requests) == (1, [])
    assert "hunter2" not in str(said)


def certificate(folder: Path) -> ssl.SSLContext:
    key, made = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", str(key), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_and_a_trusted_one_taken(
    tmp_path: Path, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path)
    with Server(tls=context) as server:
        assert tell(webhook(server.url)).total("failed") == 1
        assert server.requests == []
        assert any("is not trusted" in line["text"] for line in said)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        monkeypatch.setattr(http, "_context", lambda: trusting)
        assert tell(webhook(server.url)).total("delivered") == 1


# --- pings --------------------------------------------------------------------------------------------------


def test_pings_go_out_in_order_as_they_are_written() -> None:
    with Server() as server:

        async def body() -> None:
            ping = Ping(f"{server.url}/x/start", f"{server.url}/x?a=1", f"{server.url}/x/fail")
            world = World(hooks=HookLists(), ping=ping)
            for record in (started(), finished(Outcome.SUCCEEDED), started("r2"), finished(Outcome.CANCELLED, "r2")):
                world.hooks.observe(record)
            await world.ended(4, "ping")
            await world.hooks.close(1)

        play(body)
    assert [(method, path) for method, path, _, _ in server.requests] == [
        ("GET", "/x/start"),
        ("GET", "/x?a=1"),
        ("GET", "/x/start"),
        ("GET", "/x/fail"),
    ]


def test_pings_that_fail_are_told_once_until_they_work_again(said: list[dict[str, Any]]) -> None:
    with Server((404, {}), (404, {}), (200, {}), (404, {})) as server:

        async def body() -> None:
            world = World(hooks=HookLists(), ping=Ping(success=f"{server.url}/key"))
            for number in range(4):
                world.hooks.observe(finished(Outcome.SUCCEEDED, str(number)))
            await world.ended(4, "ping")
            await world.hooks.close(1)
            assert (world.total("failed", "ping"), world.total("delivered", "ping")) == (3, 1)

        play(body)
    loud = [(line["event"], line["level"]) for line in said if line["level"] != "DEBUG"]
    assert loud == [("hook.failed", "WARNING"), ("hook.delivered", "INFO"), ("hook.failed", "WARNING")]


# --- mail ---------------------------------------------------------------------------------------------------


class Inbox:
    """What a mail server takes, and what it refuses."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.mails: list[Any] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content))
        return answer

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2", handled=False)


@contextmanager
def smtp(inbox: Inbox, **options: Any) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        controller.stop()


def mail(server: str, to: tuple[str, ...] = ("ops@example.org",), **fields: Any) -> Hook:
    return Hook(name="ops", mail=Mail(to=to, smtp=server, **fields))


def test_a_mail_arrives_with_the_last_lines_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "r1.log").write_text("dumping …\ndisk full\n", encoding="utf-8")
    inbox = Inbox()
    with smtp(inbox) as server:
        world = tell(mail(server, ("a@example.org", "b@example.org")), tmp_path=tmp_path)
    assert world.total("delivered") == 1
    (message,) = inbox.mails
    assert message["Auto-Submitted"] == "auto-generated"
    assert "backup failed: exit code 1" in message["Subject"]
    text = message.get_payload(decode=True).decode()
    assert "    dumping …\n    disk full\n" in text.replace("\r", "")


def test_a_mail_that_is_put_off_is_tried_again_and_a_refused_one_is_not(said: list[dict[str, Any]]) -> None:
    inbox = Inbox("451 greylisted", "250 OK", "554 spam")
    with smtp(inbox) as server:
        assert tell(mail(server)).total("delivered") == 1
        world = tell(mail(server))
        assert (world.total("failed"), world.pauses) == (1, [])
    assert any("554 spam" in line["text"] for line in said)


def test_addresses_that_are_refused_are_told_and_the_others_get_it(said: list[dict[str, Any]]) -> None:
    inbox = Inbox()
    with smtp(inbox) as server:
        assert tell(mail(server, ("ops@example.org", "nobody@example.org"))).total("delivered") == 1
        assert tell(mail(server, ("nobody@example.org",))).total("failed") == 1
    assert any("nobody@example.org: 550" in line["text"] and line["level"] == "WARNING" for line in said)


def test_starttls_is_required_where_it_is_asked_for(tmp_path: Path) -> None:
    inbox = Inbox()
    with smtp(inbox) as server:
        assert tell(mail(server, starttls=True)).total("failed") == 1
    with smtp(inbox, tls_context=certificate(tmp_path)) as server:
        assert tell(mail(server, starttls=True)).total("failed") == 1  # nobody vouches for it
    assert inbox.mails == []


def test_it_logs_in_over_tls_with_the_first_line_of_the_password_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    (tmp_path / "password").write_text("hunter2\nnotes\n")
    (tmp_path / "password").chmod(0o600)
    inbox = Inbox()
    with smtp(inbox, tls_context=context, authenticator=inbox.authenticate) as server:
        hook = mail(server, starttls=True, user="me", password_file=str(tmp_path / "password"))
        assert tell(hook).total("delivered") == 1
        (tmp_path / "password").write_text("wrong\n")
        assert tell(hook).total("failed") == 1
        (tmp_path / "password").write_text("hunter2\n")
        (tmp_path / "password").chmod(0o644)
        tried = len(inbox.logins)
        assert tell(hook).total("failed") == 1, "others could read it"
        assert len(inbox.logins) == tried
    assert inbox.logins[0] == (b"me", b"hunter2")


def drip(listening: socket.socket, over: threading.Event) -> None:
    """A mail server that says a letter now and then: no single read of it is ever out of time."""
    connections = []
    listening.settimeout(0.05)
    while not over.is_set():
        try:
            connections.append(listening.accept()[0])
        except TimeoutError:
            pass
        for connection in connections:
            try:
                connection.send(b"2")
            except OSError:
                pass


def test_a_mail_server_that_drips_costs_its_timeout_and_leaves_no_thread() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip, args=(listening, over))
        dripping.start()
        try:
            where = Mail(to=("ops@example.org",), smtp=f"127.0.0.1:{listening.getsockname()[1]}")
            world = tell(Hook(name="ops", mail=where, timeout_s=0.5, retries=1))
            assert (world.total("failed"), len(world.pauses)) == (1, 1)
            deadline = time.monotonic() + WAIT_S
            while _hook_threads() and time.monotonic() < deadline:
                over.wait(0.01)
            assert _hook_threads() == []
        finally:
            over.set()
            dripping.join()


def _hook_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "hook"]


# --- all together -------------------------------------------------------------------------------------------


def test_a_job_without_hooks_costs_microseconds() -> None:
    async def body() -> None:
        world = World(command("true"))
        record = Record(fact=Fact.RUN_STARTED, at=now(), job="other")
        began = time.perf_counter()
        for _ in range(10_000):
            world.hooks.observe(record)
        assert (time.perf_counter() - began) / 10_000 < 20e-6

    play(body)


def test_an_overrun_is_told_while_the_run_goes_on_by_its_own_past() -> None:
    with Server() as server:

        async def body() -> None:
            world = World(webhook(server.url), hooks=HookLists(overrun=("ops",)))
            world.lengths = [0.01] * 30
            await world.hooks.start()
            world.hooks.observe(started())
            await world.ended()
            await world.hooks.close(1)

        play(body)
    assert json.loads(server.requests[0][3])["event"] == "overrun"


def test_an_absence_is_told_when_time_is_up_also_after_a_restart() -> None:
    with Server() as server:

        async def body() -> None:
            world = World(webhook(server.url), hooks=HookLists(absence=("ops",)), trigger=Every(3600.0))
            world.hooks.restore({"backup": now() - timedelta(seconds=7199.7)}, {}, {})
            await world.hooks.start()
            assert server.requests == []
            await world.ended()
            await world.hooks.close(1)

        play(body)
    assert json.loads(server.requests[0][3])["event"] == "absence"


def test_a_reload_changes_who_is_told() -> None:
    with Server() as old, Server() as new:

        async def body() -> None:
            world = World(webhook(old.url))
            world.hooks.observe(finished())
            await world.ended(1)
            plan = World(webhook(new.url)).plan
            world.hooks.load(plan)
            world.hooks.observe(finished(run_id="r2"))
            await world.ended(2)
            world.hooks.load(Plan())
            world.hooks.observe(finished(run_id="r3"))
            await world.hooks.close(1)
            assert world.total("delivered") == 2

        play(body)
    assert (len(old.requests), len(new.requests)) == (1, 1)


def test_the_end_waits_a_little_and_then_says_what_was_dropped(said: list[dict[str, Any]]) -> None:
    with Server("hang") as server:

        async def body() -> None:
            world = World(webhook(server.url))
            for number in range(3):
                world.hooks.observe(finished(run_id=str(number)))
            await world.until(lambda: bool(server.requests))
            began = time.monotonic()
            await world.hooks.close(0.2)
            assert 0.2 <= time.monotonic() - began < WAIT_S
            assert world.total("dropped") == 3

        play(body)
    assert any(line["event"] == "hook.dropped" and "3 messages not delivered" in line["text"] for line in said)


def test_what_is_queued_at_the_end_is_still_delivered(tmp_path: Path) -> None:
    async def body() -> None:
        world = World(command("/bin/sh", "-c", f"echo $TIDEGATE_RUN_ID >> {tmp_path}/told"))
        for number in range(3):
            world.hooks.observe(finished(run_id=str(number)))
        await world.hooks.close(WAIT_S)

    play(body)
    assert (tmp_path / "told").read_text().split() == ["0", "1", "2"]
