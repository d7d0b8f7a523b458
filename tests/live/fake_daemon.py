"""A daemon's control socket without a daemon: real HTTP over a real Unix socket, answers from a table."""

import json
import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import urlsplit

import msgspec

Answer = tuple[int, Any]
Reply = Answer | Callable[["Request"], Answer]


class Request(msgspec.Struct):
    """What was asked."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any


class FakeDaemon:
    """Answers `replies["GET /api/v1/pool"]`: status and value (bytes as they are), or a function of the request."""

    def __init__(self, runtime: Path) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[Request] = []
        self.headers: dict[str, str] = {}
        runtime.mkdir(parents=True, exist_ok=True)
        self.path = runtime / "tidegate.sock"
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                fake.answer(self)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

            def address_string(self) -> str:
                return "socket"

        class Server(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True

        folder = os.open(runtime, os.O_PATH)
        self.server = Server(f"/proc/self/fd/{folder}/tidegate.sock", Handler)
        os.close(folder)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        length = int(request.headers.get("content-length", 0))
        body = json.loads(request.rfile.read(length)) if length else None
        asked = Request(request.command, url.path, url.query, {k.lower(): v for k, v in request.headers.items()}, body)
        self.asked.append(asked)
        reply = self.replies.get(f"{asked.method} {asked.path}")
        if reply is None:
            reply = problem(404, f"there is nothing at {asked.path}")
        status, value = reply(asked) if callable(reply) else reply
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        if status == 0:  # it goes away in mid-answer
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        request.send_response(status)
        kind = "application/problem+json" if status >= 400 else "application/json"
        for name, text in {"Content-Type": kind, "Content-Length": str(len(data)), **self.headers}.items():
            request.send_header(name, text)
        request.end_headers()
        request.wfile.write(data)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.path.unlink(missing_ok=True)


def problem(status: int, detail: str) -> Answer:
    """As the API says what is wrong."""
    return status, {"type": "about:blank", "title": "x", "status": status, "detail": detail}
