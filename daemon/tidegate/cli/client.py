"""Asks the daemon over its control socket: one request, one answer, as values. Prints nothing, ends no command.

The few lines of HTTP are our own: of the 100 ms in which `history` answers, http.client takes 20 to import, and h11 13.
"""

import errno
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from tidegate.model.view import (
    AttemptView,
    DecisionView,
    JobView,
    LeaseView,
    PoolView,
    ReloadView,
    ResourceView,
    RunningView,
    RunView,
    WaitingView,
)

ANSWER_S_MAX: Final = 30.0  # a daemon that is alive answers within milliseconds; its history within 0.1 s
RELOAD_S_MAX: Final = 120.0  # reading 100,000 jobs
ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024  # 100,000 jobs take 60 MB
PIECE_BYTES: Final = 1024 * 1024  # of output at a time
RECEIVED_BYTES: Final = 256 * 1024  # at a time
LINE_BYTES_MAX: Final = 64 * 1024  # of a header
PAGE_RUNS: Final = 500  # the most that the API gives at once
EVENT_BYTES_MAX: Final = 1024 * 1024  # one line of the event stream
OUTSIDE: Final = 416  # nothing at or behind the asked offset

T = TypeVar("T")


class NoDaemonError(Exception):
    """Nobody answers at the socket; the text says where, why, and what to do."""


class DeniedError(NoDaemonError):
    """There is one, and whoever asks may not connect."""


class LostError(NoDaemonError):
    """It was asked and went away, or said nothing in time: whether it did what was asked is not known."""


class RefusedError(Exception):
    """The daemon answered with something other than success; `detail` is its sentence, `body` its whole answer."""

    def __init__(self, status: int, detail: str, body: bytes) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.body = body


class RunDetail(RunView, frozen=True, kw_only=True):
    """A run with the attempts of it that were followed by another."""

    attempts: tuple[AttemptView, ...] = ()


class Pool(Struct, frozen=True, kw_only=True):
    """Everything that runs or waits."""

    pool: PoolView
    running: tuple[RunningView, ...] = ()
    waiting: tuple[WaitingView, ...] = ()
    resources: tuple[ResourceView, ...] = ()


class _Runs(Struct, frozen=True):
    items: list[RunView]
    next: str | None = None


class _Jobs(Struct, frozen=True):
    items: list[JobView]


class _Decisions(Struct, frozen=True):
    items: list[DecisionView]


class _Problem(Struct, frozen=True):
    detail: str = ""
    title: str = ""


