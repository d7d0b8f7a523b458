"""The table of routes: each with what it needs, takes and answers. Whatever asks comes through `Table._answer`.

Deny by default: an Endpoint cannot be made without its Need, and what is not in the table is 404 or 405. It knows
no single route.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate import clock
from tidegate.api.auth import Caller, Denied, Gate, Need
from tidegate.api.peer import Peer
from tidegate.api.problem import problem
from tidegate.api.rate import Buckets
from tidegate.api.routes import http_problem, our_fault
from tidegate.api.shapes import PATTERNS, NoBody, NoQuery
from tidegate.model.refusal import Refused
from tidegate.model.text import escape

STATUS_OF: Final = {"not_found": 404, "conflict": 409, "unavailable": 503, "invalid": 422}
_PLUS_AS_SPACE: Final = re.compile(r" (?=\d\d:?\d\d$)")  # 2026-03-01T12:00:00+01:00 as most clients write it


class Call(Struct, frozen=True):
    """One request that was let in."""

    request: Request
    caller: Caller
    query: Any  # as Endpoint.query
    body: Any  # as Endpoint.body

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


class Answer(Struct, frozen=True):
    """One way a route answers."""

    status: int
    words: str
    body: type | str | None = None  # a type that is sent as JSON, or a media type; None: a problem


class Endpoint(Struct, frozen=True, kw_only=True):
    """One route."""

    method: str
    path: str
    need: Need
    name: str  # operationId
    summary: str
    act: Callable[[Call], Awaitable[Response]]
    answers: tuple[Answer, ...]
    query: type[Struct] = NoQuery
    body: type[Struct] = NoBody


class Table:
    """All routes, and the way in."""

    def __init__(self, endpoints: list[Endpoint], gate: Gate, threads: Executor) -> None:
        self.endpoints = endpoints
        self._gate = gate
        self._threads = threads
        self._buckets = Buckets()

    def application(self) -> Starlette:
        """The ASGI application: exactly these pairs of method and path (HEAD comes with GET)."""
        routes = [
            Route(endpoint.path, self._way_to(endpoint), methods=[endpoint.method], name=endpoint.name)
            for endpoint in self.endpoints
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_problem, Exception: our_fault})
        # A path matches as it stands or not at all.
        app.router.redirect_slashes = False
        return app

    def _way_to(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await self._answer(endpoint, request)
            except Denied as denied:
                return problem(denied.status, denied.sentence, denied.headers)
            except Refused as refused:
                headers = {"retry-after": "1"} if refused.kind == "unavailable" else None
                return problem(STATUS_OF[refused.kind], escape(refused.sentence), headers)
            except _WrongRequest as wrong:
                return problem(wrong.status, wrong.sentence)
            except ClientDisconnect:
                return problem(400, "the request ended early")  # nobody is there to read it

        return answer

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        caller = await self._admitted(endpoint, request)
        query = _query_of(endpoint, request)
        body = None if endpoint.method == "GET" else await _body_of(endpoint, request)
        return await endpoint.act(Call(request, caller, query, body))

    async def _admitted(self, endpoint: Endpoint, request: Request) -> Caller:
        """Who asks. Raises Denied. Changes and wrong tokens are counted, reading is not."""
        peer: Peer = request.scope["state"]["peer"]
        authorization = request.headers.get("authorization")
        if endpoint.need is Need.OPERATE:
            self._count(peer, self._buckets.take)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._gate.admit, peer, endpoint.need, authorization)
        if authorization is None:
            return self._gate.admit(peer, endpoint.need, None)
        self._count(peer, self._buckets.wait_s)
        try:
            caller = self._gate.admit(peer, endpoint.need, authorization)
        except Denied:
            self._count(peer, self._buckets.take)
            raise
        if not caller.confided:
            self._count(peer, self._buckets.take)
        return caller

    def _count(self, peer: Peer, ask: Callable[[str, float], float]) -> None:
        if ask(peer.key, clock.monotonic_s()):
            raise Denied(429, f"too many requests from {peer.key}: wait a moment", {"retry-after": "1"})


class _WrongRequest(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def _query_of(endpoint: Endpoint, request: Request) -> Any:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise _WrongRequest(400, f"{escape(name)} is given twice")
        given[name] = _PLUS_AS_SPACE.sub("+", value) if name in ("at", "since", "until") else value
    try:
        return msgspec.convert(given, endpoint.query, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(endpoint.query.__struct_fields__) or "none"
        raise _WrongRequest(400, f"{escape(str(error))}; the parameters here: {known}") from error


async def _body_of(endpoint: Endpoint, request: Request) -> Any:
    data = await request.body()  # the guard and the protocol bound it
    if not data:
        data = b"{}"
    elif request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _WrongRequest(415, "the body must be JSON, with Content-Type: application/json")
    try:
        return msgspec.json.decode(data, type=endpoint.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is one of the first
        raise _WrongRequest(422, f"the body is wrong: {escape(_in_words(str(error)))}") from error


def _in_words(trouble: str) -> str:
    """What msgspec says, with what a pattern means in place of the pattern; a key of `args` is an argument's name."""
    for pattern, words in PATTERNS.items():
        trouble = trouble.replace(f"`str` matching regex {pattern!r}", words)
    return trouble.replace("at `key` in `$.args`", "as the name of an argument (`$.args`)")


def json_response(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")
