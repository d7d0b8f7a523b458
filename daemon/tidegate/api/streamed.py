"""A response whose body comes in pieces, ended when the client has gone. It makes no piece itself.

Not starlette's StreamingResponse: its first use imports a backend of anyio, 50 ms with the loop in its hands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


def _nothing() -> None:
    pass


class Streamed(Response):
    """Sends what `chunks` gives. `on_gone`: the client left; `on_end`: it is over, however it ended."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        status: int,
        headers: Mapping[str, str],
        on_gone: Callable[[], None] = _nothing,
        on_end: Callable[[], None] = _nothing,
    ) -> None:
        self.status_code = status
        self.background = None
        self.init_headers(headers)
        self._stream = chunks
        self._on_gone = on_gone
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or what the client waits for."""
        assert scope["type"] == "http", scope
        gone = asyncio.create_task(disconnected(receive))
        gone.add_done_callback(lambda _task: self._on_gone())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for chunk in self._stream:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._on_end()


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
