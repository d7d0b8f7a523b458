"""The stream of facts as server-sent events. A client that reads too slowly loses events and is told how many."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.responses import Response

from tidegate.api.problem import problem
from tidegate.api.shapes import EventData
from tidegate.api.streamed import Streamed
from tidegate.api.table import Call
from tidegate.model.command import Record
from tidegate.model.view import of_run

MEDIA_TYPE: Final = "text/event-stream"
CLIENTS_MAX: Final = 32
EVENTS_MAX: Final = 1000  # waiting for one client; about 1 KB each, shared by all
HEARTBEAT_S: Final = 15.0  # what stands between may close a connection that says nothing
CHUNK_BYTES: Final = 32 * 1024


class Feed:
    """What waits for one client."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self._over = False

    def put(self, event: bytes) -> None:
        """One more, or one more lost."""
        if len(self._waiting) >= EVENTS_MAX:
            self._lost += 1
        else:
            self._waiting.append(event)
        self._wake.set()

    def end(self) -> None:
        """Nobody reads any more, or nobody writes."""
        self._over = True
        self._wake.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What to send, as it comes."""
        yield b"retry: 2000\n\n"
        while not self._over:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            except TimeoutError:
                yield b": nothing happened\n\n"
                continue
            self._wake.clear()
            while self._waiting and not self._over:
                chunk = bytearray()
                while self._waiting and len(chunk) < CHUNK_BYTES:
                    chunk += self._waiting.popleft()
                yield bytes(chunk)
            if self._lost:
                lost, self._lost = self._lost, 0
                yield b'event: lost\ndata: {"count":%d}\n\n' % lost


class Events:
    """Everybody who listens."""

    def __init__(self) -> None:
        self._feeds: set[Feed] = set()
        self._closed = False

    def observe(self, record: Record) -> None:
        """Tell all of them."""
        if self._feeds:
            event = encoded(record)
            for feed in self._feeds:
                feed.put(event)

    async def listen(self, call: Call) -> Response:
        """GET /api/v1/events."""
        headers = {"content-type": MEDIA_TYPE}
        if call.request.method == "HEAD":
            return Response(headers=headers)
        if self._closed or len(self._feeds) >= CLIENTS_MAX:
            why = "the daemon is ending" if self._closed else f"{CLIENTS_MAX} clients listen already"
            return problem(503, why, {"retry-after": "10"})
        feed = Feed()
        self._feeds.add(feed)
        return Streamed(feed.chunks(), 200, headers, on_gone=feed.end, on_end=lambda: self._feeds.discard(feed))

    def close(self) -> None:
        """End all streams, and take no more."""
        self._closed = True
        for feed in self._feeds:
            feed.end()


def encoded(record: Record) -> bytes:
    """One event in the format of the stream. JSON has no line break, so nothing inside can end it early."""
    run = of_run(record.run, record.count) if record.run is not None else None
    data = EventData(record.at, record.fact.value, record.job, record.reason, run)
    return b"event: %s\ndata: %s\n\n" % (record.fact.value.encode(), msgspec.json.encode(data))
