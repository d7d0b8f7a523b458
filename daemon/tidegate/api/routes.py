"""What can be asked over HTTP. Deny by default: what is not in ROUTES is 404, another method on it 405.

Handlers read; they never change anything. They must not hold the loop for more than 5 ms.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.api.problem import problem
from tidegate.api.streamed import Streamed
from tidegate.model.text import escape
from tidegate.telemetry.exposition import CONTENT_TYPE
from tidegate.telemetry.metrics import Metrics

GZIP_LEVEL: Final = 1  # 24 MB of 10,000 jobs become 1.3 MB in a fifth of a second; higher levels take twice that
CHUNK_BYTES: Final = 32 * 1024  # small scrapes leave in one piece
# After each slice. The kernel lets programs that sleep go first: on a busy machine a loop that never does fires late.
PAUSE_S: Final = 0.001


class Status(Struct, frozen=True):
    """What the daemon knows of itself; each is asked anew for each request."""

    version: str
    uptime_s: Callable[[], float]
    not_healthy: Callable[[], str | None]  # why the pump does not turn; None: it does
    not_ready: Callable[[], str | None]  # why no run can start; None: it can


class Exposition(Streamed):
    """Streams slices as they are made, one between two turns of the loop. Stops when the client has gone."""

    def __init__(
        self, slices: Iterator[bytes], packer: Any | None, turn: asyncio.Lock, headers: Mapping[str, str]
    ) -> None:
        super().__init__(self._chunks(), 200, headers)
        self._slices = slices
        self._packer = packer
        self._turn = turn

    async def _chunks(self) -> AsyncIterator[bytes]:
        waiting = bytearray()
        more = True
        while more:
            async with self._turn:
                piece = next(self._slices, None)
                more = piece is not None
                if piece is not None:
                    waiting += self._packer.compress(piece) if self._packer else piece
                    await asyncio.sleep(PAUSE_S)
            if not more and self._packer:
                waiting += self._packer.flush()
            if waiting and (not more or len(waiting) >= CHUNK_BYTES):
                yield bytes(waiting)
                waiting.clear()


class Routes:
    """The handlers, around what they read."""

    def __init__(self, metrics: Metrics, status: Status) -> None:
        self._metrics = metrics
        self._status = status
        self._slice = asyncio.Lock()  # however many scrape at once, one slice is made between two turns of the loop

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus' text format, streamed."""
        headers = {"content-type": CONTENT_TYPE, "vary": "accept-encoding"}
        gzip = accepts_gzip(request.headers.getlist("accept-encoding"))
        if gzip:
            headers["content-encoding"] = "gzip"
        slices = iter(()) if request.method == "HEAD" else self._metrics.render()
        return Exposition(slices, zlib.compressobj(GZIP_LEVEL, wbits=31) if gzip else None, self._slice, headers)

    async def health(self, _request: Request) -> Response:
        """GET /health: whether the daemon works at all. 503 is a reason to restart it."""
        return self._answer("healthy", self._status.not_healthy())

    async def ready(self, _request: Request) -> Response:
        """GET /ready: whether it runs jobs now. 503 is a reason to wait."""
        return self._answer("ready", self._status.not_ready() or self._status.not_healthy())

    def _answer(self, word: str, trouble: str | None) -> Response:
        facts: dict[str, Any] = {
            "version": self._status.version,
            "uptime_s": round(self._status.uptime_s(), 3),
        }
        if trouble:
            return problem(503, escape(trouble), **facts)
        return Response(msgspec.json.encode({"status": word, **facts}), media_type="application/json")

    def application(self) -> Starlette:
        """The ASGI application: exactly these pairs of method and path (HEAD comes with GET)."""
        routes = [
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/ready", self.ready, methods=["GET"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_problem, Exception: our_fault})
        # A path matches as it stands or not at all.
        app.router.redirect_slashes = False
        return app


def application(metrics: Metrics, status: Status) -> Starlette:
    """Everything that can be asked, as an ASGI application. Call it where a loop runs."""
    return Routes(metrics, status).application()


def accepts_gzip(values: list[str]) -> bool:
    """Whether Accept-Encoding names gzip (or anything) with a weight above zero."""
    weights: dict[str, float] = {}
    for part in ",".join(values).split(","):
        coding, _, parameter = part.strip().partition(";")
        _, _, text = parameter.strip().partition("q=")
        try:
            weights[coding.strip().lower()] = float(text) if text else 1.0
        except ValueError:
            return False
    return weights.get("gzip", weights.get("*", 0.0)) > 0


async def http_problem(request: Request, error: Exception) -> Response:
    """What starlette refuses by itself, as a problem."""
    assert isinstance(error, HTTPException)
    path = escape(request.url.path)
    match error.status_code:
        case 404:
            detail = f"there is nothing at {path}"
        case 405:
            detail = f"{escape(request.method)} is not offered at {path}"
        case _:
            detail = error.detail
    return problem(error.status_code, detail, error.headers)


async def our_fault(_request: Request, _error: Exception) -> Response:
    """The answer to a bug: no details."""
    return problem(500, "an error in tidegate; its log says more")
