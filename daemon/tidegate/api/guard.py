"""Stands in front of every route: wrong hosts, foreign pages and large bodies never reach one. Knows no route.

DNS rebinding (a page whose own name is made to point at us) shows in Host; a page of another site that makes the
browser ask us shows in Origin. Neither needs a cookie or a token to be told apart, so both are refused outright.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.api.problem import problem
from tidegate.api.streamed import disconnected
from tidegate.model.text import escape

BODY_BYTES_MAX: Final = 64 * 1024
LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Guard:
    """An ASGI application around another one. `hosts` None: nobody is asked for a host, as on the control socket."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None) -> None:
        self._app = app
        self._any_host = hosts is None
        if hosts is None:
            return
        self._hosts = {host.lower().rstrip(".") for host in hosts} | LOOPBACK_NAMES | {socket.gethostname().lower()}
        # The full name may need DNS, and DNS may be slow or down: nobody waits for it.
        with suppress(RuntimeError):  # no thread can be started: the names above will do
            threading.Thread(target=self._add_full_name, name="tidegate-fqdn", daemon=True).start()

    def _add_full_name(self) -> None:
        self._hosts = self._hosts | {socket.getfqdn().lower().rstrip(".")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; either way add what every answer carries."""
        if scope["type"] != "http":
            return  # neither websockets nor lifespan: the server is told to offer none

        begun = False

        async def send_marked(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["cache-control"] = "no-store"
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope)
        try:
            await (refusal or self._app)(scope, receive, send_marked)
        except asyncio.CancelledError:  # the server closes: this is the end of the request, and no error
            if begun:
                await disconnected(receive)
            else:
                ending = problem(503, "the daemon has ended; whether this was done is not known", {"retry-after": "1"})
                await ending(scope, receive, send_marked)

    def _refusal(self, headers: Headers, scope: Scope) -> Response | None:
        host = headers.get("host", "")
        if not self._any_host and not self._is_ours(host, scope):
            return problem(
                421,
                f'this server does not answer for the host "{escape(host)}": '
                "use its address, or add the name to allowed_hosts under [http] in tidegate.toml",
            )
        origins = headers.getlist("origin")
        if any(origin.lower() != f"{scope['scheme']}://{host}".lower() for origin in origins):
            return problem(403, "requests from pages of another origin are not answered")
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return problem(400, "Content-Length is not a number")
        if length > BODY_BYTES_MAX:
            return problem(
                413, f"a body of {length} bytes is too large: at most {BODY_BYTES_MAX}", {"connection": "close"}
            )
        return None

    def _is_ours(self, host: str, scope: Scope) -> bool:
        name = host_name(host)
        if name is None:
            return False
        if name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # The address this very connection came to: what `listen = "0.0.0.0:…"` means in each case.
        server = scope.get("server")
        return address.is_loopback or (server is not None and str(address) == server[0])


def host_name(host: str) -> str | None:
    """The name of a Host header without port and brackets, in lower case; None where it is none."""
    name, port = host, ""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif ":" in host:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return None
    return name.lower().rstrip(".") or None