class Client:
    """One daemon. A connection for each request: nothing is shared, so a thread may ask beside another."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def silence(self) -> NoDaemonError | None:
        """Why nobody answers there; None where somebody accepts connections."""
        try:
            self._opened(ANSWER_S_MAX).close()
        except NoDaemonError as error:
            return error
        return None

    def daemon_pid(self) -> int:
        """Who listens there. Raises NoDaemonError."""
        connection = self._opened(ANSWER_S_MAX)
        with connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], "little")

    # --- reading -----------------------------------------------------------------------------------------------

    def jobs(self) -> list[JobView]:
        return self._ask("GET", "/api/v1/jobs", _Jobs).items

    def job(self, name: str) -> JobView:
        return self._ask("GET", f"/api/v1/jobs/{quote(name, '')}", JobView)

    def runs(self, limit: int, **filters: str | datetime | None) -> Iterator[RunView]:
        """Newest first, at most `limit`, a page at a time."""
        cursor: str | None = None
        while limit > 0:
            query = {"limit": min(limit, PAGE_RUNS), "cursor": cursor, **filters}
            page = self._ask("GET", _with("/api/v1/runs", query), _Runs)
            yield from page.items[:limit]
            limit -= len(page.items)
            cursor = page.next
            if cursor is None:
                return

    def run(self, run_id: str) -> RunDetail:
        return self._ask("GET", f"/api/v1/runs/{quote(run_id, '')}", RunDetail)

    def pool(self) -> Pool:
        return self._ask("GET", "/api/v1/pool", Pool)

    def why(self, job: str, at: datetime | None) -> list[DecisionView]:
        return self._ask("GET", _with("/api/v1/why", {"job": job, "at": at}), _Decisions).items

    def output(self, run_id: str, offset: int) -> bytes:
        """What is there of a run's output from the offset on, at most PIECE_BYTES."""
        headers = {"Range": f"bytes={offset}-{offset + PIECE_BYTES - 1}"}
        path = f"/api/v1/runs/{quote(run_id, '')}/output"
        status, data = self._exchange("GET", path, None, headers, ANSWER_S_MAX)
        if status == OUTSIDE:
            return b""
        _raise_unless_good(status, data)
        return data if status == HTTPStatus.PARTIAL_CONTENT else data[offset:]

    def events(self) -> Iterator[str]:
        """The word of each fact as it happens, for as long as the daemon tells. Raises NoDaemonError at its end."""
        connection = self._opened(None)
        try:
            exchange = _Exchange(connection, "GET", "/api/v1/events", None, {"Accept": "text/event-stream"})
            if exchange.status != HTTPStatus.OK:
                _raise_unless_good(exchange.status, exchange.body())
            for line in exchange.lines():
                if line.startswith(b"event:"):
                    yield line[6:].strip().decode(errors="replace")
        except OSError as error:
            raise self._lost(error) from error
        finally:
            connection.close()
        raise LostError(f"the daemon at {self.path} ended the stream of events")

    # --- changing ----------------------------------------------------------------------------------------------

    def trigger(self, job: str, args: dict[str, str], request_id: str) -> RunView:
        body = {"args": args, "request_id": request_id}
        return self._ask("POST", f"/api/v1/jobs/{quote(job, '')}/runs", RunView, body)

    def cancel(self, run_id: str) -> RunView:
        return self._ask("POST", f"/api/v1/runs/{quote(run_id, '')}/cancel", RunView, {})

    def pause(self, job: str) -> JobView:
        return self._ask("POST", f"/api/v1/jobs/{quote(job, '')}/pause", JobView, {})

    def resume(self, job: str) -> JobView:
        return self._ask("POST", f"/api/v1/jobs/{quote(job, '')}/resume", JobView, {})

    def reload(self) -> ReloadView:
        """What it did, or what is wrong with the configuration."""
        try:
            return self._ask("POST", "/api/v1/reload", ReloadView, {}, RELOAD_S_MAX)
        except RefusedError as error:
            return _decoded(error.body, ReloadView) if _is(error.body, ReloadView) else _raise(error)

    def acquire(self, uses: dict[str, int], wait_s: float | None) -> LeaseView:
        """A lease for this process, once it is granted. It is not granted where its state is not "granted"."""
        timeout_s = None if wait_s is None else wait_s + ANSWER_S_MAX
        try:
            return self._ask("POST", "/api/v1/leases", LeaseView, {"uses": uses, "wait_s": wait_s}, timeout_s)
        except RefusedError as error:
            inner = msgspec.json.decode(error.body).get("lease") if _is(error.body, dict) else None
            for body in (error.body, msgspec.json.encode(inner)):
                if _is(body, LeaseView):
                    return _decoded(body, LeaseView)
            raise

    # --- the wire ----------------------------------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, answer: type[T], body: Any = None, timeout_s: float | None = ANSWER_S_MAX
    ) -> T:
        data = None if body is None else msgspec.json.encode(body)
        status, received = self._exchange(method, path, data, {"Accept": "application/json"}, timeout_s)
        _raise_unless_good(status, received)
        try:
            return _decoded(received, answer)
        except msgspec.DecodeError as error:
            raise RefusedError(
                status, f"the daemon's answer cannot be understood ({error}); is it of another version?", b""
            ) from error

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float | None
    ) -> tuple[int, bytes]:
        connection = self._opened(timeout_s)
        try:
            exchange = _Exchange(connection, method, path, body, headers)
            return exchange.status, exchange.body()
        except OSError as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def _opened(self, timeout_s: float | None) -> socket.socket:
        try:
            return _connect(self.path, timeout_s)
        except PermissionError as error:
            raise DeniedError(
                f"you may not connect to {self.path}: its owner, root and its group may ('ls -l' tells which)"
            ) from error
        except OSError as error:
            absent = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED)
            why = "" if absent else f" ({error.strerror or error})"
            raise NoDaemonError(f"no daemon answers at {self.path}{why}; 'tidegate run' starts one") from error

    def _lost(self, error: Exception) -> NoDaemonError:
        if isinstance(error, TimeoutError):
            return LostError(f"the daemon at {self.path} does not answer; 'tidegate doctor' looks why")
        return LostError(f"the daemon at {self.path} went away while it was asked")


