"""Opens what listens and closes it again: uvicorn's protocol class under the loop's own server. It knows no route.

Not uvicorn.Server: that polls ten times a second and takes over the signal handlers. An idle server here has no
timer at all; each connection has one deadline at a time. However many ask at once, one request enters between two
turns of the loop, so that fires are never behind a crowd of readers.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tidegate import clock
from tidegate.api.guard import BODY_BYTES_MAX, Guard
from tidegate.api.peer import peer_of
from tidegate.model.plan import HttpSettings

CONNECTIONS_MAX: Final = 100  # Prometheus, a load balancer's checks and some people need ten
REQUEST_S_MAX: Final = 10.0  # for a whole request to arrive: slow senders only hold a connection this long
RESPONSE_S_MAX: Final = 30.0  # for a client that has stopped reading to go on
KEEP_ALIVE_S: Final = 5
HEADER_BYTES_MAX: Final = 16 * 1024
BACKLOG: Final = 512  # hundreds may come at once; a full queue is an error to those who will not wait
# asyncio takes as many at once as its backlog says. Without a descriptor it fails, and comes back, as often as that:
# with eight a turn each second would have up to eight times the failures of the one before.
ACCEPTS_A_TURN: Final = 1
CONNECTIONS_MIN: Final = 4
# Between two requests of a crowd: one takes about 1 ms, and the other two thirds belong to the fires.
TURN_S: Final = 0.002
CLOSE_S: Final = 2.0
CUT_S: Final = 0.5  # for one sentence to those who would wait on; who does not even read that is cut off

_FULL_BODY: Final = b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections"}'
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
)


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def connections_most() -> int:
    """How many there may be on one listener: a quarter of the descriptors of this process, for there are two of them,
    and the rest of the daemon needs some too. Whoever asks next then finds one, however many are silent."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(CONNECTIONS_MAX, max(CONNECTIONS_MIN, descriptors // 4))


class Turns:
    """Lets one piece of a request in between two turns of the loop; the others wait, in order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Protocol, bytes]] = deque()
        self._taken = False

    def enter(self, protocol: "Protocol", data: bytes) -> None:
        """Now, where nobody was before in this turn; else later."""
        if self._taken:
            protocol.transport.pause_reading()
            protocol.pieces_waiting += 1
            self._waiting.append((protocol, data))
        else:
            self._taken = True
            self._loop.call_soon(self._next)
            protocol.feed(data)

    def _next(self) -> None:
        while self._waiting:
            protocol, data = self._waiting.popleft()
            protocol.pieces_waiting -= 1
            if not protocol.transport.is_closing():
                # The kernel lets programs that sleep go first: a loop that never does fires late on a busy machine.
                self._loop.call_later(TURN_S, self._next)
                protocol.feed(data)
                return
        self._taken = False


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for requests, one for readers, and a cap on connections."""

    def __init__(self, config: Config, state: ServerState, turns: Turns) -> None:
        super().__init__(config, state, {})
        self.access_log = False
        self._turns = turns
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._body_bytes = 0
        self._idle_since = clock.monotonic_s()
        self.pieces_waiting = 0  # for their turn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        """Take the connection, or say that there are too many."""
        if len(self.connections) >= connections_most() and not self._make_room():
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        self.app_state = {"peer": peer_of(transport.get_extra_info("socket"))}
        self._await_request()

    def _make_room(self) -> bool:
        """Cut the one that has been silent, or sending, for longest: whoever asks at once is answered."""
        idle = [one for one in self.connections if isinstance(one, Protocol) and one.idle_since is not None]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one.idle_since or 0.0)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    @property
    def idle_since(self) -> float | None:
        """Since when no answer is under way, on the monotonic clock."""
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if answering or self.pieces_waiting:
            return None
        return self._idle_since

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over; so are its deadlines."""
        self._cancel_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        self._unset_keepalive_if_required()
        self._turns.enter(self, data)

    def feed(self, data: bytes) -> None:
        """It is this connection's turn."""
        if not self.flow.read_paused:
            self.transport.resume_reading()
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:  # h11 itself bounds what comes before
            self._body_bytes += len(data)
            if self._body_bytes > BODY_BYTES_MAX + HEADER_BYTES_MAX:
                self.transport.abort()
        else:
            self._body_bytes = 0
        self._watch_request()

    def on_response_complete(self) -> None:
        """The answer is out; a next request may be here already, in part."""
        self._idle_since = clock.monotonic_s()
        super().on_response_complete()
        self._watch_request()

    def pause_writing(self) -> None:
        """The client does not read fast enough; it has some time to go on."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(RESPONSE_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """It has gone on."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self.flow is not None:
            super().resume_writing()

    def _watch_request(self) -> None:
        """A request that has begun has a deadline to be complete; between two, uvicorn's keep-alive timer runs."""
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if self.transport.is_closing() or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY) or not begun:
            self._cancel_deadline()
        elif self._deadline is None:
            self._await_request()

    def _await_request(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S_MAX, self._too_slow)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.abort()


