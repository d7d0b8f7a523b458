"""Opens what listens and closes it again: uvicorn's protocol class under the loop's own server. It knows no route.

Not uvicorn.Server: that polls ten times a second and takes over the signal handlers. An idle server here has no
timer at all; each connection has one deadline at a time.
"""

import asyncio
import errno
import logging
from typing import Final

import h11
import psutil
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tidegate.api.guard import BODY_BYTES_MAX, Guard
from tidegate.model.plan import HttpSettings

CONNECTIONS_MAX: Final = 100  # Prometheus, a load balancer's checks and some people need ten
REQUEST_S_MAX: Final = 10.0  # for a whole request to arrive: slow senders only hold a connection this long
RESPONSE_S_MAX: Final = 30.0  # for a client that has stopped reading to go on
KEEP_ALIVE_S: Final = 5
HEADER_BYTES_MAX: Final = 16 * 1024
BACKLOG: Final = 128
CLOSE_S: Final = 2.0

_FULL_BODY: Final = b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections"}'
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
)


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for requests, one for readers, and a cap on connections."""

    def __init__(self, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.access_log = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        """Take the connection, or say that there are too many."""
        if len(self.connections) >= CONNECTIONS_MAX:
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over; so are its deadlines."""
        self._cancel_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
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

    def __init__(self, server: asyncio.Server, state: ServerState) -> None:
        self._server = server
        self._state = state
        self.addresses: list[tuple[str, int]] = [sock.getsockname()[:2] for sock in server.sockets]

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Accept no more, let answers under way end for at most timeout_s, then cut what is left."""
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=timeout_s)
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self._server.wait_closed()


async def serve_tcp(app: ASGIApp, settings: HttpSettings) -> Server:
    """Listen on the configured address, behind the guard. Raises ListenError. `settings.host` must not be None."""
    assert settings.host is not None, "TCP is off"
    # Garbage from a client is not worth a line a time; errors of our own handlers are.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = Config(
        Guard(app, [settings.host, *settings.allowed_hosts]),
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
    state = ServerState()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: Protocol(config, state), settings.host, settings.port, backlog=BACKLOG
        )
    except OSError as error:
        raise ListenError(_why_not(error, settings.host, settings.port)) from error
    return Server(server, state)


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
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return ""
