"""One HTTP request, whole and bounded: a connection, the request, the status of the answer. Follows no redirect,
verifies certificates, never shows an address. h11 speaks the protocol; names are looked up in a thread."""

import asyncio
import base64
import socket
import ssl
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import h11

from tidegate import __version__, clock
from tidegate.hooks.sending import Sent, Threads

ANSWER_BYTES: Final = 65536
SAFE: Final = "/%:@!$&'()*+,;=~-._?"  # what may stand in a path or query as it is


async def ask(
    threads: Threads, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Sent:
    """Ask once. Raises OSError where nobody can be reached."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    try:
        request = _request(method, url, headers or {}, body)
    except (h11.LocalProtocolError, UnicodeError):  # whose text shows what it is about
        return Sent(False, f"the address or a header for {host} holds what HTTP cannot carry; check both")
    try:
        reader, writer = await _connect(threads, host, port, _context() if tls else None)
    except ssl.SSLCertVerificationError as error:
        return Sent(
            False, f"the certificate of {host} is not trusted: {error.verify_message}; mend it, or ca-certificates"
        )
    except UnicodeError:
        return Sent(False, f"{host} is no name of a host; check the address")
    try:
        answer = await _exchange(reader, writer, request, body)
    finally:
        writer.close()
    return _judge(host, answer)


def _request(method: str, url: str, headers: dict[str, str], body: bytes) -> h11.Request:
    parts = urlsplit(url)
    target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    fields = {
        "Host": parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii").decode(),
        "User-Agent": f"tidegate/{__version__}",
        "Accept": "*/*",
        "Connection": "close",
    }
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        fields["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    if body or method == "POST":
        fields["Content-Length"] = str(len(body))
    taken = {name.lower() for name in headers}
    chosen = [(name, value) for name, value in fields.items() if name.lower() not in taken] + list(headers.items())
    return h11.Request(
        method=method, target=target, headers=[(name.encode("latin-1"), value.encode()) for name, value in chosen]
    )


async def _connect(
    threads: Threads, host: str, port: int, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first address that answers."""
    look = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await threads.run(look)
    refused: OSError = OSError("it has no address")
    for family, _, _, _, address in found:
        try:
            return await asyncio.open_connection(
                str(address[0]),
                port,
                family=family,
                ssl=context,
                server_hostname=host if context is not None else None,
                limit=ANSWER_BYTES,
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            refused = error
    raise refused


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> h11.Response | None:
    """The head of the answer; None where there is none that makes sense."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_BYTES)
    data = [connection.send(request)]
    if body:
        data.append(connection.send(h11.Data(data=body)))
    data.append(connection.send(h11.EndOfMessage()))
    writer.write(b"".join(part for part in data if part))
    # An answer may come before all was taken, and then a reset: what counts is the answer.
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(ANSWER_BYTES))
            elif isinstance(event, h11.Response):
                return event
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def _judge(host: str, answer: h11.Response | None) -> Sent:
    if answer is None:
        return Sent(False, f"{host} closed the connection without an answer in HTTP; is it the right port?", True)
    status = answer.status_code
    if 200 <= status < 300:
        return Sent(True)
    if 300 <= status < 400:
        return Sent(False, f"{host} answered {status}: redirects are not followed; write the address it leads to")
    if status in (408, 425, 429) or status >= 500:
        return Sent(False, f"{host} answered {status}; see its own log", True, _retry_after_s(answer))
    return Sent(False, f"{host} answered {status}; check the address and its key")


def _retry_after_s(answer: h11.Response) -> float | None:
    """Seconds or a date."""
    for name, value in answer.headers:
        if name == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isdecimal():
                return float(text[:9])
            try:
                return max((parsedate_to_datetime(text) - clock.wall()).total_seconds(), 0.0)
            except (ValueError, TypeError):  # no date, or one without a zone
                return None
    return None


@cache
def _context() -> ssl.SSLContext:
    """Made once: reading the machine's certificates takes 20 ms."""
    return ssl.create_default_context()
