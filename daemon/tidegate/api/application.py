"""Puts the parts of the API together into one ASGI application, for TCP and for the socket. It decides nothing."""

from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from tidegate.api.control import Control, Reader
from tidegate.api.routes import Status
from tidegate.model.plan import Plan
from tidegate.telemetry.metrics import Metrics


class Api:
    """An ASGI application that has something to end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        raise NotImplementedError

    def watch_lease(self, lease_id: str, pid: int) -> None:
        """End this lease when that process ends: for leases found again after a restart."""
        raise NotImplementedError

    async def close(self) -> None:
        """End what would not end by itself: event streams, waits for leases, threads. Call it before Server.close."""
        raise NotImplementedError


def control_application(
    metrics: Metrics, status: Status, control: Control, open_reader: Callable[[], Reader], plan: Callable[[], Plan]
) -> Api:
    """Everything that can be asked. `open_reader` is called in threads; `plan` gives the live plan ([http], [control]).

    Call it where a loop runs.
    """
    raise NotImplementedError