class _Exchange:
    """One request over a connected socket, and its answer. Raises OSError, also where the other side ends in the
    middle."""

    def __init__(
        self, connection: socket.socket, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> None:
        said = {"Host": "localhost", "Connection": "close", **headers}
        if body is not None:
            said |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))
        self._answer = connection.makefile("rb")
        version, status, *_ = [*self._line().split(b" ", 2), b"", b""]
        if not version.startswith(b"HTTP/1.") or not status.isdigit():
            raise ConnectionError("this is no HTTP")
        self.status = int(status)
        self._headers: dict[bytes, bytes] = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            self._headers[name.lower()] = value.strip()

    def body(self) -> bytes:
        """The rest of it, at most ANSWER_BYTES_MAX."""
        received = bytearray()
        for piece in self._pieces():
            received += piece
            if len(received) > ANSWER_BYTES_MAX:
                break
        return bytes(received)

    def lines(self) -> Iterator[bytes]:
        """As they come, without their ends. One that is too long is cut."""
        rest = b""
        for piece in self._pieces():
            *whole, rest = (rest + piece).split(b"\n")
            rest = rest[:EVENT_BYTES_MAX]
            yield from whole

    def _pieces(self) -> Iterator[bytes]:
        if self._headers.get(b"transfer-encoding") == b"chunked":
            while size := _size(self._line().partition(b";")[0], 16):
                yield self._exactly(size)
                self._line()
        elif b"content-length" in self._headers:
            yield self._exactly(_size(self._headers[b"content-length"], 10))
        else:
            while piece := self._answer.read1(RECEIVED_BYTES):
                yield piece

    def _line(self) -> bytes:
        line = self._answer.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise ConnectionError("it ended within a line")
        return line.rstrip(b"\r\n")

    def _exactly(self, count: int) -> bytes:
        data = self._answer.read(count)
        if len(data) < count:
            raise ConnectionError("it ended within its answer")
        return data


def _size(text: bytes, base: int) -> int:
    try:
        size = int(text, base)
    except ValueError:
        size = -1
    if not 0 <= size <= ANSWER_BYTES_MAX:
        raise ConnectionError(f"no size of an answer: {text[:20]!r}")
    return size


def _connect(path: Path, timeout_s: float | None) -> socket.socket:
    """Through the folder's descriptor, as an address has at most 107 bytes. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


def _with(path: str, query: dict[str, Any]) -> str:
    given = {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in query.items()
        if value is not None
    }
    return f"{path}?{urlencode(given)}" if given else path


def _decoded(data: bytes, answer: type[T]) -> T:
    return msgspec.json.decode(data, type=answer)


def _is(data: bytes, answer: type[Any]) -> bool:
    try:
        _decoded(data, answer)
    except msgspec.DecodeError:
        return False
    return True


def _raise_unless_good(status: int, body: bytes) -> None:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    said = _decoded(body, _Problem) if _is(body, _Problem) else _Problem()
    raise RefusedError(status, said.detail or said.title or f"the daemon answered with status {status}", body)


def _raise(error: RefusedError) -> Any:
    raise error