class Server:
    """What listens. `addresses` are (host, port) pairs, with the port that was given out where 0 was asked for."""

    def __init__(
        self, server: asyncio.Server, state: ServerState, notice: str = "", on_close: Callable[[], None] | None = None
    ) -> None:
        self._server = server
        self._state = state
        self._on_close = on_close
        self.notice = notice  # what could not be done as configured; "": nothing
        self.addresses: list[tuple[str, int]] = [
            sock.getsockname()[:2] for sock in server.sockets if sock.family != socket.AF_UNIX
        ]

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Accept no more, let answers under way end for at most timeout_s, then tell the others that they will not."""
        if self._on_close is not None:
            self._on_close()
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            _, late = await asyncio.wait(list(self._state.tasks), timeout=timeout_s)
            for task in late:
                task.cancel()  # Guard answers
            if late:
                await asyncio.wait(late, timeout=CUT_S)
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self._server.wait_closed()


async def serve_tcp(app: ASGIApp, settings: HttpSettings) -> Server:
    """Listen on the configured address, behind the guard. Raises ListenError. `settings.host` must not be None."""
    assert settings.host is not None, "TCP is off"
    config = configured(Guard(app, [settings.host, *settings.allowed_hosts]))
    state, turns = ServerState(), Turns()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: Protocol(config, state, turns), settings.host, settings.port, backlog=ACCEPTS_A_TURN
        )
    except OSError as error:
        raise ListenError(_why_not(error, settings.host, settings.port)) from error
    lengthen(server)
    return Server(server, state)


def configured(app: ASGIApp) -> Config:
    """How uvicorn's protocol is to behave."""
    # Garbage from a client is not worth a line a time; errors of our own handlers are.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody stands in front of us whose word about the client counts
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )
    config.load()
    return config


def lengthen(server: asyncio.Server) -> None:
    """Let the kernel hold more connections than the loop takes at once: asyncio has one number for both."""
    for listening in server.sockets:
        with socket.socket(fileno=os.dup(listening.fileno())) as same:
            same.listen(BACKLOG)


def _why_not(error: OSError, host: str, port: int) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    advice = "set listen under [http] in tidegate.toml"
    match error.errno:
        case errno.EADDRINUSE:
            return f'{where} is in use{_by_whom(port)}: {advice} to another port, or to "" for none'
        case errno.EADDRNOTAVAIL:
            return f"{where} is not an address of this machine: {advice} to one that is"
        case errno.EACCES:
            return f"{where}: no permission to listen there (ports below {1024} need root): {advice}"
        case _:
            return f"cannot listen on {where} ({error.strerror or error}): {advice}"


def _by_whom(port: int) -> str:
    """` by pid 812 (nginx)`, where we may know it."""
    try:
        import psutil  # 4 MiB that a daemon which can listen never needs
    except (ImportError, OSError):
        return ""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return ""
