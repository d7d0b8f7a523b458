"""Tells over HTTP: a webhook gets JSON by POST, a dead-man's switch is asked by GET. No address is ever shown whole."""

import socket

from tidegate.hooks import http
from tidegate.hooks.notice import Notice, json_of
from tidegate.hooks.sending import Sent, Threads


class Webhook:
    """POST of JSON."""

    def __init__(self, url: str, headers: dict[str, str], threads: Threads) -> None:
        self._url = url
        self._headers = headers
        self._threads = threads

    async def send(self, notice: Notice) -> Sent:
        """One try. Each try of a message carries the same Idempotency-Key."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key} | self._headers
        return await http.ask(self._threads, "POST", self._url, headers, json_of(notice, socket.gethostname()))


class Ping:
    """GET of one address, as it is written: nothing is added to what may be signed or taken for another check."""

    def __init__(self, url: str, threads: Threads) -> None:
        self._url = url
        self._threads = threads

    async def send(self, _notice: Notice, /) -> Sent:
        """One try; of what happened the address alone tells."""
        return await http.ask(self._threads, "GET", self._url)
